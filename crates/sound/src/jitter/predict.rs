//! Extrapolates a sound by linear prediction with Burg's method, for the 5 ms in which an interrupted sound fades out.
//!
//! Unlike a repetition or a mirror image of the last samples, the extrapolation has no kink at its start. See J. P. Burg,
//! "Maximum entropy spectral analysis", 1967, and I. Kauppinen and K. Roth, "Audio signal extrapolation", DAFx 2002.

/// Number of coefficients of the linear prediction.
const ORDER: usize = 32;

/// Appends `n` predicted samples to `samples`.
pub(super) fn extend(samples: &mut Vec<f32>, n: usize) {
    // The prediction of an unusual sound can grow.
    let loudest = samples.iter().fold(32_768.0f32, |most, x| most.max(x.abs()));
    let coefficients = burg(samples);
    for _ in 0..n {
        let next: f64 = samples.iter().rev().zip(&coefficients).map(|(&x, a)| -f64::from(x) * a).sum();
        samples.push((next as f32).clamp(-loudest, loudest));
    }
}

/// Returns the coefficients `a` of the linear prediction. They minimize the energy of the prediction's error,
/// `x[n] + a[0]·x[n−1] + a[1]·x[n−2] + …`, forwards and backwards.
fn burg(samples: &[f32]) -> Vec<f64> {
    let mut forwards: Vec<f64> = samples.iter().map(|&x| f64::from(x)).collect();
    let mut backwards = forwards.clone();
    let mut a: Vec<f64> = Vec::with_capacity(ORDER);
    for m in 0..ORDER.min(samples.len().saturating_sub(1)) {
        let (f, b) = (&mut forwards[m + 1..], &mut backwards[m..]);
        let (mut product, mut energy) = (0.0, 0.0);
        for (f, b) in f.iter().zip(b.iter()) {
            product += f * b;
            energy += f * f + b * b;
        }
        if energy < 1.0 {
            break;
        }
        let k = -2.0 * product / energy;
        reflect(&mut a, k);
        // The backward errors are shifted by one sample, to align them with the forward errors.
        let mut last = 0.0;
        for (f, b) in f.iter_mut().zip(b.iter_mut()) {
            let (old_f, old_b) = (*f, *b);
            *f = old_f + k * old_b;
            *b = last;
            last = old_b + k * old_f;
        }
        if let Some(end) = backwards.last_mut() {
            *end = last;
        }
    }
    a
}

/// Adds the reflection coefficient `k` to the coefficients `a`: one step of the Levinson-Durbin recursion.
fn reflect(a: &mut Vec<f64>, k: f64) {
    let before = a.clone();
    a.iter_mut().zip(before.iter().rev()).for_each(|(a, mirrored)| *a += k * mirrored);
    a.push(k);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::measure;

    #[test]
    fn a_tone_continues() {
        for (rate_hz, freq_hz) in [(16_000, 120.0), (24_000, 300.0), (48_000, 3_000.0)] {
            let tone = measure::tone(rate_hz, freq_hz, -20.0, rate_hz as usize / 40);
            let known = rate_hz as usize / 50;
            let mut samples: Vec<f32> = tone[..known].iter().map(|&x| f32::from(x)).collect();
            extend(&mut samples, tone.len() - known);
            for (i, (x, y)) in samples.iter().zip(&tone).enumerate().skip(known) {
                let off = (x - f32::from(*y)).abs();
                assert!(off < 4.0 + (i - known) as f32 * 8.0, "{freq_hz} Hz, sample {i}: {x} for {y}");
            }
        }
    }

    #[test]
    fn silence_continues_as_silence_and_nothing_diverges() {
        let mut silence = vec![0.0; 480];
        extend(&mut silence, 120);
        assert!(silence.iter().all(|&x| x == 0.0));
        let mut square: Vec<f32> = (0..480).map(|i| if i / 40 % 2 == 0 { 30_000.0 } else { -30_000.0 }).collect();
        extend(&mut square, 480);
        assert!(square.iter().all(|x| x.abs() <= 32_768.0));
        let mut short = vec![5.0];
        extend(&mut short, 3);
        assert_eq!(short.len(), 4);
    }
}
