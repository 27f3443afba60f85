//! The mixer's sandbox: the files that the mixer needs after its start. A mixer that an attacker has taken over can use no other files.
//!
//! The sandbox stays when the mixer replaces its program by execve(2). The next program learns from the state of the previous program that it
//! is in the sandbox already.

use std::path::Path;

use palabre_host::exit::Failure;
use palabre_host::inherit::Inherited;
use palabre_host::program::Program;
use palabre_host::sandbox::{Access, Enforced, Sandbox};

use crate::cli::Args;

/// Enters the sandbox, unless the previous program has entered it. Call this before the first thread is started.
pub(crate) fn enter(args: &Args, program: &Program, inherited: &mut Inherited) -> Result<Enforced, Failure> {
    let state = inherited.state().ok().flatten();
    let previous = state.and_then(|state| std::str::from_utf8(&state).ok()?.parse().ok());
    sandbox(program.path(), &args.rooms, args.files.as_deref())
        .enter_once(args.sandbox, previous)
        .map_err(Failure::config)
}

fn sandbox(program: &Path, rooms: &Path, files: Option<&Path>) -> Sandbox {
    let sandbox = Sandbox::default().replaceable(program).permit(Access::Write, rooms);
    files.into_iter().fold(sandbox, |sandbox, files| sandbox.permit(Access::Write, files))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use palabre_host::sandbox::Strictness;
    use palabre_testing::attack::{self, Attacker, attempt};
    use std::fs;
    use std::os::unix::fs::symlink;
    use std::os::unix::process::CommandExt as _;
    use std::process::Command;

    /// Does nothing in a normal test run. [`attack`] runs this test in another process, which then enters the sandbox and makes the attempts.
    #[test]
    fn attacker() {
        let Some(attacker) = Attacker::here() else { return };
        let [rooms, etc, files] = ["rooms", "etc", "files"].map(|name| attacker.directory.join(name));
        let sandbox = sandbox(&std::env::current_exe().unwrap(), &rooms, Some(&files));
        let enforced = sandbox.limit(attacker.landlock, attacker.seccomp).enter(Strictness::BestEffort).unwrap();
        println!("\nenforced\t{enforced}");
        for directory in [&rooms.join("main"), &files] {
            fs::write(directory.join("new"), "x").unwrap();
            fs::rename(directory.join("new"), directory.join("file")).unwrap();
            assert_eq!(fs::read(directory.join("file")).unwrap(), b"x");
        }
        // What the mixer needs is permitted: each of these calls fails if the sandbox refuses it.
        fs::read_dir("/proc/self/fd").unwrap();
        std::thread::Builder::new().spawn(|| ()).unwrap().join().unwrap();
        nix::sys::inotify::Inotify::init(nix::sys::inotify::InitFlags::empty()).unwrap();
        palabre_host::process::not_dumpable().unwrap();
        attempt("read `/etc/passwd`", fs::read("/etc/passwd"));
        attempt("read the TLS key", fs::read(etc.join("key.pem")));
        attempt("write into another directory", fs::write(etc.join("palabre.toml"), "x"));
        attempt("make a participant", fs::create_dir(rooms.join("main/mallory")));
        attempt("make a symbolic link", symlink("/etc/passwd", rooms.join("main/link")));
        attempt("link another's file", fs::hard_link(etc.join("key.pem"), rooms.join("main/link")));
        attempt("replace the program by another", Err::<(), _>(Command::new("/bin/true").exec()));
        attacker.attack_others(&rooms.join("main"), &etc.join("key.pem"));
    }

    #[test]
    fn taken_over_mixer_can_use_only_its_rooms_and_files_and_no_other_process() {
        let directory = tempfile::tempdir().unwrap();
        for name in ["rooms/main", "etc", "files"] {
            fs::create_dir_all(directory.path().join(name)).unwrap();
        }
        fs::write(directory.path().join("etc/key.pem"), "secret").unwrap();
        let (attempts, text) = attack::run("sandbox::tests::attacker", directory.path(), 6, true);
        if !text.contains("enforced\tLandlock 6, seccomp") {
            return palabre_testing::not_shown(
                "the whole sandbox of the mixer",
                "this kernel doesn't enforce all of it",
            );
        }
        let permitted: Vec<_> = attempts.iter().filter(|(_, is_refused)| !**is_refused).collect();
        assert!(permitted.is_empty() && attempts.len() == 27, "{} attempts, {permitted:?}", attempts.len());
    }
}
