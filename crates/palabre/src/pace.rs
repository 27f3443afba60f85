//! The pace of real time: a frame every 20 ms by absolute deadlines, so that lateness never adds up.

use std::thread;
use std::time::{Duration, Instant};

use palabre_room::FRAME_MS;

/// Who is later than this (a suspended process) begins anew instead of hurrying.
const TOO_LATE: Duration = Duration::from_millis(200);

/// A clock that ticks once per frame.
pub struct Pace {
    next: Instant,
}

impl Pace {
    /// The first frame is due now, the next one 20 ms later.
    #[must_use]
    pub fn begin() -> Self {
        Self { next: Instant::now() }
    }

    /// Sleeps until the next frame is due.
    pub fn wait_for_next_frame(&mut self) {
        self.advance(Instant::now());
        thread::sleep(self.next.saturating_duration_since(Instant::now()));
    }

    fn advance(&mut self, now: Instant) {
        self.next += Duration::from_millis(FRAME_MS);
        if now.saturating_duration_since(self.next) > TOO_LATE {
            self.next = now;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_late_frame_does_not_delay_the_next_one() {
        let mut pace = Pace::begin();
        let began = pace.next;
        pace.advance(began + Duration::from_millis(35));
        pace.advance(began + Duration::from_millis(40));
        assert_eq!(pace.next - began, Duration::from_millis(40));
    }

    #[test]
    fn after_a_long_stop_nothing_is_made_up_for() {
        let mut pace = Pace::begin();
        let late = pace.next + Duration::from_secs(5);
        pace.advance(late);
        assert_eq!(pace.next, late);
    }
}
