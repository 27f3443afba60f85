//! Requests that wait until the signer has read the certificate and its key.

use std::time::{Duration, Instant};

use palabre_config::control::Request;

use crate::event::Client;
use crate::signer::Signer;

/// Timeout for the signer to read the files. After it, the request is performed with the signer's last report.
const TIMEOUT: Duration = Duration::from_secs(1);

/// A request, the process id of the client, and the client.
type Asked = (Request, u32, Client);

/// The requests that wait.
#[derive(Debug, Default)]
pub(crate) struct Waiting(Vec<(Asked, u64, Instant)>);

impl Waiting {
    /// Adds a request that waits until the signer has carried out the order with number `order`.
    pub(crate) fn push(&mut self, request: Request, pid: u32, client: Client, order: u64, now: Instant) {
        self.0.push(((request, pid, client), order, now + TIMEOUT));
    }

    /// Removes and returns the requests whose order was executed or whose timeout has passed.
    pub(crate) fn due(&mut self, signer: &Signer, now: Instant) -> Vec<Asked> {
        let is_due = |(_, order, until): &mut (Asked, u64, Instant)| *until <= now || signer.has_done(*order);
        self.0.extract_if(.., is_due).map(|(asked, ..)| asked).collect()
    }

    /// Returns the time at which to call [`Self::due`].
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.0.iter().map(|(_, _, until)| *until).min()
    }
}
