//! The one clock that survives restarts of a process: CLOCK_BOOTTIME.
//!
//! Deadlines use [`std::time::Instant`]. This clock is for numbers that leave the process and must go on growing when
//! another process takes over, such as the sequence numbers of the injected stream.

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_boot_clock_never_goes_back() {
        let first = boottime_ms();
        assert!(first > 0);
        assert!(boottime_ms() >= first);
    }
}
