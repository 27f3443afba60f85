//! Tests in a real Chromium what the page shows and plays, and that it survives faults of stream, microphone, sound card and computer.
#![allow(clippy::unwrap_used, missing_docs)]

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use palabre_e2e::browser::{Browser, Tap};
use palabre_e2e::client::Talker;
use palabre_e2e::compare::{RATE_HZ, convert, find};
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
fn pages_show_who_talks_and_a_muted_page_is_silent() {
    let suite = Suite::start(2).unwrap();
    let (first, second) = (join(&suite.links[0]), join(&suite.links[1]));
    let talking = talks("Participant 1");
    second.wait_until(&talking).unwrap();
    first.wait_until(&talking).unwrap();
    first.click("#mute").unwrap();
    // Neither a level nor a chunk arrives.
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
fn volume_changes_the_rendered_level() {
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
        wait_for("the level", TIMEOUT, || {
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
fn stream_that_stops_without_an_end_is_reported_and_reopened_and_a_removed_participant_is_told_so() {
    let suite = Suite::start(2).unwrap();
    let browser = join(&suite.links[0]);
    browser.wait_until("document.getElementById('connection').innerText.startsWith('Connected')").unwrap();
    browser.wait_until("palabreState.uplink === 'open' && palabreState.sent > 10").unwrap();
    // A listener stopped by SIGSTOP closes no connection.
    let listener = suite.process("palabre-listener", "p01").unwrap();
    signal(listener, "STOP").unwrap();
    browser
        .wait_until(
            "document.getElementById('connection').innerText === 'Unstable connection' && !document.querySelector('.notice')
             && document.getElementById('mute').dataset.state === 'waiting'",
        )
        .unwrap();
    browser.wait_until("document.getElementById('connection').innerText.startsWith('Connection lost')").unwrap();
    browser.wait_until("document.querySelector('.notice strong').textContent === 'You are disconnected'").unwrap();
    let dimmed = browser.run("return Number(getComputedStyle(document.querySelector('#people .seat')).opacity) < 0.6");
    assert_eq!(dimmed.unwrap(), true, "the list of participants is stale");
    signal(listener, "CONT").unwrap();
    browser.wait_until("document.getElementById('connection').innerText.startsWith('Connected')").unwrap();
    let sent = browser.run("return palabreState.sent").unwrap();
    browser.wait_until(&format!("palabreState.uplink === 'open' && palabreState.sent > {sent} + 20")).unwrap();
    assert_eq!(suite.process("palabre-listener", "p01"), Some(listener), "the listener is the same process");
    assert_eq!(browser.run("return document.querySelectorAll('.notice').length").unwrap(), 0);
    leaves_when_revoked(&suite, &browser);
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

/// Opens the page with `surroundings.js`, which simulates events and records calls of browser APIs.
fn open_with_surroundings(link: &Link) -> Browser {
    let browser = Browser::start(Some(&voice()), "en").unwrap();
    browser.tap_sound().unwrap();
    let source = serde_json::json!({ "source": include_str!("../src/surroundings.js") });
    browser.devtools("Page.addScriptToEvaluateOnNewDocument", source).unwrap();
    open(&browser, link);
    browser
}

/// Runs the page's sound test: it plays the tone, then the participant's own voice 2 s later, and sends no request.
fn sound_test(browser: &Browser) {
    // Returns the requests since `window.before`, without the blob of the recording worklet, and the icon, which the browser fetches at any time.
    let requests = "return performance.getEntriesByType('resource').slice(window.before).map(({ name }) => name).filter((name) => !/^blob:|icon.svg$/.test(name))";
    browser.click("#test-open").unwrap();
    browser.wait_until("document.getElementById('advice').dataset.good === 'true'").unwrap();
    browser
        .wait_until("Number(document.getElementById('sound-test-level').style.getPropertyValue('--level')) > 0")
        .unwrap();
    browser.run("window.before = performance.getEntriesByType('resource').length").unwrap();
    browser.click("#tone").unwrap();
    wait_for("the tone", TIMEOUT, || {
        let (length, rate_hz) = browser.tapped(Tap::Output).ok()?;
        let tenth = rate_hz as usize / 10;
        let samples = browser.tap_from(Tap::Output, length.checked_sub(tenth)?).ok()?;
        (goertzel_dbfs(samples.get(..tenth)?, rate_hz, 440.0) > -30.0).then_some(())
    })
    .unwrap();
    browser.click("#myself").unwrap();
    wait_for("one's own voice", TIMEOUT, || own_voice_is_back(browser).filter(|&is| is)).unwrap();
    assert_eq!(browser.run(requests).unwrap(), serde_json::json!([]), "the sound test is local");
    browser.click("#settings-close").unwrap();
    browser.wait_until("seen.contexts[0].state === 'closed' && seen.tracks[0].readyState === 'ended'").unwrap();
}

/// Returns whether the page renders half a second of its microphone with a delay of 2 s ± 150 ms.
fn own_voice_is_back(browser: &Browser) -> Option<bool> {
    let (length, rate_hz) = browser.tapped(Tap::Microphone).ok()?;
    let per_ms = f64::from(rate_hz) / 1000.0;
    let zero_ms = |tap| browser.tap_times(tap, 0).ok()?.last().map(|&(at, ms)| ms - at / per_ms);
    let from = length.checked_sub(4 * rate_hz as usize)?;
    let said = browser.tap_from(Tap::Microphone, from).ok()?;
    let said_ms = zero_ms(Tap::Microphone)? + from as f64 / per_ms;
    let back = (said_ms + 1850.0 - zero_ms(Tap::Output)?) * per_ms;
    let heard = browser.tap_from(Tap::Output, back.max(0.0) as usize).ok()?;
    let part = |samples: &[i16], ms: f64| Some(convert(samples.get(..(ms * per_ms) as usize)?, rate_hz, RATE_HZ));
    let found = find(&part(&said, 500.0)?, &part(&heard, 900.0)?, 300);
    Some(found.iter().any(|window| window.coefficient > 0.9))
}

/// Checks the microphone's state in the button, the title, the icon and the meter.
fn shows_its_microphone(browser: &Browser) {
    let shown = |state: &str, words: &str, title: &str, icon: &str, level: &str| {
        let icon_is = format!("document.querySelector('link[rel=icon]').href.endsWith('{icon}')");
        let words_are = format!("document.getElementById('mic-state').innerText === '{words}'");
        let level_is =
            format!("Number(document.getElementById('mic-level').style.getPropertyValue('--level')) {level}");
        let state_is = format!("document.getElementById('mute').dataset.state === '{state}'");
        let title_is = format!("document.title.startsWith('{title} Palabre · ')");
        browser.wait_until(&format!("{state_is} && {words_are} && {title_is} && {icon_is} && {level_is}")).unwrap();
    };
    shown("on", "Microphone on", "🗣", "icon-talking.svg", "> 0.1");
    browser.click("#mute").unwrap();
    shown("muted", "Muted", "🔇", "icon-muted.svg", "=== 0");
    browser.wait_until("!document.querySelector('#people [data-name=p01].talking')").unwrap();
    browser.run("seen.loudMs = seen.talkingMs = 0").unwrap();
    browser.click("#mute").unwrap();
    browser.wait_until("seen.loudMs && seen.talkingMs").unwrap();
    let after_ms = browser.run("return Math.round(seen.talkingMs - seen.loudMs)").unwrap();
    println!("shown as talking {after_ms} ms after the first loud chunk was sent");
}

/// Checks that a suspended AudioContext resumes: by itself where the browser allows that, else by a click on the notice.
fn survives_a_suspended_context(browser: &Browser) {
    let notice = "document.querySelector('.notice.urgent')?.innerText.includes('paused the sound')";
    let hears = "palabreState.audible && seen.contexts.at(-1).state === 'running'";
    browser.run("seen.states.length = 0; seen.contexts.at(-1).suspend()").unwrap();
    browser.wait_until(&format!("seen.states.join() === 'suspended,running' && {hears}")).unwrap();
    for (what, after) in [("holdBack", "happens.letGo()"), ("call", "")] {
        browser.run(&format!("happens.{what}()")).unwrap();
        browser.wait_until(&format!("!palabreState.audible && {notice}")).unwrap();
        browser.wait_until("document.getElementById('mute').dataset.state === 'held'").unwrap();
        browser.run(after).unwrap();
        browser.click(".notice.urgent button").unwrap();
        browser.wait_until(&format!("{hears} && !document.querySelector('.notice')")).unwrap();
        wait_for_sound(browser);
    }
}

/// Waits until chunks are received and, unless muted, sent.
fn wait_for_sound(browser: &Browser) {
    let now = browser.run("return [palabreState.chunks, palabreState.sent]").unwrap();
    let muted = browser.run("return palabreState.muted").unwrap() == true;
    let sent = if muted { String::new() } else { format!("&& palabreState.sent > {} + 10", now[1]) };
    browser.wait_until(&format!("palabreState.chunks > {} + 10 && palabreState.audible {sent}", now[0])).unwrap();
}

/// Checks that the page makes a new AudioContext for a new sound card, requests the microphone again, and stays muted.
fn survives_another_sound_card(browser: &Browser) {
    // A warning about talking while muted needs an enabled track.
    browser.run("localStorage.setItem('palabre / warn', 'no')").unwrap();
    browser.click("#mute").unwrap();
    let before = browser.run("return [seen.contexts.length, seen.asked.length]").unwrap();
    browser.run("happens.plugIn()").unwrap();
    browser
        .wait_until(&format!(
            "seen.contexts.length > {} && seen.asked.length > {} && palabreState.microphone === 'on'",
            before[0], before[1]
        ))
        .unwrap();
    browser.wait_until("seen.contexts.at(-2).state === 'closed' && seen.contexts.at(-1).state === 'running'").unwrap();
    browser.wait_until("seen.tracks.at(-1).readyState === 'live' && !seen.tracks.at(-1).enabled").unwrap();
    wait_for_sound(browser);
    assert_eq!(browser.run("return palabreState.muted").unwrap(), true);
    let sent = browser.run("return palabreState.sent").unwrap();
    let (from, _) = browser.tapped(Tap::Microphone).unwrap();
    browser.wait_tapped(Tap::Microphone, from + 24_000).unwrap();
    assert_eq!(browser.run("return palabreState.sent").unwrap(), sent, "the new microphone is muted too");
    browser.wait_until("seen.tracks.slice(0, -1).every((track) => track.readyState === 'ended')").unwrap();
    browser.click("#mute").unwrap();
    browser.wait_until("seen.tracks.at(-1).enabled").unwrap();
    browser.run("localStorage.removeItem('palabre / warn')").unwrap();
    wait_for_sound(browser);
}

/// Checks that the page finds a stream that died during a suspend of three minutes, by the wall clock: its monotonic clock stood still. The microphone
/// is muted then, until the user unmutes it.
fn survives_suspend(suite: &Suite, browser: &Browser) {
    let listener = suite.process("palabre-listener", "p01").unwrap();
    signal(listener, "STOP").unwrap();
    browser.run("happens.wakeUp()").unwrap();
    browser.wait_until("palabreState.connection === 'lost' && palabreState.muted").unwrap();
    browser.run("happens.timeGoesOn()").unwrap();
    signal(listener, "CONT").unwrap();
    browser.wait_until("palabreState.connection === 'live' && palabreState.uplink === 'open'").unwrap();
    wait_for_sound(browser);
    let notice = "document.querySelector('.notice strong').textContent === 'You are muted because you were away'";
    browser.wait_until(&format!("palabreState.muted && {notice}")).unwrap();
    browser.click(".notice button").unwrap();
    browser.wait_until("!palabreState.muted && !document.querySelector('.notice')").unwrap();
    wait_for_sound(browser);
}

/// Checks that the page requests the chosen devices and audio processing, and gets them.
fn uses_chosen_devices_and_processing(browser: &Browser) {
    browser.click("#settings-open").unwrap();
    let options = |id: &str| format!("document.getElementById('{id}').options");
    browser.wait_until(&format!("{}.length > 2 && {}.length > 2", options("input"), options("output"))).unwrap();
    let choose = |id: &str| {
        let chosen = browser.run(&format!(
            "const select = document.getElementById('{id}');
             select.selectedIndex = [...select.options].findLastIndex(({{ value }}) => value !== 'headset');
             select.dispatchEvent(new Event('change'));
             return select.value;"
        ));
        chosen.unwrap().as_str().unwrap().to_owned()
    };
    let input = choose("input");
    let given = "seen.tracks.at(-1).getSettings()";
    browser
        .wait_until(&format!("seen.asked.at(-1).deviceId?.exact === '{input}' && {given}.deviceId === '{input}'"))
        .unwrap();
    // If the chosen microphone is gone the page uses another one.
    browser.run("const [select] = document.querySelectorAll('#input'); select.append(new Option('gone', 'gone')); select.value = 'gone'; select.dispatchEvent(new Event('change'))").unwrap();
    browser.wait_until(&format!("seen.asked.at(-2).deviceId?.exact === 'gone' && !seen.asked.at(-1).deviceId && palabreState.microphone === 'on' && {given}.deviceId === 'default'")).unwrap();
    let output = choose("output");
    browser.wait_until(&format!("seen.contexts.at(-1).sinkId === '{output}'")).unwrap();
    for (id, asked, on, given_on) in [
        ("echo", "echoCancellation", r#"{"ideal":"all"}"#, "!== false"),
        ("noise", "noiseSuppression", "true", "=== true"),
        ("gain", "autoGainControl", "true", "=== true"),
    ] {
        let is = |wish: &str, given_is: &str| {
            let wishes = format!("JSON.stringify(seen.asked.at(-1).{asked}) === '{wish}'");
            browser
                .wait_until(&format!("{wishes} && palabreState.microphone === 'on' && {given}.{asked} {given_is}"))
                .unwrap();
        };
        is(on, given_on);
        browser.click(&format!("#switch-{id}")).unwrap();
        is("false", "=== false");
        browser.click(&format!("#switch-{id}")).unwrap();
        is(on, given_on);
    }
}

/// Checks that the page shows all its counters, and copies them.
fn shows_and_copies_counters(browser: &Browser) {
    browser.click("#details summary").unwrap();
    let cells = "[...document.querySelectorAll('#figures dt, #figures dd')].map((cell) => cell.textContent)";
    browser.wait_until(&format!("{cells}.length === 32 && {cells}.every((text) => text.trim() !== '')")).unwrap();
    browser.click("#copy").unwrap();
    browser.wait_until("document.getElementById('copied').textContent === 'Copied.'").unwrap();
    let copied = browser.run("return seen.copied").unwrap();
    let figures: serde_json::Value = serde_json::from_str(copied.as_str().unwrap()).unwrap();
    let names = "delayMs depthMs underruns jitterMs bytes codec streamRate contextRate browser errors sent";
    for name in names.split(' ') {
        assert!(!figures[name].is_null(), "{name} isn't in {figures}");
    }
    browser.click("#settings-close").unwrap();
}

fn can_be_installed(browser: &Browser) {
    let manifest = browser.devtools("Page.getAppManifest", serde_json::json!({})).unwrap();
    assert_eq!(manifest["errors"], serde_json::json!([]), "{manifest}");
    let errors = browser.devtools("Page.getInstallabilityErrors", serde_json::json!({})).unwrap();
    assert_eq!(errors["installabilityErrors"], serde_json::json!([]));
}

/// Returns a JavaScript expression that becomes true when the page holds this number of Web Locks and screen wake locks.
fn locks(held: usize) -> String {
    format!("(navigator.locks.query().then((all) => {{ window.held = all.held.length; }}), window.held === {held})")
}

#[test]
fn page_acquires_devices_survives_faults_and_releases_everything() {
    let suite = Suite::start(2).unwrap();
    let browser = open_with_surroundings(&suite.links[0]);
    sound_test(&browser);
    can_be_installed(&browser);
    let _talker = Talker::tone(&suite.client, &suite.links[1], TONE_HZ, TONE_DBFS);
    browser.click("#join").unwrap();
    browser.wait_until("palabreState.connection === 'live' && palabreState.uplink === 'open'").unwrap();
    browser.wait_until(&format!("{} && seen.screen.length === 1", locks(1))).unwrap();
    assert_eq!(browser.run("return seen.session").unwrap(), serde_json::json!(["play-and-record"]));
    browser.run("happens.hideAndShow()").unwrap();
    browser.wait_until("seen.screen.length === 2 && seen.screen.every(({ kind }) => kind === 'screen')").unwrap();

    shows_its_microphone(&browser);
    survives_a_suspended_context(&browser);
    survives_another_sound_card(&browser);
    uses_chosen_devices_and_processing(&browser);
    shows_and_copies_counters(&browser);
    suite.palabre(&["record", "start"]).unwrap();
    survives_suspend(&suite, &browser);
    browser
        .wait_until(
            "document.getElementById('recorded').textContent && document.querySelector('[data-name=p02].talking')",
        )
        .unwrap();
    announces_nothing_about_talkers(&browser);

    for (key, muted, shown) in [("pause", true, "paused"), ("togglemicrophone", false, "playing")] {
        browser.run(&format!("seen.mediaKeys.{key}()")).unwrap();
        let state = "navigator.mediaSession.playbackState";
        browser.wait_until(&format!("palabreState.muted === {muted} && {state} === '{shown}'")).unwrap();
    }
    browser.run("seen.mediaKeys.hangup()").unwrap();
    browser.wait_until("palabreState.screen === 'left' && seen.mediaKeys.play === null").unwrap();
    browser.wait_until(&format!("{} && seen.screen.every(({{ released }}) => released)", locks(0))).unwrap();
    assert_eq!(browser.run("return seen.session.at(-1)").unwrap(), "auto");
    browser
        .wait_until(
            "seen.tracks.every((track) => track.readyState === 'ended') && seen.contexts.every(({ state }) => state === 'closed')",
        )
        .unwrap();
}

/// Checks that the page announced the connection, the microphone and the recording, but not who talks: no live region contains a participant.
fn announces_nothing_about_talkers(browser: &Browser) {
    let regions = "return [...document.querySelectorAll('[aria-live], [role=status], [role=alert], [role=log]')]
                     .filter((region) => region.matches('#people, #stage') || region.querySelector('.person')).length";
    assert_eq!(browser.run(regions).unwrap(), 0);
    let spoken = browser.run("return [...new Set(seen.spoken.flatMap((text) => text.split(' · ')))].sort()").unwrap();
    let expected = [
        "Connected",
        "Connecting…",
        "Connection lost, reconnecting…",
        "Microphone on",
        "Muted",
        "REC",
        "You can’t be heard yet",
        "this room is being recorded",
    ];
    let errors = browser.run("return palabreState.errors").unwrap();
    assert_eq!(spoken, serde_json::json!(expected), "{errors}");
}
