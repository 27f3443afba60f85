//! The upgrade: the supervisor replaces its program in the same process, and keeps children, sockets and connections.
//!
//! First the new program is probed (`--probe`): a file that can't be run, an invalid configuration or an unknown version of the saved state
//! leaves the old program running. Then the supervisor waits until nothing is in progress, stops the thread that receives notifications, so
//! that later ones stay in the socket, and calls execve(2).

use std::io::{self, Read};
use std::os::fd::AsFd;
use std::os::unix::net::{UnixDatagram, UnixListener};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use palabre_host::inherit::Legacy;
use palabre_host::lock::Lock;
use palabre_host::notify;
use palabre_host::program::Program;
use palabre_host::stamp::FileStamp;

use crate::event::Client;
use crate::launcher::Launcher;
use crate::recordings::Recordings;
use crate::roster::Roster;
use crate::saved;
use crate::signer::Signer;

/// Timeout for the new program to answer the probe and exit.
const PROBE_TIMEOUT: Duration = Duration::from_secs(5);
/// Maximum time to wait until no start, stop or handover is in progress.
const IDLE_TIMEOUT: Duration = Duration::from_secs(15);
/// Maximum length of the probe's output, in bytes.
const MAX_PROBE_BYTES: u64 = 4096;
/// Interval between two checks whether the probe has ended.
const PROBE_INTERVAL: Duration = Duration::from_millis(5);

/// Replaces the supervisor's program. Contains the lock and the sockets that the next program inherits, and the requested upgrade.
pub(crate) struct Upgrader {
    program: Program,
    /// Stamp of the running program's file.
    stamp: Option<FileStamp>,
    lock: Lock,
    control: UnixListener,
    children: notify::Receiver,
    wanted: Option<Wanted>,
}

/// The processes that the next program takes over.
#[derive(Clone, Copy)]
pub(crate) struct Children<'a> {
    pub(crate) roster: &'a Roster,
    pub(crate) recordings: &'a Recordings,
    pub(crate) signer: &'a Signer,
}

impl Children<'_> {
    /// Returns whether no start, stop or replacement is in progress.
    fn are_idle(self) -> bool {
        self.roster.is_idle() && self.recordings.is_idle() && self.signer.is_idle()
    }
}

/// A requested upgrade.
struct Wanted {
    /// The client that asked for the upgrade; `None` if SIGHUP did.
    client: Option<Client>,
    until: Instant,
    /// Whether the thread that receives notifications was told to stop.
    is_paused: bool,
}

/// An upgrade that failed.
pub(crate) struct Failed {
    pub(crate) why: String,
    /// The client that asked for the upgrade and waits for the answer.
    pub(crate) client: Option<Client>,
}

impl Upgrader {
    /// Creates an upgrader. `program` is the running program; the next program inherits the lock and the sockets.
    pub(crate) fn new(program: Program, lock: Lock, control: UnixListener, children: notify::Receiver) -> Self {
        let stamp = FileStamp::of(program.path());
        Self { program, stamp, lock, control, children, wanted: None }
    }

    /// Returns the socket to which children send notifications.
    pub(crate) fn children(&self) -> &notify::Receiver {
        &self.children
    }

    /// Whether the file at the program's path was replaced or removed.
    pub(crate) fn is_program_replaced(&self) -> bool {
        FileStamp::of(self.program.path()) != self.stamp
    }

    /// Returns the time at which to call [`Self::tick`].
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.wanted.as_ref().map(|wanted| wanted.until)
    }

    /// Probes the new program and, if it can take over, requests the upgrade.
    pub(crate) fn request(&mut self, client: Option<Client>, now: Instant) -> Result<(), Failed> {
        if self.wanted.is_some() {
            return Err(Failed { why: self.unable("another upgrade is in progress"), client });
        }
        if let Err(why) = self.probe() {
            return Err(Failed { why, client });
        }
        self.wanted = Some(Wanted { client, until: now + IDLE_TIMEOUT, is_paused: false });
        Ok(())
    }

    /// Tells the thread that receives notifications to stop, when no start, stop or handover is in progress. Returns an error if that fails
    /// or the timeout has passed.
    pub(crate) fn tick(&mut self, children: Children<'_>, now: Instant) -> Option<Failed> {
        let wanted = self.wanted.as_mut()?;
        if wanted.until <= now {
            let why = match wanted.is_paused {
                true => {
                    "the thread that receives notifications has not stopped; stop palabre-supervisor and start it again"
                }
                false => {
                    "listeners, recorders or the signer are still being started, stopped or replaced; try again later"
                }
            };
            return Some(self.failed(why));
        }
        if !wanted.is_paused && children.are_idle() {
            wanted.is_paused = true;
            if let Err(error) = pause_notifications(children.roster) {
                return Some(self.failed(&format!(
                    "the supervisor's thread that receives notifications can't be told to stop: {error}"
                )));
            }
        }
        None
    }

    /// Replaces the program after the thread that receives notifications has stopped. Returns an error if that fails. Returns `None` if no
    /// upgrade is requested, or if a new action is in progress and the upgrade must wait.
    pub(crate) fn notifications_paused(&mut self, children: Children<'_>, now: Instant) -> Option<Failed> {
        let wanted = self.wanted.as_mut()?;
        if !children.are_idle() {
            // A start, stop or handover has begun meanwhile. Wait until it is complete.
            wanted.is_paused = false;
            return None;
        }
        let why = self.replace(children, now);
        Some(self.failed(&why))
    }

    /// Runs the file at the program's path with `--probe`, and checks that it could take over.
    fn probe(&self) -> Result<(), String> {
        let mut command = Command::new(self.program.path());
        command.args(self.program.arguments()).arg("--probe").arg(saved::VERSION.to_string());
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        notify::scrub(&mut command);
        command.env_remove("JOURNAL_STREAM");
        let mut child = command.spawn().map_err(|error| self.unable(&error.to_string()))?;
        let status = wait(&mut child).map_err(|why| self.unable(&why))?;
        let (mut promise, mut said) = (String::new(), String::new());
        let _ = child.stdout.take().map(|stdout| stdout.take(MAX_PROBE_BYTES).read_to_string(&mut promise));
        let _ = child.stderr.take().map(|stderr| stderr.take(MAX_PROBE_BYTES).read_to_string(&mut said));
        if status.success() && promise == saved::promise(saved::VERSION) {
            return Ok(());
        }
        let said = said.lines().last().unwrap_or("the new program did not confirm that it can replace the running one");
        Err(self.unable(&format!("the probe of the new program ended with {status}: {said}")))
    }

    /// Executes the file at the program's path in this process. Returns only if that fails, with an error message.
    fn replace(&self, children: Children<'_>, now: Instant) -> String {
        log::info!("replacing this process by '{}'", self.program.path().display());
        match self.leave(children, now) {
            Ok(legacy) => self.unable(&self.program.replace(&legacy.environment()).to_string()),
            Err(error) => self.unable(&error.to_string()),
        }
    }

    /// Prepares the saved state and the descriptors that the next program inherits.
    fn leave(&self, children: Children<'_>, now: Instant) -> io::Result<Legacy> {
        let Children { roster, recordings, signer } = children;
        let mut state = roster.save(now);
        state.recordings = recordings.save();
        let saved_launcher = roster.config().launcher.as_ref().map_or(Ok(None), Launcher::save)?;
        let launcher = saved_launcher.map(|(saved, link)| {
            state.launcher = Some(saved);
            link
        });
        let saved_signer = signer.save();
        let link = saved_signer.map(|(saved, link)| {
            state.signer = Some(saved);
            link
        });
        let mut legacy = Legacy::new(&serde_json::to_vec(&state)?)?;
        legacy.leave(saved::CONTROL, &self.control)?;
        legacy.leave(saved::NOTIFY, &self.children.as_fd())?;
        let client = self.wanted.as_ref().and_then(|wanted| wanted.client.as_ref());
        if let Some(connection) = client.and_then(|client| client.connection.as_ref()) {
            legacy.leave(saved::CLIENT, connection)?;
        }
        for (name, socket) in roster.sockets() {
            legacy.leave(name.as_str(), &socket)?;
        }
        if let Some(link) = link {
            legacy.leave(saved::SIGNER, link)?;
        }
        if let Some(link) = &launcher {
            legacy.leave(saved::LAUNCHER, link)?;
        }
        for (listener, end) in roster.signer_ends() {
            legacy.leave(&saved::end(listener), end)?;
        }
        self.lock.to_stdin()?;
        Ok(legacy)
    }

    fn failed(&mut self, why: &str) -> Failed {
        let client = self.wanted.take().and_then(|wanted| wanted.client);
        let why = if why.starts_with("unable") { why.to_owned() } else { self.unable(why) };
        Failed { why, client }
    }

    fn unable(&self, cause: &str) -> String {
        format!(
            "unable to execute '{}': {cause}; the supervisor keeps the running program",
            self.program.path().display()
        )
    }
}

/// Makes the thread that receives notifications stop, by sending a notification from this process.
fn pause_notifications(roster: &Roster) -> io::Result<()> {
    let socket = UnixDatagram::unbound()?;
    socket.send_to(b"STOPPING=1", roster.config().notify_socket()).map(drop)
}

/// Waits for the end of a probe, and kills it after its timeout.
fn wait(child: &mut Child) -> Result<ExitStatus, String> {
    let until = Instant::now() + PROBE_TIMEOUT;
    loop {
        match child.try_wait() {
            Ok(Some(status)) => return Ok(status),
            Ok(None) if Instant::now() < until => thread::sleep(PROBE_INTERVAL),
            other => {
                let _ = child.kill();
                let _ = child.wait();
                return Err(other.err().map_or_else(
                    || format!("the probe of the new program did not end within {} s", PROBE_TIMEOUT.as_secs()),
                    |error| error.to_string(),
                ));
            }
        }
    }
}
