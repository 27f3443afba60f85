//! How long to wait before a listener that died is started again, and when to stop hiding that it can't work.
//!
//! The wait begins at 100 ms and doubles with each death up to 30 s; ten seconds of health make it forget. Meanwhile
//! the socket stays open, so nobody is refused. A listener is given up, its port closed so that browsers are told
//! instead of hanging, when
//!
//! - it left with exit code 78: until the configuration is read again, or
//! - it died five times in a row before it was ready, or the wait has reached 30 s: tried again every 30 s.

use std::time::Duration;

use palabre_host::backoff::BackOff;

/// The first wait.
const SHORTEST: Duration = Duration::from_millis(100);

/// The longest wait, and the pace at which one that was given up is tried again.
const LONGEST: Duration = Duration::from_secs(30);

/// How long a listener must have been ready for its earlier deaths to be forgotten.
const HEALTHY: Duration = Duration::from_secs(10);

/// How many deaths before READY=1, in a row, are enough.
const DEATHS_BEFORE_READY: u32 = 5;

/// How a listener's life ended, as far as it matters here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// It ran, and had been ready for this long, if ever.
    Died {
        /// Since READY=1.
        ready_for: Option<Duration>,
    },
    /// It says that its configuration must be edited first (exit code 78).
    BadConfiguration,
    /// Its port belongs to another process. There is no socket to close.
    PortTaken,
}

/// What to do about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Start it again after this long; the socket stays.
    Retry(Duration),
    /// Close the socket, and try again after this long; not before somebody asks, if `None`.
    GiveUp(Option<Duration>),
}

/// The memory of one listener's deaths.
#[derive(Debug)]
pub struct RestartPolicy {
    delay: BackOff,
    deaths_before_ready: u32,
}

impl Default for RestartPolicy {
    fn default() -> Self {
        Self { delay: BackOff::new(SHORTEST, LONGEST), deaths_before_ready: 0 }
    }
}

impl RestartPolicy {
    /// A listener's life has ended.
    pub fn ended(&mut self, end: End) -> Verdict {
        match end {
            End::BadConfiguration => return Verdict::GiveUp(None),
            End::Died { ready_for: None } => self.deaths_before_ready += 1,
            End::Died { ready_for: Some(time) } if time >= HEALTHY => self.forget(),
            End::Died { ready_for: Some(_) } | End::PortTaken => self.deaths_before_ready = 0,
        }
        let wait = self.delay.delay();
        if wait == LONGEST || self.deaths_before_ready >= DEATHS_BEFORE_READY {
            Verdict::GiveUp(Some(LONGEST))
        } else {
            Verdict::Retry(wait)
        }
    }

    /// Somebody says that it is worth another try.
    pub fn forget(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NEVER_READY: End = End::Died { ready_for: None };
    const BRIEFLY_READY: End = End::Died { ready_for: Some(Duration::from_secs(1)) };

    fn ms(ms: u64) -> Verdict {
        Verdict::Retry(Duration::from_millis(ms))
    }

    #[test]
    fn the_wait_doubles_until_the_listener_is_given_up_at_thirty_seconds() {
        let mut backoff = RestartPolicy::default();
        let verdicts: Vec<Verdict> = (0..9).map(|_| backoff.ended(BRIEFLY_READY)).collect();
        assert_eq!(verdicts[..8], [100, 200, 400, 800, 1600, 3200, 6400, 12800].map(ms));
        assert_eq!(backoff.ended(BRIEFLY_READY), Verdict::GiveUp(Some(LONGEST)));
    }

    #[test]
    fn five_deaths_in_a_row_before_ready_are_enough() {
        let mut backoff = RestartPolicy::default();
        let verdicts: Vec<Verdict> = (0..6).map(|_| backoff.ended(NEVER_READY)).collect();
        assert_eq!(verdicts[..4], [100, 200, 400, 800].map(ms));
        assert_eq!(verdicts[4..], [Verdict::GiveUp(Some(LONGEST)); 2]);
    }

    #[test]
    fn a_death_after_ready_breaks_the_row() {
        let mut backoff = RestartPolicy::default();
        for _ in 0..4 {
            backoff.ended(NEVER_READY);
        }
        assert_eq!(backoff.ended(BRIEFLY_READY), ms(1600));
        assert_eq!(backoff.ended(NEVER_READY), ms(3200));
    }

    #[test]
    fn ten_seconds_of_health_are_forgiveness() {
        let mut backoff = RestartPolicy::default();
        for _ in 0..5 {
            backoff.ended(BRIEFLY_READY);
        }
        assert_eq!(backoff.ended(End::Died { ready_for: Some(HEALTHY) }), ms(100));
    }

    #[test]
    fn a_bad_configuration_waits_for_somebody_to_edit_it() {
        assert_eq!(RestartPolicy::default().ended(End::BadConfiguration), Verdict::GiveUp(None));
    }

    #[test]
    fn a_port_that_is_taken_is_tried_for_longer_than_five_times() {
        let mut backoff = RestartPolicy::default();
        let verdicts: Vec<Verdict> = (0..8).map(|_| backoff.ended(End::PortTaken)).collect();
        assert!(verdicts.iter().all(|verdict| matches!(verdict, Verdict::Retry(_))));
    }
}
