//! Runs a real NATS server and real bridges. The tests act as the mixers, or run real ones.
#![allow(dead_code, clippy::unwrap_used)]

pub mod voices;

use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use palabre_room::{
    BridgeReport, Format, MachineLink, MachineState, Name, PipeReader, PipeWriter, RoomDir, Start, Wrote,
};
pub use palabre_testing::{TIMEOUT, wait_until};
use tempfile::TempDir;

pub const FRAME: usize = 480;

pub fn name(name: &str) -> Name {
    name.parse().unwrap()
}

/// A child process, with the lines of its standard error. Ends with the test.
pub struct Process {
    pub child: Child,
    log: Arc<Mutex<Vec<String>>>,
}

impl Process {
    pub fn start(command: &mut Command) -> Self {
        command.env_remove("NOTIFY_SOCKET").env_remove("JOURNAL_STREAM").env_remove("RUST_LOG");
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let log = Arc::new(Mutex::new(Vec::new()));
        let (lines, stderr) = (log.clone(), BufReader::new(child.stderr.take().unwrap()));
        std::thread::spawn(move || {
            stderr.lines().map_while(Result::ok).for_each(|line| lines.lock().unwrap().push(line));
        });
        Self { child, log }
    }

    pub fn signal(&self, signal: &str) {
        let status = Command::new("kill").arg(format!("-{signal}")).arg(self.child.id().to_string()).status().unwrap();
        assert!(status.success());
    }

    pub fn wait(&mut self) -> ExitStatus {
        wait_until("the end of the process", || self.child.try_wait().unwrap())
    }

    pub fn count_in_log(&self, text: &str) -> usize {
        self.log.lock().unwrap().iter().filter(|line| line.contains(text)).count()
    }

    pub fn wait_for_log(&self, text: &str) -> String {
        wait_until(text, || self.log.lock().unwrap().iter().find(|line| line.contains(text)).cloned())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("log: {:#?}", self.log.lock().unwrap());
        }
    }
}

/// A NATS server on a free port of the loopback interface.
pub struct Broker {
    dir: TempDir,
    arguments: Vec<String>,
    process: Option<Process>,
    pub port: u16,
}

impl Broker {
    pub fn start() -> Self {
        Self::start_with(&[])
    }

    pub fn start_with(arguments: &[&str]) -> Self {
        let arguments = arguments.iter().map(|argument| (*argument).to_owned()).collect();
        let mut broker = Self { dir: tempfile::tempdir().unwrap(), arguments, process: None, port: 0 };
        broker.restart();
        broker
    }

    pub fn kill(&mut self) {
        self.process = None;
    }

    /// Starts the server. If it ran before, it gets the same port again.
    pub fn restart(&mut self) {
        let port = if self.port == 0 { "-1".to_owned() } else { self.port.to_string() };
        let mut command = Command::new("nats-server");
        command.args(["-a", "127.0.0.1", "-p", &port, "--ports_file_dir"]).arg(self.dir.path()).args(&self.arguments);
        let process = Process::start(&mut command);
        let ports = self.dir.path().join(format!("nats-server_{}.ports", process.child.id()));
        self.port = wait_until("the port of the NATS server", || {
            let ports: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(&ports).ok()?).ok()?;
            ports["nats"][0].as_str()?.rsplit(':').next()?.parse().ok()
        });
        self.process = Some(process);
    }

    pub fn url(&self) -> String {
        let scheme = if self.arguments.iter().any(|argument| argument == "--tls") { "tls" } else { "nats" };
        format!("{scheme}://127.0.0.1:{}", self.port)
    }

    /// Returns the lengths in bytes of the next messages with a subject.
    pub fn next_lengths(&self, subject: &str, count: usize) -> Vec<usize> {
        let mut server = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        server.set_read_timeout(Some(TIMEOUT)).unwrap();
        write!(server, "CONNECT {{\"verbose\":false}}\r\nSUB {subject} 1\r\n").unwrap();
        let mut server = BufReader::new(server);
        let mut lengths = Vec::new();
        while lengths.len() < count {
            let mut line = Vec::new();
            assert!(server.read_until(b'\n', &mut line).unwrap() > 0, "the server closed the connection");
            let line = String::from_utf8_lossy(&line);
            if let Some(length) = line.strip_prefix("MSG ").and_then(|line| line.split_whitespace().last()) {
                let length = length.parse().unwrap();
                server.read_exact(&mut vec![0; length]).unwrap();
                lengths.push(length);
            }
        }
        lengths
    }

    /// Sends a message directly to the NATS server, without a bridge. Returns the server's answer, up to the `PONG` that follows the message.
    pub fn publish(&self, options: &str, subject: &str, payload: &[u8]) -> String {
        let mut server = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        server.set_read_timeout(Some(TIMEOUT)).unwrap();
        write!(server, "CONNECT {{\"verbose\":false{options}}}\r\nPUB {subject} {}\r\n", payload.len()).unwrap();
        server.write_all(payload).unwrap();
        server.write_all(b"\r\nPING\r\n").unwrap();
        let (mut answer, mut bytes) = (String::new(), [0; 4096]);
        while !answer.contains("PONG") {
            let length = server.read(&mut bytes).unwrap();
            assert!(length > 0, "the server closed the connection: {answer}");
            answer.push_str(&String::from_utf8_lossy(&bytes[..length]));
        }
        answer
    }
}

/// A machine with a room and a bridge.
pub struct Site {
    pub dir: TempDir,
    pub room: RoomDir,
    pub machine: Name,
    pub bridge: Option<Process>,
    pub heard: Vec<i32>,
    out: Option<PipeWriter>,
    from: Vec<(Name, PipeReader)>,
}

impl Site {
    pub fn start(machine: &str, broker: &Broker) -> Self {
        Self::start_with(machine, broker, Format::default(), &[])
    }

    pub fn start_with(machine: &str, broker: &Broker, format: Format, more: &[&str]) -> Self {
        Self::start_in(tempfile::tempdir().unwrap(), machine, broker, format, more)
    }

    pub fn start_in(dir: TempDir, machine: &str, broker: &Broker, format: Format, more: &[&str]) -> Self {
        let room = RoomDir::new(dir.path().join("rooms/main"));
        std::fs::create_dir(dir.path().join("rooms")).unwrap();
        room.create(format).unwrap();
        let mut site =
            Self { dir, room, machine: name(machine), bridge: None, heard: Vec::new(), out: None, from: Vec::new() };
        site.start_bridge(broker, more);
        site
    }

    pub fn start_bridge(&mut self, broker: &Broker, more: &[&str]) {
        self.bridge = None;
        self.bridge = Some(Process::start(&mut bridge(self.machine.as_str(), broker, self.dir.path(), more)));
    }

    /// Starts a real mixer for the rooms of this machine, with these environment variables.
    pub fn start_mixer(&self, environment: &[(&str, &OsStr)]) -> Process {
        let mut command = Command::new(program("palabre-mixer"));
        command.arg("--files").arg(self.dir.path().join("files")).arg("--rooms").arg(self.dir.path().join("rooms"));
        Process::start(command.envs(environment.iter().copied()))
    }

    pub fn bridge(&self) -> &Process {
        self.bridge.as_ref().unwrap()
    }

    pub fn file(&self, machine: &str) -> Option<MachineState> {
        self.room.other_machines().read(&name(machine)).unwrap()
    }

    pub fn wait_for_machine(&self, machine: &str, is_cut_off: bool) {
        let what = format!("'{machine}' on '{}', cut off: {is_cut_off}", self.machine);
        wait_until(&what, || self.file(machine).filter(|state| state.is_cut_off == is_cut_off));
    }

    /// Waits until `says` returns true for the content of the file `.bridge`.
    pub fn wait_for_report(&self, says: impl Fn(&BridgeReport) -> bool) {
        let rooms = self.dir.path().join("rooms");
        wait_until("the bridge's state", || BridgeReport::read(&rooms).unwrap().filter(&says));
    }

    /// Waits until the file `.bridge` says that the connection with another machine is cut off; if `is_cut_off` is false, that it isn't.
    pub fn wait_for_link(&self, machine: &str, is_cut_off: bool) {
        let says = |link: &MachineLink| link.machine == name(machine) && link.is_cut_off == is_cut_off;
        self.wait_for_report(|report| report.links.iter().any(says));
    }

    /// Sends one frame for each value to the bridge, as the mixer does. All samples of a frame have this value.
    pub fn send(&mut self, values: &[i32]) {
        values.iter().for_each(|value| self.send_frame(&[*value; FRAME]));
    }

    pub fn send_frame(&mut self, frame: &[i32]) {
        let path = self.room.machines().out();
        wait_until("the bridge to read", || {
            if self.out.is_none() {
                self.out = PipeWriter::open_sums(&path, Format::default()).ok();
            }
            match self.out.as_mut()?.write_sums(frame) {
                Wrote::Whole => Some(()),
                Wrote::Slow => None,
                Wrote::Gone => {
                    self.out = None;
                    None
                }
            }
        });
    }

    /// Opens the pipe of another machine for reading, in place of the mixer.
    pub fn listen_to(&mut self, machine: &str) {
        let path = self.room.machines().from(&name(machine));
        self.from.retain(|(known, _)| *known != name(machine));
        let reader = wait_until("the pipe of a machine", || {
            PipeReader::open_sums(&path, Format::default(), Start::Discard).ok()
        });
        self.from.push((name(machine), reader));
    }

    /// Reads the sound that has arrived from another machine, and appends it to `heard`.
    pub fn hear(&mut self, machine: &str) {
        let (_, reader) = self.from.iter_mut().find(|(known, _)| *known == name(machine)).unwrap();
        while reader.read_sums(Instant::now(), &mut self.heard, 1 << 16).unwrap() > 0 {}
    }

    /// Waits until a sample with this value has arrived from another machine.
    pub fn hear_until(&mut self, machine: &str, value: i32) {
        wait_until(&format!("sound of '{machine}' on '{}'", self.machine), || {
            self.hear(machine);
            self.heard.contains(&value).then_some(())
        });
    }
}

/// Waits until two machines are connected. Then `from` sends frames whose samples are all 7, until one arrives at `to`.
pub fn connect(from: &mut Site, to: &mut Site) {
    let machine = from.machine.to_string();
    to.wait_for_machine(&machine, false);
    from.wait_for_machine(to.machine.clone().as_str(), false);
    to.listen_to(&machine);
    to.heard.clear();
    wait_until(&format!("sound from '{machine}' to '{}'", to.machine), || {
        from.send(&[7]);
        std::thread::sleep(Duration::from_millis(20));
        to.hear(&machine);
        to.heard.contains(&7).then_some(())
    });
}

/// Writes a `palabre.toml` with `more` lines in `[bridge]`, and returns the command that starts the bridge with it.
pub fn bridge(machine: &str, broker: &Broker, run: &Path, more: &[&str]) -> Command {
    let url = broker.url();
    let text =
        format!("[bridge]\nmachine = \"{machine}\"\nrooms = [\"main\"]\nservers = [\"{url}\"]\n{}\n", more.join("\n"));
    std::fs::write(run.join("palabre.toml"), text).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_palabre-bridge"));
    command.arg("-v").arg("--config").arg(run).arg("--run").arg(run);
    command
}

/// Returns the path of another program of the workspace.
pub fn program(name: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_BIN_EXE_palabre-bridge")).with_file_name(name);
    assert!(path.exists(), "'{}' is missing; run cargo build --workspace", path.display());
    path
}
