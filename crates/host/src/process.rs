//! Process attributes (parent death signal, memory protection, limits, umask), child processes and signals.

use std::io;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, ExitStatus};

use nix::errno::Errno;
use nix::sys::prctl;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::{Signal, kill};
use nix::sys::stat::{Mode, umask};
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid, waitpid};
use nix::unistd::{Pid, getppid};

/// Error: [`die_with_parent`] failed.
#[derive(Debug, thiserror::Error)]
pub enum ParentError {
    /// The parent ended before the death signal was set. This process should end too.
    #[error("unable to start: the parent process {expected} has ended")]
    Gone {
        /// The process id of the parent.
        expected: u32,
    },
    /// prctl(2) failed.
    #[error("unable to set the parent death signal with prctl(2): {0}")]
    Prctl(#[source] io::Error),
}

/// Makes the kernel kill this process when its parent dies, and checks that the parent is alive.
///
/// Call it first in `main`. `parent` is the parent's process id, given on the command line. Comparing it with getppid(2)
/// after prctl(2) detects a parent that died before the death signal was set.
///
/// The signal is SIGKILL, not SIGTERM. It is sent only if the parent was killed or crashed. Then ports and the locks of pipes
/// must be free at once for the next supervisor, even if this process hangs. (A parent that ends normally sends SIGTERM to
/// its children.)
///
/// The kernel sends the signal when the *thread* that spawned this process ends: prctl(2), PR_SET_PDEATHSIG. So a
/// parent must spawn from its main thread. execve(2) in the parent doesn't trigger the signal.
pub fn die_with_parent(parent: u32) -> Result<(), ParentError> {
    prctl::set_pdeathsig(Signal::SIGKILL).map_err(|errno| ParentError::Prctl(errno.into()))?;
    if u32::try_from(getppid().as_raw()) == Ok(parent) { Ok(()) } else { Err(ParentError::Gone { expected: parent }) }
}

/// Protects the memory of this process from other processes of the same user: no ptrace(2), no core file, /proc/PID owned by
/// root.
pub fn not_dumpable() -> io::Result<()> {
    Ok(prctl::set_dumpable(false)?)
}

/// Protects this process from other processes of the same user ([`not_dumpable`]), and forbids it to gain privileges by
/// execve(2), as NoNewPrivileges= of systemd.exec(5) does. Each daemon calls this function when it starts: a process becomes
/// dumpable again when it executes another program. If the kernel refuses, the function logs a warning and returns.
pub fn protect() {
    if let Err(error) = not_dumpable() {
        log::warn!("unable to protect the memory of this process from other processes: {error}");
    }
    if let Err(errno) = prctl::set_no_new_privs() {
        log::warn!("unable to set no_new_privs for this process: {}", io::Error::from(errno));
    }
}

/// Makes orphaned descendants children of this process (prctl(2), PR_SET_CHILD_SUBREAPER), so that
/// [`crate::peer::descends_from`] recognises them.
pub fn adopt_orphans() -> io::Result<()> {
    Ok(prctl::set_child_subreaper(true)?)
}

/// Returns whether this process may lower the niceness of a process: only root may.
#[must_use]
pub fn may_raise_priority() -> bool {
    nix::unistd::geteuid().is_root()
}

/// Raises the maximum number of open files to the hard limit, and returns it.
///
/// The soft limit of 1024 exists for select(2), which isn't used here.
pub fn raise_nofile() -> io::Result<u64> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    // If the unit has already raised the limit, setrlimit(2) isn't needed, and a sandbox may forbid it.
    if soft < hard {
        setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?;
    }
    Ok(hard)
}

/// A child process. The process id isn't reused until the child is waited for. Unlike a [`Child`], the child may have
/// been started by the previous program of this process.
#[derive(Debug)]
pub struct OurChild {
    pid: u32,
    /// Whether [`Self::note_end`] has found that the child has ended.
    has_ended: bool,
}

impl OurChild {
    /// Returns the `OurChild` of a child that this program has started.
    #[must_use]
    pub fn of(child: &Child) -> Self {
        Self { pid: child.id(), has_ended: false }
    }

    /// Returns a child that the previous program of this process has started; `None` if `pid` isn't a child of this process.
    #[must_use]
    pub fn adopt(pid: u32) -> Option<Self> {
        let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
        let id = Pid::from_raw(i32::try_from(pid).ok()?);
        waitid(Id::Pid(id), flags).is_ok().then_some(Self { pid, has_ended: false })
    }

    /// Returns the process id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.pid
    }

    /// Sends SIGTERM. Succeeds if the child has ended but was not waited for.
    pub fn terminate(&self) -> io::Result<()> {
        self.signal(Signal::SIGTERM)
    }

    /// Sends SIGKILL.
    pub fn kill(&self) -> io::Result<()> {
        self.signal(Signal::SIGKILL)
    }

    /// Sends SIGHUP, on which the daemons reload.
    pub fn hang_up(&self) -> io::Result<()> {
        self.signal(Signal::SIGHUP)
    }

    /// Sends SIGUSR1, on which a listener hands over to the next process.
    pub fn hand_over(&self) -> io::Result<()> {
        self.signal(Signal::SIGUSR1)
    }

    /// Sends SIGUSR2, on which a listener tells its pages that the participant was removed, and ends.
    pub fn dismiss(&self) -> io::Result<()> {
        self.signal(Signal::SIGUSR2)
    }

    /// Returns the exit status if the child has ended. Then the process id may be reused, and this `OurChild` must be
    /// dropped.
    pub fn try_wait(&self) -> io::Result<Option<ExitStatus>> {
        Ok(exit_status(waitpid(self.pid()?, Some(WaitPidFlag::WNOHANG))?))
    }

    /// Notes whether the child has ended, and doesn't reap it. Call this after SIGCHLD.
    pub fn note_end(&mut self) {
        let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
        // After an error, `try_wait` returns the same error.
        let runs = self.pid().is_ok_and(|pid| waitid(Id::Pid(pid), flags) == Ok(WaitStatus::StillAlive));
        self.has_ended |= !runs;
    }

    /// Returns the exit status if [`Self::note_end`] has found that the child has ended. Between the two calls the caller can receive what the
    /// child has sent before its end. Afterwards this `OurChild` must be dropped, as after [`Self::try_wait`].
    pub fn reap(&self) -> io::Result<Option<ExitStatus>> {
        if self.has_ended { self.try_wait() } else { Ok(None) }
    }

    fn signal(&self, signal: Signal) -> io::Result<()> {
        Ok(kill(self.pid()?, signal)?)
    }

    fn pid(&self) -> io::Result<Pid> {
        i32::try_from(self.pid).map(Pid::from_raw).map_err(io::Error::other)
    }
}

/// Reaps any child that has ended, and returns its process id and how it ended. Returns `None` if none has ended. Don't use it beside [`OurChild::reap`].
pub fn reap_any() -> io::Result<Option<(u32, ExitStatus)>> {
    loop {
        match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
            Ok(status @ (WaitStatus::Exited(pid, _) | WaitStatus::Signaled(pid, _, _))) => {
                return Ok(u32::try_from(pid.as_raw()).ok().zip(exit_status(status)));
            }
            Ok(WaitStatus::StillAlive) | Err(Errno::ECHILD) => return Ok(None),
            Ok(_) | Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
}

/// Sends SIGTERM to a child. Succeeds if it has ended but was not waited for.
pub fn terminate(child: &Child) -> io::Result<()> {
    OurChild::of(child).terminate()
}

/// Returns how a process has ended; `None` if it runs.
fn exit_status(status: WaitStatus) -> Option<ExitStatus> {
    match status {
        // The format of wait(2): the exit code in the second byte, the signal in the first.
        WaitStatus::Exited(_, code) => Some(ExitStatus::from_raw(code << 8)),
        WaitStatus::Signaled(_, signal, _) => Some(ExitStatus::from_raw(signal as i32)),
        _ => None,
    }
}

/// Denies users outside the group access to new files: UMask=0007 of systemd.exec(5).
pub fn share_with_the_group_only() {
    umask(Mode::S_IRWXO);
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn another_process_than_the_parent_is_detected() {
        let error = die_with_parent(std::process::id()).unwrap_err();
        prctl::set_pdeathsig(None).unwrap();
        assert!(matches!(error, ParentError::Gone { .. }));
    }

    #[test]
    #[expect(clippy::zombie_processes, reason = "the tested code waits for them")]
    fn a_child_is_adopted_by_its_id_until_it_is_waited_for() {
        let child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let ours = OurChild::adopt(child.id()).unwrap();
        assert_eq!(ours.try_wait().unwrap(), None);
        ours.kill().unwrap();
        let ended = loop {
            if let Some(status) = ours.try_wait().unwrap() {
                break status;
            }
        };
        assert_eq!(ended.signal(), Some(9));
        assert!(OurChild::adopt(child.id()).is_none() && OurChild::adopt(1).is_none());
        assert!(ours.try_wait().is_err());
        let child = std::process::Command::new("sh").args(["-c", "exit 78"]).spawn().unwrap();
        let ours = OurChild::of(&child);
        let code = loop {
            if let Some(status) = ours.try_wait().unwrap() {
                break status.code();
            }
        };
        assert_eq!(code, Some(78));
    }

    #[test]
    fn a_protected_process_is_not_dumpable_and_gains_no_privileges() {
        protect();
        assert!(!prctl::get_dumpable().unwrap());
        assert!(prctl::get_no_new_privs().unwrap());
    }

    #[test]
    fn the_limit_of_open_files_is_raised_to_the_hard_limit() {
        let raised = raise_nofile().unwrap();
        let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
        assert_eq!((soft, hard), (raised, raised));
    }
}
