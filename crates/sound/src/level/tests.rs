#![allow(clippy::unwrap_used)]

use super::*;
use crate::{measure, speech};
use ebur128::{EbuR128, Mode};
use proptest::prelude::*;

const RATES: [u32; 3] = [16_000, 24_000, 48_000];

/// Returns both recorded voices.
fn voices(rate_hz: u32) -> [Vec<i16>; 2] {
    [speech::english(rate_hz), speech::french(rate_hz)]
}

/// Repeats the voice for `seconds` at a level of `dbfs` (RMS of the whole recording). Samples may saturate.
fn said(voice: &[i16], dbfs: f64, seconds: usize, rate_hz: u32) -> Vec<i16> {
    let factor = 10f64.powf((dbfs - measure::rms_dbfs(voice)) / 20.0);
    let scaled = voice.iter().cycle().map(|&x| (f64::from(x) * factor).round() as i16);
    scaled.take(rate_hz as usize * seconds).collect()
}

/// Levels `samples`. Returns the output, and the gain after each frame.
fn levelled(rate_hz: u32, samples: &[i16]) -> (Vec<i16>, Vec<f32>) {
    let mut leveller = Leveller::new(rate_hz);
    let (mut out, mut gains) = (samples.to_vec(), Vec::new());
    for frame in out.chunks_exact_mut(rate_hz as usize / 50) {
        leveller.process(frame);
        gains.push(leveller.gain_db());
    }
    (out, gains)
}

/// Returns the integrated loudness, measured by ebur128.
fn integrated_lufs(rate_hz: u32, samples: &[i16]) -> f64 {
    let mut meter = EbuR128::new(1, rate_hz, Mode::I).unwrap();
    meter.add_frames_i16(samples).unwrap();
    meter.loudness_global().unwrap()
}

/// Maximum deviation from the target loudness that the tests accept, in dB.
const WITHIN_DB: f64 = 3.0;

#[test]
fn speech_from_minus_45_to_minus_6_dbfs_is_near_minus_20_lufs_after_ten_seconds() {
    for rate_hz in RATES {
        for voice in voices(rate_hz) {
            for dbfs in [-45.0, -30.0, -20.0, -6.0] {
                let input = said(&voice, dbfs, 16, rate_hz);
                let (out, _) = levelled(rate_hz, &input);
                let at = rate_hz as usize * 10;
                let (before, after) = (integrated_lufs(rate_hz, &input[at..]), integrated_lufs(rate_hz, &out[at..]));
                println!("{rate_hz} Hz, {dbfs} dBFS: {before:.1} LUFS becomes {after:.1} LUFS");
                assert!((after - f64::from(TARGET_LUFS)).abs() < WITHIN_DB, "{dbfs} dBFS at {rate_hz} Hz: {after}");
            }
        }
    }
}

/// Returns the gain from `input` to `out`, in dB.
fn gain_between(input: &[i16], out: &[i16]) -> f64 {
    measure::rms_dbfs(out) - measure::rms_dbfs(input)
}

#[test]
fn the_gain_changes_by_at_most_3_db_per_second() {
    let rate_hz = 24_000;
    let second = rate_hz as usize;
    for dbfs in [-45.0, -30.0, -6.0] {
        let input = said(&speech::english(rate_hz), dbfs, 12, rate_hz);
        let (out, gains) = levelled(rate_hz, &input);
        assert_is_slow(&gains);
        // Measure on the output too how much the gain changes in a second: between all pairs of frames one second apart that both contain speech.
        let is_speech = |at: &usize| measure::rms_dbfs(&input[*at..at + 480]) > dbfs - 5.0;
        let frames = (0..input.len() - second).step_by(480).filter(is_speech);
        for at in frames.filter(|at| is_speech(&(at + second))) {
            let gain = |at: usize| gain_between(&input[at..at + 480], &out[at..at + 480]);
            let change = (gain(at + second) - gain(at)).abs();
            assert!(change < f64::from(SLOPE_MAX_DB_S) + 0.1, "{dbfs} dBFS at {at}: {change} dB");
        }
    }
    // Speech whose level alternates, so that the leveller must change the gain all the time.
    let turns =
        [-45.0, -20.0, -40.0, -6.0, -30.0].map(|dbfs| said(&speech::french(rate_hz), dbfs, 5, rate_hz)).concat();
    assert_is_slow(&levelled(rate_hz, &turns).1);
}

fn assert_is_slow(gains: &[f32]) {
    let most = SLOPE_MAX_DB_S * FRAME_S * 1.001;
    assert!(gains.windows(2).all(|pair| (pair[1] - pair[0]).abs() <= most));
}

/// Returns noise of one of three colours: white noise, integrated `colour` times with a leak.
fn noise(colour: usize, dbfs: f64, n: usize) -> Vec<i16> {
    let (mut state, mut sums) = (7u32, [0.0; 2]);
    let mut samples = Vec::with_capacity(n);
    for _ in 0..n {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let mut x = f64::from(state >> 8) / 8_388_608.0 - 1.0;
        for sum in &mut sums[..colour] {
            *sum = *sum * 0.98 + x;
            x = *sum;
        }
        samples.push(x);
    }
    let rms = (samples.iter().map(|x| x * x).sum::<f64>() / n as f64).sqrt();
    let factor = 32_768.0 * 10f64.powf(dbfs / 20.0) / rms;
    samples.iter().map(|x| (x * factor).round() as i16).collect()
}

/// Cuts a voice into words with pauses. Returns the samples, and the ranges of the words.
fn words(voice: &[i16], rate_hz: u32) -> (Vec<i16>, Vec<std::ops::Range<usize>>) {
    let (word, pause) = (rate_hz as usize * 7 / 10, vec![0; rate_hz as usize * 73 / 100]);
    let (mut all, mut places) = (Vec::new(), Vec::new());
    for piece in voice.chunks_exact(word) {
        all.extend_from_slice(&pause);
        places.push(all.len()..all.len() + word);
        all.extend_from_slice(piece);
    }
    (all, places)
}

fn with(clean: &[i16], noise: &[i16]) -> Vec<i16> {
    clean.iter().zip(noise).map(|(a, b)| a + b).collect()
}

#[test]
fn noise_between_words_is_not_amplified() {
    let rate_hz = 24_000;
    let ms = |ms: usize| rate_hz as usize * ms / 1000;
    for (dbfs, noise_dbfs) in [(-45.0, -70.0), (-45.0, -60.0), (-30.0, -50.0)] {
        for (voice, colour) in voices(rate_hz).iter().zip([0, 1]) {
            let (clean, words) = words(&said(voice, dbfs, 20, rate_hz), rate_hz);
            let input = with(&clean, &noise(colour, noise_dbfs, clean.len()));
            let (out, gains) = levelled(rate_hz, &input);
            assert!(*gains.last().unwrap() > 8.0, "{gains:?}");
            for pair in words.windows(2) {
                // The gate stays open for 80 ms, closes within 40 ms, and changes at the start of a frame.
                let pause = pair[0].end + ms(140)..pair[1].start - ms(20);
                assert_eq!(gains[pause.start / 480], gains[pause.end / 480 - 1], "the gain changed in a pause");
                let raised = gain_between(&input[pause.clone()], &out[pause]);
                assert!(
                    raised < 0.1,
                    "{dbfs} dBFS in {noise_dbfs} dBFS of colour {colour}: noise raised by {raised} dB"
                );
            }
        }
    }
}

#[test]
fn a_word_has_its_full_gain_after_20_ms() {
    let rate_hz = 24_000;
    let ms = |ms: usize| rate_hz as usize * ms / 1000;
    for noise_dbfs in [-75.0, -70.0, -65.0, -60.0] {
        for voice in voices(rate_hz) {
            let (clean, words) = words(&said(&voice, -45.0, 30, rate_hz), rate_hz);
            let input = with(&clean, &noise(0, noise_dbfs, clean.len()));
            let (out, gains) = levelled(rate_hz, &input);
            for word in words {
                // A word counts from the sample at which it is 12 dB louder than the noise.
                let begins = |at: &usize| measure::rms_dbfs(&clean[*at..at + ms(10)]) > noise_dbfs + 12.0;
                let Some(at) = word.clone().step_by(ms(1)).find(begins).filter(|at| at + ms(40) < word.end) else {
                    continue;
                };
                let there = at + ms(20)..at + ms(40);
                let missing = f64::from(gains[at / 480]) - gain_between(&input[there.clone()], &out[there]);
                assert!(missing < 1.0, "in {noise_dbfs} dBFS: {missing} dB are missing");
            }
        }
    }
}

#[test]
fn sound_that_is_not_speech_passes_unchanged() {
    let rate_hz = 24_000;
    let hum = measure::tone(rate_hz, 100.0, -40.0, rate_hz as usize * 5);
    for colour in 0..3 {
        for dbfs in [-30.0, -50.0, -70.0] {
            let sound = noise(colour, dbfs, rate_hz as usize * 10);
            assert!(levelled(rate_hz, &sound).0 == sound, "colour {colour}, {dbfs} dBFS");
        }
    }
    for still in [vec![0; 24_000], hum] {
        assert!(levelled(rate_hz, &still).0 == still);
    }
}

#[test]
fn a_fan_that_starts_in_a_pause_is_amplified_for_at_most_3_s() {
    let rate_hz = 24_000;
    let mut input = said(&speech::french(rate_hz), -45.0, 12, rate_hz);
    let fan = input.len();
    input.extend(noise(1, -50.0, rate_hz as usize * 10));
    let (out, gains) = levelled(rate_hz, &input);
    assert!(gains.last().unwrap() - gains[fan / 480] < 2.0);
    let later = fan + rate_hz as usize * 3;
    assert!(out[later..] == input[later..]);
}

#[test]
fn a_talker_has_the_same_level_after_a_pause() {
    let rate_hz = 24_000;
    let voice = said(&speech::english(rate_hz), -35.0, 15, rate_hz);
    let mut leveller = Leveller::new(rate_hz);
    let mut say = |samples: &[i16]| {
        let mut out = samples.to_vec();
        out.chunks_exact_mut(480).for_each(|frame| leveller.process(frame));
        (measure::rms_dbfs(&out), leveller.gain_db())
    };
    let (_, before) = say(&voice);
    let (_, paused) = say(&vec![3; rate_hz as usize * 60]);
    let (loud, _) = say(&voice[..rate_hz as usize]);
    assert!((paused - before).abs() < 0.3, "{before} {paused}");
    assert!(loud - measure::rms_dbfs(&voice[..rate_hz as usize]) > f64::from(before) - 1.0);
}

#[test]
fn releasing_returns_to_gain_1_without_a_step() {
    let rate_hz = 24_000;
    let mut leveller = Leveller::new(rate_hz);
    let mut voice = said(&speech::english(rate_hz), -40.0, 10, rate_hz);
    voice.chunks_exact_mut(480).for_each(|frame| leveller.process(frame));
    let mut frame = vec![100; 480];
    leveller.release(&mut frame);
    assert!(frame[0] > 300 && frame[479] == 100 && frame.windows(2).all(|pair| (pair[0] - pair[1]).abs() <= 4));
    leveller.release(&mut frame);
    assert_eq!(frame[479], 100);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(speech::cases(50)))]

    #[test]
    fn the_gain_stays_within_its_bounds_for_any_sound(samples in proptest::collection::vec(any::<i16>(), 0..4_800), loud in 0.0f32..1.0) {
        let samples: Vec<i16> = samples.iter().map(|&x| (f32::from(x) * loud) as i16).collect();
        let (out, gains) = levelled(24_000, &samples);
        prop_assert!(gains.iter().all(|gain| (GAIN_MIN_DB..=GAIN_MAX_DB).contains(gain)));
        prop_assert!(out.iter().zip(&samples).all(|(out, &x)| i32::from(*out) * i32::from(x) >= 0));
    }
}
