//! A reload: reads the configuration again, and changes the services. A service serves as before if its new port or room can't be used.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, TcpListener};
use std::time::Instant;

use palabre_config::control::Changes;
use palabre_config::{ConfigError, Participant};
use palabre_host::sockets;
use palabre_room::Name;

use super::Roster;
use crate::audit::{self, Author};
use crate::config::Loaded;
use crate::service::Service;

/// The configuration as read.
struct Read {
    /// The settings of `palabre.toml`; `None` if it is invalid.
    loaded: Option<Loaded>,
    participants: Vec<Participant>,
    errors: Vec<ConfigError>,
}

/// How services move to other ports and rooms in a reload.
struct Moves {
    /// The address on which ports are opened.
    bind: IpAddr,
    /// Whether this address has changed.
    rebinds: bool,
    /// The services that are to move.
    wanted: BTreeMap<Name, Move>,
    /// The ports of services that end. These ports become free whichever services move.
    freed: BTreeSet<u16>,
    /// The ports that were opened for services in `wanted`. Any other port of `wanted` is opened when its service starts again.
    sockets: BTreeMap<Name, TcpListener>,
    /// Why services keep their port and room.
    refused: BTreeMap<Name, String>,
}

/// How one service moves.
struct Move {
    room: Name,
    /// The port that the service has open.
    from: u16,
    /// The port of the participant's file.
    to: u16,
}

impl Moves {
    /// Decides which services move. A service whose room can't be created or whose port can't be opened keeps its port. So the port isn't
    /// free for another service, which may then have to keep its own port: decides again until no further service keeps its port.
    fn decide(&mut self, bad_rooms: &BTreeSet<Name>) {
        let mut before = usize::MAX;
        while self.wanted.len() < before {
            before = self.wanted.len();
            let names: Vec<Name> =
                self.wanted.keys().filter(|name| !self.sockets.contains_key(*name)).cloned().collect();
            names.into_iter().for_each(|name| self.decide_one(name, bad_rooms));
        }
    }

    fn decide_one(&mut self, name: Name, bad_rooms: &BTreeSet<Name>) {
        let Some(one) = self.wanted.get(&name) else { return };
        let socket = match bad_rooms.contains(&one.room) {
            true => Err(format!("unable to create room '{}'", one.room)),
            false => self.open_port(one),
        };
        match socket {
            Ok(socket) => self.sockets.extend(socket.map(|socket| (name, socket))),
            Err(why) => {
                self.wanted.remove(&name);
                self.refused.insert(name, why);
            }
        }
    }

    /// Opens the port to which a service moves, so that the service keeps its port if that fails. Returns `None` if the port can be opened
    /// only after a service has closed it.
    fn open_port(&self, &Move { from, to, .. }: &Move) -> Result<Option<TcpListener>, String> {
        let is_same = from == to || to == 0;
        let is_freed = || self.freed.contains(&to) || self.wanted.values().any(|one| one.from == to && one.to != to);
        if (is_same && !self.rebinds) || is_freed() {
            return Ok(None);
        }
        match sockets::listen(self.bind, to) {
            Ok(socket) => Ok(Some(socket)),
            Err(_) if is_same => Ok(None),
            Err(error) => Err(sockets::explain(self.bind, to, &error)),
        }
    }
}

impl Read {
    fn participant(&self, name: &Name) -> Option<&Participant> {
        self.participants.iter().find(|participant| participant.name == *name)
    }
}

impl Roster {
    /// Reads `palabre.toml` and the participants' files again and applies the changes. Returns the changes, which may still be in progress;
    /// the status shows when they are complete.
    ///
    /// If a participant's file has become invalid, the participant keeps the previous settings.
    pub(crate) fn reload(&mut self, by: &Author, now: Instant) -> Changes {
        let read = self.read();
        let mut changes = self.compare(&read);
        self.note_errors(&read.errors);
        let removed = self.removed(&read);
        let mut moves = self.moves(&read, &removed);
        if let Some(loaded) = read.loaded {
            self.config.apply(loaded);
        }
        self.stop_removed(&removed, by, now);
        moves.decide(&self.make_rooms(&read.participants));
        self.load_own_names();
        for participant in read.participants {
            self.audit(&participant, &moves, by);
            self.update(participant, &mut moves, now);
        }
        if changes.certificate {
            log::info!(
                "the certificate or its key has changed: the listeners get the new certificate from palabre-signer"
            );
            self.services.values_mut().for_each(|service| service.hang_up(now));
        }
        self.hand_over(false);
        // Write `names` without the interval, so that the files are current when the client gets the answer.
        (self.names_at, self.compared) = (None, None);
        self.tick(now);
        changes.errors.clone_from(&self.errors);
        changes.refused.extend(self.alarm.clone());
        changes
    }

    /// Returns what [`Self::reload`] would change, and changes nothing. `of_key` says why the signer couldn't use the certificate with its key.
    pub(crate) fn plan(&self, of_key: Option<&str>) -> Changes {
        let read = self.read();
        let mut changes = self.compare(&read);
        let mut moves = self.moves(&read, &self.removed(&read));
        moves.decide(&BTreeSet::new());
        let refused = moves.refused.iter().map(|(name, why)| format!("unable to move '{name}': {why}"));
        changes.refused.extend(refused);
        if let Some(fault) = read.loaded.as_ref().and_then(|loaded| loaded.certificate_fault(of_key)) {
            changes.refused.push(fault);
        }
        changes
    }

    fn read(&self) -> Read {
        let loaded = self.config.load();
        let (participants, mut errors) = Participant::load_all(&self.config.directory);
        let loaded = loaded.map_err(|error| errors.push(error)).ok();
        Read { loaded, participants, errors }
    }

    /// Returns which services the configuration changes.
    fn compare(&self, read: &Read) -> Changes {
        let is_running = |name: &&Name| self.services.get(*name).is_some_and(|service| !service.is_ending());
        let mut changes = Changes {
            stopped: self.removed(read).iter().filter(|name| is_running(name)).map(ToString::to_string).collect(),
            errors: read.errors.iter().map(ToString::to_string).collect(),
            ..Changes::default()
        };
        let mut is_changed = false;
        if let Some(loaded) = &read.loaded {
            is_changed = loaded.is_changed;
            changes.certificate = loaded.is_certificate_changed;
            changes.refused.clone_from(&loaded.refused);
        }
        for new in &read.participants {
            let name = new.name.to_string();
            let service = self.services.get(&new.name);
            if service.is_some_and(|service| !service.is_stopped() && service.has_other_gain(new)) {
                changes.gains.push(name.clone());
            }
            match service {
                Some(service) if service.is_stopped() && !service.is_ending() => {}
                Some(service) if !service.is_ending() && !service.is_down() => {
                    let is_stale = is_changed || service.is_behind(&self.config) || service.is_refused();
                    if is_stale || service.moves(new) || service.replaces(new) {
                        changes.restarted.push(name);
                    }
                }
                _ => changes.started.push(name),
            }
        }
        changes
    }

    /// Returns the participants whose file was removed.
    fn removed(&self, read: &Read) -> Vec<Name> {
        let is_removed = |name: &&Name| {
            let path = Participant::path(&self.config.directory, name);
            // If the directory of the files can't be read, keep all participants.
            let is_unknown = |error: &ConfigError| error.path() == path || path.parent() == Some(error.path());
            read.participant(name).is_none() && !read.errors.iter().any(is_unknown)
        };
        self.services.keys().filter(is_removed).cloned().collect()
    }

    /// Returns the services that are to move, and the ports that other services close.
    fn moves(&self, read: &Read, removed: &[Name]) -> Moves {
        let bind = read.loaded.as_ref().map_or(self.config.server.bind, Loaded::bind);
        let rebinds = bind != self.config.server.bind;
        let (wanted, sockets, refused) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        let mut moves = Moves { bind, rebinds, wanted, freed: BTreeSet::new(), sockets, refused };
        for (name, service) in &self.services {
            let from = service.port();
            if service.is_port_in_use() && (service.socket().is_none() || removed.contains(name)) {
                moves.freed.insert(from);
            } else if let Some(new) = read.participant(name)
                && service.socket().is_some()
                && (rebinds || service.moves(new))
            {
                moves.wanted.insert(name.clone(), Move { room: new.room.clone(), from, to: new.port });
            }
        }
        moves
    }

    fn stop_removed(&mut self, removed: &[Name], by: &Author, now: Instant) {
        for name in removed {
            let was_moving = self.next.remove(name).is_some();
            let service = self.services.get_mut(name).filter(|service| !service.is_ending());
            if was_moving || service.is_some() {
                audit::participant(name, "revoked", by);
            }
            if let Some(service) = service {
                service.dismiss(now);
            }
        }
    }

    /// Logs how the participant's file has changed, unless the service keeps the settings of the previous file.
    fn audit(&self, new: &Participant, moves: &Moves, by: &Author) {
        let with_old_port = moves.refused.contains_key(&new.name).then(|| self.with_old_port(new));
        let new = match &with_old_port {
            None => new,
            Some(Some(usable)) => usable,
            Some(None) => return,
        };
        let present = self.services.get(&new.name).filter(|service| !service.is_ending()).map(Service::participant);
        let previous = self.next.get(&new.name).map(|(next, _)| next).or(present);
        for what in audit::changes(previous, new) {
            audit::participant(&new.name, &what, by);
        }
    }

    /// Returns the participant's file, but with the port that the service keeps. Returns `None` if the room has changed: the listener reads the room
    /// from the file, so no field of the file can take effect.
    fn with_old_port(&self, new: &Participant) -> Option<Participant> {
        let present = self.services.get(&new.name).filter(|service| !service.is_ending())?.participant();
        (present.room == new.room).then(|| Participant { port: present.port, ..new.clone() })
    }

    fn update(&mut self, new: Participant, moves: &mut Moves, now: Instant) {
        let name = new.name.clone();
        let usable = moves.refused.get(&name).and_then(|_| self.with_old_port(&new));
        let Some(service) = self.services.get_mut(&name) else {
            return self.add(new, None, false, now);
        };
        if let Some(why) = moves.refused.remove(&name) {
            if let Some(usable) = usable {
                service.change(&self.config, usable, now);
            }
            return service.stay(&why);
        }
        if !service.is_ending() && !moves.rebinds && !service.moves(&new) {
            service.change(&self.config, new, now);
            return service.try_again(&self.config, now);
        }
        // A service that an operator stopped remains stopped after its port or room has changed.
        let is_same_port = !moves.rebinds && (new.port == 0 || new.port == service.port());
        let kept = if service.is_ending() {
            // An earlier reload may have opened a port for the next service. Use this port only if the file still names it.
            let socket = self.next.remove(&name).and_then(|(_, socket)| socket);
            socket.filter(|socket| !moves.rebinds && has_port(socket, new.port))
        } else {
            // Keep a port that doesn't change open, so that new connections wait for the next listener.
            let socket = if is_same_port { service.give_socket() } else { None };
            service.remove(now);
            socket
        };
        let socket = moves.sockets.remove(&name).or(kept);
        self.next.insert(name, (new, socket));
    }
}

/// Returns whether the socket has this port. Port 0 stands for any port.
fn has_port(socket: &TcpListener, port: u16) -> bool {
    port == 0 || socket.local_addr().is_ok_and(|address| address.port() == port)
}
