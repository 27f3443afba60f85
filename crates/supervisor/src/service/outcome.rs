//! The outcome of a replacement, and of the renewal of the certificate.

use std::time::{Duration, Instant};

use palabre_config::control::ListenerReport;

/// Timeout for a listener to report that it has read the certificate again.
const RENEWAL_TIMEOUT: Duration = Duration::from_secs(5);

/// A successor that could not be started.
#[derive(Debug)]
pub(super) struct Refusal {
    /// Number of the configuration that the successor should have had.
    pub(super) generation: u64,
    pub(super) why: String,
}

/// A listener that was told to read the certificate again.
#[derive(Debug, Default)]
pub(super) struct Renewal {
    /// While the listener has not reported the result: its number of reads before, and the deadline.
    waiting: Option<(u64, Instant)>,
    pub(super) has_timed_out: bool,
}

impl Renewal {
    /// Waits for a report with more reads than in `last`, the listener's last report.
    pub(super) fn begin(&mut self, last: Option<&ListenerReport>, now: Instant) {
        // A listener that has sent no report has read the certificate once, when it started. A listener of an earlier release reports 0 reads: its
        // result is not awaited.
        let before = last.map_or(1, |report| report.certificate_reads);
        if before == 0 {
            return;
        }
        *self = Self { waiting: Some((before, now + RENEWAL_TIMEOUT)), has_timed_out: false };
    }

    pub(super) fn update(&mut self, report: &ListenerReport) {
        if self.waiting.is_none_or(|(before, _)| report.certificate_reads > before) {
            *self = Self::default();
        }
    }

    pub(super) fn tick(&mut self, now: Instant) {
        if self.deadline().is_some_and(|at| at <= now) {
            *self = Self { waiting: None, has_timed_out: true };
        }
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        self.waiting.map(|(_, at)| at)
    }
}
