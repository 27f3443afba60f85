//! The page with simulated events of sound cards, browser and computer: it acquires devices, survives faults and releases everything.

use palabre_e2e::alerts;
use palabre_e2e::browser::{Browser, Tap};
use palabre_e2e::client::Talker;
use palabre_e2e::compare::{RATE_HZ, convert, find};
use palabre_e2e::suite::{Link, Suite, TIMEOUT, signal};
use palabre_e2e::wait_for;
use palabre_sound::measure::goertzel_dbfs;

use super::{TONE_DBFS, TONE_HZ, open, voice};

/// Opens the page with `surroundings.js`, which simulates events and records calls of browser APIs.
fn open_with_surroundings(link: &Link) -> Browser {
    let browser = Browser::start(Some(&voice()), "en").unwrap();
    browser.tap_sound().unwrap();
    let source = serde_json::json!({ "source": include_str!("../../src/surroundings.js") });
    browser.devtools("Page.addScriptToEvaluateOnNewDocument", source).unwrap();
    open(&browser, link);
    browser
}

/// Runs the page's sound test: it plays the tone, then the participant's own voice 2 s later, and sends no request.
fn sound_test(browser: &Browser) {
    // Returns the requests since `window.before`, except two: the blob of the recording worklet, and the icon, which the browser may fetch at any
    // time.
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

/// Returns whether the page renders the sound of its microphone 2 s ± 150 ms later, for half a second.
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
    // Turn off the warning about talking while muted: for this warning, the page keeps the track enabled while muted.
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

/// Checks that the page notices that its stream ended during a suspend of three minutes. Only the wall clock shows the suspend, because the
/// monotonic clock stood still. After the suspend the microphone is muted until the user unmutes it.
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
    // If the chosen microphone is gone, the page uses another one.
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
    browser.wait_until(&format!("{cells}.length === 36 && {cells}.every((text) => text.trim() !== '')")).unwrap();
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
    let suite = Suite::start(4).unwrap();
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

    alerts::announce_events(&suite, &browser).unwrap();
    for (key, muted, shown) in [
        ("pause", true, "paused"),
        ("play", false, "playing"),
        ("togglemicrophone", true, "paused"),
        // The play key unmutes only after the pause key.
        ("play", true, "paused"),
        ("togglemicrophone", false, "playing"),
    ] {
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

#[test]
fn microphone_that_dies_without_an_event_is_shown_as_silent_also_while_others_talk() {
    let suite = Suite::start(2).unwrap();
    let browser = Browser::with_pulse_microphone(&voice(), "en").unwrap();
    open(&browser, &suite.links[0]);
    browser.click("#join").unwrap();
    // Chromium's echo cancellation adds noise to the zeros of the microphone while the loudspeaker plays.
    let _talker = Talker::tone(&suite.client, &suite.links[1], TONE_HZ, TONE_DBFS);
    browser.wait_until("document.querySelector('#people [data-name=p02].talking')").unwrap();
    let notice = "document.querySelector('.notice.urgent strong')?.textContent === 'Your microphone is silent'";
    for is_dead in [true, false] {
        browser.set_microphone_dead(is_dead).unwrap();
        browser.wait_until(&format!("palabreState.silent === {is_dead} && ({notice}) === {is_dead}")).unwrap();
    }
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
