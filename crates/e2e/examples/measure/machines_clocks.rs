//! Gaps, clicks and delay between machines whose clocks differ by 300 ppm. A library changes the clock of two machines.

use std::f64::consts::TAU;
use std::ffi::OsStr;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Result, ensure};
use palabre_e2e::client::{Recording, Talker};

use crate::cluster::{Cluster, NAMES};
use crate::tone::{TONE_DBFS, peak};

/// By how many ppm the clock of each machine is fast.
const PPM: [f64; NAMES.len()] = [0.0, 300.0, -300.0];
/// Time to wait before the measurement, in which the mixers find out how much the machines' clocks differ.
const SETTLE: Duration = Duration::from_secs(40);
const RATE_HZ: usize = 24_000;
/// Length of a frame in samples.
const FRAME: usize = 480;
/// Period of the tone in samples, for 250 Hz. The phase of the tone at the beginning of a frame, in samples, is called the frame's place.
const PERIOD: usize = 96;
/// Maximum relative error of the amplitude of a frame without a break.
const GAP: f64 = 0.03;
/// Maximum change of the place from one frame to the next without a break, in samples. The mixer changes the speed by at most 0.2 %, which changes
/// the place by one sample.
const STEP: f64 = 1.5;
/// Maximum deviation of a sample from a sine, as a part of the amplitude.
const CLICK: f64 = 0.004;

/// Measures for this time how a participant of each machine hears a participant of the next one.
pub fn run(seconds: u64) -> Result<()> {
    let directory = tempfile::tempdir()?;
    let library = directory.path().join("faster.so");
    compile(&library)?;
    let ppm = PPM.map(|ppm| ppm.to_string());
    let environments = ppm.each_ref().map(|ppm| {
        let faster: [(&str, &OsStr); 2] = [("LD_PRELOAD", library.as_os_str()), ("PALABRE_TEST_PPM", OsStr::new(ppm))];
        faster
    });
    let cluster = Cluster::start_in(2, "", "[room]\nlevelling = false\n", &environments.each_ref().map(|it| &it[..]))?;
    println!("machines-clocks: {seconds} s, clocks faster by {PPM:?} ppm, one talker at a time");
    for (machine, name) in NAMES.iter().enumerate() {
        let speaker = &cluster.suites[machine];
        let other = (machine + 1) % NAMES.len();
        let listener = &cluster.suites[other];
        let talker = Talker::tone(&speaker.client, &speaker.links[0], (RATE_HZ / PERIOD) as f64, TONE_DBFS);
        let recording = listener.client.record(&listener.links[1])?;
        std::thread::sleep(SETTLE);
        let start = recording.len();
        std::thread::sleep(Duration::from_secs(seconds));
        print(&recording, start, name, other);
        drop(talker);
    }
    cluster.stop()
}

fn compile(library: &Path) -> Result<()> {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../bridge/tests/clocks/faster.c");
    let status = Command::new("cc").args(["-shared", "-fPIC", "-O2", "-o"]).arg(library).arg(source).status()?;
    ensure!(status.success(), "cc ended with {status}");
    Ok(())
}

/// Prints the breaks of the tone, and the change of the delay since the start, at the end of each minute. The talker uses this
/// machine's clock, the listener's machine another one.
fn print(recording: &Recording, start: usize, speaker: &str, listener: usize) {
    let samples = recording.from(start);
    let (mut breaks, mut last_break, mut gained, mut delays) = (0, None::<usize>, 0.0, Vec::new());
    let mut before: Option<f64> = None;
    let frames = samples.len() / FRAME;
    for (at, frame) in samples.chunks_exact(FRAME).enumerate() {
        let (amplitude, place) = fit(frame);
        let half = PERIOD as f64 / 2.0;
        let step = before.map_or(0.0, |before| (place - before + half).rem_euclid(PERIOD as f64) - half);
        before = Some(place);
        if (amplitude / peak() - 1.0).abs() > GAP || step.abs() > STEP || click(frame) > CLICK * peak() {
            // Breaks within a second count once.
            breaks += usize::from(last_break.is_none_or(|last| at - last > 50));
            last_break = Some(at);
        } else {
            gained += step;
        }
        if (at + 1) % (60 * 50) == 0 || at + 1 == frames {
            let expected = -PPM[listener] / 1e6 * ((at + 1) * FRAME) as f64;
            delays.push((expected - gained) * 1000.0 / RATE_HZ as f64);
        }
    }
    println!(
        "  {speaker} to {}: {:.0} s, {breaks} breaks, change of the delay after each minute and at the end: {delays:.1?} ms; {} reconnections",
        NAMES[listener],
        samples.len() as f64 / RATE_HZ as f64,
        recording.reconnections()
    );
}

/// Returns the amplitude of the tone in a frame, and its place in the period.
fn fit(frame: &[i16]) -> (f64, f64) {
    let (mut sin, mut cos) = (0.0, 0.0);
    for (i, &x) in frame.iter().enumerate() {
        let turn = (TAU * (i % PERIOD) as f64 / PERIOD as f64).sin_cos();
        (sin, cos) = (sin + f64::from(x) * turn.0, cos + f64::from(x) * turn.1);
    }
    (2.0 * f64::hypot(sin, cos) / FRAME as f64, cos.atan2(sin) / TAU * PERIOD as f64)
}

/// Returns the largest deviation of a sample from a sine: a sine satisfies x[n+1] = 2 cos(w) x[n] − x[n−1].
fn click(frame: &[i16]) -> f64 {
    let two_cos = 2.0 * (TAU / PERIOD as f64).cos();
    let off = |x: &[i16]| (f64::from(x[2]) - two_cos * f64::from(x[1]) + f64::from(x[0])).abs();
    frame.windows(3).map(off).fold(0.0, f64::max)
}
