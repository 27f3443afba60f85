//! Watches the room directories with inotify(7), and translates its events.

use std::collections::HashMap;
use std::ffi::OsString;
use std::io;
use std::path::Path;

use nix::errno::Errno;
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify, InotifyEvent, WatchDescriptor};

use crate::poller::ParticipantId;

/// The file or directory of an inotify watch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    /// The directory of the rooms.
    Rooms,
    /// A room's directory. The value is the room's number.
    Room(u32),
    /// A participant's directory.
    Participant(ParticipantId),
    /// The directory `.machines` of a room. The value is the room's number.
    Machines(u32),
    /// A `mic` that is a regular file.
    MicFile(ParticipantId),
}

/// What happened to an entry of a directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    /// The entry was created. A file may still be empty.
    Created,
    /// The entry was renamed into the directory, or was closed after writing.
    Complete,
    /// The entry was deleted, or was renamed out of the directory.
    Removed,
    /// The entry was opened by a process.
    Opened,
}

/// A translated inotify event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// An entry of a watched directory changed.
    Entry { dir: Target, change: Change, name: String, is_dir: bool },
    /// A `mic` that is a regular file was written or truncated.
    MicWritten(ParticipantId),
    /// The directory of the rooms was deleted or moved.
    RoomsRemoved,
    /// The kernel's inotify queue overflowed and events were lost.
    Overflow,
}

/// Identifies an inotify watch, to remove it.
pub(crate) type Watch = WatchDescriptor;

/// The inotify instance and its watches.
#[derive(Debug)]
pub(crate) struct Watcher {
    inotify: Inotify,
    targets: HashMap<WatchDescriptor, Target>,
}

impl Watcher {
    pub(crate) fn new() -> nix::Result<Self> {
        Ok(Self { inotify: Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK)?, targets: HashMap::new() })
    }

    /// Returns the inotify descriptor, to poll it.
    pub(crate) fn inotify(&self) -> &Inotify {
        &self.inotify
    }

    /// Watches `path`. Scan a directory after this call, since earlier changes are not reported.
    pub(crate) fn add(&mut self, path: &Path, target: Target) -> io::Result<Watch> {
        let mut flags = AddWatchFlags::IN_ONLYDIR
            | AddWatchFlags::IN_DONT_FOLLOW
            | AddWatchFlags::IN_CREATE
            | AddWatchFlags::IN_DELETE
            | AddWatchFlags::IN_MOVE;
        match target {
            Target::Rooms => {
                // The operator may give a symbolic link as --rooms, so follow it.
                flags.remove(AddWatchFlags::IN_DONT_FOLLOW);
                flags |= AddWatchFlags::IN_DELETE_SELF | AddWatchFlags::IN_MOVE_SELF;
            }
            Target::Room(_) => flags |= AddWatchFlags::IN_CLOSE_WRITE,
            Target::Participant(_) | Target::Machines(_) => {
                flags |= AddWatchFlags::IN_CLOSE_WRITE | AddWatchFlags::IN_OPEN;
            }
            // IN_MODIFY on the directory would also report every frame that the mixer writes into `ear`.
            Target::MicFile(_) => flags = AddWatchFlags::IN_DONT_FOLLOW | AddWatchFlags::IN_MODIFY,
        }
        let watch = self.inotify.add_watch(path, flags)?;
        self.targets.insert(watch, target);
        Ok(watch)
    }

    /// Removes a watch. Removing the watch of a participant's directory also removes the watch of its `mic`. The watched file or directory
    /// may be deleted already.
    pub(crate) fn remove(&mut self, watch: Watch) {
        let Some(target) = self.targets.remove(&watch) else { return };
        let _ = self.inotify.rm_watch(watch);
        if let Target::Participant(id) = target {
            let of_mic = |(watch, target): (&Watch, &Target)| (*target == Target::MicFile(id)).then_some(*watch);
            let mics: Vec<Watch> = self.targets.iter().filter_map(of_mic).collect();
            mics.into_iter().for_each(|mic| self.remove(mic));
        }
    }

    /// Calls read(2) once and appends its events to `events`. Further events may be pending.
    pub(crate) fn read(&mut self, events: &mut Vec<Event>) -> io::Result<()> {
        match self.inotify.read_events() {
            Ok(read) => events.extend(read.into_iter().filter_map(|event| self.translate(event))),
            Err(Errno::EAGAIN | Errno::EINTR) => {}
            Err(errno) => return Err(errno.into()),
        }
        Ok(())
    }

    fn translate(&self, event: InotifyEvent) -> Option<Event> {
        use AddWatchFlags as Flag;
        if event.mask.contains(Flag::IN_Q_OVERFLOW) {
            return Some(Event::Overflow);
        }
        let dir = *self.targets.get(&event.wd)?;
        if let Target::MicFile(id) = dir {
            return event.mask.contains(Flag::IN_MODIFY).then_some(Event::MicWritten(id));
        }
        if event.mask.intersects(Flag::IN_DELETE_SELF | Flag::IN_MOVE_SELF) {
            return Some(Event::RoomsRemoved);
        }
        let change = match event.mask {
            mask if mask.contains(Flag::IN_CREATE) => Change::Created,
            mask if mask.intersects(Flag::IN_MOVED_TO | Flag::IN_CLOSE_WRITE) => Change::Complete,
            mask if mask.intersects(Flag::IN_DELETE | Flag::IN_MOVED_FROM) => Change::Removed,
            mask if mask.contains(Flag::IN_OPEN) => Change::Opened,
            _ => return None,
        };
        let name = event.name.map(OsString::into_string)?.ok()?;
        Some(Event::Entry { dir, change, name, is_dir: event.mask.contains(Flag::IN_ISDIR) })
    }
}
