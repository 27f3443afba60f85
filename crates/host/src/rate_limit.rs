//! A rate limit: the maximum number of events in a time. The current time is an argument.

use std::time::Instant;

/// A token bucket: each event takes one token, and tokens come back at a steady rate.
#[derive(Clone, Debug)]
pub struct RateLimit {
    per_second: f64,
    burst: f64,
    tokens: f64,
    updated: Option<Instant>,
}

impl RateLimit {
    /// Returns a limit of `per_second` events a second on average and `burst` events at once.
    #[must_use]
    pub const fn new(per_second: f64, burst: f64) -> Self {
        Self { per_second, burst, tokens: burst, updated: None }
    }

    /// Counts an event at `now` and returns `true`, or returns `false` if the limit is reached.
    pub fn admit(&mut self, now: Instant) -> bool {
        let updated = self.updated.unwrap_or(now);
        let seconds = now.saturating_duration_since(updated).as_secs_f64();
        self.tokens = (self.tokens + seconds * self.per_second).min(self.burst);
        self.updated = Some(updated.max(now));
        let admitted = self.tokens >= 1.0;
        if admitted {
            self.tokens -= 1.0;
        }
        admitted
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn admitted(limit: &mut RateLimit, at: Instant) -> usize {
        (0..10).filter(|_| limit.admit(at)).count()
    }

    #[test]
    fn a_burst_is_admitted_and_then_the_steady_rate() {
        let start = Instant::now();
        let mut limit = RateLimit::new(2.0, 3.0);
        assert_eq!(admitted(&mut limit, start), 3);
        assert!(!limit.admit(start + Duration::from_millis(499)));
        assert!(limit.admit(start + Duration::from_millis(500)));
        assert!(!limit.admit(start + Duration::from_millis(501)));
        assert_eq!(admitted(&mut limit, start + Duration::from_secs(3600)), 3);
    }
}
