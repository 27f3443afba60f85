//! What networks do, made up and recorded: no click, no more delay than they require, and soon no more of it.

use super::*;

/// How late each of 750 pieces of 40 ms was that were sent over TCP on a machine whose two cores had twenty things to do, in µs.
const LOADED_MACHINE: &str = include_str!("loaded-machine.txt");

fn recorded() -> Vec<u64> {
    LOADED_MACHINE.split_whitespace().map(|late_us| late_us.parse().unwrap()).collect()
}

/// Arrivals as networks make them: the pieces' length in frames, and how late each is.
fn trace(kind: usize, seed: u64, pieces: usize) -> (usize, Vec<u64>) {
    let mut random = seed | 1;
    let mut next = move |below: u64| {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (random >> 33) % below
    };
    let frames_per_piece = [1, 2, 5, 10][kind % 4];
    let mut stall_us = 0u64;
    let late_us = (0..pieces)
        .map(|_| {
            // A stall begins now and then, and what it held back comes all at once.
            stall_us = stall_us.saturating_sub(frames_per_piece as u64 * 20_000);
            if next(150) == 0 {
                stall_us = [60_000, 300_000, 2_500_000][kind / 4 % 3] + next(100_000);
            }
            stall_us + next(12_000)
        })
        .collect();
    (frames_per_piece, late_us)
}

/// Somebody who sends pieces of so many frames, each as late as `late_us` says, and five good seconds after them.
fn hear(sound: impl Fn(usize) -> Vec<i16>, frames_per_piece: usize, late_us: &[u64], phase_us: u64) -> (Run, Vec<i16>) {
    let (piece, good) = (FRAME_SAMPLES * frames_per_piece, 250 / frames_per_piece);
    let sound = sound(piece * (late_us.len() + good));
    let mut pushes = chunks(late_us.len() + good, piece, |i| late_us.get(i).copied().unwrap_or(0));
    for ((_, samples), said) in pushes.iter_mut().zip(sound.chunks(piece)) {
        samples.copy_from_slice(said);
    }
    let last_us = pushes.last().map_or(0, |(at, _)| *at);
    (run(Jitter::new(RATE_HZ), &pushes, phase_us, last_us / 20_000), sound)
}

/// A minute of somebody whose clock is faster by `ppm`, over such a network.
fn hear_by_clock(
    sound: impl Fn(usize) -> Vec<i16>,
    kind: usize,
    seed: u64,
    phase_us: u64,
    ppm: i64,
) -> (Run, Vec<i16>) {
    let (frames_per_piece, mut late_us) = trace(kind, seed, 3_000 / [1, 2, 5, 10][kind % 4]);
    for (i, late_us) in late_us.iter_mut().enumerate() {
        // Who is fast is late at first, and less and less.
        let apart_us = i as i64 * frames_per_piece as i64 * ppm / 50;
        *late_us += if ppm > 0 { 60_000 - apart_us } else { -apart_us }.unsigned_abs();
    }
    hear(sound, frames_per_piece, &late_us, phase_us)
}

/// Words of 320 ms and pauses of 180 ms.
fn words(samples: usize) -> Vec<i16> {
    let one = [word(FRAME_SAMPLES * 16), vec![0; FRAME_SAMPLES * 9]].concat();
    one.into_iter().cycle().take(samples).collect()
}

fn waiting_ms(jitter: &Jitter) -> usize {
    jitter.fill_samples() * 1000 / RATE_HZ as usize
}

#[test]
fn on_a_loaded_machine_the_depth_becomes_what_it_requires_and_there_is_no_click() {
    // Of the recording one piece in twenty is later than 42 ms, and the latest 156 ms.
    let late_us = recorded();
    for (sound, what) in [(word as fn(usize) -> Vec<i16>, "a tone"), (words, "words")] {
        let (run, said) = hear(sound, 2, &late_us, 7_000);
        assert_no_click(&run.heard(), &said);
        let (counters, margin) = (run.jitter.counters(), run.jitter.margin());
        println!("{what}: {counters:?}, depth {margin:?}");
        assert!((ms(40)..=ms(160)).contains(&margin), "{what}: {margin:?}");
        assert!(counters.underruns < 12, "{what}: {counters:?}");
    }
}

#[test]
fn speech_passes_bit_by_bit_through_a_good_network() {
    for speech in [speech::english(RATE_HZ), speech::french(RATE_HZ)] {
        let late_us: Vec<u64> =
            (0..speech.len() / 960).map(|i| if i == 0 { 0 } else { i as u64 * 7_919 % 15_000 }).collect();
        let whole = late_us.len() * 960;
        let (run, _) = hear(|n| speech.iter().copied().cycle().take(n).collect(), 2, &late_us, 3_000);
        assert_eq!(run.jitter.counters(), Counters::default());
        assert!(run.heard()[..whole] == speech[..whole]);
    }
}

#[test]
fn what_is_cut_while_a_resampler_follows_makes_no_click() {
    // Found by the property below.
    let (frames_per_piece, late_us) = trace(3, 11_521_436_268_963_837_859, 400);
    let (run, said) = hear(word, frames_per_piece, &late_us, 12_726);
    assert_no_click(&run.heard(), &said);
}

#[test]
fn what_is_torn_off_while_it_fades_in_fades_in_again() {
    // Found by the property below: only so little of it was heard that it seemed to be quiet.
    let (run, said) = hear_by_clock(word, 4, 2_456_730_501_514_610_017, 2_476, 238);
    assert_no_click(&run.heard(), &said);
}

#[test]
fn a_buffer_that_runs_dry_at_the_tick_of_a_resamplers_beginning_only_runs_dry() {
    // Pieces of a frame's length leave nothing in the buffer where one is late. The resampler for this slow clock waits for a
    // quiet moment then, and there is none.
    for late_piece in (1_400..1_700).step_by(10) {
        let late_us = |i| i as u64 * 3 + if i == late_piece { 60_000 } else { i as u64 * 7_919 % 2_000 };
        let run = run(Jitter::new(RATE_HZ), &chunks(1_800, FRAME_SAMPLES, late_us), 3_000, 1_800);
        assert_eq!(run.jitter.counters().underruns, 1, "{late_piece}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { max_shrink_iters: 50, ..ProptestConfig::with_cases(speech::cases(60)) })]

    #[test]
    fn whatever_the_network_does_there_is_no_click_and_the_delay_comes_back(
        kind in 0usize..12,
        with_pauses in any::<bool>(),
        seed in any::<u64>(),
        phase_us in 0u64..20_000,
    ) {
        let (frames_per_piece, late_us) = trace(kind, seed, 400);
        let (run, said) = hear(if with_pauses { words } else { word }, frames_per_piece, &late_us, phase_us);
        let all: Vec<i16> = run.frames.iter().flat_map(|(_, frame)| frame.iter().copied()).collect();
        assert_no_click(&all, &said);
        // What is too much since a moment ago is brought back in a moment.
        let margin = run.margins.iter().rev().take(150).max().copied().unwrap_or_default();
        let normal_ms = margin.as_millis() as usize + frames_per_piece * 20 + 20;
        prop_assert!(waiting_ms(&run.jitter) <= normal_ms + 100, "{} ms wait, {normal_ms} are normal", waiting_ms(&run.jitter));
    }

    #[test]
    fn nor_is_there_one_where_a_resampler_follows_the_clock_meanwhile(
        kind in 0usize..12,
        with_pauses in any::<bool>(),
        seed in any::<u64>(),
        phase_us in 0u64..20_000,
        ppm in -900i64..900,
    ) {
        let (run, said) = hear_by_clock(if with_pauses { words } else { word }, kind, seed, phase_us, ppm);
        let all: Vec<i16> = run.frames.iter().flat_map(|(_, frame)| frame.iter().copied()).collect();
        assert_no_click(&all, &said);
    }
}
