//! The microphone as a WAV by POST or PUT: a piece to be played, a live one without end, or a page's queue.

use super::{Claim, Kind, Lost, Microphone, claimed};
use crate::connection::{After, Connection};
use crate::http::body::Framing;
use crate::http::{Body, Head, Response};
use crate::state::Listener;
use crate::tls::{TlsStream, is_timeout};
use palabre_sound::convert::Converter;
use palabre_sound::wav::{self, WavError};
use std::io::{self, Read, Write as _};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long a body may pause.
const IDLE: Duration = Duration::from_secs(10);
/// How often to look around while nothing comes.
const TICK: Duration = Duration::from_millis(100);
/// How far ahead of real time a piece is written, so that the mixer never waits for it.
const LEAD: Duration = Duration::from_millis(60);
/// The longest queue that a page may send at once.
const MAX_QUEUE_S: u64 = 10;
/// Bytes that are read and converted at once.
const READ_BYTES: usize = 4096;

/// How the samples of a body are said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Manner {
    /// At the pace of real time, answered when all is said.
    Piece,
    /// At once, dropping what is too old.
    Live,
    /// The same, of a page, answered at once.
    Queue,
}

/// Serves one body.
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
    let framing = match framing(head, page) {
        Ok(framing) => framing,
        Err(response) => return connection.answer(head, &response, false),
    };
    let manner = match (page, framing) {
        (Some(_), _) => Manner::Queue,
        (None, Framing::Length(_)) => Manner::Piece,
        (None, Framing::Chunked) => Manner::Live,
    };
    if head.has_token("expect", "100-continue") {
        connection.stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
        connection.stream.flush()?;
    }
    connection.stream.sock.set_timeout(TICK);
    let mut body = Patient { body: connection.body(framing), claim: None, listener, since: Instant::now() };
    let result = speak(&mut body, microphone, manner, page, listener);
    let keep = body.body.is_done() && listener.keeps() && head.keeps_alive();
    let response = match result {
        Ok(_) if manner == Manner::Queue => Response::new(204),
        Ok(seconds) => Response::text(200, format_args!("said {seconds:.2} s")),
        Err(End::Answer(response)) => response,
        Err(End::Connection(error)) => return Err(error),
    };
    response.write(&mut connection.stream, false, keep)?;
    Ok(if keep { After::Keep } else { After::Close })
}

/// Why speaking ended early.
enum End {
    /// The client is to be told this.
    Answer(Response),
    /// There is nobody to tell.
    Connection(io::Error),
}

fn framing(head: &Head, page: Option<&str>) -> Result<Framing, Response> {
    let framing = Framing::of(head)?;
    let announced = head.field("content-length").is_some() || framing == Framing::Chunked;
    if !announced {
        return Err(Response::text(411, "the length of the body is missing; or send it chunked"));
    }
    if head.field("expect").is_some() && !head.has_token("expect", "100-continue") {
        return Err(Response::text(417, "only 100-continue can be expected"));
    }
    // The time of capture orders nothing here, since a page has one request in flight, but a page that counts wrong is told.
    let time = head.parameter("t").map(str::parse::<f64>);
    if page.is_some() && !matches!(time, Some(Ok(time)) if time.is_finite()) {
        return Err(Response::text(400, "'t' must be the time of the first sample in ms"));
    }
    Ok(framing)
}

/// Says the body and gives how many seconds that were.
fn speak(
    body: &mut Patient<'_>,
    microphone: &Arc<Microphone>,
    manner: Manner,
    page: Option<&str>,
    listener: &Listener,
) -> Result<f64, End> {
    let head = wav::Head::read(body).map_err(not_a_wav)?;
    let converter = Converter::new(&head, microphone.format().rate.hz()).map_err(not_a_wav)?;
    let kind = if page.is_some() { Kind::Queue } else { Kind::Program };
    let claim = microphone.claim(kind, page).map_err(lost)?;
    body.claim = Some(Arc::clone(&claim));
    claimed(listener, claim, |claim| {
        let mut mouth = Mouth { claim, manner, rate_hz: microphone.format().rate.hz(), start: None, said: 0 };
        let result = mouth.say_all(body, converter);
        // The body's own hold on the microphone ends with this source.
        body.claim = None;
        result.map(|()| mouth.said as f64 / f64::from(mouth.rate_hz))
    })
}

fn not_a_wav(error: WavError) -> End {
    match error {
        WavError::Empty => End::Answer(Response::text(400, "the body is empty")),
        WavError::Truncated => End::Answer(Response::text(400, "the WAV ends within its head")),
        WavError::Io(error) => broken(error),
        error => End::Answer(Response::text(415, error)),
    }
}

fn lost(_: Lost) -> End {
    End::Answer(Response::text(409, "a newer page has taken the microphone"))
}

fn broken(error: io::Error) -> End {
    match error.kind() {
        io::ErrorKind::TimedOut => End::Answer(Response::text(408, "nothing came for 10 s")),
        io::ErrorKind::InvalidData => End::Answer(Response::text(400, error)),
        io::ErrorKind::ResourceBusy => lost(Lost::ToAnother),
        LEAVING => End::Answer(Response::text(503, "this process is being replaced; send it again")),
        _ => End::Connection(error),
    }
}

/// A body that waits 10 s for more, looks around meanwhile, and ends when the microphone is lost.
struct Patient<'a> {
    body: Body<'a, TlsStream>,
    claim: Option<Arc<Claim>>,
    listener: &'a Listener,
    since: Instant,
}

/// Left on purpose; unlike `Interrupted` it isn't retried by `read_exact`.
const LEAVING: io::ErrorKind = io::ErrorKind::NotConnected;

impl Read for Patient<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.body.read(out) {
                Ok(count) => {
                    self.since = Instant::now();
                    return Ok(count);
                }
                Err(error) if is_timeout(&error) => {}
                Err(error) => return Err(error),
            }
            let now = Instant::now();
            if self.listener.is_over() {
                return Err(LEAVING.into());
            }
            if self.claim.as_ref().is_some_and(|claim| claim.tick(now).is_err()) {
                return Err(io::ErrorKind::ResourceBusy.into());
            }
            if now - self.since > IDLE {
                return Err(io::ErrorKind::TimedOut.into());
            }
        }
    }
}

/// Says samples in the manner of the request.
struct Mouth<'a> {
    claim: &'a Claim,
    manner: Manner,
    rate_hz: u32,
    start: Option<Instant>,
    said: u64,
}

impl Mouth<'_> {
    fn say_all(&mut self, body: &mut Patient<'_>, mut converter: Converter) -> Result<(), End> {
        let mut bytes = [0; READ_BYTES];
        let mut samples = Vec::new();
        loop {
            let count = match body.read(&mut bytes) {
                Ok(count) => count,
                // A client that leaves in the middle has said what it said.
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => 0,
                Err(error) => return Err(broken(error)),
            };
            match count {
                0 => converter.finish(&mut samples),
                _ => converter.push(&bytes[..count], &mut samples),
            }
            self.say(&samples, body.listener)?;
            body.since = Instant::now();
            samples.clear();
            if count == 0 {
                return self.wait_until_said(Duration::ZERO, body.listener);
            }
        }
    }

    fn say(&mut self, samples: &[i16], listener: &Listener) -> Result<(), End> {
        match self.manner {
            Manner::Piece => {
                for frame in samples.chunks((self.rate_hz / 50) as usize) {
                    self.wait_until_said(LEAD, listener)?;
                    self.claim.say(Instant::now(), frame).map_err(lost)?;
                    self.said += frame.len() as u64;
                }
                Ok(())
            }
            Manner::Live | Manner::Queue => {
                self.said += samples.len() as u64;
                if self.manner == Manner::Queue && self.said > u64::from(self.rate_hz) * MAX_QUEUE_S {
                    return Err(End::Answer(Response::text(413, "a page's queue has at most 10 s")));
                }
                self.claim.say_live(Instant::now(), samples).map_err(lost)
            }
        }
    }

    /// Waits until what was written is said but for `lead`. Others are live and don't wait.
    fn wait_until_said(&mut self, lead: Duration, listener: &Listener) -> Result<(), End> {
        if self.manner != Manner::Piece {
            return Ok(());
        }
        let lasts = Duration::from_micros(self.said * 1_000_000 / u64::from(self.rate_hz));
        loop {
            let now = Instant::now();
            let start = *self.start.get_or_insert(now);
            let end = start + lasts;
            if end + LEAD < now {
                // The client is slower than real time: its clock starts again here.
                self.start = now.checked_sub(lasts);
            }
            let left = end.saturating_duration_since(now + lead);
            if left.is_zero() {
                return Ok(());
            }
            if listener.is_over() {
                return Err(broken(LEAVING.into()));
            }
            std::thread::sleep(left.min(TICK));
            self.claim.tick(Instant::now()).map_err(lost)?;
        }
    }
}
