//! The states of a participant's listener, as a table. What is not in the table can't happen, and is logged if it does.

use palabre_config::control::State;

/// What can happen to a listener.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Happening {
    /// The process serves.
    BecameReady,
    /// The process is gone, or could not be started, and will be started again.
    Died,
    /// The process is gone, or could not be started, and its port is closed.
    WasGivenUp,
    /// The wait is over.
    RetryIsDue,
    /// Somebody wants a new process.
    RestartAsked,
    /// The new process serves, and the old one was told to leave.
    SuccessorReady,
    /// The new process is gone; the old one goes on.
    SuccessorDied,
    /// The participant is removed, or the supervisor ends.
    StopAsked,
}

/// The state after `happening`, or `None` where it has no business in this state.
pub fn after(state: State, happening: Happening) -> Option<State> {
    use Happening::{
        BecameReady, Died, RestartAsked, RetryIsDue, StopAsked, SuccessorDied, SuccessorReady, WasGivenUp,
    };
    use State::{BackingOff, Failed, Ready, Restarting, Starting, Stopping};
    let next = match (state, happening) {
        (Starting, BecameReady) => Ready,
        (Starting | Ready, Died) => BackingOff,
        (Starting | Ready, WasGivenUp) => Failed,
        (Ready, RestartAsked) => Restarting,
        (Restarting, SuccessorReady | SuccessorDied) => Ready,
        // The old process died first: its successor is the one now.
        (Restarting, Died) => Starting,
        (BackingOff | Failed, RetryIsDue | RestartAsked) => Starting,
        (Starting | Ready | Restarting | BackingOff | Failed, StopAsked) => Stopping,
        _ => return None,
    };
    Some(next)
}

#[cfg(test)]
mod tests {
    use super::*;
    use Happening::*;
    use State::{BackingOff, Failed, Ready, Restarting, Starting, Stopping};

    const STATES: [State; 6] = [Starting, Ready, Restarting, BackingOff, Failed, Stopping];
    const HAPPENINGS: [Happening; 8] =
        [BecameReady, Died, WasGivenUp, RetryIsDue, RestartAsked, SuccessorReady, SuccessorDied, StopAsked];

    #[test]
    fn every_state_can_be_reached_and_left_but_stopping() {
        for state in STATES {
            let left = HAPPENINGS.iter().any(|happening| after(state, *happening).is_some());
            assert_eq!(left, state != Stopping, "{state}");
            let reached = STATES.iter().any(|from| HAPPENINGS.iter().any(|how| after(*from, *how) == Some(state)));
            assert!(reached, "{state}");
        }
    }

    #[test]
    fn a_listener_can_be_stopped_in_any_state() {
        assert!(
            STATES.iter().filter(|state| **state != Stopping).all(|state| after(*state, StopAsked) == Some(Stopping))
        );
    }

    #[test]
    fn no_happening_leaves_a_state_as_it_is() {
        for state in STATES {
            assert!(HAPPENINGS.iter().all(|happening| after(state, *happening) != Some(state)));
        }
    }
}
