//! One listener process: its start, its readiness, the signals to it, and its exit.

use std::fmt;
use std::io;
use std::net::TcpListener;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::time::{Duration, Instant};

use palabre_config::{Entrance, ListenerSettings, Participant};
use palabre_host::inherit::Inherited;
use palabre_host::packet::Packet;
use palabre_host::stamp::FileStamp;
use palabre_launcher::{Given, Signal, Start};

use crate::child::Child;
use crate::config::Config;
use crate::end::End;
use crate::launcher::News;
use crate::saved::{self, SavedProcess};

/// Exit code for an invalid configuration (EX_CONFIG of sysexits(3)). A restart would fail in the same way.
const EXIT_CONFIG: i32 = 78;

/// A listener process that was started and has not been reaped.
#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
    /// Stamp of the listener's program file at the start of the process.
    pub(crate) program: Option<FileStamp>,
    /// Number of the configuration that the process was started with; see [`crate::service::Service`].
    pub(crate) generation: u64,
    /// Number of the server's settings that the process was started with; `None` if the supervisor's previous program
    /// started the process with other settings.
    pub(crate) settings: Option<u64>,
    /// The last status text of the process that is not a report: why the process is about to exit.
    pub(crate) last_words: Option<String>,
    /// The signer's end of the listener's connection to the signer. `None` for a listener of an earlier release, which reads the key itself.
    pub(crate) signer: Option<End>,
    ready_since: Option<Instant>,
    kill_at: Option<Instant>,
}

impl Process {
    /// Starts a listener that serves the participant on `socket`. Fails with `NotConnected` if the launcher doesn't answer.
    pub(crate) fn start(
        config: &Config,
        participant: &Participant,
        socket: &TcpListener,
        options: StartOptions,
    ) -> io::Result<Self> {
        let (signer, of_listener) = Packet::pair()?;
        let cookie_key = config.cookie_key(&participant.name)?;
        let settings = ListenerSettings { participant: participant.clone(), cookie_key };
        let given = Given::new(&settings, socket, of_listener)?;
        // Read the stamp before the start. If the program file is replaced in between, the process counts as running the older program.
        let program = FileStamp::of(&config.listener);
        let child = Child::start(config, Start { name: &participant.name, entered: options.entrance, given })?;
        let kill_at = Some(options.now + options.timeout);
        Ok(Self {
            child,
            program,
            generation: options.generation,
            settings: Some(config.settings),
            last_words: None,
            signer: Some(End::new(signer)),
            ready_since: None,
            kill_at,
        })
    }

    /// Takes over a listener that the supervisor's previous program started. Returns `None` if the process has
    /// ended and was reaped.
    pub(crate) fn restore(
        config: &Config,
        saved: &SavedProcess,
        inherited: &mut Inherited,
        settings: Option<u64>,
        options: StartOptions,
    ) -> Option<Self> {
        let ready_since = saved.ready_for_ms.and_then(|ms| options.now.checked_sub(Duration::from_millis(ms)));
        Some(Self {
            child: Child::restore(config, saved.pid, saved.is_launched)?,
            program: saved.program,
            generation: options.generation,
            settings,
            last_words: None,
            signer: inherited.packet(&saved::end(saved.pid)).map(End::restored),
            ready_since,
            kill_at: saved.ready_for_ms.is_none().then_some(options.now + options.timeout),
        })
    }

    /// Returns the state of the process for the supervisor's next program.
    pub(crate) fn save(&self, now: Instant) -> SavedProcess {
        let ready_for_ms = self.ready_for(now).map(|time| u64::try_from(time.as_millis()).unwrap_or(u64::MAX));
        SavedProcess { pid: self.pid(), program: self.program, ready_for_ms, is_launched: self.child.is_launched() }
    }

    /// Returns the process id.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Notes that the process has sent READY=1.
    pub(crate) fn became_ready(&mut self, now: Instant) {
        self.ready_since = Some(now);
        self.kill_at = None;
    }

    /// Whether the process has sent READY=1.
    pub(crate) fn is_ready(&self) -> bool {
        self.ready_since.is_some()
    }

    /// Returns the time since the process became ready.
    pub(crate) fn ready_for(&self, now: Instant) -> Option<Duration> {
        self.ready_since.map(|since| now.saturating_duration_since(since))
    }

    /// Sends SIGTERM. If the process has not ended after `timeout`, it is killed.
    pub(crate) fn terminate(&mut self, now: Instant, timeout: Duration) {
        if let Err(error) = self.child.signal(Signal::Terminate) {
            log::warn!(
                "unable to terminate listener process {}: {error}; the supervisor kills it in {} ms",
                self.pid(),
                timeout.as_millis()
            );
        }
        self.kill_at = Some(now + timeout);
    }

    /// Makes the process hand its port over to the next process, which is ready. If the process has not ended after `timeout`, it is killed.
    pub(crate) fn hand_over(&mut self, now: Instant, timeout: Duration) {
        if let Err(error) = self.child.signal(Signal::HandOver) {
            log::warn!("unable to ask listener process {} to hand its port over (SIGUSR1): {error}", self.pid());
        }
        self.kill_at = Some(now + timeout);
    }

    /// Makes the process tell its pages that the participant was removed, and end. If it has not ended after `timeout`, it is killed.
    pub(crate) fn dismiss(&mut self, now: Instant, timeout: Duration) {
        if let Err(error) = self.child.signal(Signal::Dismiss) {
            log::warn!(
                "unable to tell listener process {} that its participant was removed (SIGUSR2): {error}",
                self.pid()
            );
        }
        self.kill_at = Some(now + timeout);
    }

    /// Sends SIGKILL. [`Self::exit`] returns the exit status later.
    pub(crate) fn kill(&mut self) {
        self.kill_at = None;
        if let Err(error) = self.child.signal(Signal::Kill) {
            log::warn!("unable to kill listener process {}: {error}", self.pid());
        }
    }

    /// Makes the process read the certificate again.
    pub(crate) fn hang_up(&self) {
        if let Err(error) = self.child.signal(Signal::HangUp) {
            log::warn!("unable to send SIGHUP to listener process {}: {error}", self.pid());
        }
    }

    /// Returns the time at which to call [`Self::kill_if_due`], if the process has a timeout.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.kill_at
    }

    /// Kills the process if its timeout has passed.
    pub(crate) fn kill_if_due(&mut self, now: Instant) {
        if self.kill_at.is_some_and(|at| at <= now) {
            self.kill();
        }
    }

    /// Notes whether the process has ended, if it is a child of the supervisor. Call this after SIGCHLD.
    pub(crate) fn note_end(&mut self) {
        self.child.note_end();
    }

    /// Notes whether the process has ended, if it is a child of the launcher.
    pub(crate) fn note_news(&mut self, news: &News) {
        self.child.note_news(news);
    }

    /// Reaps the process if its end was noted, and returns how it ended. Afterwards the kernel may give the process id to another process.
    pub(crate) fn exit(&mut self) -> Option<Exit> {
        match self.child.reap() {
            Ok(status) => status.map(|status| Exit::Exited { status, last_words: self.last_words.take() }),
            Err(error) => Some(Exit::Unknown(error.to_string())),
        }
    }
}

/// Options for starting a listener process.
#[derive(Debug, Clone, Copy)]
pub(crate) struct StartOptions {
    /// Number of the configuration.
    pub(crate) generation: u64,
    /// Time of the start.
    pub(crate) now: Instant,
    /// Timeout for the process to send READY=1.
    pub(crate) timeout: Duration,
    /// The recorded use of the participant's one-time link.
    pub(crate) entrance: Option<Entrance>,
}

/// How a listener process ended, or why none was started.
#[derive(Debug)]
pub(crate) enum Exit {
    /// The process has ended.
    Exited {
        status: ExitStatus,
        /// The last status text of the process.
        last_words: Option<String>,
    },
    /// The exit status is unknown, as when something else has reaped the process.
    Unknown(String),
    /// The port could not be opened.
    PortTaken(String),
    /// The process could not be started.
    NotStarted(String),
    /// No launcher answers.
    NoLauncher(String),
}

impl Exit {
    /// Whether the configuration is invalid, so that a restart would fail until it is edited.
    pub(crate) fn is_configuration(&self) -> bool {
        matches!(self, Self::Exited { status, .. } if status.code() == Some(EXIT_CONFIG))
    }
}

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exited { status, last_words } => {
                match (status.code(), status.signal()) {
                    (Some(code), _) => write!(f, "exit code {code}"),
                    (None, Some(signal)) => write!(f, "killed by signal {signal}"),
                    (None, None) => write!(f, "{status}"),
                }?;
                last_words.as_ref().map_or(Ok(()), |words| write!(f, ": {words}"))
            }
            Self::Unknown(cause) => write!(f, "exit status unknown: {cause}"),
            Self::PortTaken(cause) | Self::NotStarted(cause) | Self::NoLauncher(cause) => f.write_str(cause),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exit_is_shown_in_words() {
        let exit = |status, last_words: Option<&str>| Exit::Exited {
            status: ExitStatus::from_raw(status),
            last_words: last_words.map(str::to_owned),
        };
        assert_eq!(exit(9, None).to_string(), "killed by signal 9");
        assert_eq!(exit(78 << 8, Some("unable to read 'x'")).to_string(), "exit code 78: unable to read 'x'");
        assert!(exit(78 << 8, None).is_configuration());
        assert!(!exit(9, None).is_configuration());
    }
}
