//! Senders of text messages: participants of this machine, and participants of the same room on other machines.

use std::fmt;
use std::str::FromStr;

use crate::{Name, machine_name};

/// The sender of a text message. Written as the login name, or as `NAME@MACHINE`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Sender {
    /// Login name of the sender.
    pub name: Name,
    /// Machine on which the sender takes part. `None`: this machine.
    pub machine: Option<Name>,
}

impl From<Name> for Sender {
    fn from(name: Name) -> Self {
        Self { name, machine: None }
    }
}

impl fmt::Display for Sender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.machine {
            Some(machine) => write!(f, "{}@{machine}", self.name),
            None => self.name.fmt(f),
        }
    }
}

impl FromStr for Sender {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (name, machine) = match text.split_once('@') {
            Some((name, machine)) => (name, Some(machine_name(machine).ok_or(())?)),
            None => (text, None),
        };
        Ok(Self { name: name.parse().map_err(|_| ())?, machine })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_written_sender_is_parsed() {
        for text in ["alice", "alice@paris", "a@0"] {
            assert_eq!(text.parse::<Sender>().unwrap().to_string(), text);
        }
        let longest = format!("{}@{}", "a".repeat(32), "b".repeat(27));
        assert_eq!(longest.parse::<Sender>().unwrap().to_string(), longest);
    }

    #[test]
    fn invalid_senders_are_refused() {
        for bad in ["", "@", "alice@", "@paris", "alice@Paris", "alice@paris@lyon", &format!("a@{}", "b".repeat(28))] {
            assert!(bad.parse::<Sender>().is_err(), "{bad:?}");
        }
    }
}
