//! The page in a real Chromium, except its sound: access, Content-Security-Policy, reconnection, presence, languages.
#![allow(clippy::unwrap_used, missing_docs)]

mod keys;
mod microphone;
mod upgrade;

use std::path::{Path, PathBuf};
use std::time::Duration;

use palabre_e2e::browser::{Browser, Tap};
use palabre_e2e::client::Talker;
use palabre_e2e::elsewhere::Elsewhere;
use palabre_e2e::suite::{Link, Suite, TIMEOUT, signal};
use palabre_e2e::wait_for;
use palabre_sound::measure::goertzel_dbfs;
use palabre_testing::undisturbed_by;

/// Maximum disturbance of this machine that can't make the page open a second stream: the page waits at least 250 ms for a late record.
const LATE_AFTER: Duration = Duration::from_millis(100);

fn voice() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("speech/english-man-16000Hz-mono.wav")
}

fn open(link: &Link, language: &str) -> Browser {
    let browser = Browser::start(Some(&voice()), language).unwrap();
    browser.open(&link.url).unwrap();
    browser.wait_until("window.palabreState?.screen === 'door'").unwrap();
    browser
}

fn join(link: &Link, language: &str) -> Browser {
    let browser = open(link, language);
    browser.click("#join").unwrap();
    browser.wait_until("palabreState.connection === 'live' && palabreState.microphone === 'on'").unwrap();
    browser
}

/// Serves a page of another origin with a link, as webmail does, until the process ends.
fn page_on_another_site(href: &str) -> String {
    let page = format!("<!doctype html><title>elsewhere</title><a id=link href='{href}'>join</a>");
    format!("http://127.0.0.1:{}/", Elsewhere::plain(&page).unwrap().port)
}

#[test]
fn link_on_another_site_gives_access_and_the_key_is_removed_from_the_address_bar() {
    let suite = Suite::start(1).unwrap();
    let browser = Browser::start(Some(&voice()), "en").unwrap();
    browser.open(&page_on_another_site(&suite.links[0].url)).unwrap();
    browser.wait_until("document.getElementById('link')").unwrap();
    browser.click("#link").unwrap();
    browser.wait_until("window.palabreState?.screen === 'door'").unwrap();
    let address = browser.run("return location.href").unwrap();
    assert_eq!(address, format!("https://localhost:{}/", suite.links[0].port));
    assert_eq!(browser.run("return document.cookie").unwrap(), "", "scripts can't read the access key");
    upgrade::offers_to_reload(&browser);
}

#[test]
fn requests_without_a_key_are_refused_and_reveal_no_name() {
    let suite = Suite::start(1).unwrap();
    let link = &suite.links[0];
    for path in ["/", "/me", "/listen", "/listen.wav", "/page/app.js"] {
        let answer = suite.client.request(link, "GET", path, &[], b"").unwrap();
        assert_eq!(answer.status, 401, "{path}");
        assert!(!answer.text().unwrap().contains("p01"), "{path} reveals a name");
    }
    let wrong = "Authorization: Bearer 00000000000000000000000000000000";
    assert_eq!(suite.client.request(link, "GET", "/", &[wrong], b"").unwrap().status, 401);
}

#[test]
fn page_obeys_its_content_security_policy() {
    let suite = Suite::start(2).unwrap();
    let _talker = Talker::tone(&suite.client, &suite.links[1], 440.0, -20.0);
    let browser = join(&suite.links[0], "en");
    browser.wait_until("palabreState.uplink === 'open' && palabreState.sent > 50").unwrap();
    browser.wait_until("palabreState.chunks > 50 && palabreState.connection === 'live'").unwrap();
    let messages = browser.console().unwrap();
    assert!(messages.is_empty(), "{messages:?}");
}

/// Waits until the page renders the other participant's tone at −20 dBFS.
fn assert_hears(browser: &Browser, tone_hz: f64) {
    let (from, _) = browser.tapped(Tap::Output).unwrap();
    wait_for("the other participant's tone", TIMEOUT, || {
        let (length, rate_hz) = browser.tapped(Tap::Output).ok()?;
        let tenth = rate_hz as usize / 10;
        let start = length.checked_sub(tenth).filter(|&start| start >= from)?;
        let samples = browser.tap_from(Tap::Output, start).ok()?;
        ((goertzel_dbfs(samples.get(..tenth)?, rate_hz, tone_hz) + 20.0).abs() < 1.0).then_some(())
    })
    .unwrap();
}

#[test]
fn page_reconnects_after_its_listener_is_killed_or_restarted() {
    let suite = Suite::start(2).unwrap();
    let _talker = Talker::tone(&suite.client, &suite.links[1], 440.0, -20.0);
    let browser = Browser::start(Some(&voice()), "en").unwrap();
    browser.tap_sound().unwrap();
    browser.open(&suite.links[0].url).unwrap();
    browser.wait_until("window.palabreState?.screen === 'door'").unwrap();
    browser.click("#join").unwrap();
    browser.wait_until("palabreState.uplink === 'open' && palabreState.sent > 10 && palabreState.chunks > 10").unwrap();
    for is_planned in [false, true] {
        let old = suite.process("palabre-listener", "p01").unwrap();
        let opened = browser.run("return palabreState.opened").unwrap();
        if is_planned {
            suite.palabre(&["restart", "p01"]).unwrap();
        } else {
            suite.kill("palabre-listener", "p01").unwrap();
        }
        let gone = || (!Path::new(&format!("/proc/{old}")).exists()).then_some(());
        wait_for("the end of the old listener", TIMEOUT, gone).unwrap();
        browser
            .wait_until(&format!(
                "palabreState.opened > {opened} && palabreState.connection === 'live' && palabreState.uplink === 'open'"
            ))
            .unwrap();
        let flows = browser.run("return [palabreState.sent, palabreState.chunks]").unwrap();
        let grown = format!("palabreState.sent > {} + 20 && palabreState.chunks > {} + 25", flows[0], flows[1]);
        browser.wait_until(&grown).unwrap();
        assert_hears(&browser, 440.0);
        assert_eq!(browser.run("return palabreState.muted").unwrap(), false);
    }
}

#[test]
fn page_opens_one_new_stream_per_planned_restart() {
    let suite = Suite::start(1).unwrap();
    let browser = join(&suite.links[0], "en");
    browser.wait_until("palabreState.uplink === 'open'").unwrap();
    for restarts in 1..=3 {
        let old = suite.process("palabre-listener", "p01").unwrap();
        suite.palabre(&["restart", "p01"]).unwrap();
        browser.wait_until(&format!("palabreState.renewals >= {restarts} && palabreState.uplink === 'open'")).unwrap();
        let gone = || (!Path::new(&format!("/proc/{old}")).exists()).then_some(());
        wait_for("the end of the old listener", TIMEOUT, gone).unwrap();
    }
    // The page may also reopen a stream that was silent for too long; that counts as a reconnection.
    assert_eq!(browser.run("return palabreState.renewals").unwrap(), 3);
    browser.wait_until("palabreState.opened <= 4 + palabreState.reconnects").unwrap();
}

#[test]
fn stream_is_renewed_by_its_size_without_loss() {
    undisturbed_by(LATE_AFTER, || {
        let suite = Suite::start(2).unwrap();
        let _talker = Talker::tone(&suite.client, &suite.links[1], 440.0, -20.0);
        let browser = Browser::start(Some(&voice()), "en").unwrap();
        browser.open(&format!("{}#renew=100000", suite.links[0].url)).unwrap();
        browser.wait_until("window.palabreState?.screen === 'door'").unwrap();
        browser.click("#join").unwrap();
        browser.wait_until("palabreState.renewals >= 1").unwrap();
        let losses = || browser.run("return [palabreState.lost, palabreState.reconnects]").unwrap();
        let before = losses();
        browser.wait_until("palabreState.renewals >= 6").unwrap();
        assert_eq!(losses(), before);
        assert_eq!(browser.run("return document.querySelectorAll('iframe.wire').length <= 2").unwrap(), true);
    });
}

#[test]
fn browser_without_audio_worklet_can_only_listen_and_says_so() {
    let suite = Suite::start(2).unwrap();
    let _talker = Talker::tone(&suite.client, &suite.links[1], 440.0, -20.0);
    let browser = Browser::start(Some(&voice()), "en").unwrap();
    browser.without_worklets().unwrap();
    browser.open(&suite.links[0].url).unwrap();
    browser.wait_until("window.palabreState?.screen === 'door'").unwrap();
    browser
        .wait_until("document.getElementById('door-hint').textContent.includes('too old for your microphone')")
        .unwrap();
    browser.click("#join").unwrap();
    browser.wait_until("palabreState.playerKind === 'audio' && palabreState.played >= 3").unwrap();
    assert_eq!(
        browser.run("return [palabreState.microphone, palabreState.sent]").unwrap(),
        serde_json::json!(["off", 0])
    );
    // Analyse the sound that the `<audio>` elements play.
    browser
        .run(
            "const context = new AudioContext();
             window.looks = [...document.querySelectorAll('audio')].map((element) => {
               const analyser = new AnalyserNode(context);
               context.createMediaElementSource(element).connect(analyser).connect(context.destination);
               return analyser;
             });",
        )
        .unwrap();
    let loud = "looks.some((look) => { const x = new Float32Array(2048); look.getFloatTimeDomainData(x);
                return Math.abs(Math.max(...x) - 0.1414) < 0.02; })";
    browser.wait_until(loud).unwrap();
    let messages = browser.console().unwrap();
    assert!(messages.is_empty(), "{messages:?}");
}

#[test]
fn mute_survives_reconnection_and_reload() {
    let suite = Suite::start(1).unwrap();
    let browser = join(&suite.links[0], "en");
    browser.click("#mute").unwrap();
    assert_eq!(browser.run("return palabreState.muted").unwrap(), true);
    let count = |name: &str| browser.run(&format!("return palabreState.{name}")).unwrap();
    let opened = count("opened");
    let killed = suite.process("palabre-listener", "p01").unwrap();
    suite.kill("palabre-listener", "p01").unwrap();
    wait_for("a new listener", TIMEOUT, || suite.process("palabre-listener", "p01").filter(|&pid| pid != killed))
        .unwrap();
    browser
        .wait_until(&format!(
            "palabreState.opened > {opened} && palabreState.connection === 'live' && palabreState.uplink === 'open'"
        ))
        .unwrap();
    // Wait for two silence records, one every 2 s.
    let (sent, bytes) = (count("sent"), count("bytes"));
    browser.wait_until(&format!("palabreState.bytes > {bytes}")).unwrap();
    let bytes = count("bytes");
    browser.wait_until(&format!("palabreState.bytes > {bytes}")).unwrap();
    assert_eq!(count("sent"), sent, "a muted page sends nothing");
    assert_eq!(browser.run("return palabreState.muted").unwrap(), true);
    browser.run("location.reload()").unwrap();
    browser.wait_until("window.palabreState?.screen === 'door'").unwrap();
    browser.click("#join").unwrap();
    browser.wait_until("palabreState.microphone === 'on'").unwrap();
    assert_eq!(browser.run("return palabreState.muted").unwrap(), true);
}

#[test]
fn newer_page_takes_the_microphone_and_the_older_page_says_so_and_when_it_is_free() {
    let suite = Suite::start(1).unwrap();
    let older = join(&suite.links[0], "en");
    older.wait_until("palabreState.uplink === 'open'").unwrap();
    let newer = join(&suite.links[0], "en");
    newer.wait_until("palabreState.uplink === 'open'").unwrap();
    older.wait_until("palabreState.uplink === 'taken' && document.querySelector('.notice button')").unwrap();
    older.click(".notice button").unwrap();
    older.wait_until("palabreState.uplink === 'open'").unwrap();
    newer.wait_until("palabreState.uplink === 'taken'").unwrap();
    newer_page_follows_and_offers_the_microphone_again(&older, &newer);
}

/// `other` is a newer page of the same participant, and has taken the microphone from `page`. Checks that `page` shows the hand that `other` raises.
/// After `other` has left, the hand is lowered and the microphone is free. Then `page` raises a hand, and `other` takes the microphone again: the
/// hand is lowered when `page` leaves.
fn newer_page_follows_and_offers_the_microphone_again(other: &Browser, page: &Browser) {
    let notice = |title: &str| format!("document.querySelector('.notice strong').textContent === '{title}'");
    page.wait_until(&notice("Another window uses your microphone")).unwrap();
    other.click("#mute").unwrap();
    other.click("#hand-button").unwrap();
    let row = "document.querySelector('#people [data-name=p01].hand.silenced')";
    page.wait_until(&format!(
        "palabreState.hand && document.querySelector('#hand-button[aria-pressed=true]') && {row}"
    ))
    .unwrap();
    page.click("#hand-button").unwrap();
    other.wait_until("!palabreState.hand && !document.querySelector('#people [data-name=p01].hand')").unwrap();
    other.wait_until(row.replace(".hand", "").as_str()).unwrap();
    other.click("#hand-button").unwrap();
    other.click("#leave").unwrap();
    page.wait_until(&format!("palabreState.uplink === 'free' && {}", notice("You have left the other window")))
        .unwrap();
    page.wait_until("!palabreState.hand && !document.querySelector('#people [data-name=p01].hand')").unwrap();
    page.click("#mute").unwrap();
    page.wait_until("palabreState.uplink === 'open' && !document.querySelector('.notice')").unwrap();
    page.click("#hand-button").unwrap();
    other.click("#join").unwrap();
    other.wait_until("palabreState.uplink === 'open' && palabreState.hand").unwrap();
    page.wait_until("palabreState.uplink === 'taken' && palabreState.hand").unwrap();
    page.click("#leave").unwrap();
    other.wait_until("!palabreState.hand && !document.querySelector('#people [data-name=p01].hand')").unwrap();
}

#[test]
fn page_lists_who_is_connected_and_says_when_nobody_else_is() {
    let suite = Suite::start(2).unwrap();
    let first = join(&suite.links[0], "en");
    first.wait_until("!document.getElementById('alone').hidden").unwrap();
    assert_eq!(first.run("return document.querySelectorAll('.person.away').length").unwrap(), 1);
    write(&first, "before you came");
    first.wait_until("document.querySelector('.message[data-state=sent]')").unwrap();
    let second = join(&suite.links[1], "en");
    second
        .wait_until("[...document.querySelectorAll('.message-from, .message-text')].map((part) => part.textContent).join() === 'Participant 1,before you came'")
        .unwrap();
    first.wait_until("document.getElementById('alone').hidden && !document.querySelector('.person.away')").unwrap();
    second
        .wait_until("document.querySelectorAll('.person').length === 2 && !document.querySelector('.person.away')")
        .unwrap();
    second.click("#leave").unwrap();
    first.wait_until("!document.getElementById('alone').hidden && document.querySelector('.person.away')").unwrap();
    is_muted_by_a_move_to_another_room(&suite, &first);
}

/// Writes a text as the user does. The panel of messages may be closed.
fn write(page: &Browser, text: &str) {
    let script =
        "const line = document.getElementById('message-line'); line.value = '{text}'; line.form.requestSubmit()";
    page.run(&script.replace("{text}", text)).unwrap();
}

/// Moves p02, and then the participant of `page`, to another room. Checks that p02 hears nothing of `page` there until the user of `page` unmutes.
fn is_muted_by_a_move_to_another_room(suite: &Suite, page: &Browser) {
    page.wait_until("!palabreState.muted && palabreState.uplink === 'open'").unwrap();
    suite.palabre(&["move", "p02", "other"]).unwrap();
    let heard = suite.client.record(&suite.links[1]).unwrap();
    // A text that has not been sent before the move is not sent to the other room.
    signal(suite.process("palabre-listener", "p01").unwrap(), "STOP").unwrap();
    write(page, "for the first room");
    page.wait_until("document.querySelector('.message:last-child[data-state=sending]')").unwrap();
    suite.palabre(&["move", "p01", "other"]).unwrap();
    page.wait_until("document.querySelector('.message:last-child[data-state=failed] button')").unwrap();
    page.wait_until("document.querySelector('#message-trouble[role=status]').textContent === 'Not sent.'").unwrap();
    let notice = "document.querySelector('.notice strong')?.textContent === 'You are now in the room “other”'";
    page.wait_until(&format!("{notice} && palabreState.muted && palabreState.uplink === 'open'")).unwrap();
    let (from, second) = (heard.len(), heard.rate_hz as usize);
    wait_for("a second of sound", TIMEOUT, || (heard.len() > from + second).then_some(())).unwrap();
    assert!(heard.from(0).iter().all(|&sample| sample == 0), "the page was heard before its user unmuted");
    page.click(".notice button").unwrap();
    wait_for("the page's voice", TIMEOUT, || heard.from(from).iter().any(|&sample| sample != 0).then_some(())).unwrap();
}

#[test]
fn page_uses_the_browser_s_language_until_another_is_chosen() {
    let suite = Suite::start(1).unwrap();
    let words = |browser: &Browser| {
        browser.wait_until("window.palabreState?.screen === 'door'").unwrap();
        browser.run("return [document.documentElement.lang, document.getElementById('join').textContent]").unwrap()
    };
    let english = open(&suite.links[0], "en");
    assert_eq!(words(&english), serde_json::json!(["en", "Join"]));
    let french = open(&suite.links[0], "fr");
    assert_eq!(words(&french), serde_json::json!(["fr", "Rejoindre"]));
    french.click("#language").unwrap();
    assert_eq!(words(&french), serde_json::json!(["en", "Join"]));
    french.run("window.isOld = true; location.reload()").unwrap();
    french.wait_until("!window.isOld && window.palabreState").unwrap();
    assert_eq!(words(&french), serde_json::json!(["en", "Join"]));
    french.click("#language").unwrap();
    assert_eq!(words(&french), serde_json::json!(["fr", "Rejoindre"]));
}

#[test]
fn page_shows_while_the_room_is_recorded_and_while_the_mixer_is_stopped() {
    let suite = Suite::start(1).unwrap();
    let browser = open(&suite.links[0], "fr");
    let before_joining = "document.getElementById('door-recorded').textContent";
    browser.wait_until(&format!("palabreState.screen === 'door' && {before_joining} === ''")).unwrap();
    suite.palabre(&["record", "start"]).unwrap();
    // Before joining, the page asks the listener whether the room is being recorded: when the page becomes visible, and every 10 s while it is visible.
    browser.run("document.dispatchEvent(new Event('visibilitychange'))").unwrap();
    browser.wait_until(&format!("{before_joining}.startsWith('Ce salon est enregistré.')")).unwrap();
    browser.click("#join").unwrap();
    let sign = "document.getElementById('recorded').textContent";
    browser.wait_until(&format!("{sign}.includes('enregistré')")).unwrap();
    browser.click("#language").unwrap();
    browser.wait_until(&format!("{sign}.includes('recorded')")).unwrap();
    let height = browser.run("return document.getElementById('recorded').getBoundingClientRect().height > 8").unwrap();
    assert_eq!(height, true, "it must be visible");
    suite.palabre(&["record", "stop"]).unwrap();
    browser.wait_until(&format!("{sign} === ''")).unwrap();
    let mixer = suite.process("palabre-mixer", "").unwrap();
    let connection = "document.getElementById('connection').textContent";
    for (sent, says) in [("STOP", "No sound right now"), ("CONT", "Connected")] {
        signal(mixer, sent).unwrap();
        browser.wait_until(&format!("{connection}.startsWith('{says}')")).unwrap();
    }
}

#[test]
fn newest_of_seven_tabs_is_in_the_room_and_each_other_tab_says_why_it_left() {
    let suite = Suite::start(1).unwrap();
    let browser = Browser::start(Some(&voice()), "en").unwrap();
    let is_in = "palabreState.connection === 'live' && palabreState.uplink === 'open'";
    let has_left = "palabreState.screen === 'otherTab' && !document.querySelector('iframe')
                    && document.getElementById('door-title').textContent === 'You have joined in another tab'";
    for tab in 0..7 {
        if tab > 0 {
            browser.new_tab().unwrap();
        }
        browser.open(&suite.links[0].url).unwrap();
        browser.wait_until("window.palabreState?.screen === 'door'").unwrap();
        browser.click("#join").unwrap();
        browser.wait_until(is_in).unwrap();
    }
    browser.click("#hand-button").unwrap();
    browser.wait_until("document.querySelector('#people [data-name=\"p01\"].hand')").unwrap();
    let streams = || suite.palabre(&["status"]).unwrap().contains("streams=1 ").then_some(());
    wait_for("the only stream", TIMEOUT, streams).unwrap();
    browser.show_tab(0).unwrap();
    browser.wait_until(has_left).unwrap();
    browser.click("#join").unwrap();
    browser.wait_until(is_in).unwrap();
    browser.show_tab(6).unwrap();
    browser.wait_until(has_left).unwrap();
}
