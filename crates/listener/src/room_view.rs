//! What pages are told about the room besides its sound: who is here, who is talking and whether it is recorded, from the
//! files `names` and `levels` and the pipe `recording`, which is only looked at. A file is read again when it was replaced, which its inode and time tell.

use crate::marks::{Marks, Value, level_value};
use crate::record;
use palabre_host::stamp::FileStamp;
use palabre_room::{LevelLine, Member, Name, RoomDir, Talk, Voice};
use serde::Serialize;
use std::collections::BTreeMap;
use std::sync::Arc;

/// States of a person, as bits.
const HERE: Value = 1;
const HAND: Value = 2;
const MUTED: Value = 4;
const LISTENING: Value = 8;

/// The two files, as they were last seen. The texts are base64, as they stand in records.
#[derive(Debug)]
pub struct RoomView {
    room: Option<RoomDir>,
    names_seen: Option<FileStamp>,
    recording_seen: Option<FileStamp>,
    levels_seen: Option<FileStamp>,
    people: Arc<str>,
    places: BTreeMap<Name, u16>,
    /// What was told of each person's state, and of their level.
    pub states: Marks,
    /// The same of their level.
    pub levels: Marks,
}

/// What a look at the files has shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum News {
    /// Nothing.
    None,
    /// A level, which may wait for the next record.
    Slight,
    /// Something that people watch for: who is here, who talks, who is muted.
    Urgent,
    /// Another list of people: all is to be said anew.
    All,
}

impl RoomView {
    /// The view of a room; of nobody where there is no room.
    pub fn new(room: Option<RoomDir>) -> Self {
        let mut view = Self {
            room,
            names_seen: None,
            recording_seen: None,
            levels_seen: None,
            people: record::encode(&people_json(&[], false)).into(),
            places: BTreeMap::new(),
            states: Marks::default(),
            levels: Marks::default(),
        };
        view.look_at_names();
        view.look_at_levels();
        view
    }

    /// Who belongs to the room, and whether it is recorded.
    pub fn people(&self) -> Arc<str> {
        Arc::clone(&self.people)
    }

    /// Reads `names` if it was replaced, or if a recording began or ended.
    pub fn look_at_names(&mut self) -> News {
        let recorded = changed(self.room.as_ref(), "recording", &mut self.recording_seen).is_some();
        let Some(room) =
            changed(self.room.as_ref(), "names", &mut self.names_seen).or(self.room.as_ref().filter(|_| recorded))
        else {
            return News::None;
        };
        let mut members = room.names().unwrap_or_default();
        members.truncate(Marks::MOST);
        let states: Vec<Value> = members.iter().map(state).collect();
        let people: Vec<_> = members.iter().map(|m| Person { name: m.name.as_str(), display: &m.display }).collect();
        if replace(&mut self.people, &people_json(&people, self.recording_seen.is_some())) {
            self.places = members.into_iter().map(|member| member.name).zip(0..).collect();
            self.states.begin(&states);
            self.levels.begin(&vec![0; states.len()]);
            // The levels belong to other places now.
            self.levels_seen = None;
            return News::All;
        }
        if self.states.change_to(&states) { News::Urgent } else { News::None }
    }

    /// Reads `levels` if it was replaced.
    pub fn look_at_levels(&mut self) -> News {
        let Some(room) = changed(self.room.as_ref(), "levels", &mut self.levels_seen) else {
            return News::None;
        };
        let mut values = vec![0; self.places.len()];
        for line in room.levels().unwrap_or_default() {
            if let Some(&place) = self.places.get(&line.name) {
                values[usize::from(place)] = level(&line);
            }
        }
        self.levels.change_levels_to(&values)
    }
}

fn state(member: &Member) -> Value {
    let here = if member.here { HERE } else { 0 };
    let hand = if member.hand { HAND } else { 0 };
    let voice = match member.voice {
        Voice::Open => 0,
        Voice::Muted => MUTED,
        Voice::None => LISTENING,
    };
    here | hand | voice
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

#[derive(Serialize)]
struct People<'a> {
    people: &'a [Person<'a>],
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    recording: bool,
}

#[derive(Serialize)]
struct Person<'a> {
    name: &'a str,
    display: &'a str,
}

fn people_json(people: &[Person<'_>], recording: bool) -> String {
    serde_json::to_string(&People { people, recording }).unwrap_or_default()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::protocol_doc::example;
    use palabre_room::Format;

    fn name(text: &str) -> Name {
        text.parse().unwrap()
    }

    fn room() -> (tempfile::TempDir, RoomDir) {
        let dir = tempfile::tempdir().unwrap();
        let room = RoomDir::new(dir.path().join("main"));
        room.create(Format::default()).unwrap();
        (dir, room)
    }

    fn talking(who: &str, dbfs: f32) -> LevelLine {
        LevelLine { name: name(who), state: Talk::Talking, dbfs }
    }

    #[test]
    fn the_people_are_the_documented_json() {
        let people = [Person { name: "alice", display: "Alice" }, Person { name: "bob", display: "Bob le Bricoleur" }];
        assert_eq!(people_json(&people, false), example("json room"));
        assert_eq!(people_json(&people[..1], true), example("json recorded room"));
    }

    #[test]
    fn states_and_levels_are_the_documented_marks() {
        let (_dir, room) = room();
        let bob = Member { hand: true, voice: Voice::Muted, ..Member::new(name("bob"), "Bob", true) };
        room.write_names(&[Member::new(name("alice"), "Alice", true), bob]).unwrap();
        let muted = LevelLine { name: name("bob"), state: Talk::Muted, dbfs: f32::NEG_INFINITY };
        room.write_levels(&[talking("alice", -21.3), muted]).unwrap();
        let view = RoomView::new(Some(room));
        assert_eq!(record::encode_bytes(&crate::protocol_doc::hex("hex states")), *view.states.all());
        assert_eq!(record::encode_bytes(&crate::protocol_doc::hex("hex levels")), *view.levels.all());
    }

    #[test]
    fn a_recording_that_begins_or_ends_is_noticed_once() {
        let (_dir, room) = room();
        let mut view = RoomView::new(Some(room.clone()));
        let without = view.people();
        let recorder = palabre_room::RecordingReader::create(&room.recording(), Format::default()).unwrap();
        assert_eq!((view.look_at_names(), view.look_at_names()), (News::All, News::None));
        assert_eq!(*view.people(), *record::encode("{\"people\":[],\"recording\":true}"));
        drop(recorder);
        assert_eq!((view.look_at_names(), view.look_at_names()), (News::All, News::None));
        assert_eq!(view.people(), without);
    }

    #[test]
    fn a_replaced_file_is_noticed_once_and_what_is_not_urgent_can_wait() {
        let (_dir, room) = room();
        let mut view = RoomView::new(Some(room.clone()));
        assert_eq!((view.look_at_names(), view.look_at_levels()), (News::None, News::None));
        room.write_names(&[Member::new(name("alice"), "Alice", true)]).unwrap();
        room.write_levels(&[talking("alice", -20.0), talking("stranger", -20.0)]).unwrap();
        assert_eq!((view.look_at_names(), view.look_at_levels()), (News::All, News::Urgent));
        assert_eq!((view.look_at_names(), view.look_at_levels()), (News::None, News::None));
        room.write_levels(&[talking("alice", -30.0)]).unwrap();
        assert_eq!(view.look_at_levels(), News::Slight);
        room.write_names(&[Member { hand: true, ..Member::new(name("alice"), "Alice", true) }]).unwrap();
        assert_eq!(view.look_at_names(), News::Urgent);
        room.write_levels(&[]).unwrap();
        assert_eq!(view.look_at_levels(), News::Urgent);
    }

    #[test]
    fn levels_find_their_places_when_the_people_change() {
        let (_dir, room) = room();
        room.write_names(&[Member::new(name("bob"), "Bob", true)]).unwrap();
        room.write_levels(&[talking("bob", -20.0)]).unwrap();
        let mut view = RoomView::new(Some(room.clone()));
        let before = view.levels.all();
        room.write_names(&["alice", "bob"].map(|it| Member::new(name(it), it, true))).unwrap();
        assert_eq!((view.look_at_names(), view.look_at_levels()), (News::All, News::Urgent));
        assert_ne!(view.levels.all(), before);
    }
}
