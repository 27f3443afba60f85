//! The states of a participant's listener, as a table. What is not in the table can't happen, and is logged if it does.
//!
//! A process that is replaced by another one changes nothing here: the seat serves all the time.

use palabre_config::control::State;

/// What can happen to a listener.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Happening {
    /// The process serves.
    BecameReady,
    /// Somebody listens.
    SomebodyCame,
    /// Nobody listens any more.
    EverybodyLeft,
    /// The process is gone, or could not be started, and will be started again.
    Died,
    /// The process is gone, and the one that was to replace it is not ready yet.
    DiedBeforeItsSuccessor,
    /// The process is gone, or could not be started, and its port is closed.
    WasGivenUp,
    /// The wait is over.
    RetryIsDue,
    /// Somebody wants it to be tried now, or to serve again after it was stopped.
    StartAsked,
    /// All its connections are to end, and another process is to serve.
    KickAsked,
    /// Somebody wants it to end, or its file is gone, or the supervisor ends.
    StopAsked,
    /// The last process has left after that.
    AllLeft,
}

/// The state after `happening`, or `None` where it has no business in this state.
pub fn after(state: State, happening: Happening) -> Option<State> {
    use Happening::{
        AllLeft, BecameReady, Died, DiedBeforeItsSuccessor, EverybodyLeft, KickAsked, RetryIsDue, SomebodyCame,
        StartAsked, StopAsked, WasGivenUp,
    };
    use State::{BackingOff, Draining, Failed, Ready, Serving, Starting, Stopped};
    let next = match (state, happening) {
        (Starting, BecameReady) => Ready,
        (Ready, SomebodyCame) => Serving,
        (Serving, EverybodyLeft) => Ready,
        (Starting | Ready | Serving, Died) => BackingOff,
        (Starting | Ready | Serving, WasGivenUp) => Failed,
        (Ready | Serving, DiedBeforeItsSuccessor | KickAsked) => Starting,
        (BackingOff | Failed, RetryIsDue | StartAsked) | (Stopped, StartAsked) => Starting,
        (Starting | Ready | Serving | BackingOff | Failed, StopAsked) => Draining,
        (Draining, AllLeft) => Stopped,
        _ => return None,
    };
    Some(next)
}

#[cfg(test)]
mod tests {
    use super::*;
    use Happening::*;
    use State::{BackingOff, Draining, Failed, Ready, Serving, Starting, Stopped};

    const STATES: [State; 7] = [Starting, Ready, Serving, Draining, BackingOff, Failed, Stopped];
    const HAPPENINGS: [Happening; 11] = [
        BecameReady,
        SomebodyCame,
        EverybodyLeft,
        Died,
        DiedBeforeItsSuccessor,
        WasGivenUp,
        RetryIsDue,
        StartAsked,
        KickAsked,
        StopAsked,
        AllLeft,
    ];

    #[test]
    fn every_state_can_be_reached_and_left() {
        for state in STATES {
            assert!(HAPPENINGS.iter().any(|happening| after(state, *happening).is_some()), "{state}");
            let reached = STATES.iter().any(|from| HAPPENINGS.iter().any(|how| after(*from, *how) == Some(state)));
            assert!(reached, "{state}");
        }
    }

    #[test]
    fn every_happening_has_its_business_somewhere() {
        for happening in HAPPENINGS {
            assert!(STATES.iter().any(|state| after(*state, happening).is_some()), "{happening:?}");
        }
    }

    #[test]
    fn a_listener_can_be_stopped_in_any_state_but_those_after_that() {
        for state in STATES {
            let expected = if matches!(state, Draining | Stopped) { None } else { Some(Draining) };
            assert_eq!(after(state, StopAsked), expected, "{state}");
        }
    }

    #[test]
    fn who_was_stopped_comes_back_when_somebody_asks_and_by_nothing_else() {
        for happening in HAPPENINGS {
            let expected = (happening == StartAsked).then_some(Starting);
            assert_eq!(after(Stopped, happening), expected, "{happening:?}");
        }
    }

    #[test]
    fn no_happening_leaves_a_state_as_it_is() {
        for state in STATES {
            assert!(HAPPENINGS.iter().all(|happening| after(state, *happening) != Some(state)));
        }
    }
}
