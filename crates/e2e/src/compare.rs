//! Finds one sound in another by normalised cross-correlation, window by window.
//!
//! Two browsers have two clocks, and a player changes its speed by up to 0.1 %, so two long recordings never match. Windows of 150 ms match.
//! Each window is aligned separately: coarsely at a low sample rate, then to 0.02 ms.

use palabre_sound::convert::Converter;
use palabre_sound::measure::{align, rms_dbfs};
use palabre_sound::wav::{Encoding, Head};

/// Sample rate of the compared sounds.
pub const RATE_HZ: u32 = 48_000;
/// Sample rate of the coarse search, sufficient for speech.
const COARSE_HZ: u32 = 8_000;
const RATIO: usize = (RATE_HZ / COARSE_HZ) as usize;
/// Length of a window, in samples at [`COARSE_HZ`].
const WINDOW_SAMPLES: usize = COARSE_HZ as usize * 15 / 100;
/// Minimum level of a window that counts as speech.
const SPEECH_DBFS: f64 = -45.0;

/// The best match of a window of the reference in the other sound.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Match {
    /// First sample of the window in the reference, at [`RATE_HZ`].
    pub at: usize,
    /// Delay in the other sound, in samples.
    pub lag: usize,
    /// Normalised cross-correlation, −1 to 1.
    pub coefficient: f64,
    /// Level relative to the reference, in dB.
    pub gain_db: f64,
}

/// Converts a sound to another sample rate.
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

/// Returns the best match in `other` of each window of speech in `reference`. Both are at [`RATE_HZ`]. A sound may be up to `max_lag_ms` later in
/// `other` than in `reference`.
#[must_use]
pub fn find(reference: &[i16], other: &[i16], max_lag_ms: usize) -> Vec<Match> {
    let (coarse_reference, coarse_other) = (convert(reference, RATE_HZ, COARSE_HZ), convert(other, RATE_HZ, COARSE_HZ));
    let max_lag = max_lag_ms * COARSE_HZ as usize / 1000;
    let last = coarse_other
        .len()
        .saturating_sub(max_lag + WINDOW_SAMPLES + 1)
        .min(coarse_reference.len().saturating_sub(WINDOW_SAMPLES));
    (0..last)
        .step_by(WINDOW_SAMPLES)
        .filter(|&at| rms_dbfs(&coarse_reference[at..at + WINDOW_SAMPLES]) > SPEECH_DBFS)
        .map(|at| {
            let (coarse, _) = align(&coarse_reference[at..at + WINDOW_SAMPLES], &coarse_other[at..], 0..max_lag);
            refine(reference, other, at * RATIO, coarse * RATIO)
        })
        .collect()
}

/// Finds the best match near a coarse delay, at the full rate.
fn refine(reference: &[i16], other: &[i16], at: usize, coarse: usize) -> Match {
    let length = WINDOW_SAMPLES * RATIO;
    let window = &reference[at..at + length];
    let near = coarse.saturating_sub(RATIO)..coarse + RATIO + 1;
    let (lag, coefficient) = align(window, &other[at..], near);
    let gain_db = rms_dbfs(&other[at + lag..at + lag + length]) - rms_dbfs(window);
    Match { at, lag, coefficient, gain_db }
}

/// Returns the median, or NaN if there are no values.
#[must_use]
pub fn median(values: impl IntoIterator<Item = f64>) -> f64 {
    percentile(values, 50.0)
}

/// Returns a percentile: the sorted value whose index is nearest to `percent` % of the last index, or NaN if there are no values.
#[must_use]
pub fn percentile(values: impl IntoIterator<Item = f64>, percent: f64) -> f64 {
    let mut sorted: Vec<f64> = values.into_iter().collect();
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
    fn later_and_quieter_copy_is_found() {
        let reference = noise(1, 48_000);
        let mut other = vec![0; 3_001];
        other.extend(reference.iter().map(|x| x / 2));
        other.extend([0; 48_000]);
        let found = find(&reference, &other, 500);
        assert!(found.len() >= 4 && found.iter().all(|m| m.lag == 3_001 && m.coefficient > 0.99), "{found:?}");
        assert!((median(found.iter().map(|m| m.gain_db)) + 6.0).abs() < 0.1);
    }

    #[test]
    fn other_sound_is_not_found() {
        let found = find(&noise(1, 48_000), &noise(2, 96_000), 500);
        assert!(!found.is_empty() && found.iter().all(|m| m.coefficient < 0.3), "{found:?}");
    }

    #[test]
    fn percentiles_need_no_sorted_values() {
        assert_eq!((median([3.0, 1.0, 2.0]), percentile([1.0, 2.0, 3.0, 4.0, 5.0], 95.0)), (2.0, 5.0));
    }
}
