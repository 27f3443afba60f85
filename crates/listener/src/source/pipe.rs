//! The pipe `ear`: opened with the first stream, tried again while it can't be had, opened anew when it was replaced.

use palabre_host::backoff::BackOff;
use palabre_host::log_limit::LastWarning;
use palabre_host::wait;
use palabre_room::{Format, OpenError, PipeReader, Successor, pipe_id};
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// First delay between attempts to open the pipe; it doubles with each failure.
const FIRST_DELAY: Duration = Duration::from_millis(20);
/// Maximum delay between attempts to open the pipe.
const LAST_DELAY: Duration = Duration::from_secs(1);
/// How often to try while another process hands the pipe over, and for how long that is taken for a planned restart.
const TAKE_EVERY: Duration = Duration::from_millis(5);
pub const TAKE_PATIENCE: Duration = Duration::from_millis(1500);
/// How often to look whether the pipe is still the one in the directory.
const CHECK_EVERY: Duration = Duration::from_secs(1);
/// The most that is read at once: more than a pipe holds.
const MOST_SAMPLES: usize = 64 * 1024;

/// The pipe, or the wish to have it.
#[derive(Debug)]
pub struct PipeSource {
    path: PathBuf,
    format: Format,
    state: State,
    backoff: BackOff,
    next: Instant,
    last_warning: LastWarning,
    /// Since when another process is expected to hand the pipe over, and whether it just has.
    waits_since: Option<Instant>,
    took_over: bool,
}

#[derive(Debug)]
enum State {
    Closed,
    /// Another process still holds the lock. What is in the pipe stays there as long as this exists.
    Waiting(Successor),
    Open(PipeReader),
}

impl PipeSource {
    /// The pipe at `path`, or the wish for it.
    pub fn new(path: PathBuf, format: Format) -> Self {
        let now = Instant::now();
        let (state, backoff) = (State::Closed, BackOff::new(FIRST_DELAY, LAST_DELAY));
        let mut source = Self {
            path,
            format,
            state,
            backoff,
            next: now,
            last_warning: LastWarning::default(),
            waits_since: None,
            took_over: false,
        };
        source.open(now);
        source
    }

    /// See [`super::Source::is_taking_over`].
    pub fn is_taking_over(&self) -> bool {
        matches!(self.state, State::Waiting(_)) && self.waits_since.is_some_and(|since| since.elapsed() < TAKE_PATIENCE)
    }

    /// See [`super::Source::has_taken_over`].
    pub fn has_taken_over(&mut self) -> bool {
        std::mem::take(&mut self.took_over)
    }

    /// See [`super::Source::is_awaited`].
    pub fn is_awaited(&self) -> bool {
        matches!(&self.state, State::Open(reader) if reader.is_awaited())
    }

    /// See [`super::Source::read`].
    pub fn read(&mut self, until: Instant, out: &mut Vec<i16>) {
        let now = Instant::now();
        if now >= self.next {
            self.look_after_it(now);
        }
        let left = until.min(self.next).saturating_duration_since(now);
        let State::Open(reader) = &mut self.state else {
            std::thread::sleep(left);
            return;
        };
        let left = reader.stray_deadline().map_or(left, |stray| left.min(stray.saturating_duration_since(now)));
        let result = wait::is_readable(reader, left).and_then(|_| reader.read(Instant::now(), out, MOST_SAMPLES));
        if let Err(error) = result {
            self.complain(&format!("unable to read '{}': {error}", self.path.display()));
            self.close(Instant::now());
        }
    }

    fn look_after_it(&mut self, now: Instant) {
        match std::mem::replace(&mut self.state, State::Closed) {
            State::Open(reader) => {
                self.next = now + CHECK_EVERY;
                // A pipe that was replaced gives nothing any more: the mixer writes to the new one.
                if pipe_id(&self.path).is_ok_and(|id| id == reader.id()) {
                    self.state = State::Open(reader);
                } else {
                    self.open(now);
                }
            }
            State::Waiting(successor) => match successor.take() {
                Ok(reader) => {
                    self.took_over = self.waits_since.is_some_and(|since| now - since < TAKE_PATIENCE);
                    self.opened(reader, now);
                }
                Err((successor, error)) => self.postpone(State::Waiting(successor), &error, now),
            },
            State::Closed => self.open(now),
        }
    }

    fn open(&mut self, now: Instant) {
        match PipeReader::succeed(&self.path, self.format) {
            Err(error) => self.postpone(State::Closed, &error, now),
            Ok(successor) => match successor.take() {
                Ok(mut reader) => {
                    discard(&mut reader);
                    self.opened(reader, now);
                }
                Err((successor, error)) => self.postpone(State::Waiting(successor), &error, now),
            },
        }
    }

    fn opened(&mut self, reader: PipeReader, now: Instant) {
        if reader.size_refused() {
            log::warn!(
                "unable to set the size of '{}': the sound may be late; raise fs.pipe-user-pages-soft",
                self.path.display()
            );
        }
        if self.last_warning.clear() {
            log::info!("'{}' is open now", self.path.display());
        }
        self.waits_since = None;
        self.backoff.reset();
        self.next = now + CHECK_EVERY;
        self.state = State::Open(reader);
    }

    fn postpone(&mut self, state: State, error: &OpenError, now: Instant) {
        // A lock that is held for a moment is a planned restart and nobody's worry.
        if matches!(error, OpenError::Taken(_)) && now - *self.waits_since.get_or_insert(now) < TAKE_PATIENCE {
            self.state = state;
            self.next = now + TAKE_EVERY;
            return;
        }
        let delay = self.backoff.delay();
        if !matches!(error, OpenError::Taken(_)) || delay == LAST_DELAY {
            self.complain(&error.to_string());
        }
        self.state = state;
        self.next = now + delay;
    }

    fn close(&mut self, now: Instant) {
        self.state = State::Closed;
        self.next = now + self.backoff.delay();
    }

    fn complain(&mut self, what: &str) {
        if let Some(what) = self.last_warning.unless_repeated(what.to_owned()) {
            log::warn!("{what}; the streams are silent until it is there");
        }
    }
}

/// What was in the pipe before anybody listened is stale.
fn discard(reader: &mut PipeReader) {
    let mut stale = Vec::new();
    let _ = reader.read(Instant::now(), &mut stale, MOST_SAMPLES);
}
