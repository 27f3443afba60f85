//! The rules for a participant who is new on this machine, for `palabre invite` and `palabre import`: the name, the port, and the directory of the
//! participants' files.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::io;
use std::path::Path;

use palabre_config::{PARTICIPANTS_DIR, Participant, Server, port};
use palabre_host::exit::Failure;
use palabre_host::sockets;
use palabre_room::Name;

use crate::{permission, restart};

/// Checks that a participant of this machine can have the login name.
pub(crate) fn check_name(name: &Name, server: &Server) -> Result<(), String> {
    // Any port does for this check: if the template of the links accepts the name, it accepts every port.
    server.links.address(name, 1).map_err(|cause| format!("{cause}; choose another name"))?;
    if restart::DAEMONS.contains(&name.as_str()) {
        return Err(format!(
            "the name is reserved, because 'palabre restart {name}' restarts the daemon; choose another name"
        ));
    }
    Ok(())
}

/// The ports that may be given to new participants.
pub(crate) struct Ports<'a> {
    server: &'a Server,
    owners: BTreeMap<u16, Name>,
}

impl<'a> Ports<'a> {
    /// Reads the ports of all participants.
    pub(crate) fn load(config: &Path, server: &'a Server) -> Self {
        for error in Participant::load_all(config).1 {
            eprintln!("palabre: warning: {error}");
        }
        Self { server, owners: Participant::claimed_ports(config) }
    }

    /// Gives `name` the port `wanted`, if it can be used. Without `wanted`, gives the first port of the range in `palabre.toml` that belongs to
    /// no participant, on which no program listens, to which browsers permit connections, and which is not the default port of a well-known service.
    pub(crate) fn give(&mut self, name: &Name, wanted: Option<u16>) -> Result<u16, String> {
        let port = match wanted {
            Some(port) => self.obstacle(port).map_or(Ok(port), |obstacle| Err(obstacle.to_string())),
            None => self.first_free(),
        }?;
        self.owners.insert(port, name.clone());
        Ok(port)
    }

    /// Returns the port of the participant `name`.
    pub(crate) fn of(&self, name: &Name) -> Option<u16> {
        self.owners.iter().find(|(_, owner)| *owner == name).map(|(port, _)| *port)
    }

    fn first_free(&self) -> Result<u16, String> {
        let range = self.server.ports;
        range
            .iter()
            .filter(|port| !port::is_refused_by_browsers(*port) && port::service(*port).is_none())
            .find(|port| !self.owners.contains_key(port) && sockets::is_free(self.server.bind, *port))
            .ok_or_else(|| format!("no port of the range {range} is free; extend 'ports' in palabre.toml"))
    }

    /// Returns why a new participant can't have this port.
    pub(crate) fn obstacle(&self, port: u16) -> Option<Obstacle> {
        let obstacle = |cause: String, remedy: &'static str| Some(Obstacle { cause, remedy });
        if port::is_refused_by_browsers(port) {
            let cause = format!("browsers don't connect to port {port}, which belongs to another protocol");
            return obstacle(cause, "choose another port");
        }
        if let Some(owner) = self.owners.get(&port) {
            return obstacle(format!("port {port} is used by participant '{owner}'"), "choose another port");
        }
        if !self.server.ports.contains(port) {
            let cause = format!("port {port} is not in the range {}", self.server.ports);
            return obstacle(cause, "choose another port, or extend 'ports' in palabre.toml");
        }
        if !sockets::is_free(self.server.bind, port) {
            let cause = format!("another program listens on port {port}");
            return obstacle(cause, "stop the program, or choose another port");
        }
        None
    }
}

/// Why a new participant can't have a port, and what to do.
#[derive(Debug, Clone)]
pub(crate) struct Obstacle {
    pub(crate) cause: String,
    remedy: &'static str,
}

impl fmt::Display for Obstacle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}; {}", self.cause, self.remedy)
    }
}

/// Creates the directory of the participants' files if it doesn't exist.
pub(crate) fn create_roster(config: &Path) -> Result<(), Failure> {
    let roster = config.join(PARTICIPANTS_DIR);
    match fs::create_dir(&roster) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            let cause = format!("unable to create directory '{}': {error}", roster.display());
            Err(Failure::system(permission::explain(config, cause)))
        }
        _ => Ok(()),
    }
}

/// If the links lead to a proxy, says on standard error that the proxy needs a new configuration for the new participants.
pub(crate) fn hint_at_proxy(server: &Server) {
    if !server.links.is_direct() {
        eprintln!(
            "palabre: the link leads to a proxy; write the proxy's configuration again, for example with 'palabre proxy-config'"
        );
    }
}
