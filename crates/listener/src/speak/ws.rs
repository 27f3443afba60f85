//! Receives sound from a page by WebSocket (RFC 6455). Each chunk is one binary message.

use super::chunk::{self, Chunk, Sound};
use crate::connection::{After, Connection};
use crate::http::{Head, Response};
use crate::mic::{MicLease, MicWriter, Superseded, Uplink};
use crate::opus_in::OpusError;
use crate::state::Listener;
use crate::tls::{TlsStream, is_timeout};
use palabre_room::Format;
use std::io::{self, Write as _};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tungstenite::error::{CapacityError, Error};
use tungstenite::handshake::derive_accept_key;
use tungstenite::protocol::frame::coding::CloseCode;
use tungstenite::protocol::{CloseFrame, Role};
use tungstenite::{Message, WebSocket};

/// Interval between checks, while no messages arrive, whether this process ends or another source has taken the microphone.
const POLL_INTERVAL: Duration = Duration::from_millis(100);
/// Interval between pings to a page that sends nothing. If the page has sent nothing for twice this time, the connection is closed.
const PING_INTERVAL: Duration = Duration::from_secs(15);
/// Minimum interval between acknowledgements.
const ACK_INTERVAL: Duration = Duration::from_millis(100);
/// Maximum lateness of a chunk in ms. Chunks with more lateness are dropped.
const MAX_LATENESS_MS: f64 = 300.0;

/// Opens the WebSocket and receives chunks until the page or this process closes it. If the page's sound is for another room, closes the WebSocket at
/// once.
pub(crate) fn serve(
    connection: &mut Connection,
    head: &Head,
    listener: &Listener,
    mic: &Arc<MicWriter>,
    page: Option<&str>,
    is_for_another_room: bool,
) -> io::Result<After> {
    let accept = match accept_key(head) {
        Ok(accept) => accept,
        Err(response) => return connection.answer(head, &response, listener.keeps()),
    };
    let response = format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {accept}\r\n\r\n"
    );
    connection.stream.write_all(response.as_bytes())?;
    connection.stream.flush()?;
    let buffered = connection.take_buffered();
    connection.stream.sock.set_timeout(POLL_INTERVAL);
    let mut socket =
        WebSocket::from_partially_read(&mut connection.stream, buffered, Role::Server, Some(chunk::limits()));
    let end = match mic_for(mic, page, is_for_another_room) {
        Ok(lease) => receive(&mut socket, &lease, listener),
        Err(code) => Some(code),
    };
    if let Some(code) = end {
        close(&mut socket, code);
    }
    Ok(After::Close)
}

/// Close code that tells the page that another page or a program has taken the microphone.
const NEWER_PAGE: CloseCode = CloseCode::Library(4001);
/// Close code that tells the page that the participant is in another room.
const OTHER_ROOM: CloseCode = CloseCode::Library(4002);

fn mic_for(mic: &Arc<MicWriter>, page: Option<&str>, is_for_another_room: bool) -> Result<Arc<MicLease>, CloseCode> {
    if is_for_another_room {
        return Err(OTHER_ROOM);
    }
    mic.acquire(Uplink::WebSocket, page).map_err(|_| NEWER_PAGE)
}

fn accept_key(head: &Head) -> Result<String, Response> {
    let is_upgrade = head.has_token("upgrade", "websocket") && head.has_token("connection", "upgrade");
    if !is_upgrade || head.field("sec-websocket-version") != Some("13") {
        let response = Response::text(426, "'/speak' needs a WebSocket upgrade (version 13) or a POST request");
        return Err(response.with("Upgrade", "websocket").with("Sec-WebSocket-Version", "13"));
    }
    // The field 'Sec-WebSocket-Key' has 16 bytes in base64, so 24 characters: RFC 6455 §4.1.
    match head.field("sec-websocket-key") {
        Some(key) if key.len() == 24 => Ok(derive_accept_key(key.as_bytes())),
        _ => Err(Response::text(400, "'Sec-WebSocket-Key' is missing or invalid")),
    }
}

/// Receives chunks until the WebSocket must be closed. Returns the close code, or `None` if the connection is broken or timed out.
fn receive(socket: &mut WebSocket<&mut TlsStream>, lease: &MicLease, listener: &Listener) -> Option<CloseCode> {
    let mut arrivals = Arrivals::default();
    let (mut last_heard, mut last_ping) = (Instant::now(), Instant::now());
    loop {
        let result = socket.read();
        let now = Instant::now();
        match handle(result, now, lease, &mut arrivals, listener.format) {
            Ok(true) => last_heard = now,
            Ok(false) => {}
            Err(end) => return end,
        }
        if listener.is_over() {
            return Some(CloseCode::Restart);
        }
        if let Some(number) = arrivals.acknowledgement(now) {
            socket.send(Message::Binary(number.to_le_bytes().to_vec().into())).ok()?;
        }
        if now - last_heard > PING_INTERVAL * 2 {
            return None;
        }
        if now - last_heard > PING_INTERVAL && now - last_ping > PING_INTERVAL {
            last_ping = now;
            socket.send(Message::Ping(Vec::new().into())).ok()?;
        }
    }
}

/// Handles the result of a read. Returns whether the page has sent a message. An error ends the connection; it contains the close code to
/// send, if any.
fn handle(
    result: Result<Message, Error>,
    now: Instant,
    lease: &MicLease,
    arrivals: &mut Arrivals,
    format: Format,
) -> Result<bool, Option<CloseCode>> {
    let (written, is_heard) = match result {
        Ok(Message::Binary(bytes)) => {
            let chunk = Chunk::parse(&bytes, format).ok_or(Some(CloseCode::Unsupported))?;
            arrivals.newest = Some(chunk.number);
            match arrivals.stalls.is_late(now, chunk.captured_ms) {
                true => (lease.flush(now), true),
                false => (write(lease, now, chunk.sound)?, true),
            }
        }
        Ok(Message::Text(_)) => return Err(Some(CloseCode::Unsupported)),
        Ok(_) => (lease.flush(now), true),
        Err(Error::Io(error)) if is_timeout(&error) => (lease.flush(now), false),
        Err(Error::Capacity(CapacityError::MessageTooLong { .. })) => return Err(Some(CloseCode::Size)),
        Err(Error::Protocol(_) | Error::Utf8(_)) => return Err(Some(CloseCode::Protocol)),
        Err(_) => return Err(None),
    };
    match written {
        Ok(()) => Ok(is_heard),
        Err(Superseded::ByOther) => Err(Some(NEWER_PAGE)),
        Err(Superseded::BySamePage) => Err(Some(CloseCode::Normal)),
    }
}

/// Writes the sound of a chunk to the microphone. An error contains the close code to send. Drops packets that arrive faster than real time.
fn write(lease: &MicLease, now: Instant, sound: Sound<'_>) -> Result<Result<(), Superseded>, Option<CloseCode>> {
    lease.note_codec(sound.codec());
    let samples = match sound {
        Sound::Samples(samples) => samples,
        Sound::Packets(packets) => match lease.decode(now, &packets) {
            Ok(samples) => samples,
            Err(OpusError::TooFast) => Vec::new(),
            Err(error) => {
                log::debug!("closing the page's WebSocket: {error}");
                return Err(Some(CloseCode::Unsupported));
            }
        },
    };
    Ok(lease.write_live(now, &samples))
}

/// Sends a close frame with this code. The page's answer is not read, because tungstenite must not read after a message that is too long.
fn close(socket: &mut WebSocket<&mut TlsStream>, code: CloseCode) {
    // An error means that the page has disconnected. It is ignored.
    let _ = socket.close(Some(CloseFrame { code, reason: "".into() })).and_then(|()| socket.flush());
}

/// The chunks of a connection.
#[derive(Debug, Default)]
struct Arrivals {
    stalls: StallDetector,
    /// Number of the newest chunk that has not been acknowledged.
    newest: Option<u32>,
    acknowledged: Option<Instant>,
}

impl Arrivals {
    /// Returns the number of the newest chunk if it is time to acknowledge it.
    fn acknowledgement(&mut self, now: Instant) -> Option<u32> {
        if self.acknowledged.is_some_and(|last| now < last + ACK_INTERVAL) {
            return None;
        }
        let number = self.newest.take()?;
        self.acknowledged = Some(now);
        Some(number)
    }
}

/// Detects chunks that are late because the network stalled. After a stall they arrive in one burst.
///
/// The page's clock differs from this machine's clock. The lateness of a chunk is the difference between its arrival and capture times,
/// minus the smallest such difference in the last 3 to 6 s. So the detector follows a clock that drifts.
///
/// After a stall of the network, late chunks arrive faster than they were captured, and lateness shrinks. If chunks with a lateness above
/// [`Self::SUSPECT_MS`] arrive at the pace at which they were captured, the network isn't the cause: the page's clock was set back, or the page's
/// sound card stood still. Then the detector measures the smallest difference anew.
#[derive(Debug, Default)]
struct StallDetector {
    window_end: Option<Instant>,
    /// Smallest difference of arrival and capture time in the previous window, in ms.
    previous_min: Option<f64>,
    /// Smallest difference of arrival and capture time in the current window, in ms.
    current_min: Option<f64>,
    /// The first of the last chunks that all had a lateness above [`Self::SUSPECT_MS`]: its time of arrival, and its difference of arrival
    /// and capture time in ms.
    first_suspect: Option<(Instant, f64)>,
    start: Option<Instant>,
}

impl StallDetector {
    const WINDOW: Duration = Duration::from_secs(3);
    /// Minimum lateness of a chunk from which on the page's clock may be the cause. It is less than [`MAX_LATENESS_MS`], because otherwise
    /// jitter alone would decide which chunks are dropped after the clock has changed by nearly that limit.
    const SUSPECT_MS: f64 = 100.0;
    /// Minimum time between the arrivals of the first and the last of several chunks later than [`Self::SUSPECT_MS`], to measure their pace.
    const PACE_TIME: Duration = Duration::from_millis(100);

    fn is_late(&mut self, now: Instant, captured_ms: f64) -> bool {
        let start = *self.start.get_or_insert(now);
        let difference = (now - start).as_secs_f64() * 1000.0 - captured_ms;
        match self.window_end {
            Some(end) if now < end => {}
            _ => {
                self.window_end = Some(now + Self::WINDOW);
                self.previous_min = self.current_min.take();
            }
        }
        let current = self.current_min.map_or(difference, |min| min.min(difference));
        self.current_min = Some(current);
        let reference = self.previous_min.map_or(current, |previous| previous.min(current));
        if difference - reference <= Self::SUSPECT_MS {
            self.first_suspect = None;
            return false;
        }
        if self.clock_has_jumped(now, difference) {
            (self.previous_min, self.current_min, self.first_suspect) = (None, Some(difference), None);
            return false;
        }
        difference - reference > MAX_LATENESS_MS
    }

    /// Returns whether the suspect chunks arrive at less than 1.5 times the pace of their capture.
    fn clock_has_jumped(&mut self, now: Instant, difference: f64) -> bool {
        let (since, first) = *self.first_suspect.get_or_insert((now, difference));
        let elapsed = now - since;
        elapsed >= Self::PACE_TIME && 2.0 * (first - difference) < elapsed.as_secs_f64() * 1000.0
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn newest_chunk_is_acknowledged_every_100_ms() {
        let (mut arrivals, start) = (Arrivals::default(), Instant::now());
        let mut sent = Vec::new();
        for number in 0..10 {
            arrivals.newest = Some(number);
            sent.extend(arrivals.acknowledgement(start + Duration::from_millis(40 * u64::from(number))));
        }
        assert_eq!(sent, [0, 3, 6, 9]);
        assert_eq!(arrivals.acknowledgement(start + Duration::from_secs(9)), None);
        assert_eq!(7_u32.to_le_bytes().to_vec(), crate::protocol_doc::hex("hex acknowledgement 7"));
    }

    #[test]
    fn burst_after_a_stall_is_late_except_for_its_last_300_ms() {
        let (mut stalls, start) = (StallDetector::default(), Instant::now());
        let at = |ms: u64| start + Duration::from_millis(ms);
        for n in 0..100 {
            assert!(!stalls.is_late(at(n * 20), (n * 20) as f64));
        }
        // In this test, 50 chunks arrive at once after a stall of one second.
        let late: Vec<u64> = (100..150).filter(|n| stalls.is_late(at(2990), (n * 20) as f64)).collect();
        assert_eq!(late, (100..135).collect::<Vec<_>>());
    }

    /// Returns the milliseconds of sound that are dropped of 10 s in chunks of 40 ms, if after 5 s the capture times lag by `lag_ms` and the chunk
    /// `n` arrives `delay_ms(n)` after its end.
    fn dropped_ms(lag_ms: u64, delay_ms: impl Fn(u64) -> u64) -> u64 {
        let (mut stalls, start) = (StallDetector::default(), Instant::now());
        let is_late = |n: &u64| {
            let (end, lag) = (40 * n, if *n < 125 { 0 } else { lag_ms });
            stalls.is_late(start + Duration::from_millis(end + delay_ms(*n)), (end as f64) - (lag as f64))
        };
        40 * (0..250).filter(is_late).count() as u64
    }

    #[test]
    fn page_whose_clock_is_set_back_or_stood_still_is_heard_after_150_ms() {
        for lag_ms in (0..700).step_by(10).chain([3_000, 60_000, 86_400_000]) {
            assert!(dropped_ms(lag_ms, |_| 0) <= 150, "a lag of {lag_ms} ms");
            assert!(dropped_ms(lag_ms, |n| 13 * n % 30) <= 150, "a lag of {lag_ms} ms with jitter");
            // These delays are those of a sound card with a long buffer, which delivers two chunks at a time.
            assert!(dropped_ms(lag_ms, |n| 40 * (n % 2)) <= 200, "a lag of {lag_ms} ms in pairs");
        }
    }

    #[test]
    fn chunks_of_a_stall_that_arrive_at_twice_their_pace_are_late() {
        // In this test, after a stall of 2 s, the lateness shrinks by 20 ms with each chunk, and 86 chunks are more than 300 ms late.
        assert_eq!(dropped_ms(0, |n| if n < 125 { 0 } else { 2010_u64.saturating_sub(20 * (n - 125)) }), 40 * 86);
    }
}
