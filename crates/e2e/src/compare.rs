//! Whether one sound is in another: normalised cross-correlation, window by window.
//!
//! Two browsers have two clocks, and a player may stretch time by a tenth of a percent, so a whole recording never fits another.
//! Windows of 150 ms do, each aligned for itself: roughly at a low rate, then to a fiftieth of a millisecond.

use palabre_sound::convert::Converter;
use palabre_sound::measure::{align, rms_dbfs};
use palabre_sound::wav::{Encoding, Head};

/// The rate at which sounds are compared, in Hz.
pub const RATE_HZ: u32 = 48_000;
/// The rate of the rough search: it holds all of speech.
const ROUGH_HZ: u32 = 16_000;
const RATIO: usize = (RATE_HZ / ROUGH_HZ) as usize;
/// In samples at [`ROUGH_HZ`].
const WINDOW_SAMPLES: usize = ROUGH_HZ as usize * 15 / 100;
/// What counts as speech.
const SPEECH_DBFS: f64 = -45.0;

/// A window of the reference, found in the other sound.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Match {
    /// Where the window begins in the reference, in samples at [`RATE_HZ`].
    pub at: usize,
    /// How much later it is in the other sound.
    pub lag: usize,
    /// Normalised cross-correlation, −1 to 1.
    pub coefficient: f64,
    /// Level of the other sound there over the reference's, in dB.
    pub gain_db: f64,
}

/// The sound at another rate.
///
/// # Panics
/// One of the rates is one that no browser has.
#[must_use]
pub fn convert(samples: &[i16], from_hz: u32, to_hz: u32) -> Vec<i16> {
    let head = Head { rate_hz: from_hz, channels: 1, encoding: Encoding::S16, data_bytes: None };
    let mut converter = Converter::new(&head, to_hz).unwrap_or_else(|error| panic!("{error}"));
    let bytes: Vec<u8> = samples.iter().flat_map(|sample| sample.to_le_bytes()).collect();
    let mut out = Vec::new();
    converter.push(&bytes, &mut out);
    converter.finish(&mut out);
    out
}

/// Each window of speech in `reference`, found in `other`. Both are at [`RATE_HZ`]; `other` may lag by up to `max_lag_ms`.
#[must_use]
pub fn find(reference: &[i16], other: &[i16], max_lag_ms: usize) -> Vec<Match> {
    let (rough_reference, rough_other) = (convert(reference, RATE_HZ, ROUGH_HZ), convert(other, RATE_HZ, ROUGH_HZ));
    let max_lag = max_lag_ms * ROUGH_HZ as usize / 1000;
    let last = rough_other
        .len()
        .saturating_sub(max_lag + WINDOW_SAMPLES + 1)
        .min(rough_reference.len().saturating_sub(WINDOW_SAMPLES));
    (0..last)
        .step_by(WINDOW_SAMPLES)
        .filter_map(|at| {
            let window = &rough_reference[at..at + WINDOW_SAMPLES];
            let (rough, _) = align(window, &rough_other[at..], 0..max_lag);
            (rms_dbfs(window) > SPEECH_DBFS).then(|| refine(reference, other, at * RATIO, rough * RATIO))
        })
        .collect()
}

/// The best lag near a rough one, at the full rate.
fn refine(reference: &[i16], other: &[i16], at: usize, rough: usize) -> Match {
    let length = WINDOW_SAMPLES * RATIO;
    let window = &reference[at..at + length];
    let near = rough.saturating_sub(RATIO)..rough + RATIO + 1;
    let (lag, coefficient) = align(window, &other[at..], near);
    let gain_db = rms_dbfs(&other[at + lag..at + lag + length]) - rms_dbfs(window);
    Match { at, lag, coefficient, gain_db }
}

/// The median of some figures; NaN of none.
#[must_use]
pub fn median(figures: impl IntoIterator<Item = f64>) -> f64 {
    percentile(figures, 50.0)
}

/// A percentile (nearest rank) of some figures; NaN of none.
#[must_use]
pub fn percentile(figures: impl IntoIterator<Item = f64>, percent: f64) -> f64 {
    let mut sorted: Vec<f64> = figures.into_iter().collect();
    sorted.sort_by(f64::total_cmp);
    let last = sorted.len().saturating_sub(1);
    sorted.get((percent / 100.0 * last as f64).round() as usize).copied().unwrap_or(f64::NAN)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn noise(seed: u32, n: usize) -> Vec<i16> {
        let mut state = seed;
        let next = |_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            ((state >> 16) as i16) / 4
        };
        (0..n).map(next).collect()
    }

    #[test]
    fn a_late_and_quieter_copy_is_found() {
        let reference = noise(1, 48_000);
        let mut other = vec![0; 3_001];
        other.extend(reference.iter().map(|x| x / 2));
        other.extend([0; 48_000]);
        let found = find(&reference, &other, 500);
        assert!(found.len() >= 4 && found.iter().all(|m| m.lag == 3_001 && m.coefficient > 0.99), "{found:?}");
        assert!((median(found.iter().map(|m| m.gain_db)) + 6.0).abs() < 0.1);
    }

    #[test]
    fn something_else_is_not_found() {
        let found = find(&noise(1, 48_000), &noise(2, 96_000), 500);
        assert!(!found.is_empty() && found.iter().all(|m| m.coefficient < 0.3), "{found:?}");
    }

    #[test]
    fn percentiles_are_of_the_sorted_figures() {
        assert_eq!((median([3.0, 1.0, 2.0]), percentile([1.0, 2.0, 3.0, 4.0, 5.0], 95.0)), (2.0, 5.0));
    }
}
