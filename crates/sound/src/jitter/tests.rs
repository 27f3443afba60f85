#![allow(clippy::unwrap_used)]

use super::*;
use crate::measure;
use proptest::prelude::*;

const RATE_HZ: u32 = 24_000;
const FRAME_SAMPLES: usize = 480;

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// A ramp, in which every sample says its own place (up to 30 000 of them, more than can be skipped in one tick).
fn ramp(from: usize, n: usize) -> Vec<i16> {
    (from..from + n).map(|i| (i % 30_000 + 1) as i16).collect()
}

/// Plays pushes (time in µs, samples) against ticks every 20 ms from `phase_us`; gives what was heard frame by frame.
struct Run {
    jitter: Jitter,
    frames: Vec<(Pulled, Vec<i16>)>,
}

fn run(mut jitter: Jitter, pushes: &[(u64, Vec<i16>)], phase_us: u64, ticks: u64) -> Run {
    let mut frames = Vec::new();
    let mut pushes = pushes.iter().peekable();
    for tick in 0..ticks {
        let now_us = phase_us + tick * 20_000;
        while let Some((at_us, samples)) = pushes.next_if(|(at_us, _)| *at_us <= now_us) {
            jitter.push(Duration::from_micros(*at_us), samples);
        }
        let mut frame = vec![77; FRAME_SAMPLES];
        let pulled = jitter.pull(Duration::from_micros(now_us), &mut frame);
        frames.push((pulled, frame));
    }
    Run { jitter, frames }
}

impl Run {
    fn heard(&self) -> Vec<i16> {
        let first = self.frames.iter().position(|(pulled, _)| *pulled == Pulled::Frame).unwrap_or(self.frames.len());
        self.frames[first..].iter().flat_map(|(_, frame)| frame.iter().copied()).collect()
    }
}

/// `n` chunks of `chunk` samples, each as late as `late_us` says, in order.
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

fn largest_step(samples: &[i16]) -> i32 {
    samples.windows(2).map(|w| (i32::from(w[1]) - i32::from(w[0])).abs()).max().unwrap_or(0)
}

#[test]
fn the_first_frame_waits_for_the_margin_and_no_longer_than_to_the_next_tick() {
    for (phase_ms, first_tick) in [(0, 1), (14, 1), (15, 0), (19, 0)] {
        let run = run(Jitter::new(RATE_HZ), &chunks(10, FRAME_SAMPLES, |_| 0), phase_ms * 1000, 12);
        let first = run.frames.iter().position(|(pulled, _)| *pulled == Pulled::Frame).unwrap();
        assert_eq!(first, first_tick, "phase {phase_ms} ms");
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
fn running_dry_and_going_on_make_no_click() {
    let tone = measure::tone(RATE_HZ, 300.0, -20.0, FRAME_SAMPLES * 20);
    let natural = largest_step(&tone);
    let pushes: Vec<_> = (0..20)
        // The network stands still for 60 ms in the middle.
        .map(|i| (i as u64 * 20_000 + if i >= 10 { 60_000 } else { 0 }, tone[i * 480..(i + 1) * 480].to_vec()))
        .collect();
    let run = run(Jitter::new(RATE_HZ), &pushes, 5_000, 40);
    assert_eq!(run.jitter.counters().underruns, 1);
    assert_eq!(run.jitter.margin(), MARGIN_MIN + MARGIN_STEP);
    let all: Vec<i16> = run.frames.iter().flat_map(|(_, frame)| frame.clone()).collect();
    assert!(largest_step(&all) <= natural + natural / 2, "{} against {natural}", largest_step(&all));
}

#[test]
fn a_pause_between_two_sentences_is_no_underrun_and_the_next_one_is_heard_whole() {
    let mut pushes = chunks(5, FRAME_SAMPLES, |_| 0);
    pushes.extend(chunks(5, FRAME_SAMPLES, |_| 0).into_iter().map(|(at, s)| (at + 800_000, s)));
    let run = run(Jitter::new(RATE_HZ), &pushes, 5_000, 60);
    assert_eq!(run.jitter.counters(), Counters::default());
    let second = run.frames[40..].iter().flat_map(|(_, f)| f.clone()).skip_while(|&x| x == 0).take(2400);
    assert_eq!(second.collect::<Vec<_>>(), ramp(0, 2400));
}

#[test]
fn a_stall_that_ends_in_a_burst_is_an_underrun_however_long() {
    let pushes = chunks(40, FRAME_SAMPLES, |i| if (10..25).contains(&i) { (25 - i as u64) * 20_000 } else { 0 });
    let run = run(Jitter::new(RATE_HZ), &pushes, 5_000, 60);
    assert_eq!(run.jitter.counters().underruns, 1);
}

#[test]
fn a_lasting_surplus_is_brought_back_in_a_quiet_moment() {
    // 200 ms at once, then real time: all of it would be delay for ever.
    let tone = measure::tone(RATE_HZ, 300.0, -20.0, FRAME_SAMPLES * 200);
    let quiet = vec![1; FRAME_SAMPLES * 25];
    let mut sound = tone.clone();
    sound.extend(quiet);
    sound.extend(&tone);
    let mut pushes = vec![(0, sound[..4800].to_vec())];
    pushes.extend(sound[4800..].chunks(480).enumerate().map(|(i, s)| ((i as u64 + 1) * 20_000, s.to_vec())));
    let run = run(Jitter::new(RATE_HZ), &pushes, 5_000, 420);
    let waiting_ms = 200 - run.jitter.counters().cut_samples / 24;
    assert!((15..=65).contains(&waiting_ms), "{waiting_ms}");
    assert_eq!(run.jitter.counters().underruns, 0);
    let all: Vec<i16> = run.frames[1..400].iter().flat_map(|(_, frame)| frame.clone()).collect();
    assert!(largest_step(&all) <= largest_step(&tone) * 2, "{}", largest_step(&all));
}

#[test]
fn what_waited_while_the_process_stood_still_is_not_played() {
    let mut jitter = Jitter::new(RATE_HZ);
    jitter.push(ms(0), &ramp(0, 4800));
    let mut frame = vec![0; FRAME_SAMPLES];
    assert_eq!(jitter.pull(ms(20), &mut frame), Pulled::Frame);
    jitter.push(ms(5_000), &ramp(10_000, 480));
    assert_eq!(jitter.pull(ms(5_020), &mut frame), Pulled::Frame);
    // The first 5 ms are the cross-fade.
    assert_eq!(frame[120..], ramp(10_120, 360));
    assert_eq!(jitter.counters().cut_samples, 4320);
}

#[test]
fn the_margin_grows_with_underruns_and_shrinks_with_good_minutes() {
    let mut jitter = Jitter::new(RATE_HZ);
    let mut frame = vec![0; FRAME_SAMPLES];
    let mut now = ms(0);
    for _ in 0..30 {
        jitter.push(now, &ramp(0, FRAME_SAMPLES));
        while !jitter.is_idle() {
            now += ms(20);
            let _ = jitter.pull(now, &mut frame);
        }
        now += ms(30);
    }
    assert_eq!(jitter.margin(), MARGIN_MAX);
    // One push after another, never dry: 19 minutes bring it back.
    jitter.push(now, &ramp(0, FRAME_SAMPLES * 19));
    for _ in 0..19 * 3_000 + 100 {
        now += ms(20);
        jitter.push(now, &ramp(0, FRAME_SAMPLES));
        let _ = jitter.pull(now, &mut frame);
    }
    assert_eq!(jitter.margin(), MARGIN_MIN);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn nothing_is_lost_and_order_is_kept_when_sound_is_late_by_less_than_the_margin(
        late_us in proptest::collection::vec(0u64..15_000, 1..60),
        frames_per_chunk in 1usize..=5,
        phase_us in 0u64..20_000,
    ) {
        // The first one is on time: lateness is counted from there.
        let pushes = chunks(late_us.len(), FRAME_SAMPLES * frames_per_chunk, |i| if i == 0 { 0 } else { late_us[i] });
        let total = late_us.len() * FRAME_SAMPLES * frames_per_chunk;
        let ticks = (total / FRAME_SAMPLES + 5) as u64;
        let run = run(Jitter::new(RATE_HZ), &pushes, phase_us, ticks);
        prop_assert_eq!(run.jitter.counters(), Counters::default());
        prop_assert_eq!(&run.heard()[..total], ramp(0, total));
    }

    #[test]
    fn small_pieces_of_any_length_are_put_together_bit_by_bit(
        pieces in proptest::collection::vec(1usize..480, 1..200),
        phase_us in 0u64..20_000,
    ) {
        let (mut at, mut pushes) = (0, Vec::new());
        for piece in &pieces {
            // A piece is there when its last sample has been spoken.
            pushes.push(((at + piece) as u64 * 1_000_000 / u64::from(RATE_HZ), ramp(at, *piece)));
            at += piece;
        }
        let run = run(Jitter::new(RATE_HZ), &pushes, phase_us, (at / FRAME_SAMPLES + 6) as u64);
        prop_assert_eq!(run.jitter.counters().cut_samples, 0);
        if run.jitter.counters().underruns == 0 {
            prop_assert_eq!(&run.heard()[..at], ramp(0, at));
        }
    }

    #[test]
    fn nothing_is_ever_older_than_the_maximum_whatever_comes(
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
            // A frame's own end is free of cross-fades and tails whenever it is a piece of the ramp.
            let Some(last) = place_of(&frame[FRAME_SAMPLES - 120..], from, place) else { continue };
            prop_assert!(now_us - born_us[last] <= 400_000, "{} ms", (now_us - born_us[last]) / 1000);
            prop_assert!(last >= previous, "order");
            (from, previous) = (last, last);
        }
        prop_assert!(run.jitter.is_idle());
    }
}

/// Where in the ramp of `total` samples these lie: their last one's place, at or after `from`.
fn place_of(samples: &[i16], from: usize, total: usize) -> Option<usize> {
    let (first, last) = (usize::try_from(samples[0]).ok()?.checked_sub(1)?, *samples.last()?);
    let consecutive = samples.windows(2).all(|w| w[1] == w[0] + 1);
    if !consecutive {
        return None;
    }
    let place = (0..).map(|turn| first + turn * 30_000 + samples.len() - 1).find(|&place| place >= from)?;
    (place < total && ramp(place, 1)[0] == last).then_some(place)
}
