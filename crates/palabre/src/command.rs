//! Runs another program with a timeout, and returns its output.

use std::io::{self, Read};
use std::process::{Command, Stdio};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// Interval between checks whether the program has ended.
const POLL: Duration = Duration::from_millis(5);
/// Maximum number of bytes that are read from each of the two outputs of the program. What a program prints after them is lost.
const MAX_BYTES: u64 = 1024 * 1024;

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
    let (stdout, stderr) = (read(child.stdout.take()?), read(child.stderr.take()?));
    let deadline = Instant::now() + timeout;
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
    let (stdout, stderr) = (stdout.join().ok()?.ok()?, stderr.join().ok()?.ok()?);
    Some(Ended { success: status.success(), stdout, stderr })
}

/// Reads an output in a thread of its own, since the program can't end while a pipe is full.
fn read(output: impl Read + Send + 'static) -> JoinHandle<io::Result<String>> {
    thread::spawn(move || {
        let mut text = String::new();
        output.take(MAX_BYTES).read_to_string(&mut text)?;
        Ok(text)
    })
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

    #[test]
    fn output_that_is_longer_than_a_pipe_is_read() {
        let mut command = Command::new("sh");
        command.args(["-c", "head -c 300000 /dev/zero; head -c 200000 /dev/zero >&2"]);
        let ended = run(&mut command, Duration::from_secs(60)).unwrap();
        assert_eq!((ended.success, ended.stdout.len(), ended.stderr.len()), (true, 300_000, 200_000));
    }
}
