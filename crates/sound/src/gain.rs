//! A participant's gain, applied to what they say before it is added to the sum.

/// Below this part of full scale a raised voice is left as it is; above, it bends towards full scale.
const KNEE: f32 = 0.7;

/// Multiplies `samples` by `factor` (1.0 is 0 dB and changes no bit; 0.0 mutes).
///
/// A factor above 1 can't clip: what would exceed −3 dBFS is bent smoothly and never reaches more than full scale.
pub fn apply(samples: &mut [i16], factor: f32) {
    if factor == 1.0 {
        return;
    }
    samples.iter_mut().for_each(|sample| *sample = scale(*sample, factor));
}

/// The same with a factor that goes in a straight line over `samples`, so that a change of gain makes no click.
pub fn ramp(samples: &mut [i16], from: f32, to: f32) {
    if from == to {
        return apply(samples, to);
    }
    let step = (to - from) / samples.len().max(1) as f32;
    for (i, sample) in samples.iter_mut().enumerate() {
        *sample = scale(*sample, from + step * (i + 1) as f32);
    }
}

/// The factor of a gain in dB.
#[must_use]
pub fn factor(db: f32) -> f32 {
    10f32.powf(db / 20.0)
}

fn scale(sample: i16, factor: f32) -> i16 {
    let x = f32::from(sample) / 32_768.0 * factor;
    let shaped = if factor > 1.0 { bend(x) } else { x };
    (shaped * 32_768.0).round() as i16
}

fn bend(x: f32) -> f32 {
    let over = x.abs() - KNEE;
    if over <= 0.0 { x } else { (KNEE + (1.0 - KNEE) * (over / (1.0 - KNEE)).tanh()).copysign(x) }
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
        fn a_raised_voice_keeps_its_sign_and_order(a in any::<i16>(), b in any::<i16>(), db in 0.1f32..20.0) {
            let mut out = [a, b];
            apply(&mut out, factor(db));
            prop_assert!(out[0].signum() * a.signum() >= 0);
            prop_assert!(a > b || out[0] <= out[1]);
        }
    }

    #[test]
    fn six_db_down_are_six_db_down_and_mute_is_silence() {
        let mut samples = measure::tone(24_000, 440.0, -20.0, 24_000);
        apply(&mut samples, factor(-6.0));
        assert!((measure::goertzel_dbfs(&samples, 24_000, 440.0) + 26.0).abs() < 0.05);
        apply(&mut samples, 0.0);
        assert!(samples.iter().all(|&x| x == 0));
    }

    #[test]
    fn a_change_of_gain_is_a_slope() {
        let mut samples = vec![10_000; 100];
        ramp(&mut samples, 1.0, 0.0);
        assert!(samples.windows(2).all(|w| (0..=101).contains(&(w[0] - w[1]))));
        assert_eq!((samples[0], samples[99]), (9_900, 0));
        let mut same = vec![123; 10];
        ramp(&mut same, 1.0, 1.0);
        assert_eq!(same, [123; 10]);
    }

    #[test]
    fn six_db_up_are_six_db_up_where_there_is_room() {
        let mut samples = measure::tone(24_000, 440.0, -20.0, 24_000);
        apply(&mut samples, factor(6.0));
        assert!((measure::goertzel_dbfs(&samples, 24_000, 440.0) + 14.0).abs() < 0.05);
    }
}
