//! The program that runs, and how it becomes a newer one of itself: execve(2), which keeps the process id, the children and
//! the parent.

use std::convert::Infallible;
use std::env;
use std::ffi::{CString, OsStr, OsString};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::sys::signal::{SigSet, Signal};
use nix::unistd::execve;

/// What must wait until the new program can receive it: each of them would end a program that has just begun.
const WAIT: [Signal; 5] = [Signal::SIGHUP, Signal::SIGTERM, Signal::SIGINT, Signal::SIGUSR1, Signal::SIGUSR2];

/// What was said about sockets to the program that goes.
const NOT_FOR_THE_NEXT: [&str; 4] = ["LISTEN_FDS", "LISTEN_FDNAMES", "LISTEN_PID", "LISTEN_FDS_FIRST_FD"];

/// A program and its arguments, as they were at the start.
#[derive(Debug, Clone)]
pub struct Program {
    path: PathBuf,
    arguments: Vec<OsString>,
}

impl Program {
    /// This one. Call it early: its own path is the one by which it was started, and where that has no `/`, the kernel's,
    /// which is no longer told once somebody has replaced the file.
    ///
    /// # Errors
    /// Those of readlink(2) and getcwd(2).
    pub fn this() -> io::Result<Self> {
        let mut arguments = env::args_os();
        let called = arguments.next().filter(|name| name.as_bytes().contains(&b'/'));
        let path = match called {
            Some(path) => std::path::absolute(path)?,
            None => env::current_exe()?,
        };
        Ok(Self { path, arguments: arguments.collect() })
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What follows its name on the command line.
    #[must_use]
    pub fn arguments(&self) -> &[OsString] {
        &self.arguments
    }

    /// Becomes what is now at [`Self::path`], with the same arguments, the same environment and what is in `environment`.
    /// It comes back only when that fails, and then nothing has changed.
    ///
    /// Descriptors with close-on-exec are closed, all threads but the calling one are gone: call it from the main thread,
    /// or children that die with the thread that made them (prctl(2), PR_SET_PDEATHSIG) die. Signals that come meanwhile
    /// wait for the new program's [`crate::signals::Signals::new`].
    #[must_use]
    pub fn replace(&self, environment: &[(&str, OsString)]) -> io::Error {
        let signals = WAIT.into_iter().collect::<SigSet>();
        if let Err(errno) = signals.thread_block() {
            return errno.into();
        }
        let Err(error) = self.exec(environment);
        let _ = signals.thread_unblock();
        error
    }

    fn exec(&self, environment: &[(&str, OsString)]) -> io::Result<Infallible> {
        let c = |text: &OsStr| CString::new(text.as_bytes()).map_err(io::Error::from);
        let path = c(self.path.as_os_str())?;
        let arguments = self.arguments.iter().map(|argument| c(argument)).collect::<io::Result<Vec<_>>>()?;
        let arguments: Vec<CString> = std::iter::once(path.clone()).chain(arguments).collect();
        let keeps =
            |name: &OsStr| !NOT_FOR_THE_NEXT.iter().chain(environment.iter().map(|(new, _)| new)).any(|n| *n == name);
        let kept = env::vars_os().filter(|(name, _)| keeps(name));
        let new = environment.iter().map(|(name, value)| (OsString::from(name), value.clone()));
        let pair = |(mut name, value): (OsString, OsString)| {
            name.push("=");
            name.push(value);
            c(&name)
        };
        let environment = kept.chain(new).map(pair).collect::<io::Result<Vec<_>>>()?;
        Ok(execve(&path, &arguments, &environment)?)
    }
}

/// Lets the signals come that had to wait while the program was replaced.
pub(crate) fn let_signals_come() -> io::Result<()> {
    let signals = WAIT.into_iter().collect::<SigSet>();
    signals.thread_unblock().map_err(|errno: Errno| errno.into())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_is_gone_leaves_everything_as_it_was() {
        let program = Program { path: "/nonexistent/program".into(), arguments: Vec::new() };
        assert_eq!(program.replace(&[]).kind(), io::ErrorKind::NotFound);
        let blocked = SigSet::thread_get_mask().unwrap();
        assert!(WAIT.iter().all(|signal| !blocked.contains(*signal)));
    }

    #[test]
    fn this_program_is_known_by_its_path() {
        let this = Program::this().unwrap();
        assert!(this.path().is_absolute() && this.path().exists());
    }
}
