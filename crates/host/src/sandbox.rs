//! Restricts this process to the files and system calls that its program needs: Landlock (landlock(7)) and seccomp (seccomp(2)).
//!
//! Both apply to the calling thread and the threads that it starts later, so a program enters its sandbox before its first
//! thread. A forbidden call fails with EPERM or EACCES, which the program logs. Only a system call for another architecture, such as
//! 32-bit x86, ends the process.

mod alone;
mod calls;
mod files;

use std::fmt;
use std::path::{Path, PathBuf};

pub use files::Access;

/// Whether a program may run without its sandbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Strictness {
    /// The program fails to start if the kernel has no Landlock or no seccomp.
    Required,
    /// The program enforces the parts of its sandbox that the kernel supports.
    BestEffort,
    /// The program has no sandbox.
    Off,
}

/// The sandbox of a program: the files that the program may use after it has entered the sandbox, by default none. Files and sockets
/// that are open already remain usable.
#[derive(Debug, Default)]
pub struct Sandbox {
    files: Vec<(PathBuf, Access)>,
    is_alone: bool,
}

/// The parts of the sandbox that the kernel enforces for this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Enforced {
    /// Version of the Landlock ABI; 0 if the kernel has no Landlock.
    pub landlock: u32,
    /// Whether the kernel filters system calls.
    pub seccomp: bool,
}

/// Error: a sandbox that is required can't be entered.
#[derive(Debug, thiserror::Error)]
#[error(
    "unable to enter the sandbox: {0}; set 'sandbox = \"best-effort\"' in [security] of palabre.toml to start without it"
)]
pub struct SandboxError(String);

impl Sandbox {
    /// Permits an access to the file or to everything in the directory at `path`. A path that doesn't exist is ignored.
    #[must_use]
    pub fn permit(mut self, access: Access, path: impl AsRef<Path>) -> Self {
        self.files.push((path.as_ref().to_owned(), access));
        self
    }

    /// Also forbids starting threads, changing directories, and accepting connections.
    #[must_use]
    pub fn alone(mut self) -> Self {
        self.is_alone = true;
        self
    }

    /// Enters the sandbox, which this thread and its later threads can't leave. Returns what the kernel enforces.
    ///
    /// # Errors
    /// The sandbox is [`Strictness::Required`], and the kernel doesn't enforce both parts.
    pub fn enter(&self, strictness: Strictness) -> Result<Enforced, SandboxError> {
        if strictness == Strictness::Off {
            return Ok(Enforced::default());
        }
        let landlock = files::restrict(&self.files);
        // seccomp comes last, because it forbids the system calls of Landlock.
        let seccomp = calls::restrict().and_then(|()| if self.is_alone { alone::restrict() } else { Ok(()) });
        let failed = |part: &str, cause: &str| {
            let text = format!("{part}: {cause}");
            match strictness {
                Strictness::Required => Err(SandboxError(text)),
                _ => {
                    log::warn!("unable to enter a part of the sandbox: {text}");
                    Ok(())
                }
            }
        };
        let landlock = match landlock {
            Ok(0) => failed("Landlock", "this kernel has no Landlock").map(|()| 0)?,
            Ok(version) => version,
            Err(cause) => failed("Landlock", &cause).map(|()| 0)?,
        };
        let seccomp = match seccomp {
            Ok(()) => true,
            Err(cause) => failed("seccomp", &cause).map(|()| false)?,
        };
        Ok(Enforced { landlock, seccomp })
    }
}

impl fmt::Display for Enforced {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.landlock, self.seccomp) {
            (0, false) => f.write_str("off"),
            (0, true) => f.write_str("seccomp"),
            (version, false) => write!(f, "Landlock {version}"),
            (version, true) => write!(f, "Landlock {version}, seccomp"),
        }
    }
}
