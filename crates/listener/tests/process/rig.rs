//! A listener of one participant, with everything around it that it needs.

use crate::client::Client;
use palabre_config::certificate::{self, SelfSigned};
use palabre_config::control::ListenerReport;
use palabre_config::{Key, Participant};
use palabre_host::notify::{self, Receiver};
use palabre_host::sockets;
use palabre_room::{Format, Name, PipeReader, PipeWriter, RoomDir, Start, Wrote};
use std::net::{Ipv4Addr, TcpListener};
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// No test waits longer than this for anything.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// A running listener; it is ended when this is dropped.
pub struct Rig {
    pub child: Child,
    pub port: u16,
    pub key: Key,
    pub certificate: SelfSigned,
    pub room: RoomDir,
    pub format: Format,
    pub notify: Receiver,
    pub config: PathBuf,
    directory: tempfile::TempDir,
    _socket: TcpListener,
}

impl Rig {
    /// A listener for alice with the defaults.
    pub fn new() -> Self {
        Self::with("")
    }

    /// A listener for alice with this `palabre.toml`.
    pub fn with(server_toml: &str) -> Self {
        Self::with_alice(server_toml, |_| {})
    }

    /// The same, with something changed in alice's file.
    pub fn with_alice(server_toml: &str, change: impl FnOnce(&mut Participant)) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let config = directory.path().join("config");
        std::fs::create_dir_all(config.join("participants.d")).unwrap();
        std::fs::write(config.join("palabre.toml"), server_toml).unwrap();
        let certificate = new_certificate(&config);
        let key = Key::generate().unwrap();
        let mut alice = Participant::new(alice(), 9001, key.hash());
        alice.display_name = Some("Alice".into());
        change(&mut alice);
        alice.write(&config).unwrap();
        let run = directory.path().join("run");
        let room = RoomDir::new(run.join("rooms").join("main"));
        let format = palabre_config::Server::load(&config).unwrap().format;
        room.create(format).unwrap();
        let alice_here = palabre_room::Member::new(alice_name(), "Alice", true);
        room.write_names(&[alice_here]).unwrap();
        room.participant(&alice_name()).create().unwrap();
        let notify = Receiver::bind(&directory.path().join("notify.sock")).unwrap();
        let socket = sockets::listen(Ipv4Addr::LOCALHOST.into(), 0).unwrap();
        let port = socket.local_addr().unwrap().port();
        let child = spawn(directory.path(), &socket);
        let mut rig = Self { child, port, key, certificate, room, format, notify, config, directory, _socket: socket };
        rig.wait_for_readiness();
        rig
    }

    /// A second process on the same socket, as for a planned restart; gives the first.
    pub fn replace(&mut self) -> Child {
        let child = spawn(self.directory.path(), &self._socket);
        let first = std::mem::replace(&mut self.child, child);
        self.wait_for_readiness();
        first
    }

    fn wait_for_readiness(&mut self) {
        loop {
            let (pid, message) = self.notify.recv().unwrap();
            if pid == self.child.id() && message.ready {
                return;
            }
        }
    }

    /// Waits until the listener reports this state.
    pub fn wait_for_status(&self, state: &str) {
        self.wait_for_report(state, |report| report.to_string() == state);
    }

    /// Waits until the listener reports what is looked for, and returns the report.
    pub fn wait_for_report(&self, what: &str, is_it: impl Fn(&ListenerReport) -> bool) -> ListenerReport {
        let end = Instant::now() + PATIENCE;
        let left = || Some(end.saturating_duration_since(Instant::now()));
        while Instant::now() < end {
            if !palabre_host::wait::readable(&[self.notify.as_fd()], left()).unwrap()[0] {
                continue;
            }
            let Some(text) = self.notify.recv().unwrap().1.status else { continue };
            let report = ListenerReport::parse(&text).unwrap();
            if is_it(&report) {
                return report;
            }
        }
        panic!("'{what}' was never reported");
    }

    /// Waits until the listener has told that it leaves.
    pub fn wait_until_stopping(&self) {
        while !self.notify.recv().unwrap().1.stopping {}
    }

    /// A new connection.
    pub fn connect(&self) -> Client {
        Client::connect(self.port, &self.certificate.cert_pem).unwrap()
    }

    /// The field that shows the key.
    pub fn bearer(&self) -> String {
        format!("Authorization: Bearer {}\r\n", self.key.as_str())
    }

    /// The field that a browser shows.
    pub fn cookie(&self) -> String {
        format!("Cookie: __Host-palabre-alice={}\r\n", self.key.as_str())
    }

    /// Host and port, as a browser names them.
    pub fn host(&self) -> String {
        format!("localhost:{}", self.port)
    }

    /// The mixer's end of `mic`.
    pub fn mic(&self) -> PipeReader {
        let path = self.room.participant(&alice()).mic();
        PipeReader::open(&path, self.format, Start::Discard).unwrap()
    }

    /// Where `ear` is.
    pub fn ear_path(&self) -> PathBuf {
        self.room.participant(&alice()).ear()
    }

    /// The mixer's end of `ear`, once the listener reads it.
    pub fn ear(&self) -> PipeWriter {
        wait_for(|| PipeWriter::open(&self.ear_path(), self.format).ok())
    }

    /// Sends a signal (`TERM`, `HUP`) to the listener.
    pub fn signal(&self, name: &str) {
        signal(&self.child, name);
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn spawn(directory: &Path, socket: &TcpListener) -> Child {
    let mut command = Command::new(env!("CARGO_BIN_EXE_palabre-listener"));
    command.arg("alice").arg("--config").arg(directory.join("config")).arg("--run").arg(directory.join("run"));
    command.args(["--parent-pid", &std::process::id().to_string()]).stdin(Stdio::null());
    sockets::give(&mut command, socket).unwrap();
    notify::for_child(&mut command, &directory.join("notify.sock"));
    command.env("LISTEN_FDS", "1");
    // The death signal is tied to the thread that spawns: a test's thread lives as long as its rig.
    command.spawn().unwrap()
}

/// Writes a new certificate and its key into the configuration.
pub fn new_certificate(config: &Path) -> SelfSigned {
    let own = certificate::self_signed(&["localhost".into()]).unwrap();
    std::fs::create_dir_all(config.join("tls")).unwrap();
    std::fs::write(config.join("tls/cert.pem"), &own.cert_pem).unwrap();
    std::fs::write(config.join("tls/key.pem"), &own.key_pem).unwrap();
    own
}

/// Sends a signal to a process of this test.
pub fn signal(child: &Child, name: &str) {
    let status = Command::new("kill").arg(format!("-{name}")).arg(child.id().to_string()).status().unwrap();
    assert!(status.success());
}

/// How a process ended.
pub fn wait_for_exit(child: &mut Child) -> ExitStatus {
    wait_for(|| child.try_wait().unwrap())
}

/// Looks again and again until there is something.
pub fn wait_for<T>(mut look: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < end, "waited in vain");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Reads from a pipe until there are so many samples.
pub fn read_samples(pipe: &mut PipeReader, count: usize) -> Vec<i16> {
    let mut samples = Vec::new();
    let end = Instant::now() + PATIENCE;
    while samples.len() < count {
        assert!(Instant::now() < end, "only {} of {count} samples came", samples.len());
        palabre_host::wait::is_readable(pipe, Duration::from_millis(100)).unwrap();
        let left = count - samples.len();
        pipe.read(Instant::now(), &mut samples, left).unwrap();
    }
    samples
}

fn alice() -> Name {
    "alice".parse().unwrap()
}

fn alice_name() -> Name {
    alice()
}

/// Plays the mixer: writes frames at the pace of real time, or faster; all samples of frame n are n.
pub struct Feed {
    stop: std::sync::mpsc::Sender<()>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Feed {
    /// Begins with frame `first`, a frame each `every`.
    pub fn start(mut ear: PipeWriter, first: i16, every: Duration) -> Self {
        let (stop, stopped) = std::sync::mpsc::channel::<()>();
        let thread = std::thread::spawn(move || {
            let mut frame = first;
            while stopped.recv_timeout(every) == Err(std::sync::mpsc::RecvTimeoutError::Timeout) {
                // A frame that finds no room comes again: these tests are about what is in the pipe.
                if ear.write(&[frame; 480]) == Wrote::Whole {
                    frame = frame.wrapping_add(1);
                }
            }
        });
        Self { stop, thread: Some(thread) }
    }
}

impl Drop for Feed {
    fn drop(&mut self) {
        let _ = self.stop.send(());
        let _ = self.thread.take().map(std::thread::JoinHandle::join);
    }
}
