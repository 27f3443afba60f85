//! Parses the response of `GET /listen`: a head, a prologue and records, as docs/injected-stream.md specifies them.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

/// Maximum size of a head, a prologue or a record, in bytes. A second of sound at 192 kHz has 0.5 MB.
const MAX_BYTES: usize = 2 << 20;
/// Start of every record.
const START: &str = "<b>";
/// End of every record: its last tag and its script.
const END: &str = "</b><script>p()</script>";
/// Start of the prologue.
const PROLOGUE_START: &str = "<!doctype html>";
/// End of the prologue: the end of its script.
const PROLOGUE_END: &str = "</script>";
const WAV_HEAD_BYTES: usize = 44;

/// A record of the stream, without its sequence number.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Record<'a> {
    /// The participant and the format, as base64 of JSON.
    Hello(&'a str),
    Sound {
        /// Whether this record follows missing sound or a silence.
        gap: bool,
        wav: Wav<'a>,
    },
    Silence,
    /// The listener's next process serves this participant from now on: the page opens a stream from it.
    Moved,
    /// The participant was removed.
    Removed,
    Other,
}

/// A WAV in base64.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Wav<'a>(&'a str);

impl Wav<'_> {
    /// Returns the number of samples, computed from the length of the text.
    pub(crate) fn samples(self) -> usize {
        let padding = self.0.bytes().rev().take_while(|&byte| byte == b'=').count();
        (self.0.len() / 4 * 3).saturating_sub(padding + WAV_HEAD_BYTES) / 2
    }

    /// Decodes the samples. Checks the WAV's head: PCM, mono, 16 bits, this rate, and sizes that match.
    pub(crate) fn decode(self, rate_hz: u32, bytes: &mut Vec<u8>, samples: &mut Vec<f32>) -> Result<(), String> {
        bytes.clear();
        samples.clear();
        BASE64.decode_vec(self.0, bytes).map_err(|error| format!("a WAV is not base64: {error}"))?;
        let Some((head, data)) = bytes.split_at_checked(WAV_HEAD_BYTES) else {
            return Err("a WAV is shorter than its head".to_owned());
        };
        if head != palabre_sound::wav::sized_head(rate_hz, data.len() as u64) {
            return Err(format!(
                "a WAV's head is not that of {} bytes of 16-bit mono sound at {rate_hz} Hz",
                data.len()
            ));
        }
        samples.extend(data.as_chunks::<2>().0.iter().map(|pair| f32::from(i16::from_le_bytes(*pair)) / 32_768.0));
        Ok(())
    }
}

/// Decodes a text in base64.
pub(crate) fn text(field: &str) -> Result<String, String> {
    let bytes = BASE64.decode(field).map_err(|error| format!("a text field of a record is not base64: {error}"))?;
    String::from_utf8(bytes).map_err(|error| format!("a text field of a record is not UTF-8: {error}"))
}

/// Returns the status code and the length of the head of an HTTP response; `None` if the head is not complete.
pub(crate) fn head(bytes: &[u8]) -> Result<Option<(u16, usize)>, String> {
    let Some(length) = bytes.windows(4).position(|four| four == b"\r\n\r\n").map(|at| at + 4) else {
        return if bytes.len() > MAX_BYTES { Err("the response's head is too long".to_owned()) } else { Ok(None) };
    };
    let line = String::from_utf8_lossy(&bytes[..length.min(100)]);
    let status = line.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.get(..3)?.parse().ok());
    status.map(|status| Some((status, length))).ok_or_else(|| "the response is not HTTP/1.1".to_owned())
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Head,
    Prologue,
    Records,
}

/// The parser of one stream.
#[derive(Debug)]
pub(crate) struct Parser {
    state: State,
    /// Received bytes that are not parsed yet.
    buffer: Vec<u8>,
}

impl Parser {
    pub(crate) fn new() -> Self {
        Self { state: State::Head, buffer: Vec::new() }
    }

    /// Parses further bytes of the stream. Calls `each` for each complete record, with its SEQ. If the stream is invalid, returns the cause; then
    /// close the stream.
    pub(crate) fn feed(&mut self, bytes: &[u8], mut each: impl FnMut(u64, Record<'_>)) -> Result<(), String> {
        self.buffer.extend_from_slice(bytes);
        let mut at = 0;
        while at < self.buffer.len() {
            let length = match self.state {
                State::Head => self.parse_head()?,
                State::Prologue => self.parse_prologue(at)?,
                State::Records => parse_record(&self.buffer[at..], &mut each)?,
            };
            let Some(length) = length else { break };
            at += length;
        }
        self.buffer.drain(..at);
        if self.buffer.len() > MAX_BYTES {
            return Err("a record is too long".to_owned());
        }
        Ok(())
    }

    fn parse_head(&mut self) -> Result<Option<usize>, String> {
        let Some((status, length)) = head(&self.buffer)? else { return Ok(None) };
        if status != 200 {
            let body = String::from_utf8_lossy(&self.buffer[length..]);
            return Err(format!("the status of GET /listen is {status}: {}", body.lines().next().unwrap_or_default()));
        }
        self.state = State::Prologue;
        Ok(Some(length))
    }

    fn parse_prologue(&mut self, at: usize) -> Result<Option<usize>, String> {
        let text = ascii(&self.buffer[at..])?;
        let Some(length) = text.find(PROLOGUE_END) else { return Ok(None) };
        if !text.starts_with(PROLOGUE_START) {
            return Err("the stream doesn't begin with its prologue".to_owned());
        }
        self.state = State::Records;
        Ok(Some(length + PROLOGUE_END.len()))
    }
}

/// Parses a record at the start of `bytes`. Returns its length, or `None` if the record is not complete.
fn parse_record(bytes: &[u8], each: &mut impl FnMut(u64, Record<'_>)) -> Result<Option<usize>, String> {
    let text = ascii(bytes)?;
    let body = START.len().min(text.len());
    if text[..body] != START[..body] {
        return Err("a record doesn't begin with <b>".to_owned());
    }
    // Fields have no '<', so the next '<' is the end.
    let Some(end) = text[body..].find('<').map(|length| body + length) else { return Ok(None) };
    let Some(tail) = text.get(end..end + END.len()) else { return Ok(None) };
    if tail != END {
        return Err("a record doesn't end with its script".to_owned());
    }
    let (seq, record) = record(&text[body..end]).ok_or("a record has invalid fields")?;
    each(seq, record);
    Ok(Some(end + END.len()))
}

fn record(text: &str) -> Option<(u64, Record<'_>)> {
    let mut fields = text.split(',');
    let (kind, seq) = (fields.next()?, fields.next()?.parse().ok()?);
    let record = match kind {
        "0" => Record::Hello(fields.next()?),
        "1" => {
            let gap = match fields.next()? {
                "0" => false,
                "1" => true,
                _ => return None,
            };
            let wav = Wav(fields.next()?);
            fields.next()?;
            Record::Sound { gap, wav }
        }
        "2" => fields.next().map(|_| Record::Silence)?,
        "5" => fields.next().map(|_| Record::Moved)?,
        "8" => Record::Removed,
        "3" | "4" | "6" | "7" | "9" => return Some((seq, Record::Other)),
        _ => return None,
    };
    fields.next().is_none().then_some((seq, record))
}

/// Returns the bytes as text. A stream has only ASCII characters, so a part of a stream is always complete characters.
fn ascii(bytes: &[u8]) -> Result<&str, String> {
    let text = std::str::from_utf8(bytes).ok().filter(|text| text.is_ascii());
    text.ok_or_else(|| "the stream contains bytes that are not ASCII".to_owned())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const SPECIFICATION: &str = include_str!("../../../docs/injected-stream.md");
    const HEAD: &str = "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\n";

    /// Returns the example with this name in docs/injected-stream.md.
    fn example(name: &str) -> &'static str {
        let (_, rest) = SPECIFICATION.split_once(&format!("```html {name}\n")).unwrap();
        rest.split_once("\n```").unwrap().0
    }

    fn stream() -> String {
        let records = ["hello", "room", "sound", "record", "microphone", "moved", "removed"].map(example).concat();
        format!("{HEAD}{}{records}", example("prologue"))
    }

    fn parsed(pieces: &[&[u8]]) -> Result<Vec<String>, String> {
        let (mut parser, mut found) = (Parser::new(), Vec::new());
        for piece in pieces {
            parser.feed(piece, |seq, record| found.push(format!("{seq} {record:?}")))?;
        }
        Ok(found)
    }

    #[test]
    fn examples_of_the_specification_are_parsed_however_the_stream_is_split() {
        let stream = stream();
        let whole = parsed(&[stream.as_bytes()]).unwrap();
        let kinds: Vec<&str> = whole.iter().map(|text| text.split([' ', '(', '{']).nth(1).unwrap()).collect();
        assert_eq!(kinds, ["Hello", "Other", "Sound", "Silence", "Other", "Moved", "Removed"]);
        assert!(whole[2].starts_with("1700000000163 Sound { gap: true, "), "{}", whole[2]);
        let bytes: Vec<&[u8]> = stream.as_bytes().chunks(1).collect();
        assert_eq!(parsed(&bytes).unwrap(), whole);
        for at in 0..stream.len() {
            let (first, second) = stream.as_bytes().split_at(at);
            assert_eq!(parsed(&[first, second]).unwrap(), whole, "{at}");
        }
    }

    #[test]
    fn invalid_stream_is_refused_with_its_cause() {
        let start = format!("{HEAD}{}", example("prologue"));
        for (stream, cause) in [
            ("HTTP/1.1 401 Unauthorized\r\n\r\nthe key is wrong\n".to_owned(), "401: the key is wrong"),
            ("HTTP/1.0 200 OK\r\n\r\n".to_owned(), "not HTTP/1.1"),
            (format!("{HEAD}<html></script>"), "prologue"),
            (format!("{start}<i>"), "begin with <b>"),
            (format!("{start}<b>2,1,</b><script>q()</script>"), "end with its script"),
            (format!("{start}<b>2,x,{END}"), "invalid fields"),
            (format!("{start}<b>1,1,2,AAAA,{END}"), "invalid fields"),
            (format!("{start}<b>1,1,0,AAAA{END}"), "invalid fields"),
            (format!("{start}<b>2,1,é"), "not ASCII"),
        ] {
            let error = parsed(&[stream.as_bytes()]).unwrap_err();
            assert!(error.contains(cause), "{error}");
        }
    }

    #[test]
    fn endless_record_is_refused() {
        let stream = format!("{HEAD}{}<b>{}", example("prologue"), "1".repeat(MAX_BYTES + 1));
        assert!(parsed(&[stream.as_bytes()]).unwrap_err().contains("too long"));
    }

    #[test]
    fn samples_are_decoded_and_counted_and_a_wrong_head_is_refused() {
        for count in 1..6 {
            let sent: Vec<i16> = (0..count).collect();
            let text = BASE64.encode(palabre_sound::wav::little(24_000, &sent));
            let (wav, mut bytes, mut samples) = (Wav(&text), Vec::new(), Vec::new());
            assert_eq!(wav.samples(), sent.len());
            wav.decode(24_000, &mut bytes, &mut samples).unwrap();
            assert_eq!(samples, sent.iter().map(|&sample| f32::from(sample) / 32_768.0).collect::<Vec<_>>());
            assert!(wav.decode(48_000, &mut bytes, &mut samples).is_err());
        }
        assert!(Wav("AAAA").decode(24_000, &mut Vec::new(), &mut Vec::new()).is_err());
    }
}
