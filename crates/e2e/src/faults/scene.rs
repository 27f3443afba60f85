//! The suite into which faults are injected, and the functions that begin and end each fault.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use super::crowd::Crowd;
use super::effects::{self, Cores};
use super::keyless::Keyless;
use crate::client::{Answer, Tls};
use crate::line::{Delays, Line};
use crate::link::Link;
use crate::suite::{Suite, TIMEOUT, binary, signal};
use crate::wait::wait_for;

/// Number of connections that a fault opens to a listener whose memory or descriptors are limited.
const CONNECTIONS: usize = 20;
/// Number of listeners to which clients without a key connect.
const VISITED: usize = 20;
/// Number of streams of one participant that are opened and not read. Together with the stream of the swarm, a listener has 8 streams, its default
/// maximum.
const UNREAD: usize = 7;
/// Maximum size in KiB of a file system that the fault may fill.
const FILLED_KIB_MAX: u64 = 1 << 20;
/// Size of each write that fills a file system.
const PIECE_BYTES: usize = 64 * 1024;
/// Maximum time to wait until a flooded pipe is full.
const FULL_TIMEOUT: Duration = Duration::from_millis(500);
/// If the cores were idle for at most this part of the time, in percent, they count as busy.
const IDLE_PERCENT_MAX: f64 = 10.0;

/// The participants whom a fault may disturb.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Whom {
    Nobody,
    /// One participant who doesn't talk. Each fault with this victim affects the next participant.
    One,
    /// The first talker. The other participants don't hear this talker during the fault.
    Talker,
    /// Half of the participants who don't talk.
    Half,
    /// The last participant, whose line can stall.
    Far,
    Everybody,
}

/// A running suite, and the processes and connections of the faults.
pub(super) struct Scene<'a> {
    suite: &'a Suite,
    talkers: usize,
    links: Vec<Link>,
    line: Line,
    victims: Vec<String>,
    /// Process IDs of the processes to which the fault sent a signal.
    signalled: Vec<u32>,
    /// Length of the suite's log when the fault began.
    log_bytes: usize,
    /// The use of the cores when the fault began.
    cores: Cores,
    /// Number of faults so far with the victim [`Whom::One`].
    used: usize,
    exporter: Option<Child>,
    connections: Vec<Tls>,
    mic: Option<File>,
    streams: Vec<Answer>,
    programs: Vec<Child>,
    crowd: Option<Crowd>,
    keyless: Option<Keyless>,
}

impl<'a> Scene<'a> {
    /// Starts an exporter, and a line that can stall between the swarm and the last participant's listener.
    pub(super) fn new(suite: &'a Suite, talkers: usize) -> Result<Self> {
        let mut links = suite.links.clone();
        let far = links.last_mut().context("the suite has no participants")?;
        let line = Line::to(far.port, Delays::default())?;
        far.url = far.url.replace(&format!(":{}/", far.port), &format!(":{}/", line.port));
        let exporter = Command::new(binary("palabre-exporter")?)
            .args(["--listen", "127.0.0.1:0", "--run"])
            .arg(suite.dir().join("run"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        Ok(Self {
            suite,
            talkers,
            links,
            line,
            victims: Vec::new(),
            signalled: Vec::new(),
            log_bytes: 0,
            cores: Cores::default(),
            used: 0,
            exporter: Some(exporter),
            connections: Vec::new(),
            mic: None,
            streams: Vec::new(),
            programs: Vec::new(),
            crowd: None,
            keyless: None,
        })
    }

    pub(super) fn links(&self) -> &[Link] {
        &self.links
    }

    pub(super) fn victims(&self) -> &[String] {
        &self.victims
    }

    /// Chooses the victims of the next fault.
    pub(super) fn choose(&mut self, whom: Whom) {
        (self.log_bytes, self.cores) = (self.log().len(), Cores::now());
        let names: Vec<String> = self.links.iter().map(|link| link.name.clone()).collect();
        let (talkers, last) = (self.talkers, names.len() - 1);
        // The last participant is behind the line.
        let quiet = &names[talkers..last];
        self.victims = match whom {
            Whom::Nobody => Vec::new(),
            Whom::One => {
                self.used += 1;
                vec![quiet[(self.used - 1) % quiet.len()].clone()]
            }
            Whom::Talker => vec![names[0].clone()],
            Whom::Half => quiet.iter().step_by(2).cloned().collect(),
            Whom::Far => vec![names[last].clone()],
            Whom::Everybody => names,
        };
    }

    /// Returns why this machine can't inject the fault `what`; `None` if nothing prevents it.
    pub(super) fn obstacle(&self, what: &str) -> Option<String> {
        if what.contains("signer") && self.suite.process("palabre-signer", "").is_none() {
            return Some("the suite has no signer".to_owned());
        }
        let size = self.size_kib().ok()?;
        (what.contains("no space") && size > FILLED_KIB_MAX).then(|| {
            format!(
                "the file system of the test has {} MiB; run scripts/measure as root, which makes a small one",
                size / 1024
            )
        })
    }

    fn size_kib(&self) -> Result<u64> {
        let output = Command::new("df").args(["--output=size", "-k"]).arg(self.suite.dir()).output()?;
        Ok(String::from_utf8(output.stdout)?.lines().nth(1).unwrap_or_default().trim().parse()?)
    }

    fn pids(&self) -> Result<Vec<u32>> {
        let pid = |name: &String| {
            self.suite.process("palabre-listener", name).with_context(|| format!("no listener of '{name}'"))
        };
        self.victims.iter().map(pid).collect()
    }

    fn victim(&self) -> Result<(u32, Link)> {
        let pid = *self.pids()?.first().context("no victim")?;
        Ok((pid, self.suite.link(&self.victims[0]).clone()))
    }

    pub(super) fn signal_listeners(&mut self, name: &str) -> Result<()> {
        self.signalled = self.pids()?;
        self.signalled.iter().try_for_each(|pid| signal(*pid, name))
    }

    /// Checks whether the processes that got SIGSTOP are stopped.
    pub(super) fn stopped(&mut self) -> Result<Option<String>> {
        Ok(effects::all_have_state(&self.signalled, 'T').then(|| "stopped".to_owned()))
    }

    /// Checks whether the processes that got SIGKILL have ended.
    pub(super) fn ended(&mut self) -> Result<Option<String>> {
        Ok(effects::all_have_state(&self.signalled, 'Z').then(|| "ended".to_owned()))
    }

    fn log(&self) -> String {
        fs::read_to_string(self.suite.dir().join("log")).unwrap_or_default()
    }

    /// Returns the first line in the log since the fault began that contains `text`, from `text` on.
    fn logged(&self, text: &str) -> Option<String> {
        let log = self.log();
        log.get(self.log_bytes..)?.lines().find_map(|line| line.find(text).map(|at| line[at..].to_owned()))
    }

    pub(super) fn kill(&mut self, program: &str) -> Result<()> {
        if program == "palabre-recorder" {
            self.suite.palabre(&["record", "start"])?;
            wait_for("the recorder", TIMEOUT, || self.suite.process(program, ""))?;
        }
        self.signalled = vec![self.suite.kill(program, "")?];
        Ok(())
    }

    pub(super) fn stop_recording(&mut self) -> Result<()> {
        self.suite.palabre(&["record", "stop"]).map(drop)
    }

    pub(super) fn kill_exporter(&mut self) -> Result<()> {
        let Some(mut exporter) = self.exporter.take() else { return Ok(()) };
        self.signalled = vec![exporter.id()];
        exporter.kill()?;
        exporter.wait()?;
        Ok(())
    }

    pub(super) fn limit_memory(&mut self) -> Result<()> {
        let (pid, link) = self.victim()?;
        let statm = fs::read_to_string(format!("/proc/{pid}/statm"))?;
        let pages: u64 = statm.split(' ').next().unwrap_or_default().parse()?;
        prlimit(pid, &format!("--as={}:", pages * 4096))?;
        self.connect(&link)
    }

    pub(super) fn limit_descriptors(&mut self) -> Result<()> {
        let (pid, link) = self.victim()?;
        let open = fs::read_dir(format!("/proc/{pid}/fd"))?
            .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok());
        prlimit(pid, &format!("--nofile={}:", open.max().unwrap_or_default() + 1))?;
        self.connect(&link)
    }

    /// Opens connections and sends a ClientHello on each. Only then does a listener start a thread.
    fn connect(&mut self, link: &Link) -> Result<()> {
        for _ in 0..CONNECTIONS {
            let mut tls = self.suite.client.connect(link)?;
            tls.conn.write_tls(&mut tls.sock)?;
            self.connections.push(tls);
        }
        Ok(())
    }

    pub(super) fn has_no_memory(&mut self) -> Result<Option<String>> {
        Ok(self.logged("unable to start a thread for a connection"))
    }

    pub(super) fn has_no_descriptors(&mut self) -> Result<Option<String>> {
        Ok(self.logged("unable to accept a connection"))
    }

    pub(super) fn lift_limits(&mut self) -> Result<()> {
        self.connections.clear();
        // Ignore errors: a listener that has ended was started again without these limits.
        for pid in self.pids().unwrap_or_default() {
            let _ = prlimit(pid, "--as=unlimited:").and_then(|()| prlimit(pid, "--nofile=1024:"));
        }
        Ok(())
    }

    /// Opens streams over connections with small buffers, which are soon full.
    pub(super) fn open_unread(&mut self) -> Result<()> {
        let (_, link) = self.victim()?;
        for _ in 0..UNREAD {
            self.streams.push(self.suite.client.get_slowly(&link, "/listen")?);
        }
        Ok(())
    }

    /// Checks whether the listener can't send more on the unread streams.
    pub(super) fn unread_streams(&mut self) -> Result<Option<String>> {
        let waiting = |streams: &[Answer]| streams.iter().map(Answer::waiting_bytes).collect::<io::Result<Vec<_>>>();
        let before = waiting(&self.streams)?;
        // If a connection weren't full, the listener would send a record on it every 40 ms.
        std::thread::sleep(Duration::from_millis(120));
        let is_full = |(before, after): (usize, usize)| after > 0 && before == after;
        let full = before.into_iter().zip(waiting(&self.streams)?).filter(|sizes| is_full(*sizes)).count();
        Ok((full == UNREAD).then(|| format!("{full} connections are full")))
    }

    pub(super) fn hang_up(&mut self) -> Result<()> {
        self.streams.clear();
        Ok(())
    }

    fn directory(&self) -> PathBuf {
        self.suite.room().join(&self.victims[0])
    }

    /// Starts a program that writes into a `mic` as fast as the pipe takes it. It writes digital silence, so that no mix changes.
    pub(super) fn flood(&mut self) -> Result<()> {
        let mic = OpenOptions::new().write(true).open(self.directory().join("mic"))?;
        self.mic = Some(mic.try_clone()?);
        let mut program = Command::new("cat");
        self.programs.push(program.arg("/dev/zero").stdout(mic).stderr(Stdio::null()).spawn()?);
        Ok(())
    }

    /// Waits until the pipe `mic` is full. Returns `None` if it isn't full within the timeout.
    pub(super) fn flooded(&mut self) -> Result<Option<String>> {
        let mic = self.mic.take().context("no pipe is flooded")?;
        let is_full = wait_for("a full pipe", FULL_TIMEOUT, || effects::is_full(&mic).then_some(())).is_ok();
        Ok(is_full.then(|| "the pipe was full".to_owned()))
    }

    pub(super) fn occupy(&mut self) -> Result<()> {
        for _ in 0..std::thread::available_parallelism()?.get() {
            self.programs.push(Command::new("sh").args(["-c", "while :; do :; done"]).spawn()?);
        }
        Ok(())
    }

    pub(super) fn stop_programs(&mut self) -> Result<()> {
        for mut program in self.programs.drain(..) {
            program.kill()?;
            program.wait()?;
        }
        Ok(())
    }

    pub(super) fn remove_directory(&mut self) -> Result<()> {
        Ok(fs::remove_dir_all(self.directory())?)
    }

    /// Checks whether the participant's pipe `ear`, from which the listener reads, has been removed.
    pub(super) fn removed(&mut self) -> Result<Option<String>> {
        Ok((!self.directory().join("ear").exists()).then(|| "no pipe exists".to_owned()))
    }

    pub(super) fn stall(&mut self, is_stalled: bool) -> Result<()> {
        self.line.change(Delays { is_stalled, ..Delays::default() });
        Ok(())
    }

    pub(super) fn stalled(&mut self) -> Result<Option<String>> {
        let held = self.line.held();
        Ok((held > 0).then(|| format!("{held} directions of connections wait")))
    }

    fn filler(&self) -> PathBuf {
        self.suite.dir().join("filler")
    }

    /// Starts a recording, fills the file system of the suite's directory, and sends a text message, which needs space.
    pub(super) fn fill(&mut self) -> Result<()> {
        ensure!(self.size_kib()? <= FILLED_KIB_MAX, "the file system is too large to be filled");
        self.suite.palabre(&["record", "start"])?;
        let mut filler = File::create(self.filler())?;
        let piece = vec![0; PIECE_BYTES];
        while filler.write_all(&piece).is_ok() {}
        let link = self.suite.links.last().context("no participants")?;
        let lines = [format!("Authorization: Bearer {}", link.key), "Content-Length: 5".to_owned()];
        self.suite.client.request(link, "POST", "/say", &lines.each_ref().map(String::as_str), b"hello")?;
        Ok(())
    }

    pub(super) fn filled(&mut self) -> Result<Option<String>> {
        let path = self.suite.dir().join("one-more");
        let error = fs::write(&path, vec![0; PIECE_BYTES]).err();
        let _ = fs::remove_file(path);
        Ok(error.filter(|error| error.kind() == io::ErrorKind::StorageFull).map(|error| error.to_string()))
    }

    pub(super) fn free(&mut self) -> Result<()> {
        fs::remove_file(self.filler())?;
        let _ = self.suite.palabre(&["record", "stop"]);
        Ok(())
    }

    pub(super) fn crowd(&mut self) -> Result<()> {
        let (_, link) = self.victim()?;
        self.crowd = Some(Crowd::start(link.port));
        Ok(())
    }

    pub(super) fn crowded(&mut self) -> Result<Option<String>> {
        let closed = self.crowd.as_ref().map_or(0, Crowd::closed);
        Ok((closed > 0).then(|| format!("the listener closed {closed} connections")))
    }

    /// Starts clients without a key, which connect to the listeners of the last participants who don't talk.
    pub(super) fn visit(&mut self) -> Result<()> {
        let quiet = &self.suite.links[self.talkers..];
        self.keyless = Some(Keyless::start(&self.suite.client, &quiet[quiet.len().saturating_sub(VISITED)..]));
        Ok(())
    }

    pub(super) fn visited(&mut self) -> Result<Option<String>> {
        let answered = self.keyless.as_ref().map_or(0, Keyless::answered);
        let idle = Cores::now().idle_percent_since(&self.cores);
        Ok((answered > 0).then(|| format!("{answered} handshakes, {idle:.0} % idle")))
    }

    pub(super) fn leave(&mut self) -> Result<()> {
        self.keyless.take().map_or(Ok(()), Keyless::stop)
    }

    pub(super) fn occupied(&mut self) -> Result<Option<String>> {
        let idle = Cores::now().idle_percent_since(&self.cores);
        Ok((idle < IDLE_PERCENT_MAX).then(|| format!("{idle:.0} % idle")))
    }

    pub(super) fn disperse(&mut self) -> Result<()> {
        if let Some(crowd) = self.crowd.take() {
            println!("{} connections without a key", crowd.stop()?);
        }
        Ok(())
    }
}

impl Drop for Scene<'_> {
    fn drop(&mut self) {
        let _ = self.stop_programs();
        let _ = self.kill_exporter();
        let _ = self.disperse();
        let _ = self.leave();
    }
}

fn prlimit(pid: u32, limit: &str) -> Result<()> {
    let output = Command::new("prlimit").args(["--pid", &pid.to_string(), limit]).output()?;
    if !output.status.success() {
        bail!("prlimit --pid {pid} {limit}: {}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(())
}
