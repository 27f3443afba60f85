//! Measurements for tests and examples, with the feature `measure`: levels, signal-to-noise ratio and alignment.

use std::f64::consts::TAU;

use crate::kernel;

const FULL_SCALE: f64 = 32_768.0;

/// Returns `n` samples of a sine of `freq_hz` at `dbfs` (RMS), starting at phase 0 and rounded.
#[must_use]
pub fn tone(rate_hz: u32, freq_hz: f64, dbfs: f64, n: usize) -> Vec<i16> {
    let peak = FULL_SCALE * 2f64.sqrt() * 10f64.powf(dbfs / 20.0);
    let step = TAU * freq_hz / f64::from(rate_hz);
    (0..n).map(|i| (peak * (i as f64 * step).sin()).round() as i16).collect()
}

/// Returns the level in dBFS of the tone `freq_hz` in `samples`; −∞ if there is none.
///
/// Goertzel's algorithm with a Blackman-Harris window: tones more than 4 · rate / n away are attenuated by 92 dB.
#[must_use]
pub fn goertzel_dbfs(samples: &[i16], rate_hz: u32, freq_hz: f64) -> f64 {
    let omega = TAU * freq_hz / f64::from(rate_hz);
    let coefficient = 2.0 * omega.cos();
    let (mut s1, mut s2, mut window_sum) = (0.0, 0.0, 0.0);
    for (i, &sample) in samples.iter().enumerate() {
        let window = blackman_harris(i, samples.len());
        let s0 = window * f64::from(sample) + coefficient * s1 - s2;
        (s2, s1) = (s1, s0);
        window_sum += window;
    }
    let power = s1 * s1 + s2 * s2 - coefficient * s1 * s2;
    let rms = power.max(0.0).sqrt() * 2.0 / window_sum.max(f64::MIN_POSITIVE) / 2f64.sqrt();
    20.0 * (rms / FULL_SCALE).log10()
}

/// Returns the RMS level of `samples` in dBFS; −∞ for digital silence.
#[must_use]
pub fn rms_dbfs(samples: &[i16]) -> f64 {
    let energy: f64 = samples.iter().map(|&x| f64::from(x).powi(2)).sum();
    10.0 * (energy / samples.len().max(1) as f64 / FULL_SCALE.powi(2)).log10()
}

/// Returns the ratio of the tone `freq_hz` to the rest of `samples`, in dB: of the best-fitting sine (least squares) to the
/// residue.
#[must_use]
pub fn snr_db(samples: &[i16], rate_hz: u32, freq_hz: f64) -> f64 {
    let step = TAU * freq_hz / f64::from(rate_hz);
    let basis = |i: usize| (i as f64 * step).sin_cos();
    let (mut ss, mut cc, mut sc, mut xs, mut xc) = (0.0, 0.0, 0.0, 0.0, 0.0);
    for (i, &sample) in samples.iter().enumerate() {
        let ((s, c), x) = (basis(i), f64::from(sample));
        ss += s * s;
        cc += c * c;
        sc += s * c;
        xs += x * s;
        xc += x * c;
    }
    let determinant = ss * cc - sc * sc;
    let (a, b) = ((xs * cc - xc * sc) / determinant, (xc * ss - xs * sc) / determinant);
    let (mut signal, mut noise) = (0.0, 0.0);
    for (i, &sample) in samples.iter().enumerate() {
        let (s, c) = basis(i);
        let fitted = a * s + b * c;
        signal += fitted * fitted;
        noise += (f64::from(sample) - fitted).powi(2);
    }
    10.0 * (signal / noise.max(f64::MIN_POSITIVE)).log10()
}

/// Finds `reference` in `signal`. Returns the lag in samples (`signal[lag + i]` is like `reference[i]`) with the highest
/// normalised cross-correlation, and that coefficient.
///
/// Only lags at which all of `reference` fits count; (0, 0) if there is none. Costs O(`lags · reference.len()`).
#[must_use]
pub fn align(reference: &[i16], signal: &[i16], lags: std::ops::Range<usize>) -> (usize, f64) {
    let signal = &signal[..signal.len().min(lags.end.saturating_add(reference.len()))];
    let floats = |samples: &[i16]| samples.iter().map(|&x| f32::from(x)).collect::<Vec<f32>>();
    let square = |x: &i16| i64::from(*x) * i64::from(*x);
    let (wanted, there) = (floats(reference), floats(signal));
    let of_reference = reference.iter().map(square).sum::<i64>() as f64;
    let first = signal.get(lags.start..).unwrap_or_default();
    let mut energy: i64 = first.iter().take(reference.len()).map(square).sum();
    let mut best = (0, 0.0);
    for lag in lags {
        let end = lag.saturating_add(reference.len());
        let Some(window) = there.get(lag..end) else { break };
        let product = f64::from(kernel::dot(&wanted, window));
        let coefficient = (product / (of_reference * energy as f64).sqrt().max(1.0)).min(1.0);
        if coefficient > best.1 {
            best = (lag, coefficient);
        }
        // Move the window by one sample.
        energy += signal.get(end).map_or(0, square) - signal.get(lag).map_or(0, square);
    }
    best
}

/// Sample `i` of the four-term Blackman-Harris window of length `n` (F. J. Harris, 1978).
fn blackman_harris(i: usize, n: usize) -> f64 {
    let x = TAU * (i as f64 + 0.5) / n as f64;
    0.358_75 - 0.488_29 * x.cos() + 0.141_28 * (2.0 * x).cos() - 0.011_68 * (3.0 * x).cos()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tone_is_measured_at_the_level_it_was_made_with() {
        for dbfs in [-3.1, -20.0, -60.0] {
            let samples = tone(24_000, 997.0, dbfs, 24_000);
            assert!((goertzel_dbfs(&samples, 24_000, 997.0) - dbfs).abs() < 0.1, "{dbfs}");
            assert!((rms_dbfs(&samples) - dbfs).abs() < 0.1, "{dbfs}");
        }
    }

    #[test]
    fn a_tone_at_another_frequency_is_not_measured() {
        let samples = tone(24_000, 440.0, -20.0, 4_801);
        assert!(goertzel_dbfs(&samples, 24_000, 500.0) < -95.0);
    }

    #[test]
    fn silence_is_minus_infinity() {
        assert_eq!(goertzel_dbfs(&[0; 480], 24_000, 440.0), f64::NEG_INFINITY);
        assert_eq!(rms_dbfs(&[0; 480]), f64::NEG_INFINITY);
        assert_eq!(rms_dbfs(&[]), f64::NEG_INFINITY);
    }

    #[test]
    fn rounding_to_16_bits_gives_98_db_signal_to_noise_ratio() {
        let snr = snr_db(&tone(24_000, 997.0, -3.1, 24_000), 24_000, 997.0);
        assert!((snr - 98.0).abs() < 1.5, "{snr}");
    }

    #[test]
    fn a_reference_is_found_at_its_lag() {
        let mut noise = 12_345u32;
        let mut next = || {
            noise = noise.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            ((noise >> 16) as i16) / 4
        };
        let reference: Vec<i16> = (0..500).map(|_| next()).collect();
        let mut signal: Vec<i16> = (0..2_000).map(|_| next() / 8).collect();
        for (i, &x) in reference.iter().enumerate() {
            signal[777 + i] += x / 2;
        }
        let (lag, coefficient) = align(&reference, &signal, 0..2_000);
        assert_eq!(lag, 777);
        assert!(coefficient > 0.9, "{coefficient}");
        assert_eq!(align(&reference, &signal[..100], 0..2_000), (0, 0.0));
    }
}
