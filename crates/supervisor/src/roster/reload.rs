//! A reload: reads the configuration again, and changes the services. A service serves as before if its new port or room can't be used.

use std::collections::BTreeSet;
use std::net::{IpAddr, TcpListener};
use std::time::Instant;

use palabre_config::control::Changes;
use palabre_config::{ConfigError, Participant};
use palabre_host::sockets;
use palabre_room::Name;

use super::Roster;
use crate::config::Loaded;
use crate::service::Service;

/// The configuration as read.
struct Read {
    /// The settings of `palabre.toml`; `None` if it is invalid.
    loaded: Option<Loaded>,
    participants: Vec<Participant>,
    errors: Vec<ConfigError>,
}

/// How services move to other ports in a reload.
struct Moves {
    /// The address on which ports are opened.
    bind: IpAddr,
    /// Whether this address has changed.
    rebinds: bool,
    /// The ports that services close in this reload. Another service can open such a port only later.
    freed: BTreeSet<u16>,
}

impl Moves {
    /// Opens the port to which a service moves, so that the service keeps its port if that fails. Returns `None` if the port can be opened
    /// only after a service has closed it.
    fn open_port(&self, service: &Service, new: &Participant) -> Result<Option<TcpListener>, String> {
        let is_same = service.port() == new.port || new.port == 0;
        if (is_same && !self.rebinds) || self.freed.contains(&new.port) {
            return Ok(None);
        }
        match sockets::listen(self.bind, new.port) {
            Ok(socket) => Ok(Some(socket)),
            Err(_) if is_same => Ok(None),
            Err(error) => Err(sockets::explain(self.bind, new.port, &error)),
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
    pub(crate) fn reload(&mut self, now: Instant) -> Changes {
        let read = self.read();
        let mut changes = self.compare(&read);
        self.note_errors(&read.errors);
        let (moves, removed) = (self.moves(&read), self.removed(&read));
        if let Some(loaded) = read.loaded {
            self.config.apply(loaded);
        }
        self.stop_removed(&removed, now);
        let bad_rooms = self.make_rooms(&read.participants);
        for participant in read.participants {
            self.update(participant, &moves, &bad_rooms, now);
        }
        if changes.certificate {
            log::info!("the certificate or its key has changed: every listener reads them again");
            self.services.values_mut().for_each(|service| service.hang_up(now));
        }
        self.hand_over(false);
        // Write `names` without the interval, so that the files are current when the client gets the answer.
        self.names_at = None;
        self.tick(now);
        changes.errors.clone_from(&self.errors);
        changes.refused.extend(self.alarm.clone());
        changes
    }

    /// Returns what [`Self::reload`] would change, and changes nothing.
    pub(crate) fn plan(&self) -> Changes {
        let read = self.read();
        let mut changes = self.compare(&read);
        let moves = self.moves(&read);
        for new in &read.participants {
            if let Some(service) = self.services.get(&new.name).filter(|service| service.socket().is_some())
                && let Err(why) = moves.open_port(service, new)
            {
                changes.refused.push(format!("unable to move '{}': {why}", new.name));
            }
        }
        if let Some(fault) = read.loaded.as_ref().and_then(Loaded::certificate_fault) {
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
            match self.services.get(&new.name) {
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

    fn moves(&self, read: &Read) -> Moves {
        let bind = read.loaded.as_ref().map_or(self.config.server.bind, Loaded::bind);
        let closes = |(name, service): &(&Name, &Service)| read.participant(name).is_none_or(|new| service.moves(new));
        let freed = self.services.iter().filter(closes).map(|(_, service)| service.port()).collect();
        Moves { bind, rebinds: bind != self.config.server.bind, freed }
    }

    fn stop_removed(&mut self, removed: &[Name], now: Instant) {
        for name in removed {
            self.next.remove(name);
            if let Some(service) = self.services.get_mut(name).filter(|service| !service.is_ending()) {
                service.remove_at_once(now);
            }
        }
    }

    fn update(&mut self, new: Participant, moves: &Moves, bad_rooms: &BTreeSet<Name>, now: Instant) {
        let name = new.name.clone();
        let Some(service) = self.services.get_mut(&name) else {
            return self.add(new, None, false, now);
        };
        if !service.is_ending() && !moves.rebinds && !service.moves(&new) {
            service.change(&self.config, new, now);
            return service.try_again(&self.config, now);
        }
        let socket = match service.socket() {
            Some(_) if bad_rooms.contains(&new.room) => Err(format!("unable to create room '{}'", new.room)),
            Some(_) => moves.open_port(service, &new),
            None => Ok(None),
        };
        match socket {
            Ok(socket) => {
                // A service that an operator stopped remains stopped after its port or room has changed.
                if !service.is_ending() {
                    service.remove(now);
                }
                self.next.insert(name, (new, socket));
            }
            Err(why) => service.stay(&why),
        }
    }
}
