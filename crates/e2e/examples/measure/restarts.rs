//! Measures how restarts and killed processes disturb a tone that a participant plays and a page hears. The tone rises slowly, so that its pitch
//! shows which sample is heard. This distinguishes lost sound from late sound.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result};
use palabre_e2e::browser::{Browser, Tap};
use palabre_e2e::suite::{Suite, TIMEOUT, binary, signal};
use palabre_e2e::wait_for;
use palabre_sound::wav;

use crate::heard;
use crate::join::{join_at, join_without_microphone};
use crate::tone::{events, peak, quiet_windows};

/// Number of repetitions of each event.
const TIMES: usize = 3;
/// Time for which the tone must be heard without a gap before the next event.
const WHOLE_S: usize = 3;
/// Time for which the tone must be heard without a gap before a process is killed, so that the supervisor restarts the process without
/// back-off.
const HEALTHY_S: usize = 11;
/// The tone rises from `LOW_HZ` by `RISE_HZ` within `LOOP_S`, in a loop.
const LOW_HZ: f64 = 400.0;
const RISE_HZ: f64 = 200.0;
const LOOP_S: usize = 10;
/// Sample rate of the room.
const RATE_HZ: u32 = 24_000;
/// Length of the sound from which the position in the loop is found.
const LOOK_MS: usize = 200;
/// Minimum length of lost sound that can be detected by the pitch.
const LOSS_MS_MIN: f64 = 1.5;

type Event = (&'static str, fn(&Suite, usize) -> Result<()>);

const EVENTS: [Event; 11] = [
    ("nothing", |_, _| Ok(())),
    ("`palabre restart p02`, the page's listener", |suite, _| say(suite, &["restart", "p02"])),
    ("`palabre restart --all`", |suite, _| say(suite, &["restart", "--all"])),
    ("`palabre restart mixer`", |suite, _| say(suite, &["restart", "mixer"])),
    ("`palabre restart supervisor`", |suite, _| say(suite, &["restart", "supervisor"])),
    ("new certificate, `palabre reload`", |suite, _| {
        say(suite, &["self-sign", "--replace"])?;
        say(suite, &["reload"])
    }),
    ("`palabre invite` of another participant", |suite, time| say(suite, &["invite", &format!("new{time}")])),
    ("`palabre revoke` of another participant", |suite, time| say(suite, &["revoke", &format!("new{time}")])),
    ("SIGKILL of the page's listener", |suite, _| suite.kill("palabre-listener", "p02").map(drop)),
    ("SIGKILL of the mixer", |suite, _| suite.kill("palabre-mixer", "").map(drop)),
    ("SIGKILL of the supervisor", |suite, _| suite.kill("palabre-supervisor", "").map(drop)),
];

/// Prints the table of docs/measurements.md.
pub fn run() -> Result<()> {
    table(&EVENTS, TIMES)
}

/// Measures ten planned restarts of the page's listener, and ten intervals without an event.
pub fn planned() -> Result<()> {
    table(&EVENTS[..2], 10)
}

fn table(events: &[Event], times: usize) -> Result<()> {
    let suite = Suite::start(2)?;
    let file = suite.dir().join("tone.wav");
    fs::write(&file, wav::little(RATE_HZ, &rising()))?;
    let _tone = Player::start(&suite, &file)?;
    let speaker = join_at(&suite.links[1].url)?;
    let mute = join_without_microphone(&suite.links[1].url)?;
    println!("| event | longest silence | total silence | gaps | clicks | lost samples |");
    println!("| --- | --- | --- | --- | --- | --- |");
    for (what, happen) in events {
        let is_kill = what.starts_with("SIGKILL");
        let mut heard = [Vec::new(), Vec::new()];
        for time in 0..times {
            for page in [&speaker, &mute] {
                wait_until_complete(page, 0, if is_kill { HEALTHY_S } else { WHOLE_S })?;
            }
            let from = [speaker.tapped(Tap::Output)?.0, mute.tapped(Tap::Output)?.0];
            happen(&suite, time).with_context(|| (*what).to_owned())?;
            for ((page, from), heard) in [&speaker, &mute].into_iter().zip(from).zip(&mut heard) {
                heard.push(Heard::of(page, from, wait_until_complete(page, from, WHOLE_S)?)?);
            }
        }
        row(what, &heard[0]);
        if is_kill {
            row(&format!("{what}, a page without a microphone"), &heard[1]);
        }
    }
    for (name, page) in [("with", &speaker), ("without", &mute)] {
        println!("page {name} a microphone: {}", heard::Heard::counters(page)?);
    }
    suite.stop()
}

fn row(what: &str, heard: &[Heard]) {
    let list = |figure: fn(&Heard) -> usize| heard.iter().map(|h| figure(h).to_string()).collect::<Vec<_>>().join(", ");
    println!(
        "| {what} | {} ms | {} ms | {} | {} | {} |",
        list(|h| h.longest_ms),
        list(|h| h.silent_ms),
        list(|h| h.gaps),
        list(|h| h.clicks),
        list(|h| h.lost)
    );
}

fn say(suite: &Suite, words: &[&str]) -> Result<()> {
    suite.palabre(words).map(drop)
}

/// The disturbances that a page heard during an event.
struct Heard {
    longest_ms: usize,
    silent_ms: usize,
    gaps: usize,
    clicks: usize,
    /// Samples of the room that were not heard.
    lost: usize,
}

impl Heard {
    /// Analyses the recorded samples `from..to`. Consecutive windows of 5 ms in which the tone is at least 6 dB too quiet are one gap.
    fn of(listener: &Browser, from: usize, to: usize) -> Result<Self> {
        const WINDOW_MS: usize = 5;
        let (_, rate_hz) = listener.tapped(Tap::Output)?;
        let look = rate_hz as usize * LOOK_MS / 1000;
        let mut samples = listener.tap_from(Tap::Output, from - 2 * look)?;
        samples.truncate(to + 2 * look - from);
        let moved_s = place_at_end_s(&samples, rate_hz) - place_at_end_s(&samples[..2 * look], rate_hz);
        let passed_s = (samples.len() - 2 * look) as f64 / f64::from(rate_hz);
        let ahead_ms = 1000.0 * nearest(moved_s - passed_s, LOOP_S as f64);
        let (mut run, mut longest, mut silent, mut gaps) = (0, 0, 0, 0);
        for is_quiet in quiet_windows(&samples, rate_hz) {
            run = if is_quiet { run + 1 } else { 0 };
            silent += usize::from(is_quiet);
            gaps += usize::from(run == 1);
            longest = longest.max(run);
        }
        let clicks = breaks(&samples, rate_hz);
        let silent_ms = silent * WINDOW_MS;
        let lost_ms = Some(ahead_ms + silent_ms as f64).filter(|&ms| ms > LOSS_MS_MIN).unwrap_or(0.0);
        let lost = (lost_ms * f64::from(RATE_HZ) / 1000.0).round() as usize;
        Ok(Self { longest_ms: longest * WINDOW_MS, silent_ms, gaps, clicks, lost })
    }
}

/// Returns the position in the loop near the end of the samples, in s. If the loop restarts there, computes it from samples before the restart.
fn place_at_end_s(samples: &[i16], rate_hz: u32) -> f64 {
    let look = rate_hz as usize * LOOK_MS / 1000;
    let look_s = LOOK_MS as f64 / 1000.0;
    let (before, last) = samples[samples.len() - 2 * look..].split_at(look);
    let (first_half, second_half) = last.split_at(look / 2);
    let passed_s = place_s(second_half, rate_hz) - place_s(first_half, rate_hz);
    if (passed_s - look_s / 2.0).abs() < look_s { place_s(last, rate_hz) } else { place_s(before, rate_hz) + look_s }
}

/// Returns the position in the loop in the middle of the samples, in s, by the pitch.
fn place_s(samples: &[i16], rate_hz: u32) -> f64 {
    let pitch_hz = (doubled_cosine(samples) / 2.0).clamp(-1.0, 1.0).acos() * f64::from(rate_hz) / std::f64::consts::TAU;
    (pitch_hz - LOW_HZ) / RISE_HZ * LOOP_S as f64
}

/// Returns the best fit of the factor 2 cos(w) in x[n+1] = 2 cos(w) x[n] − x[n−1], which a sine satisfies.
fn doubled_cosine(samples: &[i16]) -> f64 {
    let (mut product, mut square) = (0.0, f64::MIN_POSITIVE);
    for x in samples.windows(3) {
        let [before, x, after] = [x[0], x[1], x[2]].map(f64::from);
        product += x * (before + after);
        square += x * x;
    }
    product / square
}

/// Returns the signed distance of a position from the start of a loop, by the shorter way.
fn nearest(place: f64, length: f64) -> f64 {
    place - length * (place / length).round()
}

/// Counts the places where the sine is broken, each once in 20 ms.
fn breaks(samples: &[i16], rate_hz: u32) -> usize {
    let window = rate_hz as usize / 200;
    let broken = samples.windows(window).step_by(window / 2).enumerate().flat_map(|(at, part)| {
        let factor = doubled_cosine(part);
        let is_broken =
            move |x: &[i16]| (f64::from(x[2]) - factor * f64::from(x[1]) + f64::from(x[0])).abs() > peak() * 0.02;
        part.windows(3).position(is_broken).map(|place| at * (window / 2) + place)
    });
    events(broken, rate_hz)
}

/// Waits until the tone was heard without a gap for `seconds` after sample `from`. Returns the sample at which these seconds end.
fn wait_until_complete(listener: &Browser, from: usize, seconds: usize) -> Result<usize> {
    let whole = || {
        let (count, rate_hz) = listener.tapped(Tap::Output).ok()?;
        let start = count.checked_sub(seconds * rate_hz as usize).filter(|&start| rate_hz > 0 && start >= from)?;
        let samples = listener.tap_from(Tap::Output, start).ok()?;
        quiet_windows(&samples, rate_hz).all(|is_quiet| !is_quiet).then_some(count)
    };
    wait_for("a tone without a gap", TIMEOUT * 3, whole)
}

/// A running `palabre play --loop`.
pub struct Player(Child);

impl Player {
    /// Starts to play a file.
    pub fn start(suite: &Suite, file: &Path) -> Result<Self> {
        let child = Command::new(binary("palabre")?)
            .arg("--run")
            .arg(suite.dir().join("run"))
            .args(["play", "--loop"])
            .arg(file)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        Ok(Self(child))
    }
}

/// Returns the samples of the rising tone. The loop contains a whole number of periods, so it has no break.
fn rising() -> Vec<i16> {
    let length_s = LOOP_S as f64;
    let phase = |at: f64| std::f64::consts::TAU * (LOW_HZ * at + RISE_HZ * at * at / (2.0 * length_s));
    let sample = |n: usize| peak() * phase(n as f64 / f64::from(RATE_HZ)).sin();
    (0..LOOP_S * RATE_HZ as usize).map(|n| sample(n).round() as i16).collect()
}

impl Drop for Player {
    fn drop(&mut self) {
        let _ = signal(self.0.id(), "INT");
        let _ = wait_for("the end of the tone", Duration::from_secs(10), || self.0.try_wait().ok().flatten());
    }
}
