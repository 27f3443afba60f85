//! A participant's gain, applied to their samples before they are added to the sum.

/// Level, relative to full scale, above which amplified samples are compressed: −3 dBFS.
const KNEE: f32 = 0.7;

/// Multiplies `samples` by `factor`: 1 is 0 dB and changes no bit, 0 mutes.
///
/// A factor above 1 never clips: samples that would exceed −3 dBFS are compressed, and full scale stays full scale.
pub fn apply(samples: &mut [i16], factor: f32) {
    if factor == 1.0 {
        return;
    }
    samples.iter_mut().for_each(|sample| *sample = scale(*sample, factor));
}

/// Multiplies `samples` by a factor that changes linearly from `from` to `to`, so that a change of gain doesn't click.
pub fn ramp(samples: &mut [i16], from: f32, to: f32) {
    if from == to {
        return apply(samples, to);
    }
    let step = (to - from) / samples.len().max(1) as f32;
    for (i, sample) in samples.iter_mut().enumerate() {
        *sample = scale(*sample, from + step * (i + 1) as f32);
    }
}

/// Returns the amplitude factor of a gain in dB.
#[must_use]
pub fn factor(db: f32) -> f32 {
    10f32.powf(db / 20.0)
}

fn scale(sample: i16, factor: f32) -> i16 {
    let x = f32::from(sample) / 32_768.0 * factor;
    let scaled = if factor > 1.0 { compress(x, factor) } else { x };
    (scaled * 32_768.0).round() as i16
}

/// Maps amplitudes from `KNEE` to `factor` onto `KNEE` to 1, with slope 1 at the knee. At factor 1 the function changes
/// nothing, so that a gain that passes through 0 dB makes no step.
fn compress(x: f32, factor: f32) -> f32 {
    let over = x.abs() - KNEE;
    if over <= 0.0 {
        return x;
    }
    let curvature = (factor - 1.0) / ((1.0 - KNEE) * (factor - KNEE));
    (KNEE + over / (1.0 + curvature * over)).copysign(x)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::measure;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn zero_db_changes_no_bit(samples in proptest::collection::vec(any::<i16>(), 0..100)) {
            let mut same = samples.clone();
            apply(&mut same, factor(0.0));
            prop_assert_eq!(same, samples);
        }

        #[test]
        fn amplified_samples_keep_their_sign_and_order(a in any::<i16>(), b in any::<i16>(), db in 0.1f32..20.0) {
            let mut out = [a, b];
            apply(&mut out, factor(db));
            prop_assert!(out[0].signum() * a.signum() >= 0);
            prop_assert!(a > b || out[0] <= out[1]);
        }
    }

    #[test]
    fn a_factor_just_above_one_changes_no_sample_by_more_than_that_factor() {
        for sample in i16::MIN..=i16::MAX {
            let difference = i32::from(scale(sample, 1.000_1)) - i32::from(sample);
            assert!(difference.abs() <= 4, "{sample}: {difference}");
        }
    }

    #[test]
    fn a_ramp_through_one_makes_no_step_at_any_level() {
        for level in [10_000, 25_000, i16::MAX, i16::MIN] {
            let mut samples = vec![level; 1000];
            ramp(&mut samples, 0.9, 1.1);
            let step = samples.windows(2).map(|pair| pair[0].abs_diff(pair[1])).max();
            assert!(step <= Some(8), "{level}: {step:?}");
        }
    }

    #[test]
    fn full_scale_stays_full_scale_at_any_gain() {
        for db in [0.1, 1.0, 6.0, 20.0] {
            assert_eq!(scale(i16::MIN, factor(db)), i16::MIN);
            assert!(scale(i16::MAX, factor(db)) >= i16::MAX - 1);
        }
    }

    #[test]
    fn minus_six_db_lowers_the_level_by_six_db_and_zero_mutes() {
        let mut samples = measure::tone(24_000, 440.0, -20.0, 24_000);
        apply(&mut samples, factor(-6.0));
        assert!((measure::goertzel_dbfs(&samples, 24_000, 440.0) + 26.0).abs() < 0.05);
        apply(&mut samples, 0.0);
        assert!(samples.iter().all(|&x| x == 0));
    }

    #[test]
    fn a_ramp_is_linear() {
        let mut samples = vec![10_000; 100];
        ramp(&mut samples, 1.0, 0.0);
        assert!(samples.windows(2).all(|w| (0..=101).contains(&(w[0] - w[1]))));
        assert_eq!((samples[0], samples[99]), (9_900, 0));
        let mut same = vec![123; 10];
        ramp(&mut same, 1.0, 1.0);
        assert_eq!(same, [123; 10]);
    }

    #[test]
    fn plus_six_db_raises_the_level_by_six_db_below_the_knee() {
        let mut samples = measure::tone(24_000, 440.0, -20.0, 24_000);
        apply(&mut samples, factor(6.0));
        assert!((measure::goertzel_dbfs(&samples, 24_000, 440.0) + 14.0).abs() < 0.05);
    }
}
