//! A new participant: the checks before the file is written, and the choice of a port.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::Path;

use palabre_config::{Key, KeyHash, PARTICIPANTS_DIR, Participant, Server, port};
use palabre_host::exit::Failure;
use palabre_host::sockets;
use palabre_room::{Name, display_name_is_valid};

use crate::cli::Expiry;
use crate::{permission, restart};

/// The settings that an invitation asks for. A missing setting has its default for a new participant, and isn't changed for an existing one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Wanted {
    pub(super) name: Name,
    pub(super) room: Option<Name>,
    pub(super) display_name: Option<String>,
    pub(super) port: Option<u16>,
    pub(super) expires: Option<Expiry>,
    pub(super) listen_only: Option<bool>,
    pub(super) once: bool,
}

impl Wanted {
    /// Checks everything except the port.
    pub(super) fn check(&self, server: &Server) -> Result<(), String> {
        let name = &self.name;
        // With a valid name, every port is valid in the template of the links.
        server.links.address(name, 1).map_err(|cause| format!("{cause}; choose another name"))?;
        if restart::DAEMONS.contains(&name.as_str()) {
            return Err(format!(
                "the name is reserved, because 'palabre restart {name}' restarts the daemon; choose another name"
            ));
        }
        match &self.display_name {
            Some(text) if !display_name_is_valid(text) => {
                Err("a display name has 1 to 64 characters and no control characters".to_owned())
            }
            _ => Ok(()),
        }
    }

    /// Returns a new participant with these settings.
    pub(super) fn participant(&self, port: u16, key: KeyHash) -> Participant {
        let mut participant = Participant::new(self.name.clone(), port, key);
        participant.display_name.clone_from(&self.display_name);
        participant.key_once = self.once;
        participant.key_expires = self.expires.and_then(Expiry::moment);
        participant.listen_only = self.listen_only.unwrap_or_default();
        if let Some(room) = &self.room {
            participant.room = room.clone();
        }
        participant
    }
}

/// The ports that may be given to new participants.
pub(super) struct Ports<'a> {
    server: &'a Server,
    owners: BTreeMap<u16, Name>,
}

impl<'a> Ports<'a> {
    /// Reads the ports of all participants.
    pub(super) fn load(config: &Path, server: &'a Server) -> Self {
        for error in Participant::load_all(config).1 {
            eprintln!("palabre: warning: {error}");
        }
        Self { server, owners: Participant::claimed_ports(config) }
    }

    /// Gives `name` the port `wanted`, if it can be used. Without `wanted`, gives the first port of the range in `palabre.toml` that belongs to
    /// no participant, on which no program listens, to which browsers connect, and which is not the default port of a well-known service.
    pub(super) fn give(&mut self, name: &Name, wanted: Option<u16>) -> Result<u16, String> {
        let port = match wanted {
            Some(port) => self.check(port).map(|()| port),
            None => self.first_free(),
        }?;
        self.owners.insert(port, name.clone());
        Ok(port)
    }

    fn first_free(&self) -> Result<u16, String> {
        let range = self.server.ports;
        range
            .iter()
            .filter(|port| !port::is_refused_by_browsers(*port) && port::service(*port).is_none())
            .find(|port| !self.owners.contains_key(port) && sockets::is_free(self.server.bind, *port))
            .ok_or_else(|| format!("no port of the range {range} is free; extend 'ports' in palabre.toml"))
    }

    fn check(&self, port: u16) -> Result<(), String> {
        if port::is_refused_by_browsers(port) {
            return Err(format!(
                "browsers don't connect to port {port}, which belongs to another protocol; choose another port"
            ));
        }
        if let Some(owner) = self.owners.get(&port) {
            return Err(format!("port {port} is used by participant '{owner}'; choose another port"));
        }
        if !self.server.ports.contains(port) {
            return Err(format!(
                "port {port} is not in the range {}; choose another port, or extend 'ports' in palabre.toml",
                self.server.ports
            ));
        }
        if !sockets::is_free(self.server.bind, port) {
            return Err(format!("another program listens on port {port}; stop the program, or choose another port"));
        }
        Ok(())
    }
}

/// Makes an access key.
pub(super) fn key() -> Result<Key, Failure> {
    Key::generate().map_err(|error| Failure::system(format!("unable to make an access key: {error}")))
}

/// Creates the directory of the participants' files if it doesn't exist.
pub(super) fn create_roster(config: &Path) -> Result<(), Failure> {
    let roster = config.join(PARTICIPANTS_DIR);
    match fs::create_dir(&roster) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            let cause = format!("unable to create directory '{}': {error}", roster.display());
            Err(Failure::system(permission::explain(config, cause)))
        }
        _ => Ok(()),
    }
}
