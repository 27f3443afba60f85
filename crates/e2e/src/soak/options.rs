//! The options of a soak test.

use std::path::PathBuf;
use std::time::Duration;

/// Options of a soak test.
#[derive(Clone, Debug)]
pub struct Options {
    /// Length of the measurement.
    pub time: Duration,
    /// Number of participants of the swarm. Guests are added.
    pub participants: usize,
    /// Number of participants who talk.
    pub talkers: usize,
    /// Interval between two samples of the processes.
    pub interval: Duration,
    /// Interval between two restarts of a listener.
    pub restart_every: Duration,
    /// Interval between two renewals of the certificate.
    pub renew_every: Duration,
    /// Directory for the results.
    pub out: PathBuf,
}
