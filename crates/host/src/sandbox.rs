//! Restricts this process to the files and system calls that its program needs: Landlock (landlock(7)) and seccomp (seccomp(2)).
//!
//! Both apply to the calling thread and the threads that it starts later, so a program enters its sandbox before its first
//! thread. A forbidden call fails with EPERM or EACCES, which the program logs. clone3(2) fails with ENOSYS, so the C library uses clone(2) instead.
//! Only a system call for another architecture, such as 32-bit x86, ends the process.

mod alone;
mod calls;
mod files;

use std::fmt;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use nix::errno::Errno;
use nix::sched::{CloneFlags, unshare};

pub use files::Access;

/// Files that a program reads while it starts. The sandbox survives execve(2), so it must permit these files if the program replaces itself.
/// `/proc` has the list of the inherited descriptors.
const OF_START: [(Access, &str); 6] = [
    (Access::Run, "/lib"),
    (Access::Run, "/lib64"),
    (Access::Run, "/usr/lib"),
    (Access::Run, "/usr/lib64"),
    (Access::Read, "/etc/ld.so.cache"),
    (Access::Read, "/proc"),
];

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
    kind: Kind,
    limits: Limits,
}

/// The parts of a sandbox to use: all of them, except in tests.
#[derive(Debug)]
struct Limits {
    /// The newest version of the Landlock ABI to use.
    landlock: u32,
    seccomp: bool,
}

impl Default for Limits {
    fn default() -> Self {
        Self { landlock: files::NEWEST, seccomp: true }
    }
}

/// Which system calls a sandbox forbids.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Forbids the calls that no program needs after its start.
    #[default]
    Usual,
    /// Forbids also the calls in [`alone`].
    Alone,
    /// Forbids the same calls as [`Self::Usual`], but permits those that a program needs to replace itself.
    Replaceable,
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

/// Forbids this process and its later children the system calls that no daemon needs, such as ptrace(2), bpf(2), mount(2) and unshare(2). This is
/// for a program that starts other daemons, which enter their own sandboxes. Does nothing if the calls are forbidden already, because a previous
/// program in this process has called this function.
pub fn forbid_machine() {
    // Without a flag, unshare(2) changes nothing. So this call only tests whether the system calls are forbidden already.
    if unshare(CloneFlags::empty()) == Err(Errno::EPERM) {
        return;
    }
    if let Err(cause) = calls::restrict_machine() {
        log::warn!("unable to enter a part of the sandbox: seccomp: {cause}");
    }
}

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
        self.kind = Kind::Alone;
        self
    }

    /// Also permits inotify(7), and what [`Program::replace`](crate::program::Program::replace) and the start of the next program need: to execute
    /// the files in the directory of `program`, to load libraries, and to read `/proc`.
    #[must_use]
    pub fn replaceable(mut self, program: &Path) -> Self {
        self.kind = Kind::Replaceable;
        let target = program.canonicalize().unwrap_or_else(|_| program.to_owned());
        let directories = [program, &target].into_iter().filter_map(Path::parent);
        let programs = directories.fold(self, |sandbox, directory| sandbox.permit(Access::Run, directory));
        OF_START.iter().fold(programs, |sandbox, (access, path)| sandbox.permit(*access, path))
    }

    /// Uses only these parts of the sandbox: Landlock up to this version of its ABI, as an older kernel has it, and seccomp. This is for tests. No
    /// program calls this function.
    #[doc(hidden)]
    #[must_use]
    pub fn limit(mut self, landlock: u32, seccomp: bool) -> Self {
        self.limits = Limits { landlock, seccomp };
        self
    }

    /// Enters the sandbox, unless the previous program in the same process has entered it. `previous` says what the kernel enforces since then.
    /// The kernel keeps a sandbox over execve(2). Each further sandbox would make system calls slower, and Landlock permits only 16.
    ///
    /// # Errors
    /// See [`Self::enter`].
    pub fn enter_once(&self, strictness: Strictness, previous: Option<Enforced>) -> Result<Enforced, SandboxError> {
        match previous.filter(|previous| *previous != Enforced::default()) {
            Some(previous) if previous.is_in_force() => return Ok(previous),
            Some(previous) => {
                log::warn!(
                    "the kernel no longer enforces the sandbox of the previous program ({previous}); entering a new one"
                );
            }
            None => {}
        }
        self.enter(strictness)
    }

    /// Enters the sandbox, which this thread and its later threads can't leave. Returns what the kernel enforces.
    ///
    /// # Errors
    /// The sandbox is [`Strictness::Required`], and the kernel doesn't enforce both parts.
    pub fn enter(&self, strictness: Strictness) -> Result<Enforced, SandboxError> {
        if strictness == Strictness::Off {
            return Ok(Enforced::default());
        }
        let landlock = files::restrict(&self.files, self.limits.landlock);
        // seccomp comes last, because it forbids the system calls of Landlock.
        let seccomp = match self.kind {
            _ if !self.limits.seccomp => Err("turned off".to_owned()),
            Kind::Usual => calls::restrict(),
            Kind::Alone => calls::restrict().and_then(|()| alone::restrict()),
            Kind::Replaceable => calls::restrict_replaceable(),
        };
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

impl Enforced {
    /// Returns whether the kernel enforces these parts for this process. Listing the root directory tests Landlock, because every sandbox forbids it.
    fn is_in_force(self) -> bool {
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        let has = |line: &str| status.lines().any(|it| it == line);
        let is_landlocked = || fs::read_dir("/").is_err_and(|error| error.kind() == ErrorKind::PermissionDenied);
        (!self.seccomp || (has("Seccomp:\t2") && has("NoNewPrivs:\t1"))) && (self.landlock == 0 || is_landlocked())
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

/// Parses the text that [`fmt::Display`] returns.
impl FromStr for Enforced {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (landlock, rest) = match text.strip_prefix("Landlock ") {
            Some(rest) => rest.split_once(", ").unwrap_or((rest, "off")),
            None => ("0", text),
        };
        let seccomp = match rest {
            "seccomp" => true,
            "off" => false,
            _ => return Err(()),
        };
        Ok(Self { landlock: landlock.parse().map_err(drop)?, seccomp })
    }
}

impl FromStr for Strictness {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "required" => Ok(Self::Required),
            "best-effort" => Ok(Self::BestEffort),
            "off" => Ok(Self::Off),
            _ => Err("use 'required', 'best-effort' or 'off'"),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn enforced_parts_are_written_and_read_as_text() {
        for (landlock, seccomp) in [(0, false), (0, true), (6, false), (6, true), (12, true)] {
            let enforced = Enforced { landlock, seccomp };
            assert_eq!(enforced.to_string().parse(), Ok(enforced));
        }
        for text in ["", "Landlock", "Landlock x", "Landlock 6, bpf", "seccomp, Landlock 6"] {
            assert_eq!(text.parse::<Enforced>(), Err(()), "{text}");
        }
    }

    #[test]
    fn program_that_starts_daemons_forbids_calls_once_and_can_still_start_programs() {
        // The test enters the filter in a thread of its own, so that only this thread has the filter.
        let filters = || {
            let status = fs::read_to_string("/proc/thread-self/status").unwrap();
            status.lines().filter(|line| line.starts_with("Seccomp")).map(str::to_owned).collect::<Vec<_>>()
        };
        let thread = std::thread::spawn(move || {
            forbid_machine();
            let after = filters();
            forbid_machine();
            assert_eq!(filters(), after);
            assert_eq!(unshare(CloneFlags::CLONE_NEWUSER), Err(Errno::EPERM));
            assert!(std::process::Command::new("true").status().unwrap().success());
        });
        thread.join().unwrap();
    }

    #[test]
    fn sandbox_that_is_not_in_force_is_noticed() {
        let claimed = Enforced { landlock: 6, seccomp: false };
        assert!(!claimed.is_in_force() && Enforced::default().is_in_force());
    }
}
