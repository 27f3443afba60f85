//! Helpers for tests of the `palabre` program.

#![allow(dead_code, reason = "each test binary uses a part of it")]

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output};
use std::thread;
use std::time::{Duration, Instant};

/// Timeout for everything that a test waits for. It is long, because the machine may be busy.
pub const TIMEOUT: Duration = Duration::from_secs(60);

/// Returns the program under test.
pub fn palabre() -> Command {
    Command::new(env!("CARGO_BIN_EXE_palabre"))
}

/// Returns the path of another program of the suite; builds it if it is missing.
pub fn sibling(name: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_BIN_EXE_palabre")).with_file_name(name);
    if !path.is_file() {
        let built = Command::new(env!("CARGO")).args(["build", "--quiet", "-p", name]).status().unwrap();
        assert!(built.success() && path.is_file(), "no '{}'", path.display());
    }
    path
}

/// A child process. Dropping this kills the process.
pub struct Process(pub Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Starts a supervisor with the configuration in `directory` and the runtime directory `run` in it.
pub fn start(directory: &Path) -> Process {
    let mut command = Command::new(sibling("palabre-supervisor"));
    command.arg("--config").arg(directory).arg("--run").arg(directory.join("run"));
    command.arg("--links").arg(directory.join("links"));
    command.arg("--listener").arg(sibling("palabre-listener"));
    command.arg("--parent-pid").arg(std::process::id().to_string());
    Process(command.spawn().unwrap())
}

/// Returns the standard output of a command, which must have succeeded.
pub fn stdout(output: &Output) -> String {
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout.clone()).unwrap()
}

/// Returns the standard error of a command, which must have ended with `code`.
pub fn stderr(output: &Output, code: i32) -> String {
    assert_eq!(output.status.code(), Some(code), "{output:?}");
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// Waits until `value` returns `Some`, and returns the value.
pub fn wait_for<T>(what: &str, mut value: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + TIMEOUT;
    loop {
        if let Some(value) = value() {
            return value;
        }
        assert!(Instant::now() < deadline, "waited too long for {what}");
        thread::sleep(Duration::from_millis(20));
    }
}

/// Sends a signal with kill(1).
pub fn signal(pid: u32, name: &str) {
    assert!(Command::new("kill").args([&format!("-{name}"), &pid.to_string()]).status().unwrap().success());
}

/// Returns all descendants of a process.
pub fn descendants(of: u32) -> Vec<u32> {
    let entries = std::fs::read_dir("/proc").unwrap().flatten();
    let all: Vec<u32> = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
    let parents: Vec<(u32, u32)> = all.into_iter().filter_map(|pid| Some((pid, parent(pid)?))).collect();
    let mut found = vec![of];
    let mut next = 0;
    while let Some(&pid) = found.get(next) {
        found.extend(parents.iter().filter(|&&(_, parent)| parent == pid).map(|&(child, _)| child));
        next += 1;
    }
    found.split_off(1)
}

/// Returns whether the process runs; false for a zombie.
pub fn is_running(pid: u32) -> bool {
    stat(pid).is_some_and(|fields| !fields.starts_with(['Z', 'X']))
}

fn parent(pid: u32) -> Option<u32> {
    stat(pid)?.split_whitespace().nth(1)?.parse().ok()
}

/// Returns the fields of `/proc/PID/stat` after the program's name: state, parent, … (proc(5)).
fn stat(pid: u32) -> Option<String> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    Some(stat.rsplit_once(')')?.1.trim_start().to_owned())
}
