//! Data that all checks of `palabre check` use: directories, configuration, status of the supervisor.

use std::fs;
use std::path::{Path, PathBuf};

use palabre_config::control::Status;
use palabre_config::{Participant, SERVER_FILE, Server};

use crate::cli;
pub(super) use crate::output::word;

/// The directories that are checked.
#[derive(Debug, Clone, Copy)]
pub(super) struct Directories<'a> {
    pub(super) config: &'a Path,
    pub(super) run: &'a Path,
}

impl Directories<'_> {
    /// Returns the start of a shell command: `palabre`, with `--config` and `--run` if these directories are not the default.
    pub(super) fn palabre(&self) -> String {
        let mut words = vec!["palabre".to_owned()];
        for (flag, path, default) in [("--config", self.config, cli::CONFIG), ("--run", self.run, cli::RUN)] {
            if path != Path::new(default) {
                words.extend([flag.to_owned(), word(path)]);
            }
        }
        words.join(" ")
    }

    /// Returns a shell command that opens `file` in an editor at `line` and reloads the supervisor. `+LINE` is an argument of vi(1) and
    /// most other editors.
    pub(super) fn edit(&self, file: &Path, line: Option<usize>) -> String {
        let line = line.map(|line| format!("+{line} ")).unwrap_or_default();
        format!("${{EDITOR:-vi}} {line}{} && {} reload", word(file), self.palabre())
    }
}

/// The input of those checks that need a valid configuration.
pub(super) struct Context<'a> {
    pub(super) directories: Directories<'a>,
    pub(super) server: Server,
    pub(super) participants: Vec<Participant>,
    /// The supervisor's status, if one runs.
    pub(super) status: Option<Status>,
}

impl Context<'_> {
    pub(super) fn participant_count(&self) -> u64 {
        self.participants.len() as u64
    }

    /// Returns the path of `palabre.toml`.
    pub(super) fn server_file(&self) -> PathBuf {
        self.directories.config.join(SERVER_FILE)
    }
}

/// Returns whether systemd runs: sd_booted(3).
pub(super) fn has_systemd() -> bool {
    Path::new("/run/systemd/system").exists()
}

/// Returns the number in a file of /proc or /sys.
pub(super) fn number(path: &Path) -> Option<u64> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn command_has_the_flags_for_the_directories() {
        let default = Directories { config: Path::new(cli::CONFIG), run: Path::new(cli::RUN) };
        assert_eq!(default.palabre(), "palabre");
        let other = Directories { config: Path::new("/a b/c"), run: Path::new("/tmp/run") };
        assert_eq!(other.palabre(), "palabre --config '/a b/c' --run /tmp/run");
        assert_eq!(word(Path::new("it's")), "'it'\\''s'");
    }
}
