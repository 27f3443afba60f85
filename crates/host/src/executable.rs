//! Finds the executables of Palabre's programs and of other programs.

use std::env;
use std::path::{Path, PathBuf};

/// Returns the path of Palabre's program `name`: in the directory of the running program, else in `PATH`.
#[must_use]
pub fn find(name: &str) -> Option<PathBuf> {
    let beside = env::current_exe().ok().map(|program| program.with_file_name(name));
    beside.filter(|path| path.is_file()).or_else(|| find_in_path(name))
}

/// Returns the path of the program `name` in a directory of `PATH`.
#[must_use]
pub fn find_in_path(name: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH")?;
    first_file(env::split_paths(&path), name)
}

fn first_file(directories: impl Iterator<Item = PathBuf>, name: impl AsRef<Path>) -> Option<PathBuf> {
    directories.map(|directory| directory.join(&name)).find(|path| path.is_file())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn the_first_directory_with_such_a_file_is_used() {
        let dirs = [(); 3].map(|()| tempfile::tempdir().unwrap());
        fs::create_dir(dirs[0].path().join("program")).unwrap();
        fs::write(dirs[1].path().join("program"), "").unwrap();
        fs::write(dirs[2].path().join("program"), "").unwrap();
        let paths = || dirs.iter().map(|dir| dir.path().to_owned());
        assert_eq!(first_file(paths(), "program"), Some(dirs[1].path().join("program")));
        assert_eq!(first_file(paths(), "other"), None);
    }

    #[test]
    fn a_program_beside_the_running_one_is_found() {
        let running = env::current_exe().unwrap();
        assert_eq!(find(running.file_name().unwrap().to_str().unwrap()), Some(running));
        assert!(find_in_path("sh").is_some());
        assert_eq!(find("palabre-no-such-program"), None);
    }
}
