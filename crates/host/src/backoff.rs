//! Exponential back-off: the delay between attempts doubles with each failure.

use std::time::Duration;

/// The delay before the next attempt.
#[derive(Clone, Debug)]
pub struct BackOff {
    first: Duration,
    longest: Duration,
    next: Duration,
}

impl BackOff {
    /// Returns a back-off whose delays begin at `first` and double up to `longest`.
    #[must_use]
    pub const fn new(first: Duration, longest: Duration) -> Self {
        Self { first, longest, next: first }
    }

    /// Returns the delay before the next attempt, after a failure. Doubles the following delay, up to the maximum.
    pub fn delay(&mut self) -> Duration {
        let delay = self.next;
        self.next = (delay * 2).min(self.longest);
        delay
    }

    /// Sets the next delay to the first delay, after a success.
    pub fn reset(&mut self) {
        self.next = self.first;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_double_up_to_the_longest_until_reset() {
        let ms = Duration::from_millis;
        let mut backoff = BackOff::new(ms(100), ms(500));
        assert_eq!([(); 5].map(|()| backoff.delay()), [100, 200, 400, 500, 500].map(ms));
        backoff.reset();
        assert_eq!(backoff.delay(), ms(100));
    }
}
