#![allow(clippy::unwrap_used)]

use super::*;
use crate::{measure, speech};
use ebur128::{EbuR128, Mode};
use proptest::prelude::*;

const RATES: [u32; 3] = [16_000, 24_000, 48_000];

/// Limits a whole sound, truncated to whole frames.
fn limited(rate_hz: u32, mix: &[i32]) -> Vec<i16> {
    let mut limiter = Limiter::new(rate_hz);
    let mut out = vec![0; rate_hz as usize / 50];
    let mut all = Vec::new();
    for frame in mix.chunks_exact(out.len()) {
        limiter.process(frame, &mut out);
        all.extend_from_slice(&out);
    }
    all
}

/// Returns the true peak in dBFS, measured by ebur128.
fn true_peak_dbfs(rate_hz: u32, samples: &[i16]) -> f64 {
    let mut meter = EbuR128::new(1, rate_hz, Mode::TRUE_PEAK).unwrap();
    meter.add_frames_i16(samples).unwrap();
    20.0 * meter.true_peak(0).unwrap().log10()
}

/// Returns a generator of uniform noise from −1 to 1.
fn noise(seed: u32) -> impl FnMut() -> f32 {
    let mut state = seed;
    move || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / 8_388_608.0 - 1.0
    }
}

fn wide(samples: &[i16]) -> Vec<i32> {
    samples.iter().map(|&x| i32::from(x)).collect()
}

#[test]
fn nothing_wraps() {
    let mut out = [0; 6];
    saturate(&[0, 32_767, 32_768, -32_768, -32_769, i32::MAX], &mut out);
    assert_eq!(out, [0, 32_767, 32_767, -32_768, -32_768, 32_767]);
}

#[test]
fn sound_below_the_ceiling_is_unchanged_and_delayed_by_5_ms() {
    for rate_hz in RATES {
        // The limiter skips the true-peak detector for the quiet tones, and runs it for the loud tones.
        for dbfs in [-40.0, -12.0, -5.0, -4.2] {
            let tone = measure::tone(rate_hz, 997.0, dbfs, rate_hz as usize);
            let out = limited(rate_hz, &wide(&tone));
            let delay = rate_hz as usize / 200;
            assert!(out[..delay].iter().all(|&x| x == 0));
            assert_eq!(out[delay..], tone[..tone.len() - delay], "{dbfs} dBFS at {rate_hz} Hz");
        }
    }
}

/// Returns sounds that are difficult to limit.
fn difficult_sounds(rate_hz: u32) -> Vec<(&'static str, Vec<i32>)> {
    let n = rate_hz as usize;
    let mut noise = noise(7);
    let full = 32_767.0;
    vec![
        ("50 noises at full scale", (0..n).map(|_| (0..50).map(|_| (noise() * full) as i32).sum()).collect()),
        (
            "50 times the same square",
            (0..n).map(|i| if i / 37 % 2 == 0 { 50 * 32_767 } else { -50 * 32_768 }).collect(),
        ),
        ("a tone between the samples", (0..n).map(|i| if i / 2 % 2 == 0 { 32_767 } else { -32_768 }).collect()),
        ("one click", (0..n).map(|i| if i == n / 2 { 1_000_000 } else { 0 }).collect()),
        ("clicks", (0..n).map(|i| if i % 997 == 0 { 32_767 * 3 } else { 1000 }).collect()),
        ("a tone that is suddenly there", {
            let tone = measure::tone(rate_hz, 1234.5, -3.1, n);
            tone.iter()
                .enumerate()
                .map(|(i, &x)| if i > n / 3 { i32::from(x) * 20 } else { i32::from(x) / 50 })
                .collect()
        }),
        ("a sweep just above the ceiling", {
            let sweep = |i: usize| (std::f64::consts::PI * 0.45 * (i * i) as f64 / n as f64).sin();
            (0..n).map(|i| (sweep(i) * 40_000.0) as i32).collect()
        }),
        ("loud speech", speech::english(rate_hz).iter().map(|&x| i32::from(x) * 12).collect()),
        ("i32 without end", vec![i32::MAX / 2; n]),
    ]
}

#[test]
fn no_true_peak_exceeds_the_ceiling() {
    for rate_hz in RATES {
        for (what, mix) in difficult_sounds(rate_hz) {
            let peak = true_peak_dbfs(rate_hz, &limited(rate_hz, &mix));
            assert!(
                peak <= f64::from(CEILING_DBFS),
                "{what}, sample rate {rate_hz} Hz: the peak {peak} dBFS is too high"
            );
            assert!(peak > -4.0, "{what}, sample rate {rate_hz} Hz: after the limiter the peak {peak} dBFS is too low");
        }
    }
}

#[test]
fn skipping_the_detector_changes_nothing() {
    for rate_hz in RATES {
        for (what, mix) in difficult_sounds(rate_hz) {
            let (mut skipping, mut envelope) = (Limiter::new(rate_hz), Envelope::new());
            let (block, mut out) = (skipping.block, vec![0; rate_hz as usize / 50]);
            let samples: Vec<f32> = std::iter::repeat_n(0.0, HISTORY).chain(mix.iter().map(|&x| x as f32)).collect();
            for (i, frame) in mix.chunks_exact(out.len()).enumerate() {
                skipping.process(frame, &mut out);
                for at in (0..frame.len()).step_by(block).map(|at| at + i * frame.len()) {
                    let window = &samples[at..at + HISTORY + block];
                    let peak = window.iter().fold(true_peak::of(window), |peak, x| peak.max(x.abs()));
                    envelope.push((skipping.ceiling / peak.max(1.0)).min(1.0));
                }
                assert!((skipping.gain() - envelope.gain()).abs() < 1e-6, "{what} at {rate_hz} Hz, frame {i}");
            }
        }
    }
}

#[test]
fn loud_speech_does_not_pump() {
    let rate_hz = 24_000;
    for voice in [speech::english(rate_hz), speech::french(rate_hz)] {
        let peak = i32::from(voice.iter().map(|x| x.unsigned_abs()).max().unwrap_or(1));
        // The test amplifies the speech so that its peak is 8 dB above full scale.
        let mix: Vec<i32> = voice.iter().map(|&x| i32::from(x) * 82_000 / peak).collect();
        let (mut limiter, mut out) = (Limiter::new(rate_hz), vec![0; 480]);
        let mut gains_db = Vec::new();
        for frame in mix.chunks_exact(480) {
            limiter.process(frame, &mut out);
            gains_db.push(20.0 * limiter.gain().log10());
        }
        // Maximum rise of the limiter's gain in dB that the test accepts within 6 frames (a syllable), and within 25 frames (a breath).
        for (frames, most_db) in [(6, 4.1), (25, 8.5)] {
            let rises = gains_db.windows(frames).map(|w| w[frames - 1] - w.iter().copied().fold(0f32, f32::min));
            let rise = rises.fold(0f32, f32::max);
            assert!(rise <= most_db, "{rise} dB in {frames} frames");
        }
        assert!(gains_db.iter().copied().fold(0f32, f32::min) < -4.0);
    }
}

#[test]
fn rest_equals_processing_silence() {
    let rate_hz = 24_000;
    let loud: Vec<i32> = measure::tone(rate_hz, 440.0, -3.1, 24_000).iter().map(|&x| i32::from(x) * 4).collect();
    let (mut resting, mut out) = (Limiter::new(rate_hz), vec![0; 480]);
    loud.chunks_exact(480).for_each(|frame| resting.process(frame, &mut out));
    resting.process(&[0; 480], &mut out);
    assert!(resting.is_silent() && resting.gain() < 0.5);
    let mut silent = resting.clone();
    (0..7).for_each(|_| silent.process(&[0; 480], &mut out));
    resting.rest(7);
    assert_eq!(resting.gain(), silent.gain());
    assert!(resting.agrees_with(&silent));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(speech::cases(300)))]

    #[test]
    fn the_gain_is_low_enough_in_time_and_changes_slowly(
        needs in proptest::collection::vec(prop_oneof![6 => Just(1.0f32), 2 => 0.02f32..1.0, 1 => 0.001f32..0.1], 20..600),
    ) {
        let mut envelope = Envelope::new();
        let gains: Vec<f32> = needs.iter().map(|&need| { envelope.push(need); envelope.gain() }).collect();
        for (i, &need) in needs.iter().enumerate() {
            // A block is delayed by 10 blocks. Its peak is detected with the block itself or with the next block.
            for at in [i + 8, i + 9, i + 10] {
                prop_assert!(gains.get(at).is_none_or(|&gain| gain <= need * 1.000_01), "{i}");
            }
        }
        for pair in gains.windows(2) {
            // The kernel's maximum weight is 0.2, which limits the change per block.
            prop_assert!(pair[0] - pair[1] <= 0.205, "{pair:?}");
        }
        for window in gains.windows(21) {
            prop_assert!(20.0 * (window[20] / window[0]).log10() <= 1.0, "more than 1 dB in 10 ms");
        }
    }

    #[test]
    fn process_minus_equals_process_of_the_difference(
        seed in any::<u32>(),
        amplitudes in proptest::collection::vec(prop_oneof![0.0f32..5_000.0, 0.0f32..40_000.0], 1..12),
        rate in 0usize..3,
        sealed in any::<bool>(),
    ) {
        let (rate_hz, mut noise) = (RATES[rate], noise(seed));
        let (mut one, mut two) = (Limiter::new(rate_hz), Limiter::new(rate_hz));
        let n = rate_hz as usize / 50;
        let (mut a, mut b) = (vec![0; n], vec![0; n]);
        for amplitude in amplitudes {
            let own: Vec<i16> = (0..n).map(|_| (noise() * amplitude.min(32_767.0)) as i16).collect();
            let others: Vec<Vec<i16>> =
                (0..3).map(|_| (0..n).map(|_| (noise() * amplitude.min(32_767.0)) as i16).collect()).collect();
            let mut sum = Sum::new(n);
            others.iter().chain([&own]).for_each(|frame| sum.add(frame));
            if sealed {
                sum.seal();
            }
            let mix: Vec<i32> = (0..n).map(|i| others.iter().map(|other| i32::from(other[i])).sum()).collect();
            one.process(&mix, &mut a);
            two.process_minus(&sum, &own, &mut b);
            prop_assert_eq!(&a, &b);
        }
    }

    #[test]
    fn noise_of_any_level_stays_below_the_ceiling(seed in any::<u32>(), levels in proptest::collection::vec(0f32..6.3, 1..8)) {
        let mut noise = noise(seed);
        let mix: Vec<i32> = levels.iter().flat_map(|level| {
            let amplitude = 10f32.powf(*level);
            (0..2_400).map(|_| (noise() * amplitude) as i32).collect::<Vec<_>>()
        }).collect();
        let peak = true_peak_dbfs(24_000, &limited(24_000, &mix));
        prop_assert!(peak <= f64::from(CEILING_DBFS), "{peak}");
    }
}
