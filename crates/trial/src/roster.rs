//! The participants of a trial: names, ports, keys, and their files.

use std::collections::{BTreeMap, BTreeSet};

use palabre_config::{Key, Participant, Server, port};
use palabre_host::exit::Failure;
use palabre_host::sockets;
use palabre_room::Name;

use crate::name_file;
use crate::options::Options;
use crate::trial_dir::TrialDir;

/// Login names and display names of the participants if `--participants` is not given.
const DEFAULT: [(&str, &str); 2] = [("alice", "Alice"), ("bob", "Bob")];

/// A participant of the trial.
pub(crate) struct Entry {
    pub(crate) name: Name,
    pub(crate) display_name: String,
    /// The port in the participant's file. 0 means any free port.
    pub(crate) port: u16,
    /// The access key in the invitation link. The participant's file contains only the hash of the key.
    pub(crate) key: Key,
}

impl Entry {
    fn file(&self, join_muted: bool) -> Participant {
        let mut participant = Participant::new(self.name.clone(), self.port, self.key.hash());
        participant.display_name = Some(self.display_name.clone());
        participant.join_muted = join_muted;
        participant
    }
}

/// Writes the files of all participants. Uses the keys of an earlier trial in the same directory. Removes the files of participants of the
/// earlier trial that this trial doesn't have. Files of participants whom the user invited are kept.
pub(crate) fn write(trial: &TrialDir, server: &Server, options: &Options) -> Result<Vec<Entry>, Failure> {
    let keys = name_file::read(&trial.keys());
    let names = names(options.participants)?;
    for old in keys.keys().filter(|old| !names.iter().any(|(name, _)| name.as_str() == *old)) {
        if let Ok(old) = old.parse() {
            // An error is ignored: the user may have removed the file with `palabre revoke`.
            let _ = Participant::remove(&trial.etc(), &old);
        }
    }
    let mut ports = Ports::new(trial, server, options.first_port, &names);
    let mut entries = Vec::new();
    for (name, display_name) in names {
        let port = ports.next_free()?;
        let key = key(&keys, &name)?;
        let entry = Entry { name, display_name, port, key };
        // Only the first page joins unmuted: two unmuted pages on one machine share microphone and loudspeaker, and would howl.
        let join_muted = !entries.is_empty();
        entry.file(join_muted).write(&trial.etc()).map_err(Failure::system)?;
        entries.push(entry);
    }
    let lines = entries.iter().map(|entry| (entry.name.as_str(), entry.key.as_str()));
    name_file::write(&trial.keys(), lines)
        .map_err(|error| Failure::system(format!("unable to write '{}': {error}", trial.keys().display())))?;
    Ok(entries)
}

/// Writes the port that the supervisor chose into the participant's file, so that a restarted supervisor uses the same port.
pub(crate) fn keep_port(trial: &TrialDir, entry: &Entry, port: u16) -> Result<(), Failure> {
    let mut participant = Participant::load(&trial.etc(), &entry.name).map_err(Failure::system)?;
    participant.port = port;
    participant.write(&trial.etc()).map_err(Failure::system)
}

fn names(participants: Option<u16>) -> Result<Vec<(Name, String)>, Failure> {
    let names = match participants {
        None => DEFAULT.map(|(name, display_name)| (name.to_owned(), display_name.to_owned())).to_vec(),
        Some(count) => {
            let width = count.to_string().len().max(2);
            (1..=count).map(|n| (format!("p{n:0width$}"), format!("Participant {n}"))).collect()
        }
    };
    names.into_iter().map(|(name, display_name)| Ok((name.parse().map_err(Failure::system)?, display_name))).collect()
}

fn key(keys: &BTreeMap<String, String>, name: &Name) -> Result<Key, Failure> {
    if let Some(key) = keys.get(name.as_str()).and_then(|key| Key::parse(key).ok()) {
        return Ok(key);
    }
    Key::generate().map_err(|error| Failure::system(format!("unable to make an access key: {error}")))
}

/// Finds free ports in ascending order.
struct Ports<'a> {
    server: &'a Server,
    /// Ports of participants whom the user invited. The participants of the trial get other ports.
    invited: BTreeSet<u16>,
    next: Option<u16>,
    any: bool,
}

impl<'a> Ports<'a> {
    fn new(trial: &TrialDir, server: &'a Server, first: u16, names: &[(Name, String)]) -> Self {
        let (participants, _errors) = Participant::load_all(&trial.etc());
        let is_invited = |participant: &&Participant| !names.iter().any(|(name, _)| *name == participant.name);
        let invited = participants.iter().filter(is_invited).map(|participant| participant.port).collect();
        Self { server, invited, next: Some(first), any: first == 0 }
    }

    fn next_free(&mut self) -> Result<u16, Failure> {
        if self.any {
            return Ok(0);
        }
        while let Some(port) = self.next {
            self.next = port.checked_add(1);
            if port::is_refused_by_browsers(port) {
                continue;
            }
            if !self.invited.contains(&port) && sockets::is_free(self.server.bind, port) {
                return Ok(port);
            }
            eprintln!("palabre: port {port} is in use; trying the next one");
        }
        Err(Failure::refused("unable to find a free port up to 65535; choose a lower --first-port"))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    fn options(participants: Option<u16>, first_port: u16) -> Options {
        Options {
            participants,
            first_port,
            dir: None,
            no_voices: true,
            no_levelling: false,
            lan: false,
            machines: None,
            open: false,
        }
    }

    #[test]
    fn all_but_the_first_join_muted_and_keys_are_kept() {
        let directory = tempfile::tempdir().unwrap();
        let trial = TrialDir::prepare(Some(directory.path())).unwrap();
        let server = trial.configure(false, &[], "").unwrap();
        let first = write(&trial, &server, &options(None, 0)).unwrap();
        let (participants, errors) = Participant::load_all(&trial.etc());
        assert!(errors.is_empty());
        let muted: Vec<_> = participants.iter().map(|p| (p.display(), p.join_muted)).collect();
        assert_eq!(muted, [("Alice", false), ("Bob", true)]);
        let second = write(&trial, &server, &options(None, 0)).unwrap();
        assert_eq!(first[0].key, second[0].key);
        assert!(participants[0].key_sha256.matches(second[0].key.as_str()));
    }

    #[test]
    fn participants_of_an_earlier_trial_are_removed_and_invited_ones_stay() {
        let directory = tempfile::tempdir().unwrap();
        let trial = TrialDir::prepare(Some(directory.path())).unwrap();
        let server = trial.configure(false, &[], "").unwrap();
        write(&trial, &server, &options(None, 0)).unwrap();
        let key = Key::generate().unwrap().hash();
        Participant::new("carol".parse().unwrap(), 9500, key).write(&trial.etc()).unwrap();
        write(&trial, &server, &options(Some(2), 0)).unwrap();
        let (participants, _) = Participant::load_all(&trial.etc());
        let names: Vec<_> = participants.iter().map(|participant| participant.name.as_str()).collect();
        assert_eq!(names, ["carol", "p01", "p02"]);
    }

    #[test]
    fn port_in_use_is_skipped() {
        let directory = tempfile::tempdir().unwrap();
        let trial = TrialDir::prepare(Some(directory.path())).unwrap();
        let server = trial.configure(false, &[], "").unwrap();
        let taken = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let first = taken.local_addr().unwrap().port();
        let entries = write(&trial, &server, &options(Some(2), first)).unwrap();
        assert!(entries[0].port > first);
        assert!(entries[1].port > entries[0].port);
    }
}
