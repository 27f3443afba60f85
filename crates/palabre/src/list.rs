//! `palabre list` and `palabre rooms`: participants and rooms, from the configuration, the room directories and the supervisor.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, ErrorKind};
use std::path::Path;
use std::time::SystemTime;

use palabre_config::control::ParticipantStatus;
use palabre_config::{ConfigError, Participant};
use palabre_host::exit::Failure;
use palabre_room::{Name, RoomDir, Talk};
use serde_json::{Value, json};

use crate::cli::{Cli, List};
use crate::control;
use crate::elsewhere::{self, Person};
use crate::output::{print, print_json, print_table};

/// The remedy for a missing permission.
pub(crate) const PERMISSION: &str = "run this command with sudo, or as a member of the group 'palabre'";

/// Prints all participants. Invalid files are reported on standard error.
pub(crate) fn participants(cli: &Cli, options: &List) -> Result<(), Failure> {
    let (participants, errors) = load(cli.config_dir())?;
    let states = states(cli.run_dir());
    let elsewhere = if options.everywhere { elsewhere::people(cli.run_dir()) } else { Vec::new() };
    if options.json {
        let all: Vec<Value> = participants
            .iter()
            .map(|participant| participant_json(participant, states.get(participant.name.as_str())))
            .collect();
        let mut object = json!({ "participants": all, "errors": texts(&errors) });
        if options.everywhere {
            object["elsewhere"] = elsewhere.iter().map(Person::json).collect();
        }
        return print_json(&object);
    }
    if participants.is_empty() {
        print("no participants; add one with 'palabre invite NAME'\n")?;
    } else {
        let head = ["NAME", "DISPLAY NAME", "ROOM", "PORT", "STATE", "GAIN", "KEY", "PAGE"].map(str::to_owned);
        let rows =
            participants.iter().map(|participant| participant_row(participant, states.get(participant.name.as_str())));
        print_table(&std::iter::once(head).chain(rows).collect::<Vec<_>>())?;
    }
    if !elsewhere.is_empty() {
        print("\n")?;
        let rows = elsewhere.iter().map(Person::row);
        print_table(&std::iter::once(Person::HEAD.map(str::to_owned)).chain(rows).collect::<Vec<_>>())?;
    } else if options.everywhere {
        print("\nno people on other machines\n")?;
    }
    warn(&errors);
    Ok(())
}

/// Prints all rooms that have a participant or a directory.
pub(crate) fn rooms(cli: &Cli, json: bool) -> Result<(), Failure> {
    let (participants, errors) = load(cli.config_dir())?;
    let rooms = all_rooms(cli.run_dir(), &participants)?;
    if json {
        let rooms: Vec<Value> = rooms.iter().map(|(name, room)| room.json(name)).collect();
        return print_json(&json!({ "rooms": rooms, "errors": texts(&errors) }));
    }
    if rooms.is_empty() {
        print("no rooms; create one with 'palabre invite NAME --room ROOM'\n")?;
    } else {
        let head = ["ROOM", "RATE", "PARTICIPANTS", "HERE", "GUESTS", "TALKING", "RECORDED"].map(str::to_owned);
        let rows = rooms.iter().map(|(name, room)| room.row(name));
        print_table(&std::iter::once(head).chain(rows).collect::<Vec<_>>())?;
    }
    warn(&errors);
    Ok(())
}

/// Reads all participants. Fails if this user may not read the directory or a file in it.
pub(crate) fn load(config: &Path) -> Result<(Vec<Participant>, Vec<ConfigError>), Failure> {
    if let Err(error) = fs::metadata(config) {
        return Err(unable_to_read(config, &error));
    }
    let (participants, errors) = Participant::load_all(config);
    match errors.iter().find(|error| error.is_denied()) {
        Some(error) => Err(Failure::system(format!("{error}; {PERMISSION}"))),
        None => Ok((participants, errors)),
    }
}

fn unable_to_read(path: &Path, error: &io::Error) -> Failure {
    let remedy = if error.kind() == ErrorKind::PermissionDenied { PERMISSION } else { "use --config or --run" };
    Failure::system(format!("unable to read '{}': {error}; {remedy}", path.display()))
}

/// Returns the supervisor's status of each participant by login name. Returns an empty map if the supervisor gives no status, for example
/// because none runs.
fn states(run: &Path) -> BTreeMap<String, ParticipantStatus> {
    let participants = control::status(run).map(|status| status.participants).unwrap_or_default();
    participants.into_iter().map(|participant| (participant.name.clone(), participant)).collect()
}

fn has_expired(participant: &Participant) -> bool {
    participant.key_expires.is_some_and(|expires| expires.has_passed(SystemTime::now()))
}

fn participant_json(participant: &Participant, known: Option<&ParticipantStatus>) -> Value {
    json!({
        "name": participant.name.as_str(),
        "display": display(participant, known),
        "room": participant.room.as_str(),
        "port": participant.port,
        "state": known.map(|known| known.state),
        "gain_db": participant.gain_db.unwrap_or(0.0),
        "muted": participant.muted,
        "listen_only": participant.listen_only,
        "join_muted": participant.join_muted,
        "key_expires": participant.key_expires.map(|expires| expires.to_string()),
        "key_expired": has_expired(participant),
        "key_once": participant.key_once,
        "suspended": participant.suspended,
        "link": known.and_then(|known| known.link),
    })
}

/// Returns the display name that other participants see, as the supervisor reports it. Without a report, returns the name in the
/// participant's file.
fn display<'a>(participant: &'a Participant, known: Option<&'a ParticipantStatus>) -> &'a str {
    known.map_or(participant.display(), |known| &known.display)
}

fn participant_row(participant: &Participant, known: Option<&ParticipantStatus>) -> [String; 8] {
    let gain = match (participant.muted, participant.gain_db) {
        (true, _) => "mute".to_owned(),
        (false, db) => format!("{} dB", db.unwrap_or(0.0)),
    };
    let expires = match participant.key_expires {
        Some(_) if has_expired(participant) => Some("expired".to_owned()),
        expires => expires.map(|expires| format!("until {expires}")),
    };
    let once = match known.and_then(|known| known.link) {
        Some(link) => Some(link.to_string()),
        None => participant.key_once.then(|| "once".to_owned()),
    };
    let suspended = participant.suspended.then(|| "suspended".to_owned());
    let key = [suspended, once, expires].into_iter().flatten().collect::<Vec<_>>();
    let key = if key.is_empty() { "-".to_owned() } else { key.join(", ") };
    let page = match (participant.listen_only, participant.join_muted) {
        (true, _) => "listens only",
        (false, true) => "joins muted",
        (false, false) => "-",
    };
    [
        participant.name.to_string(),
        display(participant, known).to_owned(),
        participant.room.to_string(),
        participant.port.to_string(),
        known.map_or_else(|| "-".to_owned(), |known| known.state.to_string()),
        gain,
        key,
        page.to_owned(),
    ]
}

/// A room as `palabre rooms` prints it.
#[derive(Debug, Default)]
struct Room {
    participants: Vec<String>,
    connected: Vec<String>,
    guests: Vec<String>,
    talking: Vec<String>,
    rate_hz: Option<u32>,
    is_recorded: bool,
}

/// Returns all rooms that have a participant or a directory. Fails if this user may not read the directory of the rooms. That directory may
/// be missing: the supervisor creates it.
fn all_rooms(run: &Path, participants: &[Participant]) -> Result<BTreeMap<String, Room>, Failure> {
    let mut rooms: BTreeMap<String, Room> = BTreeMap::new();
    for participant in participants {
        let room = rooms.entry(participant.room.to_string()).or_default();
        room.participants.push(participant.name.to_string());
    }
    let directory = run.join("rooms");
    let entries = match fs::read_dir(&directory) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(unable_to_read(&directory, &error)),
        entries => entries.into_iter().flatten().flatten(),
    };
    for name in entries.filter_map(|entry| entry.file_name().to_str()?.parse::<Name>().ok()) {
        let room = rooms.entry(name.to_string()).or_default();
        room.read(&RoomDir::new(directory.join(&name)));
    }
    Ok(rooms)
}

impl Room {
    /// Reads the files of the room directory. Files that can't be read are ignored, because a room may be removed at any time.
    fn read(&mut self, room: &RoomDir) {
        let names = |names: Vec<Name>| names.into_iter().map(|name| name.to_string());
        let present = names(room.participants().unwrap_or_default());
        self.guests = present.filter(|name| !self.participants.contains(name)).collect();
        let members = room.names().unwrap_or_default().into_iter().filter(|member| member.here);
        self.connected = members.map(|member| member.name.to_string()).collect();
        let levels = room.levels().unwrap_or_default().into_iter().filter(|line| line.state == Talk::Talking);
        self.talking = levels.map(|line| line.name.to_string()).collect();
        self.rate_hz = room.format().ok().map(|format| format.rate.hz());
        self.is_recorded = room.recording().exists();
    }

    fn json(&self, name: &str) -> Value {
        json!({
            "name": name,
            "rate_hz": self.rate_hz,
            "participants": self.participants,
            "here": self.connected,
            "guests": self.guests,
            "talking": self.talking,
            "recorded": self.is_recorded,
        })
    }

    fn row(&self, name: &str) -> [String; 7] {
        let or_dash = |text: String| if text.is_empty() { "-".to_owned() } else { text };
        [
            name.to_owned(),
            self.rate_hz.map_or_else(|| "-".to_owned(), |hz| format!("{hz} Hz")),
            self.participants.len().to_string(),
            or_dash(self.connected.join(",")),
            or_dash(self.guests.join(",")),
            or_dash(self.talking.join(",")),
            if self.is_recorded { "yes" } else { "no" }.to_owned(),
        ]
    }
}

fn texts(errors: &[ConfigError]) -> Vec<String> {
    errors.iter().map(ToString::to_string).collect()
}

fn warn(errors: &[ConfigError]) {
    for error in errors {
        eprintln!("palabre: warning: {error}");
    }
}
