//! Runs another program for a short time.

use std::io::Read as _;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// Interval between checks whether the program has ended.
const POLL: Duration = Duration::from_millis(5);
/// Maximum number of bytes that are read from each of the two outputs of the program.
const MAX_BYTES: u64 = 64 * 1024;

/// The result of a program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Ended {
    pub(crate) success: bool,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// Runs a program. Returns `None` if the program can't be started or doesn't end before the timeout.
pub(crate) fn run(command: &mut Command, timeout: Duration) -> Option<Ended> {
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().ok()?;
    let deadline = Instant::now() + timeout;
    // The outputs fit into pipes, so the program can end before its outputs are read.
    let status = loop {
        match child.try_wait() {
            Ok(None) if Instant::now() < deadline => thread::sleep(POLL),
            Ok(status) => break status,
            Err(_) => break None,
        }
    };
    let Some(status) = status else {
        let _ = child.kill();
        let _ = child.wait();
        return None;
    };
    let (mut stdout, mut stderr) = (String::new(), String::new());
    child.stdout.take()?.take(MAX_BYTES).read_to_string(&mut stdout).ok()?;
    child.stderr.take()?.take(MAX_BYTES).read_to_string(&mut stderr).ok()?;
    Some(Ended { success: status.success(), stdout, stderr })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn command_that_hangs_is_killed() {
        let timeout = Duration::from_secs(60);
        assert_eq!(run(Command::new("sleep").arg("1000"), Duration::from_millis(50)), None);
        let ended = run(Command::new("sh").args(["-c", "echo x; echo y >&2; exit 3"]), timeout).unwrap();
        assert_eq!(ended, Ended { success: false, stdout: "x\n".to_owned(), stderr: "y\n".to_owned() });
        assert_eq!(run(&mut Command::new("/nowhere/systemctl"), timeout), None);
    }
}
