//! How often something may happen: so much in a second, and a little more at once. Time is an argument.

use std::time::Instant;

/// A bucket that fills slowly and holds little.
#[derive(Debug)]
pub struct Bucket {
    per_second: f64,
    most: f64,
    holds: f64,
    at: Instant,
}

impl Bucket {
    /// A full one.
    pub fn new(per_second: f64, most: f64, now: Instant) -> Self {
        Self { per_second, most, holds: most, at: now }
    }

    /// Takes one out, if there is one.
    pub fn take(&mut self, now: Instant) -> bool {
        let seconds = now.saturating_duration_since(self.at).as_secs_f64();
        self.holds = (self.holds + seconds * self.per_second).min(self.most);
        self.at = self.at.max(now);
        let has = self.holds >= 1.0;
        if has {
            self.holds -= 1.0;
        }
        has
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_few_at_once_and_then_one_at_a_time() {
        let start = Instant::now();
        let mut bucket = Bucket::new(2.0, 3.0, start);
        let taken = (0..10).filter(|_| bucket.take(start)).count();
        assert_eq!(taken, 3);
        assert!(!bucket.take(start + Duration::from_millis(499)));
        assert!(bucket.take(start + Duration::from_millis(500)));
        assert!(!bucket.take(start + Duration::from_millis(501)));
        let later = start + Duration::from_secs(3600);
        assert_eq!((0..10).filter(|_| bucket.take(later)).count(), 3);
    }
}
