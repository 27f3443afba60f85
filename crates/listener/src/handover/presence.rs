//! The participant's presence (raised hand, microphone state), and the file `presence`, from which the next process reads it.
//!
//! A page sends its presence when the presence changes, and when the page reconnects after an outage. The page may not notice a short
//! outage or a replaced process. So a process keeps the presence for [`KEEP`] after the last stream, and the next process reads the file.

use super::shown::Shown;
use palabre_room::{ParticipantDir, Presence};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Time for which presence is kept without a stream, and during which a new process reads the previous process's presence. A page
/// notices an outage and sends its presence again after at most this time.
const KEEP: Duration = Duration::from_secs(10);
/// Time after the last stream of the page that has raised the hand, after which the hand is lowered. A page that reconnects has a stream again within
/// this time.
const LOWER_AFTER: Duration = Duration::from_secs(3);

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
    /// The ID of the page that has raised the hand; `None` if the hand is lowered, or if a program or a page of the previous process has raised it.
    raised_by: Option<String>,
    /// The time at which the hand will be lowered, unless the page that has raised it has a stream before.
    lowered_at: Option<Instant>,
}

impl State {
    /// Returns the presence that results if a page sends `shown`. Doesn't change the stored presence.
    fn with(&self, Shown { hand, voice, weak }: Shown) -> Presence {
        Presence { hand: hand.unwrap_or(self.presence.hand), voice, weak }
    }

    fn set_raised_by(&mut self, page: Option<&str>) {
        (self.raised_by, self.lowered_at) = (page.map(str::to_owned), None);
    }
}

impl PagePresence {
    pub(super) fn new(directory: Option<ParticipantDir>, now: Instant) -> Self {
        let presence = Presence::default();
        let state = State {
            presence,
            has_streams: false,
            kept_until: now + KEEP,
            is_inherited: true,
            raised_by: None,
            lowered_at: None,
        };
        Self { directory, state: Mutex::new(state) }
    }

    pub(super) fn get(&self) -> Presence {
        let state = self.lock();
        if state.has_streams { state.presence } else { Presence::default() }
    }

    pub(super) fn is_news(&self, shown: Shown) -> bool {
        let state = self.lock();
        state.presence != state.with(shown)
    }

    pub(super) fn show(&self, shown: Shown, page: Option<&str>, now: Instant) {
        let mut state = self.lock();
        if state.is_inherited && shown.hand.is_none() {
            self.read(&mut state);
        }
        if let Some(hand) = shown.hand {
            state.set_raised_by(page.filter(|_| hand));
        }
        let presence = state.with(shown);
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

    pub(super) fn lower_forgotten_hand(&self, pages: &[Option<String>], now: Instant) -> Option<Instant> {
        let mut state = self.lock();
        state.raised_by.as_ref()?;
        if pages.contains(&state.raised_by) {
            state.lowered_at = None;
            return None;
        }
        let at = *state.lowered_at.get_or_insert(now + LOWER_AFTER);
        if pages.is_empty() {
            return None;
        }
        if now < at {
            return Some(at);
        }
        state.set_raised_by(None);
        state.presence.hand = false;
        self.write(state.presence);
        None
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
                "{error}; the raised hand and the mute that the previous process left are unknown: others don't see them until the page sends them again"
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
    use palabre_room::MicState;
    use palabre_room::{Format, RoomDir};

    const PRESENCE: Presence = Presence { hand: true, voice: MicState::Muted, weak: true };
    const SHOWN: Shown = Shown { hand: Some(true), voice: MicState::Muted, weak: true };

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
        old.show(SHOWN, None, now);
        assert_eq!(new.get(), Presence::default(), "no stream is open");
        new.streams_began(now);
        assert_eq!(new.get(), PRESENCE);
        // The old process can still receive a `/show` request during the handover.
        old.show(Shown { hand: Some(false), ..SHOWN }, None, now);
        new.inherit();
        assert_eq!(new.get(), Presence { hand: false, ..PRESENCE });
        old.streams_ended(now, false);
        new.show(SHOWN, None, now);
        new.inherit();
        assert_eq!((new.get(), alice.presence().unwrap()), (PRESENCE, PRESENCE));
    }

    #[test]
    fn presence_outlives_the_last_stream_for_a_short_time_only() {
        let (_dir, alice) = directory();
        let now = Instant::now();
        let presence = PagePresence::new(Some(alice.clone()), now);
        presence.streams_began(now);
        presence.show(SHOWN, None, now);
        presence.streams_ended(now, true);
        assert_eq!((presence.get(), alice.presence().unwrap()), Default::default());
        presence.streams_began(now + KEEP / 2);
        assert_eq!((presence.get(), alice.presence().unwrap()), (PRESENCE, PRESENCE));
        presence.streams_ended(now + KEEP / 2, true);
        presence.streams_began(now + KEEP * 2);
        assert_eq!((presence.get(), alice.presence().unwrap()), Default::default());
    }

    #[test]
    fn process_that_had_no_stream_for_long_inherits_nothing() {
        let (_dir, alice) = directory();
        alice.set_presence(PRESENCE).unwrap();
        let now = Instant::now();
        let presence = PagePresence::new(Some(alice.clone()), now);
        presence.streams_began(now + KEEP);
        assert_eq!((presence.get(), alice.presence().unwrap()), Default::default());
    }

    #[test]
    fn page_whose_user_did_not_change_the_hand_keeps_the_inherited_one() {
        let (_dir, alice) = directory();
        alice.set_presence(PRESENCE).unwrap();
        let now = Instant::now();
        let presence = PagePresence::new(Some(alice.clone()), now);
        presence.show(Shown { hand: None, voice: MicState::None, weak: false }, Some("two"), now);
        presence.streams_began(now);
        let expected = Presence { hand: true, voice: MicState::None, weak: false };
        assert_eq!((presence.get(), alice.presence().unwrap()), (expected, expected));
    }

    #[test]
    fn hand_is_lowered_after_the_page_that_raised_it_has_left_but_not_another_page() {
        let (_dir, alice) = directory();
        let now = Instant::now();
        let [one, two] = ["one", "two"].map(|page| Some(page.to_owned()));
        let both = [one.clone(), two.clone()];
        let presence = PagePresence::new(Some(alice.clone()), now);
        presence.streams_began(now);
        presence.show(SHOWN, Some("one"), now);
        presence.show(Shown { hand: None, ..SHOWN }, Some("two"), now);
        let later = now + LOWER_AFTER;
        for (pages, at, next) in [
            (both.as_slice(), now, None),
            (std::slice::from_ref(&one), later, None),
            (std::slice::from_ref(&two), now, Some(later)),
            // The page has reconnected.
            (&both, later, None),
            (std::slice::from_ref(&two), later, Some(later + LOWER_AFTER)),
            // While no page has a stream, the function doesn't lower the hand.
            (&[], later + LOWER_AFTER, None),
        ] {
            assert_eq!((presence.lower_forgotten_hand(pages, at), presence.get().hand), (next, true), "{pages:?}");
        }
        assert_eq!(presence.lower_forgotten_hand(std::slice::from_ref(&two), later + LOWER_AFTER), None);
        let lowered = Presence { hand: false, ..PRESENCE };
        assert_eq!((presence.get(), alice.presence().unwrap()), (lowered, lowered));
        // A program without a page ID has raised the hand, so the function doesn't lower it.
        presence.show(SHOWN, None, later);
        assert_eq!(presence.lower_forgotten_hand(&[two], later + 2 * LOWER_AFTER), None);
        assert_eq!(presence.get(), PRESENCE);
    }
}
