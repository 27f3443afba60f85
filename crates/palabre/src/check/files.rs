//! What was written by an operator, and what is made of it: the configuration, the roster, the rooms.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::SystemTime;

use palabre_config::{ConfigError, PARTICIPANTS_DIR, Participant, SERVER_FILE, Server};
use palabre_room::{FileKind, Name, RoomDir, lookup};

use super::{Finding, Places, word};

const ANYBODY: u32 = 0o007;
const GROUP_IS_KEPT: u32 = 0o2000;

/// `palabre.toml`, and what it says if it says something.
pub fn server(places: Places<'_>) -> (Vec<Finding>, Option<Server>) {
    const AREA: &str = "configuration";
    let path = places.config.join(SERVER_FILE);
    match Server::load(places.config) {
        Ok(server) => {
            let text = match path.exists() {
                true => format!("'{}', for '{}'", path.display(), server.host),
                false => format!("no '{}': the defaults hold", path.display()),
            };
            (vec![Finding::ok(AREA, text)], Some(server))
        }
        Err(error) => {
            let mend = match places.config.exists() {
                true => format!("{}  # palabre.toml(5) has all its fields", places.edit(&path, error.line())),
                false => format!("mkdir -p {}", word(places.config)),
            };
            (vec![Finding::fault(AREA, error.to_string(), mend)], None)
        }
    }
}

/// The roster: each file that is passed over, each key that has ended, and how many are left.
pub fn participants(places: Places<'_>, participants: &[Participant], errors: &[ConfigError]) -> Vec<Finding> {
    const AREA: &str = "participants";
    let config = places.config;
    let edit = |error: &ConfigError| Finding::fault(AREA, error.to_string(), places.edit(error.path(), error.line()));
    let mut findings: Vec<Finding> = errors.iter().map(edit).collect();
    let now = SystemTime::now();
    for one in participants {
        if let Some(end) = one.key_expires.filter(|end| end.has_passed(now)) {
            let (palabre, name) = (places.palabre(), &one.name);
            let mend = format!("{palabre} invite {name} --new-key --expires 30d  # or revoke {name}");
            findings.push(Finding::warning(AREA, format!("the key of '{}' ended on {end}", one.name), mend));
        }
    }
    let open = |one: &&Participant| {
        fs::metadata(Participant::path(config, &one.name)).is_ok_and(|file| file.mode() & ANYBODY != 0)
    };
    if let Some(one) = participants.iter().find(open) {
        let path = Participant::path(config, &one.name);
        let mend = format!("chmod o= {}/*.toml", word(&config.join(PARTICIPANTS_DIR)));
        findings.push(Finding::warning(AREA, format!("anybody can see the hash in '{}'", path.display()), mend));
    }
    findings.push(match participants.len() {
        0 => Finding::warning(AREA, "nobody", format!("{} invite alice", places.palabre())),
        count => Finding::ok(AREA, format!("{count}")),
    });
    findings
}

/// Every room whose directory is there. What has no room's name, as the mixer's own files, is none.
pub fn rooms(places: Places<'_>, participants: &[Participant]) -> Vec<Finding> {
    let is_room = |entry: &fs::DirEntry| entry.file_name().to_str().is_some_and(|name| name.parse::<Name>().is_ok());
    let rooms = fs::read_dir(places.run.join("rooms")).into_iter().flatten().flatten().filter(is_room);
    rooms.flat_map(|room| self::room(places, participants, &RoomDir::new(room.path()))).collect()
}

/// A room must be its group's alone, and what is in it pipes or files.
fn room(places: Places<'_>, participants: &[Participant], room: &RoomDir) -> Vec<Finding> {
    const AREA: &str = "rooms";
    let path = room.path();
    let Ok(mode) = fs::metadata(path).map(|it| it.mode()) else { return Vec::new() };
    let mut findings = Vec::new();
    if mode & ANYBODY != 0 || mode & GROUP_IS_KEPT == 0 {
        let text = format!("'{}' has the mode {:o} and not 2770", path.display(), mode & 0o7777);
        findings.push(Finding::fault(AREA, text, format!("chmod 2770 {}", word(path))));
    }
    for name in room.participants().unwrap_or_default() {
        let one = room.participant(&name);
        let is_ours = participants.iter().any(|participant| participant.name == name);
        for pipe in [one.mic(), one.ear()] {
            if !matches!(lookup(&pipe), Some((FileKind::Pipe | FileKind::Regular, _))) {
                let text = format!("'{}' is no pipe", pipe.display());
                findings.push(Finding::fault(AREA, text, without(places, one.path(), is_ours.then_some(&name))));
            }
        }
    }
    if findings.is_empty() {
        findings.push(Finding::ok(AREA, format!("'{}'", path.display())));
    }
    findings
}

/// Who has a listener gets new pipes when it starts; a guest's directory is made anew by whoever made it.
fn without(places: Places<'_>, directory: &Path, name: Option<&Name>) -> String {
    let palabre = places.palabre();
    let again = name.map(|name| format!(" && {palabre} stop {name} && {palabre} start {name}"));
    format!("rm -rf {}{}", word(directory), again.unwrap_or_default())
}
