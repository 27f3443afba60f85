//! Two machines with different clocks: real mixers, real bridges and a real NATS server. A library makes the clock of one machine faster.

#![allow(clippy::unwrap_used)]

mod support;

use std::ffi::OsStr;
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, LazyLock, Mutex};
use std::time::{Duration, Instant};

use palabre_testing::undisturbed;
use support::voices::{Person, Running, Voice, listen, talk};
use support::*;

/// By how many parts per million the clock of `paris` is faster in this test. The value is larger than the difference of real clocks, so that the
/// buffers would run empty or over within a minute.
const PPM: f64 = 900.0;
/// Timeout for waiting until sound without a break begins.
const SETTLE: Duration = Duration::from_secs(60);
/// Number of frames that the test must hear without a break. After them, a break makes the test fail.
const SETTLED: usize = 2 * 50;
/// Length of the measurement, in frames: 50 s. Without compensation, the delay would change by 45 ms, and there would be breaks.
const FRAMES: usize = 50 * 50;
/// Maximum change of the delay, in samples: 32 ms. The clocks are compensated after half a minute.
const DELAY_MAX: f64 = 768.0;

/// Period of the tone in samples. The phase of a frame gives the frame's place.
const PERIOD: usize = 96;
/// Amplitude of the tone.
const PEAK: f64 = 4_000.0;
/// Maximum error of the tone's amplitude in a frame of 20 ms, as a fraction of [`PEAK`].
const GAP: f64 = 0.03;
/// Maximum deviation of a frame's place in samples. A change of speed by 0.2 %, the largest one that the mixer makes, moves it by one sample.
const STEP: f64 = 1.5;
/// Maximum deviation of a sample from a sine, 0.4 % of the amplitude.
const CLICK: f64 = 16.0;

/// Sine and cosine over one period.
static TURN: LazyLock<Vec<(f64, f64)>> =
    LazyLock::new(|| (0..PERIOD).map(|i| (std::f64::consts::TAU * i as f64 / PERIOD as f64).sin_cos()).collect());

fn voice() -> Voice {
    Box::new(|place| (PEAK * TURN[place % PERIOD].0).round() as i16)
}

/// Measures the tone that a participant hears from the other machine.
#[derive(Debug, Default)]
struct Tone {
    samples: Vec<i16>,
    /// Position within the tone's period at which the last frame begins, in samples.
    place: f64,
    /// Number of frames since the last break.
    unbroken: usize,
    /// How many more samples of the other machine than of this machine were heard, since the last break.
    gained: f64,
    is_strict: bool,
    /// The first break after `is_strict` was set.
    broken: Option<String>,
}

impl Tone {
    fn take(&mut self, samples: &[i16]) {
        self.samples.extend_from_slice(samples);
        // Two samples before each frame show a click between two frames.
        while self.samples.len() >= FRAME + 2 {
            let heard: Vec<i16> = self.samples[..FRAME + 2].to_vec();
            self.samples.drain(..FRAME);
            self.frame(&heard);
        }
    }

    fn frame(&mut self, heard: &[i16]) {
        let turns = heard[2..].iter().zip(TURN.iter().cycle());
        let (sin, cos) =
            turns.fold((0.0, 0.0), |(sin, cos), (&x, turn)| (sin + f64::from(x) * turn.0, cos + f64::from(x) * turn.1));
        let amplitude = 2.0 * sin.hypot(cos) / FRAME as f64;
        let place = cos.atan2(sin) / std::f64::consts::TAU * PERIOD as f64;
        let half = PERIOD as f64 / 2.0;
        let step = (place - self.place + half).rem_euclid(PERIOD as f64) - half;
        // A sine satisfies x[n+1] = 2 cos(w) x[n] − x[n−1].
        let off = |x: &[i16]| (f64::from(x[2]) - 2.0 * TURN[1].1 * f64::from(x[1]) + f64::from(x[0])).abs();
        let click = heard.windows(3).map(off).fold(0.0, f64::max);
        self.place = place;
        if (amplitude / PEAK - 1.0).abs() < GAP && step.abs() < STEP && click < CLICK {
            (self.unbroken, self.gained) = (self.unbroken + 1, self.gained + step);
            return;
        }
        if self.is_strict {
            let at = self.unbroken;
            let text = || format!("frame {at}: amplitude {amplitude:.0}, step {step:.1} samples, click {click:.1}");
            self.broken.get_or_insert_with(text);
        }
        (self.unbroken, self.gained) = (0, 0.0);
    }
}

/// A participant with the name Alice on one of the two machines. She hears the Alice of the other machine.
struct Alice {
    tone: Arc<Mutex<Tone>>,
    _running: [Running; 2],
}

impl Alice {
    /// Makes Alice join the room of `site`, and talk by a clock that is faster by `ppm` parts per million.
    fn join(site: &Site, ppm: f64) -> Self {
        let Person { mic, ear } = Person::join(site, "alice");
        let tone = Arc::new(Mutex::new(Tone::default()));
        let listening = listen(ear, Arc::clone(&tone), Tone::take);
        Self { tone, _running: [listening, talk(1.0 + ppm / 1e6, Duration::ZERO, vec![(mic, voice())])] }
    }

    /// Waits until this number of frames has been heard without a break, or a break was a fault.
    fn hear(&self, frames: usize, is_strict: bool, timeout: Duration) {
        let deadline = Instant::now() + timeout;
        loop {
            let mut tone = self.tone.lock().unwrap();
            if tone.unbroken >= frames || tone.broken.is_some() {
                tone.is_strict = is_strict;
                return;
            }
            drop(tone);
            assert!(Instant::now() < deadline, "no sound without a break");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

/// Compiles the library that makes the clock faster.
fn compile(library: &Path) {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clocks/faster.c");
    let status = Command::new("cc").args(["-shared", "-fPIC", "-O2", "-Wall", "-o"]).arg(library).arg(source).status();
    assert!(status.unwrap().success());
}

/// A talker whose thread runs late by some milliseconds leaves a gap, so this test needs idle processors for a minute. The test
/// `an_hour_of_another_machine_with_any_clock_has_no_gap_and_no_click_and_keeps_the_delay` of crate `sound` runs the same buffer with simulated time.
#[test]
#[ignore = "needs idle processors for a minute"]
fn machines_with_different_clocks_hear_each_other_without_gaps_clicks_or_growing_delay() {
    let directory = tempfile::tempdir().unwrap();
    let library = directory.path().join("faster.so");
    compile(&library);
    let ppm = PPM.to_string();
    let faster = [("LD_PRELOAD", library.as_os_str()), ("PALABRE_TEST_PPM", OsStr::new(&ppm))];
    undisturbed(|| {
        let broker = Broker::start();
        let [lyon, mut paris] = ["lyon", "paris"].map(|machine| Site::start(machine, &broker));
        paris.bridge = None;
        paris.bridge = Some(Process::start(bridge("paris", &broker, paris.dir.path(), &[]).envs(faster)));
        let _mixers = [lyon.start_mixer(&[]), paris.start_mixer(&faster)];
        let people = [Alice::join(&lyon, 0.0), Alice::join(&paris, PPM)];
        people.iter().for_each(|alice| alice.hear(SETTLED, true, SETTLE));
        let before = people.each_ref().map(|alice| alice.tone.lock().unwrap().unbroken);
        for (alice, before) in people.iter().zip(before) {
            alice.hear(before + FRAMES, true, SETTLE + Duration::from_millis(20) * FRAMES as u32);
        }
        for (alice, ppm) in people.iter().zip([PPM, -PPM]) {
            let tone = alice.tone.lock().unwrap();
            assert_eq!(tone.broken, None, "{ppm} ppm");
            let expected = (tone.unbroken * FRAME) as f64 * ppm / 1e6;
            let change = expected - tone.gained;
            let (gained, ms) = (tone.gained, change / 24.0);
            println!("{ppm:+} ppm: {gained:+.0} of {expected:+.0} samples, so the delay changed by {ms:+.1} ms");
            assert!(change.abs() < DELAY_MAX, "{ppm} ppm: the delay changed by {change} samples");
        }
    });
}
