//! One process of `palabre-listener`: how it is started, what it said, how it ended.

use std::fmt;
use std::io;
use std::net::TcpListener;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use palabre_config::Entrance;
use palabre_host::process::OurChild;
use palabre_host::stamp::FileStamp;
use palabre_host::{notify, sockets};
use palabre_room::Name;

use crate::estate::ProcessEstate;
use crate::site::Site;

/// EX_CONFIG of sysexits(3): the listener says that another try is of no use.
const EXIT_CONFIG: i32 = 78;

/// A process that was started and not yet waited for.
#[derive(Debug)]
pub struct Process {
    child: OurChild,
    /// The file of its program when it was started.
    pub program: Option<FileStamp>,
    /// Which configuration it was started with, see [`crate::seat::Seat`].
    pub generation: u64,
    ready_since: Option<Instant>,
    kill_at: Option<Instant>,
}

impl Process {
    /// Starts a listener that serves on `socket`, and kills it if it isn't ready within `patience`.
    ///
    /// It gets standard input from nowhere, our standard output and error, the socket as descriptor 3 and nothing
    /// else. It is in a process group of its own, so a Ctrl-C at a terminal reaches only us.
    pub fn start(site: &Site, name: &Name, socket: &TcpListener, plan: Plan) -> io::Result<Self> {
        let mut command = Command::new(&site.listener);
        command.arg(name.as_str()).arg("--config").arg(&site.config).arg("--run").arg(&site.run);
        command.arg("--parent-pid").arg(std::process::id().to_string());
        if let Some(entrance) = plan.entrance {
            command.arg("--entered").arg(entrance.to_string());
        }
        command.stdin(Stdio::null()).process_group(0);
        notify::for_child(&mut command, &site.notify_socket());
        sockets::give(&mut command, socket)?;
        // Looked at before: should it be replaced meanwhile, the process is taken for the older one.
        let program = FileStamp::of(&site.listener);
        let child = OurChild::of(&command.spawn()?);
        let kill_at = Some(plan.now + plan.patience);
        Ok(Self { child, program, generation: plan.generation, ready_since: None, kill_at })
    }

    /// One that the program before us has started. `None` where it is no child of ours.
    pub fn adopt(left: &ProcessEstate, plan: Plan) -> Option<Self> {
        let ready_since = left.ready_for_ms.and_then(|ms| plan.now.checked_sub(Duration::from_millis(ms)));
        Some(Self {
            child: OurChild::adopt(left.pid)?,
            program: left.program,
            generation: plan.generation,
            ready_since,
            kill_at: left.ready_for_ms.is_none().then_some(plan.now + plan.patience),
        })
    }

    /// What the program after us must know of it.
    pub fn leave_behind(&self, now: Instant) -> ProcessEstate {
        let ready_for_ms = self.ready_for(now).map(|time| u64::try_from(time.as_millis()).unwrap_or(u64::MAX));
        ProcessEstate { pid: self.pid(), program: self.program, ready_for_ms }
    }

    /// The process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// It said READY=1.
    pub fn became_ready(&mut self, now: Instant) {
        self.ready_since = Some(now);
        self.kill_at = None;
    }

    /// Whether it ever said READY=1.
    pub fn is_ready(&self) -> bool {
        self.ready_since.is_some()
    }

    /// How long it has been ready, if ever.
    pub fn ready_for(&self, now: Instant) -> Option<Duration> {
        self.ready_since.map(|since| now.saturating_duration_since(since))
    }

    /// Asks it to leave, and kills it if it is still there after `patience`.
    pub fn leave(&mut self, now: Instant, patience: Duration) {
        if let Err(error) = self.child.terminate() {
            log::warn!("unable to terminate process {}: {error}", self.pid());
        }
        self.kill_at = Some(now + patience);
    }

    /// Asks it to leave to another process that is ready, and kills it if it is still there after `patience`.
    pub fn hand_over(&mut self, now: Instant, patience: Duration) {
        if let Err(error) = self.child.hand_over() {
            log::warn!("unable to signal process {}: {error}", self.pid());
        }
        self.kill_at = Some(now + patience);
    }

    /// Kills it. How it ended is seen later, by [`Self::ended`].
    pub fn kill(&mut self) {
        self.kill_at = None;
        if let Err(error) = self.child.kill() {
            log::warn!("unable to kill process {}: {error}", self.pid());
        }
    }

    /// Has it read the certificate again.
    pub fn hang_up(&self) {
        if let Err(error) = self.child.hang_up() {
            log::warn!("unable to signal process {}: {error}", self.pid());
        }
    }

    /// When it will be killed, if nothing happens before.
    pub fn deadline(&self) -> Option<Instant> {
        self.kill_at
    }

    /// Kills it if its time is over.
    pub fn kill_if_due(&mut self, now: Instant) {
        if self.kill_at.is_some_and(|at| at <= now) {
            self.kill();
        }
    }

    /// How it ended, if it has. The process id is no longer its own after that.
    pub fn ended(&mut self) -> Option<Ended> {
        match self.child.try_wait() {
            Ok(status) => status.map(Ended::Exited),
            Err(error) => Some(Ended::Unknown(error.to_string())),
        }
    }
}

/// With what a process is started.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    /// Which configuration.
    pub generation: u64,
    /// When.
    pub now: Instant,
    /// How long it may take to say READY=1.
    pub patience: Duration,
    /// Who has used the link, where it opens once.
    pub entrance: Option<Entrance>,
}

/// Why there is no process any more, in words by `Display`.
#[derive(Debug)]
pub enum Ended {
    /// What wait(2) says.
    Exited(ExitStatus),
    /// wait(2) failed: somebody else has waited for it.
    Unknown(String),
    /// Its port could not be opened.
    PortTaken(String),
    /// It never ran.
    NotStarted(String),
}

impl Ended {
    /// Whether it says itself that another try is of no use.
    pub fn is_configuration(&self) -> bool {
        matches!(self, Self::Exited(status) if status.code() == Some(EXIT_CONFIG))
    }
}

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exited(status) => match (status.code(), status.signal()) {
                (Some(code), _) => write!(f, "exit code {code}"),
                (None, Some(signal)) => write!(f, "killed by signal {signal}"),
                (None, None) => write!(f, "{status}"),
            },
            Self::Unknown(cause) => write!(f, "unable to learn how it ended: {cause}"),
            Self::PortTaken(cause) | Self::NotStarted(cause) => f.write_str(cause),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_is_told_in_words() {
        assert_eq!(Ended::Exited(ExitStatus::from_raw(9)).to_string(), "killed by signal 9");
        assert_eq!(Ended::Exited(ExitStatus::from_raw(78 << 8)).to_string(), "exit code 78");
        assert!(Ended::Exited(ExitStatus::from_raw(78 << 8)).is_configuration());
        assert!(!Ended::Exited(ExitStatus::from_raw(9)).is_configuration());
    }
}
