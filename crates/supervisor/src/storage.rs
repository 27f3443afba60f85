//! The disk of the recordings: a thread measures the recordings and the free space, and deletes old recordings. So a disk that doesn't
//! answer never keeps the main thread waiting.
//!
//! A recording is a directory whose name is `ROOM-20261122T142600Z`. Only its files `NAME.wav` and `NAME.002.wav` are deleted, and the
//! directory if no other file remains.

use std::collections::BTreeSet;
use std::fs::{self, DirEntry, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::time::{Duration, SystemTime};

use palabre_host::disk;
use palabre_room::Name;

use crate::event::{Event, named};
use crate::measured::Measured;

/// Time without a change after which a recording counts as finished. A running recorder changes its files every second.
const FINISHED_AFTER: Duration = Duration::from_secs(600);
const DAY: Duration = Duration::from_secs(24 * 60 * 60);
/// Name, without `.wav`, of the track that contains the mix of the room.
const ROOM_TRACK: &str = "_room";

/// A request to the thread.
#[derive(Debug)]
pub(crate) struct Job {
    /// The directory of all recordings.
    pub(crate) directory: PathBuf,
    /// The directories of the recordings that are in progress or have ended by themselves. They are not deleted.
    pub(crate) active: Vec<PathBuf>,
    /// Age in days at which a finished recording is deleted; 0 means never.
    pub(crate) keep_days: u32,
    /// Maximum size of all recordings; 0 means no maximum.
    pub(crate) max_bytes: u64,
}

/// Starts the thread. It handles one job at a time and sends the result to the main thread.
pub(crate) fn start(events: SyncSender<Event>) -> io::Result<SyncSender<Job>> {
    let (sender, jobs) = sync_channel::<Job>(1);
    named("storage", move || {
        // The recordings that could not be deleted, so that each is reported once.
        let mut failed = BTreeSet::new();
        for job in jobs {
            let measured = job.perform(SystemTime::now(), &mut failed);
            if events.send(Event::Measured(measured)).is_err() {
                return;
            }
        }
    })?;
    Ok(sender)
}

/// A recording in the directory of recordings.
#[derive(Debug)]
struct Found {
    path: PathBuf,
    bytes: u64,
    /// Time of the last change of a file.
    changed: SystemTime,
}

impl Job {
    /// Deletes old recordings, and then measures.
    fn perform(&self, now: SystemTime, failed: &mut BTreeSet<PathBuf>) -> Measured {
        let mut found = find(&self.directory);
        found.sort_by_key(|one| one.changed);
        let mut total: u64 = found.iter().map(|one| one.bytes).sum();
        found.retain_mut(|one| {
            let age = now.duration_since(one.changed).unwrap_or_default();
            if age < FINISHED_AFTER || self.active.contains(&one.path) {
                return true;
            }
            let why = match self {
                Self { keep_days: 1.., .. } if age > DAY * self.keep_days => {
                    "the recording is older than keep-days in palabre.toml"
                }
                Self { max_bytes: 1.., .. } if total > self.max_bytes => {
                    "all recordings together take more space than max-gib in palabre.toml"
                }
                _ => return true,
            };
            let deleted = one.delete(why);
            let rest = Found::of(one.path.clone()).map_or(0, |rest| rest.bytes);
            total = total.saturating_sub(one.bytes.saturating_sub(rest));
            one.bytes = rest;
            one.report(deleted, failed);
            failed.contains(&one.path)
        });
        let sizes = found.into_iter().map(|one| (one.path, one.bytes)).collect();
        // Before the first recording, the directory doesn't exist: measure the disk of the nearest parent directory that exists.
        let existing = self.directory.ancestors().find(|path| path.exists());
        Measured { space: existing.and_then(|path| disk::space(path).ok()), sizes }
    }
}

impl Found {
    /// Returns the recording in this directory, or `None` if it has no file of a recording.
    fn of(path: PathBuf) -> Option<Self> {
        let files: Vec<Metadata> = tracks(&path).into_iter().map(|(_, metadata)| metadata).collect();
        let bytes = files.iter().map(|file| file.blocks() * 512).sum();
        let changed = files.iter().filter_map(|file| file.modified().ok()).max()?;
        Some(Self { path, bytes, changed })
    }

    /// Logs a failed deletion once.
    fn report(&self, deleted: io::Result<()>, failed: &mut BTreeSet<PathBuf>) {
        let Err(error) = deleted else {
            failed.remove(&self.path);
            return;
        };
        if failed.insert(self.path.clone()) {
            let path = self.path.display();
            log::error!("unable to delete all files of the recording '{path}': {error}; delete the rest by hand");
        }
    }

    /// Deletes the files of the recording.
    fn delete(&self, why: &str) -> io::Result<()> {
        let path = self.path.display();
        let removed: Vec<_> = tracks(&self.path).iter().map(|(track, _)| fs::remove_file(track)).collect();
        removed.into_iter().collect::<io::Result<()>>()?;
        // The directory stays if it has other files.
        let rest = match fs::remove_dir(&self.path) {
            Ok(()) => String::new(),
            Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => {
                "; the directory of the recording stays, since it has other files".to_owned()
            }
            Err(error) => format!("; the directory of the recording stays: {error}"),
        };
        log::info!("deleted the recording '{path}': {why}{rest}");
        Ok(())
    }
}

fn find(directory: &Path) -> Vec<Found> {
    // A link isn't followed.
    let is_recording = |entry: &DirEntry| {
        entry.file_type().is_ok_and(|kind| kind.is_dir()) && entry.file_name().to_str().is_some_and(is_recording_name)
    };
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries.filter(is_recording).filter_map(|entry| Found::of(entry.path())).collect()
}

/// Returns the tracks in the directory of a recording: regular files with the names that palabre-recorder gives.
fn tracks(directory: &Path) -> Vec<(PathBuf, Metadata)> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let names = entries.filter(|entry| entry.file_name().to_str().is_some_and(is_track_name));
    let files = names.filter_map(|entry| Some((entry.path(), fs::symlink_metadata(entry.path()).ok()?)));
    files.filter(|(_, metadata)| metadata.is_file()).collect()
}

/// Whether a directory has the name of a recording: `ROOM-20261122T142600Z`.
fn is_recording_name(name: &str) -> bool {
    let Some((room, stamp)) = name.rsplit_once('-') else { return false };
    let shape = stamp.bytes().map(|byte| if byte.is_ascii_digit() { b'0' } else { byte });
    room.parse::<Name>().is_ok() && shape.eq(*b"00000000T000000Z")
}

/// Whether a file has the name of a track: `alice.wav`, `alice.002.wav`, `_room.wav`.
fn is_track_name(name: &str) -> bool {
    let Some(name) = name.strip_suffix(".wav") else { return false };
    let (name, part) = name.split_once('.').unwrap_or((name, "002"));
    let is_part = part.len() >= 3 && part.bytes().all(|byte| byte.is_ascii_digit());
    is_part && (name == ROOM_TRACK || name.parse::<Name>().is_ok())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::process::Command;

    struct Disk(tempfile::TempDir);

    impl Disk {
        /// Creates a file of 1 MiB that was last changed `days` days ago.
        fn file(&self, name: &str, days: u32) -> PathBuf {
            let path = self.0.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, vec![1; 1 << 20]).unwrap();
            let file = fs::File::options().write(true).open(&path).unwrap();
            file.set_modified(SystemTime::now() - DAY * days).unwrap();
            path
        }

        fn job(&self, keep_days: u32, max_mib: u64) -> Job {
            let max_bytes = max_mib << 20;
            Job { directory: self.0.path().to_owned(), active: Vec::new(), keep_days, max_bytes }
        }

        fn exists(&self, names: &[&str]) -> Vec<bool> {
            names.iter().map(|name| self.0.path().join(name).exists()).collect()
        }
    }

    fn disk() -> Disk {
        Disk(tempfile::tempdir().unwrap())
    }

    #[test]
    fn recordings_older_than_the_limit_are_deleted_except_those_in_progress() {
        let disk = disk();
        let old = ["main-20260101T000000Z", "a-b-20260101T000000Z", "busy-20260101T000000Z", "new-20260101T000000Z"];
        for name in old {
            disk.file(&format!("{name}/_room.wav"), if name.starts_with("new") { 6 } else { 8 });
            disk.file(&format!("{name}/alice.002.wav"), 9);
        }
        let mut job = disk.job(7, 0);
        job.active.push(disk.0.path().join(old[2]));
        let measured = job.perform(SystemTime::now(), &mut BTreeSet::new());
        assert_eq!(disk.exists(&old), [false, false, true, true]);
        assert_eq!(measured.sizes.len(), 2);
        assert!(measured.sizes.values().all(|bytes| *bytes >= 2 << 20) && measured.space.is_some());
        // The age of a recording counts from the last change of any of its files: a recording that goes on for weeks isn't old.
        disk.file("main-20260101T000000Z/_room.wav", 0);
        disk.file("main-20260101T000000Z/alice.wav", 8);
        job.perform(SystemTime::now(), &mut BTreeSet::new());
        assert_eq!(disk.exists(&["main-20260101T000000Z/alice.wav"]), [true]);
    }

    #[test]
    fn oldest_recordings_are_deleted_until_the_maximum_is_kept() {
        let disk = disk();
        let names = ["c-20260101T000000Z", "a-20260101T000000Z", "b-20260101T000000Z", "d-20260101T000000Z"];
        for (name, days) in names.iter().zip([8, 9, 7, 0]) {
            let path = disk.file(&format!("{name}/_room.wav"), days);
            // The size of a recording is the space that it takes on the disk: a hole in a file doesn't count.
            let file = fs::File::options().write(true).open(&path).unwrap();
            file.set_len(1 << 30).unwrap();
            file.set_modified(SystemTime::now() - DAY * days).unwrap();
        }
        disk.job(0, 5).perform(SystemTime::now(), &mut BTreeSet::new());
        assert_eq!(disk.exists(&names), [true; 4]);
        disk.job(0, 3).perform(SystemTime::now(), &mut BTreeSet::new());
        assert_eq!(disk.exists(&names), [true, false, true, true]);
        // The last recording stays above the maximum size, because it was changed a moment ago: it isn't finished.
        disk.job(0, 1).perform(SystemTime::now(), &mut BTreeSet::new());
        assert_eq!(disk.exists(&names), [false, false, false, true]);
    }

    #[test]
    fn only_the_rest_of_a_recording_counts_if_a_file_of_it_can_not_be_deleted() {
        let disk = disk();
        let names = ["a-20260101T000000Z/_room.wav", "a-20260101T000000Z/alice.wav", "b-20260101T000000Z/_room.wav"];
        let [stays, _, newer] = names.map(|name| disk.file(name, if name.starts_with('a') { 9 } else { 8 }));
        let change = |flag| Command::new("chattr").arg(flag).arg(&stays).status().is_ok_and(|status| status.success());
        if !change("+i") {
            return palabre_testing::not_shown("a file that can't be deleted", "'chattr +i' isn't permitted here");
        }
        let measured = disk.job(0, 2).perform(SystemTime::now(), &mut BTreeSet::new());
        assert!(change("-i"));
        assert_eq!(disk.exists(&names[..1]), [true]);
        assert!(newer.exists(), "the newer recording was deleted too, although there is enough space without it");
        let bytes: Vec<u64> = measured.sizes.into_values().collect();
        assert!(bytes.len() == 2 && bytes.iter().all(|bytes| *bytes < 2 << 20), "{bytes:?}");
    }

    #[test]
    fn only_tracks_of_recordings_are_deleted() {
        let disk = disk();
        let foreign = [
            "main-20260101T000000Z/notes.txt",
            "main-20260101T000000Z/Concert.wav",
            "main-20260101T000000Z/alice.1.wav",
            "main-20260101T000000Z/cut/alice.wav",
            "main/alice.wav",
            "main-20260101/alice.wav",
            "Main-20260101T000000Z/alice.wav",
            "alice.wav",
        ];
        let tracks = ["main-20260101T000000Z/alice.wav", "main-20260101T000000Z/_room.002.wav"];
        for name in foreign.iter().chain(&tracks) {
            disk.file(name, 900);
        }
        let (outside, inside) = (self::disk(), disk.0.path().join("main-20260101T000000Z/bob.wav"));
        std::os::unix::fs::symlink(outside.file("x-20260101T000000Z/_room.wav", 900), inside).unwrap();
        let link = disk.0.path().join("x-20260101T000000Z");
        std::os::unix::fs::symlink(outside.0.path().join("x-20260101T000000Z"), link).unwrap();
        disk.job(1, 0).perform(SystemTime::now(), &mut BTreeSet::new());
        assert_eq!(disk.exists(&foreign), [true; 8]);
        assert_eq!(disk.exists(&tracks), [false; 2]);
        assert_eq!(outside.exists(&["x-20260101T000000Z/_room.wav"]), [true]);
    }

    #[test]
    fn nothing_is_deleted_without_limits_and_a_missing_directory_has_space() {
        let disk = disk();
        disk.file("main-20260101T000000Z/alice.wav", 9_000);
        disk.job(0, 0).perform(SystemTime::now(), &mut BTreeSet::new());
        assert_eq!(disk.exists(&["main-20260101T000000Z/alice.wav"]), [true]);
        let mut job = disk.job(0, 0);
        job.directory.push("none/recordings");
        let measured = job.perform(SystemTime::now(), &mut BTreeSet::new());
        assert!(measured.sizes.is_empty() && measured.space.is_some_and(|space| space.total_bytes > space.free_bytes));
    }
}
