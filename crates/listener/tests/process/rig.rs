//! A listener process for one participant, with its configuration, room and listening socket, and the socket for its reports.

use crate::client::Client;
use palabre_config::certificate::{self, SelfSigned};
use palabre_config::control::ListenerReport;
use palabre_config::{Key, Participant};
use palabre_host::notify::{self, Receiver};
use palabre_host::sockets;
use palabre_room::{Format, Name, PipeReader, PipeWriter, RoomDir, Start, Wrote};
use std::fs::File;
use std::net::{Ipv4Addr, TcpListener};
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// Timeout for every wait in these tests.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// A running listener. Dropping this kills the listener.
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
    /// Starts a listener for alice with the default configuration.
    pub fn new() -> Self {
        Self::with("")
    }

    /// Starts a listener for alice with this `palabre.toml`.
    pub fn with(server_toml: &str) -> Self {
        Self::with_alice(server_toml, |_| {})
    }

    /// Starts a listener for alice with this `palabre.toml`. `change` may change alice's configuration file before.
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

    /// Starts a second listener process on the same listening socket. It becomes `child`. Returns the first process when the second is ready.
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

    /// Waits for a report of the listener for which `is_it` returns true. Returns the report. `what` describes the report.
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

    /// Waits until the listener has sent `STOPPING=1` to the notify socket.
    pub fn wait_until_stopping(&self) {
        while !self.notify.recv().unwrap().1.stopping {}
    }

    /// Opens a TLS connection to the listener.
    pub fn connect(&self) -> Client {
        Client::connect(self.port, &self.certificate.cert_pem).unwrap()
    }

    /// Returns the header field `Authorization` with the access key, as programs send it.
    pub fn bearer(&self) -> String {
        format!("Authorization: Bearer {}\r\n", self.key.as_str())
    }

    /// Opens the link as a browser does. Returns the header field `Cookie` with the cookie that the browser gets.
    pub fn cookie(&self) -> String {
        let answer = self.connect().request("GET", &format!("/?key={}", self.key.as_str()), "");
        format!("Cookie: {}\r\n", answer.field("set-cookie").unwrap().split_once(';').unwrap().0)
    }

    /// Returns the host and port of the listener, as in the field `Host`.
    pub fn host(&self) -> String {
        format!("localhost:{}", self.port)
    }

    /// Opens the pipe `mic` for reading, as the mixer does.
    pub fn mic(&self) -> PipeReader {
        let path = self.room.participant(&alice()).mic();
        PipeReader::open(&path, self.format, Start::Discard).unwrap()
    }

    pub fn ear_path(&self) -> PathBuf {
        self.room.participant(&alice()).ear()
    }

    /// Waits until the listener reads the pipe `ear`, then opens the pipe for writing, as the mixer does.
    pub fn ear(&self) -> PipeWriter {
        wait_for(|| PipeWriter::open(&self.ear_path(), self.format).ok())
    }

    /// Returns the listener's log.
    pub fn log(&self) -> String {
        std::fs::read_to_string(log_path(self.directory.path())).unwrap()
    }

    /// Waits until a line of the log ends with this text.
    pub fn wait_for_log(&self, end: &str) {
        wait_for(|| self.log().lines().any(|line| line.ends_with(end)).then_some(()));
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
        if std::thread::panicking() {
            eprintln!("{}", self.log());
        }
    }
}

fn log_path(directory: &Path) -> PathBuf {
    directory.join("log")
}

fn spawn(directory: &Path, socket: &TcpListener) -> Child {
    let mut command = Command::new(env!("CARGO_BIN_EXE_palabre-listener"));
    command.arg("alice").arg("--config").arg(directory.join("config")).arg("--run").arg(directory.join("run"));
    command.arg("--links").arg(directory.join("links"));
    command.args(["--parent-pid", &std::process::id().to_string()]).stdin(Stdio::null());
    sockets::give(&mut command, socket, None).unwrap();
    notify::for_child(&mut command, &directory.join("notify.sock"));
    command.env("LISTEN_FDS", "1");
    command.stderr(File::options().create(true).append(true).open(log_path(directory)).unwrap());
    // The listener is killed when the thread that spawned it ends: prctl(2), PR_SET_PDEATHSIG. That thread runs until the test ends.
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

/// Returns the request that opens the WebSocket for the microphone.
pub fn microphone_request(rig: &Rig) -> String {
    format!(
        "GET /speak HTTP/1.1\r\nHost: a\r\n{}Connection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
        rig.bearer()
    )
}

/// Sends a signal to a process of this test.
pub fn signal(child: &Child, name: &str) {
    let status = Command::new("kill").arg(format!("-{name}")).arg(child.id().to_string()).status().unwrap();
    assert!(status.success());
}

/// Waits until a process has ended.
pub fn wait_for_exit(child: &mut Child) -> ExitStatus {
    wait_for(|| child.try_wait().unwrap())
}

/// Calls `look` until it returns a value. Returns the value, or panics after [`PATIENCE`].
pub fn wait_for<T>(mut look: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < end, "timeout");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Reads `count` samples from a pipe.
pub fn read_samples(pipe: &mut PipeReader, count: usize) -> Vec<i16> {
    let mut samples = Vec::new();
    let end = Instant::now() + PATIENCE;
    while samples.len() < count {
        assert!(Instant::now() < end, "only {} of {count} samples arrived", samples.len());
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

/// Returns frame `number` of a signal that consists of three tones of 440, 1010 and 1730 Hz.
pub fn tones(number: usize) -> Vec<i16> {
    let sample = |at: usize| -> f64 {
        let tone = |hz: f64| (std::f64::consts::TAU * hz * at as f64 / 24_000.0).sin();
        5000.0 * tone(440.0) + 3000.0 * tone(1010.0) + 2000.0 * tone(1730.0)
    };
    (number * 480..(number + 1) * 480).map(|at| sample(at).round() as i16).collect()
}

/// A thread that writes numbered frames to a pipe `ear`, as the mixer does or faster.
pub struct Feed {
    stop: std::sync::mpsc::Sender<()>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Feed {
    /// Starts the thread. It writes one frame per time `every`, starting with frame number `first`. All samples of frame number n have the value n.
    pub fn start(ear: PipeWriter, first: i16, every: Duration) -> Self {
        let first = usize::from(first.cast_unsigned());
        Self::of(move |number| vec![number as i16; 480], ear, first, every)
    }

    /// Starts the thread. It writes `frames` frames at once, in real time, starting with frame number 0. All samples of frame number n have the value n.
    pub fn of_writes(mut ear: PipeWriter, frames: usize) -> Self {
        let every = Duration::from_millis(20 * frames as u64);
        let (stop, stopped) = std::sync::mpsc::channel::<()>();
        let thread = std::thread::spawn(move || {
            let mut numbers = 0_i16..;
            while stopped.recv_timeout(every) == Err(std::sync::mpsc::RecvTimeoutError::Timeout) {
                numbers.by_ref().take(frames).for_each(|number| ear.gather(&[number; 480]));
                assert_eq!(ear.write_gathered(), Some(0), "the pipe is full");
            }
        });
        Self { stop, thread: Some(thread) }
    }

    /// Starts the thread with the frames that `frame` returns for their numbers.
    pub fn of(
        frame: impl Fn(usize) -> Vec<i16> + Send + 'static,
        mut ear: PipeWriter,
        first: usize,
        every: Duration,
    ) -> Self {
        let (stop, stopped) = std::sync::mpsc::channel::<()>();
        let thread = std::thread::spawn(move || {
            let mut number = first;
            while stopped.recv_timeout(every) == Err(std::sync::mpsc::RecvTimeoutError::Timeout) {
                // If the pipe has no space, the same frame is written again later, so that no number is missing.
                if ear.write(&frame(number)) == Wrote::Whole {
                    number += 1;
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
