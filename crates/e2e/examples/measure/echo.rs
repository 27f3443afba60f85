//! Measures how much of the sound that Palabre plays comes back through a microphone: in a real browser whose output is its microphone's input.
//! A recording of the room, which contains the sound that each participant sent, shows how loud the echo is.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use palabre_e2e::browser::Browser;
use palabre_e2e::firefox::Firefox;
use palabre_e2e::suite::Suite;
use palabre_sound::wav;
use serde_json::Value;

use crate::restarts::Player;

/// Time to wait until the browser's echo canceller has adapted, before the measurement.
const LEARN: Duration = Duration::from_secs(15);
const RECORD: Duration = Duration::from_secs(20);
/// Constraints for getUserMedia() in the three measurements: those that the page requests, and two others.
const CONSTRAINTS: [(&str, &str); 3] = [
    ("as the page requests: `all` if available, noise suppression", ""),
    ("`true`, no noise suppression", "audio.echoCancellation = true; audio.noiseSuppression = false;"),
    ("off, no noise suppression", "audio.echoCancellation = false; audio.noiseSuppression = false;"),
];

/// Prints the table of docs/page.md.
pub fn run() -> Result<()> {
    println!(
        "| browser | requested echo cancellation | setting reported by the browser | level sent back, relative to the level played |"
    );
    println!("| --- | --- | --- | --- |");
    for (constraints, script) in CONSTRAINTS {
        row("Chromium", constraints, &Page::Chromium(Box::new(Browser::with_own_microphone("en")?)), script)?;
        row("Firefox", constraints, &Page::Firefox(Box::new(Firefox::with_own_microphone("en")?)), script)?;
    }
    Ok(())
}

fn row(browser: &str, constraints: &str, page: &Page, script: &str) -> Result<()> {
    let suite = Suite::start_configured(1, "[room]\nlevelling = false\n")?;
    let speech = Path::new(env!("CARGO_MANIFEST_DIR")).join("speech/english-man-16000Hz-mono.wav");
    let _player = Player::start(&suite, &speech)?;
    page.open(&suite.links[0].url)?;
    page.wait_until("window.palabreState?.screen === 'door'")?;
    page.run(&format!(
        "const get = navigator.mediaDevices.getUserMedia.bind(navigator.mediaDevices);
         navigator.mediaDevices.getUserMedia = async ({{ audio }}) => {{
           audio.autoGainControl = false;
           {script}
           const media = await get({{ audio }});
           window.echoCancellation = media.getAudioTracks()[0].getSettings().echoCancellation;
           return media;
         }};"
    ))?;
    page.click("#join")?;
    page.wait_until("palabreState.connection === 'live' && palabreState.microphone === 'on'")?;
    std::thread::sleep(LEARN);
    let said = suite.palabre(&["record", "start"])?;
    std::thread::sleep(RECORD);
    suite.palabre(&["record", "stop"])?;
    let does = page.run("return window.echoCancellation")?;
    let (played, sent) = levels(&suite, &said)?;
    println!("| {browser} | {constraints} | {does} | {:.0} dB ({sent:.0} dBFS) |", played - sent);
    suite.stop()
}

/// Returns the level of the played sound and the level of the sound that the page sent back, in dBFS.
fn levels(suite: &Suite, said: &str) -> Result<(f64, f64)> {
    let dir = said
        .split(['\'', ' ', '\n'])
        .map(PathBuf::from)
        .find(|path| path.is_absolute())
        .context("'palabre record start' printed no directory")?;
    let me = format!("{}.wav", suite.links[0].name);
    let (mut played, mut sent) = (f64::NEG_INFINITY, f64::NEG_INFINITY);
    for file in fs::read_dir(&dir).with_context(|| format!("{}", dir.display()))? {
        let path = file?.path();
        match path.file_name().and_then(|name| name.to_str()) {
            Some(name) if name.ends_with(&me) => sent = dbfs(&path)?,
            Some(name) if name.ends_with(".wav") && !name.starts_with("all") => played = played.max(dbfs(&path)?),
            _ => {}
        }
    }
    Ok((played, sent))
}

fn dbfs(path: &Path) -> Result<f64> {
    let bytes = fs::read(path)?;
    let head = wav::Head::read(&mut &bytes[..])?;
    anyhow::ensure!(head.channels == 1, "the recording '{}' is not mono", path.display());
    let samples: Vec<i16> = bytes[44..].as_chunks::<2>().0.iter().map(|&pair| i16::from_le_bytes(pair)).collect();
    Ok(palabre_sound::measure::rms_dbfs(&samples))
}

enum Page {
    Chromium(Box<Browser>),
    Firefox(Box<Firefox>),
}

impl Page {
    fn open(&self, url: &str) -> Result<()> {
        match self {
            Self::Chromium(browser) => browser.open(url),
            Self::Firefox(browser) => browser.open(url),
        }
    }

    fn run(&self, script: &str) -> Result<Value> {
        match self {
            Self::Chromium(browser) => browser.run(script),
            Self::Firefox(browser) => browser.run(script),
        }
    }

    fn click(&self, selector: &str) -> Result<()> {
        match self {
            Self::Chromium(browser) => browser.click(selector),
            Self::Firefox(browser) => browser.click(selector),
        }
    }

    fn wait_until(&self, expression: &str) -> Result<()> {
        match self {
            Self::Chromium(browser) => browser.wait_until(expression),
            Self::Firefox(browser) => browser.wait_until(expression),
        }
    }
}
