//! The clocks whose numbers mean the same in every process: CLOCK_BOOTTIME and CLOCK_MONOTONIC.
//!
//! Deadlines use [`std::time::Instant`]. These are for numbers that leave the process and must go on growing when another
//! process takes over, such as the sequence numbers of the injected stream, or times that two processes share.

use std::time::Duration;

use nix::time::{ClockId, clock_gettime};

/// Milliseconds since the machine was started, time asleep included (CLOCK_BOOTTIME, clock_gettime(2)).
///
/// It never goes back while the machine runs. 0 on a kernel without this clock (before 2.6.39).
#[must_use]
pub fn boottime_ms() -> u64 {
    let Ok(time) = clock_gettime(ClockId::CLOCK_BOOTTIME) else {
        return 0;
    };
    let seconds = u64::try_from(time.tv_sec()).unwrap_or(0);
    let nanoseconds = u64::try_from(time.tv_nsec()).unwrap_or(0);
    seconds * 1000 + nanoseconds / 1_000_000
}

/// The time of CLOCK_MONOTONIC (clock_gettime(2)), the mixer's clock, which stands still while the machine sleeps.
#[must_use]
pub fn monotonic() -> Duration {
    clock_gettime(ClockId::CLOCK_MONOTONIC).map(Duration::from).unwrap_or_default()
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
