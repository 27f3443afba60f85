//! The recordings: one recorder process for each recorded room. The supervisor restarts a recorder that dies, and ends it on request.
//!
//! When a recorder dies, the next recorder gets the same directory and start time, and continues the same files. A recorder that ends by
//! itself, for example because the disk is full, is not restarted; the log and `palabre status` show the reason.
//!
//! A recording goes on until an operator ends it, also after the end or a crash of the supervisor: the module `stored` has the details.

mod answer;
mod recording;
mod stored;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::mpsc::{Sender, SyncSender};
use std::time::{Duration, Instant, SystemTime};

use palabre_config::control::{RecordAction, Recording as RecordingStatus, Response, Storage};
use palabre_host::notify::Message;
use palabre_host::process::OurChild;
use palabre_room::{Name, OpenError, RecordingWriter};

use crate::audit::{self, Author};
use crate::config::Config;
use crate::event::Client;
use crate::measured::Measured;
use crate::saved::SavedRecording;
use crate::storage::Job;
use answer::{refuse, stamp, tell};
use recording::Recording;
use stored::Stored;

/// Interval between measurements of the disk during a recording.
const MEASURE_INTERVAL: Duration = Duration::from_secs(10);
/// Delay of the first measurement of a new recording.
const FIRST_DELAY: Duration = Duration::from_secs(1);
/// Interval between measurements of the disk while no room is recorded.
const IDLE_INTERVAL: Duration = Duration::from_secs(60);

/// All recordings.
#[derive(Debug)]
pub(crate) struct Recordings {
    all: BTreeMap<Name, Recording>,
    stored: Stored,
    /// Whether the supervisor is ending. Then the stored recordings stay, so that the next supervisor continues them.
    is_ending: bool,
    /// The thread that measures the disk and deletes old recordings.
    jobs: Option<SyncSender<Job>>,
    /// Time of the next measurement.
    measure_at: Instant,
    measured: Measured,
    /// Whether the log has the warning that the disk is nearly full.
    is_disk_reported: bool,
}

impl Recordings {
    /// Continues the recordings of an earlier supervisor that has ended or crashed. Removes the pipes `recording` that killed recorders left,
    /// since pages show a room with such a pipe as recorded.
    pub(crate) fn new(config: &Config) -> Self {
        let stored = Stored::new(&config.run);
        let all = of_saved(config, stored.load());
        for room in config.rooms() {
            if remove_stale_pipe(&config.room(&room).recording()) && !all.contains_key(&room) {
                log::warn!("the recorder of room '{room}' was killed; start a new recording");
            }
        }
        for (room, recording) in all.iter().filter(|(_, recording)| recording.failed.is_none()) {
            log::info!("continuing the recording of room '{room}' in '{}'", recording.directory.display());
        }
        Self::of(all, stored)
    }

    fn of(all: BTreeMap<Name, Recording>, stored: Stored) -> Self {
        let (measure_at, measured) = (Instant::now(), Measured::default());
        Self { all, stored, is_ending: false, jobs: None, measure_at, measured, is_disk_reported: false }
    }

    /// Sets the channel to the thread that measures the disk and deletes old recordings.
    pub(crate) fn set_jobs(&mut self, jobs: SyncSender<Job>) {
        self.jobs = Some(jobs);
    }

    /// Restores the recordings of the supervisor's previous program after an upgrade. A recorder that has ended meanwhile is restarted.
    pub(crate) fn restore(config: &Config, saved: Vec<SavedRecording>) -> Self {
        Self::of(of_saved(config, saved), Stored::new(&config.run))
    }

    /// Returns the state of all recordings for the supervisor's next program. Call it only while [`Self::is_idle`] is true.
    pub(crate) fn save(&self) -> Vec<SavedRecording> {
        self.all.values().map(Recording::save).collect()
    }

    /// Whether no client waits for an answer and no recorder is ending.
    pub(crate) fn is_idle(&self) -> bool {
        self.all.values().all(|recording| recording.answers.is_empty() && !recording.is_ending)
    }

    /// Performs a client's request. The client may be answered later, when the recorder is ready or has ended.
    pub(crate) fn request(&mut self, config: &Config, room: &Name, action: RecordAction, client: Client, now: Instant) {
        let Client { answer, by, .. } = client;
        let is_off = self.all.get(room).is_none_or(|recording| recording.failed.is_some());
        match (action, self.all.get_mut(room)) {
            (RecordAction::Start, _) if is_off => self.start(config, room, (answer, &by), now),
            (RecordAction::Start, _) => refuse(&answer, room, "record", "a recording is already running"),
            (RecordAction::Stop, Some(recording)) if !is_off => {
                audit::room(room, "recording stopped", &by);
                recording.stop(answer, now);
            }
            (RecordAction::Stop, Some(_)) => {
                let ended = self.all.remove(room);
                tell(&answer, room, ended.map(|ended| ended.status(&self.measured)));
            }
            (RecordAction::Stop, None) => refuse(&answer, room, "stop recording", "no recording is running"),
            (RecordAction::Status, recording) => tell(&answer, room, recording.map(|one| one.status(&self.measured))),
        }
        self.remove_ended();
    }

    fn start(&mut self, config: &Config, room: &Name, (answer, by): (Sender<Response>, &Author), now: Instant) {
        if !config.room(room).path().is_dir() {
            return refuse(&answer, room, "record", "there is no such room; 'palabre rooms' lists all rooms");
        }
        audit::room(room, "recording requested", by);
        let directory = config.recordings.join(format!("{room}-{}", stamp(SystemTime::now())));
        let mut recording = Recording::new(room.clone(), config.room(room).recording(), directory, answer);
        recording.spawn(config, now);
        self.measure_at = now + FIRST_DELAY;
        self.all.insert(room.clone(), recording);
    }

    /// Passes a notification to the recording whose recorder has process id `pid`. Returns false if no recorder has it.
    pub(crate) fn notified(&mut self, pid: u32, message: &Message, now: Instant) -> bool {
        let of_pid = self.all.values_mut().filter(|recording| recording.pid == Some(pid));
        // A running recorder may have the process id of a dead recorder. Prefer the running one.
        let recording = of_pid.max_by_key(|recording| recording.child.is_some());
        recording.map(|recording| recording.notified(message, now)).is_some()
    }

    /// Notes which recorders have ended. Call this after SIGCHLD. Call [`Self::reap`] when all notifications that have arrived until now were handled.
    pub(crate) fn note_ends(&mut self) {
        self.all.values_mut().filter_map(|recording| recording.child.as_mut()).for_each(OurChild::note_end);
    }

    /// Reaps the recorders whose end was noted.
    pub(crate) fn reap(&mut self, now: Instant) {
        self.all.values_mut().for_each(|recording| recording.reap(now));
        self.remove_ended();
    }

    /// Restarts recorders whose delay has passed, and kills recorders whose timeout has passed.
    pub(crate) fn tick(&mut self, config: &Config, now: Instant) {
        for recording in self.all.values_mut() {
            if recording.retry_at.is_some_and(|at| at <= now) {
                recording.spawn(config, now);
            }
            if recording.kill_at.is_some_and(|at| at <= now) {
                recording.kill_at = None;
                // The recorder is reaped when SIGCHLD arrives. If the kill fails, the recorder has ended already.
                let _ = recording.child.as_ref().map(OurChild::kill);
            }
        }
        self.remove_ended();
        if self.measure_at <= now && self.jobs.is_some() {
            self.measure(config, now);
        }
        if !self.is_ending {
            // A recording that an operator has stopped must not go on after a crash of this supervisor.
            self.stored.store(self.all.values().filter(|recording| !recording.is_ending).map(Recording::save));
        }
    }

    /// Asks the thread to measure the disk. Does nothing if the thread is busy, for example because the disk doesn't answer.
    fn measure(&mut self, config: &Config, now: Instant) {
        let interval = if self.is_empty() { IDLE_INTERVAL } else { MEASURE_INTERVAL };
        self.measure_at = now + interval;
        let limits = config.server.recordings;
        let active = self.all.values().map(|recording| recording.directory.clone()).collect();
        let (directory, max_bytes) = (config.recordings.clone(), u64::from(limits.max_gib) << 30);
        let job = Job { directory, active, keep_days: limits.keep_days, max_bytes };
        let _ = self.jobs.as_ref().map(|jobs| jobs.try_send(job));
    }

    /// Handles a measurement. Logs when the disk becomes nearly full.
    pub(crate) fn measured(&mut self, config: &Config, measured: Measured) {
        self.measured = measured;
        let Some(storage) = self.storage(config) else { return };
        if storage.nearly_full && !self.is_disk_reported {
            let (directory, free_mib) = (&storage.directory, storage.free_bytes >> 20);
            log::warn!(
                "the disk of the recordings in '{directory}' is nearly full: {free_mib} MiB are free; delete old recordings"
            );
        }
        self.is_disk_reported = storage.nearly_full;
    }

    /// Returns the state of the recordings' disk.
    pub(crate) fn storage(&self, config: &Config) -> Option<Storage> {
        let active = self.all.values().filter(|recording| recording.child.is_some());
        let active = active.map(|recording| (recording.directory.as_path(), recording.age()));
        self.measured.storage(&config.recordings, active)
    }

    /// Returns the time at which to call [`Self::tick`].
    pub(crate) fn deadline(&self) -> Option<Instant> {
        let own = self.all.values().flat_map(|recording| [recording.retry_at, recording.kill_at]).flatten();
        own.chain(self.jobs.as_ref().map(|_| self.measure_at)).min()
    }

    /// Starts to end all recordings. [`Self::is_empty`] returns true when all recorders have ended.
    pub(crate) fn stop(&mut self, now: Instant) {
        self.is_ending = true;
        self.all.values_mut().for_each(|recording| recording.end(now));
        self.remove_ended();
    }

    /// Whether no recorder runs.
    pub(crate) fn is_empty(&self) -> bool {
        self.all.values().all(|recording| recording.child.is_none())
    }

    /// Returns the status of all recordings.
    pub(crate) fn status(&self) -> Vec<RecordingStatus> {
        self.all.values().map(|recording| recording.status(&self.measured)).collect()
    }

    /// Returns a message for `palabre status` about each recording that has ended by itself.
    pub(crate) fn alarms(&self) -> impl Iterator<Item = String> {
        self.all.values().filter_map(Recording::alarm)
    }

    fn remove_ended(&mut self) {
        self.all.retain(|_, recording| {
            let has_ended = recording.has_ended();
            if has_ended {
                // A recorder that was killed did not remove its pipe.
                remove_stale_pipe(&recording.pipe);
            }
            !has_ended
        });
    }
}

fn of_saved(config: &Config, saved: Vec<SavedRecording>) -> BTreeMap<Name, Recording> {
    let recordings = saved.into_iter().filter_map(|saved| Recording::restore(config, saved));
    recordings.map(|recording| (recording.room.clone(), recording)).collect()
}

/// Removes the pipe if no process reads it. Returns whether it was removed.
fn remove_stale_pipe(pipe: &Path) -> bool {
    matches!(RecordingWriter::open(pipe), Err(OpenError::NoReader(_))) && fs::remove_file(pipe).is_ok()
}

#[cfg(test)]
impl Recordings {
    /// Adds a recording that has ended by itself. `pid` is the process id of its recorder.
    pub(crate) fn add_failed(&mut self, room: Name, pid: u32) {
        let (answer, _) = std::sync::mpsc::channel();
        let mut recording = Recording::new(room.clone(), Default::default(), Default::default(), answer);
        (recording.pid, recording.failed) = (Some(pid), Some("no space left on device".into()));
        self.all.insert(room, recording);
    }
}
