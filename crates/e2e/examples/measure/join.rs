//! Browsers that join a room.

use std::path::{Path, PathBuf};

use anyhow::Result;
use palabre_e2e::browser::{Browser, Tap};
use palabre_e2e::suite::Suite;

pub fn join(suite: &Suite, participant: usize, uplink: &str) -> Result<Browser> {
    join_at(&format!("{}#uplink={uplink}", suite.links[participant].url))
}

pub fn join_at(url: &str) -> Result<Browser> {
    join_in(with_voice()?, url)
}

/// Returns the address of a page that uses this bit rate of Opus in both directions, or PCM if it is 0.
pub fn at_bit_rate(url: &str, kbps: u32) -> String {
    format!("{url}#kbps={kbps}")
}

pub const SPEECH_RATE_HZ: u32 = 16_000;

fn speech_path() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("speech/english-man-16000Hz-mono.wav")
}

/// Reads speech, at [`SPEECH_RATE_HZ`].
pub fn speech() -> Result<Vec<i16>> {
    read_speech(&speech_path())
}

/// Reads a recording of speech, at [`SPEECH_RATE_HZ`].
pub fn read_speech(path: &Path) -> Result<Vec<i16>> {
    let file = std::fs::read(path)?;
    Ok(file[44..].as_chunks::<2>().0.iter().map(|&pair| i16::from_le_bytes(pair)).collect())
}

/// Starts a browser with speech as microphone.
pub fn with_voice() -> Result<Browser> {
    Browser::start(Some(&speech_path()), "en")
}

pub fn join_in(browser: Browser, url: &str) -> Result<Browser> {
    let browser = open_and_join(browser, url)?;
    browser.wait_until("palabreState.connection === 'live' && palabreState.microphone === 'on'")?;
    Ok(browser)
}

pub fn join_without_microphone(url: &str) -> Result<Browser> {
    let browser = open_and_join(Browser::start(None, "en")?, url)?;
    browser.wait_until("palabreState.connection === 'live' && palabreState.microphone === 'refused'")?;
    Ok(browser)
}

fn open_and_join(browser: Browser, url: &str) -> Result<Browser> {
    browser.tap_sound()?;
    browser.open(url)?;
    browser.wait_until("window.palabreState?.screen === 'door'")?;
    browser.click("#join")?;
    Ok(browser)
}

pub fn wait_for_samples(browser: &Browser, tap: Tap, seconds: usize) -> Result<()> {
    browser.wait_tapped(tap, 0)?;
    browser.wait_tapped(tap, seconds * browser.tapped(tap)?.1 as usize)
}
