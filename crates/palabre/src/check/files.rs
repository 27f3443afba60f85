//! Checks the configuration, the participants' files and the room directories.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::time::SystemTime;

use palabre_config::control::{ParticipantStatus, Status};
use palabre_config::{ClientAddress, ConfigError, PARTICIPANTS_DIR, Participant, SERVER_FILE, Server};
use palabre_room::{FileKind, RoomDir, lookup};

use super::access::{self, SET_GROUP_ID, STICKY};
use super::context::{Context, Directories, word};
use super::finding::Finding;

pub(super) const AREA_CONFIGURATION: &str = "configuration";
const AREA_ROOMS: &str = "rooms";
/// Mode bits for users who are neither the owner nor in the group.
const OTHERS: u32 = 0o007;

/// Checks `palabre.toml`. Returns the findings, and the settings if the file is valid.
pub(super) fn server(directories: Directories<'_>) -> (Vec<Finding>, Option<Server>) {
    let path = directories.config.join(SERVER_FILE);
    match Server::load(directories.config) {
        Ok(server) => {
            let text = match path.exists() {
                true => format!("'{}' is valid; the links are '{}'", path.display(), server.links),
                false => format!("there is no file '{}', so the default settings are used", path.display()),
            };
            (vec![Finding::ok(AREA_CONFIGURATION, text)], Some(server))
        }
        Err(error) if error.is_denied() => {
            (vec![Finding::unseen(AREA_CONFIGURATION, unseen(&error), directories)], None)
        }
        Err(error) => {
            let remedy = match directories.config.exists() {
                true => format!("{}  # see palabre.toml(5)", directories.edit(&path, error.line())),
                false => format!("mkdir -p {}", word(directories.config)),
            };
            (vec![Finding::fault(AREA_CONFIGURATION, error.to_string(), remedy)], None)
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
    let denied = errors.iter().find(|error| error.is_denied());
    let mut findings: Vec<Finding> =
        denied.iter().map(|error| Finding::unseen(AREA, unseen(error), directories)).collect();
    let edit = |error: &ConfigError| {
        let path = error.path();
        // An editor waits for ever for a writer of a FIFO, and can't mend a directory.
        let remedy = match fs::metadata(path).is_ok_and(|file| file.is_file()) {
            true => directories.edit(path, error.line()),
            false => format!("mv {0} {0}.old", word(path)),
        };
        Finding::fault(AREA, error.to_string(), remedy)
    };
    findings.extend(errors.iter().filter(|error| !error.is_denied()).map(edit));
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
            format!("the mode of '{}' gives all users access, but the file has the hash of a key", path.display()),
            remedy,
        ));
    }
    findings.extend(match participants.len() {
        0 if !errors.is_empty() => None,
        0 => {
            Some(Finding::warning(AREA, "there are no participants", format!("{} invite alice", directories.palabre())))
        }
        count => Some(Finding::ok(AREA, format!("number of participants with a valid file: {count}"))),
    });
    findings
}

/// Reports participants whose login names don't fit the template of the links.
pub(super) fn links(context: &Context<'_>) -> Vec<Finding> {
    let links = &context.server.links;
    let of = |one: &Participant| links.address(&one.name, one.port).err().map(|cause| (one.name.clone(), cause));
    let finding = |(name, cause)| {
        let edit = context.directories.edit(&context.server_file(), None);
        let remedy = format!("{edit}  # change 'link', or invite the participant with another name");
        Finding::fault("participants", format!("'{name}' can't connect: {cause}"), remedy)
    };
    context.participants.iter().filter_map(of).map(finding).collect()
}

/// Warns if the links lead to a proxy, and the log would then have the proxy's address, or an address that the client chooses, instead of the client's.
pub(super) fn proxy(context: &Context<'_>) -> Option<Finding> {
    let Server { links, proxy, .. } = &context.server;
    let (why, what) = match proxy.client_address {
        _ if links.is_direct() => return None,
        _ if proxy.addresses.is_empty() => (
            "so the listeners' log has the proxy's address for every client: [proxy] is missing in palabre.toml",
            "add [proxy]",
        ),
        ClientAddress::XForwardedFor if links.shows_own_certificate() => (
            "and if the proxy doesn't decrypt TLS, each client can choose its address in the log, by X-Forwarded-For",
            "then set client-address = \"proxy-protocol\"",
        ),
        _ => return None,
    };
    let edit = context.directories.edit(&context.server_file(), None);
    let remedy = format!("{edit}  # {what}: /usr/share/doc/palabre/proxies.md");
    Some(Finding::warning("proxy", format!("the links '{links}' lead to a proxy, {why}"), remedy))
}

fn unseen(error: &ConfigError) -> String {
    format!("can't see '{}' as this user", error.path().display())
}

/// Checks every room directory, and the directories of the participants whose listeners run.
pub(super) fn rooms(directories: Directories<'_>, status: Option<&Status>) -> Vec<Finding> {
    let path = directories.run.join("rooms");
    if let Err(error) = fs::read_dir(&path)
        && error.kind() == ErrorKind::PermissionDenied
    {
        return vec![Finding::unseen(AREA_ROOMS, format!("can't see '{}' as this user", path.display()), directories)];
    }
    let served: Vec<&ParticipantStatus> =
        status.iter().flat_map(|status| &status.participants).filter(|one| one.pid.is_some()).collect();
    let mut findings: Vec<Finding> =
        access::rooms(directories).iter().flat_map(|room| self::room(directories, &served, room)).collect();
    for one in served {
        let directory = path.join(&one.room).join(&one.name);
        let effects =
            [("mic", format!("the room doesn't hear {}", one.name)), ("ear", format!("{} hears nothing", one.name))];
        for (pipe, effect) in effects.map(|(pipe, effect)| (directory.join(pipe), effect)) {
            if lookup(&pipe).is_some() {
                continue;
            }
            let text = format!("'{}' is missing, so {effect}", pipe.display());
            findings.push(Finding::fault(AREA_ROOMS, text, again(directories, &one.name)));
        }
    }
    findings
}

/// Checks the mode of a room, and that each `mic` and `ear` is a pipe or a file. A participant that no listener serves need not have both.
fn room(directories: Directories<'_>, served: &[&ParticipantStatus], room: &RoomDir) -> Vec<Finding> {
    let path = room.path();
    let Ok(mode) = fs::metadata(path).map(|it| it.mode()) else { return Vec::new() };
    let mut findings = Vec::new();
    if mode & OTHERS != 0 || mode & SET_GROUP_ID == 0 || mode & STICKY == 0 {
        let text = format!("'{}' has mode {:o} instead of 3770", path.display(), mode & 0o7777);
        findings.push(Finding::fault(AREA_ROOMS, text, format!("chmod 3770 {}", word(path))));
    }
    for name in room.participants().unwrap_or_default() {
        let one = room.participant(&name);
        let is_served = served.iter().any(|served| served.name == name.as_str());
        for pipe in [one.mic(), one.ear()] {
            // A link to a file on a disk is allowed: fs::metadata follows links.
            let is_file = fs::metadata(&pipe).is_ok_and(|file| file.is_file());
            if !is_file && matches!(lookup(&pipe), Some((FileKind::Other, _))) {
                let text = format!("'{}' is neither a pipe nor a file", pipe.display());
                let away = format!("mv {0} {0}.old", word(&pipe));
                let again =
                    if is_served { format!(" && {}", again(directories, name.as_str())) } else { String::new() };
                findings.push(Finding::fault(AREA_ROOMS, text, away + &again));
            }
        }
    }
    if findings.is_empty() {
        findings.push(Finding::ok(AREA_ROOMS, format!("the mode and the pipes of '{}' are right", path.display())));
    }
    findings
}

/// Returns a shell command that starts the participant's listener again, which creates missing pipes.
fn again(directories: Directories<'_>, name: &str) -> String {
    let palabre = directories.palabre();
    format!("{palabre} stop {name} && {palabre} start {name}")
}
