//! The planned replacement of this process by the next one, which the supervisor has already started on the same socket.
//!
//! The two processes share only the listening socket, the pipe `ear` with its lock, the socket `inbox` and the files `presence` and `ear-end`. A page
//! needs three round trips for a new stream. So the previous process sends sound until the next process has a stream and requests the
//! lock of the pipe ([`palabre_room::Successor`]). The page plays the next process's chunks after the previous process's last chunk.
//!
//! Phases of the previous process ([`Phase`]):
//!
//! | phase | event | next phase | action |
//! | --- | --- | --- | --- |
//! | serving | SIGUSR1 | handing over, for [`TIMEOUT`] | no connection is kept for another request; each stream gets `moved`, and sound as before |
//! | serving | SIGUSR1, and the source is a file | left | as for SIGTERM: both processes can read a file |
//! | serving | SIGUSR2 | left | as for SIGTERM, but the last record of each stream says that the participant was removed |
//! | serving | SIGTERM, SIGINT | left | no connection is kept for another request; microphones end |
//! | handing over | the next process requests the pipe | left | |
//! | handing over | the last stream ends | left | |
//! | handing over | the timeout is over | left | microphones end |
//! | any | enters "left" | | the incomplete chunk and waiting messages are sent, each stream gets the last `moved`, `ear-end` is written, the pipe is closed |
//! | handing over, left | a new stream | | the stream gets the last `moved` at once |
//! | handing over, left | SIGTERM, SIGINT | | the process exits |
//!
//! Actions of the next process:
//!
//! | event | action |
//! | --- | --- |
//! | the first stream begins | binds `inbox` (new messages wait in it), reads `presence`, requests the pipe if it is locked |
//! | the pipe is unlocked | reads `presence` and `ear-end`, reads `inbox`, continues the sound without a gap |
//! | the pipe is still locked after [`TAKE_TIMEOUT`](crate::source::TAKE_TIMEOUT) | sends silence, reads `inbox`, keeps trying |

mod presence;
mod shown;

use palabre_host::clock::boottime_ms;
use palabre_room::{EarEnd, Inbox, ParticipantDir, Presence};
use presence::PagePresence;
pub(crate) use shown::Shown;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Maximum time for which streams and microphones of this process continue after SIGUSR1. It is enough for three round trips on a slow
/// line and a TLS handshake on a slow machine.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(1);
/// Maximum time between the end of the microphones and the exit, when this listener is stopped or replaced. The listener exits earlier if no
/// request is in progress.
const EXIT_TIMEOUT: Duration = Duration::from_millis(1400);

/// Maximum age in ms of the samples that the previous process has left. This process ignores older samples.
const SOUND_MS: u64 = 2000;

/// The reason why this process stops serving.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reason {
    /// SIGTERM or SIGINT: there is no next process, or it starts later.
    Stop,
    /// SIGUSR1: another process serves the same socket.
    Replacement,
    /// SIGUSR2: the participant was removed. No process follows.
    Removal,
}

/// The phase of this process in its replacement by the next process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    Serving,
    HandingOver {
        until: Instant,
    },
    Left {
        /// The time when microphones end.
        until: Instant,
    },
}

/// The facts on which [`Phase::advance`] decides whether this process leaves.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Streams {
    pub(crate) are_open: bool,
    /// The next process has requested the lock of the pipe `ear`.
    pub(crate) pipe_is_requested: bool,
}

impl Phase {
    fn begin(self, reason: Reason, is_file: bool, now: Instant) -> Self {
        match (self, reason) {
            (Self::Serving, Reason::Replacement) if !is_file => Self::HandingOver { until: now + TIMEOUT },
            (Self::Serving, _) => Self::Left { until: now },
            (phase, _) => phase,
        }
    }

    fn advance(self, streams: Streams, now: Instant) -> Self {
        match self {
            Self::HandingOver { until } if now >= until || streams.pipe_is_requested || !streams.are_open => {
                Self::Left { until }
            }
            phase => phase,
        }
    }
}

/// The phase of the replacement, and the files besides the pipe that the next process takes over: `inbox` and `presence`.
#[derive(Debug)]
pub(crate) struct Handover {
    /// The participant's directory; `None` if the source is a file.
    participant: Option<ParticipantDir>,
    phase: Mutex<Phase>,
    is_removed: AtomicBool,
    presence: PagePresence,
}

impl Handover {
    pub(crate) fn new(participant: Option<ParticipantDir>, now: Instant) -> Self {
        let presence = PagePresence::new(participant.clone(), now);
        Self { participant, phase: Mutex::new(Phase::Serving), is_removed: AtomicBool::new(false), presence }
    }

    /// Begins the replacement and returns the new phase. The caller must close idle connections and notify the streams.
    pub(crate) fn begin(&self, reason: Reason, now: Instant) -> Phase {
        let mut phase = self.lock();
        self.is_removed.fetch_or(reason == Reason::Removal, Ordering::Relaxed);
        *phase = phase.begin(reason, self.participant.is_none(), now);
        *phase
    }

    pub(crate) fn advance(&self, streams: Streams, now: Instant) -> Phase {
        let mut phase = self.lock();
        *phase = phase.advance(streams, now);
        *phase
    }

    pub(crate) fn phase(&self) -> Phase {
        *self.lock()
    }

    /// Returns whether this process serves new streams and keeps connections for another request.
    pub(crate) fn is_serving(&self) -> bool {
        self.phase() == Phase::Serving
    }

    /// Returns whether the participant was removed.
    pub(crate) fn is_removed(&self) -> bool {
        self.is_removed.load(Ordering::Relaxed)
    }

    /// Returns whether microphones must end now.
    pub(crate) fn ends_microphones(&self, now: Instant) -> bool {
        match self.phase() {
            Phase::Serving => false,
            Phase::HandingOver { until } | Phase::Left { until } => now >= until,
        }
    }

    /// Returns the time when this process exits even if requests are still in progress.
    pub(crate) fn exit_deadline(&self, now: Instant) -> Instant {
        match self.phase() {
            Phase::Serving => now + EXIT_TIMEOUT,
            Phase::HandingOver { until } | Phase::Left { until } => until + EXIT_TIMEOUT,
        }
    }

    /// Binds the socket `inbox`. From now on messages arrive at this process instead of the previous process.
    pub(crate) fn take_inbox(&self) -> Option<Inbox> {
        let inbox = Inbox::bind(self.participant.as_ref()?);
        inbox.inspect_err(|error| log::warn!("{error}; this participant's page gets no text messages")).ok()
    }

    /// Notes that a stream was opened while no other stream was open.
    pub(crate) fn streams_began(&self, now: Instant) {
        self.presence.streams_began(now);
    }

    /// Notes that a stream has ended and that no stream is open now.
    pub(crate) fn streams_ended(&self, now: Instant) {
        self.presence.streams_ended(now, self.is_serving());
    }

    /// Leaves the last samples of the present sound to the next process.
    pub(crate) fn leave_sound(&self, samples: Vec<i16>) {
        let Some(participant) = self.participant.as_ref().filter(|_| !samples.is_empty()) else { return };
        if let Err(error) = participant.write_ear_end(&EarEnd { at_ms: boottime_ms(), samples }) {
            log::warn!(
                "{error}; pages that receive Opus may play a click when the next process continues their streams"
            );
        }
    }

    /// Returns the samples that the previous process has left, if it has just left. They are removed.
    pub(crate) fn take_sound(&self) -> Option<Vec<i16>> {
        match self.participant.as_ref()?.take_ear_end() {
            Ok(end) => end.filter(|end| boottime_ms().saturating_sub(end.at_ms) < SOUND_MS).map(|end| end.samples),
            Err(error) => {
                log::warn!(
                    "{error}; pages that receive Opus may play a click when the next process continues their streams"
                );
                None
            }
        }
    }

    /// Notes that the previous process has closed the pipe and no longer changes `presence`.
    pub(crate) fn pipe_taken(&self) {
        self.presence.inherit();
    }

    /// Stores the raised hand and microphone state that the page with this ID has sent. `now` is the time of the request.
    pub(crate) fn show(&self, shown: Shown, page: Option<&str>, now: Instant) {
        self.presence.show(shown, page, now);
    }

    /// Returns whether `shown` changes the participant's presence.
    pub(crate) fn is_news(&self, shown: Shown) -> bool {
        self.presence.is_news(shown)
    }

    /// Lowers the hand if the page that has raised it has had no stream for a time, and another page has one. `pages` are the page IDs of the open
    /// streams. Returns the time at which to call this function again.
    pub(crate) fn lower_forgotten_hand(&self, pages: &[Option<String>], now: Instant) -> Option<Instant> {
        self.presence.lower_forgotten_hand(pages, now)
    }

    /// Returns the presence of the participant; the default while no stream is open.
    pub(crate) fn presence(&self) -> Presence {
        self.presence.get()
    }

    fn lock(&self) -> MutexGuard<'_, Phase> {
        self.phase.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OPEN: Streams = Streams { are_open: true, pipe_is_requested: false };

    #[test]
    fn handover_ends_with_the_request_the_last_stream_or_the_timeout() {
        let now = Instant::now();
        let until = now + TIMEOUT;
        let phase = Phase::Serving.begin(Reason::Replacement, false, now);
        assert_eq!(phase, Phase::HandingOver { until });
        let just_before = until - Duration::from_millis(1);
        assert_eq!(phase.advance(OPEN, just_before), phase);
        assert_eq!(phase.advance(OPEN, until), Phase::Left { until });
        for streams in [Streams { are_open: false, ..OPEN }, Streams { pipe_is_requested: true, ..OPEN }] {
            assert_eq!(phase.advance(streams, now), Phase::Left { until });
        }
    }

    #[test]
    fn stop_and_replacement_of_a_file_end_streams_at_once() {
        let now = Instant::now();
        let left = Phase::Left { until: now };
        assert_eq!(Phase::Serving.begin(Reason::Stop, false, now), left);
        assert_eq!(Phase::Serving.begin(Reason::Replacement, true, now), left);
        assert_eq!(left.begin(Reason::Replacement, false, now), left, "a second signal changes nothing");
    }

    #[test]
    fn serving_process_is_not_ended_by_its_streams() {
        let streams = Streams { are_open: false, pipe_is_requested: true };
        assert_eq!(Phase::Serving.advance(streams, Instant::now()), Phase::Serving);
    }

    #[test]
    fn microphones_go_on_until_the_timeout_even_if_all_streams_have_left() {
        let (handover, now) = (Handover::new(None, Instant::now()), Instant::now());
        assert!(handover.is_serving() && !handover.ends_microphones(now + TIMEOUT));
        *handover.lock() = Phase::HandingOver { until: now + TIMEOUT };
        handover.advance(Streams { are_open: false, ..OPEN }, now);
        assert!(!handover.is_serving() && !handover.ends_microphones(now));
        assert!(handover.ends_microphones(now + TIMEOUT));
        assert_eq!(handover.exit_deadline(now), now + TIMEOUT + EXIT_TIMEOUT);
    }
}
