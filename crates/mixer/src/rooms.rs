//! All rooms in the directory that is given with `--rooms`.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use palabre_room::{MACHINES, Name, RoomDir};

use crate::context::Context;
use crate::file_writer::Failure;
use crate::poller::ParticipantId;
use crate::room::Room;
use crate::watcher::{Change, Event, Target};

/// All rooms, by room number.
#[derive(Debug)]
pub(crate) struct Rooms {
    path: PathBuf,
    rooms: BTreeMap<u32, Room>,
    next_room: u32,
    next_participant: u32,
}

/// The directory of the rooms was removed or moved.
#[derive(Debug)]
pub(crate) struct RoomsRemoved;

impl Rooms {
    /// Watches the directory `path` and opens every room in it.
    pub(crate) fn open(path: PathBuf, cx: &mut Context) -> io::Result<Self> {
        cx.watcher.add(&path, Target::Rooms)?;
        let mut rooms = Self { path, rooms: BTreeMap::new(), next_room: 1, next_participant: 1 };
        rooms.rescan(cx)?;
        Ok(rooms)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Room> {
        self.rooms.values()
    }

    /// Reads a participant's `mic`.
    pub(crate) fn read_mic(&mut self, cx: &mut Context, id: ParticipantId) {
        if let Some(room) = self.rooms.get_mut(&id.room) {
            room.read_mic(cx, id.participant);
        }
    }

    /// Handles that the last reader of an `ear` pipe, or of a pipe `out`, has closed it.
    pub(crate) fn ear_lost_reader(&mut self, id: ParticipantId) {
        let Some(room) = self.rooms.get_mut(&id.room) else { return };
        match room.participant_mut(id.participant) {
            Some(participant) => participant.ear_mut().lose_reader(),
            None => room.machines.lose_reader(id.participant),
        }
    }

    /// Handles that the file writer could not write an `ear` that is a file.
    pub(crate) fn ear_failed(&mut self, cx: &mut Context, failure: &Failure) {
        let id = failure.participant;
        if let Some(participant) = self.rooms.get_mut(&id.room).and_then(|room| room.participant_mut(id.participant)) {
            participant.ear_mut().fail(cx, failure);
        }
    }

    /// Handles an inotify event.
    pub(crate) fn handle(&mut self, cx: &mut Context, event: Event) -> Result<(), RoomsRemoved> {
        match event {
            Event::Overflow => {
                log::info!("inotify queue overflowed; rescanning all rooms");
                self.rescan(cx).map_err(|_| RoomsRemoved)?;
            }
            Event::RoomsRemoved => return Err(RoomsRemoved),
            Event::MicWritten(id) => self.read_mic(cx, id),
            Event::Entry { dir: Target::Rooms, change, name, is_dir: true } => self.room_changed(cx, change, &name),
            Event::Entry { dir: Target::Room(number), change, name, is_dir } => {
                self.room_entry_changed(cx, number, change, &name, is_dir);
            }
            Event::Entry { dir: Target::Participant(id), change, name, is_dir: false } => {
                if let Some(room) = self.rooms.get_mut(&id.room) {
                    room.participant_changed(cx, id.participant, change, &name);
                }
            }
            Event::Entry { dir: Target::Machines(number), change, name, is_dir: false } => {
                if let Some(room) = self.rooms.get_mut(&number) {
                    room.machines.entry_changed(cx, change, &name, &mut self.next_participant);
                }
            }
            Event::Entry { .. } => {}
        }
        Ok(())
    }

    /// Returns whether any room needs ticks.
    pub(crate) fn is_active(&self) -> bool {
        self.rooms.values().any(Room::is_active)
    }

    /// Returns the time at which to call [`Self::catch_up`] while no tick is scheduled.
    pub(crate) fn deadline(&self, cx: &Context) -> Option<Duration> {
        self.rooms.values().filter_map(|room| room.deadline(cx)).min()
    }

    /// Does what is due in every room: retries to open and write files, and reads the `mic`s. Call it at [`Self::deadline`].
    pub(crate) fn catch_up(&mut self, cx: &mut Context) {
        self.rooms.values_mut().for_each(|room| room.catch_up(cx));
    }

    /// Runs one tick of every room.
    pub(crate) fn tick(&mut self, cx: &mut Context, now: Duration) {
        self.catch_up(cx);
        self.rooms.values_mut().for_each(|room| room.tick(cx, now));
    }

    /// Writes the frames that the participants' ears have gathered, even if they are fewer than the readers want in each write.
    pub(crate) fn flush_ears(&mut self, cx: &mut Context) {
        self.rooms.values_mut().for_each(|room| room.flush_ears(cx));
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
        present.iter().for_each(|name| self.add(cx, name));
        Ok(())
    }

    fn room_changed(&mut self, cx: &mut Context, change: Change, name: &str) {
        let Ok(name) = name.parse::<Name>() else { return };
        match change {
            Change::Created | Change::Complete => self.add(cx, &name),
            Change::Removed => self.remove(cx, &name),
            Change::Opened => {}
        }
    }

    fn room_entry_changed(&mut self, cx: &mut Context, number: u32, change: Change, name: &str, is_dir: bool) {
        let Some(room) = self.rooms.get_mut(&number) else { return };
        if is_dir {
            if name == MACHINES {
                room.machines.rescan(cx, &mut self.next_participant);
            } else if let Ok(name) = name.parse() {
                room.directory_changed(cx, change, &name, &mut self.next_participant);
            }
        } else if room.file_changed(cx, change, name) {
            let name = room.name.clone();
            self.remove(cx, &name);
            self.add(cx, &name);
        }
    }

    /// Opens the room `name`, or rescans it if the same directory is open already. If another directory has replaced it, the old room is
    /// closed first.
    fn add(&mut self, cx: &mut Context, name: &Name) {
        if let Some(room) = self.rooms.values_mut().find(|room| room.name == *name) {
            if room.is_at_path() {
                return room.rescan(cx, &mut self.next_participant);
            }
            self.remove(cx, name);
        }
        let dir = RoomDir::new(self.path.join(name));
        if let Some(mut room) = Room::open(cx, name.clone(), dir, self.next_room) {
            room.rescan(cx, &mut self.next_participant);
            self.rooms.insert(self.next_room, room);
            self.next_room += 1;
        }
    }

    fn remove(&mut self, cx: &mut Context, name: &Name) {
        let number = self.rooms.iter().find(|(_, room)| room.name == *name).map(|(number, _)| *number);
        if let Some(room) = number.and_then(|number| self.rooms.remove(&number)) {
            room.close(cx);
        }
    }
}
