//! CPU time and memory of processes.

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

/// Bytes that a server's connections have sent and received, with the heads of TCP and IP.
#[derive(Debug, Clone, Copy, Default)]
pub struct WireBytes {
    pub sent: u64,
    pub received: u64,
}

/// Length of the heads of IPv4 (20 bytes) and TCP with timestamps (32 bytes).
const HEAD_BYTES: u64 = 52;

/// Returns what the open connections of the server on this port have sent and received. Acknowledgements without data count too.
pub fn wire_bytes(port: u16) -> Result<WireBytes> {
    let output = std::process::Command::new("ss")
        .args(["-Htin", "state", "established", "sport", "=", &format!(":{port}")])
        .output()
        .context("unable to start 'ss'; install the package iproute2")?;
    let text = String::from_utf8(output.stdout)?;
    let sum = |name: &str| -> u64 {
        text.split_whitespace().filter_map(|word| word.strip_prefix(name)?.parse::<u64>().ok()).sum()
    };
    Ok(WireBytes {
        sent: sum("bytes_sent:") + HEAD_BYTES * sum("segs_out:"),
        received: sum("bytes_received:") + HEAD_BYTES * sum("segs_in:"),
    })
}
