//! The daemons as children of `palabre try`: started, watched and restarted.
//!
//! Only the main thread spawns the daemons. Mixer and supervisor get the process id of this program in `--parent-pid`: such a daemon dies when
//! the *thread* that spawned it ends (PR_SET_PDEATHSIG of prctl(2)). Each daemon has its own process group, so that a Ctrl-C in the terminal
//! doesn't reach it.

use std::borrow::Cow;
use std::ffi::OsString;
use std::io;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use palabre_host::backoff::BackOff;
use palabre_host::executable;
use palabre_host::exit::Failure;
use palabre_host::process;

use crate::log_file::LogFile;

/// Delay before the first restart of a daemon. The delay doubles with each further failure.
const FIRST_DELAY: Duration = Duration::from_millis(100);
/// Maximum delay before a restart of a daemon.
const MAX_DELAY: Duration = Duration::from_secs(30);
/// Minimum run time of a daemon after which its earlier failures no longer count.
const HEALTHY: Duration = Duration::from_secs(10);
/// Maximum time for a daemon to end after SIGTERM before it is killed.
const STOP_TIMEOUT: Duration = Duration::from_secs(4);
/// Interval between checks whether a daemon has ended after SIGTERM.
const POLL: Duration = Duration::from_millis(10);

/// A daemon that is restarted whenever it ends.
pub(crate) struct Daemon {
    program: PathBuf,
    arguments: Vec<OsString>,
    /// Difference between the niceness of the daemon and that of this process. Ignored if this process isn't root, because only root may lower a
    /// niceness.
    niceness: i32,
    log: LogFile,
    /// Whether the program takes `--parent-pid` and dies with this process.
    has_parent_option: bool,
    state: State,
    back_off: BackOff,
}

enum State {
    Running { child: Child, since: Instant },
    Waiting { until: Instant },
}

impl Daemon {
    /// Starts `program`. If this first start fails, returns an error. Failures of later starts are logged and retried.
    pub(crate) fn start(
        program: PathBuf,
        arguments: Vec<OsString>,
        niceness: i32,
        log: LogFile,
    ) -> Result<Self, Failure> {
        Self::start_program(program, arguments, niceness, log, true)
    }

    /// Starts a `program` that doesn't have the option `--parent-pid`.
    pub(crate) fn start_without_parent(
        program: PathBuf,
        arguments: Vec<OsString>,
        log: LogFile,
    ) -> Result<Self, Failure> {
        Self::start_program(program, arguments, 0, log, false)
    }

    fn start_program(
        program: PathBuf,
        arguments: Vec<OsString>,
        niceness: i32,
        log: LogFile,
        has_parent_option: bool,
    ) -> Result<Self, Failure> {
        let (state, back_off) = (State::Waiting { until: Instant::now() }, BackOff::new(FIRST_DELAY, MAX_DELAY));
        let mut daemon = Self { program, arguments, niceness, log, has_parent_option, state, back_off };
        let child = daemon
            .spawn()
            .map_err(|error| Failure::system(format!("unable to start '{}': {error}", daemon.program.display())))?;
        daemon.state = State::Running { child, since: Instant::now() };
        Ok(daemon)
    }

    /// Reaps the daemon if it has ended, and restarts it when its delay has passed. Returns the time of the next restart. Call this again at
    /// that time and after each SIGCHLD.
    pub(crate) fn supervise(&mut self, now: Instant) -> Option<Instant> {
        if let State::Running { child, since } = &mut self.state {
            let Ok(Some(status)) = child.try_wait() else { return None };
            let delay = delay_after(&mut self.back_off, now.saturating_duration_since(*since));
            log::warn!("the daemon {} has ended ({status}); restarting it in {} ms", self.name(), delay.as_millis());
            self.state = State::Waiting { until: now + delay };
        }
        if let State::Waiting { until } = self.state
            && now >= until
        {
            self.state = match self.spawn() {
                Ok(child) => State::Running { child, since: now },
                Err(error) => {
                    log::warn!("unable to start the daemon '{}': {error}; trying again", self.program.display());
                    State::Waiting { until: now + delay_after(&mut self.back_off, Duration::ZERO) }
                }
            };
        }
        match self.state {
            State::Waiting { until } => Some(until),
            State::Running { .. } => None,
        }
    }

    fn stop(&mut self) {
        let State::Running { child, .. } = &mut self.state else { return };
        if process::terminate(child).is_ok() {
            let deadline = Instant::now() + STOP_TIMEOUT;
            while Instant::now() < deadline {
                if !matches!(child.try_wait(), Ok(None)) {
                    return;
                }
                thread::sleep(POLL);
            }
        }
        let _ = child.kill();
        let _ = child.wait();
    }

    fn spawn(&self) -> io::Result<Child> {
        let mut command = self.command();
        command.args(&self.arguments);
        if self.has_parent_option {
            command.arg("--parent-pid").arg(std::process::id().to_string());
        }
        let mut child =
            command.process_group(0).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn()?;
        if let Some(stderr) = child.stderr.take() {
            self.log.follow(stderr)?;
        }
        Ok(child)
    }

    /// Returns the command that executes the program: by nice(1), if the daemon gets another niceness.
    fn command(&self) -> Command {
        if self.niceness == 0 || !process::may_raise_priority() || executable::find_in_path("nice").is_none() {
            return Command::new(&self.program);
        }
        let mut command = Command::new("nice");
        command.arg("-n").arg(self.niceness.to_string()).arg(&self.program);
        command
    }

    fn name(&self) -> Cow<'_, str> {
        self.program.file_name().unwrap_or_default().to_string_lossy()
    }
}

/// Stops the daemon: sends SIGTERM, and SIGKILL if the daemon has not ended after [`STOP_TIMEOUT`].
impl Drop for Daemon {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Returns the path of the program `name` of the suite, which must be beside this program or in PATH.
pub(crate) fn find(name: &str) -> Result<PathBuf, Failure> {
    executable::find(name).ok_or_else(|| {
        let own = std::env::current_exe().unwrap_or_default();
        let own = own.parent().unwrap_or(Path::new(".")).display();
        Failure::system(format!("unable to find '{name}': not in '{own}' and not in PATH; install it in '{own}'"))
    })
}

/// Returns the delay before the restart of a daemon that ran for `uptime`.
fn delay_after(back_off: &mut BackOff, uptime: Duration) -> Duration {
    if uptime >= HEALTHY {
        back_off.reset();
    }
    back_off.delay()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use palabre_host::usage;

    #[test]
    fn root_starts_a_daemon_with_a_lower_niceness() {
        let directory = tempfile::tempdir().unwrap();
        let log = LogFile::open(&directory.path().join("log"), false).unwrap();
        // The shell ignores the options for daemons, which follow its script.
        let arguments = ["-c", "exec sleep 60"].map(OsString::from).to_vec();
        let daemon = Daemon::start("/bin/sh".into(), arguments, -7, log).unwrap();
        let State::Running { child, .. } = &daemon.state else { panic!("the daemon has ended") };
        // The niceness is field 19 of proc_pid_stat(5). `usage::stat` begins with field 3, the state.
        let nice = |pid| usage::stat(pid)?.split(' ').nth(16)?.parse::<i32>().ok();
        let own = nice(std::process::id()).unwrap();
        let expected = if process::may_raise_priority() { own - 7 } else { own };
        let started = Instant::now();
        while nice(child.id()) != Some(expected) && started.elapsed() < HEALTHY {
            thread::sleep(POLL);
        }
        assert_eq!(nice(child.id()), Some(expected));
    }

    #[test]
    fn delay_doubles_up_to_30_s_and_resets_after_10_s_of_uptime() {
        let mut back_off = BackOff::new(FIRST_DELAY, MAX_DELAY);
        let mut next = |uptime_s| delay_after(&mut back_off, Duration::from_secs(uptime_s)).as_millis();
        assert_eq!([next(0), next(0), next(9), next(0)], [100, 200, 400, 800]);
        for _ in 0..100 {
            next(0);
        }
        assert_eq!(next(0), 30_000);
        assert_eq!([next(10), next(0)], [100, 200]);
    }
}
