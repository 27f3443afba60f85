//! What waits until the signer has read the certificate and its key.

use std::time::{Duration, Instant};

use palabre_config::control::Request;

use crate::event::Client;
use crate::signer::{Sent, Signer};

/// Timeout for the signer to read the files. After it, the supervisor continues with the signer's last report.
const TIMEOUT: Duration = Duration::from_secs(1);

/// What waits.
#[derive(Debug)]
pub(crate) enum Waiter {
    /// A request, the process id of the client, and the client.
    Asked(Request, u32, Client),
    /// The reload that SIGHUP has requested.
    HangUp,
}

/// All that waits, each with the order and the deadline.
#[derive(Debug, Default)]
pub(crate) struct Waiting(Vec<(Waiter, Sent, Instant)>);

impl Waiting {
    /// Adds what waits until the signer has executed the order `sent`.
    pub(crate) fn push(&mut self, waiter: Waiter, sent: Sent, now: Instant) {
        self.0.push((waiter, sent, now + TIMEOUT));
    }

    /// Removes and returns what has waited long enough: the order was executed, or the timeout has passed.
    pub(crate) fn due(&mut self, signer: &Signer, now: Instant) -> Vec<Waiter> {
        let is_due = |(_, sent, until): &mut (Waiter, Sent, Instant)| *until <= now || signer.has_done(*sent);
        self.0.extract_if(.., is_due).map(|(waiter, ..)| waiter).collect()
    }

    /// Removes all that waits, because the supervisor is ending: refuses the requests, and drops a reload that SIGHUP has requested.
    pub(crate) fn end(&mut self) {
        for (waiter, ..) in self.0.drain(..) {
            if let Waiter::Asked(_, _, client) = waiter {
                client.refuse_at_the_end();
            }
        }
    }

    /// Returns the time at which to call [`Self::due`].
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.0.iter().map(|(_, _, until)| *until).min()
    }
}
