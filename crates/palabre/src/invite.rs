//! `palabre invite`: adds a participant, or makes a new key for an existing participant, and prints the invitation link.

use std::fs;
use std::io::{self, IsTerminal};
use std::path::Path;
use std::time::SystemTime;

use palabre_config::{ConfigError, Edit, Key, KeyHash, PARTICIPANTS_DIR, Participant, Server, port};
use palabre_host::exit::Failure;
use palabre_host::sockets;
use palabre_room::display_name_is_valid;

use crate::cli::{Cli, Expiry, Invite};
use crate::output::print;
use crate::{permission, qr, reload, roster_lock};

/// Writes the participant's file, reloads the supervisor if one runs, prints the link.
pub(crate) fn run(cli: &Cli, invite: &Invite) -> Result<(), Failure> {
    let config = cli.config_dir();
    let server = Server::load(config).map_err(Failure::config)?;
    let key = Key::generate().map_err(|error| Failure::system(format!("unable to make an access key: {error}")))?;
    create_roster(config)?;
    let lock = roster_lock::take(config)?;
    check_name(&server, invite)?;
    let participant = match invite.new_key {
        true => renew_key(config, invite, key.hash())?,
        false => {
            let participant = new_participant(config, &server, invite, key.hash())?;
            write(config, &participant)?;
            participant
        }
    };
    drop(lock);
    eprintln!("palabre: invited '{}' to room '{}' on port {}", participant.name, participant.room, participant.port);
    let applied = reload::if_running(cli.run_dir(), std::slice::from_ref(&participant.name));
    let link = server.links.link(participant.name.as_str(), participant.port, &key);
    if !server.links.is_direct() && !invite.new_key {
        eprintln!(
            "palabre: the link leads to a proxy; write its configuration again, for example with 'palabre proxy-config'"
        );
    }
    let until = participant.key_expires.map(|expires| format!("; it expires on {expires}")).unwrap_or_default();
    let once = if participant.key_once {
        "; it works only in the first browser in which the button on its page is pressed"
    } else {
        ""
    };
    eprintln!("palabre: the invitation link of {} is printed only now{once}{until}:", participant.display());
    print(format!("{link}\n"))?;
    if invite.qr || (!invite.no_qr && io::stdout().is_terminal()) {
        print(format!("\n{}", qr::terminal(&link).unwrap_or_default()))?;
    }
    applied.into_iter().collect()
}

/// Checks that the template of the links is valid with the participant's login name. With a valid name, every port is valid.
fn check_name(server: &Server, invite: &Invite) -> Result<(), Failure> {
    let address = server.links.address(&invite.name, 1);
    let refused = |cause| Failure::refused(format!("unable to invite '{}': {cause}; choose another name", invite.name));
    address.map(drop).map_err(refused)
}

/// Writes a new key into an existing participant's file. Keeps the other fields unless an option changes them.
fn renew_key(config: &Path, invite: &Invite, key: KeyHash) -> Result<Participant, Failure> {
    let name = &invite.name;
    let mut edits = vec![Edit::KeySha256(key)];
    edits.extend(invite.once.then_some(Edit::KeyOnce(true)));
    edits.extend(invite.expires.map(|expires| Edit::KeyExpires(expires.moment())));
    let edited = Participant::edit(config, name, &edits).map_err(|error| {
        if error.is_missing() {
            return Failure::refused(format!(
                "unable to renew the key of '{name}': no such participant; add one with 'palabre invite {name}'"
            ));
        }
        Failure::config(error)
    })?;
    if let Some(end) = edited.participant().key_expires.filter(|end| end.has_passed(SystemTime::now())) {
        return Err(Failure::refused(format!(
            "unable to renew the key of '{name}': 'key-expires' is {end}, which has passed; use '--expires WHEN', or '--expires never'"
        )));
    }
    let roster = config.join(PARTICIPANTS_DIR);
    edited.write().map_err(|error| Failure::system(permission::explain(&roster, error)))?;
    Ok(edited.participant().clone())
}

fn new_participant(config: &Path, server: &Server, invite: &Invite, key: KeyHash) -> Result<Participant, Failure> {
    let name = &invite.name;
    let unable = |cause: String| Failure::refused(format!("unable to invite '{name}': {cause}"));
    let path = Participant::path(config, name);
    if path.symlink_metadata().is_ok() {
        return Err(unable(format!(
            "'{}' exists; make a new link with 'palabre invite {name} --new-key', or remove it with 'palabre revoke {name}'",
            path.display()
        )));
    }
    if crate::restart::DAEMONS.contains(&name.as_str()) {
        return Err(unable(format!(
            "the name is reserved, because 'palabre restart {name}' restarts the daemon; choose another name"
        )));
    }
    if let Some(display_name) = &invite.display_name
        && !display_name_is_valid(display_name)
    {
        return Err(unable("a display name has 1 to 64 characters and no control characters".to_owned()));
    }
    let port = free_port(config, server, invite.port).map_err(unable)?;
    let mut participant = Participant::new(name.clone(), port, key);
    participant.display_name.clone_from(&invite.display_name);
    participant.key_once = invite.once;
    participant.key_expires = invite.expires.and_then(Expiry::moment);
    participant.listen_only = invite.listen_only;
    if let Some(room) = &invite.room {
        participant.room = room.clone();
    }
    Ok(participant)
}

/// Returns the port `wanted`, if it can be used. Without `wanted`, returns the first port of the range in `palabre.toml` that belongs to
/// no participant, on which no program listens, to which browsers connect, and which is not the default port of a well-known service.
fn free_port(config: &Path, server: &Server, wanted: Option<u16>) -> Result<u16, String> {
    for error in Participant::load_all(config).1 {
        eprintln!("palabre: warning: {error}");
    }
    let owners = Participant::claimed_ports(config);
    let Some(port) = wanted else {
        return server
            .ports
            .iter()
            .filter(|port| !port::is_refused_by_browsers(*port) && port::service(*port).is_none())
            .find(|port| !owners.contains_key(port) && sockets::is_free(server.bind, *port))
            .ok_or_else(|| format!("no port of the range {} is free; extend 'ports' in palabre.toml", server.ports));
    };
    if port::is_refused_by_browsers(port) {
        return Err(format!(
            "browsers don't connect to port {port}, which belongs to another protocol; choose another port"
        ));
    }
    if let Some(owner) = owners.get(&port) {
        return Err(format!("port {port} is used by participant '{owner}'; choose another port"));
    }
    if !server.ports.contains(port) {
        return Err(format!(
            "port {port} is not in the range {}; choose another port, or extend 'ports' in palabre.toml",
            server.ports
        ));
    }
    if !sockets::is_free(server.bind, port) {
        return Err(format!("another program listens on port {port}; stop the program, or choose another port"));
    }
    Ok(port)
}

/// Creates the directory of the participants' files if it doesn't exist.
fn create_roster(config: &Path) -> Result<(), Failure> {
    let roster = config.join(PARTICIPANTS_DIR);
    match fs::create_dir(&roster) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            let cause = format!("unable to create directory '{}': {error}", roster.display());
            Err(Failure::system(permission::explain(config, cause)))
        }
        _ => Ok(()),
    }
}

fn write(config: &Path, participant: &Participant) -> Result<(), Failure> {
    let roster = config.join(PARTICIPANTS_DIR);
    participant.write(config).map_err(|error: ConfigError| Failure::system(permission::explain(&roster, error)))
}
