//! A supervisor with its real listeners in a directory of its own, and what a test asks about it.

#![allow(dead_code, reason = "each test binary uses a part of it")]

use std::fs;
use std::io::ErrorKind;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use palabre_config::control::{ParticipantStatus, Request, Response, State, Status, request};
use palabre_config::{Participant, certificate};
use tempfile::TempDir;

/// How long a test waits for what must happen. Only a failing test ever waits so long.
pub const PATIENCE: Duration = Duration::from_secs(60);

pub struct House {
    dir: TempDir,
    supervisor: Option<Child>,
}

impl House {
    /// A configuration with a certificate and these participants, each on any free port.
    pub fn of(names: &[&str]) -> Self {
        let house = Self { dir: tempfile::tempdir().unwrap(), supervisor: None };
        for dir in ["participants.d", "tls"] {
            fs::create_dir_all(house.config().join(dir)).unwrap();
        }
        house.write_server("");
        house.write_certificate();
        for name in names {
            house.write(name, "port = 0\n");
        }
        house
    }

    /// The same, and the supervisor has said that all listeners are ready.
    pub fn open(names: &[&str]) -> Self {
        let mut house = Self::of(names);
        house.start();
        for name in names {
            house.wait_for(name, State::Ready);
        }
        house
    }

    pub fn config(&self) -> PathBuf {
        self.dir.path().join("etc")
    }

    pub fn run(&self) -> PathBuf {
        self.dir.path().join("run")
    }

    pub fn room(&self, name: &str) -> PathBuf {
        self.run().join("rooms").join(name)
    }

    /// `palabre.toml`, below a line that keeps the tests on the loopback interface.
    pub fn write_server(&self, text: &str) {
        fs::write(self.config().join("palabre.toml"), format!("bind = \"127.0.0.1\"\n{text}")).unwrap();
    }

    pub fn write_certificate(&self) {
        fs::create_dir_all(self.config().join("tls")).unwrap();
        certificate::self_signed(&["localhost".into()]).unwrap().write(&self.config().join("tls")).unwrap();
    }

    /// A participant's file, with a last line for a key where the text has none.
    pub fn write(&self, name: &str, text: &str) {
        let key = format!("key-sha256 = \"{}\"\n", "1".repeat(64));
        let key = if text.contains("key-sha256") { "" } else { &key };
        fs::write(Participant::path(&self.config(), &name.parse().unwrap()), format!("{text}{key}")).unwrap();
    }

    pub fn remove(&self, name: &str) {
        Participant::remove(&self.config(), &name.parse().unwrap()).unwrap();
    }

    /// The command that `start` starts. Standard error goes through, and cargo shows it for a test that fails.
    pub fn command(&self) -> Command {
        self.command_for(listener())
    }

    fn command_for(&self, listener: &Path) -> Command {
        self.command_of(Path::new(env!("CARGO_BIN_EXE_palabre-supervisor")), listener)
    }

    /// The command of this supervisor with this listener.
    pub fn command_of(&self, supervisor: &Path, listener: &Path) -> Command {
        let mut command = Command::new(supervisor);
        command.arg("--config").arg(self.config()).arg("--run").arg(self.run()).arg("--listener").arg(listener);
        command.arg("--parent-pid").arg(std::process::id().to_string()).stdin(Stdio::null());
        command
    }

    /// Starts the supervisor and waits until it answers.
    pub fn start(&mut self) {
        self.start_with_listener(listener());
    }

    pub fn start_with_listener(&mut self, listener: &Path) {
        self.start_by(&mut self.command_for(listener));
    }

    pub fn start_by(&mut self, command: &mut Command) {
        assert!(self.supervisor.is_none());
        self.supervisor = Some(command.spawn().unwrap());
        eventually("the supervisor answers", || self.ask(&Request::Status).is_ok());
    }

    pub fn pid(&self) -> u32 {
        self.supervisor.as_ref().unwrap().id()
    }

    /// Waits until the supervisor has ended.
    pub fn wait_for_the_end(&mut self) -> ExitStatus {
        let mut supervisor = self.supervisor.take().unwrap();
        let mut status = None;
        eventually("the supervisor ends", || {
            status = supervisor.try_wait().unwrap();
            status.is_some()
        });
        status.unwrap()
    }

    pub fn ask(&self, what: &Request) -> Result<Response, String> {
        request(&self.run().join("control.sock"), what, PATIENCE).map_err(|error| error.to_string())
    }

    pub fn status(&self) -> Status {
        match self.ask(&Request::Status).unwrap() {
            Response::Status(status) => status,
            other => panic!("{other:?}"),
        }
    }

    pub fn reload(&self) -> palabre_config::control::Changes {
        match self.ask(&Request::Reload).unwrap() {
            Response::Reloaded(changes) => changes,
            other => panic!("{other:?}"),
        }
    }

    pub fn restart(&self, name: &str) -> Response {
        self.ask(&Request::Restart { name: name.parse().unwrap() }).unwrap()
    }

    pub fn stop(&self, name: &str) -> Response {
        self.ask(&Request::Stop { name: name.parse().unwrap() }).unwrap()
    }

    pub fn begin(&self, name: &str) -> Response {
        self.ask(&Request::Start { name: name.parse().unwrap() }).unwrap()
    }

    pub fn kick(&self, name: &str) -> Response {
        self.ask(&Request::Kick { name: name.parse().unwrap() }).unwrap()
    }

    pub fn find(&self, name: &str) -> Option<ParticipantStatus> {
        self.status().participants.into_iter().find(|participant| participant.name == name)
    }

    pub fn participant(&self, name: &str) -> ParticipantStatus {
        self.find(name).unwrap()
    }

    /// Waits until a participant is in this state, and says how it is then.
    pub fn wait_for(&self, name: &str, state: State) -> ParticipantStatus {
        self.wait_until(name, |participant| participant.state == state)
    }

    pub fn wait_until(&self, name: &str, is_so: impl Fn(&ParticipantStatus) -> bool) -> ParticipantStatus {
        let mut last = None;
        eventually_or(
            || {
                last = self.find(name);
                last.as_ref().is_some_and(&is_so)
            },
            || format!("{name} in {:?}", self.status()),
        );
        last.unwrap()
    }
}

impl Drop for House {
    fn drop(&mut self) {
        // Its children die with it.
        if let Some(supervisor) = &mut self.supervisor {
            let _ = supervisor.kill();
            let _ = supervisor.wait();
        }
    }
}

/// Connects again and again, and counts how often it was refused.
pub struct Knocker {
    enough: Arc<AtomicBool>,
    refusals: JoinHandle<(usize, usize)>,
}

impl Knocker {
    pub fn at(port: u16) -> Self {
        let enough = Arc::new(AtomicBool::new(false));
        let end = Arc::clone(&enough);
        let (began, begins) = std::sync::mpsc::channel();
        let refusals = thread::spawn(move || {
            let (mut tries, mut refused) = (0, 0);
            while !end.load(Ordering::Relaxed) {
                tries += 1;
                let knock = TcpStream::connect(("127.0.0.1", port));
                refused += usize::from(knock.is_err_and(|error| error.kind() == ErrorKind::ConnectionRefused));
                let _ = began.send(());
                // The queue of connections nobody has accepted yet holds 128.
                thread::sleep(std::time::Duration::from_millis(10));
            }
            (tries, refused)
        });
        begins.recv().unwrap();
        Self { enough, refusals }
    }

    pub fn refusals(self) -> usize {
        self.enough.store(true, Ordering::Relaxed);
        let (tries, refused) = self.refusals.join().unwrap();
        assert!(tries > 0);
        refused
    }
}

/// Waits for what must happen, by looking again and again.
pub fn eventually(what: &str, is_so: impl FnMut() -> bool) {
    eventually_or(is_so, || what.to_owned());
}

fn eventually_or(mut is_so: impl FnMut() -> bool, what: impl Fn() -> String) {
    let deadline = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < deadline, "waited too long: {}", what());
        thread::sleep(Duration::from_millis(5));
    }
}

/// Sends a signal by its name.
pub fn signal(pid: u32, name: &str) {
    assert!(Command::new("kill").arg(format!("-{name}")).arg(pid.to_string()).status().unwrap().success());
}

/// Whether a process runs. One that has ended and whose parent has not looked yet does not.
pub fn runs(pid: u32) -> bool {
    let Ok(stat) = fs::read_to_string(format!("/proc/{pid}/stat")) else {
        return false;
    };
    // The state is the word after the name in parentheses: proc_pid_stat(5).
    stat.rsplit_once(')').is_some_and(|(_, rest)| !rest.trim_start().starts_with(['Z', 'X']))
}

/// Whether a process holds the listening socket of a port. Asked of the kernel: where a port is closed, a connection
/// could reach whoever was given the same number a moment later.
pub fn holds(pid: u32, port: u16) -> bool {
    let sockets = fs::read_to_string("/proc/net/tcp").unwrap();
    let listens_there = |words: &[&str]| words[1].ends_with(&format!(":{port:04X}")) && words[3] == "0A";
    sockets
        .lines()
        .skip(1)
        .map(|line| line.split_whitespace().collect::<Vec<_>>())
        .filter(|words| listens_there(words))
        .any(|words| has_open(pid, &format!("socket:[{}]", words[9])))
}

fn has_open(pid: u32, target: &str) -> bool {
    let descriptors = fs::read_dir(format!("/proc/{pid}/fd")).unwrap();
    descriptors
        .filter_map(Result::ok)
        .any(|entry| fs::read_link(entry.path()).is_ok_and(|link| link == Path::new(target)))
}

/// A port that belongs to the test.
pub fn occupied_port() -> (TcpListener, u16) {
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = socket.local_addr().unwrap().port();
    (socket, port)
}

/// The real listener, which cargo puts beside the supervisor; built here when only this package is tested.
pub fn listener() -> &'static Path {
    static LISTENER: OnceLock<PathBuf> = OnceLock::new();
    LISTENER.get_or_init(|| {
        let path = Path::new(env!("CARGO_BIN_EXE_palabre-supervisor")).with_file_name("palabre-listener");
        if !path.exists() {
            let build = Command::new(env!("CARGO")).args(["build", "-p", "palabre-listener"]).status().unwrap();
            assert!(build.success() && path.exists(), "unable to build '{}'", path.display());
        }
        path
    })
}
