//! A limit on warnings: what strangers do to a directory must not fill the log.

use std::time::Duration;

const WINDOW: Duration = Duration::from_secs(10);
const WARNINGS: u32 = 20;

/// Lets through so many warnings in ten seconds, and says how many it held back.
#[derive(Clone, Copy, Debug, Default)]
pub struct Throttle {
    since: Duration,
    passed: u32,
    held_back: u32,
}

impl Throttle {
    /// Logs a warning, or counts it.
    pub fn warn(&mut self, now: Duration, text: std::fmt::Arguments<'_>) {
        let (passes, held_back) = self.count(now);
        if held_back > 0 {
            log::warn!("{held_back} more warnings were not shown");
        }
        if passes {
            log::warn!("{text}");
        }
    }

    /// Whether one more may pass, and how many were held back in the window that has just ended.
    fn count(&mut self, now: Duration) -> (bool, u32) {
        let mut held_back = 0;
        if now.saturating_sub(self.since) >= WINDOW {
            held_back = self.held_back;
            *self = Self { since: now, passed: 0, held_back: 0 };
        }
        let passes = self.passed < WARNINGS;
        if passes {
            self.passed += 1;
        } else {
            self.held_back += 1;
        }
        (passes, held_back)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_counted_instead_of_shown() {
        let mut throttle = Throttle::default();
        let at = Duration::from_secs(100);
        assert_eq!((0..1000).filter(|_| throttle.count(at).0).count(), 20);
        assert_eq!(throttle.count(at + WINDOW), (true, 980));
        assert_eq!(throttle.count(at + WINDOW), (true, 0));
    }
}
