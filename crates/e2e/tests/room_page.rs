//! What the page promises to whoever sits before it: who talks, what is heard, what is muted, what is wrong, in words.
#![allow(clippy::unwrap_used, missing_docs)]

use std::path::{Path, PathBuf};

use palabre_e2e::browser::{Browser, Tap};
use palabre_e2e::client::Talker;
use palabre_e2e::suite::{Link, PATIENCE, Suite, signal};
use palabre_e2e::wait_for;
use palabre_sound::measure::goertzel_dbfs;

const TONE_HZ: f64 = 1_000.0;
const TONE_DBFS: f64 = -20.0;

fn voice() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("speech/english-man-16000Hz-mono.wav")
}

fn open(browser: &Browser, link: &Link) {
    browser.open(&link.url).unwrap();
    browser.wait_until("window.palabreState?.screen === 'door'").unwrap();
}

fn join(link: &Link) -> Browser {
    let browser = Browser::start(Some(&voice()), "en").unwrap();
    open(&browser, link);
    browser.click("#join").unwrap();
    browser.wait_until("palabreState.connection === 'live' && palabreState.microphone === 'on'").unwrap();
    browser
}

/// An expression: the row of the person with this display name.
fn row(display: &str) -> String {
    format!("[...document.querySelectorAll('.person')].find((row) => row.innerText.includes('{display}'))")
}

/// An expression: whether that person is shown as talking, with a level.
fn talks(display: &str) -> String {
    let row = row(display);
    format!("{row}?.classList.contains('talking') && Number({row}.style.getPropertyValue('--level')) > 0.1")
}

#[test]
fn every_page_after_the_first_comes_in_muted_and_speaks_of_headphones() {
    let suite = Suite::start(2).unwrap();
    let first = join(&suite.links[0]);
    assert_eq!(first.run("return palabreState.muted").unwrap(), false);
    for (language, word) in [("en", "eadphones"), ("fr", "casque")] {
        let second = Browser::start(Some(&voice()), language).unwrap();
        open(&second, &suite.links[1]);
        let warning = "document.getElementById('door-warning')";
        second.wait_until(&format!("!{warning}.hidden && {warning}.innerText.includes('{word}')")).unwrap();
        second.click("#join").unwrap();
        second.wait_until("palabreState.connection === 'live' && palabreState.microphone === 'on'").unwrap();
        second.wait_until(&format!("document.querySelector('.notice')?.innerText.includes('{word}')")).unwrap();
        assert_eq!(second.run("return palabreState.muted").unwrap(), true, "{language}");
    }
    // It was there all the time, and it was open.
    assert_eq!(first.run("return document.querySelector('.notice')?.innerText ?? ''").unwrap(), "");
}

#[test]
fn everyone_sees_who_talks_and_a_mute_is_silence() {
    let suite = Suite::start(2).unwrap();
    let (first, second) = (join(&suite.links[0]), join(&suite.links[1]));
    let talking = talks("Participant 1");
    second.wait_until(&talking).unwrap();
    first.wait_until(&talking).unwrap();
    first.click("#mute").unwrap();
    // Nothing of him arrives any more: neither a level nor a chunk.
    let silent = format!("Number({}.style.getPropertyValue('--level')) === 0 && !({talking})", row("Participant 1"));
    let flows = "palabreState.chunks";
    wait_for("five looks in a row at silence", PATIENCE, || {
        second.wait_until(&silent).ok()?;
        let before = second.run(&format!("return {flows}")).unwrap();
        let quiet = (0..5).all(|_| {
            std::thread::sleep(std::time::Duration::from_millis(200));
            second.run(&format!("return ({silent}) && {flows} === {before}")).unwrap() == true
        });
        quiet.then_some(())
    })
    .unwrap();
    first.click("#mute").unwrap();
    second.wait_until(&talking).unwrap();
}

#[test]
fn the_volume_is_what_is_rendered() {
    let suite = Suite::start(2).unwrap();
    let browser = Browser::start(Some(&voice()), "en").unwrap();
    browser.tap_sound().unwrap();
    open(&browser, &suite.links[1]);
    browser.click("#join").unwrap();
    browser.wait_until("palabreState.connection === 'live' && palabreState.microphone === 'on'").unwrap();
    let _talker = Talker::tone(&suite.client, &suite.links[0], TONE_HZ, TONE_DBFS);
    for (volume, expected_dbfs) in [(100, TONE_DBFS), (50, TONE_DBFS - 6.0), (0, f64::NEG_INFINITY), (100, TONE_DBFS)] {
        let slider = "document.getElementById('volume')";
        browser.run(&format!("{slider}.value = '{volume}'; {slider}.dispatchEvent(new Event('input'))")).unwrap();
        let mut last = 0.0;
        wait_for("the level", PATIENCE, || {
            let (length, rate_hz) = browser.tapped(Tap::Output).ok()?;
            let tenth = rate_hz as usize / 10;
            let samples = browser.tap_from(Tap::Output, length.checked_sub(tenth)?).ok()?;
            last = goertzel_dbfs(samples.get(..tenth)?, rate_hz, TONE_HZ);
            let is_right = if volume == 0 { last < -80.0 } else { (last - expected_dbfs).abs() < 1.0 };
            is_right.then_some(())
        })
        .unwrap_or_else(|error| panic!("at {volume} %: {last} dBFS: {error}"));
    }
}

#[test]
fn a_stream_that_is_dead_without_an_end_is_said_and_opened_again() {
    let suite = Suite::start(2).unwrap();
    let browser = join(&suite.links[0]);
    browser.wait_until("document.getElementById('connection').innerText === 'Connected'").unwrap();
    browser.wait_until("palabreState.uplink === 'open' && palabreState.sent > 10").unwrap();
    // No connection ends, and nothing comes any more.
    let listener = suite.process("palabre-listener", "p01").unwrap();
    signal(listener, "STOP").unwrap();
    browser.wait_until("document.getElementById('connection').innerText.startsWith('Connection lost')").unwrap();
    signal(listener, "CONT").unwrap();
    browser.wait_until("document.getElementById('connection').innerText === 'Connected'").unwrap();
    let sent = browser.run("return palabreState.sent").unwrap();
    browser.wait_until(&format!("palabreState.uplink === 'open' && palabreState.sent > {sent} + 20")).unwrap();
    assert_eq!(suite.process("palabre-listener", "p01"), Some(listener), "it is the same process");
}

#[test]
fn whoever_refuses_the_microphone_hears_the_others_and_reads_why_nobody_hears_him() {
    let suite = Suite::start(2).unwrap();
    let browser = Browser::start(None, "en").unwrap();
    let denied = serde_json::json!({ "permission": { "name": "microphone" }, "setting": "denied" });
    browser.devtools("Browser.setPermission", denied).unwrap();
    open(&browser, &suite.links[0]);
    browser.click("#join").unwrap();
    browser.wait_until("palabreState.connection === 'live' && palabreState.microphone === 'refused'").unwrap();
    browser.wait_until("document.getElementById('mic-state').innerText === 'Listening only'").unwrap();
    browser.wait_until("document.querySelector('.notice')?.innerText.includes('nobody hears you')").unwrap();
    let _talker = Talker::tone(&suite.client, &suite.links[1], TONE_HZ, TONE_DBFS);
    browser.wait_until("palabreState.chunks > 25 && palabreState.audible").unwrap();
    assert_eq!(browser.run("return palabreState.sent").unwrap(), 0);
}

#[test]
fn whoever_leaves_sends_and_hears_nothing_more() {
    let suite = Suite::start(1).unwrap();
    let browser = join(&suite.links[0]);
    let note = || suite.palabre(&["status"]).unwrap();
    wait_for("his voice", PATIENCE, || note().contains("streams=1 speaking=ws").then_some(())).unwrap();
    browser.click("#leave").unwrap();
    browser.wait_until("palabreState.screen === 'left' && !document.querySelector('iframe')").unwrap();
    wait_for("his leave", PATIENCE, || note().contains("streams=0 speaking=no").then_some(())).unwrap();
    browser.click("#join").unwrap();
    wait_for("his voice again", PATIENCE, || note().contains("streams=1 speaking=ws").then_some(())).unwrap();
}
