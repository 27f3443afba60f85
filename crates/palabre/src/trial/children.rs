//! The mixer and the supervisor as children of `palabre try`: started, watched, restarted by the supervisor's own rule.
//!
//! They are spawned by the main thread only and know its process id, so that they die with it whatever happens
//! (`PR_SET_PDEATHSIG` means the *thread* that spawned). Each is a process group of its own: a Ctrl-C in the terminal is
//! ours to handle, not theirs.

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

use super::log_file::LogFile;

/// After the first death; every further one doubles it.
const FIRST_DELAY: Duration = Duration::from_millis(100);
/// The longest wait before a restart.
const LONGEST_DELAY: Duration = Duration::from_secs(30);
/// Who lives as long as this is healthy: its earlier deaths are forgotten.
const HEALTHY: Duration = Duration::from_secs(10);
/// How long a child may take to end when it is asked to.
const PATIENCE: Duration = Duration::from_secs(4);
/// How often we look whether it has.
const LOOK: Duration = Duration::from_millis(10);

/// A program that is kept running.
pub struct Kept {
    program: PathBuf,
    arguments: Vec<std::ffi::OsString>,
    log: LogFile,
    state: State,
    delay: Delay,
}

enum State {
    Running { child: Child, since: Instant },
    Waiting { until: Instant },
}

impl Kept {
    /// Starts `program`.
    ///
    /// # Errors
    /// It can't be started the first time.
    pub fn start(program: PathBuf, arguments: Vec<std::ffi::OsString>, log: LogFile) -> Result<Self, Failure> {
        let state = State::Waiting { until: Instant::now() };
        let mut kept = Self { program, arguments, log, state, delay: Delay::default() };
        let child = kept
            .spawn()
            .map_err(|error| Failure::system(format!("unable to start '{}': {error}", kept.program.display())))?;
        kept.state = State::Running { child, since: Instant::now() };
        Ok(kept)
    }

    /// Looks after the child: notices its death, starts it again when it is time. When to call again, unless SIGCHLD
    /// comes first.
    pub fn look_after(&mut self, now: Instant) -> Option<Instant> {
        if let State::Running { child, since } = &mut self.state {
            let Ok(Some(status)) = child.try_wait() else { return None };
            let delay = self.delay.after_death(now.saturating_duration_since(*since));
            log::warn!("{} ended ({status}); restarting it in {} ms", self.name(), delay.as_millis());
            self.state = State::Waiting { until: now + delay };
        }
        if let State::Waiting { until } = self.state
            && now >= until
        {
            self.state = match self.spawn() {
                Ok(child) => State::Running { child, since: now },
                Err(error) => {
                    log::warn!("unable to start '{}': {error}", self.program.display());
                    State::Waiting { until: now + self.delay.after_death(Duration::ZERO) }
                }
            };
        }
        match self.state {
            State::Waiting { until } => Some(until),
            State::Running { .. } => None,
        }
    }

    /// Asks the child to end, waits for it, and kills it if it doesn't.
    pub fn stop(&mut self) {
        let State::Running { child, .. } = &mut self.state else { return };
        if process::terminate(child).is_ok() {
            let deadline = Instant::now() + PATIENCE;
            while Instant::now() < deadline {
                if !matches!(child.try_wait(), Ok(None)) {
                    return;
                }
                thread::sleep(LOOK);
            }
        }
        let _ = child.kill();
        let _ = child.wait();
    }

    fn spawn(&self) -> io::Result<Child> {
        let mut child = Command::new(&self.program)
            .args(&self.arguments)
            .arg("--parent-pid")
            .arg(std::process::id().to_string())
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()?;
        if let Some(stderr) = child.stderr.take() {
            self.log.follow(stderr)?;
        }
        Ok(child)
    }

    fn name(&self) -> std::borrow::Cow<'_, str> {
        self.program.file_name().unwrap_or_default().to_string_lossy()
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Where the suite's program `name` is: beside this one, or in the PATH.
///
/// # Errors
/// It is in neither place.
pub fn find(name: &str) -> Result<PathBuf, Failure> {
    executable::find(name).ok_or_else(|| {
        let here = std::env::current_exe().unwrap_or_default();
        let here = here.parent().unwrap_or(Path::new(".")).display();
        Failure::system(format!("unable to find '{name}': it is neither in '{here}' nor in PATH; install it there"))
    })
}

/// The supervisor's rule: 100 ms, doubling to 30 s, forgotten after 10 s of health.
struct Delay(BackOff);

impl Default for Delay {
    fn default() -> Self {
        Self(BackOff::new(FIRST_DELAY, LONGEST_DELAY))
    }
}

impl Delay {
    fn after_death(&mut self, lived: Duration) -> Duration {
        if lived >= HEALTHY {
            self.0.reset();
        }
        self.0.delay()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_delay_doubles_up_to_half_a_minute_and_is_forgotten_in_health() {
        let mut delay = Delay::default();
        let mut next = |lived_s| delay.after_death(Duration::from_secs(lived_s)).as_millis();
        assert_eq!([next(0), next(0), next(9), next(0)], [100, 200, 400, 800]);
        for _ in 0..100 {
            next(0);
        }
        assert_eq!(next(0), 30_000);
        assert_eq!([next(10), next(0)], [100, 200]);
    }
}
