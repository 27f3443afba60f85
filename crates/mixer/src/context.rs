//! What every part of the daemon needs of the kernel: what to wait for, what is watched, and a log with a limit.

use std::fmt::Arguments;
use std::time::Duration;

use palabre_host::log_limit::{LastWarning, LogLimit};

use crate::clock::{Clock, Now};
use crate::poller::Poller;
use crate::watcher::Watcher;

/// Handed to whoever opens or closes something.
#[derive(Debug)]
pub struct Context {
    pub poller: Poller,
    pub watcher: Watcher,
    clock: Clock,
    /// When the loop last woke up.
    pub now: Now,
    /// The time that the present tick, or the last one, is for.
    pub tick_at: Duration,
    warnings: LogLimit,
}

impl Context {
    /// # Errors
    /// Those of epoll_create1(2), inotify_init1(2) and clock_gettime(2).
    pub fn new() -> std::io::Result<Self> {
        let clock = Clock::new()?;
        let now = clock.now();
        Ok(Self {
            poller: Poller::new()?,
            watcher: Watcher::new()?,
            clock,
            now,
            tick_at: now.since_boot,
            warnings: LogLimit::new(2.0, 20.0),
        })
    }

    /// Looks at the clock.
    pub fn wake(&mut self) {
        self.now = self.clock.now();
    }

    /// Logs a warning, unless there are too many.
    pub fn warn(&mut self, text: Arguments<'_>) {
        self.warnings.log(log::Level::Warn, self.now.instant, text);
    }
}

/// The last complaint about one thing, so that each is said once and not at every try.
#[derive(Clone, Debug, Default)]
pub struct Complaint(LastWarning);

impl Complaint {
    /// Warns, unless this was the last thing that was said.
    pub fn say(&mut self, cx: &mut Context, text: String) {
        if let Some(text) = self.0.unless_repeated(text) {
            cx.warn(format_args!("{text}"));
        }
    }

    /// All is well again; gives whether it was not.
    pub fn clear(&mut self) -> bool {
        self.0.clear()
    }
}
