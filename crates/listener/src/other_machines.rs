//! The people of other machines that share the room: the files in the directory `.other-machines` of the room. A program that connects the machines
//! replaces these files.

use crate::marks::{Marks, Value, level_value};
use palabre_host::log_limit::LastWarning;
use palabre_host::stamp::FileStamp;
use palabre_room::{MAX_MACHINES, MachineLevel, MachinePerson, MachineState, Name, OtherMachines, RoomError};
use serde::Serialize;
use std::collections::BTreeMap;

/// Maximum size of all people of other machines in a room record, in bytes of JSON. Pages refuse longer records.
const MAX_JSON_BYTES: usize = 200_000;
/// Size of a person in JSON without the names, in bytes.
const PERSON_BYTES: usize = 24;

/// The other machines, as their files were at the last read.
#[derive(Debug)]
pub(crate) struct Others {
    dir: Option<OtherMachines>,
    dir_seen: Option<FileStamp>,
    machines: BTreeMap<Name, Machine>,
    last_warning: LastWarning,
}

/// A machine, and its file at the last read. `seen` is `None` if this read failed, so that the file is read again.
#[derive(Debug, Default)]
struct Machine {
    seen: Option<FileStamp>,
    /// Whether the file was ever read.
    is_known: bool,
    /// The content of the file.
    text: String,
    state: MachineState,
}

/// What has changed since the previous read of the files.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Changed {
    /// The list of machines, the list of their people, or the state of a machine or a person has changed.
    pub(crate) people: bool,
    /// A person has started or stopped talking, or talks at another level.
    pub(crate) levels: bool,
}

/// A machine, in the form in which a room record contains it.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(crate) struct ShownMachine<'a> {
    name: &'a str,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    cut_off: bool,
}

/// Reads the files, and returns whether a machine records the room.
pub(crate) fn is_recorded_elsewhere(dir: &OtherMachines) -> bool {
    let machines = dir.machines().unwrap_or_default();
    machines
        .iter()
        .take(MAX_MACHINES)
        .any(|name| dir.read(name).is_ok_and(|state| state.is_some_and(|it| it.is_recorded)))
}

impl Others {
    pub(crate) fn new(dir: Option<OtherMachines>) -> Self {
        Self { dir, dir_seen: None, machines: BTreeMap::new(), last_warning: LastWarning::default() }
    }

    /// Reads the files that were replaced. Without `all`, the files are examined only if an entry of their directory was replaced. The time stamp of the
    /// directory may be the same for two changes within some milliseconds, so call this with `all` from time to time. Returns what has changed. The
    /// content of a file that can't be read stays as it was.
    pub(crate) fn look(&mut self, all: bool) -> Changed {
        let Some(dir) = self.dir.clone() else { return Changed::default() };
        let now = FileStamp::of(dir.path());
        let mut changed = Changed::default();
        if now != self.dir_seen {
            match dir.machines() {
                Ok(names) => {
                    self.dir_seen = now;
                    changed.people = keep_only(&mut self.machines, &names);
                }
                Err(error) => warn(&mut self.last_warning, &error),
            }
        } else if !all {
            return changed;
        }
        for (name, machine) in &mut self.machines {
            match machine.look(&dir, name) {
                Ok(news) => changed = changed.or(news),
                Err(error) => warn(&mut self.last_warning, &error),
            }
        }
        changed
    }

    /// Returns whether another machine records the room. A machine that recorded it when it was cut off counts, because it may be connected
    /// again at any moment.
    pub(crate) fn is_recorded(&self) -> bool {
        self.machines.values().any(|machine| machine.state.is_recorded)
    }

    /// Returns the machines whose file was read.
    pub(crate) fn machines(&self) -> Vec<ShownMachine<'_>> {
        let known = self.machines.iter().filter(|(_, machine)| machine.is_known);
        known.map(|(name, machine)| ShownMachine { name: name.as_str(), cut_off: machine.state.is_cut_off }).collect()
    }

    /// Returns the people on other machines, each with the machine. The list ends before its JSON exceeds `MAX_JSON_BYTES`.
    pub(crate) fn people(&self) -> Vec<(&Name, &MachinePerson)> {
        let all =
            self.machines.iter().flat_map(|(name, machine)| machine.state.people.iter().map(move |one| (name, one)));
        let mut left = MAX_JSON_BYTES;
        all.take_while(|(machine, person)| {
            left = left.saturating_sub(json_bytes(machine, person));
            left > 0
        })
        .collect()
    }

    /// Returns the level of each of [`Self::people`]. People of a machine that is cut off are silent.
    pub(crate) fn levels(&self) -> Vec<Value> {
        let is_cut_off = |machine: &Name| self.machines.get(machine).is_none_or(|machine| machine.state.is_cut_off);
        let value =
            |(machine, person): (&Name, &MachinePerson)| if is_cut_off(machine) { 0 } else { level(person.level) };
        self.people().into_iter().map(value).collect()
    }
}

impl Changed {
    pub(crate) fn or(self, other: Self) -> Self {
        Self { people: self.people || other.people, levels: self.levels || other.levels }
    }
}

impl Machine {
    /// Reads the file if it was replaced.
    fn look(&mut self, dir: &OtherMachines, name: &Name) -> Result<Changed, RoomError> {
        let seen = FileStamp::of(&dir.file(name));
        if seen.is_some() && seen == self.seen {
            return Ok(Changed::default());
        }
        self.seen = None;
        // If the file was removed meanwhile, the directory has changed again, and the next call of `Others::look` removes the machine.
        let Some(text) = dir.read_text(name)? else { return Ok(Changed::default()) };
        let changed = match self.change_levels_to(&text) {
            Some(changed) => changed,
            None => self.change_to(dir.parse(name, &text)?),
        };
        (self.seen, self.text) = (seen, text);
        Ok(changed)
    }

    /// Parses only the lines that have changed: a file is replaced several times a second while somebody talks. Returns `None`, and changes nothing, if
    /// more than levels has changed.
    fn change_levels_to(&mut self, text: &str) -> Option<Changed> {
        let (mut before, mut now) = (self.text.lines(), text.lines());
        if !self.is_known || before.next() != now.next() {
            return None;
        }
        let mut levels = Vec::new();
        for (place, person) in self.state.people.iter().enumerate() {
            let line = now.next()?;
            if before.next() != Some(line) {
                let changed: MachinePerson =
                    line.parse().ok().filter(|it: &MachinePerson| it.member == person.member)?;
                levels.push((place, changed.level));
            }
        }
        // If more lines follow, a person was added or removed, or an invalid line was ignored: the places of lines and people may differ.
        if before.next().is_some() || now.next().is_some() {
            return None;
        }
        let changed = Changed { people: false, levels: !levels.is_empty() };
        levels.into_iter().for_each(|(place, level)| self.state.people[place].level = level);
        Some(changed)
    }

    fn change_to(&mut self, state: MachineState) -> Changed {
        let head = |state: &MachineState| (state.is_cut_off, state.is_recorded);
        let members = |state: &MachineState| state.people.iter().map(|one| one.member.clone()).collect::<Vec<_>>();
        let levels = |state: &MachineState| state.people.iter().map(|one| one.level).collect::<Vec<_>>();
        let people = !self.is_known || head(&self.state) != head(&state) || members(&self.state) != members(&state);
        let levels = people || levels(&self.state) != levels(&state);
        (self.state, self.is_known) = (state, true);
        Changed { people, levels }
    }
}

fn warn(last: &mut LastWarning, error: &RoomError) {
    if let Some(error) = last.unless_repeated(error.to_string()) {
        log::warn!("{error}; pages still show the people of other machines as they were read before");
    }
}

/// Removes the machines that are not in `names`, and adds the others. Returns whether a machine was removed.
fn keep_only(machines: &mut BTreeMap<Name, Machine>, names: &[Name]) -> bool {
    let before = machines.len();
    machines.retain(|name, _| names.contains(name));
    let is_removed = machines.len() < before;
    for name in names.iter().take(MAX_MACHINES) {
        if machines.len() < MAX_MACHINES {
            machines.entry(name.clone()).or_default();
        }
    }
    is_removed
}

/// Returns the size of a person in a room record, in bytes. JSON has two bytes for a quotation mark or a backslash.
fn json_bytes(machine: &Name, MachinePerson { member, .. }: &MachinePerson) -> usize {
    let display = member.display.len() + member.display.matches(['"', '\\']).count();
    member.name.as_str().len() + 1 + machine.as_str().len() + display + PERSON_BYTES
}

fn level(level: MachineLevel) -> Value {
    match level {
        MachineLevel::Talking(dbfs) => level_value(dbfs),
        MachineLevel::Silent | MachineLevel::Quiet(_) => 0,
        MachineLevel::Muted => Marks::MUTED,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use palabre_room::{Format, RoomDir};

    const PARIS: &str = "connected\nalice\there\ttalking -21.3\tAlice\nbob\there\tmuted\tBob\n";

    fn room() -> (tempfile::TempDir, OtherMachines, Others) {
        let dir = tempfile::tempdir().unwrap();
        let room = RoomDir::new(dir.path().join("main"));
        room.create(Format::default()).unwrap();
        let others = Others::new(Some(room.other_machines()));
        (dir, room.other_machines(), others)
    }

    fn write(dir: &OtherMachines, machine: &str, text: &str) {
        dir.write(&machine.parse().unwrap(), &text.parse().unwrap()).unwrap();
    }

    fn changes(others: &mut Others) -> (bool, bool) {
        let changed = others.look(true);
        (changed.people, changed.levels)
    }

    fn names(others: &Others) -> Vec<String> {
        others.people().iter().map(|(machine, one)| format!("{}@{machine}", one.member.name)).collect()
    }

    #[test]
    fn people_and_levels_of_all_machines_are_read_once() {
        let (_dir, dir, mut others) = room();
        assert_eq!(changes(&mut others), (false, false));
        write(&dir, "paris", PARIS);
        write(&dir, "lyon", "connected\n");
        assert_eq!((changes(&mut others), changes(&mut others)), ((true, true), (false, false)));
        assert_eq!(
            (names(&others), others.levels()),
            (vec!["alice@paris".to_owned(), "bob@paris".into()], vec![21, 255])
        );
        assert_eq!(others.machines().len(), 2);
        write(&dir, "paris", &PARIS.replace("-21.3", "-30.0"));
        assert_eq!((changes(&mut others), others.levels()), ((false, true), vec![30, 255]));
    }

    #[test]
    fn people_of_a_machine_that_is_cut_off_stay_and_are_silent() {
        let (_dir, dir, mut others) = room();
        write(&dir, "paris", &PARIS.replace("connected", "connected recorded"));
        assert!(changes(&mut others).0 && others.is_recorded());
        write(&dir, "paris", &PARIS.replace("connected", "cut-off recorded"));
        assert_eq!((changes(&mut others), others.levels(), others.is_recorded()), ((true, true), vec![0, 0], true));
        assert_eq!((names(&others).len(), others.machines()), (2, vec![ShownMachine { name: "paris", cut_off: true }]));
        dir.remove(&"paris".parse().unwrap()).unwrap();
        assert!(changes(&mut others).0 && others.people().is_empty() && others.machines().is_empty());
    }

    #[test]
    fn invalid_file_changes_nothing_and_is_read_again() {
        let (_dir, dir, mut others) = room();
        write(&dir, "paris", PARIS);
        changes(&mut others);
        std::fs::write(dir.path().join("paris"), "alice\n").unwrap();
        assert_eq!((changes(&mut others), names(&others).len()), ((false, false), 2));
        std::fs::write(dir.path().join("paris"), "connected\n").unwrap();
        assert_eq!((changes(&mut others), names(&others).len()), ((true, true), 0));
    }

    #[test]
    fn a_file_that_is_replaced_has_the_same_effect_as_one_that_is_read_first() {
        let lines = [
            "a\there\t-\tA\n",
            "b\there\tquiet -9.0\tB\n",
            "invalid\n",
            "a\there\ttalking -9.0\tA\n",
            "b\there\t-\tC\n",
            "",
        ];
        let (_dir, dir, mut others) = room();
        // In this test, each possible pair of these lines is in turn the content of the machine's file.
        for (first, second) in lines.iter().flat_map(|first| lines.iter().map(move |second| (first, second))) {
            std::fs::write(dir.path().join("paris"), format!("connected\n{first}{second}")).unwrap();
            others.look(true);
            let mut new = Others::new(Some(dir.clone()));
            new.look(true);
            assert_eq!((others.people(), others.levels()), (new.people(), new.levels()), "{first}{second}");
        }
    }

    #[test]
    fn number_and_size_of_the_shown_people_are_limited() {
        let (_dir, dir, mut others) = room();
        let person = |n: usize| format!("p{n}\there\t-\t{}\n", "\"".repeat(64));
        let people: String = (100..400).map(person).collect();
        for machine in 0..40 {
            write(&dir, &format!("m{machine}"), &format!("connected\n{people}"));
        }
        changes(&mut others);
        assert_eq!(others.machines().len(), MAX_MACHINES);
        let shown = others.people().len();
        assert!(
            (MAX_JSON_BYTES / 180..300 * MAX_MACHINES).contains(&shown) && others.levels().len() == shown,
            "{shown}"
        );
    }
}
