//! The pipe `ear` as the source of sound. A replaced pipe is opened again. While the pipe is missing or locked, opening it is retried.

use palabre_host::backoff::BackOff;
use palabre_host::log_limit::LastWarning;
use palabre_room::{EarFrames, Format, OpenError, PIPE_MS, ParticipantDir, PipeReader, Successor, file_id};
use std::os::fd::{AsFd as _, BorrowedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// First delay between attempts to open the pipe; it doubles with each failure.
const FIRST_DELAY: Duration = Duration::from_millis(20);
/// Maximum delay between attempts to open the pipe.
const MAX_DELAY: Duration = Duration::from_secs(1);
/// Interval between attempts while the previous process is expected to close the pipe.
const TAKE_INTERVAL: Duration = Duration::from_millis(5);
/// Maximum time for which a locked pipe counts as a handover. The previous process closes the pipe within a shorter time.
pub(crate) const TAKE_TIMEOUT: Duration = Duration::from_millis(1500);
/// Minimum interval between checks whether the open pipe has been replaced in the directory.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);
/// Maximum delay of the check whether the open pipe was replaced. The check is done with the next event that wakes the thread, or after this delay.
const CHECK_DELAY: Duration = Duration::from_secs(2);
/// Maximum number of samples read at a time. A pipe holds fewer.
const MAX_SAMPLES: usize = 128 * 1024;

/// The pipe `ear` as the source of sound.
#[derive(Debug)]
pub(crate) struct PipeSource {
    participant: ParticipantDir,
    path: PathBuf,
    format: Format,
    /// Number of frames that the mixer is asked to write at once.
    writes: EarFrames,
    state: State,
    backoff: BackOff,
    /// The time of the next check whether the pipe was replaced, or of the next attempt to open it.
    next: Instant,
    last_warning: LastWarning,
}

#[derive(Debug)]
enum State {
    Closed,
    /// Another process has the lock of the pipe, and had it already at this instant. The [`Successor`] keeps the pipe open, so its samples
    /// are not lost.
    Requested(Successor, Instant),
    Open(PipeReader),
}

impl PipeSource {
    pub(super) fn new(participant: ParticipantDir, format: Format, writes: EarFrames) -> Self {
        let writes = possible(&participant.ear(), format, writes);
        let (now, backoff) = (Instant::now(), BackOff::new(FIRST_DELAY, MAX_DELAY));
        let last_warning = LastWarning::default();
        let (path, state) = (participant.ear(), State::Closed);
        let mut source = Self { participant, path, format, writes, state, backoff, next: now, last_warning };
        source.open(now);
        source
    }

    /// See [`super::Source::writes`].
    pub(super) fn writes(&self) -> EarFrames {
        self.writes
    }

    /// See [`super::Source::is_taking_over`].
    pub(super) fn is_taking_over(&self) -> bool {
        matches!(&self.state, State::Requested(_, since) if since.elapsed() < TAKE_TIMEOUT)
    }

    /// See [`super::Source::is_requested`].
    pub(super) fn is_requested(&self) -> bool {
        matches!(&self.state, State::Open(reader) if reader.is_awaited())
    }

    /// See [`super::Source::fd`].
    pub(super) fn fd(&self) -> Option<BorrowedFd<'_>> {
        match &self.state {
            State::Open(reader) => Some(reader.as_fd()),
            State::Closed | State::Requested(..) => None,
        }
    }

    /// See [`super::Source::due`].
    pub(super) fn due(&self) -> Instant {
        match &self.state {
            State::Open(reader) => reader.stray_deadline().unwrap_or(self.next + CHECK_DELAY),
            State::Closed | State::Requested(..) => self.next,
        }
    }

    /// See [`super::Source::read`].
    pub(super) fn read(&mut self, now: Instant, out: &mut Vec<i16>) -> bool {
        let taken_over = now >= self.next && self.look_after(now);
        if let State::Open(reader) = &mut self.state
            && let Err(error) = reader.read(now, out, MAX_SAMPLES)
        {
            self.warn(format!("unable to read '{}': {error}", self.path.display()));
            self.state = State::Closed;
            self.next = now + self.backoff.delay();
        }
        taken_over
    }

    /// Checks whether the pipe was replaced, or tries to open it. Returns whether this process has just taken over the pipe from the
    /// previous process.
    fn look_after(&mut self, now: Instant) -> bool {
        match std::mem::replace(&mut self.state, State::Closed) {
            State::Open(reader) => {
                self.next = now + CHECK_INTERVAL;
                // If the pipe in the directory was replaced, open the new pipe: the mixer writes only into the new one.
                if file_id(&self.path).is_ok_and(|id| id == reader.id()) {
                    self.state = State::Open(reader);
                } else {
                    self.open(now);
                }
                false
            }
            State::Requested(successor, since) => match successor.take() {
                Ok(reader) => {
                    self.opened(reader, now);
                    now.saturating_duration_since(since) < TAKE_TIMEOUT
                }
                Err((successor, error)) => {
                    self.requested(successor, since, &error, now);
                    false
                }
            },
            State::Closed => {
                self.open(now);
                false
            }
        }
    }

    fn open(&mut self, now: Instant) {
        // An error does no harm: if the file `ear-frames` can't be written, the mixer writes single frames.
        let _ = self.participant.set_ear_frames(self.writes);
        match PipeReader::succeed_with(&self.path, self.format, self.writes) {
            Err(error) => {
                self.warn(error.to_string());
                self.next = now + self.backoff.delay();
            }
            Ok(successor) => match successor.take() {
                Ok(mut reader) => {
                    discard(&mut reader);
                    self.opened(reader, now);
                }
                Err((successor, error)) => self.requested(successor, now, &error, now),
            },
        }
    }

    fn opened(&mut self, reader: PipeReader, now: Instant) {
        let path = self.path.display();
        if reader.size_refused() {
            log::warn!(
                "unable to set the size of the pipe '{path}', so the sound may have gaps; raise the limit fs.pipe-user-pages-soft"
            );
        }
        if self.last_warning.clear() {
            log::info!("opened '{path}' after earlier failures");
        }
        self.backoff.reset();
        self.next = now + CHECK_INTERVAL;
        self.state = State::Open(reader);
    }

    fn requested(&mut self, successor: Successor, since: Instant, error: &OpenError, now: Instant) {
        self.state = State::Requested(successor, since);
        let is_locked = matches!(error, OpenError::Taken(_));
        // During a planned restart the lock is held only for a moment, so this is not an error yet.
        if is_locked && now.saturating_duration_since(since) < TAKE_TIMEOUT {
            self.next = now + TAKE_INTERVAL;
            return;
        }
        let delay = self.backoff.delay();
        if !is_locked || delay == MAX_DELAY {
            self.warn(error.to_string());
        }
        self.next = now + delay;
    }

    fn warn(&mut self, what: String) {
        if let Some(what) = self.last_warning.unless_repeated(what) {
            log::warn!("{what}; streams are silent until the sound source can be read");
        }
    }
}

/// Returns `writes`, or a smaller number if the kernel doesn't permit a pipe that holds two such writes.
fn possible(path: &Path, format: Format, writes: EarFrames) -> EarFrames {
    let smaller = writes.within(PIPE_MS);
    let is_possible = || PipeReader::succeed_with(path, format, writes).is_ok_and(|pipe| pipe.set_size());
    if writes == smaller || is_possible() { writes } else { smaller }
}

/// Discards the samples that were written to the pipe before the first stream began.
fn discard(reader: &mut PipeReader) {
    let mut stale = Vec::new();
    let _ = reader.read(Instant::now(), &mut stale, MAX_SAMPLES);
}
