//! Writes the sound of a body to the microphone at the request's pace.

use super::body::{Abort, LEAVING, POLL_INTERVAL, TimedBody, read_failed, superseded};
use super::sound::Sound;
use crate::http::Response;
use crate::mic::MicLease;
use crate::state::Listener;
use std::io::{self, Read as _};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Maximum delay of a recording behind real time. If the client sends later than that, the schedule of the rest starts again at the current
/// time.
const DELAY_MAX: Duration = Duration::from_millis(60);
/// Maximum duration in seconds of the samples in one request of a page.
const MAX_QUEUE_S: u64 = 10;
/// Number of bytes to read and convert at a time.
const READ_BYTES: usize = 4096;

/// The pace at which the samples of a body are written to the microphone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pace {
    /// A request body with a known length: a recording. Its samples are written to the microphone in real time, one frame every 20 ms, and the response is sent after the last sample.
    RealTime,
    /// A live WAV without a known length. Samples are written when they arrive; samples that are too old are dropped.
    Live,
    /// The samples that a page has queued. They are written as with [`Pace::Live`], and the response is 204.
    PageQueue,
}

/// Writes samples to the microphone at the request's pace.
pub(super) struct PacedWriter {
    lease: Arc<MicLease>,
    pace: Pace,
    rate_hz: u32,
    /// The start of playback, if the samples written so far are played in real time and without a pause. They end at `start` plus their duration.
    start: Option<Instant>,
    /// Number of samples written.
    written: u64,
}

impl PacedWriter {
    /// Returns a writer that has written nothing.
    pub(super) fn new(lease: Arc<MicLease>, pace: Pace, rate_hz: u32) -> Self {
        Self { lease, pace, rate_hz, start: None, written: 0 }
    }

    /// Writes the sound of a body until its end. Returns its duration in seconds.
    pub(super) fn write_all(mut self, body: &mut TimedBody<'_>, mut sound: Sound) -> Result<f64, Abort> {
        let mut bytes = [0; READ_BYTES];
        let mut samples = Vec::new();
        loop {
            self.write_decoded(&mut sound, &mut samples, body)?;
            let count = match body.read(&mut bytes) {
                Ok(count) => count,
                // The client disconnected. Write the samples that have arrived.
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => 0,
                Err(error) => return Err(read_failed(error)),
            };
            if count == 0 {
                sound.finish(&mut samples);
                self.write(&samples, true, body.listener)?;
                self.wait_until_played(body.listener)?;
                return Ok(self.written as f64 / f64::from(self.rate_hz));
            }
            sound.push(&bytes[..count]);
        }
    }

    /// Decodes the bytes that have arrived, one part after another, and writes the samples.
    fn write_decoded(
        &mut self,
        sound: &mut Sound,
        samples: &mut Vec<i16>,
        body: &mut TimedBody<'_>,
    ) -> Result<(), Abort> {
        loop {
            let before = sound.decoded_samples();
            let is_complete = !sound.decode(samples)?;
            // Decoded samples that are not written to the microphone need as much CPU time as others, so they count too.
            let decoded = sound.decoded_samples() - before;
            let written = self.write(samples, false, body.listener)?;
            samples.drain(..written);
            if decoded > 0 {
                let wait = self.lease.decoded(Instant::now(), decoded as usize);
                self.wait_until(Instant::now() + wait, body.listener)?;
            }
            body.heard = Instant::now();
            if is_complete {
                return Ok(());
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
            self.wait(remaining, listener)?;
        }
    }

    fn wait_until(&self, end: Instant, listener: &Listener) -> Result<(), Abort> {
        loop {
            let remaining = end.saturating_duration_since(Instant::now());
            if remaining.is_zero() {
                return Ok(());
            }
            self.wait(remaining, listener)?;
        }
    }

    /// Waits for at most [`POLL_INTERVAL`].
    fn wait(&self, remaining: Duration, listener: &Listener) -> Result<(), Abort> {
        if listener.is_over() {
            return Err(read_failed(LEAVING.into()));
        }
        std::thread::sleep(remaining.min(POLL_INTERVAL));
        self.lease.flush(Instant::now()).map_err(superseded)
    }
}
