//! What a process says about itself to the kernel: whom it dies with, who may read its memory, how much it may open.

use std::io;
use std::process::Child;

use nix::sys::prctl;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::{Signal, kill};
use nix::sys::stat::{Mode, umask};
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

/// Asks a child to leave, by SIGTERM. Fine if it has left and has not been waited for yet.
///
/// # Errors
/// Those of kill(2).
pub fn terminate(child: &Child) -> io::Result<()> {
    // A child that has not been waited for keeps its process id, so no stranger can be meant; the kernel's ids are i32.
    let pid = i32::try_from(child.id()).map_err(io::Error::other)?;
    Ok(kill(Pid::from_raw(pid), Signal::SIGTERM)?)
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
    fn the_limit_of_open_files_is_raised_to_the_hard_one() {
        let raised = raise_nofile().unwrap();
        let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
        assert_eq!((soft, hard), (raised, raised));
    }
}
