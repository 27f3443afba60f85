//! The participant's presence (raised hand, microphone state), and the file `presence`, from which the next process reads it.
//!
//! A page sends its presence when the presence changes, and when the page reconnects after an outage. The page may not notice a short
//! outage or a replaced process. So a process keeps the presence for [`KEEP`] after the last stream, and the next process reads the file.

use palabre_room::{ParticipantDir, Presence};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Time for which presence is kept without a stream, and during which a new process reads the previous process's presence. A page
/// notices an outage and sends its presence again after at most this time.
const KEEP: Duration = Duration::from_secs(10);

/// The presence of the participant of this process, and its file.
#[derive(Debug)]
pub(super) struct PagePresence {
    /// The participant's directory, which contains the file `presence`; `None` if there is no room.
    directory: Option<ParticipantDir>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    presence: Presence,
    has_streams: bool,
    /// The time when the presence is reset to the default, unless a stream begins before.
    kept_until: Instant,
    /// No page has sent its presence to this process yet, so the previous process's presence is valid.
    is_inherited: bool,
}

impl PagePresence {
    pub(super) fn new(directory: Option<ParticipantDir>, now: Instant) -> Self {
        let presence = Presence::default();
        let state = State { presence, has_streams: false, kept_until: now + KEEP, is_inherited: true };
        Self { directory, state: Mutex::new(state) }
    }

    pub(super) fn get(&self) -> Presence {
        let state = self.lock();
        if state.has_streams { state.presence } else { Presence::default() }
    }

    pub(super) fn is_news(&self, presence: Presence) -> bool {
        self.lock().presence != presence
    }

    pub(super) fn show(&self, presence: Presence, now: Instant) {
        let mut state = self.lock();
        if state.is_inherited || state.presence != presence {
            self.write(presence);
        }
        (state.presence, state.is_inherited, state.kept_until) = (presence, false, now + KEEP);
    }

    pub(super) fn streams_began(&self, now: Instant) {
        let mut state = self.lock();
        state.has_streams = true;
        if now >= state.kept_until {
            (state.presence, state.is_inherited) = (Presence::default(), false);
        }
        match state.is_inherited {
            true => self.read(&mut state),
            // Write the file again: it was removed when the last stream ended.
            false => self.write(state.presence),
        }
    }

    /// Notes that the last stream has ended. Removes the file `presence` if `is_serving` is true; otherwise the next process uses the file.
    pub(super) fn streams_ended(&self, now: Instant, is_serving: bool) {
        let mut state = self.lock();
        (state.has_streams, state.kept_until) = (false, now + KEEP);
        if is_serving {
            state.is_inherited = false;
            self.write(Presence::default());
        }
    }

    pub(super) fn inherit(&self) {
        let mut state = self.lock();
        if state.is_inherited {
            self.read(&mut state);
        }
    }

    fn read(&self, state: &mut State) {
        match self.directory.as_ref().map(ParticipantDir::presence) {
            Some(Ok(presence)) => state.presence = presence,
            Some(Err(error)) => log::warn!(
                "{error}; others don't see this participant's raised hand or mute until the page sends it again"
            ),
            None => {}
        }
    }

    fn write(&self, presence: Presence) {
        if let Some(Err(error)) = self.directory.as_ref().map(|directory| directory.set_presence(presence)) {
            log::warn!(
                "{error}; after a restart others don't see this participant's raised hand or mute until the page sends it again"
            );
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use palabre_room::{Format, MicState, RoomDir};

    const SHOWN: Presence = Presence { hand: true, voice: MicState::Muted, weak: true };

    fn directory() -> (tempfile::TempDir, ParticipantDir) {
        let dir = tempfile::tempdir().unwrap();
        let room = RoomDir::new(dir.path().join("main"));
        room.create(Format::default()).unwrap();
        let alice = room.participant(&"alice".parse().unwrap());
        alice.create().unwrap();
        (dir, alice)
    }

    #[test]
    fn next_process_inherits_presence_until_its_own_page_sends_it() {
        let (_dir, alice) = directory();
        let now = Instant::now();
        let [old, new] = [(); 2].map(|()| PagePresence::new(Some(alice.clone()), now));
        old.streams_began(now);
        old.show(SHOWN, now);
        assert_eq!(new.get(), Presence::default(), "no stream is open");
        new.streams_began(now);
        assert_eq!(new.get(), SHOWN);
        // The old process can still receive a `/show` request during the handover.
        let lowered = Presence { hand: false, ..SHOWN };
        old.show(lowered, now);
        new.inherit();
        assert_eq!(new.get(), lowered);
        old.streams_ended(now, false);
        new.show(SHOWN, now);
        new.inherit();
        assert_eq!((new.get(), alice.presence().unwrap()), (SHOWN, SHOWN));
    }

    #[test]
    fn presence_outlives_the_last_stream_for_a_short_time_only() {
        let (_dir, alice) = directory();
        let now = Instant::now();
        let presence = PagePresence::new(Some(alice.clone()), now);
        presence.streams_began(now);
        presence.show(SHOWN, now);
        presence.streams_ended(now, true);
        assert_eq!((presence.get(), alice.presence().unwrap()), Default::default());
        presence.streams_began(now + KEEP / 2);
        assert_eq!((presence.get(), alice.presence().unwrap()), (SHOWN, SHOWN));
        presence.streams_ended(now + KEEP / 2, true);
        presence.streams_began(now + KEEP * 2);
        assert_eq!((presence.get(), alice.presence().unwrap()), Default::default());
    }

    #[test]
    fn process_that_had_no_stream_for_long_inherits_nothing() {
        let (_dir, alice) = directory();
        alice.set_presence(SHOWN).unwrap();
        let now = Instant::now();
        let presence = PagePresence::new(Some(alice.clone()), now);
        presence.streams_began(now + KEEP);
        assert_eq!((presence.get(), alice.presence().unwrap()), Default::default());
    }
}
