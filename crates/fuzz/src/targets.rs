//! The targets.

use std::cell::RefCell;
use std::fmt::{Debug, Display};
use std::fs::File;
use std::io::{self, Cursor, Read, Write};
use std::net::Shutdown;
use std::os::unix::fs::FileExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::str::FromStr;
use std::time::{Duration, SystemTime};

use palabre_config::control::{ListenerReport, Response, read_request};
use palabre_config::{Entrance, Key, KeyHash, LinkTemplate, Moment, PageAddress, Participant, PortRange, Server};
use palabre_room::{
    EarFrames, Format, Gain, KeptMessage, LevelLine, Levelling, Member, Message, MixerReport, Name, PersonalGain,
    Presence,
};
use palabre_sound::convert::Converter;
use palabre_sound::wav::{Head as WavHead, Tail};
use tungstenite::protocol::Role;
use tungstenite::{Message as WsMessage, WebSocket};

use crate::chunk::{self, Chunk};
use crate::http::body::{Body, Framing};
use crate::http::head::{self, Head};
use crate::records::{Parser, Record};
use crate::report::Report;
use crate::{proxy_header, records};

/// Rate to which WAVs are converted, in Hz.
const RATE_HZ: u32 = 24_000;
/// Maximum number of samples of [`RATE_HZ`] for each byte of a WAV. A byte of 16-bit mono at 8000 Hz becomes 1.5 samples.
const SAMPLES_PER_BYTE_MAX: usize = 4;

/// A parser with its checks.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// Name, which is also the name of the directory of its corpus.
    pub name: &'static str,
    /// Parses an input. Panics if an invariant is violated.
    pub run: fn(&[u8]),
    /// Texts that are inserted into inputs.
    pub words: &'static [&'static str],
}

/// All targets.
pub const TARGETS: [Target; 14] = [
    Target {
        name: "head",
        run: request_head,
        words: &[
            "\r\n",
            " HTTP/1.1",
            "Host: a\r\n",
            "Transfer-Encoding: chunked",
            "Content-Length: ",
            "?key=",
            "https://",
            "\n",
            "\u{a0}",
        ],
    },
    Target {
        name: "chunked",
        run: chunked_body,
        words: &["0\r\n\r\n", "\r\n", "ffffffff", "4;a=b\r\n", "\n", "fffffffffffffff"],
    },
    Target {
        name: "websocket",
        run: websocket,
        words: &["\u{82}", "\u{88}", "\u{89}", "\u{8a}", "~\0\u{7f}", "\u{7f}"],
    },
    Target {
        name: "proxy_header",
        run: proxy,
        words: &["PROXY TCP4 ", "PROXY UNKNOWN", "\r\n", "::1", "255.255.255.255", "\r\n\r\n\0\r\nQUIT\n"],
    },
    Target {
        name: "wav_head",
        run: wav_head,
        words: &["RIFF", "RF64", "WAVE", "fmt ", "data", "ds64", "LIST", "\u{ff}\u{ff}"],
    },
    Target {
        name: "growing_wav",
        run: growing_wav,
        words: &["RIFF", "RF64", "WAVE", "fmt ", "data", "ds64", "LIST", "\0\0\0\0"],
    },
    Target {
        name: "palabre_toml",
        run: server_file,
        words: &[
            "[stream]\n",
            "[limits]\n",
            "[proxy]\n",
            "link = \"https://a/{name}/\"\n",
            "ports = \"9001-9999\"\n",
            "= ",
            "\"",
            "{port}",
            "bind = \"::\"\n",
        ],
    },
    Target {
        name: "participant",
        run: participant_file,
        words: &[
            "port = ",
            "room = \"",
            "key-sha256 = \"",
            "gain-db = ",
            "expires = ",
            "display-name = \"",
            "\n",
            "\"",
            "-1",
            "1e999",
        ],
    },
    Target {
        name: "control",
        run: control,
        words: &["{\"version\":1,", "\"request\":", "\"Status\"", "null", "[[[[", "{", "}", "\n", "99999999999"],
    },
    Target {
        name: "notify",
        run: notify,
        words: &["streams=", "speaking=ws", "hand", "mic=muted", "{\"streams\":", "null", ",", "1e400"],
    },
    Target {
        name: "room_files",
        run: room_files,
        words: &["\t", " ", "\n", "s16le 24000 1", "-inf", "nan", "1e40", "alice", "on", "\u{2028}"],
    },
    Target {
        name: "links",
        run: links,
        words: &["https://", "{name}", "{port}", "?key=", "[::1]", ":443", "/", "never", "12h", "Z"],
    },
    Target {
        name: "stream",
        run: stream,
        words: &[
            "<b>",
            "</b><script>p()</script>",
            "1,",
            "HTTP/1.1 200 OK\r\n\r\n",
            "<!doctype html>",
            "</script>",
            "UklGR",
            "=",
        ],
    },
    Target {
        name: "page_report",
        run: page_report,
        words: &["{\"", "\":", "1e308", "-1", "null", "}", "\\u0000", "[[["],
    },
];

/// Returns the text of an input. Replaces bytes that are not UTF-8.
fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Splits the rest of an input at the position that the first byte gives, in 1/256 of the length.
fn split(bytes: &[u8]) -> (&[u8], &[u8]) {
    let Some((&at, rest)) = bytes.split_first() else { return (&[], &[]) };
    rest.split_at(rest.len() * usize::from(at) / 256)
}

fn request_head(bytes: &[u8]) {
    if let Ok(Some((head, length))) = head::parse(bytes) {
        assert!(length <= bytes.len(), "a head is not longer than the input");
        assert!(head.path.starts_with('/'), "{:?}", head.path);
        let again = head::parse(&bytes[..length]).ok().flatten();
        assert!(again.is_some_and(|(_, again)| again == length), "the bytes after a head don't change it");
        let before = head::parse(&bytes[..length - 1]);
        assert!(
            before.is_err() || before.is_ok_and(|head| head.is_none()),
            "a head without its last byte is incomplete"
        );
        let _ =
            (Framing::of(&head), head.keeps_alive(), head.parameter("key"), head.has_token("connection", "upgrade"));
    }
}

fn chunked_body(bytes: &[u8]) {
    let (first, rest) = split(bytes);
    let whole = read_body(Vec::new(), &[first, rest].concat());
    let parts = read_body(first.to_vec(), rest);
    assert_eq!(whole.0, parts.0, "the split between head and body doesn't change the body");
    assert!(whole.1 <= bytes.len(), "a body is not longer than its coding");
}

/// Returns the body, or `None` if it is invalid or incomplete, and the number of bytes of the body that were read.
fn read_body(mut buffered: Vec<u8>, mut stream: &[u8]) -> (Option<Vec<u8>>, usize) {
    let mut out = Vec::new();
    let read = Body::new(Framing::Chunked, &mut buffered, &mut stream).read_to_end(&mut out);
    let length = out.len();
    (read.is_ok().then_some(out), length)
}

/// The client's end of a connection: delivers an input, and counts the bytes that the server writes.
struct Client<'a>(Cursor<&'a [u8]>, usize);

impl Read for Client<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        self.0.read(out)
    }
}

impl Write for Client<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.1 += bytes.len();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn websocket(bytes: &[u8]) {
    let (first, rest) = split(bytes);
    let client = Client(Cursor::new(rest), 0);
    let mut socket = WebSocket::from_partially_read(client, first.to_vec(), Role::Server, Some(chunk::limits()));
    let mut received = 0;
    while let Ok(message) = socket.read() {
        // The message that closes the connection may contain the server's own reason.
        received += if message.is_close() { 0 } else { message.len() };
        assert!(received <= bytes.len(), "messages are not longer than their frames");
        if let WsMessage::Binary(bytes) = message
            && let Some(chunk) = Chunk::parse(&bytes, Format::default())
        {
            assert!(chunk.captured_ms.is_finite() && chunk.samples.len() * 2 + 16 == bytes.len());
        }
    }
    assert!(socket.get_ref().1 <= bytes.len() + 1024, "the server doesn't answer with more than it receives");
}

fn proxy(bytes: &[u8]) {
    let mut socket = bytes;
    if proxy_header::read(&mut socket).is_ok() {
        assert!(bytes.len() - socket.len() <= 2048, "a header is not longer than its maximum");
    }
}

/// Returns the rate to which the sound of an input is converted: for most inputs the rate of the WAV itself, because creating a resampler takes 1 ms.
fn target_rate_hz(mut bytes: &[u8]) -> u32 {
    let is_converted = bytes.len().is_multiple_of(64);
    let head = WavHead::read(&mut bytes).ok().filter(|_| !is_converted);
    head.map_or(RATE_HZ, |head| head.rate_hz)
}

fn wav_head(bytes: &[u8]) {
    let mut stream = bytes;
    let Ok(head) = WavHead::read(&mut stream) else { return };
    assert!((1..=8).contains(&head.channels) && (8_000..=192_000).contains(&head.rate_hz), "{head:?}");
    let Ok(mut converter) = Converter::new(&head, target_rate_hz(bytes)) else { return };
    let mut samples = Vec::new();
    let (first, rest) = split(stream);
    for piece in [first, rest] {
        converter.push(piece, &mut samples);
    }
    converter.finish(&mut samples);
    assert!(samples.len() <= bytes.len() * SAMPLES_PER_BYTE_MAX + 4096, "{} samples", samples.len());
}

thread_local! {
    /// The file that grows: in `/dev/shm`, which is in memory, if the system has it.
    static FILE: RefCell<Option<File>> = const { RefCell::new(None) };
}

/// Writes the input into a file in up to four steps, and reads the sound after each step.
fn growing_wav(bytes: &[u8]) {
    FILE.with_borrow_mut(|kept| {
        let Some(file) =
            kept.take().or_else(|| tempfile::tempfile_in("/dev/shm").or_else(|_| tempfile::tempfile()).ok())
        else {
            return;
        };
        if file.set_len(0).is_ok() {
            grow(&file, bytes);
        }
        *kept = Some(file);
    });
}

fn grow(file: &File, bytes: &[u8]) {
    let (first, rest) = split(bytes);
    let (second, rest) = split(rest);
    let (third, fourth) = split(rest);
    let mut tail = Tail::new(target_rate_hz(&[first, second, third, fourth].concat()));
    let (mut samples, mut at) = (Vec::new(), 0);
    for (number, piece) in [first, second, third, fourth].into_iter().enumerate() {
        // The last piece may overwrite the beginning, as a program does when it corrects the sizes in the head.
        let place = if number == 3 && piece.first().is_some_and(|byte| byte % 2 == 1) { 0 } else { at };
        if file.write_all_at(piece, place).is_err() {
            return;
        }
        at += piece.len() as u64;
        let _ = tail.update(file);
        if piece.len() % 3 == 0 {
            let _ = tail.keep_newest(file, 100);
        }
        let waiting = tail.waiting();
        while tail.read(file, 480, &mut samples).is_ok_and(|count| count > 0) {}
        assert!(tail.waiting() <= waiting, "reading makes no sound");
    }
    tail.finish(&mut samples);
    assert!(samples.len() <= bytes.len() * SAMPLES_PER_BYTE_MAX + 4 * 4096, "{} samples", samples.len());
}

fn server_file(bytes: &[u8]) {
    if let Ok(server) = Server::from_toml(Path::new("/etc/palabre"), &text(bytes)) {
        let _ = format!("{server:?}");
    }
}

fn participant_file(bytes: &[u8]) {
    let Ok(name) = "alice".parse::<Name>() else { return };
    let Ok(participant) = Participant::from_toml(&name, &text(bytes)) else { return };
    let written = participant.to_toml();
    let again = Participant::from_toml(&name, &written).map(|again| again.to_toml());
    assert_eq!(again.as_ref().ok(), Some(&written), "a written file is read again");
}

fn control(bytes: &[u8]) {
    let _ = serde_json::from_slice::<Response>(bytes);
    let Ok((client, server)) = UnixStream::pair() else { return };
    // The socket's buffer takes 64 KiB without a reader.
    if (&client).write_all(&bytes[..bytes.len().min(64 * 1024)]).is_ok() && client.shutdown(Shutdown::Write).is_ok() {
        let _ = read_request(&server, Duration::from_secs(5));
    }
}

fn notify(bytes: &[u8]) {
    if let Ok(report) = ListenerReport::parse(&text(bytes)) {
        let again = ListenerReport::parse(&report.encode()).map(|again| again.encode());
        assert_eq!(again.ok(), Some(report.encode()), "a written report is read again");
    }
}

/// Parses a value. A valid value, written and parsed again, must have the same text.
fn value<T: FromStr + Display>(text: &str) {
    let Ok(value) = text.parse::<T>() else { return };
    let written = value.to_string();
    let again = written.parse::<T>().map(|again| again.to_string());
    assert_eq!(again.as_ref().ok(), Some(&written), "{} of {text:?}", std::any::type_name::<T>());
}

fn room_files(bytes: &[u8]) {
    let text = text(bytes);
    let _ = text.parse::<MixerReport>().map(|report| format!("{report:?}"));
    for line in text.lines().take(16) {
        value::<Name>(line);
        value::<Member>(line);
        value::<LevelLine>(line);
        value::<PersonalGain>(line);
        value::<Gain>(line);
        value::<EarFrames>(line);
        value::<Format>(line);
        value::<Levelling>(line);
        value::<Presence>(line);
        value::<Message>(line);
        let _ = line.parse::<KeptMessage>().is_ok();
    }
}

fn links(bytes: &[u8]) {
    let text = text(bytes);
    for line in text.lines().take(16) {
        value::<KeyHash>(line);
        value::<Moment>(line);
        value::<LinkTemplate>(line);
        let _ = (line.parse::<Entrance>().is_ok(), line.parse::<PortRange>().is_ok(), Key::parse(line).is_ok());
        if let Ok(PageAddress { host, path, .. }) = line.parse() {
            assert!(!host.is_empty() && path.starts_with('/') && path.ends_with('/'), "{line:?}");
        }
        if let (Ok(template), Ok(name)) = (line.parse::<LinkTemplate>(), "alice".parse::<Name>()) {
            let address = template.address(&name, 9001);
            assert!(address.is_ok(), "{line:?} was accepted, but gives no address: {address:?}");
        }
        if let Ok(moment) = line.parse::<Moment>() {
            let _ = moment.seconds_from(SystemTime::UNIX_EPOCH);
        }
    }
}

fn stream(bytes: &[u8]) {
    let (first, rest) = split(bytes);
    let (mut parser, mut wav, mut samples) = (Parser::new(), Vec::new(), Vec::new());
    for piece in [first, rest] {
        let fed = parser.feed(piece, |_, record| match record {
            Record::Sound { wav: sound, .. } => {
                let count = sound.samples();
                if sound.decode(RATE_HZ, &mut wav, &mut samples).is_ok() {
                    assert_eq!(samples.len(), count, "the number of samples is computed from the text");
                }
            }
            Record::Hello(hello) => drop(records::text(hello)),
            _ => {}
        });
        if fed.is_err() {
            return;
        }
    }
}

fn page_report(bytes: &[u8]) {
    if let Some(report) = Report::parse(bytes) {
        let line = report.line();
        assert!(!line.contains('\n') && line.len() < 4096, "{line:?}");
        let _ = format!("{:?}", report.summary());
    }
}

/// Checks at compile time that `Head` implements `Debug`.
const _: fn(&Head) -> &dyn Debug = |head| head;
