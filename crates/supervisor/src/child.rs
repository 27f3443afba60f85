//! A listener process as a child of the supervisor or of the launcher.

use std::io;
use std::process::ExitStatus;

use palabre_host::process::OurChild;
use palabre_launcher::{Signal, Start};

use crate::config::Config;
use crate::launcher::{Launched, News};

/// A listener process that was started and has not been reaped.
#[derive(Debug)]
pub(crate) enum Child {
    /// A child of the supervisor.
    Own(OurChild),
    /// A child of the launcher.
    Launched(Launched),
}

impl Child {
    /// Starts a listener. Fails with `NotConnected` if the launcher doesn't answer.
    pub(crate) fn start(config: &Config, start: Start<'_>) -> io::Result<Self> {
        match &config.launcher {
            Some(launcher) => Ok(Self::Launched(Launched::new(launcher.start(&start)?, launcher))),
            None => Ok(Self::Own(OurChild::of(&start.spawn(&config.directories())?))),
        }
    }

    /// Takes over a listener of the supervisor's previous program. Returns `None` if it has ended, or has no parent that reports its end.
    pub(crate) fn restore(config: &Config, pid: u32, is_launched: bool) -> Option<Self> {
        match is_launched {
            true => {
                let launcher = config.launcher.as_ref().filter(|launcher| launcher.is_connected())?;
                Some(Self::Launched(Launched::new(pid, launcher)))
            }
            false => OurChild::adopt(pid).map(Self::Own),
        }
    }

    /// Returns the process id.
    pub(crate) fn id(&self) -> u32 {
        match self {
            Self::Own(child) => child.id(),
            Self::Launched(child) => child.pid(),
        }
    }

    /// Returns whether this is a child of the launcher.
    pub(crate) fn is_launched(&self) -> bool {
        matches!(self, Self::Launched(_))
    }

    /// Sends a signal. Succeeds if the process has ended but was not reaped.
    pub(crate) fn signal(&self, signal: Signal) -> io::Result<()> {
        match (self, signal) {
            (Self::Launched(child), signal) => child.signal(signal),
            (Self::Own(child), Signal::Terminate) => child.terminate(),
            (Self::Own(child), Signal::Kill) => child.kill(),
            (Self::Own(child), Signal::HangUp) => child.hang_up(),
            (Self::Own(child), Signal::HandOver) => child.hand_over(),
            (Self::Own(child), Signal::Dismiss) => child.dismiss(),
        }
    }

    /// Notes whether a child of the supervisor has ended. Call this after SIGCHLD.
    pub(crate) fn note_end(&mut self) {
        if let Self::Own(child) = self {
            child.note_end();
        }
    }

    /// Notes whether a child of the launcher has ended.
    pub(crate) fn note_news(&mut self, news: &News) {
        if let Self::Launched(child) = self {
            child.note_end(news);
        }
    }

    /// Returns the exit status if the end of the process was noted. Afterwards the kernel may give the process id to another process.
    pub(crate) fn reap(&self) -> io::Result<Option<ExitStatus>> {
        match self {
            Self::Own(child) => child.reap(),
            Self::Launched(child) => Ok(child.ended()),
        }
    }
}
