//! The supervisor becomes a newer program in the same process; its children stay its own, and nobody is refused meanwhile.
//!
//! First the new program is asked whether it could (`--probe`): a file that can't be run, a configuration that it refuses, a
//! state that it doesn't know leave the old one running. Then everything that is going on comes to its end, the thread that
//! hears the children stops, so that what they say from now on waits in the socket, and execve(2) does it.

use std::io::Read;
use std::os::fd::AsFd;
use std::os::unix::net::{UnixDatagram, UnixListener};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::Sender;
use std::thread;
use std::time::{Duration, Instant};

use palabre_config::control::Response;
use palabre_host::inherit::Legacy;
use palabre_host::lock::Lock;
use palabre_host::notify;
use palabre_host::program::Program;
use palabre_host::stamp::FileStamp;

use crate::estate;
use crate::recordings::Recordings;
use crate::roster::Roster;

/// How long the new program may think about whether it could.
const PROBE_PATIENCE: Duration = Duration::from_secs(5);
/// How long what is going on may take to come to its end.
const REST_PATIENCE: Duration = Duration::from_secs(15);
/// The most bytes of what it says that are read.
const MOST_WORDS: u64 = 4096;
const LOOK: Duration = Duration::from_millis(5);

/// What a program needs to become another one.
pub struct Upgrader {
    program: Program,
    /// The file of the program that runs.
    stamp: Option<FileStamp>,
    lock: Lock,
    control: UnixListener,
    children: notify::Receiver,
    wanted: Option<Wanted>,
}

/// Somebody wants it.
struct Wanted {
    /// Who waits to hear that it failed; nobody after a signal.
    answer: Option<Sender<Response>>,
    until: Instant,
    /// The thread that hears the children was told to stop.
    is_hushed: bool,
}

impl Upgrader {
    /// `program` is the one that runs; the others are what it holds.
    pub fn new(program: Program, lock: Lock, control: UnixListener, children: notify::Receiver) -> Self {
        let stamp = FileStamp::of(program.path());
        Self { program, stamp, lock, control, children, wanted: None }
    }

    /// The socket on which children speak, once more.
    pub fn children(&self) -> &notify::Receiver {
        &self.children
    }

    /// Whether there is another file at our path, or none.
    pub fn is_there_another_one(&self) -> bool {
        FileStamp::of(self.program.path()) != self.stamp
    }

    /// When [`Self::tick`] must be called.
    pub fn deadline(&self) -> Option<Instant> {
        self.wanted.as_ref().map(|wanted| wanted.until)
    }

    /// Somebody wants it. An error says why it can't be.
    pub fn want(&mut self, answer: Option<Sender<Response>>, now: Instant) -> Result<(), String> {
        if self.wanted.is_some() {
            return Err(self.unable("somebody else wants it already"));
        }
        self.probe()?;
        self.wanted = Some(Wanted { answer, until: now + REST_PATIENCE, is_hushed: false });
        Ok(())
    }

    /// Goes on with it, when everything is at rest. When it fails, why, and who waits to hear that.
    pub fn tick(&mut self, roster: &Roster, recordings: &Recordings, now: Instant) -> Option<Failed> {
        let wanted = self.wanted.as_mut()?;
        if wanted.until <= now {
            return Some(self.failed("listeners are still being started or ended; try again later"));
        }
        if !wanted.is_hushed && roster.is_at_rest() && recordings.is_at_rest() {
            wanted.is_hushed = true;
            if let Err(error) = self.hush(roster) {
                return Some(self.failed(&format!("unable to notify ourselves: {error}")));
            }
        }
        None
    }

    /// The thread that hears the children has stopped. Does it, and comes back only when it failed or must wait.
    pub fn hushed(&mut self, roster: &Roster, recordings: &Recordings, now: Instant) -> Option<Failed> {
        let wanted = self.wanted.as_mut()?;
        if !(roster.is_at_rest() && recordings.is_at_rest()) {
            // Something has begun meanwhile.
            wanted.is_hushed = false;
            return None;
        }
        let why = self.leave(roster, recordings, now);
        Some(self.failed(&why))
    }

    fn hush(&self, roster: &Roster) -> std::io::Result<()> {
        let socket = UnixDatagram::unbound()?;
        socket.send_to(b"STOPPING=1", roster.site().notify_socket()).map(drop)
    }

    /// Asks the program at our path whether it could take over.
    fn probe(&self) -> Result<(), String> {
        let mut command = Command::new(self.program.path());
        command.args(self.program.arguments()).arg("--probe").arg(estate::VERSION.to_string());
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        notify::scrub(&mut command);
        command.env_remove("JOURNAL_STREAM");
        let mut child = command.spawn().map_err(|error| self.unable(&error.to_string()))?;
        let status = end_of(&mut child).map_err(|why| self.unable(&why))?;
        let (mut promise, mut said) = (String::new(), String::new());
        let _ = child.stdout.take().map(|stdout| stdout.take(MOST_WORDS).read_to_string(&mut promise));
        let _ = child.stderr.take().map(|stderr| stderr.take(MOST_WORDS).read_to_string(&mut said));
        if status.success() && promise == estate::promise(estate::VERSION) {
            return Ok(());
        }
        let said = said.lines().last().unwrap_or("it doesn't say that it takes over");
        Err(self.unable(&format!("it ended with {status}: {said}")))
    }

    /// Comes back only when it failed, with the reason.
    fn leave(&self, roster: &Roster, recordings: &Recordings, now: Instant) -> String {
        let environment = || {
            let mut estate = roster.leave_behind(now);
            estate.recordings = recordings.leave_behind();
            let mut legacy = Legacy::new(&serde_json::to_vec(&estate)?)?;
            legacy.leave(estate::CONTROL, &self.control)?;
            legacy.leave(estate::NOTIFY, &self.children.as_fd())?;
            for (name, socket) in roster.sockets() {
                legacy.leave(name.as_str(), &socket)?;
            }
            self.lock.to_stdin()?;
            let environment = legacy.environment();
            std::io::Result::Ok((legacy, environment))
        };
        log::info!("replacing this process by '{}'", self.program.path().display());
        match environment() {
            Ok((_legacy, environment)) => self.unable(&self.program.replace(&environment).to_string()),
            Err(error) => self.unable(&error.to_string()),
        }
    }

    fn failed(&mut self, why: &str) -> Failed {
        let answer = self.wanted.take().and_then(|wanted| wanted.answer);
        let why = if why.starts_with("unable") { why.to_owned() } else { self.unable(why) };
        Failed { why, answer }
    }

    fn unable(&self, cause: &str) -> String {
        format!("unable to become '{}': {cause}; the supervisor goes on as it was", self.program.path().display())
    }
}

/// How a probe has ended. One that doesn't end in time is killed.
fn end_of(child: &mut Child) -> Result<ExitStatus, String> {
    let until = Instant::now() + PROBE_PATIENCE;
    loop {
        match child.try_wait() {
            Ok(Some(status)) => return Ok(status),
            Ok(None) if Instant::now() < until => thread::sleep(LOOK),
            other => {
                let _ = child.kill();
                let _ = child.wait();
                return Err(other.err().map_or_else(|| "it doesn't answer".to_owned(), |error| error.to_string()));
            }
        }
    }
}

/// It failed.
pub struct Failed {
    /// Why.
    pub why: String,
    /// Who waits to hear that.
    pub answer: Option<Sender<Response>>,
}
