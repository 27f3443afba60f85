//! The delay before the restart of a listener that died, and the decision to give a listener up.
//!
//! The delay is 100 ms at first and doubles with each death up to 30 s. It is reset after a listener was ready for ten seconds. The socket
//! stays open during the delay, so that connections wait. A listener is given up, and its port closed so that browsers show an error
//! instead of waiting, if
//!
//! - it exited with code 78 (invalid configuration): it is tried again after the next reload, or
//! - it died five times in a row before it was ready, or the delay has reached 30 s: it is tried again every 30 s.

use std::time::Duration;

use palabre_host::backoff::BackOff;

/// Delay before a listener is restarted after its first death.
const SHORTEST: Duration = Duration::from_millis(100);

/// Maximum delay before a restart. Also the interval between tries after a listener was given up, unless its configuration is invalid.
const LONGEST: Duration = Duration::from_secs(30);

/// Minimum time between READY=1 and a death after which earlier deaths no longer count.
const HEALTHY: Duration = Duration::from_secs(10);

/// Number of consecutive deaths, each before READY=1, after which a listener is given up.
const DEATHS_BEFORE_READY: u32 = 5;

/// Interval between tries while no launcher answers. A launcher that connects causes a try at once.
const LAUNCHER_INTERVAL: Duration = Duration::from_secs(1);

/// How a listener ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// The process ran and died.
    Died {
        /// Time between READY=1 and the death; `None` if the process was never ready.
        ready_for: Option<Duration>,
    },
    /// The listener's configuration is invalid (exit code 78).
    BadConfiguration,
    /// The listener's port cannot be opened, for example because another program uses it. No socket is open.
    PortTaken,
    /// No launcher answers, so no process was started.
    NoLauncher,
}

/// What to do after the end of a listener.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Restart the listener after this delay. If the listening socket is open, it stays open.
    Retry(Duration),
    /// Close the listening socket. Restart the listener after this delay; `None`: only after a reload, or when an operator requests it.
    GiveUp(Option<Duration>),
}

/// The earlier deaths of one listener, from which the next delay follows.
#[derive(Debug)]
pub(crate) struct RestartPolicy {
    delay: BackOff,
    deaths_before_ready: u32,
}

impl Default for RestartPolicy {
    fn default() -> Self {
        Self { delay: BackOff::new(SHORTEST, LONGEST), deaths_before_ready: 0 }
    }
}

impl RestartPolicy {
    /// Returns what to do after a listener process has ended in this way.
    pub(crate) fn ended(&mut self, end: End) -> Verdict {
        match end {
            End::BadConfiguration => return Verdict::GiveUp(None),
            End::NoLauncher => return Verdict::Retry(LAUNCHER_INTERVAL),
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

    /// Resets the delay and the number of deaths.
    pub(crate) fn forget(&mut self) {
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
    fn delay_doubles_until_the_listener_is_given_up_at_thirty_seconds() {
        let mut backoff = RestartPolicy::default();
        let verdicts: Vec<Verdict> = (0..9).map(|_| backoff.ended(BRIEFLY_READY)).collect();
        assert_eq!(verdicts[..8], [100, 200, 400, 800, 1600, 3200, 6400, 12800].map(ms));
        assert_eq!(backoff.ended(BRIEFLY_READY), Verdict::GiveUp(Some(LONGEST)));
    }

    #[test]
    fn listener_is_given_up_after_five_deaths_before_ready() {
        let mut backoff = RestartPolicy::default();
        let verdicts: Vec<Verdict> = (0..6).map(|_| backoff.ended(NEVER_READY)).collect();
        assert_eq!(verdicts[..4], [100, 200, 400, 800].map(ms));
        assert_eq!(verdicts[4..], [Verdict::GiveUp(Some(LONGEST)); 2]);
    }

    #[test]
    fn death_after_ready_is_not_counted_with_those_before() {
        let mut backoff = RestartPolicy::default();
        for _ in 0..4 {
            backoff.ended(NEVER_READY);
        }
        assert_eq!(backoff.ended(BRIEFLY_READY), ms(1600));
        assert_eq!(backoff.ended(NEVER_READY), ms(3200));
    }

    #[test]
    fn delay_is_reset_after_ten_seconds_of_readiness() {
        let mut backoff = RestartPolicy::default();
        for _ in 0..5 {
            backoff.ended(BRIEFLY_READY);
        }
        assert_eq!(backoff.ended(End::Died { ready_for: Some(HEALTHY) }), ms(100));
    }

    #[test]
    fn invalid_configuration_is_not_retried() {
        assert_eq!(RestartPolicy::default().ended(End::BadConfiguration), Verdict::GiveUp(None));
    }

    #[test]
    fn port_in_use_is_tried_more_than_five_times() {
        let mut backoff = RestartPolicy::default();
        let verdicts: Vec<Verdict> = (0..8).map(|_| backoff.ended(End::PortTaken)).collect();
        assert!(verdicts.iter().all(|verdict| matches!(verdict, Verdict::Retry(_))));
    }
}
