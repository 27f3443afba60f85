//! Clocks whose values are the same in every process: CLOCK_BOOTTIME, CLOCK_MONOTONIC and the wall clock.
//!
//! Deadlines within a process use [`std::time::Instant`]. These clocks are for times that two processes share, and for
//! numbers that must keep growing after a restart, such as the sequence numbers of the injected stream.

use std::time::{Duration, SystemTime};

use nix::time::{ClockId, clock_gettime};

/// Returns the milliseconds since the machine was started, including the time asleep: CLOCK_BOOTTIME, clock_gettime(2).
///
/// The clock never goes back while the machine runs. Kernels before 2.6.39 don't have the clock; then the function
/// returns 0.
#[must_use]
pub fn boottime_ms() -> u64 {
    let Ok(time) = clock_gettime(ClockId::CLOCK_BOOTTIME) else {
        return 0;
    };
    let seconds = u64::try_from(time.tv_sec()).unwrap_or(0);
    let nanoseconds = u64::try_from(time.tv_nsec()).unwrap_or(0);
    seconds * 1000 + nanoseconds / 1_000_000
}

/// Returns the time of CLOCK_MONOTONIC, clock_gettime(2), which stops while the machine sleeps. The mixer uses this
/// clock.
#[must_use]
pub fn monotonic() -> Duration {
    clock_gettime(ClockId::CLOCK_MONOTONIC).map(Duration::from).unwrap_or_default()
}

/// Returns the time of the wall clock in ms since 1970, or 0 before 1970.
#[must_use]
pub fn unix_ms() -> u64 {
    u64::try_from(SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default().as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_monotonic_clock_never_goes_back() {
        let first = monotonic();
        assert!(first > Duration::ZERO);
        assert!(monotonic() >= first);
    }

    #[test]
    fn the_boot_clock_never_goes_back() {
        let first = boottime_ms();
        assert!(first > 0);
        assert!(boottime_ms() >= first);
    }
}
