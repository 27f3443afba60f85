//! Delay and silences with a microphone of PulseAudio: speech is played into a null sink, whose monitor is the microphone. The browser
//! processes the microphone's sound as it does for people, and the mixer levels it.

use std::io::{Read, Write};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};
use palabre_e2e::browser::{Browser, Tap};
use palabre_e2e::compare::{RATE_HZ, find, median, percentile};
use palabre_e2e::suite::Suite;
use palabre_sound::measure::rms_dbfs;

use crate::heard::Heard;
use crate::join::{SPEECH_RATE_HZ, join_in, speech, wait_for_samples};
use crate::latency::{Clock, FOUND, Spoken, stages};

const SECONDS: usize = 60;
/// Maximum absolute value of a sample that counts as silence.
const SILENT: u16 = 1;
/// Minimum length in ms of a silence that is counted.
const SILENCE_MS: usize = 5;
/// Minimum level of the speech around a silence that is counted.
const SPEECH_DBFS: f64 = -45.0;

/// Measures on an idle machine, or while two processes use both processors.
pub fn run(is_busy: bool) -> Result<()> {
    let suite = Suite::start(2)?;
    let mouth = Mouth::start()?;
    let url = |participant: usize| format!("{}#uplink=websocket", suite.links[participant].url);
    let speaker = join_in(Browser::with_own_microphone("en")?, &url(0))?;
    let listener = join_in(Browser::with_own_microphone("en")?, &url(1))?;
    let _load = is_busy.then(|| [Busy::start(), Busy::start()]);
    wait_for_samples(&listener, Tap::Output, 15)?;
    let before = [&speaker, &listener].map(Heard::counters);
    let spoken = Spoken::record(&speaker, &listener, SECONDS)?;
    let said = mouth.recording();
    println!("pulse: microphone of PulseAudio, {SECONDS} s{}", if is_busy { ", two busy processes" } else { "" });
    print_delay(&said, &spoken)?;
    println!("  from the microphone's track on: {}", stages(&spoken, &speaker, &listener)?);
    for ((whose, browser), before) in [("speaking", &speaker), ("listening", &listener)].into_iter().zip(before) {
        println!("  {whose} page before: {}\n  {whose} page after:  {}", before?, Heard::counters(browser)?);
    }
    suite.stop()
}

/// Prints the delay from the sink to the microphone's track and to the output, and the silences in the output.
fn print_delay(said: &Recording, spoken: &Spoken) -> Result<()> {
    // Compare the sink's recording only from after the beginning of the other two: `find` finds only sound that is later in the other recording.
    let begin_ms = spoken.said_ms(0).max(spoken.heard_ms(0)) + 100.0;
    let start = said.position(begin_ms);
    let end = (start + spoken.heard.len()).min(said.samples.len());
    let mouth = said.samples.get(start..end).context("the recording of the sink is too short")?;
    let mouth_ms = |sample: usize| said.clock.at((start + sample) as f64);
    let delays = |other: &[i16], ms: &dyn Fn(usize) -> f64| -> (Vec<f64>, usize, f64) {
        let all = find(mouth, other, 2_000);
        let found: Vec<_> = all.iter().filter(|window| window.coefficient > FOUND).collect();
        let lag = median(found.iter().map(|window| window.lag as f64));
        (found.iter().map(|window| ms(window.at + window.lag) - mouth_ms(window.at)).collect(), all.len(), lag)
    };
    let (track, ..) = delays(&spoken.said, &|sample| spoken.said_ms(sample));
    let (output, all, lag) = delays(&spoken.heard, &|sample| spoken.heard_ms(sample));
    println!(
        "  mouth to ear: median {:.0} ms, p95 {:.0} ms, {} of {all} windows of 150 ms found; mouth to the microphone's track: median {:.0} ms, p95 {:.0} ms",
        median(output.clone()),
        percentile(output.clone(), 95.0),
        output.len(),
        median(track.clone()),
        percentile(track.clone(), 95.0)
    );
    ensure!(lag.is_finite(), "the speech was not found in the output");
    let silences = silences(&spoken.heard, mouth, lag as usize);
    println!("  silences of {SILENCE_MS} ms or more while the mouth speaks: {}: {silences:.0?} ms", silences.len());
    Ok(())
}

/// Returns the lengths in ms of the silences in `heard` while there is speech in `mouth`. The sound in `heard` is the sound in `mouth`, `lag`
/// samples later. Pauses of the speaker don't count: each slice of 10 ms of the mouth's sound must be speech.
fn silences(heard: &[i16], mouth: &[i16], lag: usize) -> Vec<f64> {
    let per_ms = RATE_HZ as usize / 1000;
    let speaks = |slice: &[i16]| rms_dbfs(slice) > SPEECH_DBFS;
    let (mut found, mut at) = (Vec::new(), 0_usize);
    for run in heard.chunk_by(|a, b| (a.unsigned_abs() <= SILENT) == (b.unsigned_abs() <= SILENT)) {
        let is_silent = run[0].unsigned_abs() <= SILENT && run.len() >= SILENCE_MS * per_ms;
        let around = at.checked_sub(lag + 10 * per_ms).and_then(|from| mouth.get(from..from + run.len() + 20 * per_ms));
        if is_silent && around.is_some_and(|around| around.chunks(10 * per_ms).all(speaks)) {
            found.push(run.len() as f64 / per_ms as f64);
        }
        at += run.len();
    }
    found
}

/// A null sink into which speech is played, and whose monitor is the default microphone.
struct Mouth {
    pacat: Child,
    parec: Child,
    recorded: Arc<Mutex<Recorded>>,
}

/// Samples, and the position and the wall-clock time in ms of the first sample of each block.
type Recorded = (Vec<i16>, Vec<(f64, f64)>);

/// The sound that was played into the sink.
struct Recording {
    samples: Vec<i16>,
    times: Vec<(f64, f64)>,
    clock: Clock,
}

impl Recording {
    /// Returns the position of the sample at this wall-clock time in ms.
    fn position(&self, ms: f64) -> usize {
        let next = self.times.partition_point(|&(_, at)| at < ms);
        let (sample, at) = self.times.get(next).or(self.times.last()).copied().unwrap_or_default();
        (sample + (ms - at) * f64::from(RATE_HZ) / 1000.0).max(0.0) as usize
    }
}

impl Mouth {
    fn start() -> Result<Self> {
        pactl(&["load-module", "module-null-sink", "sink_name=mouth", "rate=48000"])?;
        pactl(&["load-module", "module-remap-source", "master=mouth.monitor", "source_name=microphone"])?;
        pactl(&["set-default-source", "microphone"])?;
        let format = |rate_hz: u32| [format!("--rate={rate_hz}"), "--channels=1".into(), "--format=s16le".into()];
        let mut pacat = Command::new("pacat")
            .args(["--playback", "--device=mouth", "--latency-msec=60"])
            .args(format(SPEECH_RATE_HZ))
            .stdin(Stdio::piped())
            .spawn()
            .context("unable to start 'pacat'; install Debian's pulseaudio-utils")?;
        let mut input = pacat.stdin.take().context("pacat has no input")?;
        let bytes: Vec<u8> = speech()?.iter().flat_map(|sample| sample.to_le_bytes()).collect();
        std::thread::spawn(move || while input.write_all(&bytes).is_ok() {});
        let mut parec = Command::new("parec")
            .args(["--device=mouth.monitor", "--latency-msec=5"])
            .args(format(RATE_HZ))
            .stdout(Stdio::piped())
            .spawn()?;
        let output = parec.stdout.take().context("parec has no output")?;
        let recorded = Arc::default();
        let to = Arc::clone(&recorded);
        std::thread::spawn(move || record(output, &to));
        Ok(Self { pacat, parec, recorded })
    }

    fn recording(&self) -> Recording {
        let (samples, times) = self.recorded.lock().unwrap_or_else(PoisonError::into_inner).clone();
        Recording { samples, clock: Clock::new(times.clone()), times }
    }
}

impl Drop for Mouth {
    fn drop(&mut self) {
        for child in [&mut self.pacat, &mut self.parec] {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Appends the samples that the monitor delivers, with the time of the first sample of each block.
fn record(mut from: impl Read, to: &Mutex<Recorded>) {
    let (mut bytes, mut odd) = ([0; 4096], 0);
    while let Ok(count @ 1..) = from.read(&mut bytes[odd..]) {
        let now_ms = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |now| now.as_secs_f64() * 1000.0);
        let (pairs, rest) = bytes[..odd + count].as_chunks::<2>();
        let mut recorded = to.lock().unwrap_or_else(PoisonError::into_inner);
        let block_ms = pairs.len() as f64 * 1000.0 / f64::from(RATE_HZ);
        let first = recorded.0.len() as f64;
        recorded.1.push((first, now_ms - block_ms));
        recorded.0.extend(pairs.iter().map(|&pair| i16::from_le_bytes(pair)));
        let (length, last) = (rest.len(), rest.first().copied());
        odd = length;
        if let Some(last) = last {
            bytes[0] = last;
        }
    }
}

fn pactl(arguments: &[&str]) -> Result<()> {
    let done = Command::new("pactl").args(arguments).stdout(Stdio::null()).status()?;
    ensure!(done.success(), "'pactl {}' failed", arguments.join(" "));
    Ok(())
}

/// A process that always uses a processor. Dropping this value ends it.
struct Busy(Option<Child>);

impl Busy {
    fn start() -> Self {
        Self(Command::new("yes").stdout(Stdio::null()).spawn().ok())
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        if let Some(child) = &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
