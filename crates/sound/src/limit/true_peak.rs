//! True peak: 4 × oversampling after Rec. ITU-R BS.1770-5, annex 2.
//!
//! The interpolator is the windowed sinc (49 taps, Hann) of libebur128, so that common meters agree with it. Every fourth
//! point is the sample itself. The phases at ¼ and ¾ mirror each other, which halves the work: with
//! `s = x[k] + x[11 − k]` and `d = x[k] − x[11 − k]` the points at ¼ and ¾ are `e ± o`, where `e` depends only on `s` and
//! `o` only on `d`. The larger magnitude of the two is `|e| + |o|`.

use std::f64::consts::PI;
use std::sync::LazyLock;

use crate::kernel;

/// Samples from which one interpolated point is computed.
pub(crate) const TAPS: usize = 12;
const HALF: usize = TAPS / 2;

/// The interpolator's coefficients, folded into even and odd parts.
#[derive(Clone, Copy, Debug)]
struct Filter {
    quarter_even: [f32; HALF],
    quarter_odd: [f32; HALF],
    middle: [f32; HALF],
    bound: f32,
}

static FILTER: LazyLock<Filter> = LazyLock::new(Filter::new);

/// Returns the maximum ratio of true peak to sample peak.
pub(crate) fn bound() -> f32 {
    FILTER.bound
}

/// Returns the largest magnitude at ¼, ½ and ¾ between the two middle samples of each run of [`TAPS`] samples.
pub(crate) fn of(samples: &[f32]) -> f32 {
    let filter = &*FILTER;
    kernel::between(samples, &filter.quarter_even, &filter.quarter_odd, &filter.middle)
}

impl Filter {
    fn new() -> Self {
        // Every fourth of the 49 taps belongs to one phase; the first sample in time has the last tap.
        let phase = |phase: usize| -> [f64; TAPS] { std::array::from_fn(|k| tap(4 * (TAPS - 1 - k) + phase)) };
        let (quarter, middle) = (phase(1), phase(2));
        let sum_of = |taps: [f64; TAPS]| taps.iter().map(|x| x.abs()).sum::<f64>();
        Self {
            quarter_even: std::array::from_fn(|k| ((quarter[k] + quarter[TAPS - 1 - k]) / 2.0) as f32),
            quarter_odd: std::array::from_fn(|k| ((quarter[k] - quarter[TAPS - 1 - k]) / 2.0) as f32),
            middle: std::array::from_fn(|k| middle[k] as f32),
            bound: (sum_of(quarter).max(sum_of(middle)) * 1.000_1) as f32,
        }
    }
}

/// Returns tap `j` of the sinc at four points per sample, with a Hann window.
fn tap(j: usize) -> f64 {
    const LAST: f64 = 48.0;
    let x = (j as f64 - LAST / 2.0) * PI / 4.0;
    let sinc = if x == 0.0 { 1.0 } else { x.sin() / x };
    sinc * 0.5 * (1.0 - (2.0 * PI * j as f64 / LAST).cos())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_peak_of_a_sine_between_samples_is_found() {
        // At a quarter of the rate and 45° off, every sample is 3 dB below the peak.
        let samples: Vec<f32> = (0..48).map(|i| ((f64::from(i) + 0.5) * PI / 2.0).sin() as f32).collect();
        assert!((of(&samples) - 1.0).abs() < 0.01, "{}", of(&samples));
    }

    #[test]
    fn no_signal_exceeds_the_bound() {
        let filter = &*FILTER;
        let worst: Vec<f32> = (0..TAPS).map(|k| filter.middle[k.min(TAPS - 1 - k)].signum()).collect();
        assert!(of(&worst) > 0.99 * bound() && of(&worst) <= bound());
        assert!((1.5..2.1).contains(&bound()), "{}", bound());
        assert_eq!(of(&[1.0; 5]), 0.0);
    }

    #[test]
    fn the_folded_filter_gives_the_same_points_as_the_plain_one() {
        let samples: [f32; TAPS] = std::array::from_fn(|k| ((k * 37 + 11) % 17) as f32 - 8.0);
        let plain =
            |phase: usize| -> f64 { (0..TAPS).map(|k| tap(4 * (TAPS - 1 - k) + phase) * f64::from(samples[k])).sum() };
        let expected = (1..4).map(|phase| plain(phase).abs()).fold(0.0, f64::max);
        assert!((f64::from(of(&samples)) - expected).abs() < 1e-4, "{} {expected}", of(&samples));
    }
}
