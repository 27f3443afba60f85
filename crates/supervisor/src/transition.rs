//! The states of a participant's service and their transitions, as a table. A trigger that is not in the table is logged and ignored.
//!
//! A planned replacement of a process doesn't change the state, since the service is available all the time.

use palabre_config::control::State;

/// What changes the state of a service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Trigger {
    /// The process has become ready.
    BecameReady,
    /// The participant has connected.
    Connected,
    /// The participant has disconnected.
    Disconnected,
    /// The process has ended, or could not be started, and will be restarted.
    Died,
    /// The current process has ended before its successor was ready. The successor becomes the current process.
    DiedDuringHandover,
    /// The process has ended, or could not be started. The port was closed; the service is given up.
    GaveUp,
    /// The delay before a restart has passed.
    RetryIsDue,
    /// An operator requests that the service starts now. The service may be stopped, failed or waiting for a retry.
    StartRequested,
    /// All connections must end and a new process must start: an operator's kick, or an expired key.
    KickRequested,
    /// An operator stops the service, or the participant was removed, or the supervisor ends.
    StopRequested,
    /// The last process of a stopped service has ended.
    Drained,
}

/// Returns the state after `trigger`, or `None` if the trigger is not allowed in this state.
pub(crate) fn after(state: State, trigger: Trigger) -> Option<State> {
    use State::{BackingOff, Draining, Failed, Ready, Serving, Starting, Stopped};
    use Trigger::{
        BecameReady, Connected, Died, DiedDuringHandover, Disconnected, Drained, GaveUp, KickRequested, RetryIsDue,
        StartRequested, StopRequested,
    };
    let next = match (state, trigger) {
        (Starting, BecameReady) => Ready,
        (Ready, Connected) => Serving,
        (Serving, Disconnected) => Ready,
        (Starting | Ready | Serving, Died) => BackingOff,
        (Starting | Ready | Serving, GaveUp) => Failed,
        (Ready | Serving, DiedDuringHandover | KickRequested) => Starting,
        (BackingOff | Failed, RetryIsDue | StartRequested) | (Stopped, StartRequested) => Starting,
        (Starting | Ready | Serving | BackingOff | Failed, StopRequested) => Draining,
        (Draining, Drained) => Stopped,
        _ => return None,
    };
    Some(next)
}

#[cfg(test)]
mod tests {
    use super::*;
    use State::{BackingOff, Draining, Failed, Ready, Serving, Starting, Stopped};
    use Trigger::*;

    const STATES: [State; 7] = [Starting, Ready, Serving, Draining, BackingOff, Failed, Stopped];
    const TRIGGERS: [Trigger; 11] = [
        BecameReady,
        Connected,
        Disconnected,
        Died,
        DiedDuringHandover,
        GaveUp,
        RetryIsDue,
        StartRequested,
        KickRequested,
        StopRequested,
        Drained,
    ];

    #[test]
    fn every_state_can_be_reached_and_left() {
        for state in STATES {
            assert!(TRIGGERS.iter().any(|trigger| after(state, *trigger).is_some()), "{state}");
            let reached = STATES.iter().any(|from| TRIGGERS.iter().any(|how| after(*from, *how) == Some(state)));
            assert!(reached, "{state}");
        }
    }

    #[test]
    fn every_trigger_has_a_meaning_in_some_state() {
        for trigger in TRIGGERS {
            assert!(STATES.iter().any(|state| after(*state, trigger).is_some()), "{trigger:?}");
        }
    }

    #[test]
    fn service_can_be_stopped_in_every_state_but_draining_and_stopped() {
        for state in STATES {
            let expected = if matches!(state, Draining | Stopped) { None } else { Some(Draining) };
            assert_eq!(after(state, StopRequested), expected, "{state}");
        }
    }

    #[test]
    fn stopped_service_starts_by_request_only() {
        for trigger in TRIGGERS {
            let expected = (trigger == StartRequested).then_some(Starting);
            assert_eq!(after(Stopped, trigger), expected, "{trigger:?}");
        }
    }

    #[test]
    fn no_trigger_keeps_the_state() {
        for state in STATES {
            assert!(TRIGGERS.iter().all(|trigger| after(state, *trigger) != Some(state)));
        }
    }
}
