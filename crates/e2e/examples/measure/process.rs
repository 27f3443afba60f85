//! CPU time and memory of processes.

use std::collections::BTreeMap;
use std::process::Command;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, Result};

/// Returns user and system time of a process from `/proc/PID/stat` (proc(5)). A clock tick is 10 ms.
pub fn cpu_ms(pid: u32) -> Result<f64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let fields: Vec<&str> = stat
        .rsplit_once(')')
        .with_context(|| format!("'/proc/{pid}/stat' has no name in parentheses"))?
        .1
        .split_whitespace()
        .collect();
    Ok((fields[11].parse::<f64>()? + fields[12].parse::<f64>()?) * 10.0)
}

/// Returns a field of `/proc/PID/smaps_rollup` (proc(5)) in KiB.
pub fn rollup_kib(pid: u32, field: &str) -> Result<f64> {
    let rollup = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))?;
    let value = rollup.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
    let value = value.and_then(|value| value.split_whitespace().next());
    Ok(value.with_context(|| format!("'/proc/{pid}/smaps_rollup' has no field '{field}'"))?.parse()?)
}

/// Returns the CPU time that other virtual machines took, in clock ticks of 10 ms.
pub fn stolen_ticks() -> Result<u64> {
    let stat = std::fs::read_to_string("/proc/stat")?;
    Ok(stat.split_whitespace().nth(8).context("/proc/stat has no steal time")?.parse()?)
}

/// Returns the CPU time of the calling thread in ns.
pub fn thread_cpu_ns() -> Result<u64> {
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat")?;
    Ok(stat.split(' ').next().unwrap_or_default().parse()?)
}

/// Length of the heads of IPv4 (20 bytes) and TCP with timestamps (32 bytes).
const HEAD_BYTES: u64 = 52;
/// A connection that has carried more bytes than this in one direction counts as a connection with sound in this direction.
const SOUND_BYTES: u64 = 20_000;

/// Counts the bytes of a server's connections, with TLS, TCP and IP, while this value exists.
#[derive(Debug)]
pub struct WireBytes {
    connections: Arc<Mutex<BTreeMap<String, Connection>>>,
    end: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// The first and the newest counters of a connection.
#[derive(Debug, Clone, Copy)]
struct Connection {
    first: [Sent; 2],
    last: [Sent; 2],
}

/// The data that were sent in one direction of a connection.
#[derive(Debug, Clone, Copy, Default)]
pub struct Sent {
    content_bytes: u64,
    pub segments: u64,
}

impl Sent {
    /// Returns the length with the heads of TCP and IP.
    pub fn bytes(self) -> u64 {
        self.content_bytes + HEAD_BYTES * self.segments
    }

    fn since(self, first: Self) -> Self {
        Self { content_bytes: self.content_bytes - first.content_bytes, segments: self.segments - first.segments }
    }

    fn plus(self, other: Self) -> Self {
        Self { content_bytes: self.content_bytes + other.content_bytes, segments: self.segments + other.segments }
    }
}

impl WireBytes {
    /// Reads the counters of all connections of the server on this port twice a second.
    pub fn count(port: u16) -> Self {
        let connections = Arc::new(Mutex::new(BTreeMap::new()));
        let (end, ended) = channel::<()>();
        let kept = Arc::clone(&connections);
        let thread = std::thread::spawn(move || {
            loop {
                if let Ok(text) = counters(port) {
                    note(&mut kept.lock().unwrap_or_else(PoisonError::into_inner), &text);
                }
                if ended.recv_timeout(Duration::from_millis(500)) != Err(RecvTimeoutError::Timeout) {
                    return;
                }
            }
        });
        Self { connections, end: Some(end), thread: Some(thread) }
    }

    /// Returns the bytes that the server has sent on connections on which it sends sound, and those that it has received on connections on which it
    /// receives sound, since this value was created.
    pub fn finish(mut self) -> [Sent; 2] {
        self.end = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
        let connections = self.connections.lock().unwrap_or_else(PoisonError::into_inner);
        [0, 1].map(|way| {
            let sent = connections.values().map(|it| it.last[way].since(it.first[way]));
            sent.filter(|sent| sent.content_bytes > SOUND_BYTES).fold(Sent::default(), Sent::plus)
        })
    }
}

fn counters(port: u16) -> Result<String> {
    let output = Command::new("ss")
        .args(["-OHtin", "state", "established", "sport", "=", &format!(":{port}")])
        .output()
        .context("unable to start 'ss'; install the package iproute2")?;
    Ok(String::from_utf8(output.stdout)?)
}

/// Updates the counters from the output of ss(8). Each line has the lengths of two queues, the server's address, the client's address, and counters.
fn note(connections: &mut BTreeMap<String, Connection>, text: &str) {
    let at_the_beginning = connections.is_empty();
    for line in text.lines() {
        let Some(peer) = line.split_whitespace().nth(3) else { continue };
        let value = |name: &str| {
            line.split_whitespace().find_map(|word| word.strip_prefix(name)?.parse::<u64>().ok()).unwrap_or(0)
        };
        let now = [
            Sent { content_bytes: value("bytes_sent:"), segments: value("segs_out:") },
            Sent { content_bytes: value("bytes_received:"), segments: value("segs_in:") },
        ];
        let first = if at_the_beginning { now } else { [Sent::default(); 2] };
        connections.entry(peer.to_owned()).or_insert(Connection { first, last: now }).last = now;
    }
}
