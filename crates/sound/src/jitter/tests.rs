#![allow(clippy::unwrap_used)]

use super::*;
use crate::{measure, speech};
use proptest::prelude::*;

mod clocks;
mod networks;

const RATE_HZ: u32 = 24_000;
const FRAME_SAMPLES: usize = 480;

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// Returns `n` samples of a ramp from position `from` on. The value of a sample is its position modulo 30 000, plus 1.
/// One tick drops fewer than 30 000 samples, so each position is recognized.
fn ramp(from: usize, n: usize) -> Vec<i16> {
    (from..from + n).map(|i| (i % 30_000 + 1) as i16).collect()
}

/// The output of a simulation.
struct Run {
    jitter: Jitter,
    frames: Vec<(Pulled, Vec<i16>)>,
    /// Margin at each tick.
    margins: Vec<Duration>,
}

/// Simulates pushes (time in µs, samples) and ticks every 20 ms from `phase_us` on.
fn run(mut jitter: Jitter, pushes: &[(u64, Vec<i16>)], phase_us: u64, ticks: u64) -> Run {
    let (mut frames, mut margins) = (Vec::new(), Vec::new());
    let mut pushes = pushes.iter().peekable();
    for tick in 0..ticks {
        let now_us = phase_us + tick * 20_000;
        while let Some((at_us, samples)) = pushes.next_if(|(at_us, _)| *at_us <= now_us) {
            jitter.push(Duration::from_micros(*at_us), samples);
        }
        let mut frame = vec![77; FRAME_SAMPLES];
        let pulled = jitter.pull(Duration::from_micros(now_us), &mut frame);
        frames.push((pulled, frame));
        margins.push(jitter.margin());
    }
    Run { jitter, frames, margins }
}

impl Run {
    fn heard(&self) -> Vec<i16> {
        let first = self.frames.iter().position(|(pulled, _)| *pulled == Pulled::Frame).unwrap_or(self.frames.len());
        self.frames[first..].iter().flat_map(|(_, frame)| frame.iter().copied()).collect()
    }
}

/// Returns `n` pushes of `chunk` samples, each late by `late_us`. A late chunk delays all later chunks.
fn chunks(n: usize, chunk: usize, late_us: impl Fn(usize) -> u64) -> Vec<(u64, Vec<i16>)> {
    let mut last = 0;
    (0..n)
        .map(|i| {
            let due_us = (i * chunk) as u64 * 1_000_000 / u64::from(RATE_HZ);
            last = last.max(due_us + late_us(i));
            (last, ramp(i * chunk, chunk))
        })
        .collect()
}

/// Returns a tone that fades in and out, as a word does.
fn word(samples: usize) -> Vec<i16> {
    let mut tone = measure::tone(RATE_HZ, 300.0, -20.0, samples);
    for i in 0..FRAME_SAMPLES {
        for at in [i, samples - 1 - i] {
            tone[at] = (f32::from(tone[at]) * join::rise(i, FRAME_SAMPLES)).round() as i16;
        }
    }
    tone
}

fn without_silence(samples: &[i16]) -> &[i16] {
    let start = samples.iter().position(|&x| x != 0).unwrap_or(0);
    let end = samples.iter().rposition(|&x| x != 0).map_or(0, |last| last + 1);
    &samples[start..end]
}

/// Returns the maximum second difference of the samples, which shows steps and corners, and its position.
fn sharpest(samples: &[i16]) -> (i32, usize) {
    let bend = |w: &[i16]| (i32::from(w[0]) - 2 * i32::from(w[1]) + i32::from(w[2])).abs();
    samples.windows(3).map(bend).zip(1..).max_by_key(|(bend, _)| *bend).unwrap_or((0, 0))
}

/// Fails if the second difference of `heard` is more than three times the second difference of the tone. For the tone
/// of these tests, this limit is a quarter of the tone's maximum step from sample to sample.
fn assert_no_click(heard: &[i16], tone: &[i16]) {
    let ((bend, at), (own, _)) = (sharpest(heard), sharpest(tone));
    let (frame, around) = (at / FRAME_SAMPLES, &heard[at.saturating_sub(3)..(at + 4).min(heard.len())]);
    assert!(bend <= own * 3, "a click in frame {frame}, sample {}: {around:?}", at % FRAME_SAMPLES);
}

#[test]
fn the_first_frame_is_played_at_the_first_tick_after_the_margin() {
    for (phase_ms, first_tick) in [(0, 1), (14, 1), (15, 0), (19, 0)] {
        let run = run(Jitter::new(RATE_HZ), &chunks(10, FRAME_SAMPLES, |_| 0), phase_ms * 1000, 12);
        let first = run.frames.iter().position(|(pulled, _)| *pulled == Pulled::Frame).unwrap();
        assert_eq!(first, first_tick, "phase {phase_ms} ms");
    }
}

#[test]
fn digital_silence_counts_as_absence_after_a_second_and_the_next_word_is_whole() {
    const TICKS: usize = 250;
    let word = measure::tone(RATE_HZ, 300.0, -20.0, 12_000);
    for silence in [[0; 7], [0, 1, -1, 0, 0, -1, 1]] {
        for chunk in [240, FRAME_SAMPLES, 960, 4_801] {
            // A word, 3 s of silence, another word, then silence to the end.
            let mut samples: Vec<i16> = (0..TICKS * FRAME_SAMPLES).map(|i| silence[i % 7]).collect();
            for at in [0, 84_100] {
                samples[at..at + word.len()].copy_from_slice(&word);
            }
            let due_us = |at: usize| at as u64 * 1_000_000 / u64::from(RATE_HZ);
            let arrived = samples.chunks(chunk).enumerate();
            let pushes: Vec<_> = arrived.map(|(i, piece)| (due_us((i + 1) * chunk), piece.to_vec())).collect();
            let run = run(Jitter::new(RATE_HZ), &pushes, 0, TICKS as u64);
            let frames = |from_ms: usize, to_ms: usize| {
                let range = &run.frames[from_ms / 20..to_ms / 20];
                range.iter().filter(|(pulled, _)| *pulled == Pulled::Frame).count()
            };
            // The first word ends at 500 ms. The length of its last chunk and the margin delay it by up to 400 ms. Then a second passes until the
            // silence counts as absence.
            assert_eq!(frames(1_900, 3_500), 0, "chunks of {chunk}");
            let heard: Vec<i16> = run.frames[150..].iter().flat_map(|(_, frame)| frame.iter().copied()).collect();
            let begin = heard.windows(4).position(|four| *four == word[..4]).unwrap();
            assert!(heard[begin..begin + word.len()] == word, "chunks of {chunk}");
            assert_eq!(run.jitter.counters().underruns, 0, "chunks of {chunk}");
        }
    }
}

#[test]
fn silence_shorter_than_a_second_and_quiet_noise_are_played() {
    let rate = RATE_HZ as usize;
    for (silence, level) in [(rate - FRAME_SAMPLES, 0), (2 * rate, 2)] {
        let mut samples = vec![level; silence + 2 * rate];
        for from in [0, silence + rate] {
            samples[from..from + rate].copy_from_slice(&ramp(0, rate));
        }
        let pieces = samples.chunks(FRAME_SAMPLES).enumerate();
        let pushes: Vec<_> = pieces.map(|(i, piece)| (i as u64 * 20_000, piece.to_vec())).collect();
        let run = run(Jitter::new(RATE_HZ), &pushes, 15_000, pushes.len() as u64);
        assert!(run.heard() == samples[..run.heard().len()] && run.heard().len() >= samples.len() - rate / 10);
    }
}

#[test]
fn an_empty_buffer_gives_silence_and_needs_no_tick() {
    let mut jitter = Jitter::new(RATE_HZ);
    let mut frame = vec![5; FRAME_SAMPLES];
    assert_eq!(jitter.pull(ms(0), &mut frame), Pulled::Silence);
    assert!(frame.iter().all(|&x| x == 0) && jitter.is_idle());
    jitter.push(ms(1), &[1]);
    assert!(!jitter.is_idle());
}

#[test]
fn a_spurt_shorter_than_a_frame_is_played_and_padded() {
    let run = run(Jitter::new(RATE_HZ), &[(0, ramp(0, 100))], 0, 5);
    let heard = run.heard();
    assert_eq!(heard[..100], ramp(0, 100));
    assert!(heard[100 + 120..].iter().all(|&x| x == 0));
    assert!(run.jitter.is_idle());
    assert_eq!(run.jitter.counters(), Counters::default());
}

#[test]
fn an_underrun_makes_no_click() {
    let tone = word(FRAME_SAMPLES * 20);
    let pushes: Vec<_> = (0..20)
        // In this test, the network stalls for 60 ms before the eleventh chunk.
        .map(|i| (i as u64 * 20_000 + if i >= 10 { 60_000 } else { 0 }, tone[i * 480..(i + 1) * 480].to_vec()))
        .collect();
    let run = run(Jitter::new(RATE_HZ), &pushes, 5_000, 40);
    assert_eq!(run.jitter.counters().underruns, 1);
    assert!((ms(55)..=ms(60)).contains(&run.jitter.margin()), "{:?}", run.jitter.margin());
    let all: Vec<i16> = run.frames.iter().flat_map(|(_, frame)| frame.clone()).collect();
    assert_no_click(&all, &tone);
}

#[test]
fn a_pause_between_sentences_is_no_underrun_and_loses_nothing() {
    let sentence = word(2_400);
    let pushes: Vec<_> = [0, 800_000]
        .iter()
        .flat_map(|at| (0..).map(move |i| at + i * 20_000).zip(sentence.chunks(FRAME_SAMPLES).map(<[i16]>::to_vec)))
        .collect();
    let run = run(Jitter::new(RATE_HZ), &pushes, 5_000, 60);
    assert_eq!(run.jitter.counters(), Counters::default());
    for half in run.frames.chunks(40) {
        let heard: Vec<i16> = half.iter().flat_map(|(_, frame)| frame.clone()).collect();
        assert!(without_silence(&heard) == without_silence(&sentence));
    }
}

#[test]
fn a_stall_that_ends_in_a_burst_is_an_underrun_however_long() {
    let pushes = chunks(40, FRAME_SAMPLES, |i| if (10..25).contains(&i) { (25 - i as u64) * 20_000 } else { 0 });
    let run = run(Jitter::new(RATE_HZ), &pushes, 5_000, 60);
    assert_eq!(run.jitter.counters().underruns, 1);
}

#[test]
fn a_lasting_surplus_is_dropped_in_a_quiet_moment() {
    // 200 ms of sound arrive at once, and the rest in real time.
    let tone = word(FRAME_SAMPLES * 200);
    let quiet = vec![1; FRAME_SAMPLES * 25];
    let mut sound = tone.clone();
    sound.extend(quiet);
    sound.extend(&tone);
    let mut pushes = vec![(0, sound[..4800].to_vec())];
    pushes.extend(sound[4800..].chunks(480).enumerate().map(|(i, s)| ((i as u64 + 1) * 20_000, s.to_vec())));
    let run = run(Jitter::new(RATE_HZ), &pushes, 5_000, 420);
    let waiting_ms = 200 - run.jitter.counters().cut_samples / 24;
    assert!((10..=65).contains(&waiting_ms), "{waiting_ms}");
    assert_eq!(run.jitter.counters().underruns, 0);
    let all: Vec<i16> = run.frames[1..400].iter().flat_map(|(_, frame)| frame.clone()).collect();
    assert_no_click(&all, &tone);
}

#[test]
fn samples_that_waited_while_the_process_was_stopped_are_dropped() {
    let mut jitter = Jitter::new(RATE_HZ);
    jitter.push(ms(0), &ramp(0, 4800));
    let mut frame = vec![0; FRAME_SAMPLES];
    assert_eq!(jitter.pull(ms(20), &mut frame), Pulled::Frame);
    jitter.push(ms(5_000), &ramp(10_000, 480));
    assert_eq!(jitter.pull(ms(5_020), &mut frame), Pulled::Frame);
    // The first 5 ms of the frame are the cross-fade.
    assert_eq!(frame[120..], ramp(10_120, 360));
    assert_eq!(jitter.counters().cut_samples, 4320);
}

#[test]
fn silence_at_the_start_of_a_spurt_adds_no_delay() {
    let sound = [vec![0; FRAME_SAMPLES * 9], word(FRAME_SAMPLES * 40)].concat();
    // A word in chunks of 20 ms, then 200 ms at once, of which 180 ms are silence.
    let first = word(FRAME_SAMPLES * 10);
    let mut pushes: Vec<_> = (0..).map(|i| i * 20_000).zip(first.chunks(480).map(<[i16]>::to_vec)).collect();
    pushes.push((1_000_000, sound[..4800].to_vec()));
    pushes.extend((51..).map(|i| i * 20_000).zip(sound[4800..].chunks(480).map(<[i16]>::to_vec)));
    let run = run(Jitter::new(RATE_HZ), &pushes, 5_000, 110);
    let cut_ms = run.jitter.counters().cut_samples / 24;
    assert!((150..=180).contains(&cut_ms), "{cut_ms} ms");
    assert_eq!(run.jitter.counters().underruns, 0);
    let heard: Vec<i16> = run.frames[40..].iter().flat_map(|(_, frame)| frame.clone()).collect();
    assert!(without_silence(&heard) == without_silence(&sound));
}

#[test]
fn old_silence_is_dropped_before_old_sound() {
    let word = word(FRAME_SAMPLES * 4);
    let mut jitter = Jitter::new(RATE_HZ);
    let mut frame = vec![0; FRAME_SAMPLES];
    // A word of 80 ms, 200 ms of silence and the word again arrive at once, at 0 ms. The mixer is stalled: it pulls the
    // first frame at 240 ms, so without a drop the second word would be older than the maximum.
    let sound = [word.clone(), vec![0; FRAME_SAMPLES * 10], word.clone()].concat();
    jitter.push(ms(0), &sound);
    let heard: Vec<i16> = (0..20)
        .flat_map(|tick| {
            let _ = jitter.pull(ms(240 + tick * 20), &mut frame);
            frame.clone()
        })
        .collect();
    let cut_ms = jitter.counters().cut_samples / 24;
    assert!((195..=205).contains(&cut_ms), "{cut_ms} ms");
    let loud = |samples: &[i16]| samples.iter().filter(|x| x.abs() > 40).count();
    assert!(loud(&heard) + 200 > 2 * loud(&word), "{} of {}", loud(&heard), 2 * loud(&word));
}

proptest! {
    #![proptest_config(ProptestConfig { max_shrink_iters: 50, ..ProptestConfig::with_cases(speech::cases(100)) })]

    #[test]
    fn sound_later_than_the_first_chunk_by_less_than_the_margin_passes_unchanged(
        late_us in proptest::collection::vec(0u64..15_000, 1..60),
        frames_per_chunk in 1usize..=5,
        phase_us in 0u64..20_000,
    ) {
        // Lateness is relative to the first chunk, so the first chunk is never late.
        let pushes = chunks(late_us.len(), FRAME_SAMPLES * frames_per_chunk, |i| if i == 0 { 0 } else { late_us[i] });
        let total = late_us.len() * FRAME_SAMPLES * frames_per_chunk;
        let ticks = (total / FRAME_SAMPLES + 5) as u64;
        let run = run(Jitter::new(RATE_HZ), &pushes, phase_us, ticks);
        prop_assert_eq!(run.jitter.counters(), Counters::default());
        prop_assert_eq!(&run.heard()[..total], ramp(0, total));
    }

    #[test]
    fn short_chunks_of_any_length_are_joined_unchanged(
        chunks in proptest::collection::vec(1usize..480, 1..200),
        phase_us in 0u64..20_000,
    ) {
        let (mut at, mut pushes) = (0, Vec::new());
        for chunk in &chunks {
            // A chunk arrives when its last sample was recorded.
            pushes.push(((at + chunk) as u64 * 1_000_000 / u64::from(RATE_HZ), ramp(at, *chunk)));
            at += chunk;
        }
        let run = run(Jitter::new(RATE_HZ), &pushes, phase_us, (at / FRAME_SAMPLES + 6) as u64);
        prop_assert_eq!(run.jitter.counters().cut_samples, 0);
        if run.jitter.counters().underruns == 0 {
            prop_assert_eq!(&run.heard()[..at], ramp(0, at));
        }
    }

    #[test]
    fn no_sample_older_than_the_maximum_is_played(
        arrivals in proptest::collection::vec((5_000u64..300_000, 1usize..4_800), 1..60),
        phase_us in 0u64..20_000,
    ) {
        let (mut at_us, mut place, mut pushes, mut born_us) = (0, 0, Vec::new(), Vec::new());
        for (gap_us, n) in arrivals {
            at_us += gap_us;
            pushes.push((at_us, ramp(place, n)));
            born_us.extend(std::iter::repeat_n(at_us, n));
            place += n;
        }
        let run = run(Jitter::new(RATE_HZ), &pushes, phase_us, at_us / 20_000 + 40);
        let (mut from, mut previous) = (0, 0);
        for (tick, (_, frame)) in run.frames.iter().enumerate() {
            let now_us = phase_us + tick as u64 * 20_000;
            // The last samples of a frame contain no cross-fade if they are a part of the ramp. Skip a frame for which they are not.
            let Some(last) = place_of(&frame[FRAME_SAMPLES - 120..], from, place) else { continue };
            // After an underrun in the last samples of a frame, the extrapolation continues the ramp beyond the samples
            // that have arrived.
            if born_us[last] > now_us {
                continue;
            }
            prop_assert!(now_us - born_us[last] <= 400_000, "{} ms", (now_us - born_us[last]) / 1000);
            prop_assert!(last >= previous, "the samples are out of order");
            (from, previous) = (last, last);
        }
        prop_assert!(run.jitter.is_idle());
    }
}

/// Returns the position of the last sample of `samples` in a ramp of `total` samples, searched from `from` on.
fn place_of(samples: &[i16], from: usize, total: usize) -> Option<usize> {
    let (first, last) = (usize::try_from(samples[0]).ok()?.checked_sub(1)?, *samples.last()?);
    let consecutive = samples.windows(2).all(|w| w[1] == w[0] + 1);
    if !consecutive {
        return None;
    }
    let place = (0..).map(|turn| first + turn * 30_000 + samples.len() - 1).find(|&place| place >= from)?;
    (place < total && ramp(place, 1)[0] == last).then_some(place)
}

#[test]
fn sums_beyond_16_bits_pass_unchanged_and_an_interruption_causes_no_click() {
    let loud: Vec<i32> = measure::tone(RATE_HZ, 300.0, -6.0, 24_000).iter().map(|&x| 5 * i32::from(x)).collect();
    let mut jitter = Jitter::<i32>::new(RATE_HZ);
    let (mut heard, mut frame) = (Vec::new(), vec![0; FRAME_SAMPLES]);
    for (tick, sent) in (0..).zip(loud.chunks(FRAME_SAMPLES)) {
        jitter.push(ms(20 * tick), sent);
        if jitter.pull(ms(20 * tick + 15), &mut frame) == Pulled::Frame {
            heard.extend_from_slice(&frame);
        }
    }
    assert!(loud.iter().any(|x| x.abs() > 70_000));
    assert_eq!(heard, loud);
    // No more samples arrive, in the middle of the tone. The buffer must fade the tone out, so that it doesn't end with a click.
    let _ = jitter.pull(ms(1015), &mut frame);
    let steepest = loud.windows(2).map(|pair| (pair[1] - pair[0]).abs()).max().unwrap();
    heard.extend_from_slice(&frame);
    let steps = heard.windows(2).skip(23_900).map(|pair| (pair[1] - pair[0]).abs());
    assert!(steps.max().unwrap() <= steepest * 11 / 10, "{steepest}");
    assert_eq!(frame[479], 0);
}
