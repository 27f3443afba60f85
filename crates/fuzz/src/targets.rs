//! The functions of the targets. Each returns whether the parser accepts the input.

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

use palabre_config::control::{ListenerReport, MAX_REPORT_BYTES, Response, read_request};
use palabre_config::signing::{self, MAX_REQUEST_BYTES, Order, Reply, Request, SignerReport};
use palabre_config::{
    Entrance, Exported, Key, KeyHash, LinkTemplate, ListenerSettings, MAX_SETTINGS_BYTES, Moment, PageAddress,
    Participant, PortRange, Server,
};
use palabre_launcher::{Order as LauncherOrder, Report as LauncherReport, encode, parse};
use palabre_room::{
    BridgeReport, EarFrames, Format, Gain, KeptMessage, LevelLine, Levelling, MachineState, Member, Message,
    MixerReport, Name, PersonalGain, Presence, Sender,
};
use palabre_sound::convert::Converter;
use palabre_sound::opus::{SumDecoder, frame_samples, packets};
use palabre_sound::wav::{Head as WavHead, Tail};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tungstenite::protocol::Role;
use tungstenite::{Message as WsMessage, WebSocket};

use crate::chunk::{self, Chunk, Sound};
use crate::cookie::Cookies;
use crate::form::Form;
use crate::http::body::{Body, Framing};
use crate::http::head::{self, Head};
use crate::records::{Parser, Record};
use crate::report::Report;
use crate::wire::Subject;
use crate::wire::json::{self, Heartbeat, State, Text};
use crate::wire::mix::{self, Mix};
use crate::{hello, proxy_header, records, shown};

/// Rate to which WAVs are converted, in Hz.
const RATE_HZ: u32 = 24_000;
/// Maximum number of samples of [`RATE_HZ`] for each byte of a WAV. A byte of 16-bit mono at 8000 Hz becomes 1.5 samples.
const SAMPLES_PER_BYTE_MAX: usize = 4;

/// Returns the text of an input. Replaces bytes that are not UTF-8.
fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Splits an input, without its first byte, into two parts. The first byte gives the length of the first part, in 1/256 of both together.
fn split(bytes: &[u8]) -> (&[u8], &[u8]) {
    let Some((&at, rest)) = bytes.split_first() else { return (&[], &[]) };
    rest.split_at(rest.len() * usize::from(at) / 256)
}

pub(crate) fn request_head(bytes: &[u8]) -> bool {
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
        return true;
    }
    false
}

pub(crate) fn chunked_body(bytes: &[u8]) -> bool {
    let (first, rest) = split(bytes);
    let whole = read_body(Vec::new(), &[first, rest].concat());
    let parts = read_body(first.to_vec(), rest);
    assert_eq!(whole.0, parts.0, "the split between head and body doesn't change the body");
    assert!(whole.1 <= bytes.len(), "a body is not longer than its coding");
    whole.0.is_some()
}

/// Returns two values: the decoded body of a chunked request (`None` if it is invalid or incomplete), and the number of decoded bytes, also of an
/// incomplete body.
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

pub(crate) fn websocket(bytes: &[u8]) -> bool {
    let (first, rest) = split(bytes);
    let client = Client(Cursor::new(rest), 0);
    let mut socket = WebSocket::from_partially_read(client, first.to_vec(), Role::Server, Some(chunk::limits()));
    let mut received = 0;
    while let Ok(message) = socket.read() {
        // Don't count the message that closes the connection: it may contain a reason that the server wrote, which is not part of the input.
        received += if message.is_close() { 0 } else { message.len() };
        assert!(received <= bytes.len(), "messages are not longer than their frames");
        if let WsMessage::Binary(bytes) = message
            && let Some(chunk) = Chunk::parse(&bytes, Format::default())
        {
            let length = match &chunk.sound {
                Sound::Samples(samples) => samples.len() * 2,
                Sound::Packets(packets) => packets.iter().map(|packet| packet.len() + 2).sum(),
            };
            assert!(chunk.captured_ms.is_finite() && length + 16 == bytes.len());
        }
    }
    assert!(socket.get_ref().1 <= bytes.len() + 1024, "the server doesn't answer with more than it receives");
    received > 0
}

pub(crate) fn proxy(bytes: &[u8]) -> bool {
    let mut socket = bytes;
    let is_valid = proxy_header::read(&mut socket).is_ok();
    assert!(!is_valid || bytes.len() - socket.len() <= 2048, "a header is not longer than its maximum");
    is_valid
}

/// Returns the rate to which the sound of an input is converted: for most inputs the rate of the WAV itself, because creating a resampler takes 1 ms.
fn target_rate_hz(mut bytes: &[u8]) -> u32 {
    let is_converted = bytes.len().is_multiple_of(64);
    let head = WavHead::read(&mut bytes).ok().filter(|_| !is_converted);
    head.map_or(RATE_HZ, |head| head.rate_hz)
}

pub(crate) fn wav_head(bytes: &[u8]) -> bool {
    let mut stream = bytes;
    let Ok(head) = WavHead::read(&mut stream) else { return false };
    assert!((1..=8).contains(&head.channels) && (8_000..=192_000).contains(&head.rate_hz), "{head:?}");
    let Ok(mut converter) = Converter::new(&head, target_rate_hz(bytes)) else { return false };
    let mut samples = Vec::new();
    let (first, rest) = split(stream);
    for piece in [first, rest] {
        converter.push(piece, &mut samples);
    }
    converter.finish(&mut samples);
    assert!(samples.len() <= bytes.len() * SAMPLES_PER_BYTE_MAX + 4096, "{} samples", samples.len());
    true
}

thread_local! {
    /// The file that grows: in `/dev/shm`, which is in memory, if the system has it.
    static FILE: RefCell<Option<File>> = const { RefCell::new(None) };
}

/// Writes the input into a file in up to four steps, as a program that records a WAV does. Reads the file's sound after each step.
pub(crate) fn growing_wav(bytes: &[u8]) -> bool {
    FILE.with_borrow_mut(|kept| {
        let Some(file) =
            kept.take().or_else(|| tempfile::tempfile_in("/dev/shm").or_else(|_| tempfile::tempfile()).ok())
        else {
            return false;
        };
        let is_valid = file.set_len(0).is_ok() && grow(&file, bytes);
        *kept = Some(file);
        is_valid
    })
}

fn grow(file: &File, bytes: &[u8]) -> bool {
    let (first, rest) = split(bytes);
    let (second, rest) = split(rest);
    let (third, fourth) = split(rest);
    let mut tail = Tail::new(target_rate_hz(&[first, second, third, fourth].concat()));
    let (mut samples, mut at) = (Vec::new(), 0);
    for (number, piece) in [first, second, third, fourth].into_iter().enumerate() {
        // The last piece may overwrite the beginning of the file, as a recording program does when it corrects the sizes in the WAV's head.
        let place = if number == 3 && piece.first().is_some_and(|byte| byte % 2 == 1) { 0 } else { at };
        if file.write_all_at(piece, place).is_err() {
            return false;
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
    !samples.is_empty()
}

pub(crate) fn server_file(bytes: &[u8]) -> bool {
    let server = Server::from_toml(Path::new("/etc/palabre"), &text(bytes));
    server.is_ok_and(|server| !format!("{server:?}").is_empty())
}

pub(crate) fn participant_file(bytes: &[u8]) -> bool {
    let Ok(name) = "alice".parse::<Name>() else { return false };
    let Ok(participant) = Participant::from_toml(&name, &text(bytes)) else { return false };
    let written = participant.to_toml();
    let again = Participant::from_toml(&name, &written).map(|again| again.to_toml());
    assert_eq!(again.as_ref().ok(), Some(&written), "a written file is read again");
    true
}

pub(crate) fn export(bytes: &[u8]) -> bool {
    let parse = |bytes: &[u8]| Exported::parse(Path::new("-"), bytes).ok();
    let Some(participants) = parse(bytes) else { return false };
    // The written document names the room of each participant, which the input may omit. So it can be longer than the input, and too long.
    if let Ok(written) = Exported::document(participants) {
        let again = parse(written.as_bytes()).map(Exported::document);
        assert_eq!(again, Some(Ok(written)), "a written document is read again");
    }
    true
}

pub(crate) fn control(bytes: &[u8]) -> bool {
    let is_response = serde_json::from_slice::<Response>(bytes).is_ok();
    let Ok((client, server)) = UnixStream::pair() else { return false };
    // The socket's buffer takes 64 KiB without a reader.
    let is_sent =
        (&client).write_all(&bytes[..bytes.len().min(64 * 1024)]).is_ok() && client.shutdown(Shutdown::Write).is_ok();
    (is_sent && read_request(&server, Duration::from_secs(5)).is_ok()) || is_response
}

pub(crate) fn notify(bytes: &[u8]) -> bool {
    let Ok(report) = ListenerReport::parse(&text(bytes)) else { return false };
    let written = report.encode();
    // A text with characters that JSON escapes can be longer than its input. A listener sends no such text.
    if written.len() <= MAX_REPORT_BYTES {
        let again = ListenerReport::parse(&written).map(|again| again.encode());
        assert_eq!(again.ok(), Some(written), "a written report is read again");
    }
    true
}

/// Reads an input as an order to the launcher, as its report, and as the settings of a listener. What is valid, written and read again, must not change.
pub(crate) fn launcher(bytes: &[u8]) -> bool {
    let (order, report) = (parse::<LauncherOrder>(bytes).ok(), parse::<LauncherReport>(bytes).ok());
    let again = order.as_ref().map(|order| parse::<LauncherOrder>(&encode(order)).ok());
    assert!(again.is_none_or(|again| again == order), "a written order is read again");
    let again = report.as_ref().map(|report| parse::<LauncherReport>(&encode(report)).ok());
    assert!(again.is_none_or(|again| again == report), "a written report is read again");
    let Ok(alice) = Name::from_str("alice") else { return false };
    let settings = ListenerSettings::read(&alice, bytes).ok();
    if let Some(written) = settings.as_ref().map(ListenerSettings::to_bytes).filter(|it| it.len() <= MAX_SETTINGS_BYTES)
    {
        let again = ListenerSettings::read(&alice, written.as_slice()).map(|again| again.to_bytes());
        assert_eq!(again.ok(), Some(written), "written settings are read again");
    }
    order.is_some() || report.is_some() || settings.is_some()
}

/// Parses a value. A valid value, written and parsed again, must have the same text. Returns whether the value is valid.
fn value<T: FromStr + Display>(text: &str) -> bool {
    let Ok(value) = text.parse::<T>() else { return false };
    let written = value.to_string();
    let again = written.parse::<T>().map(|again| again.to_string());
    assert_eq!(again.as_ref().ok(), Some(&written), "{} of {text:?}", std::any::type_name::<T>());
    true
}

/// Parses the input as the files in the directory of the rooms. Returns whether it is the mixer's report, the bridge's report or the state of another
/// machine, or each of its first 16 lines is valid in a file of a room.
pub(crate) fn room_files(bytes: &[u8]) -> bool {
    let text = text(bytes);
    let is_report = text.parse::<MixerReport>().is_ok_and(|report| !format!("{report:?}").is_empty());
    let is_machine = value::<MachineState>(&text) | value::<BridgeReport>(&text);
    let parsers = [
        value::<Name>,
        value::<Sender>,
        value::<Member>,
        value::<LevelLine>,
        value::<PersonalGain>,
        value::<Gain>,
        value::<EarFrames>,
        value::<Format>,
        value::<Levelling>,
        value::<Presence>,
        value::<Message>,
        |line: &str| line.parse::<KeptMessage>().is_ok(),
    ];
    all_lines(&text, &parsers) || is_report || is_machine
}

pub(crate) fn bridge(bytes: &[u8]) -> bool {
    let mix = Mix::decode(bytes);
    if let Ok(mix) = &mix {
        assert!((1..=5).contains(&mix.sound.frames(mix.rate)), "a message has one to five frames");
        assert_eq!(Mix::decode(&mix.encode()).as_ref(), Ok(mix), "an encoded message is decoded");
        decode_sums(mix);
    }
    let people = json::decode::<State>(bytes).map(|state| state.members().len());
    let machine = Name::from_str("paris").ok();
    let text = json::decode::<Text>(bytes).and_then(|text| text.message(&machine?));
    assert!(text.as_ref().is_none_or(|text| value::<Message>(&text.to_string())), "a text is a valid datagram");
    let is_subject = std::str::from_utf8(bytes).is_ok_and(|subject| Subject::parse(subject).is_some());
    mix.is_ok() || people.is_some() || text.is_some() || json::decode::<Heartbeat>(bytes).is_some() || is_subject
}

/// Decodes the Opus packets of a message from another machine, as `palabre-bridge` does.
fn decode_sums(mix: &Mix) {
    let mix::Sound::Opus { packets, .. } = &mix.sound else { return };
    let Ok(mut decoder) = SumDecoder::new(mix.rate.hz()) else { return };
    let mut sums = Vec::new();
    for packet in packets::iter(packets).flatten() {
        let _ = decoder.decode(packet, &mut sums);
    }
    assert_eq!(sums.len(), mix.sound.frames(mix.rate) * frame_samples(mix.rate.hz()), "each packet becomes 20 ms");
}

/// Calls all `parsers` with each of the first 16 lines of `text`. Returns whether at least one parser accepts each of these lines.
fn all_lines(text: &str, parsers: &[fn(&str) -> bool]) -> bool {
    text.lines().take(16).map(|line| parsers.iter().filter(|parse| parse(line)).count()).all(|valid| valid > 0)
}

pub(crate) fn links(bytes: &[u8]) -> bool {
    let parsers = [
        value::<KeyHash>,
        value::<Moment>,
        value::<LinkTemplate>,
        |line: &str| line.parse::<Entrance>().is_ok(),
        |line: &str| line.parse::<PortRange>().is_ok(),
        |line: &str| Key::parse(line).is_ok(),
        page_address,
        template,
        |line: &str| line.parse::<Moment>().is_ok_and(|moment| moment.seconds_from(SystemTime::UNIX_EPOCH) != i64::MIN),
    ];
    all_lines(&text(bytes), &parsers)
}

fn page_address(line: &str) -> bool {
    let Ok(PageAddress { host, path, .. }) = line.parse() else { return false };
    assert!(!host.is_empty() && path.starts_with('/') && path.ends_with('/'), "{line:?}");
    true
}

fn template(line: &str) -> bool {
    let (Ok(template), Ok(name)) = (line.parse::<LinkTemplate>(), "alice".parse::<Name>()) else { return false };
    let address = template.address(&name, 9001);
    assert!(address.is_ok(), "{line:?} was accepted, but gives no address: {address:?}");
    true
}

pub(crate) fn stream(bytes: &[u8]) -> bool {
    let (first, rest) = split(bytes);
    let (mut parser, mut wav, mut samples, mut sounds) = (Parser::new(), Vec::new(), Vec::new(), 0);
    for piece in [first, rest] {
        let fed = parser.feed(piece, |_, record| match record {
            Record::Sound { wav: sound, .. } => {
                let count = sound.samples();
                if sound.decode(RATE_HZ, &mut wav, &mut samples).is_ok() {
                    sounds += 1;
                    assert_eq!(samples.len(), count, "the number of samples is computed from the text");
                }
            }
            Record::Hello(hello) => drop(records::text(hello)),
            _ => {}
        });
        if fed.is_err() {
            return false;
        }
    }
    sounds > 0
}

pub(crate) fn page_report(bytes: &[u8]) -> bool {
    let Some(report) = Report::parse(bytes) else { return false };
    let line = report.line();
    assert!(!line.contains('\n') && line.len() < 4096, "{line:?}");
    !format!("{:?}", report.summary()).is_empty()
}

/// Parses the state that a page sends by `POST /show`. A valid state, written as a presence and parsed again, must be the same. Returns whether the
/// state is valid.
pub(crate) fn shown(bytes: &[u8]) -> bool {
    let Some(shown) = shown::parse(bytes) else { return false };
    let presence = Presence { hand: shown.hand.unwrap_or_default(), voice: shown.voice, weak: shown.weak };
    assert_eq!(presence.to_string().parse(), Ok(presence), "a written presence is read again");
    true
}

pub(crate) fn client_hello(bytes: &[u8]) -> bool {
    let (first, rest) = split(bytes);
    let whole = hello::is_complete(&[first, rest].concat());
    match hello::is_complete(first) {
        Ok(true) => assert!(matches!(whole, Ok(true)), "more bytes don't make a ClientHello incomplete"),
        Ok(false) => {}
        Err(_) => assert!(whole.is_err(), "more bytes don't make other data a ClientHello"),
    }
    whole.unwrap_or(false)
}

/// Checks the fields `Cookie` of a request, one in each line.
pub(crate) fn cookie(bytes: &[u8]) -> bool {
    let Ok(key) = "ab".repeat(32).parse::<KeyHash>() else { return false };
    let (text, cookies) = (text(bytes), Cookies::new("alice", b"secret"));
    let mut genuine = 0;
    for value in cookies.values(text.lines()) {
        let opens = cookies.opens(value, key, SystemTime::UNIX_EPOCH);
        assert!(cookies.is_genuine(value, key) || !opens, "only a genuine cookie is valid");
        assert!(Cookies::is_well_formed(value) || !opens, "only a well-formed cookie is genuine");
        genuine += usize::from(opens);
    }
    genuine > 0
}

/// Checks the messages between listeners, the signer and the supervisor.
pub(crate) fn signing(bytes: &[u8]) -> bool {
    if let Some(request) = Request::parse(bytes) {
        assert_eq!(request.encode(), bytes, "a request has one form");
        let form = request.sign.as_ref().and_then(|sign| Form::of(&sign.message));
        assert!(form.is_none() || request.encode().len() <= MAX_REQUEST_BYTES, "a message to be signed is short");
        return form.is_some() || request.sign.is_none();
    }
    if let Some(reply) = Reply::parse(bytes) {
        let again = Reply::parse(&reply.encode());
        assert!(again.is_some_and(|again| again.encode() == reply.encode()), "a written reply is read again");
        return true;
    }
    message::<Order>(bytes) || message::<SignerReport>(bytes)
}

/// Parses a message between the supervisor and the signer. A valid message, written and parsed again, must be the same.
fn message<T: Serialize + DeserializeOwned + PartialEq + Debug>(bytes: &[u8]) -> bool {
    let Ok(message) = signing::parse::<T>(bytes) else { return false };
    assert_eq!(signing::parse::<T>(&signing::encode(&message)).ok(), Some(message), "a written message is read again");
    true
}

/// Checks at compile time that `Head` implements `Debug`.
const _: fn(&Head) -> &dyn Debug = |head| head;
