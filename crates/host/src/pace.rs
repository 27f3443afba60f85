//! Real-time pacing by absolute deadlines, so that delays don't accumulate.

use std::thread;
use std::time::{Duration, Instant};

/// Maximum delay that is made up for. After a longer delay, such as that of a suspended process, the pace restarts at
/// the current time.
const CATCH_UP_MAX: Duration = Duration::from_millis(200);

/// A periodic deadline for work in real time.
#[derive(Debug)]
pub struct Pace {
    period: Duration,
    next: Instant,
}

impl Pace {
    /// Starts a pace whose first deadline is now.
    #[must_use]
    pub fn new(period: Duration) -> Self {
        Self { period, next: Instant::now() }
    }

    /// Sets the next deadline to now.
    pub fn restart(&mut self) {
        self.next = Instant::now();
    }

    /// Sleeps until one period after the previous deadline.
    pub fn wait(&mut self) {
        self.advance(Instant::now());
        thread::sleep(self.next.saturating_duration_since(Instant::now()));
    }

    fn advance(&mut self, now: Instant) {
        self.next += self.period;
        if now.saturating_duration_since(self.next) > CATCH_UP_MAX {
            self.next = now;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PERIOD: Duration = Duration::from_millis(20);

    #[test]
    fn late_frame_does_not_delay_the_next_one() {
        let mut pace = Pace::new(PERIOD);
        let start = pace.next;
        pace.advance(start + Duration::from_millis(35));
        pace.advance(start + Duration::from_millis(40));
        assert_eq!(pace.next - start, Duration::from_millis(40));
    }

    #[test]
    fn pace_restarts_after_a_long_stop() {
        let mut pace = Pace::new(PERIOD);
        let late = pace.next + Duration::from_secs(5);
        pace.advance(late);
        assert_eq!(pace.next, late);
    }
}
