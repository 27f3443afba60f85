//! Tests in a real Chromium what the page shows and plays, and that it survives faults of stream, microphone, sound card and computer.
#![allow(clippy::unwrap_used, missing_docs)]

mod devices;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use palabre_e2e::browser::{Browser, Tap};
use palabre_e2e::client::Talker;
use palabre_e2e::earlier_texts;
use palabre_e2e::suite::{Link, Suite, TIMEOUT, descendants, signal};
use palabre_e2e::wait_for;
use palabre_sound::measure::{goertzel_dbfs, tone};
use palabre_sound::wav;
use palabre_testing::undisturbed;

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

/// Returns a JavaScript expression for the row of the participant with this display name.
fn row(display: &str) -> String {
    format!("[...document.querySelectorAll('.person')].find((row) => row.innerText.includes('{display}'))")
}

/// Returns a JavaScript expression that is true if the participant is shown as talking, with a level.
fn talks(display: &str) -> String {
    let row = row(display);
    format!("{row}?.classList.contains('talking') && Number({row}.style.getPropertyValue('--level')) > 0.1")
}

#[test]
fn every_page_except_the_first_joins_muted_and_recommends_headphones() {
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
    // The first page joined unmuted.
    assert_eq!(first.run("return document.querySelector('.notice')?.innerText ?? ''").unwrap(), "");
}

#[test]
fn page_whose_link_is_open_too_often_says_so_and_connects_when_another_stream_ends() {
    let suite = Suite::start_configured(1, "[limits]\nstreams = 1\n").unwrap();
    let stream = suite.client.get(&suite.links[0], "/listen").unwrap();
    assert_eq!(stream.status, 200);
    let page = Browser::start(Some(&voice()), "en").unwrap();
    open(&page, &suite.links[0]);
    page.click("#join").unwrap();
    let title = "document.querySelector('.notice strong')?.textContent";
    page.wait_until(&format!("{title} === 'Your link is open in too many places'")).unwrap();
    drop(stream);
    page.wait_until("palabreState.connection === 'live'").unwrap();
    page.wait_until(&format!("{title} !== 'Your link is open in too many places'")).unwrap();
}

#[test]
fn pages_show_who_talks_and_a_muted_page_is_silent() {
    let suite = Suite::start(2).unwrap();
    let (first, second) = (join(&suite.links[0]), join(&suite.links[1]));
    let talking = talks("Participant 1");
    second.wait_until(&talking).unwrap();
    first.wait_until(&talking).unwrap();
    first.click("#mute").unwrap();
    // Wait for a second in which neither a level nor a chunk arrives at the second page.
    let silent = format!("Number({}.style.getPropertyValue('--level')) === 0 && !({talking})", row("Participant 1"));
    let flows = "palabreState.chunks";
    wait_for("a second of silence", TIMEOUT, || {
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
fn volume_of_everything_and_of_one_participant_changes_the_rendered_level() {
    let suite = Suite::start(2).unwrap();
    let browser = Browser::start(Some(&voice()), "en").unwrap();
    browser.tap_sound().unwrap();
    open(&browser, &suite.links[1]);
    browser.click("#join").unwrap();
    browser.wait_until("palabreState.connection === 'live' && palabreState.microphone === 'on'").unwrap();
    let _talker = Talker::tone(&suite.client, &suite.links[0], TONE_HZ, TONE_DBFS);
    browser.wait_until("document.querySelector('#people [data-name=p01] .more')").unwrap();
    browser.click("#people [data-name=p01] .more").unwrap();
    // First the volume of the whole room, then the volume of the talker alone.
    for (slider, volume, expected_dbfs) in [
        ("volume", 100, TONE_DBFS),
        ("volume", 50, TONE_DBFS - 6.0),
        ("volume", 0, f64::NEG_INFINITY),
        ("volume", 100, TONE_DBFS),
        ("person-volume", 200, TONE_DBFS + 6.0),
        ("person-volume", 0, f64::NEG_INFINITY),
        ("person-volume", 50, TONE_DBFS - 6.0),
    ] {
        let slider = format!("document.getElementById('{slider}')");
        browser.run(&format!("{slider}.value = '{volume}'; {slider}.dispatchEvent(new Event('input'))")).unwrap();
        let mut last = 0.0;
        wait_for("the level", TIMEOUT, || {
            let (length, rate_hz) = browser.tapped(Tap::Output).ok()?;
            let tenth = rate_hz as usize / 10;
            let samples = browser.tap_from(Tap::Output, length.checked_sub(tenth)?).ok()?;
            last = goertzel_dbfs(samples.get(..tenth)?, rate_hz, TONE_HZ);
            let is_right = if volume == 0 { last < -80.0 } else { (last - expected_dbfs).abs() < 1.0 };
            is_right.then_some(())
        })
        .unwrap_or_else(|error| panic!("{slider} at {volume} %: {last} dBFS: {error}"));
    }
}

/// Makes requests of the page time out 16 times as fast, so that a stall of some seconds costs as many attempts as a stall of a minute. Counts the
/// attempts to send a message.
const SHORT_TIMEOUTS: &str = "
    window.attempts = [];
    const { timeout } = AbortSignal;
    AbortSignal.timeout = (ms) => timeout.call(AbortSignal, ms / 16);
    const { fetch } = window;
    window.fetch = (url, ...rest) => {
        if (String(url).startsWith('say?id=')) window.attempts.push(url);
        return fetch(url, ...rest);
    };";

/// A wall clock that advances by 20 s whenever the page reads it, so no pause between two readings looks like a sleep of the computer.
const FAST_CLOCK: &str = "
    const { now } = Date;
    window.rightClock = () => { Date.now = now; };
    let aheadMs = 0;
    Date.now = () => now() + (aheadMs += 20000);";

#[test]
fn stream_that_stops_without_an_end_is_reported_and_reopened_and_a_removed_participant_is_told_so() {
    let suite = Suite::start(2).unwrap();
    let browser = join(&suite.links[0]);
    browser.wait_until("document.getElementById('connection').innerText.startsWith('Connected')").unwrap();
    browser.wait_until("palabreState.uplink === 'open' && palabreState.sent > 10").unwrap();
    shows_a_reaction(&browser);
    browser.run(SHORT_TIMEOUTS).unwrap();
    // SIGSTOP stops the listener, but closes no connection.
    let listener = suite.process("palabre-listener", "p01").unwrap();
    signal(listener, "STOP").unwrap();
    write(&browser, "during the stall");
    write(&browser, "and another");
    browser
        .wait_until(
            "document.getElementById('connection').innerText === 'Unstable connection' && !document.querySelector('.notice')
             && document.getElementById('mute').dataset.state === 'waiting'",
        )
        .unwrap();
    browser.wait_until("document.getElementById('connection').innerText.startsWith('Connection lost')").unwrap();
    browser.wait_until("document.querySelector('.notice strong').textContent === 'You are disconnected'").unwrap();
    let dimmed =
        browser.run("return getComputedStyle(document.querySelector('#people .seat')).filter === 'grayscale(1)'");
    assert_eq!(dimmed.unwrap(), true, "the list of participants is stale");
    browser.wait_until("!document.querySelector('.reaction')").unwrap();
    assert_eq!(browser.run("return palabreState.muted").unwrap(), false, "the participant was away for seconds only");
    let waiting = "[...document.querySelectorAll('.message-status')].map(({ textContent }) => textContent).join()";
    browser.wait_until(&format!("{waiting} === 'Sending…,Sending…' && attempts.length >= 3")).unwrap();
    browser.run(FAST_CLOCK).unwrap();
    browser.wait_until("palabreState.muted").unwrap();
    browser.run("rightClock()").unwrap();
    let sent = browser.run("return palabreState.sent").unwrap();
    signal(listener, "CONT").unwrap();
    browser.wait_until("document.getElementById('connection').innerText.startsWith('Connected')").unwrap();
    comes_back_muted(&browser, &sent);
    browser.wait_until("!document.querySelector('.message-status')").unwrap();
    let shown = browser.run("return [...document.querySelectorAll('.message-text')].map((text) => text.innerText)");
    assert_eq!(shown.unwrap(), serde_json::json!(["during the stall", "and another"]));
    let kept = std::fs::read_to_string(suite.room().join(".meeting/texts")).unwrap();
    let kept: Vec<_> = kept.lines().map(|line| line.rsplit('\t').next().unwrap()).collect();
    assert_eq!(kept, ["during the stall", "and another"], "the room has each text once");
    earlier_texts::stay_in_place(&suite, &browser).unwrap();
    let sent = browser.run("return palabreState.sent").unwrap();
    browser.wait_until(&format!("palabreState.uplink === 'open' && palabreState.sent > {sent} + 20")).unwrap();
    assert_eq!(suite.process("palabre-listener", "p01"), Some(listener), "the listener is the same process");
    assert_eq!(browser.run("return document.querySelectorAll('.notice').length").unwrap(), 0);
    leaves_when_revoked(&suite, &browser);
}

/// Checks that a reaction is shown beside its sender and fades.
fn shows_a_reaction(browser: &Browser) {
    browser.click("#messages-toggle").unwrap();
    browser.click(".reaction-button").unwrap();
    browser
        .wait_until(
            "document.querySelector('#people [data-name=p01] .reaction')?.getAnimations()[0]?.animationName === 'fade'",
        )
        .unwrap();
}

/// Writes a text as the user does.
fn write(browser: &Browser, text: &str) {
    browser.type_into("#message-line", &format!("{text}\u{E007}")).unwrap();
}

/// Checks that the page, after two minutes without the server, sends no sound of the microphone until the user unmutes it. `sent` is the number of
/// chunks that the page sent before.
fn comes_back_muted(browser: &Browser, sent: &serde_json::Value) {
    let notice =
        "document.querySelector('.notice.urgent strong')?.textContent === 'You are muted because you were away'";
    browser.wait_until(&format!("{notice} && palabreState.uplink === 'open' && palabreState.muted")).unwrap();
    assert_eq!(browser.run("return palabreState.sent").unwrap(), *sent);
    browser.click(".notice button").unwrap();
    browser.wait_until("!palabreState.muted && !document.querySelector('.notice')").unwrap();
}

/// Checks that a removed participant's page says so, closes its connections and releases the microphone.
fn leaves_when_revoked(suite: &Suite, browser: &Browser) {
    browser
        .run("const tracks = []; window.tracks = tracks; const { stop } = MediaStreamTrack.prototype; MediaStreamTrack.prototype.stop = function () { tracks.push(this); stop.call(this); }")
        .unwrap();
    suite.palabre(&["revoke", "p01"]).unwrap();
    browser
        .wait_until(
            "palabreState.screen === 'removed' && document.getElementById('door-title').textContent === 'You are no longer in this room'
             && document.getElementById('join').hidden && !document.querySelector('iframe') && window.tracks.length === 1",
        )
        .unwrap();
}

/// Stops the browser's sound card for 0.6 s while its participant sends a tone, and returns how much longer another participant hears no tone.
fn lost_ms_after_a_pause_of_the_sound_card() -> i64 {
    const BLOCK_MS: usize = 20;
    let suite = Suite::start(2).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let voice = dir.path().join("tone.wav");
    std::fs::write(&voice, wav::little(48_000, &tone(48_000, TONE_HZ, TONE_DBFS, 480_000))).unwrap();
    let browser = Browser::start(Some(&voice), "en").unwrap();
    open(&browser, &suite.links[0]);
    // Noise suppression would remove a constant tone.
    for name in ["echo", "noise", "gain"] {
        browser.run(&format!("localStorage.setItem('palabre / {name}', 'no')")).unwrap();
    }
    let heard = suite.client.record(&suite.links[1]).unwrap();
    browser.click("#join").unwrap();
    let frame = heard.rate_hz as usize * BLOCK_MS / 1000;
    let silent_ms = |from: usize| {
        let samples = heard.from(from);
        let has_tone = |block: &&[i16]| goertzel_dbfs(block, heard.rate_hz, TONE_HZ) > TONE_DBFS - 6.0;
        let blocks = samples.chunks_exact(frame);
        BLOCK_MS * (blocks.len() - blocks.filter(has_tone).count())
    };
    let second = heard.rate_hz as usize;
    let is_steady = || heard.len().checked_sub(2 * second).filter(|&from| silent_ms(from) == 0);
    wait_for("two seconds of the tone", TIMEOUT, is_steady).unwrap();
    let is_audio_service = |pid: &u32| {
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&line).contains("audio.mojom.AudioService")
    };
    let card = descendants(browser.pid()).into_iter().find(is_audio_service).unwrap();
    let (from, start) = (heard.len(), Instant::now());
    signal(card, "STOP").unwrap();
    std::thread::sleep(Duration::from_millis(600));
    signal(card, "CONT").unwrap();
    let paused_ms = start.elapsed().as_millis();
    wait_for("six seconds", TIMEOUT, || (heard.len() > from + 6 * second).then_some(())).unwrap();
    let lost_ms = silent_ms(from);
    println!("the card stood still for {paused_ms} ms, no tone was heard for {lost_ms} ms");
    lost_ms as i64 - paused_ms as i64
}

#[test]
fn pause_of_the_sound_card_costs_speech_of_its_own_length() {
    undisturbed(|| assert!(lost_ms_after_a_pause_of_the_sound_card() <= 300));
}

#[test]
fn participant_without_microphone_permission_hears_and_is_told_why_nobody_hears_them() {
    let suite = Suite::start(2).unwrap();
    let browser = Browser::start(None, "en").unwrap();
    let denied = serde_json::json!({ "permission": { "name": "microphone" }, "setting": "denied" });
    browser.devtools("Browser.setPermission", denied).unwrap();
    open(&browser, &suite.links[0]);
    browser.click("#join").unwrap();
    browser.wait_until("palabreState.connection === 'live' && palabreState.microphone === 'refused'").unwrap();
    browser.wait_until("document.getElementById('mic-state').innerText === 'Listening only'").unwrap();
    browser.wait_until("document.querySelector('.notice')?.innerText.includes('no one can hear you')").unwrap();
    browser.wait_until("document.getElementById('spoken').textContent === 'Connected · Listening only'").unwrap();
    browser.wait_until("palabreState.errors.at(-1).endsWith('microphone: NotAllowedError')").unwrap();
    let _talker = Talker::tone(&suite.client, &suite.links[1], TONE_HZ, TONE_DBFS);
    browser.wait_until("palabreState.chunks > 25 && palabreState.audible").unwrap();
    assert_eq!(browser.run("return palabreState.sent").unwrap(), 0);
    let other = join(&suite.links[1]);
    other
        .wait_until("document.querySelector('#people [data-name=\"p01\"].silenced use[href=\"#headphones\"]')")
        .unwrap();
}

#[test]
fn page_sends_and_receives_nothing_after_leave() {
    let suite = Suite::start(1).unwrap();
    let browser = join(&suite.links[0]);
    let status = || suite.palabre(&["status"]).unwrap();
    wait_for("stream and microphone", TIMEOUT, || status().contains("streams=1 speaking=ws").then_some(())).unwrap();
    browser.click("#leave").unwrap();
    browser.wait_until("palabreState.screen === 'left' && !document.querySelector('iframe')").unwrap();
    wait_for("no stream and no microphone", TIMEOUT, || status().contains("streams=0 speaking=no").then_some(()))
        .unwrap();
    browser.click("#join").unwrap();
    wait_for("stream and microphone again", TIMEOUT, || status().contains("streams=1 speaking=ws").then_some(()))
        .unwrap();
}
