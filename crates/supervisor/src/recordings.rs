//! The recorders: one for each room that is recorded, started again when it dies, ended when somebody says so.
//!
//! A recording keeps its directory and the time of its beginning over the deaths of its recorder, so that it goes on in
//! the same files. One that ends by itself (a full disk) is not started again: that is an alarm, for the log and for
//! `palabre status`.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc::Sender;
use std::time::{Duration, Instant, SystemTime};

use palabre_config::control::{RecordAction, Recording as Told, RecordingState, Response};
use palabre_host::notify::Message;
use palabre_host::process::OurChild;
use palabre_host::{clock, notify};
use palabre_room::{Name, OpenError, RecordingWriter};

use crate::backoff::{End, RestartPolicy, Verdict};
use crate::estate::RecordingEstate;
use crate::site::Site;

/// The exit code of a recorder that can't go on.
const EXIT_REFUSED: i32 = 1;
/// How long a recorder may take to complete its files.
const LEAVE_PATIENCE: Duration = Duration::from_secs(10);

/// All recordings.
#[derive(Debug, Default)]
pub struct Recordings(BTreeMap<Name, Recording>);

impl Recordings {
    /// None yet. What an earlier supervisor's recorders left in the rooms is removed: pages say that they are recorded.
    pub fn new(site: &Site) -> Self {
        let rooms = fs::read_dir(site.run.join("rooms")).into_iter().flatten().flatten();
        for room in rooms.filter_map(|entry| entry.file_name().to_str()?.parse::<Name>().ok()) {
            if remove_left_behind(&site.room(&room).recording()) {
                log::warn!("the recording of room '{room}' has ended with an earlier supervisor");
            }
        }
        Self::default()
    }

    /// Those that the program before us has left. A recorder that has ended meanwhile is started again.
    pub fn inherit(site: &Site, left: Vec<RecordingEstate>) -> Self {
        let recordings = left.into_iter().filter_map(|left| Recording::inherit(site, left));
        Self(recordings.map(|recording| (recording.room.clone(), recording)).collect())
    }

    /// What the program after us must know. Only where [`Self::is_at_rest`].
    pub fn leave_behind(&self) -> Vec<RecordingEstate> {
        self.0.values().map(Recording::leave_behind).collect()
    }

    /// Whether nobody waits for an answer, and no recorder for its end.
    pub fn is_at_rest(&self) -> bool {
        self.0.values().all(|recording| recording.answers.is_empty() && !recording.leaves)
    }

    /// Somebody asks; the answer may come later.
    pub fn asked(&mut self, site: &Site, room: &Name, action: RecordAction, answer: Sender<Response>, now: Instant) {
        let is_off = self.0.get(room).is_none_or(|recording| recording.failed.is_some());
        match (action, self.0.get_mut(room)) {
            (RecordAction::Start, _) if is_off => self.start(site, room, answer, now),
            (RecordAction::Start, _) => refuse(&answer, room, "record", "it is being recorded already"),
            (RecordAction::Stop, Some(recording)) if !is_off => recording.stop(answer, now),
            (RecordAction::Stop, Some(_)) => {
                let ended = self.0.remove(room);
                tell(&answer, room, ended.as_ref());
            }
            (RecordAction::Stop, None) => refuse(&answer, room, "stop recording", "it is not being recorded"),
            (RecordAction::Status, recording) => tell(&answer, room, recording.as_deref()),
        }
        self.forget_the_gone();
    }

    fn start(&mut self, site: &Site, room: &Name, answer: Sender<Response>, now: Instant) {
        if !site.room(room).path().is_dir() {
            return refuse(&answer, room, "record", "there is no such room");
        }
        let directory = site.recordings.join(format!("{room}-{}", stamp(SystemTime::now())));
        let mut recording = Recording::new(room.clone(), site.room(room).recording(), directory, answer);
        recording.spawn(site, now);
        self.0.insert(room.clone(), recording);
    }

    /// Whether one of our recorders said this.
    pub fn notified(&mut self, pid: u32, message: &Message, now: Instant) -> bool {
        let of_pid = self.0.values_mut().find(|recording| recording.pid == Some(pid));
        of_pid.map(|recording| recording.notified(message, now)).is_some()
    }

    /// Looks at every recorder, after SIGCHLD.
    pub fn reap(&mut self, now: Instant) {
        self.0.values_mut().for_each(|recording| recording.reap(now));
        self.forget_the_gone();
    }

    /// Does what is due.
    pub fn tick(&mut self, site: &Site, now: Instant) {
        for recording in self.0.values_mut() {
            if recording.retry_at.is_some_and(|at| at <= now) {
                recording.spawn(site, now);
            }
            if recording.kill_at.is_some_and(|at| at <= now) {
                recording.kill_at = None;
                // It is gone, or will be told by SIGCHLD.
                let _ = recording.child.as_ref().map(OurChild::kill);
            }
        }
        self.forget_the_gone();
    }

    /// When [`Self::tick`] has something to do.
    pub fn deadline(&self) -> Option<Instant> {
        self.0.values().flat_map(|recording| [recording.retry_at, recording.kill_at]).flatten().min()
    }

    /// Ends all. [`Self::is_empty`] says when it is done.
    pub fn stop(&mut self, now: Instant) {
        self.0.values_mut().for_each(|recording| recording.leave(now));
        self.forget_the_gone();
    }

    /// Whether no recorder is left.
    pub fn is_empty(&self) -> bool {
        self.0.values().all(|recording| recording.child.is_none())
    }

    /// A line for each recording that has ended by itself.
    pub fn alarms(&self) -> impl Iterator<Item = String> {
        self.0.values().filter_map(Recording::alarm)
    }

    fn forget_the_gone(&mut self) {
        self.0.retain(|_, recording| {
            let is_gone = recording.is_gone();
            if is_gone {
                // A recorder that was killed had no time to do it.
                remove_left_behind(&recording.pipe);
            }
            !is_gone
        });
    }
}

/// Removes a pipe that nobody reads; whether there was one.
fn remove_left_behind(pipe: &Path) -> bool {
    matches!(RecordingWriter::open(pipe), Err(OpenError::NoReader(_))) && fs::remove_file(pipe).is_ok()
}

/// The recording of one room.
#[derive(Debug)]
struct Recording {
    room: Name,
    pipe: PathBuf,
    directory: PathBuf,
    began: Duration,
    child: Option<OurChild>,
    /// The present recorder's, or the last one's: its last words may come after its death.
    pid: Option<u32>,
    ready_since: Option<Instant>,
    retry_at: Option<Instant>,
    kill_at: Option<Instant>,
    backoff: RestartPolicy,
    restarts: u64,
    note: Option<String>,
    failed: Option<String>,
    leaves: bool,
    answers: Vec<Sender<Response>>,
}

impl Recording {
    fn new(room: Name, pipe: PathBuf, directory: PathBuf, answer: Sender<Response>) -> Self {
        Self {
            room,
            pipe,
            directory,
            began: clock::monotonic(),
            child: None,
            pid: None,
            ready_since: None,
            retry_at: None,
            kill_at: None,
            backoff: RestartPolicy::default(),
            restarts: 0,
            note: None,
            failed: None,
            leaves: false,
            answers: vec![answer],
        }
    }

    fn inherit(site: &Site, left: RecordingEstate) -> Option<Self> {
        let room: Name = left.room.parse().ok()?;
        let pipe = site.room(&room).recording();
        let child = left.pid.and_then(OurChild::adopt);
        let now = Instant::now();
        Some(Self {
            room,
            pipe,
            directory: left.directory.into(),
            began: Duration::from_millis(left.began_ms),
            ready_since: left.is_ready.then_some(now),
            retry_at: (child.is_none() && left.failed.is_none()).then_some(now),
            child,
            pid: left.pid,
            kill_at: None,
            backoff: RestartPolicy::default(),
            restarts: left.restarts,
            note: left.note,
            failed: left.failed,
            leaves: false,
            answers: Vec::new(),
        })
    }

    fn leave_behind(&self) -> RecordingEstate {
        RecordingEstate {
            room: self.room.to_string(),
            directory: self.directory.display().to_string(),
            began_ms: u64::try_from(self.began.as_millis()).unwrap_or(u64::MAX),
            pid: self.child.as_ref().map(OurChild::id),
            is_ready: self.ready_since.is_some(),
            restarts: self.restarts,
            note: self.note.clone(),
            failed: self.failed.clone(),
        }
    }

    /// Starts the recorder; from the main thread only, see [`crate::process::Process::start`].
    fn spawn(&mut self, site: &Site, now: Instant) {
        (self.retry_at, self.ready_since) = (None, None);
        let mut command = Command::new(&site.recorder);
        command.arg(self.room.as_str()).arg("--out").arg(&self.directory).arg("--run").arg(&site.run);
        command.arg("--began-ms").arg(self.began.as_millis().to_string());
        command.arg("--parent-pid").arg(std::process::id().to_string());
        command.stdin(Stdio::null()).process_group(0);
        notify::for_child(&mut command, &site.notify_socket());
        match command.spawn() {
            Ok(child) => (self.pid, self.child) = (Some(child.id()), Some(OurChild::of(&child))),
            Err(error) => {
                let why = format!("unable to start '{}': {error}", site.recorder.display());
                log::error!("{why}");
                self.after_death(now, why);
            }
        }
    }

    fn stop(&mut self, answer: Sender<Response>, now: Instant) {
        self.answers.push(answer);
        self.leave(now);
    }

    fn leave(&mut self, now: Instant) {
        (self.leaves, self.retry_at) = (true, None);
        match &self.child {
            Some(child) => {
                if let Err(error) = child.terminate() {
                    log::warn!("unable to terminate the recorder of '{}': {error}", self.room);
                }
                self.kill_at = Some(now + LEAVE_PATIENCE);
            }
            None => self.answer_all(),
        }
    }

    fn notified(&mut self, message: &Message, now: Instant) {
        if let Some(status) = &message.status {
            self.note = Some(status.clone());
            if let Some(failed) = &mut self.failed {
                failed.clone_from(status);
            }
        }
        if message.ready {
            self.ready_since = Some(now);
            log::info!("room '{}' is recorded into '{}'", self.room, self.directory.display());
            self.answer_all();
        }
    }

    fn reap(&mut self, now: Instant) {
        let Some(child) = &self.child else { return };
        let status = match child.try_wait() {
            Ok(None) => return,
            Ok(Some(status)) => status,
            Err(error) => return log::warn!("unable to wait for the recorder of '{}': {error}", self.room),
        };
        (self.child, self.kill_at) = (None, None);
        if self.leaves {
            log::info!("the recording of room '{}' into '{}' has ended", self.room, self.directory.display());
            return self.answer_all();
        }
        let why = self.note.take().unwrap_or_else(|| format!("the recorder ended: {status}"));
        if status.code() == Some(EXIT_REFUSED) {
            log::error!("the recording of room '{}' has ended by itself: {why}", self.room);
            self.failed = Some(why);
            return self.answer_all();
        }
        log::warn!("the recorder of room '{}' died ({status}); it goes on in the same files", self.room);
        self.restarts += 1;
        self.after_death(now, why);
    }

    fn after_death(&mut self, now: Instant, why: String) {
        let ready_for = self.ready_since.take().map(|since| now.saturating_duration_since(since));
        match self.backoff.ended(End::Died { ready_for }) {
            Verdict::Retry(wait) | Verdict::GiveUp(Some(wait)) => self.retry_at = Some(now + wait),
            Verdict::GiveUp(None) => self.failed = Some(why),
        }
    }

    /// Whoever waits for the beginning or the end is told how it is.
    fn answer_all(&mut self) {
        for answer in std::mem::take(&mut self.answers) {
            match self.failed.clone().filter(|_| !self.leaves) {
                Some(why) => refuse(&answer, &self.room, "record", &why),
                None => tell(&answer, &self.room, Some(self)),
            }
        }
    }

    fn is_gone(&self) -> bool {
        self.leaves && self.child.is_none()
    }

    fn alarm(&self) -> Option<String> {
        let (room, directory) = (&self.room, self.directory.display());
        self.failed.as_ref().map(|why| {
            format!("room '{room}' is no longer recorded: {why}; 'palabre record stop --room {room}' clears this, '{directory}' stays")
        })
    }

    fn told(&self) -> Told {
        let state = match (&self.failed, self.ready_since) {
            (Some(_), _) => RecordingState::Failed,
            _ if self.is_gone() => RecordingState::Off,
            (None, Some(_)) => RecordingState::On,
            (None, None) => RecordingState::Starting,
        };
        let since = clock::monotonic().saturating_sub(self.began);
        Told {
            room: self.room.to_string(),
            state,
            directory: Some(self.directory.display().to_string()),
            since_ms: u64::try_from(since.as_millis()).unwrap_or(u64::MAX),
            restarts: self.restarts,
            note: self.failed.clone().or_else(|| self.note.clone()),
        }
    }
}

fn tell(to: &Sender<Response>, room: &Name, recording: Option<&Recording>) {
    let off = || Told {
        room: room.to_string(),
        state: RecordingState::Off,
        directory: None,
        since_ms: 0,
        restarts: 0,
        note: None,
    };
    // Whoever asked may have left.
    let _ = to.send(Response::Recording(recording.map_or_else(off, Recording::told)));
}

fn refuse(to: &Sender<Response>, room: &Name, verb: &str, why: &str) {
    let _ = to.send(Response::Refused { why: format!("unable to {verb} room '{room}': {why}") });
}

/// A time as a name for a directory, UTC: `20261122T142600Z`.
fn stamp(time: SystemTime) -> String {
    let seconds = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
    let (mut day, of_day) = (seconds / 86_400, seconds % 86_400);
    let mut year = 1970;
    let days_of = |year: u64| {
        if year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400)) { 366 } else { 365 }
    };
    while day >= days_of(year) {
        day -= days_of(year);
        year += 1;
    }
    let february = days_of(year) - 337;
    let mut month = 1;
    for days in [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30] {
        if day < days {
            break;
        }
        day -= days;
        month += 1;
    }
    let (hour, minute, second) = (of_day / 3_600, of_day / 60 % 60, of_day % 60);
    format!("{year}{month:02}{:02}T{hour:02}{minute:02}{second:02}Z", day + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_is_named_after_the_time() {
        for (seconds, name) in [
            (0, "19700101T000000Z"),
            (951_782_399, "20000228T235959Z"),
            (951_782_400, "20000229T000000Z"),
            (1_795_357_560, "20261122T142600Z"),
            (1_798_761_599, "20261231T235959Z"),
        ] {
            assert_eq!(stamp(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)), name);
        }
    }
}
