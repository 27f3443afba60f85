//! `palabre invite`: a participant's file and the link that fits it.

use std::fs;
use std::io::{self, IsTerminal};
use std::net::{IpAddr, TcpListener};
use std::path::Path;

use palabre_config::{ConfigError, Edit, Key, KeyHash, PARTICIPANTS_DIR, Participant, Server, link};
use palabre_host::exit::Failure;
use palabre_room::display_name_is_valid;

use crate::cli::{Cli, Invite};
use crate::output::print;
use crate::{control, edits, permission, qr};

/// Writes the participant's file, reloads the supervisor where one runs, prints the link.
///
/// # Errors
/// The name, the port or the display name can't be given (refused), the configuration has no meaning (configuration), or
/// a file can't be written (system).
pub fn run(cli: &Cli, invite: &Invite) -> Result<(), Failure> {
    let config = cli.config_dir();
    let server = Server::load(config).map_err(Failure::config)?;
    let key = Key::generate().map_err(|error| Failure::system(format!("unable to make a key: {error}")))?;
    make_roster(config)?;
    let turn = edits::begin(config)?;
    let participant = match invite.new_key {
        true => renew(config, invite, key.hash())?,
        false => {
            let participant = new(config, &server, invite, key.hash())?;
            write(config, &participant)?;
            participant
        }
    };
    drop(turn);
    eprintln!("palabre: {} has port {} in room '{}'", participant.name, participant.port, participant.room);
    control::reload_if_running(cli.run_dir(), participant.name.as_str());
    let link = link(&server.host, participant.port, &key);
    let until = participant.key_expires.map(|expires| format!(", opens until {expires}")).unwrap_or_default();
    let once = if invite.once { ", opens once, in the browser in which its button is pressed first" } else { "" };
    eprintln!("palabre: this link is for {} alone{once}{until}, and is not shown again:", participant.display());
    print(format!("{link}\n"))?;
    if invite.qr || (!invite.no_qr && io::stdout().is_terminal()) {
        print(format!("\n{}", qr::terminal(&link).unwrap_or_default()))?;
    }
    Ok(())
}

/// Somebody whose file is there already; it may lack a key.
fn renew(config: &Path, invite: &Invite, key: KeyHash) -> Result<Participant, Failure> {
    let name = &invite.name;
    let edits = [Edit::KeySha256(key), Edit::KeyOnce(invite.once), Edit::KeyExpires(invite.expires)];
    let edited = Participant::edit(config, name, &edits).map_err(|error| {
        if error.is_missing() {
            return Failure::refused(format!(
                "unable to renew the key of '{name}': no such participant; 'palabre invite {name}' adds one"
            ));
        }
        Failure::config(error)
    })?;
    let roster = config.join(PARTICIPANTS_DIR);
    edited.write().map_err(|error| Failure::system(permission::explain(&roster, error)))?;
    Ok(edited.participant().clone())
}

fn new(config: &Path, server: &Server, invite: &Invite, key: KeyHash) -> Result<Participant, Failure> {
    let name = &invite.name;
    let unable = |cause: String| Failure::refused(format!("unable to invite '{name}': {cause}"));
    let path = Participant::path(config, name);
    if path.symlink_metadata().is_ok() {
        return Err(unable(format!(
            "'{}' exists; 'palabre invite {name} --new-key' makes a new link, 'palabre revoke {name}' removes it",
            path.display()
        )));
    }
    if crate::restart::DAEMONS.contains(&name.as_str()) {
        return Err(unable(format!("'palabre restart {name}' means the daemon; choose another name")));
    }
    if let Some(display_name) = &invite.display_name
        && !display_name_is_valid(display_name)
    {
        return Err(unable("a display name has 1 to 64 characters, none of them a control character".to_owned()));
    }
    let port = port(config, server, invite.port).map_err(unable)?;
    let mut participant = Participant::new(name.clone(), port, key);
    participant.display_name.clone_from(&invite.display_name);
    participant.key_once = invite.once;
    participant.key_expires = invite.expires;
    participant.listen_only = invite.listen_only;
    if let Some(room) = &invite.room {
        participant.room = room.clone();
    }
    Ok(participant)
}

/// The wanted port, or the first one of the range that no participant has and no other program uses.
fn port(config: &Path, server: &Server, wanted: Option<u16>) -> Result<u16, String> {
    for error in Participant::load_all(config).1 {
        eprintln!("palabre: warning: {error}");
    }
    let owners = Participant::claimed_ports(config);
    let Some(port) = wanted else {
        return server
            .ports
            .iter()
            .find(|port| !owners.contains_key(port) && is_free(server.bind, *port))
            .ok_or_else(|| format!("every port of {} is taken; widen 'ports' in palabre.toml", server.ports));
    };
    if let Some(owner) = owners.get(&port) {
        return Err(format!("port {port} is {owner}'s; each participant has a port of their own"));
    }
    if !server.ports.contains(port) {
        return Err(format!("port {port} is not in {}; see 'ports' in palabre.toml", server.ports));
    }
    if !is_free(server.bind, port) {
        return Err(format!("another program listens on port {port}; end it, or choose another port"));
    }
    Ok(port)
}

/// Whether nobody listens on the port now. Other reasons not to be able to bind it are the supervisor's business.
#[must_use]
pub fn is_free(bind: IpAddr, port: u16) -> bool {
    !matches!(TcpListener::bind((bind, port)), Err(error) if error.kind() == io::ErrorKind::AddrInUse)
}

/// The directory of the participants' files, where there is none yet.
fn make_roster(config: &Path) -> Result<(), Failure> {
    let roster = config.join(PARTICIPANTS_DIR);
    match fs::create_dir(&roster) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            let cause = format!("unable to make '{}': {error}", roster.display());
            Err(Failure::system(permission::explain(config, cause)))
        }
        _ => Ok(()),
    }
}

fn write(config: &Path, participant: &Participant) -> Result<(), Failure> {
    let roster = config.join(PARTICIPANTS_DIR);
    participant.write(config).map_err(|error: ConfigError| Failure::system(permission::explain(&roster, error)))
}
