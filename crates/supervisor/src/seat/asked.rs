//! What somebody asks of one seat, and whoever waits to hear that it is done.

use std::fmt;
use std::sync::mpsc::Sender;

use palabre_config::control::{Response, State};
use palabre_room::Name;

/// What is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verb {
    /// A new process, without losing a word.
    Restart,
    /// A process where there is none.
    Start,
    /// No process, until [`Self::Start`].
    Stop,
    /// No connection: a new process at once.
    Kick,
}

impl Verb {
    /// Why this can't be done now, if it can't. `waits` is what somebody else waits for.
    pub fn objection(self, state: State, waits: Option<Self>) -> Option<&'static str> {
        match (self, state, waits) {
            (Self::Stop, State::Draining, _) | (_, State::Draining, Some(Self::Stop)) => {
                Some("it is being stopped already")
            }
            (_, State::Draining, _) => Some("it is being stopped; try again in a moment"),
            (Self::Restart | Self::Kick, State::Stopped, _) => Some("it is stopped; 'palabre start' starts it"),
            (Self::Restart | Self::Start, _, Some(_)) => Some("it is being started already"),
            _ => None,
        }
    }
}

impl fmt::Display for Verb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Restart => "restart",
            Self::Start => "start",
            Self::Stop => "stop",
            Self::Kick => "kick",
        })
    }
}

/// Somebody who waits.
#[derive(Debug)]
pub struct Waiting {
    /// For what.
    pub verb: Verb,
    /// Where the answer goes.
    pub answer: Sender<Response>,
}

impl Waiting {
    /// It is done.
    pub fn done(self) {
        self.reply(Response::Ok);
    }

    /// It is not done.
    pub fn refused(self, name: &Name, cause: &str) {
        let why = format!("unable to {} '{name}': {cause}", self.verb);
        self.reply(Response::Refused { why });
    }

    /// Whoever asked may have left; that is their business.
    fn reply(self, response: Response) {
        let _ = self.answer.send(response);
    }
}
