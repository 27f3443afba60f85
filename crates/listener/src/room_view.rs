//! The state of the room that pages show: who is connected, who talks, whether the room is recorded, and whether a mixer works. The sources
//! are the files `names` and `levels`, the files of other machines, and the existence of the pipe `recording` and of the file `.no-mixer`. A replaced file is read again. If reading a file
//! fails, the previous content stays valid and reading is tried again.

use crate::marks::{Marks, Urgency, Value, level_value};
use crate::other_machines::{Changed, Others};
use crate::people::{People, Places, RoomJson};
use crate::record;
use palabre_host::log_limit::LastWarning;
use palabre_host::stamp::FileStamp;
use palabre_room::{LevelLine, Lines, Member, MicState, NO_MIXER, RoomDir, RoomError, ShownFrom, Talk};
use std::sync::Arc;
use std::time::Duration;

/// Bits of a person's state: connected, hand raised, microphone muted, and no microphone. The bits for muted and for no microphone together mean an
/// open microphone and a weak connection. The upper four bits are the place in the queue of raised hands.
const HERE: Value = 1;
const HAND: Value = 2;
const MUTED: Value = 4;
const LISTENING: Value = 8;
const PLACE_SHIFT: u32 = 4;
/// The minimum interval between two reads of the list of people is this time multiplied by the number of people in the list.
const INTERVAL_PER_PERSON: Duration = Duration::from_millis(1);
/// Upper limit of the minimum interval between two reads of the list of people, so that pages show within 2 s that another machine is cut off.
const MAX_INTERVAL: Duration = Duration::from_millis(500);
/// Maximum place in the queue of raised hands that pages show. It also stands for all later places.
const MAX_PLACE: Value = 15;

/// The state of the room when the files were read last. `people` is base64, as in a room record.
#[derive(Debug)]
pub(crate) struct RoomView {
    room: Option<RoomDir>,
    shown_from: ShownFrom,
    names_seen: Option<FileStamp>,
    recording_seen: Option<FileStamp>,
    no_mixer_seen: Option<FileStamp>,
    levels_seen: Option<FileStamp>,
    people: Arc<str>,
    /// Index of each member of this machine. People of other machines follow.
    places: Places,
    others: Others,
    /// What has changed on other machines, and is not yet in the other fields.
    others_changed: Changed,
    /// Each person's state, as the listener has sent it to the pages last.
    pub(crate) states: Marks,
    /// Each person's level, as the listener has sent it to the pages last.
    pub(crate) levels: Marks,
    last_warning: LastWarning,
}

impl RoomView {
    /// Reads the files. If `room` is `None`, the list of people is empty.
    pub(crate) fn new(room: Option<RoomDir>) -> Self {
        let others = Others::new(room.as_ref().map(RoomDir::other_machines));
        let mut view = Self {
            room,
            shown_from: ShownFrom::default(),
            names_seen: None,
            recording_seen: None,
            no_mixer_seen: None,
            levels_seen: None,
            people: "".into(),
            places: Places::default(),
            others,
            others_changed: Changed::default(),
            states: Marks::default(),
            levels: Marks::default(),
            last_warning: LastWarning::default(),
        };
        view.look_at_others(true);
        view.show(&Lines::from_iter([]));
        view.look_at_names();
        view.look_at_levels();
        view
    }

    /// Returns the list of people, and whether the room is recorded and has no mixer, as JSON in base64.
    pub(crate) fn people(&self) -> Arc<str> {
        Arc::clone(&self.people)
    }

    /// Returns the minimum interval between two reads of the list of people. In a large room, all listeners read a long list when somebody joins, so
    /// they read it less often.
    pub(crate) fn interval(&self) -> Duration {
        (INTERVAL_PER_PERSON * u32::try_from(self.states.len()).unwrap_or(u32::MAX)).min(MAX_INTERVAL)
    }

    /// Reads the files of other machines that were replaced. With `all`, examines each file, as [`Others::look`] does. Returns whether their people have
    /// changed: call [`Self::look_at_names`] then, and [`Self::look_at_levels`] in any case.
    pub(crate) fn look_at_others(&mut self, all: bool) -> bool {
        self.others_changed = self.others_changed.or(self.others.look(all));
        self.others_changed.people
    }

    /// Reads the file `names` if it was replaced, or if people of other machines have changed, or if a recording or the mixer has begun or ended.
    pub(crate) fn look_at_names(&mut self) -> Urgency {
        let room = self.room.as_ref();
        let others = [("recording", &mut self.recording_seen), (NO_MIXER, &mut self.no_mixer_seen)];
        let is_changed = others.into_iter().filter_map(|(file, seen)| changed(room, file, seen)).count() > 0;
        let is_changed = is_changed || self.others_changed.people;
        let Some(room) = changed(room, "names", &mut self.names_seen).or(room.filter(|_| is_changed)) else {
            return Urgency::None;
        };
        let names = room.name_lines(&mut self.shown_from);
        let Some(members) = self.unless_failed(names) else {
            // `None` differs from the stamp of any file, so the next call reads `names` again.
            self.names_seen = None;
            return Urgency::None;
        };
        self.others_changed.people = false;
        self.show(&members)
    }

    /// Updates the list of people and their states from these members of this machine, and from the people of other machines. Returns how urgently
    /// the pages need the change.
    fn show(&mut self, members: &Lines<Member>) -> Urgency {
        let mut states: Vec<Value> = members.iter().take(Marks::MAX_PEOPLE).map(|member| state(&member)).collect();
        let mut others = self.others.people();
        others.truncate(Marks::MAX_PEOPLE - states.len());
        states.extend(others.iter().map(|(_, person)| state_elsewhere(&person.member)));
        let json = RoomJson {
            people: People { members, others: &others },
            recording: self.recording_seen.is_some() || self.others.is_recorded(),
            no_mixer: self.no_mixer_seen.is_some(),
            machines: self.others.machines(),
        }
        .text();
        if replace(&mut self.people, &json) {
            self.places = Places::of(members.iter().map(|member| member.name));
            self.states.begin(&states);
            self.levels.begin(&vec![0; states.len()]);
            // Read `levels` again, because the indexes of the people have changed.
            self.levels_seen = None;
            return Urgency::Everything;
        }
        if self.states.change_to(&states) { Urgency::Urgent } else { Urgency::None }
    }

    /// Reads the file `levels` if the mixer has replaced it, or if levels of people of other machines have changed. Returns how urgently the changes must be sent to the pages.
    pub(crate) fn look_at_levels(&mut self) -> Urgency {
        let room = self.room.as_ref();
        let is_changed = self.others_changed.levels;
        let Some(room) = changed(room, "levels", &mut self.levels_seen).or(room.filter(|_| is_changed)) else {
            return Urgency::None;
        };
        let levels = room.level_lines(&mut self.shown_from);
        let Some(lines) = self.unless_failed(levels) else {
            self.levels_seen = None;
            return Urgency::None;
        };
        self.others_changed.levels = false;
        let mut values = vec![0; self.places.len()];
        for line in lines.iter() {
            if let Some(value) = self.places.index_of(&line.name).and_then(|index| values.get_mut(index)) {
                *value = level(&line);
            }
        }
        values.extend(self.others.levels());
        // After a failed read of `names`, the list of people is still the previous one, so `values` may be longer or shorter.
        values.resize(self.levels.len(), 0);
        self.levels.change_levels_to(&values)
    }

    fn unless_failed<T>(&mut self, read: Result<T, RoomError>) -> Option<T> {
        match read {
            Ok(content) => Some(content),
            Err(error) => {
                if let Some(error) = self.last_warning.unless_repeated(error.to_string()) {
                    log::warn!("{error}; pages still show the participants and levels that were read before");
                }
                None
            }
        }
    }
}

fn state(member: &Member) -> Value {
    let here = if member.here { HERE } else { 0 };
    let place = Value::try_from(member.hand).map_or(MAX_PLACE, |place| place.min(MAX_PLACE));
    let hand = if place > 0 { HAND | place << PLACE_SHIFT } else { 0 };
    let voice = match member.voice {
        MicState::Open if member.weak => MUTED | LISTENING,
        MicState::Open => 0,
        MicState::Muted => MUTED,
        MicState::None => LISTENING,
    };
    here | hand | voice
}

/// Returns the state of a person of another machine. A hand has no place there: each machine has a queue of its own.
fn state_elsewhere(member: &Member) -> Value {
    state(member) & ((1 << PLACE_SHIFT) - 1)
}

fn level(line: &LevelLine) -> Value {
    match line.state {
        Talk::Talking => level_value(line.dbfs),
        Talk::Quiet => 0,
        Talk::Muted => Marks::MUTED,
    }
}

fn changed<'a>(room: Option<&'a RoomDir>, file: &str, seen: &mut Option<FileStamp>) -> Option<&'a RoomDir> {
    let room = room?;
    let now = FileStamp::of(&room.path().join(file));
    (now != *seen).then(|| *seen = now)?;
    Some(room)
}

fn replace(text: &mut Arc<str>, json: &str) -> bool {
    let new = record::encode(json);
    let is_new = **text != *new;
    if is_new {
        *text = new.into();
    }
    is_new
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::protocol_doc::example;
    use palabre_room::{Format, Name};

    fn name(text: &str) -> Name {
        text.parse().unwrap()
    }

    fn room() -> (tempfile::TempDir, RoomDir) {
        let dir = tempfile::tempdir().unwrap();
        let room = RoomDir::new(dir.path().join("main"));
        room.create(Format::default()).unwrap();
        (dir, room)
    }

    fn json_of(members: &[Member], recording: bool, no_mixer: bool) -> String {
        let people = People { members: &members.iter().cloned().collect(), others: &[] };
        RoomJson { people, recording, no_mixer, machines: Vec::new() }.text()
    }

    fn talking(who: &str, dbfs: f32) -> LevelLine {
        LevelLine { name: name(who), state: Talk::Talking, dbfs }
    }

    #[test]
    fn people_are_the_documented_json() {
        let [alice, bob] = [("alice", "Alice"), ("bob", "Bob le Bricoleur")]
            .map(|(who, display)| Member::new(name(who), display, true));
        let (both, one) = ([alice.clone(), bob], [alice]);
        assert_eq!(json_of(&both, false, false), example("json room"));
        assert_eq!(json_of(&one, true, false), example("json recorded room"));
        assert_eq!(json_of(&one, false, true), example("json room without a mixer"));
    }

    #[test]
    fn people_of_other_machines_are_the_documented_json() {
        let (_dir, room) = room();
        room.write_names(&[Member::new(name("alice"), "Alice", true)]).unwrap();
        for (machine, text) in
            [("lyon", "cut-off\n"), ("paris", "connected\nalice\there hand 2\ttalking -20.0\tAlice B.\n")]
        {
            room.other_machines().write(&name(machine), &text.parse().unwrap()).unwrap();
        }
        room.write_levels(&[talking("alice", -30.0)]).unwrap();
        let view = RoomView::new(Some(room));
        assert_eq!(*view.people(), *record::encode(example("json room with other machines")));
        assert_eq!(record::decode(&view.states.all()), [255, 255, 1, 0, 1, 3], "the hand has no place");
        assert_eq!(record::decode(&view.levels.all()), [255, 255, 20, 0, 0, 30]);
    }

    #[test]
    fn changes_on_other_machines_are_noticed_once() {
        let (_dir, room) = room();
        let (machines, paris) = (room.other_machines(), name("paris"));
        room.write_names(&[Member::new(name("bob"), "Bob", true)]).unwrap();
        room.write_levels(&[talking("bob", -20.0)]).unwrap();
        let mut view = RoomView::new(Some(room.clone()));
        let write = |text: &str| machines.write(&paris, &text.parse().unwrap()).unwrap();
        let mut look = || {
            let names = if view.look_at_others(true) { view.look_at_names() } else { Urgency::None };
            (names, view.look_at_levels())
        };
        assert_eq!(look(), (Urgency::None, Urgency::None));
        write("connected\nalice\there\t-\tAlice\n");
        assert_eq!(look(), (Urgency::Everything, Urgency::Urgent));
        write("connected\nalice\there\ttalking -20.0\tAlice\n");
        assert_eq!(look(), (Urgency::None, Urgency::Urgent));
        write("connected\nalice\there\ttalking -30.0\tAlice\n");
        assert_eq!(look(), (Urgency::None, Urgency::CanWait));
        write("connected\nalice\there muted\t-\tAlice\n");
        assert_eq!(look(), (Urgency::Urgent, Urgency::Urgent));
        write("cut-off\nalice\there muted\t-\tAlice\n");
        assert_eq!(look(), (Urgency::Everything, Urgency::Urgent));
        // The file `levels` has only this machine's participants, so its entry for bob doesn't change the level of the other machine's alice.
        room.write_levels(&[talking("bob", -40.0)]).unwrap();
        assert_eq!((look(), look()), ((Urgency::None, Urgency::CanWait), (Urgency::None, Urgency::None)));
        machines.remove(&paris).unwrap();
        assert_eq!(look(), (Urgency::Everything, Urgency::Urgent));
    }

    #[test]
    fn states_and_levels_are_the_documented_marks() {
        let (_dir, room) = room();
        let bob = Member { hand: 1, voice: MicState::Muted, ..Member::new(name("bob"), "Bob", true) };
        room.write_names(&[Member::new(name("alice"), "Alice", true), bob]).unwrap();
        let muted = LevelLine { name: name("bob"), state: Talk::Muted, dbfs: f32::NEG_INFINITY };
        room.write_levels(&[talking("alice", -21.3), muted]).unwrap();
        let view = RoomView::new(Some(room));
        assert_eq!(record::encode_bytes(&crate::protocol_doc::hex("hex states")), *view.states.all());
        assert_eq!(record::encode_bytes(&crate::protocol_doc::hex("hex levels")), *view.levels.all());
        let late = Member { hand: 40, ..Member::new(name("carol"), "Carol", true) };
        assert_eq!(state(&late), HERE + HAND + 16 * 15, "places after the 15th are sent as the 15th");
        let weak = Member { weak: true, ..Member::new(name("dan"), "Dan", true) };
        assert_eq!(state(&weak), HERE + 4 + 8);
        assert_eq!(
            state(&Member { voice: MicState::Muted, ..weak }),
            HERE + MUTED,
            "muted people aren't shown as weak"
        );
    }

    #[test]
    fn list_of_many_people_is_read_less_often() {
        let (_dir, room) = room();
        let mut view = RoomView::new(Some(room));
        assert_eq!(view.interval(), Duration::ZERO);
        view.states.begin(&vec![HERE; 300]);
        assert_eq!(view.interval(), Duration::from_millis(300));
        view.states.begin(&vec![HERE; 900]);
        assert_eq!(view.interval(), MAX_INTERVAL);
    }

    #[test]
    fn beginning_and_end_of_a_recording_are_noticed_once() {
        let (_dir, room) = room();
        let mut view = RoomView::new(Some(room.clone()));
        let without = view.people();
        let recorder = palabre_room::RecordingReader::create(&room.recording(), Format::default()).unwrap();
        assert_eq!((view.look_at_names(), view.look_at_names()), (Urgency::Everything, Urgency::None));
        assert_eq!(*view.people(), *record::encode("{\"people\":[],\"recording\":true}"));
        drop(recorder);
        assert_eq!((view.look_at_names(), view.look_at_names()), (Urgency::Everything, Urgency::None));
        assert_eq!(view.people(), without);
    }

    #[test]
    fn end_and_start_of_the_mixer_are_noticed_once() {
        let (_dir, room) = room();
        let mut view = RoomView::new(Some(room.clone()));
        let with = view.people();
        for is_missing in [true, false] {
            room.set_no_mixer(is_missing).unwrap();
            assert_eq!((view.look_at_names(), view.look_at_names()), (Urgency::Everything, Urgency::None));
            assert_eq!(view.people() == with, !is_missing);
        }
    }

    #[test]
    fn replaced_file_is_noticed_once_and_a_level_is_not_urgent() {
        let (_dir, room) = room();
        let mut view = RoomView::new(Some(room.clone()));
        assert_eq!((view.look_at_names(), view.look_at_levels()), (Urgency::None, Urgency::None));
        room.write_names(&[Member::new(name("alice"), "Alice", true)]).unwrap();
        room.write_levels(&[talking("alice", -20.0), talking("unlisted", -20.0)]).unwrap();
        assert_eq!((view.look_at_names(), view.look_at_levels()), (Urgency::Everything, Urgency::Urgent));
        assert_eq!((view.look_at_names(), view.look_at_levels()), (Urgency::None, Urgency::None));
        room.write_levels(&[talking("alice", -30.0)]).unwrap();
        assert_eq!(view.look_at_levels(), Urgency::CanWait);
        room.write_names(&[Member { hand: 1, ..Member::new(name("alice"), "Alice", true) }]).unwrap();
        assert_eq!(view.look_at_names(), Urgency::Urgent);
        room.write_levels(&[]).unwrap();
        assert_eq!(view.look_at_levels(), Urgency::Urgent);
    }

    #[test]
    fn levels_move_with_their_people_when_the_list_changes() {
        let (_dir, room) = room();
        room.write_names(&[Member::new(name("bob"), "Bob", true)]).unwrap();
        room.write_levels(&[talking("bob", -20.0)]).unwrap();
        let mut view = RoomView::new(Some(room.clone()));
        let before = view.levels.all();
        room.write_names(&["alice", "bob"].map(|it| Member::new(name(it), it, true))).unwrap();
        assert_eq!((view.look_at_names(), view.look_at_levels()), (Urgency::Everything, Urgency::Urgent));
        assert_ne!(view.levels.all(), before);
    }
    #[test]
    fn names_that_cannot_be_read_change_nothing_and_are_read_again() {
        let (_dir, room) = room();
        let names = room.path().join("names");
        room.write_names(&[Member::new(name("alice"), "Alice", true)]).unwrap();
        let mut view = RoomView::new(Some(room.clone()));
        let (people, states) = (view.people(), view.states.all());
        // The valid file has the same stamp as the invalid file before it. It must be read nevertheless, as after an error of read(2).
        let time = std::time::UNIX_EPOCH;
        let write = |text: &[u8]| {
            std::fs::write(&names, text).unwrap();
            std::fs::File::options().write(true).open(&names).unwrap().set_modified(time).unwrap();
        };
        write(b"bob\there\tBo\xff\n");
        assert_eq!((view.look_at_names(), view.people(), view.states.all()), (Urgency::None, people, states));
        write(b"bob\there\tBob\n");
        assert_eq!(view.look_at_names(), Urgency::Everything);
    }

    #[test]
    fn levels_that_cannot_be_read_change_nothing() {
        let (_dir, room) = room();
        room.write_names(&[Member::new(name("alice"), "Alice", true)]).unwrap();
        room.write_levels(&[talking("alice", -20.0)]).unwrap();
        let mut view = RoomView::new(Some(room.clone()));
        let levels = view.levels.all();
        std::fs::write(room.path().join("levels"), b"\xff").unwrap();
        assert_eq!((view.look_at_levels(), view.levels.all()), (Urgency::None, levels));
    }
}
