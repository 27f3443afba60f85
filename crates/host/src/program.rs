//! Replaces the running program by a newer version: execve(2), which keeps the process id, the children and the parent.

use std::convert::Infallible;
use std::env;
use std::ffi::{CString, OsStr, OsString};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::sys::signal::{SigSet, Signal};
use nix::unistd::execve;

/// Signals that are blocked until the new program has installed its handlers, since the default action of these signals
/// would end the program.
const BLOCKED: [Signal; 5] = [Signal::SIGHUP, Signal::SIGTERM, Signal::SIGINT, Signal::SIGUSR1, Signal::SIGUSR2];

/// Environment variables about inherited descriptors. Their old values are not passed on to the next program.
const DESCRIPTOR_VARIABLES: [&str; 4] = ["LISTEN_FDS", "LISTEN_FDNAMES", "LISTEN_PID", "LISTEN_FDS_FIRST_FD"];

/// A program and its arguments.
#[derive(Debug, Clone)]
pub struct Program {
    path: PathBuf,
    arguments: Vec<OsString>,
}

impl Program {
    /// Returns the running program. Call this function early: if the program was started without a `/` in its path, the
    /// path comes from the kernel, which doesn't know the path any more after the file was replaced.
    pub fn this() -> io::Result<Self> {
        let mut arguments = env::args_os();
        let called = arguments.next().filter(|name| name.as_bytes().contains(&b'/'));
        let path = match called {
            Some(path) => std::path::absolute(path)?,
            None => env::current_exe()?,
        };
        Ok(Self { path, arguments: arguments.collect() })
    }

    /// Returns the path of the program.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the arguments after the program's name.
    #[must_use]
    pub fn arguments(&self) -> &[OsString] {
        &self.arguments
    }

    /// Replaces this program by the program that is now at [`Self::path`], with the same arguments, and the same
    /// environment plus `environment`. Returns only if the replacement fails; then nothing has changed.
    ///
    /// Descriptors with close-on-exec are closed, and all other threads end. Call it from the main thread: children with a
    /// parent death signal (prctl(2), PR_SET_PDEATHSIG) die with the thread that spawned them. Signals are blocked until the
    /// new program calls [`crate::signals::Signals::new`].
    #[must_use]
    pub fn replace(&self, environment: &[(&str, OsString)]) -> io::Error {
        let signals = BLOCKED.into_iter().collect::<SigSet>();
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
        let keeps = |name: &OsStr| {
            !DESCRIPTOR_VARIABLES.iter().chain(environment.iter().map(|(new, _)| new)).any(|n| *n == name)
        };
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

/// Unblocks the signals that were blocked while the program was replaced.
pub(crate) fn unblock_signals() -> io::Result<()> {
    let signals = BLOCKED.into_iter().collect::<SigSet>();
    signals.thread_unblock().map_err(|errno: Errno| errno.into())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_replacement_changes_nothing() {
        let program = Program { path: "/nonexistent/program".into(), arguments: Vec::new() };
        assert_eq!(program.replace(&[]).kind(), io::ErrorKind::NotFound);
        let blocked = SigSet::thread_get_mask().unwrap();
        assert!(BLOCKED.iter().all(|signal| !blocked.contains(*signal)));
    }

    #[test]
    fn the_path_of_this_program_is_absolute() {
        let this = Program::this().unwrap();
        assert!(this.path().is_absolute() && this.path().exists());
    }
}
