//! Measures a participant's level, and detects whether the participant is talking.

use std::collections::VecDeque;

use crate::Sample;

/// Number of frames over which the level is measured: 200 ms.
const WINDOW_FRAMES: usize = 10;
/// Level from which a participant counts as talking, in dBFS.
const TALKING_DBFS: f32 = -50.0;
/// Level below which a talking participant counts as quiet after the hold time, in dBFS.
const QUIET_DBFS: f32 = -53.0;
/// Hold time in frames: 400 ms, the pause between two sentences.
const HOLD_FRAMES: u32 = 20;

/// The meter of one participant.
#[derive(Clone, Debug, Default)]
pub struct Meter {
    /// Mean square of each frame; full scale is 1.
    window: VecDeque<f32>,
    talking: bool,
    below_frames: u32,
}

impl Meter {
    /// Returns a meter that has measured nothing.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Measures a frame of 20 ms. An empty slice is a silent frame.
    pub fn push(&mut self, frame: &[i16]) {
        if self.window.len() == WINDOW_FRAMES {
            self.window.pop_front();
        }
        self.window.push_back(mean_square(frame));
        let level = self.level_dbfs();
        if level >= TALKING_DBFS {
            self.talking = true;
        }
        self.below_frames = if level < QUIET_DBFS { self.below_frames + 1 } else { 0 };
        if self.below_frames > HOLD_FRAMES {
            self.talking = false;
        }
    }

    /// Returns the RMS level of the last 200 ms in dBFS; −∞ for digital silence.
    #[must_use]
    pub fn level_dbfs(&self) -> f32 {
        let sum: f32 = self.window.iter().sum();
        10.0 * (sum / WINDOW_FRAMES as f32).log10()
    }

    /// Returns whether the participant is talking, with hysteresis in level and time: a pause for breath still counts.
    #[must_use]
    pub fn is_talking(&self) -> bool {
        self.talking
    }

    /// Forgets all frames.
    pub fn reset(&mut self) {
        *self = Self::default();
    }
}

/// Returns the RMS level of one frame in dBFS; −∞ for digital silence.
pub(crate) fn frame_dbfs<S: Sample>(frame: &[S]) -> f32 {
    10.0 * mean_square(frame).log10()
}

fn mean_square<S: Sample>(frame: &[S]) -> f32 {
    (S::energy(frame.iter()) / frame.len().max(1) as f64 / (32_768.0 * 32_768.0)) as f32
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::measure;

    fn feed(meter: &mut Meter, dbfs: f64, frames: usize) {
        for frame in measure::tone(24_000, 500.0, dbfs, frames * 480).chunks(480) {
            meter.push(frame);
        }
    }

    #[test]
    fn the_level_is_the_rms_of_the_last_200_ms() {
        let mut meter = Meter::new();
        assert_eq!(meter.level_dbfs(), f32::NEG_INFINITY);
        feed(&mut meter, -60.0, 5);
        feed(&mut meter, -21.0, 10);
        assert!((meter.level_dbfs() + 21.0).abs() < 0.1, "{}", meter.level_dbfs());
        feed(&mut meter, -3.0103, 10);
        assert!((meter.level_dbfs() + 3.0).abs() < 0.1);
    }

    #[test]
    fn talking_lasts_through_a_short_pause_and_ends_in_a_long_one() {
        let mut meter = Meter::new();
        feed(&mut meter, -30.0, 10);
        assert!(meter.is_talking());
        (0..20).for_each(|_| meter.push(&[]));
        assert!(meter.is_talking());
        (0..20).for_each(|_| meter.push(&[]));
        assert!(!meter.is_talking());
        assert_eq!(meter.level_dbfs(), f32::NEG_INFINITY);
    }

    #[test]
    fn a_level_near_the_threshold_does_not_toggle() {
        let mut meter = Meter::new();
        feed(&mut meter, -49.0, 10);
        feed(&mut meter, -52.0, 100);
        assert!(meter.is_talking());
        let mut other = Meter::new();
        feed(&mut other, -52.0, 100);
        assert!(!other.is_talking());
    }
}
