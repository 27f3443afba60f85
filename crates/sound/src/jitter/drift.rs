//! Measures how much faster a talker's clock is than the mixer's.
//!
//! The network can only delay. So the earliest arrivals of each second lie on a straight line, whose slope is the difference
//! of the clocks, independent of jitter. The slope is found by least squares. Compare D. Mills' clock filter, RFC 5905 §10,
//! and S. Moon et al., "Estimation and removal of clock skew from network delay measurements", 1999.

use std::collections::VecDeque;
use std::time::Duration;

/// Length of a window, of which only the earliest arrival counts.
const WINDOW: Duration = Duration::from_secs(1);
/// Maximum number of windows: two minutes.
const WINDOWS: usize = 120;
/// Minimum time between the first and the last window for an estimate: half a minute of arrivals.
const SPAN_S: f64 = 29.0;
/// Minimum time between the first and the last window for an early estimate.
const SPAN_EARLY_S: f64 = 8.0;
/// Minimum number of windows for an estimate.
const WINDOWS_MIN: usize = 6;
/// Minimum ratio of the slope to its standard error for an estimate.
const SIGMAS: f64 = 4.0;
/// Minimum ratio of the slope to its standard error for an early estimate, since few windows can lie on a line by
/// chance.
const SIGMAS_EARLY: f64 = 10.0;
/// Minimum difference of the clocks that is corrected, in ppm: 5 ms in half an hour.
const PPM_MIN: f64 = 3.0;
/// Maximum difference of real clocks, in ppm.
const PPM_MAX: f64 = 1_000.0;
/// Maximum change of the earliest arrival between two windows, in seconds. A larger change is caused by the network or
/// the talker, not by the clock.
const JUMP_S: f64 = 0.008;
/// Number of consecutive jumps after which the measurement restarts. Fewer jumps are ignored.
const JUMPS: usize = 3;

/// Earliest arrival of a window: its time, and how early it was, both in seconds.
type Earliest = (f64, f64);

/// The arrivals of one spurt.
#[derive(Clone, Debug, Default)]
pub(super) struct Drift {
    windows: VecDeque<Earliest>,
    since: Option<Duration>,
    earliest: Earliest,
    jumps: usize,
}

impl Drift {
    /// Records the arrival of a chunk. By the talker's clock, the chunk's first sample is `place` after the first
    /// sample of the spurt. Returns whether a window ended.
    pub(super) fn push(&mut self, now: Duration, place: Duration) -> bool {
        let arrival = (now.as_secs_f64(), place.as_secs_f64() - now.as_secs_f64());
        let since = *self.since.get_or_insert_with(|| {
            self.earliest = arrival;
            now
        });
        if now.saturating_sub(since) < WINDOW {
            if arrival.1 > self.earliest.1 {
                self.earliest = arrival;
            }
            return false;
        }
        self.end_window();
        (self.since, self.earliest) = (Some(now), arrival);
        true
    }

    /// Returns how much faster the talker's clock is, in parts per million, if the difference is certain. With `early`,
    /// less than half a minute is sufficient if the arrivals are regular.
    pub(super) fn ppm(&self, early: bool) -> Option<f64> {
        let (least_s, sigmas) = if early { (SPAN_EARLY_S, SIGMAS_EARLY) } else { (SPAN_S, SIGMAS) };
        let span_s = self.windows.back()?.0 - self.windows.front()?.0;
        if self.windows.len() < WINDOWS_MIN || span_s < least_s {
            return None;
        }
        let (slope, sigma) = self.line();
        let ppm = slope * 1e6;
        (slope.abs() >= sigmas * sigma && (PPM_MIN..PPM_MAX).contains(&ppm.abs())).then_some(ppm)
    }

    fn end_window(&mut self) {
        if self.windows.back().is_some_and(|last| (self.earliest.1 - last.1).abs() > JUMP_S) {
            self.jumps += 1;
            if self.jumps < JUMPS {
                return;
            }
            self.windows.clear();
        }
        self.jumps = 0;
        if self.windows.len() == WINDOWS {
            self.windows.pop_front();
        }
        self.windows.push_back(self.earliest);
    }

    /// Returns the slope of the least-squares line through the earliest arrivals of all windows, and the standard error of the slope. The
    /// slope is the relative difference of the talker's clock from the mixer's.
    fn line(&self) -> (f64, f64) {
        let n = self.windows.len() as f64;
        let mean = |of: fn(&Earliest) -> f64| self.windows.iter().map(of).sum::<f64>() / n;
        let (t0, y0) = (mean(|w| w.0), mean(|w| w.1));
        let (mut tt, mut ty, mut yy) = (0.0, 0.0, 0.0);
        for (t, y) in &self.windows {
            tt += (t - t0) * (t - t0);
            ty += (t - t0) * (y - y0);
            yy += (y - y0) * (y - y0);
        }
        let slope = ty / tt;
        let residue = (yy - slope * ty).max(0.0) / (n - 2.0);
        (slope, (residue / tt).sqrt())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Measures chunks of 40 ms from a clock that is `ppm` faster, each late by up to `jitter_us`.
    fn watch(ppm: f64, jitter_us: u64, seconds: u64) -> Drift {
        let (mut drift, mut random) = (Drift::default(), 1u64);
        for i in 0..seconds * 25 {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let late_us = (random >> 33) % (jitter_us + 1);
            let at_us = (i as f64 * 40_000.0 / (1.0 + ppm / 1e6)) as u64 + late_us;
            drift.push(Duration::from_micros(at_us), Duration::from_millis(i * 40));
        }
        drift
    }

    #[test]
    fn a_difference_is_found_after_half_a_minute_or_in_an_early_estimate() {
        for ppm in [-300.0, -50.0, 50.0, 300.0] {
            assert_eq!(watch(ppm, 1_000, 25).ppm(false), None);
            let found = watch(ppm, 100, 12).ppm(true).unwrap_or(0.0);
            assert!((found - ppm).abs() < 15.0, "{found} for {ppm}, early");
            let found = watch(ppm, 1_000, 40).ppm(false).unwrap_or(0.0);
            assert!((found - ppm).abs() < 15.0, "{found} for {ppm}");
            let found = watch(ppm, 15_000, 130).ppm(false).unwrap_or(0.0);
            assert!((found - ppm).abs() < 15.0, "{found} for {ppm} with jitter");
        }
    }

    #[test]
    fn equal_clocks_show_no_difference() {
        for jitter_us in [0, 1_000, 15_000] {
            assert_eq!(watch(0.0, jitter_us, 300).ppm(true), None, "{jitter_us} µs");
        }
    }

    #[test]
    fn lost_samples_and_stalls_are_not_drift() {
        let (mut lost, mut stalled) = (Drift::default(), Drift::default());
        for i in 0..2_500u64 {
            // In this test, 200 ms of the samples of `lost` are missing after a minute, and nothing arrives at `stalled` for 1.5 s.
            let place = i * 40 - if i > 1_500 { 200 } else { 0 };
            lost.push(Duration::from_millis(i * 40), Duration::from_millis(place));
            let late = if (1_500..1_537).contains(&i) { (1_537 - i) * 40 } else { 0 };
            stalled.push(Duration::from_millis(i * 40 + late), Duration::from_millis(i * 40));
        }
        assert_eq!((lost.ppm(true), stalled.ppm(true)), (None, None));
        assert!(lost.windows.len() < 60 && stalled.windows.len() > 90);
    }
}
