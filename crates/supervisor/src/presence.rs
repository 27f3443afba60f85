//! Whether somebody listens for a participant, and what their page shows of them, from what their listener says.
//!
//! A page that connects again, after a restart or a bad moment of its network, was never away: presence ends late.

use std::time::{Duration, Instant};

use palabre_config::control::ListenerReport;
use palabre_room::Voice;

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
    /// Takes over what a listener reports.
    pub fn update(&mut self, report: &ListenerReport, now: Instant) {
        match report.streams {
            0 => self.nobody(now),
            _ => *self = Self { here: true, hand: report.hand, voice: report.microphone, leaves_at: None },
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

    fn streams(streams: u32) -> ListenerReport {
        ListenerReport { streams, ..ListenerReport::default() }
    }

    #[test]
    fn participant_with_a_stream_is_here_and_leaves_late() {
        let now = Instant::now();
        let mut presence = Presence::default();
        assert!(!presence.is_here() && presence.deadline().is_none());
        presence.update(&streams(1), now);
        assert!(presence.is_here() && presence.deadline().is_none());
        presence.update(&streams(0), now);
        presence.tick(now);
        assert!(presence.is_here());
        presence.tick(presence.deadline().unwrap());
        assert!(!presence.is_here() && presence.deadline().is_none());
    }

    #[test]
    fn hand_and_microphone_are_known_until_the_participant_leaves() {
        let now = Instant::now();
        let mut presence = Presence::default();
        presence.update(&ListenerReport { hand: true, microphone: Voice::Muted, ..streams(1) }, now);
        assert_eq!((presence.hand(), presence.voice()), (true, Voice::Muted));
        presence.update(&ListenerReport { microphone: Voice::None, ..streams(1) }, now);
        assert_eq!((presence.hand(), presence.voice()), (false, Voice::None));
        presence.nobody(now);
        presence.tick(presence.deadline().unwrap());
        assert_eq!((presence.hand(), presence.voice()), (false, Voice::Open));
    }

    #[test]
    fn participant_who_comes_back_in_time_was_never_away() {
        let now = Instant::now();
        let mut presence = Presence::default();
        presence.update(&streams(2), now);
        presence.nobody(now);
        presence.update(&streams(1), now + LINGER / 2);
        presence.tick(now + LINGER * 2);
        assert!(presence.is_here());
    }
}
