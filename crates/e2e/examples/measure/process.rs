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
