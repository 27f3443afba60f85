//! What a process says about itself to the kernel: whom it dies with, who may read its memory, how much it may open.

use std::io;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, ExitStatus};

use nix::sys::prctl;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::{Signal, kill};
use nix::sys::stat::{Mode, umask};
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid, waitpid};
use nix::unistd::{Pid, getppid};

/// Why [`die_with_parent`] can't keep its promise.
#[derive(Debug, thiserror::Error)]
pub enum ParentError {
    /// The parent was gone before we could ask to die with it. The right answer is to leave.
    #[error("unable to stay: the parent process {expected} is gone")]
    Gone {
        /// The process id that the parent said was its own.
        expected: u32,
    },
    /// prctl(2) failed.
    #[error("unable to ask for the parent's death signal: {0}")]
    Prctl(#[source] io::Error),
}

/// Makes the kernel kill this process when its parent dies, and checks that the parent is still there.
///
/// Call it first in `main`. `parent` is the parent's own process id, given on the command line: comparing it with
/// getppid(2) after the prctl(2) closes the gap in which the parent dies before we have asked.
///
/// The signal is SIGKILL, not SIGTERM. It comes only when the parent was killed or crashed, and then the promise is
/// that the ports and the pipes' locks are free at once for the parent's successor; a process that hangs, or takes its
/// time to say farewell, would break it. (An orderly end goes through the parent's own SIGTERM to its children.)
///
/// The parent's death means the death of the *thread* that spawned us: prctl(2), PR_SET_PDEATHSIG. So a parent spawns
/// from its main thread only. An execve(2) of the parent leaves everything as it is.
///
/// # Errors
/// [`ParentError::Gone`] when the parent is another one, [`ParentError::Prctl`] when the kernel refuses.
pub fn die_with_parent(parent: u32) -> Result<(), ParentError> {
    prctl::set_pdeathsig(Signal::SIGKILL).map_err(|errno| ParentError::Prctl(errno.into()))?;
    if u32::try_from(getppid().as_raw()) == Ok(parent) { Ok(()) } else { Err(ParentError::Gone { expected: parent }) }
}

/// Keeps other processes of the same user out of our memory: no ptrace(2), no core file, /proc/PID owned by root.
///
/// # Errors
/// Those of prctl(2).
pub fn not_dumpable() -> io::Result<()> {
    Ok(prctl::set_dumpable(false)?)
}

/// Raises the number of files we may open to the hard limit, and returns it.
///
/// The soft limit is 1024 for the sake of select(2), which nobody uses here.
///
/// # Errors
/// Those of getrlimit(2) and setrlimit(2).
pub fn raise_nofile() -> io::Result<u64> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    // A sandbox may forbid the call where its unit has raised the limit already.
    if soft < hard {
        setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?;
    }
    Ok(hard)
}

/// A child of ours by its process id, which stays its own until we have waited for it. Unlike [`Child`] it may have been
/// started by the program that was this process before.
#[derive(Debug)]
pub struct OurChild(u32);

impl OurChild {
    /// One that this program has started.
    #[must_use]
    pub fn of(child: &Child) -> Self {
        Self(child.id())
    }

    /// One that an earlier program of this process has started. `None` where we have no such child: then the process is
    /// not ours to wait for, nor to end.
    #[must_use]
    pub fn adopt(pid: u32) -> Option<Self> {
        let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
        let id = Pid::from_raw(i32::try_from(pid).ok()?);
        waitid(Id::Pid(id), flags).is_ok().then_some(Self(pid))
    }

    /// The process id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.0
    }

    /// Asks it to leave, by SIGTERM. Fine if it has left and has not been waited for yet.
    ///
    /// # Errors
    /// Those of kill(2).
    pub fn terminate(&self) -> io::Result<()> {
        self.signal(Signal::SIGTERM)
    }

    /// Kills it.
    ///
    /// # Errors
    /// Those of kill(2).
    pub fn kill(&self) -> io::Result<()> {
        self.signal(Signal::SIGKILL)
    }

    /// Has it read its configuration, or what of it can change, again: SIGHUP.
    ///
    /// # Errors
    /// Those of kill(2).
    pub fn hang_up(&self) -> io::Result<()> {
        self.signal(Signal::SIGHUP)
    }

    /// Has it hand over to another process that serves in its place: SIGUSR1.
    ///
    /// # Errors
    /// Those of kill(2).
    pub fn hand_over(&self) -> io::Result<()> {
        self.signal(Signal::SIGUSR1)
    }

    /// How it ended, if it has; the id is no longer its own after that, and this must be dropped.
    ///
    /// # Errors
    /// Those of waitpid(2): ECHILD when somebody else has waited for it.
    pub fn try_wait(&self) -> io::Result<Option<ExitStatus>> {
        match waitpid(self.pid()?, Some(WaitPidFlag::WNOHANG))? {
            // As wait(2) packs them: the code in the second byte, the signal in the first.
            WaitStatus::Exited(_, code) => Ok(Some(ExitStatus::from_raw(code << 8))),
            WaitStatus::Signaled(_, signal, _) => Ok(Some(ExitStatus::from_raw(signal as i32))),
            _ => Ok(None),
        }
    }

    fn signal(&self, signal: Signal) -> io::Result<()> {
        Ok(kill(self.pid()?, signal)?)
    }

    fn pid(&self) -> io::Result<Pid> {
        i32::try_from(self.0).map(Pid::from_raw).map_err(io::Error::other)
    }
}

/// Asks a child to leave, by SIGTERM. Fine if it has left and has not been waited for yet.
///
/// # Errors
/// Those of kill(2).
pub fn terminate(child: &Child) -> io::Result<()> {
    // A child that has not been waited for keeps its process id, so no stranger can be meant; the kernel's ids are i32.
    let pid = i32::try_from(child.id()).map_err(io::Error::other)?;
    Ok(kill(Pid::from_raw(pid), Signal::SIGTERM)?)
}

/// Sends SIGHUP to any process that we may send it to.
///
/// # Errors
/// Those of kill(2): EPERM where it is another user's, ESRCH where it is gone.
pub fn hang_up(pid: u32) -> io::Result<()> {
    let pid = i32::try_from(pid).map_err(io::Error::other)?;
    Ok(kill(Pid::from_raw(pid), Signal::SIGHUP)?)
}

/// What we create is for the owner and the group, never for others, as UMask=0007 of systemd.exec(5) has it.
pub fn share_with_the_group_only() {
    umask(Mode::S_IRWXO);
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_parent_that_is_not_ours_is_gone() {
        // Our own id can't be our parent's.
        let error = die_with_parent(std::process::id()).unwrap_err();
        prctl::set_pdeathsig(None).unwrap();
        assert!(matches!(error, ParentError::Gone { .. }));
    }

    #[test]
    #[expect(clippy::zombie_processes, reason = "what waits for them is what is tested")]
    fn a_child_is_known_by_its_id_until_it_was_waited_for() {
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
    fn the_limit_of_open_files_is_raised_to_the_hard_one() {
        let raised = raise_nofile().unwrap();
        let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
        assert_eq!((soft, hard), (raised, raised));
    }
}
