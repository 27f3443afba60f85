//! Tests of the jitter buffer: half an hour of talkers whose clocks differ from the mixer's.

use std::f64::consts::TAU;
use std::sync::LazyLock;

use super::*;

const SECONDS: u64 = 1_800;
/// Period of the talker's tone in samples. The phase of a frame gives the frame's position to a fraction of a sample.
const PERIOD: usize = 240;
/// Amplitude of the tone.
const PEAK: f64 = 4_000.0;
/// Amplitude of the tone in quiet moments.
const QUIET_PEAK: f64 = 60.0;

/// A simulated talker who sends a tone all the time.
#[derive(Clone, Copy, Debug)]
struct Talker {
    ppm: f64,
    chunk_ms: u64,
    /// Maximum lateness of a chunk.
    late_us: u64,
    /// Time from the first sample to the first tick.
    phase_us: u64,
    random: u64,
    /// Whether the talker's tone is quiet for a tenth of each second.
    pauses: bool,
}

impl Talker {
    /// Returns the arrival time of chunk `i`: the time at which its last sample was recorded, plus a random lateness.
    fn arrival_us(&mut self, i: u64) -> u64 {
        self.random = self.random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let said_us = ((i + 1) * self.chunk_ms) as f64 * 1000.0 / (1.0 + self.ppm / 1e6);
        said_us as u64 + (self.random >> 33) % (self.late_us + 1)
    }

    fn chunk(&self, i: u64) -> Vec<i16> {
        let n = RATE_HZ as usize / 1000 * self.chunk_ms as usize;
        (i as usize * n..(i as usize + 1) * n).map(|place| self.sample(place)).collect()
    }

    fn sample(&self, place: usize) -> i16 {
        let (part, ramp) = (place % RATE_HZ as usize, FRAME_SAMPLES * 5);
        let loud = match part / ramp {
            7 => 1.0 - (part % ramp) as f64 / ramp as f64,
            8 => 0.0,
            9 => (part % ramp) as f64 / ramp as f64,
            _ => 1.0,
        };
        let peak = if self.pauses { QUIET_PEAK + (PEAK - QUIET_PEAK) * loud } else { PEAK };
        (peak * TURN[place % PERIOD].0).round() as i16
    }
}

/// Returns the position in the tone's period at which a frame starts.
fn place_in_period(frame: &[i16]) -> f64 {
    let (sin, cos) = frame
        .iter()
        .zip(TURN.iter().cycle())
        .fold((0.0, 0.0), |(sin, cos), (&x, turn)| (sin + f64::from(x) * turn.0, cos + f64::from(x) * turn.1));
    cos.atan2(sin) / TAU * PERIOD as f64
}

/// Sine and cosine over one period.
static TURN: LazyLock<Vec<(f64, f64)>> =
    LazyLock::new(|| (0..PERIOD).map(|i| (TAU * i as f64 / PERIOD as f64).sin_cos()).collect());

/// The output for one talker.
struct Heard {
    /// Delay of each frame, from recording to output.
    delays_ms: Vec<f64>,
    /// Tick at which the resampler started, and how many ms were repeated.
    followed: Option<(u64, f64)>,
    place: f64,
    last: Vec<i16>,
}

impl Heard {
    /// Returns the minimum and maximum delay, relative to the delay half a second after the first frame.
    fn range_ms(&self) -> (f64, f64) {
        let first = self.delays_ms[25];
        let range = |(least, most): (f64, f64), &x: &f64| (least.min(x - first), most.max(x - first));
        self.delays_ms.iter().fold((0.0, 0.0), range)
    }

    /// Checks that a frame continues the previous one.
    fn frame<S: Sample>(&mut self, talker: &Talker, tick: u64, frame: &[i16], jitter: &Jitter<S>) {
        let following = jitter.is_following();
        let (mut expected, half) = (self.place + FRAME_SAMPLES as f64, PERIOD as f64 / 2.0);
        let mut off;
        if self.delays_ms.is_empty() {
            self.place = 0.0;
        } else {
            if following && self.followed.is_none() {
                let again = jitter.counters().repeated_samples as f64;
                expected -= again;
                self.followed = Some((tick, again / 24.0));
            }
            off = (place_in_period(frame) - expected + half).rem_euclid(PERIOD as f64) - half;
            match &self.followed {
                // In the frames of the cross-fade, the measured position is inaccurate.
                Some((at, _)) if tick < *at + 2 => assert!(off.abs() < 50.0, "{talker:?}, tick {tick}: {off} samples"),
                // A change of speed by 0.2 % moves the position by one sample per frame; a drop or a repetition moves
                // it by more. In quiet moments the measured position is less accurate.
                _ => {
                    let most = if talker.pauses { 5.0 } else { 1.5 };
                    assert!(off.abs() < most, "{talker:?}, tick {tick}: {off} samples");
                }
            }
            if !following {
                off = 0.0;
            }
            self.place = expected + off;
        }
        if !following {
            let place = self.place.round() as usize;
            assert!(
                (0..FRAME_SAMPLES).all(|i| frame[i] == talker.sample(place + i)),
                "{talker:?}, tick {tick}: the samples are changed"
            );
        }
        self.last.extend_from_slice(frame);
        assert!(sharpest(&self.last).0 <= 12, "{talker:?}, tick {tick}: a click of {}", sharpest(&self.last).0);
        self.last.drain(..self.last.len() - 2);
        let said_us = self.place / f64::from(RATE_HZ) * 1e6 / (1.0 + talker.ppm / 1e6);
        self.delays_ms.push(((talker.phase_us + tick * 20_000) as f64 - said_us) / 1000.0);
    }
}

/// The samples of a talker or of another machine.
#[derive(Clone, Copy)]
struct Kind<S> {
    of: fn(i16) -> S,
    back: fn(S) -> i16,
}

const TALKER: Kind<i16> = Kind { of: |x| x, back: |x| x };
/// The sum of a machine, which needs more than 16 bits.
const MACHINE: Kind<i32> = Kind { of: |x| 16 * i32::from(x), back: |x| (f64::from(x) / 16.0).round() as i16 };

fn listen<S: Sample>(mut talker: Talker, kind: Kind<S>, seconds: u64) -> Heard {
    let (mut jitter, mut frame) = (Jitter::new(RATE_HZ), vec![S::default(); FRAME_SAMPLES]);
    let (mut chunk, mut next_us) = (0, talker.arrival_us(0));
    let mut heard = Heard { delays_ms: Vec::new(), followed: None, place: 0.0, last: Vec::new() };
    for tick in 0..seconds * 50 {
        let now_us = talker.phase_us + tick * 20_000;
        while next_us <= now_us {
            let samples: Vec<S> = talker.chunk(chunk).into_iter().map(kind.of).collect();
            jitter.push(Duration::from_micros(next_us), &samples);
            chunk += 1;
            next_us = talker.arrival_us(chunk).max(next_us);
        }
        let pulled = jitter.pull(Duration::from_micros(now_us), &mut frame);
        if pulled == Pulled::Frame {
            let frame: Vec<i16> = frame.iter().copied().map(kind.back).collect();
            heard.frame(&talker, tick, &frame, &jitter);
        } else {
            assert!(heard.delays_ms.is_empty(), "{talker:?}, tick {tick}: underrun");
        }
    }
    assert_eq!(
        jitter.counters(),
        Counters { repeated_samples: jitter.counters().repeated_samples, ..Counters::default() }
    );
    heard
}

/// Simulates `talker` and checks that the delay stays within the bounds.
fn check(talker: Talker, seconds: u64, bounds_ms: (f64, f64)) -> Heard {
    check_kind(talker, TALKER, seconds, bounds_ms)
}

/// Does the same as [`check`] for samples of this kind.
fn check_kind<S: Sample>(talker: Talker, kind: Kind<S>, seconds: u64, bounds_ms: (f64, f64)) -> Heard {
    let heard = listen(talker, kind, seconds);
    let (least, most) = heard.range_ms();
    println!("{talker:?}: {:.1} ms {least:+.1} {most:+.1}, followed {:?}", heard.delays_ms[25], heard.followed);
    assert!(least >= bounds_ms.0 && most <= bounds_ms.1, "{talker:?}: {least} to {most} ms");
    match heard.followed {
        None => assert!(talker.ppm.abs() < 20.0, "{talker:?} is not followed"),
        // With much lateness, the resampler may start after 8 s instead of 25 s, because the buffer would run empty otherwise.
        Some((tick, _)) => assert!(talker.ppm != 0.0 && tick >= if talker.late_us > 2_000 { 8 } else { 25 } * 50),
    }
    heard
}

const TEN_MS: (f64, f64) = (-10.0, 10.0);

#[test]
fn half_an_hour_with_any_clock_loses_no_sample_and_keeps_the_delay() {
    for (ppm, phase_us) in [(-300.0, 0), (300.0, 5_000), (0.0, 0)] {
        check(Talker { ppm, chunk_ms: 40, late_us: 2_000, phase_us, random: 1, pauses: true }, SECONDS, TEN_MS);
    }
}

#[test]
fn an_hour_of_another_machine_with_any_clock_has_no_gap_and_no_click_and_keeps_the_delay() {
    // Messages of 20 ms in a local network, and of 60 ms over the internet.
    for (ppm, chunk_ms, late_us) in [(-300.0, 20, 1_000), (300.0, 60, 10_000)] {
        let machine = Talker { ppm, chunk_ms, late_us, phase_us: 9_000, random: 1, pauses: true };
        check_kind(machine, MACHINE, 3_600, TEN_MS);
    }
}

#[test]
fn half_an_hour_with_ten_milliseconds_of_jitter_keeps_the_delay() {
    for ppm in [-300.0, 300.0] {
        check(Talker { ppm, chunk_ms: 40, late_us: 10_000, phase_us: 9_000, random: 1, pauses: true }, SECONDS, TEN_MS);
    }
}

#[test]
fn the_delay_grows_once_if_chunks_first_arrive_just_before_a_tick() {
    // At first, less delay is sufficient. The delay grows once, when the difference of the clocks has moved the arrivals to another place between two
    // ticks.
    for (ppm, phase_us) in [(-300.0, 0), (300.0, 0), (-300.0, 19_000), (300.0, 19_000)] {
        let talker = Talker { ppm, chunk_ms: 40, late_us: 10_000, phase_us, random: 1, pauses: true };
        let heard = check(talker, 400, (-10.0, 17.0));
        let settled = &heard.delays_ms[heard.delays_ms.len() / 4..];
        let (least, most) = settled.iter().fold((f64::MAX, f64::MIN), |(a, b), x| (x.min(a), x.max(b)));
        assert!(most - least < 6.0, "{talker:?}: {least} to {most} ms");
    }
}

#[test]
fn without_pauses_at_most_one_period_is_repeated() {
    for phase_us in [0, 4_000, 8_000, 12_000, 16_000, 19_000] {
        let talker = Talker { ppm: -300.0, chunk_ms: 40, late_us: 2_000, phase_us, random: 1, pauses: false };
        let heard = check(talker, 120, TEN_MS);
        assert!(heard.followed.is_some_and(|(_, again_ms)| again_ms <= 10.5), "{:?}", heard.followed);
    }
}

#[test]
fn arrivals_around_a_tick_cause_no_underrun_of_the_resampler() {
    // This talker was found by the property test below.
    let talker = Talker {
        ppm: 14.721_502_400_738_544,
        chunk_ms: 20,
        late_us: 1_248,
        phase_us: 19_373,
        random: 9_248_983_129_511_831_033,
        pauses: false,
    };
    check(talker, 300, TEN_MS);
}

#[test]
fn the_resampler_reduces_the_delay_after_a_bad_network() {
    // In this test, chunks are late by up to 35 ms for 15 s. The surplus that the buffer has afterwards is too small to be dropped.
    for (slower_us, phase_us) in [(4, 0), (4, 12_000), (-4, 5_000), (-4, 18_000)] {
        let arrival_us = |i: u64| {
            let late_us = if (1_500..1_875).contains(&i) { i * 7_919 % 35_000 } else { i * 7_919 % 2_000 };
            (40_000 + i * 40_000 + late_us).saturating_add_signed(i as i64 * slower_us)
        };
        let (mut jitter, mut frame) = (Jitter::new(RATE_HZ), vec![0; FRAME_SAMPLES]);
        let tone = measure::tone(RATE_HZ, 300.0, -20.0, FRAME_SAMPLES * 2);
        let (mut chunk, mut delays_ms, mut after) = (0, Vec::new(), Counters::default());
        for tick in 0..300 * 50 {
            let now_us = phase_us + tick * 20_000;
            while arrival_us(chunk) <= now_us {
                jitter.push(Duration::from_micros(arrival_us(chunk)), &tone);
                chunk += 1;
            }
            let _ = jitter.pull(Duration::from_micros(now_us), &mut frame);
            let heard_us = chunk as f64 * 40_000.0 - jitter.store.len() as f64 / 0.024;
            let said_us = heard_us * (1.0 + slower_us as f64 / 40_000.0);
            delays_ms.push((now_us as f64 - said_us) / 1000.0);
            if tick == 80 * 50 {
                after = jitter.counters();
            }
        }
        let mean_ms = |from_s: usize| delays_ms[from_s * 50..(from_s + 10) * 50].iter().sum::<f64>() / 500.0;
        let (before_ms, bad_ms, after_ms) = (mean_ms(50), mean_ms(80), mean_ms(290));
        println!("{slower_us} µs, {phase_us}: {before_ms:.1}, then {bad_ms:.1}, at last {after_ms:.1} ms; {after:?}");
        // The expected delay is a chunk, the margin, and the delay of the resampler.
        let due_ms = 40.0 + MARGIN_MIN.as_secs_f64() * 1000.0 + 2.0;
        assert!(bad_ms > due_ms + 5.0, "{bad_ms} ms after it");
        assert!(before_ms < due_ms && after_ms < due_ms, "{before_ms} ms before, {after_ms} ms at last");
        assert_eq!(jitter.counters(), Counters { repeated_samples: jitter.counters().repeated_samples, ..after });
    }
}

#[test]
fn a_short_spurt_is_never_resampled() {
    let run = run(Jitter::new(RATE_HZ), &chunks(1_200, FRAME_SAMPLES, |i| 240 - i as u64 / 5), 19_000, 1_200);
    assert!(!run.jitter.is_following());
    assert_eq!(run.jitter.counters(), Counters::default());
}

proptest! {
    #![proptest_config(ProptestConfig { max_shrink_iters: 20, ..ProptestConfig::with_cases(speech::cases(2)) })]

    #[test]
    fn any_clock_is_followed_at_any_phase(
        ppm in -300.0f64..300.0,
        chunk in 0usize..5,
        // If chunks were later, the margin would change too, and with it the delay.
        late_us in 0u64..2_000,
        phase_us in 0u64..20_000,
        random in any::<u64>(),
        pauses in any::<bool>(),
    ) {
        let chunk_ms = [20, 40, 60, 100, 200][chunk];
        check(Talker { ppm, chunk_ms, late_us, phase_us, random, pauses }, SECONDS / 3, TEN_MS);
    }
}
