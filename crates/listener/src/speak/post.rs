//! Receives sound as a WAV by POST or PUT: a recording, a live WAV without an end, or the samples that a page has queued.

use crate::connection::{After, Connection};
use crate::http::body::Framing;
use crate::http::{Body, Head, Response};
use crate::mic::{MicLease, MicWriter, Superseded, Uplink};
use crate::state::Listener;
use crate::tls::{TlsStream, is_timeout};
use palabre_sound::convert::Converter;
use palabre_sound::wav::{self, WavError};
use std::io::{self, Read, Write as _};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Timeout for receiving the next bytes of a body.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);
/// Interval between checks, while no bytes arrive, whether this process ends or another source has taken the microphone.
const POLL_INTERVAL: Duration = Duration::from_millis(100);
/// Maximum delay of a recording behind real time. If the client sends later than that, the schedule of the rest starts again at the current
/// time.
const DELAY_MAX: Duration = Duration::from_millis(60);
/// Maximum duration in seconds of the samples in one request of a page.
const MAX_QUEUE_S: u64 = 10;
/// Number of bytes to read and convert at a time.
const READ_BYTES: usize = 4096;

/// The pace at which the samples of a body are written to the microphone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Pace {
    /// A recording with a known length. It is written in real time, one frame every 20 ms, and the response is sent after the last sample.
    RealTime,
    /// A live WAV without a known length. Samples are written when they arrive; samples that are too old are dropped.
    Live,
    /// The samples that a page has queued. They are written as with [`Pace::Live`], and the response is 204.
    PageQueue,
}

/// Writes the body of a request to the microphone and answers the request.
pub(crate) fn serve(
    connection: &mut Connection,
    head: &Head,
    listener: &Listener,
    mic: &Arc<MicWriter>,
    page: Option<&str>,
) -> io::Result<After> {
    let framing = match framing(head, page) {
        Ok(framing) => framing,
        Err(response) => return connection.answer(head, &response, false),
    };
    let pace = match (page, framing) {
        (Some(_), _) => Pace::PageQueue,
        (None, Framing::Length(_)) => Pace::RealTime,
        (None, Framing::Chunked) => Pace::Live,
    };
    if head.has_token("expect", "100-continue") {
        connection.stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
        connection.stream.flush()?;
    }
    connection.stream.sock.set_timeout(POLL_INTERVAL);
    let mut body = TimedBody { body: connection.body(framing), lease: None, listener, heard: Instant::now() };
    let result = receive(&mut body, mic, pace, page);
    // End the source before the client gets the response.
    body.lease = None;
    let keep = body.body.is_done() && listener.keeps() && head.keeps_alive();
    let response = match result {
        Ok(_) if pace == Pace::PageQueue => Response::new(204),
        Ok(seconds) => Response::text(200, format_args!("played {seconds:.2} s")),
        Err(Abort::Answer(response)) => response,
        Err(Abort::Connection(error)) => return Err(error),
    };
    response.write(&mut connection.stream, false, keep)?;
    Ok(if keep { After::Keep } else { After::Close })
}

/// The reason why receiving a body ended early.
enum Abort {
    /// The request is refused with this response.
    Answer(Response),
    /// The connection failed.
    Connection(io::Error),
}

fn framing(head: &Head, page: Option<&str>) -> Result<Framing, Response> {
    let framing = Framing::of(head)?;
    let has_length = head.field("content-length").is_some() || framing == Framing::Chunked;
    if !has_length {
        return Err(Response::text(411, "the request needs a 'Content-Length' field or 'Transfer-Encoding: chunked'"));
    }
    if head.field("expect").is_some() && !head.has_token("expect", "100-continue") {
        return Err(Response::text(417, "the only supported value of the field 'Expect' is '100-continue'"));
    }
    // A page waits for each response, so requests need no ordering by their capture times. The check finds faults in pages.
    let time = head.parameter("t").map(str::parse::<f64>);
    if page.is_some() && !matches!(time, Some(Ok(time)) if time.is_finite()) {
        return Err(Response::text(400, "the parameter 't' must be the capture time of the first sample in ms"));
    }
    Ok(framing)
}

/// Writes the samples in the body to the microphone. Returns their duration in seconds.
fn receive(body: &mut TimedBody<'_>, mic: &Arc<MicWriter>, pace: Pace, page: Option<&str>) -> Result<f64, Abort> {
    let head = wav::Head::read(body).map_err(invalid_wav)?;
    let rate_hz = mic.format().rate.hz();
    let converter = Converter::new(&head, rate_hz).map_err(invalid_wav)?;
    let uplink = if page.is_some() { Uplink::PageQueue } else { Uplink::Program };
    let lease = mic.acquire(uplink, page).map_err(superseded)?;
    body.lease = Some(Arc::clone(&lease));
    let mut writer = PacedWriter { lease, pace, rate_hz, start: None, written: 0 };
    writer.write_all(body, converter)?;
    Ok(writer.written as f64 / f64::from(rate_hz))
}

fn invalid_wav(error: WavError) -> Abort {
    match error {
        WavError::Empty => Abort::Answer(Response::text(400, "the request body is empty")),
        WavError::Truncated => Abort::Answer(Response::text(400, "the WAV ends within its header")),
        WavError::Io(error) => read_failed(error),
        error => Abort::Answer(Response::text(415, error)),
    }
}

fn superseded(_: Superseded) -> Abort {
    Abort::Answer(Response::text(409, "another page or a program has taken the microphone"))
}

fn read_failed(error: io::Error) -> Abort {
    match error.kind() {
        io::ErrorKind::TimedOut => {
            Abort::Answer(Response::text(408, "timeout: no data of the request body arrived for 10 s"))
        }
        io::ErrorKind::InvalidData => Abort::Answer(Response::text(400, error)),
        io::ErrorKind::ResourceBusy => superseded(Superseded::ByOther),
        LEAVING => Abort::Answer(Response::text(503, "the server is being restarted; send the request again")),
        _ => Abort::Connection(error),
    }
}

/// A body whose reads fail after [`BODY_TIMEOUT`], when this process ends, and when a newer source takes the microphone.
struct TimedBody<'a> {
    body: Body<'a, TlsStream>,
    lease: Option<Arc<MicLease>>,
    listener: &'a Listener,
    /// The time when the client last sent bytes, or when these bytes had been written to the microphone. [`BODY_TIMEOUT`] counts from it.
    heard: Instant,
}

/// The kind of the read error while this process ends. It isn't `Interrupted`, after which `read_exact` would read again.
const LEAVING: io::ErrorKind = io::ErrorKind::NotConnected;

impl Read for TimedBody<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.body.read(out) {
                Ok(count) => {
                    self.heard = Instant::now();
                    return Ok(count);
                }
                Err(error) if is_timeout(&error) => {}
                Err(error) => return Err(error),
            }
            let now = Instant::now();
            if self.listener.is_over() {
                return Err(LEAVING.into());
            }
            if self.lease.as_ref().is_some_and(|lease| lease.flush(now).is_err()) {
                return Err(io::ErrorKind::ResourceBusy.into());
            }
            if now - self.heard > BODY_TIMEOUT {
                return Err(io::ErrorKind::TimedOut.into());
            }
        }
    }
}

/// Writes samples to the microphone at the request's pace.
struct PacedWriter {
    lease: Arc<MicLease>,
    pace: Pace,
    rate_hz: u32,
    /// The start time of an uninterrupted playback in real time that has played the samples written so far.
    start: Option<Instant>,
    /// Number of samples written.
    written: u64,
}

impl PacedWriter {
    fn write_all(&mut self, body: &mut TimedBody<'_>, mut converter: Converter) -> Result<(), Abort> {
        let mut bytes = [0; READ_BYTES];
        let mut samples = Vec::new();
        loop {
            let count = match body.read(&mut bytes) {
                Ok(count) => count,
                // The client disconnected. Write the samples that have arrived.
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => 0,
                Err(error) => return Err(read_failed(error)),
            };
            match count {
                0 => converter.finish(&mut samples),
                _ => converter.push(&bytes[..count], &mut samples),
            }
            let written = self.write(&samples, count == 0, body.listener)?;
            samples.drain(..written);
            body.heard = Instant::now();
            if count == 0 {
                return self.wait_until_played(body.listener);
            }
        }
    }

    /// Writes the samples. Returns how many were written.
    fn write(&mut self, samples: &[i16], is_end: bool, listener: &Listener) -> Result<usize, Abort> {
        match self.pace {
            Pace::RealTime => {
                // The mixer takes a frame at each tick. If samples came in other amounts, the mixer's jitter buffer would hold a different amount
                // at each tick, and would run empty at the smallest delay.
                let frame_samples = (self.rate_hz / 50) as usize;
                let whole = if is_end { samples.len() } else { samples.len() / frame_samples * frame_samples };
                for frame in samples[..whole].chunks(frame_samples) {
                    self.wait_until_played(listener)?;
                    self.lease.write_paced(Instant::now(), frame).map_err(superseded)?;
                    self.written += frame.len() as u64;
                }
                Ok(whole)
            }
            Pace::Live | Pace::PageQueue => {
                self.written += samples.len() as u64;
                if self.pace == Pace::PageQueue && self.written > u64::from(self.rate_hz) * MAX_QUEUE_S {
                    return Err(Abort::Answer(Response::text(
                        413,
                        "the body is too long: a page may send at most 10 s of sound in one request",
                    )));
                }
                self.lease.write_live(Instant::now(), samples).map_err(superseded)?;
                Ok(samples.len())
            }
        }
    }

    /// Waits until all written samples have been played. Returns at once unless the pace is real time.
    fn wait_until_played(&mut self, listener: &Listener) -> Result<(), Abort> {
        if self.pace != Pace::RealTime {
            return Ok(());
        }
        let duration = Duration::from_micros(self.written * 1_000_000 / u64::from(self.rate_hz));
        loop {
            let now = Instant::now();
            let start = *self.start.get_or_insert(now);
            let end = start + duration;
            if end + DELAY_MAX < now {
                // The client sends more slowly than real time. The next samples are played from now on.
                self.start = now.checked_sub(duration);
            }
            let remaining = end.saturating_duration_since(now);
            if remaining.is_zero() {
                return Ok(());
            }
            if listener.is_over() {
                return Err(read_failed(LEAVING.into()));
            }
            std::thread::sleep(remaining.min(POLL_INTERVAL));
            self.lease.flush(Instant::now()).map_err(superseded)?;
        }
    }
}
