//! The presence of a participant: whether the participant is connected, and what the page shows, as the listener reports it.
//!
//! Presence ends with a delay, so that a participant whose page reconnects after a restart or a network failure remains present.

use std::time::{Duration, Instant};

use palabre_config::control::ListenerReport;
use palabre_room::{Member, MicState, Name};

/// Time without a stream after which a participant counts as away.
const AWAY_DELAY: Duration = Duration::from_secs(3);

/// The presence of one participant.
#[derive(Debug, Default, Hash)]
pub(crate) struct Presence {
    here: bool,
    hand: Option<Instant>,
    voice: MicState,
    weak: bool,
    away_at: Option<Instant>,
}

impl Presence {
    /// Updates the presence from a listener's report.
    pub(crate) fn update(&mut self, report: &ListenerReport, now: Instant) {
        match report.streams {
            0 => self.disconnected(now),
            _ => {
                let hand = report.hand.then(|| self.hand.unwrap_or(now));
                *self = Self { here: true, hand, voice: report.microphone, weak: report.weak, away_at: None };
            }
        }
    }

    /// Notes that the participant has no stream, for example because the listener has ended. The participant is away after [`AWAY_DELAY`].
    pub(crate) fn disconnected(&mut self, now: Instant) {
        if self.here && self.away_at.is_none() {
            self.away_at = Some(now + AWAY_DELAY);
        }
    }

    /// Whether the participant is present.
    pub(crate) fn is_here(&self) -> bool {
        self.here
    }

    /// Returns since when the participant's hand is raised. `None` if no hand is raised, or if the participant is away.
    pub(crate) fn hand_since(&self) -> Option<Instant> {
        self.hand
    }

    /// Returns the state of the participant's microphone.
    pub(crate) fn voice(&self) -> MicState {
        self.voice
    }

    /// Returns whether the participant's page reports a weak connection.
    pub(crate) fn is_weak(&self) -> bool {
        self.weak
    }

    /// Returns the time at which to call [`Self::tick`].
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.away_at
    }

    /// Makes the participant away if [`AWAY_DELAY`] has passed.
    pub(crate) fn tick(&mut self, now: Instant) {
        if self.away_at.is_some_and(|at| at <= now) {
            *self = Self::default();
        }
    }
}

/// Sets the places of the members in the queue of raised hands. `since` returns since when a member's hand is raised.
pub(crate) fn queue_hands(members: &mut [Member], since: impl Fn(&Name) -> Option<Instant>) {
    let mut raised: Vec<_> = members.iter_mut().filter_map(|member| Some((since(&member.name)?, member))).collect();
    raised.sort_by_key(|&(at, _)| at);
    for (place, (_, member)) in (1..).zip(raised) {
        member.hand = place;
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
        presence.update(&ListenerReport { hand: true, microphone: MicState::Muted, ..streams(1) }, now);
        let later = now + Duration::from_secs(1);
        presence.update(&ListenerReport { hand: true, microphone: MicState::Muted, ..streams(1) }, later);
        assert_eq!((presence.hand_since(), presence.voice()), (Some(now), MicState::Muted));
        presence.update(&ListenerReport { weak: true, ..streams(1) }, now);
        assert!(presence.is_weak());
        presence.update(&ListenerReport { microphone: MicState::None, ..streams(1) }, now);
        assert!(!presence.is_weak());
        assert_eq!((presence.hand_since(), presence.voice()), (None, MicState::None));
        presence.disconnected(now);
        presence.tick(presence.deadline().unwrap());
        assert_eq!((presence.hand_since(), presence.voice()), (None, MicState::Open));
    }

    #[test]
    fn participant_who_comes_back_in_time_was_never_away() {
        let now = Instant::now();
        let mut presence = Presence::default();
        presence.update(&streams(2), now);
        presence.disconnected(now);
        presence.update(&streams(1), now + AWAY_DELAY / 2);
        presence.tick(now + AWAY_DELAY * 2);
        assert!(presence.is_here());
    }

    #[test]
    fn hands_are_queued_by_the_time_when_they_were_raised() {
        let now = Instant::now();
        let names: Vec<Name> = ["alice", "bob", "carol"].iter().map(|name| name.parse().unwrap()).collect();
        let mut members: Vec<Member> = names.iter().map(|name| Member::new(name.clone(), "X", true)).collect();
        let raised = [Some(now + Duration::from_secs(2)), None, Some(now)];
        queue_hands(&mut members, |name| raised[names.iter().position(|other| other == name).unwrap()]);
        assert_eq!(members.iter().map(|member| member.hand).collect::<Vec<_>>(), [2, 0, 1]);
    }
}
