//! The recording of one room: its recorder process, the restart of a recorder that died, and the clients that wait for it.

use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::mpsc::Sender;
use std::time::{Duration, Instant, SystemTime};

use palabre_config::Moment;
use palabre_config::control::{Recording as RecordingStatus, RecordingState, Response};
use palabre_host::notify::Message;
use palabre_host::process::OurChild;
use palabre_host::{clock, notify, usage};
use palabre_room::Name;

use super::answer::{refuse, tell};
use crate::backoff::{End, RestartPolicy, Verdict};
use crate::config::Config;
use crate::measured::Measured;
use crate::saved::SavedRecording;

/// Exit code of a recorder that can't continue, for example because the disk is full.
const EXIT_REFUSED: i32 = 1;
/// Timeout for a recorder to complete its files and exit after SIGTERM; then it is killed.
const END_TIMEOUT: Duration = Duration::from_secs(10);
/// Delay before a recorder is started for a recording of an earlier supervisor, whose recorder may still be ending.
const CONTINUE_DELAY: Duration = Duration::from_millis(200);

/// The recording of one room.
#[derive(Debug)]
pub(super) struct Recording {
    pub(super) room: Name,
    pub(super) pipe: PathBuf,
    pub(super) directory: PathBuf,
    began: Duration,
    pub(super) child: Option<OurChild>,
    /// Process id of the recorder. It is kept after the recorder has died, since its last notification may arrive after SIGCHLD. Another
    /// process may have this id by then.
    pub(super) pid: Option<u32>,
    ready_since: Option<Instant>,
    pub(super) retry_at: Option<Instant>,
    pub(super) kill_at: Option<Instant>,
    backoff: RestartPolicy,
    restarts: u64,
    note: Option<String>,
    pub(super) failed: Option<String>,
    pub(super) is_ending: bool,
    pub(super) answers: Vec<Sender<Response>>,
}

impl Recording {
    pub(super) fn new(room: Name, pipe: PathBuf, directory: PathBuf, answer: Sender<Response>) -> Self {
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
            is_ending: false,
            answers: vec![answer],
        }
    }

    pub(super) fn restore(config: &Config, saved: SavedRecording) -> Option<Self> {
        let room: Name = saved.room.parse().ok()?;
        let pipe = config.room(&room).recording();
        let child = saved.pid.and_then(OurChild::adopt);
        let now = Instant::now();
        Some(Self {
            room,
            pipe,
            directory: saved.directory.into(),
            began: Duration::from_millis(saved.began_ms),
            ready_since: saved.is_ready.then_some(now),
            retry_at: (child.is_none() && saved.failed.is_none()).then_some(now + CONTINUE_DELAY),
            child,
            pid: saved.pid,
            kill_at: None,
            backoff: RestartPolicy::default(),
            restarts: saved.restarts,
            note: saved.note,
            failed: saved.failed,
            is_ending: false,
            answers: Vec::new(),
        })
    }

    pub(super) fn save(&self) -> SavedRecording {
        SavedRecording {
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

    /// Starts the recorder. Call it only in the main thread: a recorder dies with the thread that started it.
    pub(super) fn spawn(&mut self, config: &Config, now: Instant) {
        (self.retry_at, self.ready_since) = (None, None);
        let mut command = Command::new(&config.recorder);
        command.arg(self.room.as_str()).arg("--out").arg(&self.directory).arg("--run").arg(&config.run);
        command.arg("--began-ms").arg(self.began.as_millis().to_string());
        command.arg("--parent-pid").arg(std::process::id().to_string());
        command.stdin(Stdio::null()).process_group(0);
        notify::for_child(&mut command, &config.notify_socket());
        match command.spawn() {
            Ok(child) => (self.pid, self.child) = (Some(child.id()), Some(OurChild::of(&child))),
            Err(error) => {
                let why = format!("unable to start '{}': {error}", config.recorder.display());
                log::error!("{why}");
                self.after_death(now, why);
            }
        }
    }

    pub(super) fn stop(&mut self, answer: Sender<Response>, now: Instant) {
        self.answers.push(answer);
        self.end(now);
    }

    pub(super) fn end(&mut self, now: Instant) {
        (self.is_ending, self.retry_at) = (true, None);
        match &self.child {
            Some(child) => {
                if let Err(error) = child.terminate() {
                    log::warn!(
                        "unable to terminate the recorder of room '{}': {error}; the supervisor kills it in {} s",
                        self.room,
                        END_TIMEOUT.as_secs()
                    );
                }
                self.kill_at = Some(now + END_TIMEOUT);
            }
            None => self.answer_all(),
        }
    }

    pub(super) fn notified(&mut self, message: &Message, now: Instant) {
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

    pub(super) fn reap(&mut self, now: Instant) {
        let Some(child) = &self.child else { return };
        let status = match child.reap() {
            Ok(None) => return,
            Ok(Some(status)) => status,
            Err(error) => return log::warn!("unable to wait for the recorder of room '{}': {error}", self.room),
        };
        (self.child, self.kill_at) = (None, None);
        if self.is_ending {
            log::info!("the recording of room '{}' into '{}' has ended", self.room, self.directory.display());
            return self.answer_all();
        }
        let note = self.note.take();
        let cause = death(&status.to_string(), note.as_deref());
        let why = note.unwrap_or_else(|| format!("the recorder ended: {status}"));
        if status.code() == Some(EXIT_REFUSED) {
            log::error!(
                "the recording of room '{0}' has ended by itself: {why}; correct the cause, then run 'palabre record start --room {0}'",
                self.room
            );
            self.failed = Some(why);
            return self.answer_all();
        }
        log::warn!("the recorder of room '{}' died ({cause}); the next recorder continues the same files", self.room);
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

    /// Answers the clients that wait for the start or the end of the recording.
    fn answer_all(&mut self) {
        for answer in std::mem::take(&mut self.answers) {
            match self.failed.clone().filter(|_| !self.is_ending) {
                Some(why) => refuse(&answer, &self.room, "record", &why),
                None => tell(&answer, &self.room, Some(self.status(&Measured::default()))),
            }
        }
    }

    pub(super) fn has_ended(&self) -> bool {
        self.is_ending && self.child.is_none()
    }

    fn is_stopped(&self) -> bool {
        self.child.as_ref().is_some_and(|child| usage::is_stopped(child.id()))
    }

    pub(super) fn alarm(&self) -> Option<String> {
        let (room, directory) = (&self.room, self.directory.display());
        self.failed.as_ref().map(|why| {
            format!("room '{room}' is no longer recorded: {why}; 'palabre record stop --room {room}' removes this message; the files in '{directory}' stay")
        })
    }

    /// Returns the time since the start of the recording.
    pub(super) fn age(&self) -> Duration {
        clock::monotonic().saturating_sub(self.began)
    }

    pub(super) fn status(&self, measured: &Measured) -> RecordingStatus {
        let state = match (&self.failed, self.ready_since) {
            (Some(_), _) => RecordingState::Failed,
            _ if self.has_ended() => RecordingState::Off,
            _ if self.is_stopped() => RecordingState::Stopped,
            (None, Some(_)) => RecordingState::On,
            (None, None) => RecordingState::Starting,
        };
        let since = self.age();
        let began = SystemTime::now().checked_sub(since).and_then(|began| Moment::after(began, Duration::ZERO));
        RecordingStatus {
            room: self.room.to_string(),
            state,
            directory: Some(self.directory.display().to_string()),
            began: began.map(|began| began.to_string()),
            bytes: measured.sizes.get(&self.directory).copied(),
            since_ms: u64::try_from(since.as_millis()).unwrap_or(u64::MAX),
            restarts: self.restarts,
            note: self.failed.clone().or_else(|| self.note.clone()),
        }
    }
}

/// Returns why a recorder died: the status of its process, and its last error if it has reported one.
fn death(status: &str, note: Option<&str>) -> String {
    let error = note.filter(|note| !note.starts_with("speakers="));
    error.map_or_else(|| status.to_owned(), |error| format!("{status}: {error}"))
}

#[cfg(test)]
mod tests {
    use super::death;

    #[test]
    fn death_of_a_recorder_has_its_last_error_but_not_its_last_figures() {
        assert_eq!(death("killed by signal 9", None), "killed by signal 9");
        assert_eq!(death("killed by signal 9", Some("speakers=3")), "killed by signal 9");
        assert_eq!(death("exit code 111", Some("unable to write")), "exit code 111: unable to write");
    }
}
