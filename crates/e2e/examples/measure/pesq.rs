//! PESQ-WB (ITU-T P.862.2) of speech, from the microphone of one Chromium to the output of another.
//!
//! The Python package `pesq` computes it; `scripts/measure` installs it in `target/pesq`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use palabre_e2e::browser::{Browser, Tap};
use palabre_e2e::compare::{RATE_HZ, convert, median, percentile};
use palabre_e2e::link::Link;
use palabre_e2e::suite::Suite;
use palabre_sound::wav;

use crate::heard::Heard;
use crate::join::{at_bit_rate, join_at, wait_for_samples};
use crate::latency::Spoken;
use crate::process::{Sent, WireBytes};

const SECONDS: usize = 60;
/// Length of a segment. P.862 recommends 8 to 12 s.
const SEGMENT_S: usize = 8;
pub const PESQ_HZ: u32 = 16_000;
/// Additional sound before and after a segment, for the alignment by PESQ.
const SPARE_MS: usize = 50;

const SCRIPT: &str = "
import sys, wave, numpy
from pesq import pesq
def read(path):
    with wave.open(path) as sound:
        return numpy.frombuffer(sound.readframes(sound.getnframes()), dtype='<i2')
for said, heard in zip(sys.argv[1::2], sys.argv[2::2]):
    print(pesq(16000, read(said), read(heard), 'wb'))
";

/// Measures speech in a room without levelling, with browsers without audio processing. `up_kbps` is the bit rate of Opus from the speaking page,
/// `down_kbps` to the listening page; 0 is PCM.
pub fn run(rate_hz: u32, up_kbps: u32, down_kbps: u32) -> Result<()> {
    let suite = Suite::start_configured(2, &format!("[room]\nrate-hz = {rate_hz}\nlevelling = false\n"))?;
    let speaker = join_at(&at_bit_rate(&suite.links[0].url, up_kbps))?;
    disable_processing(&speaker)?;
    let listener = join_at(&at_bit_rate(&suite.links[1].url, down_kbps))?;
    listener.click("#mute")?;
    wait_for_samples(&speaker, Tap::Microphone, 5)?;
    wait_for_samples(&listener, Tap::Output, 20)?;
    let (speaking, listening) = (WireBytes::count(port(&suite.links[0])?), WireBytes::count(port(&suite.links[1])?));
    let began = Instant::now();
    let spoken = Spoken::record(&speaker, &listener, SECONDS)?;
    let seconds = began.elapsed().as_secs_f64();
    let text = |sent: Sent| {
        let kbps = sent.bytes() as f64 * 8.0 / 1000.0 / seconds;
        format!("{kbps:.0} kbit/s ({:.0} segments/s)", sent.segments as f64 / seconds)
    };
    let (up, down) = (text(speaking.finish()[1]), text(listening.finish()[0]));
    let dir = PathBuf::from("target/pesq/sound");
    fs::create_dir_all(&dir)?;
    let files = segments(&spoken, &dir)?;
    let scores = score(&files)?;
    println!(
        "pesq: PESQ-WB of {} segments of {SEGMENT_S} s, {rate_hz} Hz, {}, no processing: mean {:.2}, minimum {:.2}, median {:.2}: {scores:.2?}",
        scores.len(),
        format_args!(
            "{} up, {} down",
            speaker.run("return palabreState.uplinkCodec")?,
            listener.run("return palabreState.codec")?
        ),
        scores.iter().sum::<f64>() / scores.len() as f64,
        percentile(scores.iter().copied(), 0.0),
        median(scores.iter().copied())
    );
    println!("  with TLS, TCP and IP: speaking page {up} up, listening page {down} down");
    println!("  listening page: {}", Heard::counters(&listener)?);
    println!("  the segments are in '{}'", dir.display());
    suite.stop()
}

fn port(link: &Link) -> Result<u16> {
    let end = link.url.split_once("://").map_or("", |(_, rest)| rest).split('/').next().unwrap_or_default();
    end.rsplit(':').next().and_then(|port| port.parse().ok()).with_context(|| format!("no port in '{}'", link.url))
}

/// Turns off echo cancellation, noise suppression and gain control, and joins again.
pub fn disable_processing(browser: &Browser) -> Result<()> {
    browser.run("for (const name of ['echo', 'noise', 'gain']) localStorage.setItem(`palabre / ${name}`, 'no'); location.reload()")?;
    browser.wait_until("window.palabreState?.screen === 'door'")?;
    browser.click("#join")?;
    browser.wait_until("palabreState.connection === 'live' && palabreState.uplink === 'open'")
}

/// Cuts the spoken and the received sound into corresponding segments, and writes each segment to a WAV file in `dir`, for PESQ to
/// compare. Returns the paths: each spoken segment is followed by the received one.
fn segments(spoken: &Spoken, dir: &Path) -> Result<Vec<PathBuf>> {
    let hz = RATE_HZ as usize;
    let spare = SPARE_MS * hz / 1000;
    let mut files = Vec::new();
    for at in (spare..).step_by(SEGMENT_S * hz).take(SECONDS / SEGMENT_S) {
        let here: Vec<_> = spoken.found().filter(|m| (at..at + SEGMENT_S * hz).contains(&m.at)).collect();
        if here.is_empty() {
            continue;
        }
        let lag = median(here.iter().map(|m| m.lag as f64)) as usize;
        let (said, heard) = (at..at + SEGMENT_S * hz, at + lag - spare..at + lag + SEGMENT_S * hz + spare);
        let (Some(said), Some(heard)) = (spoken.said.get(said), spoken.heard.get(heard)) else { continue };
        for (name, samples) in [("said", said), ("heard", heard)] {
            let file = dir.join(format!("{}-{name}.wav", at / hz));
            fs::write(&file, wav::little(PESQ_HZ, &convert(samples, RATE_HZ, PESQ_HZ)))?;
            files.push(file);
        }
    }
    Ok(files)
}

/// Returns the PESQ-WB of each pair of WAV files with [`PESQ_HZ`]: the spoken sound, and the received sound.
pub fn score(files: &[PathBuf]) -> Result<Vec<f64>> {
    let python = "target/pesq/bin/python";
    let output = Command::new(python)
        .args(["-c", SCRIPT])
        .args(files)
        .output()
        .with_context(|| format!("unable to start '{python}'; 'scripts/measure pesq' installs it"))?;
    if !output.status.success() {
        bail!("{python}: {}", String::from_utf8_lossy(&output.stderr));
    }
    let text = String::from_utf8(output.stdout)?;
    let scores: Vec<f64> = text.lines().map(str::parse).collect::<Result<_, _>>()?;
    if scores.is_empty() { bail!("no segment of the speech was found in the received sound") } else { Ok(scores) }
}
