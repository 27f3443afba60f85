//! All the rooms: which directories there are, and what happens in them.

use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use palabre_room::{Format, Name, RoomDir, pipe_id};

use crate::context::{Complaint, Context};
use crate::participant::Participant;
use crate::poller::Key;
use crate::room::Room;
use crate::watcher::{Change, Place, What};

/// Every room in one directory.
#[derive(Debug)]
pub struct Rooms {
    path: PathBuf,
    rooms: BTreeMap<u32, Room>,
    next_room: u32,
    next_participant: u32,
    /// Whose microphone has half a sample or a file that is not read to its end or is read by another process, or whose
    /// ear is a file.
    waiting: HashSet<Key>,
    format_complaint: Complaint,
}

/// The directory of the rooms was removed or moved away.
#[derive(Debug)]
pub struct Vanished;

impl Rooms {
    /// Watches the directory `path` and takes in every room in it.
    ///
    /// # Errors
    /// The directory can't be watched or read.
    pub fn open(path: PathBuf, cx: &mut Context) -> io::Result<Self> {
        cx.watcher.add(&path, Place::Rooms)?;
        let mut rooms = Self {
            path,
            rooms: BTreeMap::new(),
            next_room: 1,
            next_participant: 1,
            waiting: HashSet::new(),
            format_complaint: Complaint::default(),
        };
        rooms.rescan(cx)?;
        Ok(rooms)
    }

    pub fn iter(&self) -> impl Iterator<Item = &Room> {
        self.rooms.values()
    }

    /// Takes what is in a microphone.
    pub fn hear(&mut self, cx: &mut Context, key: Key) {
        if let Some(room) = self.rooms.get_mut(&key.room) {
            room.hear(cx, key.participant);
            self.note_waiting(key);
        }
    }

    /// Nobody reads this ear any more.
    pub fn ear_left(&mut self, key: Key) {
        let room = self.rooms.get_mut(&key.room);
        if let Some(participant) = room.and_then(|room| room.participant_mut(key.participant)) {
            participant.ear_mut().left();
        }
    }

    /// Something happened in the directories.
    ///
    /// # Errors
    /// The directory of the rooms is gone.
    pub fn changed(&mut self, cx: &mut Context, change: Change) -> Result<(), Vanished> {
        match change {
            Change::Overflow => {
                log::info!("changes of directories were lost; looking at all of them again");
                self.rescan(cx).map_err(|_| Vanished)?;
            }
            Change::Gone(Place::Rooms) => return Err(Vanished),
            Change::Gone(_) => {}
            Change::Grown(key) => self.hear(cx, key),
            Change::Entry { place: Place::Rooms, what, name, is_dir: true } => self.room_changed(cx, what, &name),
            Change::Entry { place: Place::Room(number), what, name, is_dir } => {
                self.entry_changed(cx, number, what, &name, is_dir);
            }
            Change::Entry { place: Place::Participant(key), what, name, is_dir: false } => {
                if let Some(room) = self.rooms.get_mut(&key.room) {
                    room.changed(cx, key.participant, what, &name);
                    self.note_waiting(key);
                }
            }
            Change::Entry { .. } => {}
        }
        Ok(())
    }

    /// One tick of every room.
    pub fn tick(&mut self, cx: &mut Context, now: Duration) {
        for key in self.waiting.iter().copied().collect::<Vec<_>>() {
            if self.participant(key).is_some_and(|participant| participant.mic().is_behind()) {
                self.hear(cx, key);
            }
        }
        self.rooms.values_mut().for_each(|room| room.tick(cx, now));
    }

    /// Whether ticks are needed.
    pub fn is_active(&self) -> bool {
        self.rooms.values().any(Room::is_active)
    }

    /// How long nothing at all need be done, apart from ticks and what comes from outside; `None` is for ever.
    pub fn timeout(&mut self, cx: &Context) -> Option<Duration> {
        let (rooms, now) = (&mut self.rooms, cx.now);
        let levels = rooms.values().filter_map(Room::deadline).map(|at| at.saturating_sub(now.since_boot)).min();
        let waiting = self.waiting.iter().filter_map(|key| {
            let participant = rooms.get_mut(&key.room)?.participant_mut(key.participant)?;
            let (mic, ear) = (participant.mic(), participant.ear());
            let file = ear.deadline().map(|at| at.saturating_sub(now.since_boot));
            let stray = mic.stray_deadline().map(|at| at.saturating_duration_since(now.instant));
            let retry = mic.retry_at().map(|at| at.saturating_sub(now.since_boot));
            stray.into_iter().chain(retry).chain(file).min()
        });
        levels.into_iter().chain(waiting.min()).min()
    }

    /// Does what [`Self::timeout`] has waited for.
    pub fn catch_up(&mut self, cx: &mut Context) {
        for room in self.rooms.values_mut().filter(|room| room.deadline().is_some()) {
            room.write_levels(cx);
        }
        for key in self.waiting.iter().copied().collect::<Vec<_>>() {
            self.try_again(cx, key);
            self.note_waiting(key);
        }
    }

    fn try_again(&mut self, cx: &mut Context, key: Key) {
        let Some(room) = self.rooms.get_mut(&key.room) else { return };
        let is_active = room.is_active();
        let Some(participant) = room.participant_mut(key.participant) else { return };
        participant.ear_mut().catch_up(cx);
        let mic = participant.mic_mut();
        if mic.retry_at().is_some_and(|at| at <= cx.now.since_boot) {
            mic.refresh(cx);
        }
        // A file that was just opened may hold something already.
        let unread = mic.is_behind() && !is_active;
        if unread || mic.stray_deadline().is_some_and(|at| at <= cx.now.instant) {
            room.hear(cx, key.participant);
        }
    }

    fn note_waiting(&mut self, key: Key) {
        let waits = self.participant(key).is_some_and(|participant| {
            let (mic, ear) = (participant.mic(), participant.ear());
            mic.retry_at().is_some() || mic.stray_deadline().is_some() || mic.is_behind() || ear.deadline().is_some()
        });
        if waits {
            self.waiting.insert(key);
        } else {
            self.waiting.remove(&key);
        }
    }

    fn participant(&mut self, key: Key) -> Option<&Participant> {
        self.rooms.get_mut(&key.room)?.participant_mut(key.participant).map(|participant| &*participant)
    }

    fn rescan(&mut self, cx: &mut Context) -> io::Result<()> {
        let present: Vec<Name> = fs::read_dir(&self.path)?
            .filter_map(Result::ok)
            .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
            .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
            .collect();
        let gone: Vec<Name> =
            self.rooms.values().map(|room| &room.name).filter(|name| !present.contains(name)).cloned().collect();
        gone.iter().for_each(|name| self.remove(cx, name));
        present.iter().for_each(|name| self.come(cx, name));
        Ok(())
    }

    fn room_changed(&mut self, cx: &mut Context, what: What, name: &str) {
        let Ok(name) = name.parse::<Name>() else { return };
        match what {
            What::Created | What::Complete => self.come(cx, &name),
            What::Left => self.remove(cx, &name),
            What::Opened => {}
        }
    }

    /// A room's directory is there: new, or the one we know, or another in its place.
    fn come(&mut self, cx: &mut Context, name: &Name) {
        let dir = RoomDir::new(self.path.join(name));
        if let Some(number) = self.number_of(name) {
            let same =
                self.rooms.get(&number).is_some_and(|room| room.id.is_some() && room.id == pipe_id(dir.path()).ok());
            if same {
                return self.rescan_room(cx, number);
            }
            self.remove(cx, name);
        }
        let number = self.next_room;
        let watch = match cx.watcher.add(dir.path(), Place::Room(number)) {
            Ok(watch) => watch,
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => return,
            Err(error) => return cx.warn(format_args!("unable to watch '{}': {error}", dir.path().display())),
        };
        self.next_room += 1;
        let format = self.format(cx, &dir);
        log::info!("room '{name}' is open, {format}");
        self.rooms.insert(number, Room::new(name.clone(), dir, format, number, watch));
        self.rescan_room(cx, number);
    }

    fn remove(&mut self, cx: &mut Context, name: &Name) {
        if let Some(room) = self.number_of(name).and_then(|number| self.rooms.remove(&number)) {
            room.close(cx);
            log::info!("room '{name}' is closed");
        }
    }

    fn rescan_room(&mut self, cx: &mut Context, number: u32) {
        let Some(room) = self.rooms.get_mut(&number) else { return };
        let first = self.next_participant;
        room.rescan(cx, &mut self.next_participant);
        (first..self.next_participant).for_each(|participant| self.note_waiting(Key { room: number, participant }));
    }

    fn entry_changed(&mut self, cx: &mut Context, number: u32, what: What, name: &str, is_dir: bool) {
        if !is_dir {
            if name == "format" && what == What::Complete {
                self.format_changed(cx, number);
            }
            match (self.rooms.get_mut(&number), name, what) {
                (Some(room), "recording", _) => room.refresh_recording(cx),
                (Some(room), "levelling", What::Complete | What::Left) => room.refresh_levelling(cx),
                _ => {}
            }
            return;
        }
        let (Some(room), Ok(name)) = (self.rooms.get_mut(&number), name.parse::<Name>()) else { return };
        match what {
            What::Created | What::Complete => {
                let participant = self.next_participant;
                room.come(cx, &name, &mut self.next_participant);
                self.note_waiting(Key { room: number, participant });
            }
            What::Left => room.remove(cx, &name),
            What::Opened => {}
        }
    }

    /// `mkdir` and the file `format` are two steps: who wrote the second later is heard too. The room begins anew.
    fn format_changed(&mut self, cx: &mut Context, number: u32) {
        let Some(room) = self.rooms.get(&number) else { return };
        let (name, dir, old) = (room.name.clone(), room.dir().clone(), room.format);
        if self.format(cx, &dir) != old {
            self.remove(cx, &name);
            self.come(cx, &name);
        }
    }

    fn format(&mut self, cx: &mut Context, dir: &RoomDir) -> Format {
        dir.format().unwrap_or_else(|error| {
            let format = Format::default();
            self.format_complaint.say(cx, format!("{error}; taking the default, {format}"));
            format
        })
    }

    fn number_of(&self, name: &Name) -> Option<u32> {
        self.rooms.iter().find(|(_, room)| room.name == *name).map(|(number, _)| *number)
    }
}
