//! Whether somebody listens for a participant, and what their page shows of them, from what their listener says.
//!
//! A page that connects again, after a restart or a bad moment of its network, was never away: presence ends late.

use palabre_room::Voice;
use std::time::{Duration, Instant};

/// How long somebody without a stream is still here.
const LINGER: Duration = Duration::from_secs(3);

/// The presence of one participant.
#[derive(Debug, Default)]
pub struct Presence {
    here: bool,
    hand: bool,
    voice: Voice,
    leaves_at: Option<Instant>,
}

impl Presence {
    /// The listener's `STATUS=`, of which `streams=N`, `hand` and `mic=muted|none` are read and nothing else.
    pub fn told(&mut self, status: &str, now: Instant) {
        let streams = status.split(' ').find_map(|word| word.strip_prefix("streams=")?.parse::<u32>().ok());
        let says = |what: &str| status.split(' ').any(|word| word == what);
        let voice = match (says("mic=muted"), says("mic=none")) {
            (true, _) => Voice::Muted,
            (_, true) => Voice::None,
            _ => Voice::Open,
        };
        match streams {
            Some(0) => self.nobody(now),
            Some(_) => *self = Self { here: true, hand: says("hand"), voice, leaves_at: None },
            None => {}
        }
    }

    /// The listener has ended, and its streams with it.
    pub fn nobody(&mut self, now: Instant) {
        if self.here && self.leaves_at.is_none() {
            self.leaves_at = Some(now + LINGER);
        }
    }

    /// Whether the participant is here.
    pub fn is_here(&self) -> bool {
        self.here
    }

    /// Whether the participant is here and has raised a hand.
    pub fn hand(&self) -> bool {
        self.hand
    }

    /// The participant's microphone.
    pub fn voice(&self) -> Voice {
        self.voice
    }

    /// When [`Self::tick`] has something to do.
    pub fn deadline(&self) -> Option<Instant> {
        self.leaves_at
    }

    /// Does what is due.
    pub fn tick(&mut self, now: Instant) {
        if self.leaves_at.is_some_and(|at| at <= now) {
            *self = Self::default();
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn somebody_with_a_stream_is_here_and_leaves_late() {
        let now = Instant::now();
        let mut presence = Presence::default();
        assert!(!presence.is_here() && presence.deadline().is_none());
        presence.told("streams=1 speaking=nobody", now);
        assert!(presence.is_here() && presence.deadline().is_none());
        presence.told("streams=0 speaking=nobody", now);
        presence.tick(now);
        assert!(presence.is_here());
        presence.tick(presence.deadline().unwrap());
        assert!(!presence.is_here() && presence.deadline().is_none());
    }

    #[test]
    fn what_a_page_shows_is_known_until_it_leaves() {
        let now = Instant::now();
        let mut presence = Presence::default();
        presence.told("streams=1 speaking=ws hand mic=muted delay=120", now);
        assert_eq!((presence.hand(), presence.voice()), (true, Voice::Muted));
        presence.told("streams=1 speaking=no mic=none", now);
        assert_eq!((presence.hand(), presence.voice()), (false, Voice::None));
        presence.nobody(now);
        presence.tick(presence.deadline().unwrap());
        assert_eq!((presence.hand(), presence.voice()), (false, Voice::Open));
    }

    #[test]
    fn whoever_comes_back_in_time_was_never_away() {
        let now = Instant::now();
        let mut presence = Presence::default();
        presence.told("streams=2", now);
        presence.nobody(now);
        presence.told("speaking=ws", now);
        presence.told("streams=1", now + LINGER / 2);
        presence.tick(now + LINGER * 2);
        assert!(presence.is_here());
    }
}
