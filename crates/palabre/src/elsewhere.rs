//! The people on other machines, from the files that `palabre-bridge` writes into the room directories.

use std::fs;
use std::path::Path;

use palabre_room::{MachinePerson, Name, RoomDir};
use serde_json::{Value, json};

use crate::table;

/// A person on another machine.
#[derive(Debug)]
pub(crate) struct Person {
    room: Name,
    machine: Name,
    is_cut_off: bool,
    person: MachinePerson,
}

/// Returns the people on other machines in all rooms, in order of rooms, machines and names. Files that can't be read are ignored, because a machine
/// may leave at any time.
pub(crate) fn people(run: &Path) -> Vec<Person> {
    let entries = fs::read_dir(run.join("rooms")).into_iter().flatten().flatten();
    let mut rooms: Vec<Name> = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
    rooms.sort();
    rooms.into_iter().flat_map(|room| in_room(run, &room)).collect()
}

fn in_room(run: &Path, room: &Name) -> Vec<Person> {
    let others = RoomDir::new(run.join("rooms").join(room)).other_machines();
    let mut people = Vec::new();
    for machine in others.machines().unwrap_or_default() {
        let Ok(Some(state)) = others.read(&machine) else { continue };
        let is_cut_off = state.is_cut_off;
        let person = |person| Person { room: room.clone(), machine: machine.clone(), is_cut_off, person };
        people.extend(state.people.into_iter().map(person));
    }
    people
}

impl Person {
    /// First line of the table.
    pub(crate) const HEAD: [&str; 4] = ["NAME", "DISPLAY NAME", "ROOM", "STATE"];

    pub(crate) fn row(&self) -> [String; 4] {
        let member = &self.person.member;
        [self.full_name(), table::printable(&member.display), self.room.to_string(), self.state().to_owned()]
    }

    pub(crate) fn json(&self) -> Value {
        let member = &self.person.member;
        json!({
            "name": member.name.as_str(),
            "machine": self.machine.as_str(),
            "display": member.display,
            "room": self.room.as_str(),
            "here": member.here,
            "cut_off": self.is_cut_off,
        })
    }

    fn full_name(&self) -> String {
        format!("{}@{}", self.person.member.name, self.machine)
    }

    fn state(&self) -> &str {
        match (self.is_cut_off, self.person.member.here) {
            (true, _) => "cut off",
            (false, true) => "here",
            (false, false) => "away",
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use palabre_room::{Format, MachineState};

    #[test]
    fn people_of_all_machines_are_listed_with_their_state() {
        let run = tempfile::tempdir().unwrap();
        assert!(people(run.path()).is_empty());
        let room = RoomDir::new(run.path().join("rooms/main"));
        room.create(Format::default()).unwrap();
        let state = |text: &str| text.parse::<MachineState>().unwrap();
        let write =
            |machine: &str, text: &str| room.other_machines().write(&machine.parse().unwrap(), &state(text)).unwrap();
        write("paris", "connected\nalice\there hand\ttalking -21.3\tAlice\nbob\taway\t-\tBob\n");
        write("lille", "cut-off recorded\ncarol\there\t-\tCarol\n");
        let rows: Vec<String> = people(run.path()).iter().map(|person| person.row().join("|")).collect();
        assert_eq!(rows, ["carol@lille|Carol|main|cut off", "alice@paris|Alice|main|here", "bob@paris|Bob|main|away"]);
        let json = people(run.path())[0].json();
        assert_eq!(
            json,
            json!({"name": "carol", "machine": "lille", "display": "Carol", "room": "main", "here": true, "cut_off": true})
        );
    }
}
