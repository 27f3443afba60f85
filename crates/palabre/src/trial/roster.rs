//! Who takes part in a try: names, ports, keys, and their files.

use std::collections::{BTreeMap, BTreeSet};

use palabre_config::{Key, Participant, Server};
use palabre_host::exit::Failure;
use palabre_room::Name;

use super::links;
use super::place::Place;
use crate::cli::Try;
use crate::invite::is_free;

/// Without `--participants`.
const DEFAULT: [(&str, &str); 2] = [("alice", "Alice"), ("bob", "Bob")];

/// Somebody who takes part.
pub struct Person {
    /// The login name.
    pub name: Name,
    /// What the others see.
    pub display_name: String,
    /// The port in their file: 0 for any.
    pub port: u16,
    /// What their link carries.
    pub key: Key,
}

/// Writes a file for everybody who takes part. Keys of an earlier try in the same place are used again; files that it
/// wrote and that aren't wanted now are removed, those that somebody else put there stay.
///
/// # Errors
/// There aren't enough free ports (refused), or a file can't be written (system).
pub fn write(place: &Place, server: &Server, options: &Try) -> Result<Vec<Person>, Failure> {
    let keys = links::read(&place.keys());
    let names = names(options.participants)?;
    for old in keys.keys().filter(|old| !names.iter().any(|(name, _)| name.as_str() == *old)) {
        if let Ok(old) = old.parse() {
            // It may have been revoked meanwhile.
            let _ = Participant::remove(&place.etc(), &old);
        }
    }
    let mut ports = Ports::new(place, server, options.first_port, &names);
    let mut people = Vec::new();
    for (name, display_name) in names {
        let port = ports.next_free()?;
        let key = key(&keys, &name)?;
        let person = Person { name, display_name, port, key };
        // One microphone for all in one room would howl; the others join to listen first.
        let join_muted = !people.is_empty();
        super::participant(&person, join_muted).write(&place.etc()).map_err(Failure::system)?;
        people.push(person);
    }
    let lines = people.iter().map(|person| (person.name.as_str(), person.key.as_str()));
    links::write(&place.keys(), lines)
        .map_err(|error| Failure::system(format!("unable to write '{}': {error}", place.keys().display())))?;
    Ok(people)
}

/// Writes the port that was found for somebody into their file: it is theirs for life, over the supervisor's death too.
///
/// # Errors
/// The file can't be read or written (system).
pub fn keep_port(place: &Place, person: &Person, port: u16) -> Result<(), Failure> {
    let mut participant = Participant::load(&place.etc(), &person.name).map_err(Failure::system)?;
    participant.port = port;
    participant.write(&place.etc()).map_err(Failure::system)
}

fn names(participants: Option<u16>) -> Result<Vec<(Name, String)>, Failure> {
    let names = match participants {
        None => DEFAULT.map(|(name, display_name)| (name.to_owned(), display_name.to_owned())).to_vec(),
        Some(count) => (1..=count).map(|n| (format!("p{n:02}"), format!("Participant {n}"))).collect(),
    };
    names.into_iter().map(|(name, display_name)| Ok((name.parse().map_err(Failure::system)?, display_name))).collect()
}

fn key(keys: &BTreeMap<String, String>, name: &Name) -> Result<Key, Failure> {
    if let Some(key) = keys.get(name.as_str()).and_then(|key| Key::parse(key).ok()) {
        return Ok(key);
    }
    Key::generate().map_err(|error| Failure::system(format!("unable to make a key: {error}")))
}

/// Consecutive ports without those that are taken.
struct Ports<'a> {
    server: &'a Server,
    /// Of participants whom somebody else added.
    others: BTreeSet<u16>,
    next: Option<u16>,
    any: bool,
}

impl<'a> Ports<'a> {
    fn new(place: &Place, server: &'a Server, first: u16, names: &[(Name, String)]) -> Self {
        let (participants, _errors) = Participant::load_all(&place.etc());
        let is_other = |participant: &&Participant| !names.iter().any(|(name, _)| *name == participant.name);
        let others = participants.iter().filter(is_other).map(|participant| participant.port).collect();
        Self { server, others, next: Some(first), any: first == 0 }
    }

    fn next_free(&mut self) -> Result<u16, Failure> {
        if self.any {
            return Ok(0);
        }
        while let Some(port) = self.next {
            self.next = port.checked_add(1);
            if !self.others.contains(&port) && is_free(self.server.bind, port) {
                return Ok(port);
            }
            eprintln!("palabre: port {port} is taken: skipped");
        }
        Err(Failure::refused("unable to find another free port up to 65535; begin lower with --first-port"))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    fn options(participants: Option<u16>, first_port: u16) -> Try {
        Try { participants, first_port, dir: None, no_voices: true, no_levelling: false, lan: false, open: false }
    }

    #[test]
    fn everybody_but_the_first_joins_muted_and_keys_stay_from_try_to_try() {
        let directory = tempfile::tempdir().unwrap();
        let place = Place::prepare(Some(directory.path())).unwrap();
        let server = place.configure(false, &[]).unwrap();
        let first = write(&place, &server, &options(None, 0)).unwrap();
        let (participants, errors) = Participant::load_all(&place.etc());
        assert!(errors.is_empty());
        let muted: Vec<_> = participants.iter().map(|p| (p.display(), p.join_muted)).collect();
        assert_eq!(muted, [("Alice", false), ("Bob", true)]);
        let second = write(&place, &server, &options(None, 0)).unwrap();
        assert_eq!(first[0].key, second[0].key);
        assert!(participants[0].key_sha256.matches(second[0].key.as_str()));
    }

    #[test]
    fn those_of_an_earlier_try_leave_and_those_who_were_invited_stay() {
        let directory = tempfile::tempdir().unwrap();
        let place = Place::prepare(Some(directory.path())).unwrap();
        let server = place.configure(false, &[]).unwrap();
        write(&place, &server, &options(None, 0)).unwrap();
        let key = Key::generate().unwrap().hash();
        Participant::new("carol".parse().unwrap(), 9500, key).write(&place.etc()).unwrap();
        write(&place, &server, &options(Some(2), 0)).unwrap();
        let (participants, _) = Participant::load_all(&place.etc());
        let names: Vec<_> = participants.iter().map(|participant| participant.name.as_str()).collect();
        assert_eq!(names, ["carol", "p01", "p02"]);
    }

    #[test]
    fn a_taken_port_is_skipped() {
        let directory = tempfile::tempdir().unwrap();
        let place = Place::prepare(Some(directory.path())).unwrap();
        let server = place.configure(false, &[]).unwrap();
        let taken = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let first = taken.local_addr().unwrap().port();
        let people = write(&place, &server, &options(Some(2), first)).unwrap();
        assert!(people[0].port > first);
        assert!(people[1].port > people[0].port);
    }
}
