//! The part of the sandbox for files, TCP ports, signals and abstract sockets: landlock(7).

use std::path::PathBuf;

use landlock::{
    ABI, Access as _, AccessFs, AccessNet, BitFlags, CompatLevel, Compatible, LandlockStatus, PathBeneath, PathFd,
    Ruleset, RulesetAttr, RulesetCreatedAttr, RulesetError, RulesetStatus, Scope,
};

/// The versions of the Landlock ABI whose features are used. Version 6 restricts signals and abstract sockets.
const VERSIONS: [ABI; 6] = [ABI::V1, ABI::V2, ABI::V3, ABI::V4, ABI::V5, ABI::V6];

/// The newest version of the Landlock ABI whose features are used.
pub(super) const NEWEST: u32 = 6;

/// An access to a file, or to everything below a directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// List directories.
    List,
    /// Remove files, but not directories.
    Remove,
    /// Read files and list directories.
    Read,
    /// Execute and read files, and list directories.
    Run,
    /// Read, write, create, replace and remove regular files, pipes and sockets, and list directories.
    Write,
}

impl Access {
    fn rights(self) -> BitFlags<AccessFs> {
        let read = AccessFs::ReadFile | AccessFs::ReadDir;
        let write = read
            | AccessFs::WriteFile
            | AccessFs::Truncate
            | AccessFs::MakeReg
            | AccessFs::MakeFifo
            | AccessFs::MakeSock
            | AccessFs::RemoveFile;
        match self {
            Self::List => AccessFs::ReadDir.into(),
            Self::Remove => AccessFs::RemoveFile.into(),
            Self::Read => read,
            Self::Run => read | AccessFs::Execute,
            Self::Write => write,
        }
    }
}

/// Forbids all accesses to files except those in `files`. If the kernel supports it, also forbids the use of TCP ports, signals to other
/// processes, and connections to their abstract sockets. Uses at most this version of the Landlock ABI. Returns the version that is enforced; 0 if the kernel has no
/// Landlock.
pub(super) fn restrict(files: &[(PathBuf, Access)], newest: u32) -> Result<u32, String> {
    match VERSIONS.get(..newest as usize).and_then(<[ABI]>::last) {
        Some(newest) => restrict_as(*newest, files).map_err(|error| error.to_string()),
        None => Ok(0),
    }
}

fn restrict_as(newest: ABI, files: &[(PathBuf, Access)]) -> Result<u32, RulesetError> {
    let all = AccessFs::from_all(newest);
    let mut ruleset = Ruleset::default().set_compatibility(CompatLevel::BestEffort).handle_access(all)?;
    if newest >= ABI::V4 {
        ruleset = ruleset.handle_access(AccessNet::from_all(newest))?;
    }
    if newest >= ABI::V6 {
        ruleset = ruleset.scope(Scope::from_all(newest))?;
    }
    let mut ruleset = ruleset.create()?;
    for (path, access) in files {
        // A path that doesn't exist needs no rule.
        let Ok(file) = PathFd::new(path) else { continue };
        // A right for directories in a rule for a file would be an error.
        let possible = if path.is_dir() { all } else { AccessFs::from_file(newest) };
        ruleset = ruleset.add_rule(PathBeneath::new(file, access.rights() & possible))?;
    }
    let status = ruleset.restrict_self()?;
    let version = match status.landlock {
        LandlockStatus::Available { effective_abi, .. } => (effective_abi as u32).min(newest as u32),
        _ => 0,
    };
    Ok(if status.ruleset == RulesetStatus::NotEnforced { 0 } else { version })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn each_version_of_landlock_permits_the_given_files_and_no_others() {
        for newest in VERSIONS {
            // The test enters the sandbox in a thread of its own, so that only this thread is restricted.
            let attempt = std::thread::spawn(move || {
                let directory = tempfile::tempdir().unwrap();
                let (read, written) = (directory.path().join("read"), directory.path().join("written"));
                for path in [&read, &written] {
                    fs::create_dir(path).unwrap();
                    fs::write(path.join("file"), "x").unwrap();
                }
                let missing = directory.path().join("missing");
                let files = [(read.clone(), Access::Read), (written.clone(), Access::Write), (missing, Access::Read)];
                let version = restrict_as(newest, &files).unwrap();
                if version == 0 {
                    return false;
                }
                assert!(version <= newest as u32);
                assert!(fs::read(read.join("file")).is_ok() && fs::write(read.join("file"), "").is_err());
                assert!(fs::write(written.join("new"), "x").is_ok() && fs::remove_file(written.join("file")).is_ok());
                assert!(fs::read("/etc/passwd").is_err() && fs::create_dir(written.join("new-directory")).is_err());
                assert!(fs::remove_file(written.join("new")).is_ok());
                true
            });
            if !attempt.join().unwrap() {
                return palabre_testing::not_shown("the sandbox for files", "this kernel has no Landlock");
            }
        }
    }
}
