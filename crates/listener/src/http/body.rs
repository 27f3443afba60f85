//! Reads the body of a request as a stream (RFC 9112 §6 and §7.1). No memory is allocated for a declared length.

use super::head::{Head, Refusal};
use std::io::{self, Read};

/// Maximum length in bytes of a line of the chunked coding (size and extensions).
const MAX_LINE_BYTES: usize = 1024;
/// Maximum length in bytes of the trailer fields.
const MAX_TRAILER_BYTES: usize = 8 * 1024;

/// The method by which the end of a body is determined.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Framing {
    /// The body has this length in bytes.
    Length(u64),
    /// The body has the chunked transfer coding, which marks the body's end.
    Chunked,
}

impl Framing {
    /// Returns the framing that the head declares. Without a declaration the body is empty.
    pub(crate) fn of(head: &Head) -> Result<Self, Refusal> {
        let length = content_length(head)?;
        let Some(coding) = head.field("transfer-encoding") else {
            return Ok(Self::Length(length.unwrap_or(0)));
        };
        if !coding.eq_ignore_ascii_case("chunked") || head.all("transfer-encoding").count() > 1 {
            return Err(Refusal { status: 501, why: "the only supported transfer coding is 'chunked'" });
        }
        // Content-Length together with Transfer-Encoding may be an attempt at request smuggling: RFC 9112 §6.3.
        if length.is_some() || !head.is_http_1_1 {
            return Err(Refusal {
                status: 400,
                why: "'Transfer-Encoding' is not allowed with 'Content-Length' or HTTP/1.0",
            });
        }
        Ok(Self::Chunked)
    }
}

fn content_length(head: &Head) -> Result<Option<u64>, Refusal> {
    const BAD: Refusal = Refusal { status: 400, why: "the value of 'Content-Length' is invalid" };
    let mut length = None;
    for value in head.all("content-length") {
        if value.is_empty() || !value.bytes().all(|b| b.is_ascii_digit()) {
            return Err(BAD);
        }
        let value: u64 = value.parse().map_err(|_| BAD)?;
        if length.is_some_and(|other| other != value) {
            return Err(BAD);
        }
        length = Some(value);
    }
    Ok(length)
}

/// A reader of one body. It first returns the bytes that were read together with the head, then reads from the stream.
#[derive(Debug)]
pub(crate) struct Body<'a, S> {
    buffered: &'a mut Vec<u8>,
    stream: &'a mut S,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Length(u64),
    ChunkSize,
    ChunkData(u64),
    ChunkEnd,
    Done,
}

impl<'a, S: Read> Body<'a, S> {
    /// Creates a reader. `buffered` contains the bytes that were read after the head, and keeps those that follow the body.
    pub(crate) fn new(framing: Framing, buffered: &'a mut Vec<u8>, stream: &'a mut S) -> Self {
        let state = match framing {
            Framing::Length(0) => State::Done,
            Framing::Length(length) => State::Length(length),
            Framing::Chunked => State::ChunkSize,
        };
        Self { buffered, stream, state }
    }

    /// Returns whether the body was read to its end, so another request may follow.
    pub(crate) fn is_done(&self) -> bool {
        self.state == State::Done
    }

    fn read_raw(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if self.buffered.is_empty() {
            return self.stream.read(out);
        }
        let count = out.len().min(self.buffered.len());
        out[..count].copy_from_slice(&self.buffered[..count]);
        self.buffered.drain(..count);
        Ok(count)
    }

    fn read_data(&mut self, out: &mut [u8], left: u64) -> io::Result<usize> {
        let most = usize::try_from(left).unwrap_or(usize::MAX).min(out.len());
        let count = self.read_raw(&mut out[..most])?;
        if count == 0 && most > 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(count)
    }

    /// Reads a line of the chunked coding. Returns the line without CR LF.
    fn line(&mut self) -> io::Result<Vec<u8>> {
        loop {
            let end = self.buffered.iter().position(|&b| b == b'\n');
            // Compare the length of the line alone, without the bytes after it. Otherwise the result would depend on the pieces in which
            // the body arrives.
            if end.unwrap_or(self.buffered.len()) > MAX_LINE_BYTES {
                return Err(bad("a line of the chunked coding is too long"));
            }
            if let Some(end) = end {
                let mut line: Vec<u8> = self.buffered.drain(..=end).collect();
                line.pop();
                // A proxy before this server could end the line elsewhere: RFC 9112 §2.2.
                if line.pop() != Some(b'\r') {
                    return Err(bad("a line of the chunked coding doesn't end with CR LF"));
                }
                return Ok(line);
            }
            let mut some = [0; 512];
            let count = self.stream.read(&mut some)?;
            if count == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            self.buffered.extend_from_slice(&some[..count]);
        }
    }

    fn chunk_size(&mut self) -> io::Result<State> {
        let line = self.line()?;
        let digits: Vec<u8> = line.iter().copied().take_while(u8::is_ascii_hexdigit).collect();
        let rest: Vec<u8> = line[digits.len()..].iter().copied().skip_while(|byte| b" \t".contains(byte)).collect();
        if digits.is_empty() || digits.len() > 15 || !(rest.is_empty() || rest.starts_with(b";")) {
            return Err(bad("the size of a body chunk is invalid"));
        }
        let text = std::str::from_utf8(&digits).map_err(|_| bad("the size of a body chunk is invalid"))?;
        let size = u64::from_str_radix(text, 16).map_err(|_| bad("the size of a body chunk is invalid"))?;
        if size > 0 {
            return Ok(State::ChunkData(size));
        }
        let mut trailer = 0;
        loop {
            let line = self.line()?;
            trailer += line.len();
            if line.is_empty() {
                return Ok(State::Done);
            }
            if trailer > MAX_TRAILER_BYTES {
                return Err(bad("the trailer fields of the body are too large"));
            }
        }
    }
}

impl<S: Read> Read for Body<'_, S> {
    /// After an error of the connection, such as a timeout, the caller may call this function again to continue.
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if out.is_empty() {
            return Ok(0);
        }
        loop {
            match self.state {
                State::Done => return Ok(0),
                State::Length(left) => {
                    let count = self.read_data(out, left)?;
                    self.state = if left == count as u64 { State::Done } else { State::Length(left - count as u64) };
                    return Ok(count);
                }
                State::ChunkSize => self.state = self.chunk_size()?,
                State::ChunkData(left) => {
                    let count = self.read_data(out, left)?;
                    self.state =
                        if left == count as u64 { State::ChunkEnd } else { State::ChunkData(left - count as u64) };
                    return Ok(count);
                }
                State::ChunkEnd => {
                    if !self.line()?.is_empty() {
                        return Err(bad("a body chunk is longer than its declared size"));
                    }
                    self.state = State::ChunkSize;
                }
            }
        }
    }
}

fn bad(why: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::http::head::parse;

    fn framing(fields: &str) -> Result<Framing, Refusal> {
        let text = format!("POST /speak HTTP/1.1\r\nhost: a\r\n{fields}\r\n");
        Framing::of(&parse(text.as_bytes()).unwrap().unwrap().0)
    }

    fn read(framing: Framing, buffered: &str, rest: &str) -> (io::Result<Vec<u8>>, String) {
        let mut buffered = buffered.as_bytes().to_vec();
        let mut stream = rest.as_bytes();
        let mut out = Vec::new();
        let result = Body::new(framing, &mut buffered, &mut stream).read_to_end(&mut out).map(|_| out);
        (result, String::from_utf8(buffered).unwrap())
    }

    #[test]
    fn contradictory_lengths_are_refused() {
        assert_eq!(framing("").unwrap(), Framing::Length(0));
        assert_eq!(framing("content-length: 10000000000\r\n").unwrap(), Framing::Length(10_000_000_000));
        assert_eq!(framing("transfer-encoding: Chunked\r\n").unwrap(), Framing::Chunked);
        for (fields, status) in [
            ("content-length: -1\r\n", 400),
            ("content-length: +1\r\n", 400),
            ("content-length: 99999999999999999999\r\n", 400),
            ("content-length: 1\r\ncontent-length: 2\r\n", 400),
            ("content-length: 1\r\ntransfer-encoding: chunked\r\n", 400),
            ("transfer-encoding: gzip, chunked\r\n", 501),
            ("transfer-encoding: \u{a0}chunked\r\n", 501),
            ("content-length: \u{a0}1\r\n", 400),
        ] {
            assert_eq!(framing(fields).unwrap_err().status, status, "{fields}");
        }
    }

    #[test]
    fn body_with_a_length_leaves_the_next_request() {
        let (body, left) = read(Framing::Length(4), "abcdGET", "");
        assert_eq!((body.unwrap(), left.as_str()), (b"abcd".to_vec(), "GET"));
        assert_eq!(read(Framing::Length(4), "a", "bcd").0.unwrap(), b"abcd");
        assert_eq!(read(Framing::Length(4), "a", "b").0.unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }

    #[test]
    fn chunks_are_joined_at_any_split() {
        let text = "4;ext=1\r\nabcd\r\n002\r\nef\r\n0\r\ntrailer: x\r\n\r\nGET";
        for cut in 0..text.len() {
            let (body, left) = read(Framing::Chunked, &text[..cut], &text[cut..]);
            assert_eq!(body.unwrap(), b"abcdef", "cut at {cut}");
            assert!("GET".starts_with(&left));
        }
    }

    #[test]
    fn invalid_chunks_are_refused() {
        let long = format!("4;{}", "x".repeat(3000));
        let long_in_one_piece = format!("4;{}\r\nabcd\r\n0\r\n\r\n", "x".repeat(1100));
        for text in [
            "x\r\n",
            "-1\r\n",
            "fffffffffffffffff\r\n",
            "2\r\nabc\r\n",
            "4 5\r\n",
            long.as_str(),
            long_in_one_piece.as_str(),
            "\r\n",
            "4\nabcd\r\n",
            "\n",
        ] {
            let error = read(Framing::Chunked, text, "").0.unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidData, "{text}");
        }
        assert_eq!(read(Framing::Chunked, "5\r\nab", "").0.unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }

    proptest::proptest! {
        #[test]
        fn a_chunked_body_is_decoded_to_exactly_its_content(
            pieces in proptest::collection::vec(proptest::collection::vec(proptest::prelude::any::<u8>(), 1..50), 0..8),
            cut in 0usize..400,
        ) {
            let mut coded = Vec::new();
            for piece in &pieces {
                coded.extend(format!("{:X}\r\n", piece.len()).into_bytes());
                coded.extend(piece);
                coded.extend(b"\r\n");
            }
            coded.extend(b"0\r\n\r\nnext");
            let cut = cut.min(coded.len());
            let (mut buffered, mut stream) = (coded[..cut].to_vec(), &coded[cut..]);
            let mut body = Body::new(Framing::Chunked, &mut buffered, &mut stream);
            let mut out = Vec::new();
            body.read_to_end(&mut out).unwrap();
            assert!(body.is_done());
            assert_eq!(out, pieces.concat());
            buffered.extend(stream);
            assert_eq!(buffered, b"next");
        }

        #[test]
        fn decoder_accepts_or_refuses_any_bytes(bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..600)) {
            let (mut buffered, mut stream) = (Vec::new(), &bytes[..]);
            let mut out = Vec::new();
            let _ = Body::new(Framing::Chunked, &mut buffered, &mut stream).read_to_end(&mut out);
            assert!(out.len() <= bytes.len());
        }
    }
}
