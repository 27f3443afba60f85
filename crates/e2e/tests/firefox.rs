//! Tests of the page in a real Firefox. They cover only what can differ between browsers. Tests in Chromium cover the page's details.
//!
//! They use the keyboard, hear and send sound, show texts, reconnect, and choose a loudspeaker.
#![allow(clippy::unwrap_used, missing_docs)]

use std::path::Path;

use palabre_e2e::alerts;
use palabre_e2e::client::{Recording, Talker};
use palabre_e2e::clock::MICROPHONE_LATER;
use palabre_e2e::earlier_texts;
use palabre_e2e::firefox::{FIRST_CARD, Firefox, OUTPUT_HZ, SECOND_CARD};
use palabre_e2e::hostile_texts::Attacked;
use palabre_e2e::keyboard::{self, Page};
use palabre_e2e::suite::{Suite, TIMEOUT, signal};
use palabre_e2e::wait_for;
use palabre_sound::measure::{goertzel_dbfs, rms_dbfs};

/// Frequency of the other participant's tone. It differs from the 440 Hz of Firefox's fake microphone.
const TONE_HZ: f64 = 1000.0;

fn join(firefox: &Firefox) {
    firefox.wait_until("window.palabreState?.screen === 'door'").unwrap();
    firefox.click("#join").unwrap();
    firefox.wait_until("palabreState.connection === 'live' && palabreState.microphone === 'on'").unwrap();
}

/// Checks that the page renders the other participant's tone. The player may play 0.1 % faster or slower, which shifts the tone's frequency
/// measurably in the long window of `heardDbfs`.
fn assert_hears(firefox: &Firefox) {
    let loudest = format!("Math.max(...[0.999, 1, 1.001].map((speed) => heardDbfs({TONE_HZ} * speed)))");
    firefox.wait_until(&format!("Math.abs({loudest} + 20) < 1")).unwrap();
}

/// Waits until half a second of the recording, from now on, is loud (if `loud`) or silent.
fn assert_is_heard(recording: &Recording, loud: bool) {
    let mut from = recording.len();
    let window = recording.rate_hz as usize / 2;
    wait_for("the microphone of Firefox", TIMEOUT, || {
        let samples = recording.from(from);
        let enough = samples.get(..window)?;
        from += window;
        ((rms_dbfs(enough) > -45.0) == loud).then_some(())
    })
    .unwrap();
}

/// Makes the page, before joining, keep its microphone's last track as `window.track`.
const KEEP_TRACK: &str = "
    const get = MediaDevices.prototype.getUserMedia;
    MediaDevices.prototype.getUserMedia = async function (...wanted) {
        const stream = await get.apply(this, wanted);
        [window.track] = stream.getTracks();
        return stream;
    };";

/// Checks that the page reports a microphone that delivers only zeros, and no longer reports it when the microphone delivers sound again.
fn notices_a_silent_microphone(firefox: &Firefox) {
    for (enabled, state) in [(false, "silent"), (true, "on")] {
        firefox.run(&format!("window.track.enabled = {enabled}")).unwrap();
        let later = if enabled { "true" } else { MICROPHONE_LATER };
        firefox.wait_until(&format!("{later} && document.getElementById('mute').dataset.state === '{state}'")).unwrap();
    }
}

/// Checks the page's language and the label of the button that joins.
fn assert_language(firefox: &Firefox, language: &str, join: &str) {
    firefox.wait_until("window.palabreState?.screen === 'door'").unwrap();
    let says = firefox.run("return [document.documentElement.lang, document.getElementById('join').textContent]");
    assert_eq!(says.unwrap(), serde_json::json!([language, join]));
}

/// Returns the level of the other participant's tone in a sound card, in dBFS. While the player plays 0.1 % faster or slower, this level is up to 4 dB too
/// low.
fn level_in(firefox: &Firefox, card: &str) -> Option<f64> {
    let recording = firefox.record_output(card).ok()?;
    let half = OUTPUT_HZ as usize / 2;
    wait_for("a second of the sound card", TIMEOUT, || (recording.frames().ok()? > 2 * half).then_some(())).ok()?;
    let samples = recording.stop().ok()?;
    Some(goertzel_dbfs(&samples[half..2 * half], OUTPUT_HZ, TONE_HZ))
}

/// Waits until this sound card plays the tone and the other one doesn't.
fn assert_plays_in(firefox: &Firefox, card: &str) {
    let other = if card == FIRST_CARD { SECOND_CARD } else { FIRST_CARD };
    let plays = |card| level_in(firefox, card).map(|level| level > -23.0);
    let is_there = || (plays(card)? && !plays(other)?).then_some(());
    wait_for(&format!("the tone in the {card} sound card"), TIMEOUT, is_there).unwrap();
}

/// Sets the volume of the other participant for this page's participant, and checks the level of the tone in a sound card. At 100 % it is −20 dBFS.
fn plays_a_participant_at_the_chosen_volume(firefox: &Firefox, card: &str) {
    let slider = "document.getElementById('person-volume')";
    firefox.click("#people [data-name=p02] .more").unwrap();
    for (percent, expected) in [(200, -18.5..-13.0), (0, f64::NEG_INFINITY..-70.0), (100, -25.0..-19.0)] {
        firefox.run(&format!("{slider}.value = {percent}; {slider}.dispatchEvent(new Event('input'))")).unwrap();
        let mut last = None;
        wait_for("the level", TIMEOUT, || {
            last = level_in(firefox, card);
            last.filter(|level| expected.contains(level))
        })
        .unwrap_or_else(|error| panic!("at {percent} %: {last:?} dBFS: {error}"));
    }
    firefox.click("#person-close").unwrap();
}

/// Checks that texts written while the listener is stopped are sent later in their order, that the other participant's text is shown, and that a web
/// address in it is a link.
fn sends_and_shows_texts(suite: &Suite, firefox: &Firefox) {
    let listener = suite.process("palabre-listener", "p01").unwrap();
    signal(listener, "STOP").unwrap();
    ["first", "second"].iter().for_each(|text| write(firefox, text));
    let states = "[...document.querySelectorAll('.message')].slice(-2).map(({ dataset }) => dataset.state).join()";
    firefox.wait_until(&format!("{states} === 'sending,sending'")).unwrap();
    signal(listener, "CONT").unwrap();
    firefox.wait_until(&format!("{states} === 'sent,sent'")).unwrap();
    let bearer = format!("Authorization: Bearer {}", suite.links[1].key);
    let said = "see https://example.org/a?b";
    let length = format!("Content-Length: {}", said.len());
    suite.client.request(&suite.links[1], "POST", "/say", &[&bearer, &length], said.as_bytes()).unwrap();
    firefox.wait_until("document.querySelector('.message:last-child a')").unwrap();
    let link =
        firefox.run("const a = document.querySelector('.message:last-child a'); return [a.href, a.target, a.rel]");
    assert_eq!(link.unwrap(), serde_json::json!(["https://example.org/a?b", "_blank", "noopener noreferrer"]));
    firefox.wait_until("document.title.startsWith('(1) ')").unwrap();
}

/// Texts that are written at once, each as a message of its own.
const SHORT_TEXTS: [&str; 12] =
    ["one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"];

/// Reacts, and then writes more short texts at once than the listener takes. `has_sent_every_text_once` checks later what happened to them.
fn reacts_and_writes_faster_than_the_rate_limit(firefox: &Firefox) {
    firefox
        .run("window.statuses = []; const { fetch } = window; window.fetch = async (...asked) => { const answer = await fetch(...asked); statuses.push(answer.status); return answer; }")
        .unwrap();
    firefox.click("#messages-toggle").unwrap();
    firefox.click(".reaction-button").unwrap();
    firefox.wait_until("document.querySelector('#people [data-name=p01] .reaction')").unwrap();
    firefox.click("#messages-close").unwrap();
    SHORT_TEXTS.iter().for_each(|text| write(firefox, text));
}

/// Checks that all texts were sent in their order, although the listener refused some of them at first, and that the reaction has faded.
fn has_sent_every_text_once(suite: &Suite, firefox: &Firefox) {
    firefox
        .wait_until("!document.querySelector('.message-status, .message[data-state=sending], .reaction') && statuses.includes(429)")
        .unwrap();
    let kept = std::fs::read_to_string(suite.room().join(".meeting/texts")).unwrap();
    let kept: Vec<_> = kept.lines().filter_map(|line| line.rsplit('\t').next()).collect();
    assert_eq!(kept[kept.len() - SHORT_TEXTS.len()..], SHORT_TEXTS);
    let shown = "return [...document.querySelectorAll('.message-text')].map((text) => text.textContent).slice(-12)";
    assert_eq!(firefox.run(shown).unwrap(), serde_json::json!(SHORT_TEXTS));
}

/// Checks that the page copies its details for support, and tells screen readers so.
fn copies_its_details(firefox: &Firefox) {
    firefox.click("#settings-open").unwrap();
    firefox.click("#copy").unwrap();
    firefox.wait_until("document.querySelector('#copied[role=status]').textContent === 'Copied.'").unwrap();
    firefox.click("#settings-close").unwrap();
}

/// Checks that after `event` the page connects to the new process, hears the other participant and is heard.
fn assert_is_reconnected(suite: &Suite, firefox: &Firefox, other: &Recording, event: impl FnOnce()) {
    let old = suite.process("palabre-listener", "p01").unwrap();
    let opened = firefox.run("return palabreState.opened").unwrap();
    event();
    let gone = || (!Path::new(&format!("/proc/{old}")).exists()).then_some(());
    wait_for("the end of the old listener", TIMEOUT, gone).unwrap();
    firefox
        .wait_until(&format!(
            "palabreState.opened > {opened} && palabreState.connection === 'live' && palabreState.uplink === 'open'"
        ))
        .unwrap();
    // Wait until two seconds of sound have arrived, more than the analyser's window.
    let chunks = firefox.run("return palabreState.chunks").unwrap();
    firefox.wait_until(&format!("palabreState.chunks > {chunks} + 50")).unwrap();
    assert_hears(firefox);
    assert_is_heard(other, true);
}

/// Writes a text as the user does.
fn write(firefox: &Firefox, text: &str) {
    let script = "const line = document.getElementById('message-line'); line.form.requestSubmit();";
    firefox.run(&format!("document.getElementById('message-line').value = '{text}'; {script}")).unwrap();
}

/// One Firefox for all checks, since starting one takes as long as the checks.
#[test]
fn participant_with_firefox_hears_speaks_mutes_reloads_and_reconnects() {
    let suite = Suite::start_configured(4, "[room]\nlevelling = false\nown-display-names = true\n").unwrap();
    let other = suite.client.record(&suite.links[1]).unwrap();
    let _talker = Talker::tone(&suite.client, &suite.links[1], TONE_HZ, -20.0);
    let firefox = Firefox::start("fr").unwrap();
    firefox.open(&suite.links[0].url).unwrap();
    assert_language(&firefox, "fr", "Rejoindre");
    keyboard::visit(&firefox).unwrap();
    assert_hears(&firefox);
    assert_is_heard(&other, true);
    assert_eq!(firefox.run("return palabreState.uplinkKind").unwrap(), "websocket");
    firefox.click("#language").unwrap();

    firefox.run("document.activeElement.blur()").unwrap();
    firefox.press("m").unwrap();
    firefox.wait_until("palabreState.muted").unwrap();
    assert_is_heard(&other, false);
    firefox.wait_until("palabreState.talkingMuted && document.querySelector('.notice.urgent')").unwrap();
    firefox.reload().unwrap();
    firefox.wait_until("window.palabreState?.screen !== 'inside'").unwrap();
    assert_language(&firefox, "en", "Join");
    join(&firefox);
    assert_hears(&firefox);
    assert_eq!(firefox.run("return palabreState.muted").unwrap(), true);
    assert_is_heard(&other, false);
    firefox.run("document.activeElement.blur()").unwrap();
    firefox.press("m").unwrap();
    assert_is_heard(&other, true);

    assert_is_reconnected(&suite, &firefox, &other, || suite.palabre(&["restart", "p01"]).map(drop).unwrap());
    assert_is_reconnected(&suite, &firefox, &other, || {
        suite.kill("palabre-listener", "p01").map(drop).unwrap();
        write(&firefox, "during the outage");
    });
    firefox.wait_until("document.querySelector('.message:last-child')?.dataset.state === 'sent'").unwrap();
    for (key, muted) in [("Pause", true), ("Play", false)] {
        firefox.press_media_key(key).unwrap();
        firefox.wait_until(&format!("palabreState.muted === {muted}")).unwrap();
    }
    // The page still shows the first of the expected texts, which was written before the page was reloaded.
    sends_and_shows_texts(&suite, &firefox);
    let texts = "return [...document.querySelectorAll('.message-text')].map((text) => text.textContent)";
    let expected = ["mhMH m", "during the outage", "first", "second", "see https://example.org/a?b"];
    assert_eq!(firefox.run(texts).unwrap(), serde_json::json!(expected));

    reacts_and_writes_faster_than_the_rate_limit(&firefox);
    assert_plays_in(&firefox, FIRST_CARD);
    plays_a_participant_at_the_chosen_volume(&firefox, FIRST_CARD);
    has_sent_every_text_once(&suite, &firefox);
    earlier_texts::stay_in_place(&suite, &firefox).unwrap();
    alerts::announce_events(&suite, &firefox).unwrap();
    copies_its_details(&firefox);
    firefox.choose_loudspeaker(Some(SECOND_CARD)).unwrap();
    assert_plays_in(&firefox, SECOND_CARD);
    firefox.reload().unwrap();
    firefox.wait_until("window.palabreState?.screen === 'door'").unwrap();
    firefox.run(KEEP_TRACK).unwrap();
    keyboard::push_to_talk(&firefox).unwrap();
    notices_a_silent_microphone(&firefox);
    assert_plays_in(&firefox, SECOND_CARD);
    firefox.choose_loudspeaker(None).unwrap();
    assert_plays_in(&firefox, FIRST_CARD);
    Attacked::new(&suite, &firefox).and_then(|attacked| attacked.shows_only_texts()).unwrap();
}
