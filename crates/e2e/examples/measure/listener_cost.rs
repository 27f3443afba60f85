//! CPU time, memory and wake-ups of a listener, compared with a minimal server in C (`mini-server.c`). Both send chunks of the same length at the
//! same time.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use palabre_e2e::client::Talker;
use palabre_e2e::compare::median;
use palabre_e2e::link::Link;
use palabre_e2e::suite::{Suite, TIMEOUT, descendants};
use palabre_e2e::wait_for;
use palabre_sound::{measure, wav};

use crate::process::rollup_kib;
use crate::tone::{TONE_DBFS, TONE_HZ};

/// Number of measured listeners, whose participants don't talk. The number of mini-servers is the same.
const LISTENERS: usize = 20;
/// Number of participants who talk; their listeners are not measured.
const TALKERS: usize = 5;
const RATE_HZ: u32 = 24_000;
const ROUNDS: usize = 3;
const ROUND: Duration = Duration::from_secs(10);

/// Measures listeners and mini-servers with chunks of this length.
pub fn run(chunk_ms: u32) -> Result<()> {
    let suite = Suite::start_configured(TALKERS + LISTENERS, &format!("[stream]\nchunk-ms = {chunk_ms}\n"))?;
    let (talkers, listeners) = suite.links.split_at(TALKERS);
    let servers = MiniServers::start(&suite, chunk_ms)?;
    let received = Arc::new(AtomicU64::new(0));
    let streams = listeners.iter().chain(&servers.links).map(|link| suite.client.get(link, "/listen"));
    let readers: Vec<_> = streams
        .map(|stream| {
            let (stream, received) = (stream?, Arc::clone(&received));
            Ok(std::thread::spawn(move || read_to_end(stream, &received)))
        })
        .collect::<Result<_>>()?;
    let voices: Vec<_> =
        talkers.iter().map(|link| Talker::tone(&suite.client, link, TONE_HZ, TONE_DBFS - 15.0)).collect();
    let heard = suite.client.record(&listeners[0])?;
    wait_for("sound", TIMEOUT, || (heard.len() > 48_000).then_some(()))?;
    drop(heard);
    let ours: Vec<u32> = listeners
        .iter()
        .map(|link| {
            suite.process("palabre-listener", &link.name).with_context(|| format!("no listener of {}", link.name))
        })
        .collect::<Result<_>>()?;
    let theirs = descendants(servers.child.id());
    println!(
        "listener-cost: {LISTENERS} listeners and {LISTENERS} mini-servers in C, chunks of {chunk_ms} ms, {TALKERS} talk"
    );
    for _ in 0..ROUNDS {
        round(&ours, &theirs, &received)?;
    }
    drop((voices, servers));
    suite.stop()?;
    for reader in readers {
        let _ = reader.join();
    }
    Ok(())
}

/// Measures both kinds of processes at the same time, and prints a line for each kind.
fn round(ours: &[u32], theirs: &[u32], received: &AtomicU64) -> Result<()> {
    let all: Vec<u32> = [ours, theirs].concat();
    let (before, bytes, began) = (Work::of_all(&all)?, received.load(Ordering::Relaxed), Instant::now());
    std::thread::sleep(ROUND);
    let (after, seconds) = (Work::of_all(&all)?, began.elapsed().as_secs_f64());
    let bytes = (received.load(Ordering::Relaxed) - bytes) as f64 / all.len() as f64 / seconds;
    let done: Vec<Work> = before.iter().zip(&after).map(|(before, after)| after.since(before)).collect();
    let (listeners, servers) = done.split_at(ours.len());
    let cpu = |work: &[Work]| median(work.iter().map(|work| work.cpu_ns as f64 / 1e7 / seconds));
    println!("  CPU per listener ÷ per mini-server: {:.2}; {bytes:.0} bytes/s each", cpu(listeners) / cpu(servers));
    for (name, work, pids) in [("palabre-listener", listeners, ours), ("mini-server", servers, theirs)] {
        let pss = median(pids.iter().map(|&pid| rollup_kib(pid, "Pss").unwrap_or(f64::NAN)));
        let (cpu, threads) = (cpu(work), threads(work, seconds));
        println!("    {name:16} CPU median {cpu:.3} % of a core; PSS {pss:.0} KiB; wake-ups per second: {threads}");
    }
    Ok(())
}

/// Returns a text with the wake-ups per second for each thread name: the median of all processes.
fn threads(work: &[Work], seconds: f64) -> String {
    let names: std::collections::BTreeSet<&String> = work.iter().flat_map(|work| work.wake_ups.keys()).collect();
    let rate = |name: &String| median(work.iter().map(|work| *work.wake_ups.get(name).unwrap_or(&0) as f64 / seconds));
    names.into_iter().map(|name| format!("{name} {:.1}", rate(name))).collect::<Vec<_>>().join(", ")
}

/// CPU time and wake-ups of a process.
pub struct Work {
    pub cpu_ns: u64,
    /// Number of wake-ups by thread name.
    wake_ups: BTreeMap<String, u64>,
}

impl Work {
    fn of_all(pids: &[u32]) -> Result<Vec<Self>> {
        pids.iter()
            .map(|&pid| Self::of(pid).with_context(|| format!("unable to read the figures of process {pid}")))
            .collect()
    }

    /// Reads the files of each thread in /proc/PID/task, proc_pid_task(5): `schedstat` has the CPU time in ns, and `status` the number of voluntary
    /// context switches.
    pub fn of(pid: u32) -> Result<Self> {
        let mut work = Self { cpu_ns: 0, wake_ups: BTreeMap::new() };
        for task in fs::read_dir(format!("/proc/{pid}/task"))? {
            let task = task?.path();
            let read = |name: &str| fs::read_to_string(task.join(name));
            // A thread may have ended meanwhile.
            let (Ok(stat), Ok(status), Ok(name)) = (read("schedstat"), read("status"), read("comm")) else { continue };
            work.cpu_ns += stat.split(' ').next().unwrap_or_default().parse::<u64>()?;
            let switches = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
            let switches: u64 = switches.context("no voluntary_ctxt_switches")?.trim().parse()?;
            *work.wake_ups.entry(name.trim().to_owned()).or_default() += switches;
        }
        Ok(work)
    }

    pub fn since(&self, before: &Self) -> Self {
        let wake_ups = self
            .wake_ups
            .iter()
            .map(|(name, count)| (name.clone(), count.saturating_sub(before.wake_ups.get(name).copied().unwrap_or(0))));
        Self { cpu_ns: self.cpu_ns.saturating_sub(before.cpu_ns), wake_ups: wake_ups.collect() }
    }
}

/// The running mini-servers. Dropping this value ends them.
struct MiniServers {
    child: Child,
    links: Vec<Link>,
    _wav: tempfile::NamedTempFile,
}

impl MiniServers {
    /// Starts the program that `scripts/measure` has built beside this program, with the suite's certificate and a WAV of one minute.
    fn start(suite: &Suite, chunk_ms: u32) -> Result<Self> {
        let program = std::env::current_exe()?.with_file_name("mini-server");
        if !program.exists() {
            bail!("unable to find '{}'; run this part by scripts/measure, which builds it", program.display());
        }
        let tone = measure::tone(RATE_HZ, TONE_HZ, TONE_DBFS, RATE_HZ as usize * 60);
        let file = tempfile::NamedTempFile::new()?;
        fs::write(file.path(), wav::little(RATE_HZ, &tone))?;
        let tls = suite.dir().join("etc/tls");
        let path = |name: &str| tls.join(name);
        let child = spawn(&program, &[&path("cert.pem"), &path("key.pem"), file.path()], chunk_ms)?;
        let mut servers = Self { child, links: Vec::new(), _wav: file };
        let ports = servers.child.stdout.take().context("the mini-servers have no standard output")?;
        for (port, n) in BufReader::new(ports).lines().take(LISTENERS).zip(1..) {
            let (name, port) = (format!("mini{n}"), port?.parse()?);
            servers.links.push(Link { url: format!("https://localhost:{port}/"), name, port, key: "none".to_owned() });
        }
        if servers.links.len() < LISTENERS {
            bail!("the mini-servers ended with {:?}", servers.child.wait()?);
        }
        Ok(servers)
    }
}

fn spawn(program: &Path, files: &[&Path], chunk_ms: u32) -> Result<Child> {
    let mut command = Command::new(program);
    command.args(files).arg(chunk_ms.to_string()).arg(LISTENERS.to_string());
    command.stdout(Stdio::piped()).spawn().with_context(|| format!("unable to start '{}'", program.display()))
}

impl Drop for MiniServers {
    fn drop(&mut self) {
        // Kill the parent of the mini-servers. They end with it: PR_SET_PDEATHSIG of prctl(2).
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn read_to_end(mut stream: impl Read, received: &AtomicU64) {
    let mut bytes = [0; 65_536];
    while let Ok(got @ 1..) = stream.read(&mut bytes) {
        received.fetch_add(got as u64, Ordering::Relaxed);
    }
}
