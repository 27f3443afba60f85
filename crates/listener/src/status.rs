//! Controls when the main thread sends reports to the supervisor.
//!
//! Other threads call [`Waker::wake`](crate::waker::Waker::wake) to wake the main thread, which creates the report and sends it. A change of state is reported
//! after at most half a second. A change of counters alone is reported after at most ten seconds.

use std::time::{Duration, Instant};

use palabre_config::control::{ListenerReport, Speaking};

/// Minimum interval between two reports.
const STATE_INTERVAL: Duration = Duration::from_millis(500);
/// Minimum interval between two reports that differ only in their counters.
const COUNTERS_INTERVAL: Duration = Duration::from_secs(10);

/// The last report and the time when it was sent.
#[derive(Debug, Default)]
pub struct LastReport {
    sent: Option<(ListenerReport, Instant)>,
}

impl LastReport {
    /// Calls `send` if `report` differs from the last report and the last report is old enough. Returns the time at which to call this
    /// function again, or `None` if no call is needed before the next change.
    pub fn update(
        &mut self,
        report: ListenerReport,
        now: Instant,
        send: impl FnOnce(&ListenerReport),
    ) -> Option<Instant> {
        if let Some((last, at)) = &self.sent {
            let is_same_state = ListenerReport { traffic: last.traffic, ..report.clone() } == *last;
            let interval = match is_same_state {
                true if report.streams == 0 && report.speaking == Speaking::No => return None,
                true if report.traffic == last.traffic => return Some(now + COUNTERS_INTERVAL),
                true => COUNTERS_INTERVAL,
                false => STATE_INTERVAL,
            };
            let due = *at + interval;
            if now < due {
                return Some(due);
            }
        }
        send(&report);
        self.sent = Some((report, now));
        Some(now + COUNTERS_INTERVAL)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use palabre_config::control::Traffic;

    fn report(streams: u32, sent: u64) -> ListenerReport {
        ListenerReport { streams, traffic: Traffic { sent, ..Traffic::default() }, ..ListenerReport::default() }
    }

    #[test]
    fn same_report_is_not_sent_twice_and_changes_wait_for_their_interval() {
        let (mut last, start) = (LastReport::default(), Instant::now());
        let mut sent = Vec::new();
        let mut update = |streams: u32, bytes: u64, after: Duration| {
            last.update(report(streams, bytes), start + after, |report| sent.push(report.clone()))
                .map(|due| due - start)
        };
        assert_eq!(update(1, 0, Duration::ZERO), Some(COUNTERS_INTERVAL));
        assert_eq!(update(1, 0, Duration::ZERO), Some(COUNTERS_INTERVAL));
        assert_eq!(update(2, 0, STATE_INTERVAL / 2), Some(STATE_INTERVAL));
        assert_eq!(update(2, 5, STATE_INTERVAL), Some(STATE_INTERVAL + COUNTERS_INTERVAL));
        assert_eq!(update(2, 9, STATE_INTERVAL * 2), Some(STATE_INTERVAL + COUNTERS_INTERVAL));
        assert_eq!(update(2, 9, STATE_INTERVAL + COUNTERS_INTERVAL), Some(STATE_INTERVAL + COUNTERS_INTERVAL * 2));
        assert_eq!(sent, [report(1, 0), report(2, 5), report(2, 9)]);
    }

    #[test]
    fn nothing_is_due_while_the_participant_is_away() {
        let (mut last, start) = (LastReport::default(), Instant::now());
        assert_eq!(last.update(report(0, 0), start, |_| {}), Some(start + COUNTERS_INTERVAL));
        assert_eq!(last.update(report(0, 9), start + COUNTERS_INTERVAL, |_| panic!("sent")), None);
    }
}
