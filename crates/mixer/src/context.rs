//! State that all parts of the mixer share: poller, inotify, file writer, current time and rate-limited log.

use std::fmt::Arguments;
use std::time::{Duration, Instant};

pub(crate) use palabre_host::log_limit::LastWarning;
use palabre_host::log_limit::LogLimit;

use crate::clock::{Clock, Now};
use crate::file_writer::FileWriter;
use crate::poller::Poller;
use crate::watcher::Watcher;

#[derive(Debug)]
pub(crate) struct Context {
    pub(crate) poller: Poller,
    pub(crate) watcher: Watcher,
    pub(crate) file_writer: FileWriter,
    clock: Clock,
    /// Time at which the event loop last woke up.
    pub(crate) now: Now,
    /// Deadline of the current tick.
    pub(crate) tick_at: Duration,
    warnings: LogLimit,
}

impl Context {
    pub(crate) fn new() -> std::io::Result<Self> {
        let clock = Clock::new()?;
        let now = clock.now();
        Ok(Self {
            poller: Poller::new()?,
            watcher: Watcher::new()?,
            file_writer: FileWriter::new(clock)?,
            clock,
            now,
            tick_at: now.since_boot,
            warnings: LogLimit::new(2.0, 20.0),
        })
    }

    /// Sets [`Self::now`] to the current time. Call it after each wake-up.
    pub(crate) fn wake(&mut self) {
        self.now = self.clock.now();
    }

    /// Converts an instant to the time since boot.
    pub(crate) fn since_boot(&self, instant: Instant) -> Duration {
        self.clock.since_boot(instant)
    }

    /// Logs a warning, within the rate limit.
    pub(crate) fn warn(&mut self, text: Arguments<'_>) {
        self.warnings.log(log::Level::Warn, self.now.instant, text);
    }

    /// Logs a warning about one file, unless its text is the same as `last_warning`, the last one about this file.
    pub(crate) fn warn_if_new(&mut self, last_warning: &mut LastWarning, text: String) {
        if let Some(text) = last_warning.unless_repeated(text) {
            self.warn(format_args!("{text}"));
        }
    }
}
