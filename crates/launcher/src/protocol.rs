//! The protocol between the supervisor and palabre-launcher: JSON messages on a connection of the type SOCK_SEQPACKET, which keeps messages
//! separate.
//!
//! The supervisor sends an [`Order`], and the launcher sends a [`Report`]. An order to start a listener carries the descriptors of
//! [`Given`](crate::Given).

use palabre_config::Entrance;
use serde::{Deserialize, Serialize};

/// Maximum length of a message, in bytes.
pub const MAX_MESSAGE_BYTES: usize = 4096;

/// An order of the supervisor.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Order {
    /// Start a listener. Answered by [`Report::Started`] or [`Report::NotStarted`].
    Start {
        /// Number of the order, which the answer repeats.
        number: u64,
        /// Name of the participant.
        name: String,
        /// The recorded use of the participant's one-time link.
        entered: Option<Entrance>,
    },
    /// Send a signal to a listener. Ignored if the process isn't a listener of this launcher, or has ended.
    Signal {
        /// Process id of the listener.
        pid: u32,
        /// The signal.
        signal: Signal,
    },
}

/// A signal to a listener.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Signal {
    /// SIGTERM: end.
    Terminate,
    /// SIGKILL.
    Kill,
    /// SIGHUP: ask palabre-signer for the certificate again.
    HangUp,
    /// SIGUSR1: hand the participant over to the listener's next process.
    HandOver,
    /// SIGUSR2: tell the pages that the participant was removed, and end.
    Dismiss,
}

/// A report of the launcher.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Report {
    /// The listener was started.
    Started {
        /// Number of the order.
        number: u64,
        /// Process id of the listener.
        pid: u32,
    },
    /// The listener could not be started.
    NotStarted {
        /// Number of the order.
        number: u64,
        /// The error number of the system call that failed, if there is one.
        errno: Option<i32>,
        /// The cause, in words.
        why: String,
    },
    /// A listener has ended.
    Ended {
        /// Process id of the listener.
        pid: u32,
        /// The status as wait(2) returns it.
        status: i32,
    },
}

/// Encodes an [`Order`] or a [`Report`].
#[must_use]
pub fn encode(message: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(message).unwrap_or_default()
}

/// Parses an [`Order`] or a [`Report`].
///
/// # Errors
/// The bytes aren't a message of this release. Contains the cause.
pub fn parse<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<T, serde_json::Error> {
    serde_json::from_slice(bytes)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use palabre_config::Key;

    #[test]
    fn messages_are_json_and_short() {
        let hash = Key::generate().unwrap().hash();
        let entered = Some(Entrance { link: hash, key: hash });
        let start = Order::Start { number: u64::MAX, name: "a".repeat(32), entered };
        assert_eq!(parse::<Order>(&encode(&start)).unwrap(), start);
        assert!(encode(&start).len() < MAX_MESSAGE_BYTES);
        let signal = Order::Signal { pid: 7, signal: Signal::HandOver };
        assert_eq!(encode(&signal), br#"{"signal":{"pid":7,"signal":"hand-over"}}"#);
        let ended = Report::Ended { pid: 7, status: 9 };
        assert_eq!(encode(&ended), br#"{"ended":{"pid":7,"status":9}}"#);
        assert!(parse::<Report>(b"{}").is_err());
    }
}
