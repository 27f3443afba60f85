//! Reads the resource usage of processes, and counts TCP connections: proc(5).

use std::collections::BTreeMap;
use std::fs;

/// Clock ticks per second in proc_pid_stat(5): USER_HZ, which is 100 on all supported architectures.
const TICKS_PER_S: u64 = 100;

/// Resource usage of a process.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Usage {
    /// Processor time since the start of the process, in ms.
    pub cpu_ms: u64,
    /// Mean use of a processor since the start of the process, in percent.
    pub cpu_percent: f64,
    /// Resident memory including shared memory, in KiB.
    pub rss_kib: u64,
}

/// Returns the resource usage of the process `pid`; `None` if there is no such process.
#[must_use]
pub fn of(pid: u32) -> Option<Usage> {
    let uptime = fs::read_to_string("/proc/uptime").ok()?;
    let uptime_s: f64 = uptime.split(' ').next()?.parse().ok()?;
    let stat = stat(pid)?;
    let (cpu_ms, begun) = (cpu_ms_of(&stat)?, field(&stat, 22)?);
    let age_s = (uptime_s - begun as f64 / TICKS_PER_S as f64).max(1.0 / TICKS_PER_S as f64);
    Some(Usage { cpu_ms, cpu_percent: cpu_ms as f64 / (10.0 * age_s), rss_kib: rss_kib(pid)? })
}

/// Returns the CPU time of the process `pid` in ms, in user mode and in the kernel; `None` if there is no such process.
#[must_use]
pub fn cpu_ms(pid: u32) -> Option<u64> {
    cpu_ms_of(&stat(pid)?)
}

/// Returns `/proc/PID/stat` from the third field on. The second field, a name in parentheses, may contain any characters.
#[must_use]
pub fn stat(pid: u32) -> Option<String> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    Some(stat.rsplit_once(") ")?.1.trim_end().to_owned())
}

/// Returns the process id of the parent of the process `pid`.
#[must_use]
pub fn parent(pid: u32) -> Option<u32> {
    stat(pid)?.split(' ').nth(1)?.parse().ok()
}

/// Returns whether the process is stopped, for example by SIGSTOP or a debugger.
#[must_use]
pub fn is_stopped(pid: u32) -> bool {
    stat(pid).is_some_and(|stat| stat.starts_with(['T', 't']))
}

fn cpu_ms_of(stat: &str) -> Option<u64> {
    Some((field(stat, 14)? + field(stat, 15)?) * 1000 / TICKS_PER_S)
}

/// Returns a field of `/proc/PID/stat` by its number in proc_pid_stat(5). `stat` is the result of [`stat`].
fn field(stat: &str, number: usize) -> Option<u64> {
    stat.split(' ').nth(number - 3)?.parse().ok()
}

fn rss_kib(pid: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.split_whitespace().next()?.parse().ok()
}

/// Returns the number of TCP connections of each local port that has connections.
#[must_use]
pub fn connections() -> BTreeMap<u16, usize> {
    let mut ports = BTreeMap::new();
    for table in ["/proc/net/tcp", "/proc/net/tcp6"] {
        let text = fs::read_to_string(table).unwrap_or_default();
        for port in text.lines().skip(1).filter_map(established) {
            *ports.entry(port).or_default() += 1;
        }
    }
    ports
}

/// Returns the local port of a line of `/proc/net/tcp`, if the line is an established connection (state 1).
fn established(line: &str) -> Option<u16> {
    let mut fields = line.split_whitespace().skip(1);
    let (local, _, state) = (fields.next()?, fields.next()?, fields.next()?);
    let port = local.rsplit_once(':').and_then(|(_, port)| u16::from_str_radix(port, 16).ok());
    port.filter(|_| state == "01")
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::net::{TcpListener, TcpStream};

    #[test]
    fn the_usage_of_this_process_is_read() {
        let usage = of(std::process::id()).unwrap();
        assert!(usage.rss_kib > 100 && usage.cpu_percent >= 0.0, "{usage:?}");
        assert_eq!(of(u32::MAX), None);
    }

    #[test]
    fn a_stopped_process_is_recognized() {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let pid = nix::unistd::Pid::from_raw(i32::try_from(child.id()).unwrap());
        assert!(!is_stopped(child.id()));
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGSTOP).unwrap();
        // With WUNTRACED, waitpid(2) returns when the child has stopped.
        let stopped = nix::sys::wait::WaitPidFlag::WUNTRACED;
        nix::sys::wait::waitpid(pid, Some(stopped)).unwrap();
        assert!(is_stopped(child.id()));
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(!is_stopped(child.id()));
    }

    #[test]
    fn a_connection_is_counted_at_its_local_port() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        assert_eq!(connections().get(&port), None);
        let _client = TcpStream::connect(("127.0.0.1", port)).unwrap();
        let _server = listener.accept().unwrap();
        assert_eq!(connections().get(&port), Some(&1));
    }

    #[test]
    fn a_line_of_the_connection_table_is_parsed() {
        let line = "   1: 0100007F:2329 0100007F:C3A2 01 00000000:00000000 00:00000000 00000000     0        0 1 1 0";
        assert_eq!(established(line), Some(9001));
        assert_eq!(established(&line.replace(" 01 ", " 06 ")), None);
        assert_eq!(established("nonsense"), None);
    }
}
