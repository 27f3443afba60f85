//! What each room shows of its participants: the file `names`, the mark that no mixer is running, and the kept messages of a meeting.

use std::collections::BTreeSet;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::time::{Duration, Instant};

use palabre_config::Participant;
use palabre_config::control::MixerState;
use palabre_room::{Member, Name};

use super::Roster;
use crate::presence::queue_hands;
use crate::service::Service;

/// Minimum time between two writes of `names`.
const NAMES_INTERVAL: Duration = Duration::from_millis(250);
/// Time after which the content of `names` is made again and compared although no participant's presence has changed. In a large room this takes
/// much longer than to handle an event.
const COMPARE_INTERVAL: Duration = Duration::from_secs(1);
/// Interval after which a failed write of `names` is repeated.
const NAMES_RETRY_INTERVAL: Duration = Duration::from_secs(1);

impl Roster {
    /// Creates the directory of each room that a participant's file names. Returns the rooms whose directory can't be created.
    pub(super) fn make_rooms(&mut self, participants: &[Participant]) -> BTreeSet<Name> {
        let mut failed = BTreeSet::new();
        // Keep rooms whose last participant has left, so that their files `names` become empty.
        self.rooms.values_mut().for_each(Vec::clear);
        for participant in participants {
            let member = (participant.name.clone(), participant.display().to_owned());
            self.rooms.entry(participant.room.clone()).or_default().push(member);
        }
        for name in self.rooms.keys() {
            if let Err(error) = self.config.make_room(name) {
                log::error!("{error}");
                self.errors.push(error.to_string());
                failed.insert(name.clone());
            }
            self.mark(name);
        }
        failed
    }

    /// Writes each room's file `names` if its content has changed. Writes at most once per [`NAMES_INTERVAL`], since pages may change their
    /// state at any rate.
    pub(super) fn write_names(&mut self, now: Instant) {
        if self.names_at.is_some_and(|at| now < at + NAMES_INTERVAL) {
            self.names_due = self.names_at.map(|at| at + NAMES_INTERVAL);
            return;
        }
        let presence = self.presence_hash();
        if let Some((at, _)) = self.compared.filter(|(at, seen)| *seen == presence && now < *at + COMPARE_INTERVAL) {
            self.names_due = Some(at + COMPARE_INTERVAL);
            return;
        }
        (self.names_due, self.compared) = (None, Some((now, presence)));
        let mut failure = None;
        for (room, members) in &self.rooms {
            let member = |(name, display): &(Name, String)| match self.services.get(name) {
                Some(service) => service.member(self.shown_name(name, display)),
                None => Member::new(name.clone(), self.shown_name(name, display), false),
            };
            let mut members: Vec<Member> = members.iter().map(member).collect();
            queue_hands(&mut members, |name| self.services.get(name).and_then(Service::hand_since));
            self.meetings.note(room, members.iter().any(|member| member.here), now);
            if self.written.get(room) == Some(&members) {
                continue;
            }
            self.names_at = Some(now);
            match self.config.room(room).write_names(&members) {
                Ok(()) => _ = self.written.insert(room.clone(), members),
                Err(error) => failure = Some(error.to_string()),
            }
        }
        self.note_names(failure, now);
    }

    /// Returns a value that changes when the presence of a participant changes.
    fn presence_hash(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        self.services.len().hash(&mut hasher);
        self.services.values().for_each(|service| service.presence().hash(&mut hasher));
        hasher.finish()
    }

    /// Removes the kept messages of each room whose meeting has ended.
    pub(super) fn end_meetings(&mut self, now: Instant) {
        for room in self.meetings.ended(now) {
            if let Err(error) = self.config.room(&room).end_meeting() {
                log::warn!("{error}");
            }
        }
    }

    /// Logs a failed write of `names` once, and repeats it after [`NAMES_RETRY_INTERVAL`].
    fn note_names(&mut self, failure: Option<String>, now: Instant) {
        let Some(failure) = failure else {
            self.names_warning.clear();
            return;
        };
        if let Some(text) = self.names_warning.unless_repeated(failure) {
            log::error!("{text}");
        }
        self.names_at = Some(now + NAMES_RETRY_INTERVAL - NAMES_INTERVAL);
        self.names_due = Some(now + NAMES_RETRY_INTERVAL);
    }

    /// Marks a room's directory if no mixer is running, and removes the mark otherwise. The pages show this state.
    pub(super) fn mark(&self, room: &Name) {
        let Some(state) = self.mixer else { return };
        self.set_mark(room, state != MixerState::Running);
    }

    pub(super) fn set_mark(&self, room: &Name, is_missing: bool) {
        if let Err(error) = self.config.room(room).set_no_mixer(is_missing) {
            log::warn!("{error}");
        }
    }
}
