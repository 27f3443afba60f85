//! One clock for everything: CLOCK_MONOTONIC, and the tick as absolute deadlines on it.
//!
//! Absolute, so that no delay in handling a tick moves the ones after it. Never the wall clock: a step of NTP is no tick.

use std::time::{Duration, Instant};

use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{ClockId as TimerClock, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};
use nix::time::{ClockId, clock_gettime};
use palabre_room::FRAME_MS;

/// The time between two ticks.
pub const TICK: Duration = Duration::from_millis(FRAME_MS);
/// When we were kept from running, up to so much is made up for by ticks at once, which the listeners' buffers take. What
/// is more is skipped: a burst would only be cut again at the other end.
const CATCH_UP: Duration = Duration::from_millis(100);

/// A moment, on the same clock for both.
#[derive(Clone, Copy, Debug)]
pub struct Now {
    /// For pipes.
    pub instant: Instant,
    /// CLOCK_MONOTONIC since boot, for everything else.
    pub since_boot: Duration,
}

/// CLOCK_MONOTONIC, which [`Instant`] is on Linux too but can't be told as a number.
#[derive(Debug)]
pub struct Clock {
    start: Now,
}

impl Clock {
    /// # Errors
    /// Those of clock_gettime(2).
    pub fn new() -> nix::Result<Self> {
        let (instant, time) = (Instant::now(), clock_gettime(ClockId::CLOCK_MONOTONIC)?);
        Ok(Self { start: Now { instant, since_boot: Duration::from(time) } })
    }

    pub fn now(&self) -> Now {
        let instant = Instant::now();
        Now { instant, since_boot: self.start.since_boot + instant.duration_since(self.start.instant) }
    }
}

/// The tick of all rooms; disarmed while nobody's sound flows.
#[derive(Debug)]
pub struct Ticker {
    timer: TimerFd,
    schedule: Schedule,
    armed_for: Option<Duration>,
}

impl Ticker {
    /// # Errors
    /// Those of timerfd_create(2).
    pub fn new() -> nix::Result<Self> {
        let timer = TimerFd::new(TimerClock::CLOCK_MONOTONIC, TimerFlags::TFD_NONBLOCK | TimerFlags::TFD_CLOEXEC)?;
        Ok(Self { timer, schedule: Schedule::default(), armed_for: None })
    }

    /// To be polled; there is no need to read it, setting it anew does as well.
    pub fn timer(&self) -> &TimerFd {
        &self.timer
    }

    /// Begins to tick at `first`, if it doesn't tick already.
    pub fn start(&mut self, first: Duration) {
        self.schedule.next.get_or_insert(first);
    }

    /// Ticks no more.
    pub fn stop(&mut self) {
        self.schedule.next = None;
    }

    /// The time of a tick that is due, each of them once.
    pub fn due(&mut self, now: Duration) -> Option<Duration> {
        self.schedule.due(now)
    }

    /// Ticks that were skipped so far.
    pub fn skipped(&self) -> u64 {
        self.schedule.skipped
    }

    /// Sets the timer for the next tick, if that changed.
    ///
    /// # Errors
    /// Those of timerfd_settime(2).
    pub fn arm(&mut self) -> nix::Result<()> {
        if self.armed_for == self.schedule.next {
            return Ok(());
        }
        self.armed_for = self.schedule.next;
        match self.schedule.next {
            Some(at) => self.timer.set(Expiration::OneShot(TimeSpec::from(at)), TimerSetTimeFlags::TFD_TIMER_ABSTIME),
            None => self.timer.unset(),
        }
    }
}

#[derive(Clone, Copy, Debug, Default)]
struct Schedule {
    next: Option<Duration>,
    skipped: u64,
}

impl Schedule {
    fn due(&mut self, now: Duration) -> Option<Duration> {
        let mut next = self.next.filter(|next| *next <= now)?;
        let late = now - next;
        if late > CATCH_UP {
            let ticks = late.as_micros() / TICK.as_micros();
            self.skipped += u64::try_from(ticks).unwrap_or(u64::MAX);
            next = now;
        }
        self.next = Some(next + TICK);
        Some(next)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    fn all_due(schedule: &mut Schedule, now: Duration) -> Vec<Duration> {
        std::iter::from_fn(|| schedule.due(now)).collect()
    }

    #[test]
    fn ticks_keep_their_grid_however_late_they_are_handled() {
        let mut schedule = Schedule { next: Some(ms(100)), skipped: 0 };
        assert!(all_due(&mut schedule, ms(99)).is_empty());
        assert_eq!(all_due(&mut schedule, ms(107)), [ms(100)]);
        assert_eq!(all_due(&mut schedule, ms(165)), [ms(120), ms(140), ms(160)]);
        assert_eq!((schedule.next, schedule.skipped), (Some(ms(180)), 0));
    }

    #[test]
    fn a_process_that_stood_still_skips_what_it_missed() {
        let mut schedule = Schedule { next: Some(ms(100)), skipped: 0 };
        assert_eq!(all_due(&mut schedule, ms(5_100)), [ms(5_100)]);
        assert_eq!((schedule.next, schedule.skipped), (Some(ms(5_120)), 250));
    }
}
