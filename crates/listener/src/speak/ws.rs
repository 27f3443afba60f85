//! The microphone of a page by WebSocket (RFC 6455): one binary message for each chunk.

use super::{Claim, Kind, Lost, Microphone, claimed};
use crate::connection::{After, Connection};
use crate::http::{Head, Response};
use crate::state::Listener;
use crate::tls::{TlsStream, is_timeout};
use palabre_room::Format;
use std::io::{self, Write as _};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tungstenite::error::{CapacityError, Error};
use tungstenite::handshake::derive_accept_key;
use tungstenite::protocol::frame::coding::CloseCode;
use tungstenite::protocol::{CloseFrame, Role, WebSocketConfig};
use tungstenite::{Message, WebSocket};

/// The largest message.
const MAX_MESSAGE_BYTES: usize = 64 * 1024;
/// Bytes before the samples of a chunk.
const CHUNK_HEAD_BYTES: usize = 16;
/// Bytes of a sample; the shortest chunk has one.
const SAMPLE_BYTES: usize = 2;
/// The longest chunk.
const MAX_CHUNK_MS: u64 = 200;
/// How often to look around while nothing comes.
const TICK: Duration = Duration::from_millis(100);
/// How often a silent page is pinged, and how long it may be silent: twice that.
const PING_EVERY: Duration = Duration::from_secs(15);
/// What is later than this is old.
const NEWEST_MS: f64 = 300.0;

/// Serves the microphone until either side closes.
///
/// # Errors
/// What the connection says.
pub fn serve(
    connection: &mut Connection,
    head: &Head,
    listener: &Listener,
    microphone: &Arc<Microphone>,
    page: Option<&str>,
) -> io::Result<After> {
    let accept = match accept_key(head) {
        Ok(accept) => accept,
        Err(response) => return connection.answer(head, &response, listener.keeps()),
    };
    let answer = format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {accept}\r\n\r\n"
    );
    connection.stream.write_all(answer.as_bytes())?;
    connection.stream.flush()?;
    let config = WebSocketConfig::default()
        .read_buffer_size(8 * 1024)
        .write_buffer_size(0)
        .max_write_buffer_size(16 * 1024)
        .max_message_size(Some(MAX_MESSAGE_BYTES))
        .max_frame_size(Some(MAX_MESSAGE_BYTES));
    let buffered = connection.take_buffered();
    connection.stream.sock.set_timeout(TICK);
    let mut socket = WebSocket::from_partially_read(&mut connection.stream, buffered, Role::Server, Some(config));
    let end = match microphone.claim(Kind::WebSocket, page) {
        Ok(claim) => claimed(listener, claim, |claim| receive(&mut socket, claim, listener)),
        Err(_) => Some(NEWER_PAGE),
    };
    if let Some(code) = end {
        close(&mut socket, code);
    }
    Ok(After::Close)
}

const NEWER_PAGE: CloseCode = CloseCode::Library(4001);

fn accept_key(head: &Head) -> Result<String, Response> {
    let asks = head.has_token("upgrade", "websocket") && head.has_token("connection", "upgrade");
    if !asks || head.field("sec-websocket-version") != Some("13") {
        let response = Response::text(426, "this address is spoken to by WebSocket, or with POST");
        return Err(response.with("Upgrade", "websocket").with("Sec-WebSocket-Version", "13"));
    }
    // 16 bytes in base64.
    match head.field("sec-websocket-key") {
        Some(key) if key.len() == 24 => Ok(derive_accept_key(key.as_bytes())),
        _ => Err(Response::text(400, "the key of the WebSocket is missing or wrong")),
    }
}

/// Takes chunks until the connection is over; gives the code to close with, unless it is closed already.
fn receive(socket: &mut WebSocket<&mut TlsStream>, claim: &Claim, listener: &Listener) -> Option<CloseCode> {
    let mut lateness = Lateness::default();
    let (mut heard, mut pinged) = (Instant::now(), Instant::now());
    loop {
        let result = socket.read();
        let now = Instant::now();
        match take(result, now, claim, &mut lateness, listener.format) {
            Ok(true) => heard = now,
            Ok(false) => {}
            Err(end) => return end,
        }
        if listener.is_over() {
            return Some(CloseCode::Restart);
        }
        if now - heard > PING_EVERY * 2 {
            return None;
        }
        if now - heard > PING_EVERY && now - pinged > PING_EVERY {
            pinged = now;
            socket.send(Message::Ping(Vec::new().into())).ok()?;
        }
    }
}

/// Takes what was read; whether the page has been heard. An error is the end, with the code to close with if any.
fn take(
    result: Result<Message, Error>,
    now: Instant,
    claim: &Claim,
    lateness: &mut Lateness,
    format: Format,
) -> Result<bool, Option<CloseCode>> {
    let (said, heard) = match result {
        Ok(Message::Binary(bytes)) => {
            let chunk = Chunk::parse(&bytes, format).ok_or(Some(CloseCode::Unsupported))?;
            match lateness.is_old(now, chunk.captured_ms) {
                true => (claim.tick(now), true),
                false => (claim.say_live(now, &chunk.samples), true),
            }
        }
        Ok(Message::Text(_)) => return Err(Some(CloseCode::Unsupported)),
        Ok(_) => (claim.tick(now), true),
        Err(Error::Io(error)) if is_timeout(&error) => (claim.tick(now), false),
        Err(Error::Capacity(CapacityError::MessageTooLong { .. })) => return Err(Some(CloseCode::Size)),
        Err(Error::Protocol(_) | Error::Utf8(_)) => return Err(Some(CloseCode::Protocol)),
        Err(_) => return Err(None),
    };
    match said {
        Ok(()) => Ok(heard),
        Err(Lost::ToAnother) => Err(Some(NEWER_PAGE)),
        Err(Lost::ToItself) => Err(Some(CloseCode::Normal)),
    }
}

/// Says why. The answer of the page is discarded with whatever else is on its way when the connection is closed: after a
/// message that is too large tungstenite must not be asked to read again.
fn close(socket: &mut WebSocket<&mut TlsStream>, code: CloseCode) {
    // The page may be gone: nothing is left to tell it.
    let _ = socket.close(Some(CloseFrame { code, reason: "".into() })).and_then(|()| socket.flush());
}

/// A chunk as the page sends it.
#[derive(Debug, PartialEq)]
struct Chunk {
    number: u32,
    captured_ms: f64,
    samples: Vec<i16>,
}

impl Chunk {
    fn parse(bytes: &[u8], format: Format) -> Option<Self> {
        let (head, body) = bytes.split_at_checked(CHUNK_HEAD_BYTES)?;
        let number = u32::from_le_bytes(head[..4].try_into().ok()?);
        let zero = u32::from_le_bytes(head[4..8].try_into().ok()?);
        let captured_ms = f64::from_le_bytes(head[8..].try_into().ok()?);
        let sizes = SAMPLE_BYTES..=format.bytes_in_ms(MAX_CHUNK_MS);
        if zero != 0 || !captured_ms.is_finite() || body.len() % SAMPLE_BYTES != 0 || !sizes.contains(&body.len()) {
            return None;
        }
        let samples = body.chunks_exact(SAMPLE_BYTES).map(|pair| i16::from_le_bytes([pair[0], pair[1]])).collect();
        Some(Self { number, captured_ms, samples })
    }
}

/// How much later than usual chunks arrive: the network was stalled and now everything comes at once.
///
/// The page's clock is not ours. What is usual is the least difference between the clocks seen in the last 3 to 6 s, so a
/// clock that drifts or is set is followed.
#[derive(Debug, Default)]
struct Lateness {
    window_end: Option<Instant>,
    before: Option<f64>,
    least: Option<f64>,
    start: Option<Instant>,
}

impl Lateness {
    const WINDOW: Duration = Duration::from_secs(3);

    fn is_old(&mut self, now: Instant, captured_ms: f64) -> bool {
        let start = *self.start.get_or_insert(now);
        let difference = (now - start).as_secs_f64() * 1000.0 - captured_ms;
        match self.window_end {
            Some(end) if now < end => {}
            _ => {
                self.window_end = Some(now + Self::WINDOW);
                self.before = self.least.take();
            }
        }
        let least = self.least.map_or(difference, |least| least.min(difference));
        self.least = Some(least);
        let usual = self.before.map_or(least, |before| before.min(least));
        difference - usual > NEWEST_MS
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::protocol_doc::example;

    fn chunk(samples: usize) -> Vec<u8> {
        let mut bytes = vec![0; CHUNK_HEAD_BYTES];
        bytes.resize(CHUNK_HEAD_BYTES + samples * 2, 0);
        bytes
    }

    #[test]
    fn the_documented_chunk_is_understood() {
        let hex = example("hex chunk 7 1000.0 1 -2");
        let bytes: Vec<u8> = hex.split_whitespace().map(|byte| u8::from_str_radix(byte, 16).unwrap()).collect();
        let chunk = Chunk::parse(&bytes, Format::default()).unwrap();
        assert_eq!((chunk.number, chunk.captured_ms, &chunk.samples[..]), (7, 1000.0, &[1, -2][..]));
    }

    #[test]
    fn chunks_of_the_wrong_size_are_refused() {
        let format = Format::default();
        assert!(Chunk::parse(&chunk(1), format).is_some());
        assert!(Chunk::parse(&chunk(4800), format).is_some());
        for bytes in [Vec::new(), vec![0; 15], chunk(0), chunk(4801), chunk(480)[..17].to_vec()] {
            assert!(Chunk::parse(&bytes, format).is_none(), "{}", bytes.len());
        }
        let mut odd = chunk(480);
        odd.push(0);
        assert!(Chunk::parse(&odd, format).is_none());
        let mut reserved = chunk(480);
        reserved[4] = 1;
        assert!(Chunk::parse(&reserved, format).is_none());
        let mut timeless = chunk(480);
        timeless[8..16].copy_from_slice(&f64::NAN.to_le_bytes());
        assert!(Chunk::parse(&timeless, format).is_none());
    }

    #[test]
    fn chunks_that_come_at_once_after_a_stall_are_old_until_the_newest_300_ms() {
        let (mut lateness, start) = (Lateness::default(), Instant::now());
        let at = |ms: u64| start + Duration::from_millis(ms);
        for n in 0..100 {
            assert!(!lateness.is_old(at(n * 20), (n * 20) as f64));
        }
        // A second of nothing, then 50 chunks at once.
        let old: Vec<u64> = (100..150).filter(|n| lateness.is_old(at(2990), (n * 20) as f64)).collect();
        assert_eq!(old, (100..135).collect::<Vec<_>>());
    }

    #[test]
    fn a_page_whose_clock_is_set_back_is_heard_again_within_seconds() {
        let (mut lateness, start) = (Lateness::default(), Instant::now());
        let at = |ms: u64| start + Duration::from_millis(ms);
        (0..200).for_each(|n| assert!(!lateness.is_old(at(n * 20), (n * 20) as f64)));
        let dropped = (200..1000).filter(|n| lateness.is_old(at(n * 20), (n * 20) as f64 - 60_000.0)).count();
        assert!(dropped <= 300, "{dropped}");
    }
}
