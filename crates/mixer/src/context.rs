//! State that all parts of the mixer share: poller, inotify, file writer, current time and rate-limited log.

use std::fmt::Arguments;
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::errno::Errno;

pub(crate) use palabre_host::log_limit::LastWarning;
use palabre_host::log_limit::LogLimit;

use crate::clock::{Clock, Now};
use crate::file_writer::FileWriter;
use crate::poller::Poller;
use crate::watcher::{Target, Watch, Watcher};

/// Number of descriptors that the participants' pipes leave free. The mixer needs them to notify the service manager that it is ready,
/// for text files such as `gains` and `levels`, for restarts and for WAV files.
const RESERVED_DESCRIPTORS: u64 = 16;

#[derive(Debug)]
pub(crate) struct Context {
    pub(crate) poller: Poller,
    pub(crate) watcher: Watcher,
    pub(crate) file_writer: FileWriter,
    /// Directory of WAV files. A `mic` or an `ear` may be a symbolic link to a file in this directory; other symbolic links are not followed.
    /// `None`: no symbolic links are followed.
    files: Option<PathBuf>,
    clock: Clock,
    /// Time at which the event loop last woke up.
    pub(crate) now: Now,
    /// Deadline of the current tick.
    pub(crate) tick_at: Duration,
    /// Number of the current tick.
    pub(crate) tick: u64,
    warnings: LogLimit,
    /// Maximum number of open descriptors.
    max_descriptors: u64,
}

impl Context {
    pub(crate) fn new(files: Option<PathBuf>, max_descriptors: u64) -> io::Result<Self> {
        let clock = Clock::new()?;
        let now = clock.now();
        Ok(Self {
            poller: Poller::new()?,
            watcher: Watcher::new()?,
            file_writer: FileWriter::new(clock)?,
            files,
            clock,
            now,
            tick_at: now.since_boot,
            tick: 0,
            warnings: LogLimit::new(2.0, 20.0),
            max_descriptors,
        })
    }

    /// Sets [`Self::now`] to the current time. Call it after each wake-up.
    pub(crate) fn wake(&mut self) {
        self.now = self.clock.now();
    }

    /// Returns the path of the file to open as a `mic` or an `ear`. If `path` is a symbolic link to a regular file in the directory of `--files`, returns
    /// that file, otherwise `path`.
    pub(crate) fn resolve(&self, path: &Path) -> PathBuf {
        palabre_room::target_in(self.files.as_deref(), path)
    }

    /// Watches the directory at `path`. Returns `None` if the directory was removed meanwhile, or if it can't be watched, which is logged.
    pub(crate) fn watch(&mut self, path: &Path, target: Target) -> Option<Watch> {
        match self.watcher.add(path, target) {
            Ok(watch) => Some(watch),
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => None,
            Err(error) => {
                self.warn(format_args!("unable to watch '{}': {error}", path.display()));
                None
            }
        }
    }

    /// Converts an instant to the time since boot.
    pub(crate) fn since_boot(&self, instant: Instant) -> Duration {
        self.clock.since_boot(instant)
    }

    /// Fails if `pipe` has one of the last descriptors, which are reserved. The kernel gives the lowest free descriptor: open(2).
    pub(crate) fn keep_reserve(&self, pipe: &impl AsFd) -> io::Result<()> {
        let number = u64::try_from(pipe.as_fd().as_raw_fd()).unwrap_or_default();
        if number + RESERVED_DESCRIPTORS >= self.max_descriptors {
            return Err(Errno::EMFILE.into());
        }
        Ok(())
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
