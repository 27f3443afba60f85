//! A client's request about one service, and the client that waits for the result.

use std::fmt;
use std::sync::mpsc::Sender;

use palabre_config::control::{Response, State};
use palabre_room::Name;

/// What a client can request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Action {
    /// Replace the process by a new process without ending a connection.
    Restart,
    /// Start a process if none runs.
    Start,
    /// End the process. No process is started until [`Self::Start`] is requested.
    Stop,
    /// Kill the process, which ends all connections, and start a new process at once.
    Kick,
}

impl Action {
    /// Returns the reason if the action must be refused in this state. `pending` is the action that another client waits for.
    pub(crate) fn objection(self, state: State, pending: Option<Self>) -> Option<&'static str> {
        match (self, state, pending) {
            (Self::Stop, State::Draining, _) | (_, State::Draining, Some(Self::Stop)) => {
                Some("the participant's listener is being stopped already")
            }
            (_, State::Draining, _) => Some("the participant's listener is being stopped; try again in a moment"),
            (Self::Restart | Self::Kick, State::Stopped, _) => {
                Some("the participant's listener is stopped; 'palabre start' starts the listener")
            }
            (Self::Restart | Self::Start, _, Some(_)) => Some("the participant's listener is being started already"),
            _ => None,
        }
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Restart => "restart",
            Self::Start => "start",
            Self::Stop => "stop",
            Self::Kick => "kick",
        })
    }
}

/// A request that is not yet answered.
#[derive(Debug)]
pub(crate) struct Pending {
    pub(crate) action: Action,
    /// Passes the answer to the thread that serves the client.
    pub(crate) answer: Sender<Response>,
}

impl Pending {
    /// Answers that the action is done.
    pub(crate) fn done(self) {
        self.reply(Response::Ok);
    }

    /// Answers that the action is refused.
    pub(crate) fn refused(self, name: &Name, cause: &str) {
        let why = format!("unable to {} '{name}': {cause}", self.action);
        self.reply(Response::Refused { why });
    }

    /// Sends the answer to the client's thread. Does nothing if the client has disconnected.
    fn reply(self, response: Response) {
        let _ = self.answer.send(response);
    }
}
