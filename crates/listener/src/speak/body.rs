//! The body of a request to `/speak` by POST or PUT. A read fails after a timeout, when this process ends, or when a newer source takes the
//! microphone. The client then gets a response with the reason.

use crate::http::{Body, Response};
use crate::mic::{MicLease, Superseded};
use crate::state::Listener;
use crate::tls::{TlsStream, is_timeout};
use std::io::{self, Read};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Timeout for receiving the next bytes of a body.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);
/// Interval between checks, while no bytes arrive, whether this process ends or another source has taken the microphone.
pub(super) const POLL_INTERVAL: Duration = Duration::from_millis(100);

/// The reason why receiving a body ended early.
pub(super) enum Abort {
    /// The request is refused with this response.
    Answer(Response),
    /// The connection failed.
    Connection(io::Error),
}

pub(super) fn superseded(_: Superseded) -> Abort {
    Abort::Answer(Response::text(409, "another page or a program now sends this participant's sound"))
}

pub(super) fn read_failed(error: io::Error) -> Abort {
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
pub(super) struct TimedBody<'a> {
    pub(super) body: Body<'a, TlsStream>,
    pub(super) lease: Option<Arc<MicLease>>,
    pub(super) listener: &'a Listener,
    /// The time when the client last sent bytes or, if later, when these bytes had been written to the microphone. [`BODY_TIMEOUT`] counts from it.
    pub(super) heard: Instant,
}

/// The kind of the error with which a read fails because this process ends. It isn't `Interrupted`, after which `read_exact` would read again.
pub(super) const LEAVING: io::ErrorKind = io::ErrorKind::NotConnected;

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
