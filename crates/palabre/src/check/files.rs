//! What was written by an operator, and what is made of it: the configuration, the roster, directories and their modes.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::SystemTime;

use palabre_config::{ConfigError, PARTICIPANTS_DIR, Participant, SERVER_FILE, Server};
use palabre_room::{Kind, Name, RoomDir, kind};

use super::Finding;

const ANYBODY: u32 = 0o007;
const GROUP_IS_KEPT: u32 = 0o2000;

/// `palabre.toml`, and what it says if it says something.
pub fn server(config: &Path) -> (Vec<Finding>, Option<Server>) {
    const AREA: &str = "configuration";
    let path = config.join(SERVER_FILE);
    match Server::load(config) {
        Ok(server) => {
            let text = match path.exists() {
                true => format!("'{}', for '{}'", path.display(), server.host),
                false => format!("no '{}': the defaults hold", path.display()),
            };
            (vec![Finding::ok(AREA, text)], Some(server))
        }
        Err(error) => {
            let mend = match config.exists() {
                true => format!("edit '{}'; palabre(1) and docs/operations.md have all its fields", path.display()),
                false => format!("mkdir -p {}", config.display()),
            };
            (vec![Finding::fault(AREA, error.to_string(), mend)], None)
        }
    }
}

/// The roster: each file that is passed over, each key that has ended, and how many are left.
pub fn participants(config: &Path, participants: &[Participant], errors: &[ConfigError]) -> Vec<Finding> {
    const AREA: &str = "participants";
    let edit = |error: &ConfigError| Finding::fault(AREA, error.to_string(), "edit it, and then palabre reload");
    let mut findings: Vec<Finding> = errors.iter().map(edit).collect();
    let now = SystemTime::now();
    for one in participants {
        if let Some(end) = one.key_expires.filter(|end| end.has_passed(now)) {
            let mend = format!("palabre invite {} --expires 30d, or palabre revoke {}", one.name, one.name);
            findings.push(Finding::warning(AREA, format!("the key of '{}' ended on {end}", one.name), mend));
        }
    }
    let open = |one: &&Participant| {
        fs::metadata(Participant::path(config, &one.name)).is_ok_and(|file| file.mode() & ANYBODY != 0)
    };
    if let Some(one) = participants.iter().find(open) {
        let path = Participant::path(config, &one.name);
        let mend = format!("chmod o= {}/*.toml", config.join(PARTICIPANTS_DIR).display());
        findings.push(Finding::warning(AREA, format!("anybody can see the hash in '{}'", path.display()), mend));
    }
    findings.push(match participants.len() {
        0 => Finding::warning(AREA, "nobody", "palabre invite NAME"),
        count => Finding::ok(AREA, format!("{count}")),
    });
    findings
}

/// Directories and their modes.
pub fn directories(config: &Path, run: &Path) -> Vec<Finding> {
    const AREA: &str = "directories";
    let mut findings = Vec::new();
    let roster = config.join(PARTICIPANTS_DIR);
    if fs::metadata(&roster).is_ok_and(|it| it.mode() & ANYBODY & 0o002 != 0) {
        let text = format!("anybody can write in '{}'", roster.display());
        findings.push(Finding::fault(AREA, text, format!("chmod o= {}", roster.display())));
    }
    match fs::metadata(run) {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            let text = format!("'{}' isn't there yet", run.display());
            findings.push(Finding::warning(AREA, text, "systemctl start palabre.target makes it"));
        }
        Err(error) => {
            let text = format!("unable to read '{}': {error}", run.display());
            findings.push(Finding::fault(AREA, text, "ask as root or as a member of the group 'palabre'"));
        }
        Ok(_) => findings.push(Finding::ok(AREA, format!("'{}'", run.display()))),
    }
    // What has no room's name, as the mixer's own files, is none.
    let is_room = |entry: &fs::DirEntry| entry.file_name().to_str().is_some_and(|name| name.parse::<Name>().is_ok());
    for room in fs::read_dir(run.join("rooms")).into_iter().flatten().flatten().filter(is_room) {
        findings.extend(self::room(&RoomDir::new(room.path())));
    }
    findings
}

/// A room must be its group's alone, and what is in it pipes or files.
fn room(room: &RoomDir) -> Vec<Finding> {
    const AREA: &str = "rooms";
    let path = room.path();
    let Ok(mode) = fs::metadata(path).map(|it| it.mode()) else { return Vec::new() };
    let mut findings = Vec::new();
    if mode & ANYBODY != 0 || mode & GROUP_IS_KEPT == 0 {
        let text = format!("'{}' has the mode {:o} and not 2770", path.display(), mode & 0o7777);
        findings.push(Finding::fault(AREA, text, format!("chmod 2770 {}", path.display())));
    }
    for name in room.participants().unwrap_or_default() {
        let one = room.participant(&name);
        for pipe in [one.mic(), one.ear()] {
            if !matches!(kind(&pipe), Some(Kind::Pipe | Kind::File)) {
                let mend = format!("rm -rf {} && palabre reload", one.path().display());
                findings.push(Finding::fault(AREA, format!("'{}' is no pipe", pipe.display()), mend));
            }
        }
    }
    if findings.is_empty() {
        findings.push(Finding::ok(AREA, format!("'{}'", path.display())));
    }
    findings
}
