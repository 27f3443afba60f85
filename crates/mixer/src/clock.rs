//! The mixer's only clock, CLOCK_MONOTONIC, and the ticker, which schedules a tick every 20 ms.
//!
//! Ticks have absolute deadlines, so that a late tick doesn't delay the following ones. The wall clock is not used, since NTP may
//! step it.

use std::time::{Duration, Instant};

use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{ClockId as TimerClock, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};
use nix::time::{ClockId, clock_gettime};
use palabre_room::FRAME_MS;

/// Interval between ticks: the duration of a frame.
pub(crate) const TICK: Duration = Duration::from_millis(FRAME_MS);
/// Maximum lateness that is caught up by ticks run back to back. If a tick is later than this, the missed ticks are skipped, since the
/// listeners' buffers would overflow.
const CATCH_UP_MAX: Duration = Duration::from_millis(100);

/// The same point in time in two forms: as an [`Instant`] and as the time since boot.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Now {
    pub(crate) instant: Instant,
    /// Time since boot, by CLOCK_MONOTONIC.
    pub(crate) since_boot: Duration,
}

/// Converts an [`Instant`], which is read from CLOCK_MONOTONIC, to the time since boot.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    start: Now,
}

impl Clock {
    pub(crate) fn new() -> nix::Result<Self> {
        let (instant, time) = (Instant::now(), clock_gettime(ClockId::CLOCK_MONOTONIC)?);
        Ok(Self { start: Now { instant, since_boot: Duration::from(time) } })
    }

    pub(crate) fn now(&self) -> Now {
        let instant = Instant::now();
        Now { instant, since_boot: self.since_boot(instant) }
    }

    /// Returns the time since boot at `instant`, which must be later than the clock's creation.
    pub(crate) fn since_boot(&self, instant: Instant) -> Duration {
        self.start.since_boot + instant.saturating_duration_since(self.start.instant)
    }
}

/// Schedules the ticks, which all rooms share. It is stopped while no sound flows.
#[derive(Debug)]
pub(crate) struct Ticker {
    timer: TimerFd,
    schedule: Schedule,
    armed_for: Option<Duration>,
}

impl Ticker {
    pub(crate) fn new() -> nix::Result<Self> {
        let timer = TimerFd::new(TimerClock::CLOCK_MONOTONIC, TimerFlags::TFD_NONBLOCK | TimerFlags::TFD_CLOEXEC)?;
        Ok(Self { timer, schedule: Schedule::default(), armed_for: None })
    }

    /// Returns the timer's descriptor, to poll it. It needs no read(2): setting the timer again makes it unreadable.
    pub(crate) fn timer(&self) -> &TimerFd {
        &self.timer
    }

    /// Schedules the first tick, if none is scheduled.
    pub(crate) fn start(&mut self, first: Duration) {
        self.schedule.next.get_or_insert(first);
    }

    pub(crate) fn stop(&mut self) {
        self.schedule.next = None;
    }

    /// Returns whether a tick is scheduled.
    pub(crate) fn is_running(&self) -> bool {
        self.schedule.next.is_some()
    }

    /// Returns the time of the next tick that is due. Call it until it returns `None`.
    pub(crate) fn due(&mut self, now: Duration) -> Option<Duration> {
        self.schedule.due(now)
    }

    /// Returns the number of ticks that were skipped since the mixer started.
    pub(crate) fn skipped(&self) -> u64 {
        self.schedule.skipped
    }

    /// Sets the timer to the time of the next tick, if that time has changed.
    pub(crate) fn arm(&mut self) -> nix::Result<()> {
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
        if late > CATCH_UP_MAX {
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
    fn late_ticks_do_not_shift_the_following_ones() {
        let mut schedule = Schedule { next: Some(ms(100)), skipped: 0 };
        assert!(all_due(&mut schedule, ms(99)).is_empty());
        assert_eq!(all_due(&mut schedule, ms(107)), [ms(100)]);
        assert_eq!(all_due(&mut schedule, ms(165)), [ms(120), ms(140), ms(160)]);
        assert_eq!((schedule.next, schedule.skipped), (Some(ms(180)), 0));
    }

    #[test]
    fn ticks_missed_by_a_stopped_process_are_skipped() {
        let mut schedule = Schedule { next: Some(ms(100)), skipped: 0 };
        assert_eq!(all_due(&mut schedule, ms(5_100)), [ms(5_100)]);
        assert_eq!((schedule.next, schedule.skipped), (Some(ms(5_120)), 250));
    }
}
