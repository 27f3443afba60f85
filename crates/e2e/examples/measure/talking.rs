//! Time from the first sample of a word in a microphone until another page marks the participant as talking.

use std::time::Duration;

use anyhow::{Context, Result};
use palabre_e2e::browser::{Browser, Tap};
use palabre_e2e::client::Talker;
use palabre_e2e::compare::{median, percentile};
use palabre_e2e::suite::Suite;
use palabre_sound::{measure, wav};

use crate::join::{join_in, join_without_microphone};
use crate::latency::Clock;
use crate::pesq::disable_processing;
use crate::tone::{TONE_DBFS, TONE_HZ};

const SECONDS: u64 = 90;
/// Length of the word in the microphone's loop; the rest of the loop is a pause.
const WORD_S: f64 = 1.0;
const LOOP_S: f64 = 3.1;
const LOUD: u16 = 1_000;
const WATCH: &str = "
    window.marks = [];
    let was = false;
    const look = () => {
      const is = document.querySelector('#people [data-name=\"p01\"].talking') !== null;
      if (is && !was) marks.push(Date.now());
      was = is;
    };
    new MutationObserver(look).observe(document.getElementById('people'), { subtree: true, childList: true, attributes: true });";

/// Measures words of a single talker, and of a talker while another one talks.
pub fn run() -> Result<()> {
    let suite = Suite::start(3)?;
    let words = suite.dir().join("words.wav");
    std::fs::write(&words, words_and_pauses())?;
    let speaker = join_in(Browser::start(Some(&words), "en")?, &suite.links[0].url)?;
    // Echo cancellation would remove the other talker.
    disable_processing(&speaker)?;
    let page = join_without_microphone(&suite.links[1].url)?;
    page.wait_until("document.querySelector('#people [data-name=\"p01\"].talking')")?;
    page.run(WATCH)?;
    listen(&speaker, &page, "single talker")?;
    let _other = Talker::tone(&suite.client, &suite.links[2], 2.0 * TONE_HZ, TONE_DBFS);
    page.wait_until("document.querySelector('#people [data-name=\"p03\"].talking')")?;
    listen(&speaker, &page, "while another participant talks")?;
    suite.stop()
}

fn words_and_pauses() -> Vec<u8> {
    const RATE_HZ: u32 = 48_000;
    let length = |seconds: f64| (seconds * f64::from(RATE_HZ)) as usize;
    let mut samples = measure::tone(RATE_HZ, TONE_HZ, TONE_DBFS, length(WORD_S));
    samples.resize(length(LOOP_S), 0);
    wav::little(RATE_HZ, &samples)
}

fn listen(speaker: &Browser, page: &Browser, how: &str) -> Result<()> {
    page.run("marks.length = 0")?;
    let start = speaker.tapped(Tap::Microphone)?.0;
    std::thread::sleep(Duration::from_secs(SECONDS));
    let value = page.run("return marks")?;
    let marks: Vec<f64> = value
        .as_array()
        .context("window.marks is not an array")?
        .iter()
        .filter_map(serde_json::Value::as_f64)
        .collect();
    let begun = onsets_ms(speaker, start)?;
    let next = |begun: &f64| marks.iter().map(|mark| mark - begun).find(|&ms| ms > 0.0 && ms < 1000.0 * LOOP_S / 2.0);
    let took_ms: Vec<f64> = begun.iter().filter_map(next).collect();
    let most = took_ms.iter().copied().fold(0.0, f64::max);
    println!(
        "talking, {how}: {} words, {} marks: median {:.0} ms, p95 {:.0} ms, maximum {most:.0} ms; {} within 300 ms",
        begun.len(),
        took_ms.len(),
        median(took_ms.iter().copied()),
        percentile(took_ms.iter().copied(), 95.0),
        took_ms.iter().filter(|&&ms| ms <= 300.0).count(),
    );
    Ok(())
}

/// Returns the wall-clock time in ms of each word's first sample. Leaves out the first and last word, which may be incomplete.
fn onsets_ms(speaker: &Browser, start: usize) -> Result<Vec<f64>> {
    let rate_hz = speaker.tapped(Tap::Microphone)?.1 as usize;
    let samples = speaker.tap_from(Tap::Microphone, start)?;
    let clock = Clock::new(speaker.tap_times(Tap::Microphone, start)?);
    let mut begun = Vec::new();
    let mut loud_at = 0;
    for (at, _) in samples.iter().enumerate().filter(|(_, x)| x.unsigned_abs() > LOUD) {
        if at - loud_at > rate_hz {
            begun.push(clock.at((start + at) as f64));
        }
        loud_at = at;
    }
    begun.pop();
    Ok(begun)
}
