//! The names of participants and rooms that a shell offers while the operator types a command.
//!
//! The completion script runs `palabre` with the words of the command line as arguments. A user who may not read the names gets none, and no
//! error.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use clap_complete::engine::{ArgValueCandidates, CompletionCandidate};
use palabre_config::{PARTICIPANTS_DIR, Participant};
use palabre_room::Name;

use super::values::{CONFIG, RUN};

/// Maximum number of names that the shell's completion offers.
const MAX_NAMES: usize = 1000;

/// Returns the shell completion for arguments that are login names: the names of all participants. For `palabre move` it also offers the rooms: the
/// last argument of that command is a room, but while it is incomplete, clap takes it for a login name.
pub(super) fn participants() -> ArgValueCandidates {
    ArgValueCandidates::new(|| {
        let rooms = if std::env::args_os().any(|word| word == "move") { all_rooms() } else { BTreeSet::new() };
        candidates(participants_of(&directory("--config", CONFIG)).into_iter().chain(rooms).collect())
    })
}

/// Returns the shell completion for `palabre restart`: the login names of all participants, and the daemons that the command accepts.
pub(super) fn processes() -> ArgValueCandidates {
    ArgValueCandidates::new(|| {
        let daemons = ["mixer", "supervisor"].into_iter().filter_map(|name| name.parse().ok());
        candidates(participants_of(&directory("--config", CONFIG)).into_iter().chain(daemons).collect())
    })
}

/// Returns the shell completion for the names of rooms: rooms that a participant's file names, and rooms that have a directory.
pub(super) fn rooms() -> ArgValueCandidates {
    ArgValueCandidates::new(|| candidates(all_rooms()))
}

fn all_rooms() -> BTreeSet<Name> {
    let config = directory("--config", CONFIG);
    let configured = participants_of(&config).into_iter().take(MAX_NAMES);
    let configured = configured.filter_map(|name| Some(Participant::load(&config, &name).ok()?.room));
    configured.chain(names(&directory("--run", RUN).join("rooms"), "")).collect()
}

fn candidates(names: BTreeSet<Name>) -> Vec<CompletionCandidate> {
    names.into_iter().take(MAX_NAMES).map(|name| CompletionCandidate::new(name.as_str())).collect()
}

fn participants_of(config: &Path) -> BTreeSet<Name> {
    names(&config.join(PARTICIPANTS_DIR), ".toml")
}

/// Returns the names of the entries of a directory that end in `suffix`, without that suffix.
fn names(directory: &Path, suffix: &str) -> BTreeSet<Name> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.strip_suffix(suffix)?.parse().ok()).collect()
}

/// Returns the value of the flag in the words of the command line, or the default.
fn directory(flag: &str, default: &str) -> PathBuf {
    value(&std::env::args_os().collect::<Vec<_>>(), flag).unwrap_or_else(|| default.into())
}

fn value(words: &[OsString], flag: &str) -> Option<PathBuf> {
    let next = words.iter().position(|word| word == flag).and_then(|index| words.get(index + 1)).map(PathBuf::from);
    let joined = |word: &OsString| Some(PathBuf::from(word.to_str()?.strip_prefix(flag)?.strip_prefix('=')?));
    next.or_else(|| words.iter().find_map(joined))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directory_is_the_value_of_the_flag() {
        let words = |line: &str| line.split(' ').map(OsString::from).collect::<Vec<_>>();
        assert_eq!(value(&words("x -- palabre --config /a mute"), "--config"), Some("/a".into()));
        assert_eq!(value(&words("x -- palabre mute --run=/b"), "--run"), Some("/b".into()));
        assert_eq!(value(&words("x -- palabre mute --config"), "--config"), None);
    }
}
