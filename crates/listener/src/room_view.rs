//! What pages are told about the room besides its sound: who is here, who is talking and whether it is recorded, from the
//! files `names` and `levels` and the pipe `recording`, which is only looked at. A file is read again when it was replaced, which its inode and time tell.

use crate::record;
use palabre_room::{LevelLine, RoomDir, Talk};
use serde::Serialize;
use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::Arc;

/// Digital silence in the JSON of levels, in dBFS: JSON has no infinity.
const FLOOR_DBFS: f32 = -120.0;

/// The two files, as they were last seen. The texts are base64 of JSON, as they stand in records.
#[derive(Debug)]
pub struct RoomView {
    room: Option<RoomDir>,
    names_seen: Option<Stamp>,
    recording_seen: Option<Stamp>,
    levels_seen: Option<Stamp>,
    people: Arc<str>,
    levels: Arc<str>,
}

/// Device, inode, size and time of a file.
type Stamp = (u64, u64, u64, i64, i64);

impl RoomView {
    /// The view of a room; of nobody where there is no room.
    pub fn new(room: Option<RoomDir>) -> Self {
        let mut view = Self {
            room,
            names_seen: None,
            recording_seen: None,
            levels_seen: None,
            people: record::encode(&people_json(&[], false)).into(),
            levels: "".into(),
        };
        view.look_at_names();
        view.look_at_levels();
        view
    }

    /// Who is here.
    pub fn people(&self) -> Arc<str> {
        Arc::clone(&self.people)
    }

    /// Who is talking; empty as long as nobody ever was.
    pub fn levels(&self) -> Arc<str> {
        Arc::clone(&self.levels)
    }

    /// Reads `names` if it was replaced, or if a recording began or ended; whether that says something else now.
    pub fn look_at_names(&mut self) -> bool {
        let recorded = changed(self.room.as_ref(), "recording", &mut self.recording_seen).is_some();
        let Some(room) =
            changed(self.room.as_ref(), "names", &mut self.names_seen).or(self.room.as_ref().filter(|_| recorded))
        else {
            return false;
        };
        let names = room.names().unwrap_or_default();
        let people: Vec<_> =
            names.iter().map(|m| Person { name: m.name.as_str(), display: &m.display, here: m.here }).collect();
        replace(&mut self.people, &people_json(&people, self.recording_seen.is_some()))
    }

    /// Reads `levels` if it was replaced; whether something else stands in it now.
    pub fn look_at_levels(&mut self) -> bool {
        let Some(room) = changed(self.room.as_ref(), "levels", &mut self.levels_seen) else {
            return false;
        };
        let levels = room.levels().unwrap_or_default();
        if levels.is_empty() && self.levels.is_empty() {
            return false;
        }
        replace(&mut self.levels, &levels_json(&levels))
    }
}

fn changed<'a>(room: Option<&'a RoomDir>, file: &str, seen: &mut Option<Stamp>) -> Option<&'a RoomDir> {
    let room = room?;
    let now = stamp(&room.path().join(file));
    (now != *seen).then(|| *seen = now)?;
    Some(room)
}

fn stamp(path: &Path) -> Option<Stamp> {
    let meta = std::fs::metadata(path).ok()?;
    Some((meta.dev(), meta.ino(), meta.len(), meta.mtime(), meta.mtime_nsec()))
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
    here: bool,
}

fn people_json(people: &[Person<'_>], recording: bool) -> String {
    serde_json::to_string(&People { people, recording }).unwrap_or_default()
}

fn levels_json(levels: &[LevelLine]) -> String {
    let map: BTreeMap<&str, Option<(i32, u8)>> = levels
        .iter()
        .map(|line| {
            let level = (line.dbfs.max(FLOOR_DBFS).round() as i32, u8::from(line.state == Talk::Talking));
            (line.name.as_str(), (line.state != Talk::Muted).then_some(level))
        })
        .collect();
    serde_json::to_string(&map).unwrap_or_default()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::protocol_doc::example;
    use palabre_room::{Format, Member, Name};

    fn name(text: &str) -> Name {
        text.parse().unwrap()
    }

    #[test]
    fn the_levels_are_the_documented_json() {
        let line = |who: &str, state, dbfs| LevelLine { name: name(who), state, dbfs };
        let lines = [
            line("alice", Talk::Talking, -21.3),
            line("bob", Talk::Quiet, -62.0),
            line("carol", Talk::Muted, f32::NEG_INFINITY),
        ];
        assert_eq!(levels_json(&lines), example("json levels"));
        assert_eq!(levels_json(&[line("bob", Talk::Quiet, f32::NEG_INFINITY)]), "{\"bob\":[-120,0]}");
    }

    #[test]
    fn the_people_are_the_documented_json() {
        let people = [
            Person { name: "alice", display: "Alice", here: true },
            Person { name: "bob", display: "Bob le Bricoleur", here: false },
        ];
        assert_eq!(people_json(&people, false), example("json room"));
        assert_eq!(people_json(&people[..1], true), example("json recorded room"));
    }

    #[test]
    fn a_recording_that_begins_or_ends_is_noticed_once() {
        let dir = tempfile::tempdir().unwrap();
        let room = RoomDir::new(dir.path().join("main"));
        room.create(Format::default()).unwrap();
        let mut view = RoomView::new(Some(room.clone()));
        let without = view.people();
        let recorder = palabre_room::RecordingReader::create(&room.recording(), Format::default()).unwrap();
        assert!(view.look_at_names() && !view.look_at_names());
        assert_eq!(*view.people(), *record::encode("{\"people\":[],\"recording\":true}"));
        drop(recorder);
        assert!(view.look_at_names() && !view.look_at_names());
        assert_eq!(view.people(), without);
    }

    #[test]
    fn a_replaced_file_is_noticed_once() {
        let dir = tempfile::tempdir().unwrap();
        let room = RoomDir::new(dir.path().join("main"));
        room.create(Format::default()).unwrap();
        let mut view = RoomView::new(Some(room.clone()));
        assert!(!view.look_at_names() && !view.look_at_levels());
        room.write_names(&[Member { name: name("alice"), display: "Alice".into(), here: true }]).unwrap();
        room.write_levels(&[LevelLine { name: name("alice"), state: Talk::Talking, dbfs: -20.0 }]).unwrap();
        assert!(view.look_at_names() && view.look_at_levels());
        assert!(!view.look_at_names() && !view.look_at_levels());
        room.write_levels(&[]).unwrap();
        assert!(view.look_at_levels());
        assert_eq!(*view.levels(), *record::encode("{}"));
    }
}
