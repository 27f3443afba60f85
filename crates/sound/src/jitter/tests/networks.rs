//! Tests of the jitter buffer with generated and recorded networks: there are no clicks, there is no more delay than
//! necessary, and the delay returns to normal.

use super::*;

/// Lateness in µs of 750 chunks of 40 ms, sent over TCP on an overloaded machine with two cores.
const LOADED_MACHINE: &str = include_str!("loaded-machine.txt");

fn recorded() -> Vec<u64> {
    LOADED_MACHINE.split_whitespace().map(|late_us| late_us.parse().unwrap()).collect()
}

/// Generates the arrivals of a network: the length of the chunks in frames, and the lateness of each.
fn trace(kind: usize, seed: u64, chunks: usize) -> (usize, Vec<u64>) {
    let mut random = seed | 1;
    let mut next = move |below: u64| {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (random >> 33) % below
    };
    let frames_per_chunk = [1, 2, 5, 10][kind % 4];
    let mut stall_us = 0u64;
    let late_us = (0..chunks)
        .map(|_| {
            // A stall begins at random. The chunks of the stall then arrive all at once.
            stall_us = stall_us.saturating_sub(frames_per_chunk as u64 * 20_000);
            if next(150) == 0 {
                stall_us = [60_000, 300_000, 2_500_000][kind / 4 % 3] + next(100_000);
            }
            stall_us + next(12_000)
        })
        .collect();
    (frames_per_chunk, late_us)
}

/// Simulates chunks that are late by `late_us`, followed by five seconds of punctual chunks. Returns the output and the
/// input.
fn hear(sound: impl Fn(usize) -> Vec<i16>, frames_per_chunk: usize, late_us: &[u64], phase_us: u64) -> (Run, Vec<i16>) {
    let (chunk, good) = (FRAME_SAMPLES * frames_per_chunk, 250 / frames_per_chunk);
    let sound = sound(chunk * (late_us.len() + good));
    let mut pushes = chunks(late_us.len() + good, chunk, |i| late_us.get(i).copied().unwrap_or(0));
    for ((_, samples), said) in pushes.iter_mut().zip(sound.chunks(chunk)) {
        samples.copy_from_slice(said);
    }
    let last_us = pushes.last().map_or(0, |(at, _)| *at);
    (run(Jitter::new(RATE_HZ), &pushes, phase_us, last_us / 20_000), sound)
}

/// Simulates a minute of a talker whose clock is faster by `ppm`, over a generated network of kind `kind`.
fn hear_by_clock(
    sound: impl Fn(usize) -> Vec<i16>,
    kind: usize,
    seed: u64,
    phase_us: u64,
    ppm: i64,
) -> (Run, Vec<i16>) {
    let (frames_per_chunk, mut late_us) = trace(kind, seed, 3_000 / [1, 2, 5, 10][kind % 4]);
    for (i, late_us) in late_us.iter_mut().enumerate() {
        // The chunks of a fast talker are late by 60 ms more at first, and this lateness decreases. The lateness of a slow talker's chunks increases.
        let apart_us = i as i64 * frames_per_chunk as i64 * ppm / 50;
        *late_us += if ppm > 0 { 60_000 - apart_us } else { -apart_us }.unsigned_abs();
    }
    hear(sound, frames_per_chunk, &late_us, phase_us)
}

/// Returns words of 320 ms with pauses of 180 ms.
fn words(samples: usize) -> Vec<i16> {
    let one = [word(FRAME_SAMPLES * 16), vec![0; FRAME_SAMPLES * 9]].concat();
    one.into_iter().cycle().take(samples).collect()
}

fn waiting_ms(jitter: &Jitter) -> usize {
    jitter.store.len() * 1000 / RATE_HZ as usize
}

#[test]
fn on_an_overloaded_machine_the_margin_grows_and_there_is_no_click() {
    // In the recording, one chunk in twenty is late by more than 42 ms, and the most delayed chunk by 156 ms.
    let late_us = recorded();
    for (sound, what) in [(word as fn(usize) -> Vec<i16>, "a tone"), (words, "words")] {
        let (run, said) = hear(sound, 2, &late_us, 7_000);
        assert_no_click(&run.heard(), &said);
        let (counters, margin) = (run.jitter.counters(), run.jitter.margin());
        println!("{what}: {counters:?}, margin {margin:?}");
        assert!((ms(40)..=ms(160)).contains(&margin), "{what}: {margin:?}");
        assert!(counters.underruns < 12, "{what}: {counters:?}");
    }
}

#[test]
fn frames_that_arrive_in_bursts_are_not_delayed_longer_than_chunks() {
    for (frames, apart_us) in [(3, 0), (3, 900), (5, 0), (5, 700)] {
        let mut pushes = chunks(1_500, FRAME_SAMPLES, |_| 0);
        for (number, (at_us, _)) in pushes.iter_mut().enumerate() {
            let (burst, part) = (number as u64 / frames, number as u64 % frames);
            *at_us = burst * frames * 20_000 + part * apart_us + burst % 7 * 300;
        }
        let run = run(Jitter::new(RATE_HZ), &pushes, 17_000, 1_490);
        assert_eq!((run.jitter.margin(), run.jitter.counters()), (depth::MARGIN_MIN, Counters::default()), "{frames}");
        // The first frame waits for the margin at most until the next tick, and so does every later one.
        let heard = run.heard();
        assert!(
            heard.len() >= 1_488 * FRAME_SAMPLES && heard[..1_400 * FRAME_SAMPLES] == ramp(0, 1_400 * FRAME_SAMPLES)
        );
    }
}

#[test]
fn speech_passes_unchanged_through_a_good_network() {
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
fn a_drop_while_a_resampler_runs_makes_no_click() {
    // This network was found by the property test below.
    let (frames_per_chunk, late_us) = trace(3, 11_521_436_268_963_837_859, 400);
    let (run, said) = hear(word, frames_per_chunk, &late_us, 12_726);
    assert_no_click(&run.heard(), &said);
}

#[test]
fn a_sound_interrupted_during_its_fade_in_fades_in_again() {
    // This network was found by the property test below: the sound was interrupted so early in its fade-in that it
    // seemed to be quiet.
    let (run, said) = hear_by_clock(word, 4, 2_456_730_501_514_610_017, 2_476, 238);
    assert_no_click(&run.heard(), &said);
}

#[test]
fn an_underrun_at_the_tick_at_which_a_resampler_starts_is_only_an_underrun() {
    // With chunks of one frame, a late chunk leaves the buffer empty. The resampler for this slow clock then waits for
    // a quiet moment, and the sound has none.
    for late_chunk in (1_400..1_700).step_by(10) {
        let late_us = |i| i as u64 * 3 + if i == late_chunk { 60_000 } else { i as u64 * 7_919 % 2_000 };
        let run = run(Jitter::new(RATE_HZ), &chunks(1_800, FRAME_SAMPLES, late_us), 3_000, 1_800);
        assert_eq!(run.jitter.counters().underruns, 1, "{late_chunk}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { max_shrink_iters: 50, ..ProptestConfig::with_cases(speech::cases(60)) })]

    #[test]
    fn no_network_causes_a_click_or_a_lasting_delay(
        kind in 0usize..12,
        with_pauses in any::<bool>(),
        seed in any::<u64>(),
        phase_us in 0u64..20_000,
    ) {
        let (frames_per_chunk, late_us) = trace(kind, seed, 400);
        let (run, said) = hear(if with_pauses { words } else { word }, frames_per_chunk, &late_us, phase_us);
        let all: Vec<i16> = run.frames.iter().flat_map(|(_, frame)| frame.iter().copied()).collect();
        assert_no_click(&all, &said);
        // A new surplus is dropped only after some time, so the largest margin of the last 3 s is compared.
        let margin = run.margins.iter().rev().take(150).max().copied().unwrap_or_default();
        let normal_ms = margin.as_millis() as usize + frames_per_chunk * 20 + 20;
        prop_assert!(waiting_ms(&run.jitter) <= normal_ms + 100, "{} ms are waiting, {normal_ms} ms are normal", waiting_ms(&run.jitter));
    }

    #[test]
    fn no_network_causes_a_click_while_a_resampler_runs(
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
