//! Checks the configuration, the participants' files and the room directories.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::SystemTime;

use palabre_config::{ConfigError, PARTICIPANTS_DIR, Participant, SERVER_FILE, Server};
use palabre_room::{FileKind, Name, RoomDir, lookup};

use super::context::{Directories, word};
use super::finding::Finding;

/// Mode bits for users who are neither the owner nor in the group.
const OTHERS: u32 = 0o007;
/// The set-group-ID bit of a directory, which makes new files inherit the directory's group.
const SET_GROUP_ID: u32 = 0o2000;

/// Checks `palabre.toml`. Returns the findings, and the settings if the file is valid.
pub(super) fn server(directories: Directories<'_>) -> (Vec<Finding>, Option<Server>) {
    const AREA: &str = "configuration";
    let path = directories.config.join(SERVER_FILE);
    match Server::load(directories.config) {
        Ok(server) => {
            let text = match path.exists() {
                true => format!("'{}' is valid; links have the host '{}'", path.display(), server.host),
                false => format!("there is no file '{}', so the default settings are used", path.display()),
            };
            (vec![Finding::ok(AREA, text)], Some(server))
        }
        Err(error) => {
            let remedy = match directories.config.exists() {
                true => format!("{}  # see palabre.toml(5)", directories.edit(&path, error.line())),
                false => format!("mkdir -p {}", word(directories.config)),
            };
            (vec![Finding::fault(AREA, error.to_string(), remedy)], None)
        }
    }
}

/// Checks the participants' files: validity, expiry of keys, mode.
pub(super) fn participants(
    directories: Directories<'_>,
    participants: &[Participant],
    errors: &[ConfigError],
) -> Vec<Finding> {
    const AREA: &str = "participants";
    let config = directories.config;
    let edit =
        |error: &ConfigError| Finding::fault(AREA, error.to_string(), directories.edit(error.path(), error.line()));
    let mut findings: Vec<Finding> = errors.iter().map(edit).collect();
    let now = SystemTime::now();
    for one in participants {
        if let Some(end) = one.key_expires.filter(|end| end.has_passed(now)) {
            let (palabre, name) = (directories.palabre(), &one.name);
            let remedy = format!("{palabre} invite {name} --new-key --expires 30d  # or revoke {name}");
            findings.push(Finding::warning(AREA, format!("the key of '{}' expired on {end}", one.name), remedy));
        }
    }
    let open = |one: &&Participant| {
        fs::metadata(Participant::path(config, &one.name)).is_ok_and(|file| file.mode() & OTHERS != 0)
    };
    if let Some(one) = participants.iter().find(open) {
        let path = Participant::path(config, &one.name);
        let remedy = format!("chmod o= {}/*.toml", word(&config.join(PARTICIPANTS_DIR)));
        findings.push(Finding::warning(
            AREA,
            format!("all users can read the key hash in '{}'", path.display()),
            remedy,
        ));
    }
    findings.push(match participants.len() {
        0 => Finding::warning(AREA, "there are no participants", format!("{} invite alice", directories.palabre())),
        count => Finding::ok(AREA, format!("the files of {count} participants were checked")),
    });
    findings
}

/// Checks every room directory. Entries whose name is no valid room name, such as the mixer's files, are ignored.
pub(super) fn rooms(directories: Directories<'_>, participants: &[Participant]) -> Vec<Finding> {
    let is_room = |entry: &fs::DirEntry| entry.file_name().to_str().is_some_and(|name| name.parse::<Name>().is_ok());
    let rooms = fs::read_dir(directories.run.join("rooms")).into_iter().flatten().flatten().filter(is_room);
    rooms.flat_map(|room| self::room(directories, participants, &RoomDir::new(room.path()))).collect()
}

/// Checks the mode of a room, and that `mic` and `ear` are pipes or files.
fn room(directories: Directories<'_>, participants: &[Participant], room: &RoomDir) -> Vec<Finding> {
    const AREA: &str = "rooms";
    let path = room.path();
    let Ok(mode) = fs::metadata(path).map(|it| it.mode()) else { return Vec::new() };
    let mut findings = Vec::new();
    if mode & OTHERS != 0 || mode & SET_GROUP_ID == 0 {
        let text = format!("'{}' has mode {:o} instead of 2770", path.display(), mode & 0o7777);
        findings.push(Finding::fault(AREA, text, format!("chmod 2770 {}", word(path))));
    }
    for name in room.participants().unwrap_or_default() {
        let one = room.participant(&name);
        let is_participant = participants.iter().any(|participant| participant.name == name);
        for pipe in [one.mic(), one.ear()] {
            if !matches!(lookup(&pipe), Some((FileKind::Pipe | FileKind::Regular, _))) {
                let text = format!("'{}' is neither a pipe nor a file", pipe.display());
                findings.push(Finding::fault(
                    AREA,
                    text,
                    recreate(directories, one.path(), is_participant.then_some(&name)),
                ));
            }
        }
    }
    if findings.is_empty() {
        findings.push(Finding::ok(AREA, format!("the mode and the pipes of '{}' are right", path.display())));
    }
    findings
}

/// Returns a shell command that removes the directory. If `name` is given, the command also restarts the participant's listener, which
/// creates the directory again.
fn recreate(directories: Directories<'_>, directory: &Path, name: Option<&Name>) -> String {
    let palabre = directories.palabre();
    let again = name.map(|name| format!(" && {palabre} stop {name} && {palabre} start {name}"));
    format!("rm -rf {}{}", word(directory), again.unwrap_or_default())
}
