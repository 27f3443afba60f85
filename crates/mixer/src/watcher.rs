//! inotify(7) on the rooms, and which directory each watch belongs to.

use std::collections::HashMap;
use std::ffi::OsString;
use std::io;
use std::path::Path;

use nix::errno::Errno;
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify, InotifyEvent, WatchDescriptor};

use crate::poller::Key;

/// A directory that is watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// The directory of the rooms.
    Rooms,
    /// A room, by its number.
    Room(u32),
    /// A participant.
    Participant(Key),
    /// A file that is a participant's microphone.
    Mic(Key),
}

/// What happened to an entry of a directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// It was made: there may be nothing in it yet.
    Created,
    /// It was moved here, or closed by somebody who wrote: it is complete.
    Complete,
    /// It is no longer here.
    Left,
    /// Somebody opened it.
    Opened,
}

/// One thing that happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// To an entry of a watched directory.
    Entry { place: Place, what: What, name: String, is_dir: bool },
    /// Somebody wrote into a microphone that is a file, or truncated it.
    Grown(Key),
    /// To the directory itself: it was removed, or moved away.
    Gone(Place),
    /// Some changes were lost: look at everything again.
    Overflow,
}

/// Handle of a watch.
pub type Watch = WatchDescriptor;

/// All the watches.
#[derive(Debug)]
pub struct Watcher {
    inotify: Inotify,
    places: HashMap<WatchDescriptor, Place>,
}

impl Watcher {
    /// # Errors
    /// Those of inotify_init1(2).
    pub fn new() -> nix::Result<Self> {
        Ok(Self { inotify: Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK)?, places: HashMap::new() })
    }

    /// To be polled.
    pub fn inotify(&self) -> &Inotify {
        &self.inotify
    }

    /// Watches the directory `path`, or the file that is a microphone. What was in it before is not told: look at it after this.
    ///
    /// # Errors
    /// Those of inotify_add_watch(2).
    pub fn add(&mut self, path: &Path, place: Place) -> io::Result<Watch> {
        let mut flags = AddWatchFlags::IN_ONLYDIR
            | AddWatchFlags::IN_DONT_FOLLOW
            | AddWatchFlags::IN_CREATE
            | AddWatchFlags::IN_DELETE
            | AddWatchFlags::IN_MOVE;
        match place {
            Place::Rooms => {
                // Where the rooms are may well be a link.
                flags.remove(AddWatchFlags::IN_DONT_FOLLOW);
                flags |= AddWatchFlags::IN_DELETE_SELF | AddWatchFlags::IN_MOVE_SELF;
            }
            Place::Room(_) => flags |= AddWatchFlags::IN_CLOSE_WRITE,
            Place::Participant(_) => flags |= AddWatchFlags::IN_CLOSE_WRITE | AddWatchFlags::IN_OPEN,
            // Not of a directory: every frame that we write ourselves would wake us.
            Place::Mic(_) => flags = AddWatchFlags::IN_DONT_FOLLOW | AddWatchFlags::IN_MODIFY,
        }
        let watch = self.inotify.add_watch(path, flags)?;
        self.places.insert(watch, place);
        Ok(watch)
    }

    /// Watches no more, neither a directory nor the microphone of the participant whose directory it is; fine if it is gone
    /// already.
    pub fn remove(&mut self, watch: Watch) {
        let Some(place) = self.places.remove(&watch) else { return };
        let _ = self.inotify.rm_watch(watch);
        if let Place::Participant(key) = place {
            let of_mic = |(watch, place): (&Watch, &Place)| (*place == Place::Mic(key)).then_some(*watch);
            let mics: Vec<Watch> = self.places.iter().filter_map(of_mic).collect();
            mics.into_iter().for_each(|mic| self.remove(mic));
        }
    }

    /// Appends what has happened and can be read at once; more may be left for the next time.
    ///
    /// # Errors
    /// Those of read(2) but EAGAIN and EINTR.
    pub fn read(&mut self, changes: &mut Vec<Change>) -> io::Result<()> {
        match self.inotify.read_events() {
            Ok(events) => changes.extend(events.into_iter().filter_map(|event| self.change(event))),
            Err(Errno::EAGAIN | Errno::EINTR) => {}
            Err(errno) => return Err(errno.into()),
        }
        Ok(())
    }

    fn change(&self, event: InotifyEvent) -> Option<Change> {
        use AddWatchFlags as Flag;
        if event.mask.contains(Flag::IN_Q_OVERFLOW) {
            return Some(Change::Overflow);
        }
        let place = *self.places.get(&event.wd)?;
        if let Place::Mic(key) = place {
            return event.mask.contains(Flag::IN_MODIFY).then_some(Change::Grown(key));
        }
        if event.mask.intersects(Flag::IN_DELETE_SELF | Flag::IN_MOVE_SELF) {
            return Some(Change::Gone(place));
        }
        let what = match event.mask {
            mask if mask.contains(Flag::IN_CREATE) => What::Created,
            mask if mask.intersects(Flag::IN_MOVED_TO | Flag::IN_CLOSE_WRITE) => What::Complete,
            mask if mask.intersects(Flag::IN_DELETE | Flag::IN_MOVED_FROM) => What::Left,
            mask if mask.contains(Flag::IN_OPEN) => What::Opened,
            _ => return None,
        };
        let name = event.name.map(OsString::into_string)?.ok()?;
        Some(Change::Entry { place, what, name, is_dir: event.mask.contains(Flag::IN_ISDIR) })
    }
}
