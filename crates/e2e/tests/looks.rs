//! Accessibility of the page in a real Chromium: axe-core finds no violation of WCAG 2.1 AA, on a phone and on a desktop, light and dark, in
//! every language; keyboard and settings work. Stores screenshots in `target/looks`.
#![allow(clippy::unwrap_used, missing_docs)]

mod language;
mod states;

use std::fs;
use std::ops::RangeInclusive;
use std::path::Path;

use language::{
    counts_characters, counts_people, tells_state_and_time_in_its_language, tells_state_and_time_in_its_region,
};
use palabre_e2e::browser::{Browser, Tap};
use palabre_e2e::keyboard;
use palabre_e2e::screens::{check, check_without_scrolling};
use palabre_e2e::suite::{Link, Suite};
use serde_json::json;

fn package() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn open(link: &Link, language: &str) -> Browser {
    let voice = package().join("speech/english-man-16000Hz-mono.wav");
    let browser = Browser::start_without_motion(Some(&voice), language).unwrap();
    open_page(&browser, &link.url);
    browser
}

fn open_page(browser: &Browser, url: &str) {
    browser.open(url).unwrap();
    browser.wait_until("window.palabreState?.screen === 'door'").unwrap();
}

fn join(browser: &Browser) {
    browser.click("#join").unwrap();
    browser.wait_until("palabreState.connection === 'live' && palabreState.microphone === 'on'").unwrap();
}

/// Checks that each control has an accessible name, and that these names occur in this order.
fn assert_names(browser: &Browser, some: &[&str]) {
    const OPERATED: [&str; 7] = ["button", "slider", "textbox", "searchbox", "combobox", "checkbox", "radio"];
    let tree = browser.devtools("Accessibility.getFullAXTree", json!({})).unwrap();
    let nodes = tree["nodes"].as_array().unwrap().iter().filter(|node| node["ignored"] == false);
    let operated = nodes.filter(|node| OPERATED.iter().any(|role| node["role"]["value"] == *role));
    let names: Vec<&str> = operated.map(|node| node["name"]["value"].as_str().unwrap_or_default()).collect();
    assert!(names.iter().all(|name| !name.trim().is_empty()), "a control has no name: {names:?}");
    let mut rest = names.iter();
    for wanted in some {
        assert!(rest.any(|name| name.starts_with(wanted)), "no {wanted:?}, or not in order, in {names:?}");
    }
}

/// Checks the page of an invitation link, which has no script, and the page without microphone permission.
fn check_invitation(suite: &Suite) {
    let printed = suite.palabre(&["invite", "max", "--display-name", NAMES[0], "--once"]).unwrap();
    // Make the guest join muted: the reason for that must fit on the screen together with the long name.
    let file = suite.dir().join("etc/participants.d/max.toml");
    fs::write(&file, format!("join-muted = true\n{}", fs::read_to_string(&file).unwrap())).unwrap();
    suite.palabre(&["reload"]).unwrap();
    let browser = Browser::start_without_motion(None, "fr").unwrap();
    let (without_key, _) = printed.trim().split_once('?').unwrap();
    let paste = |link: &str| {
        browser.type_into("#link", link).unwrap();
        browser.click("form[action=paste] button").unwrap();
    };
    browser.open(without_key).unwrap();
    check(&browser, "no-access").unwrap();
    paste(&printed.trim().replace("localhost", "elsewhere.example"));
    browser.wait_until("document.querySelector('[role=alert]')").unwrap();
    check(&browser, "other-link").unwrap();
    // The link of another participant, which has another port.
    paste(&suite.links[1].url);
    browser.wait_until("window.palabreState?.screen === 'door' && location.search === ''").unwrap();
    browser.open(without_key).unwrap();
    paste(printed.trim());
    browser.wait_until("document.querySelector('form[action=enter] button')").unwrap();
    check(&browser, "once").unwrap();
    browser.click("form button").unwrap();
    browser.wait_until("window.palabreState?.screen === 'door' && location.search === ''").unwrap();
    browser.open(printed.trim()).unwrap();
    browser.wait_until("window.palabreState?.screen === 'door' && location.search === ''").unwrap();
    browser.wait_until("document.getElementById('door-warning').checkVisibility()").unwrap();
    check_without_scrolling(&browser, "long-name").unwrap();
    let denied = json!({ "permission": { "name": "microphone" }, "setting": "denied" });
    browser.devtools("Browser.setPermission", denied).unwrap();
    browser.click("#join").unwrap();
    browser.wait_until("palabreState.connection === 'live' && document.querySelector('.notice')").unwrap();
    check(&browser, "refused").unwrap();
}

#[test]
fn all_screens_are_accessible_in_every_size_colour_scheme_and_language() {
    let suite = Suite::start_configured(2, "[room]\nlevelling = false\nown-display-names = true\n").unwrap();
    let browser = open(&suite.links[0], "en-GB");
    check_without_scrolling(&browser, "door").unwrap();
    assert_names(&browser, &["Join", "Test sound and microphone"]);
    browser.click("#test-open").unwrap();
    browser.wait_until("document.getElementById('advice').dataset.good === 'true'").unwrap();
    check(&browser, "sound-test").unwrap();
    browser.click("#settings-close").unwrap();
    join(&browser);
    let other = open(&suite.links[1], "fr");
    join(&other);
    other.click("#hand-button").unwrap();
    browser.wait_until("document.querySelector('.person.hand')").unwrap();
    check_without_scrolling(&browser, "room").unwrap();
    let room = ["Microphone on", "Raise hand", "Messages", "Settings", "Leave", "Mute Participant 2 for me"];
    assert_names(&browser, &room);
    browser.click("#people .more").unwrap();
    browser
        .run("const v = document.getElementById('person-volume'); v.value = 150; v.dispatchEvent(new Event('input'))")
        .unwrap();
    browser.wait_until("document.getElementById('person-percent').textContent === '150%'").unwrap();
    assert_names(&browser, &["Close", "Mute Participant 2 for me", "Volume for me"]);
    check(&browser, "person").unwrap();
    browser.click("#person-close").unwrap();
    browser.wait_until("document.querySelector('#people .more').textContent === '150%'").unwrap();
    other.click("#messages-toggle").unwrap();
    other.type_into("#message-line", "Le son est bon ?").unwrap();
    other.click("#write button").unwrap();
    other.wait_until("document.querySelector('.message')").unwrap();
    // The panel of messages is closed in this page.
    browser
        .wait_until("document.querySelector('[role=log]').textContent === 'Participant 2: Le son est bon ?'")
        .unwrap();
    check(&other, "texts").unwrap();
    tells_state_and_time_in_its_language(&other);
    counts_characters(&other);
    tells_state_and_time_in_its_region(&browser);
    browser.click("#settings-open").unwrap();
    browser.click("#details summary").unwrap();
    browser.wait_until("document.querySelectorAll('#figures dd').length > 5").unwrap();
    let denied = json!({ "permission": { "name": "notifications" }, "setting": "denied" });
    browser.devtools("Browser.setPermission", denied).unwrap();
    browser.click("#alert-texts").unwrap();
    browser.wait_until("document.getElementById('alerts-blocked').textContent !== ''").unwrap();
    check(&browser, "settings").unwrap();
    browser.click("#alert-texts").unwrap();
    browser.click("input[name=mode][value=talk]").unwrap();
    browser.click("#settings-close").unwrap();
    browser.wait_until("!document.getElementById('hold').hidden").unwrap();
    check(&browser, "hold").unwrap();
    check_invitation(&suite);
    check_lost_and_left(&suite, &browser);
}

/// Checks three screens: no listener runs, the participant has left, and the link has been replaced by a new one.
fn check_lost_and_left(suite: &Suite, browser: &Browser) {
    suite.palabre(&["stop", "p01"]).unwrap();
    browser.wait_until("palabreState.connection === 'lost'").unwrap();
    check(browser, "lost").unwrap();
    browser.click("#leave").unwrap();
    browser.wait_until("palabreState.screen === 'left'").unwrap();
    check(browser, "left").unwrap();
    suite.palabre(&["start", "p01"]).unwrap();
    browser.click("#join").unwrap();
    browser.wait_until("palabreState.connection === 'live'").unwrap();
    browser.click("#settings-open").unwrap();
    suite.palabre(&["invite", "p01", "--new-key"]).unwrap();
    browser.wait_until("palabreState.screen === 'unknown' && !document.querySelector('dialog[open]')").unwrap();
    has_focus(browser, "#door-title");
    check(browser, "unknown").unwrap();
}

/// Waits until the element of a CSS selector has the keyboard focus.
fn has_focus(browser: &Browser, selector: &str) {
    browser.wait_until(&format!("document.activeElement.matches('{selector}')")).unwrap();
}

/// Returns a JavaScript expression that is true if the live region has this text.
fn announced(words: &str) -> String {
    format!("document.getElementById('spoken').textContent === '{words}'")
}

#[test]
fn screens_of_participants_that_are_not_heard_are_accessible_and_announced() {
    let suite = Suite::start(1).unwrap();
    let guest = suite.palabre(&["invite", "guest", "--listen-only"]).unwrap();
    let listener = Browser::start_without_motion(None, "en").unwrap();
    open_page(&listener, guest.trim());
    check_without_scrolling(&listener, "listener-door").unwrap();
    listener.click("#join").unwrap();
    listener.wait_until("palabreState.connection === 'live'").unwrap();
    has_focus(&listener, "#hand-button");
    check_without_scrolling(&listener, "listener-room").unwrap();

    let browser = open(&suite.links[0], "en");
    join(&browser);
    browser.wait_until("document.getElementById('mute').dataset.state === 'on'").unwrap();
    suite.palabre(&["mute", "p01"]).unwrap();
    suite.palabre(&["record", "start"]).unwrap();
    let recorded = "Connected · REC · this room is being recorded";
    browser.wait_until(&announced(&format!("{recorded} · Muted by the host"))).unwrap();
    check(&browser, "muted-by-the-host").unwrap();
    suite.palabre(&["unmute", "p01"]).unwrap();
    browser.wait_until(&announced(&format!("{recorded} · Microphone on"))).unwrap();
    let newer = open(&suite.links[0], "en");
    join(&newer);
    browser.wait_until(&announced(&format!("{recorded} · You can’t be heard from here"))).unwrap();
    check(&browser, "taken").unwrap();
    browser.click(".notice.urgent button").unwrap();
    has_focus(&browser, "#mute");
    browser.click("#settings-open").unwrap();
    browser.wait_until(&announced(&format!("{recorded} · Microphone on"))).unwrap();
    let in_dialog = "document.querySelector('dialog[open] .spoken').textContent.endsWith('Microphone on')";
    browser.wait_until(in_dialog).unwrap();
    browser.click("#settings-close").unwrap();

    newer.devtools("Network.enable", json!({})).unwrap();
    newer
        .devtools(
            "Network.setBlockedURLs",
            json!({ "urls": [format!("https://localhost:{}/me", suite.links[0].port)] }),
        )
        .unwrap();
    newer.run("location.reload()").unwrap();
    newer.wait_until("window.palabreState?.screen === 'away'").unwrap();
    check(&newer, "away").unwrap();
    listener.without_worklets().unwrap();
    open_page(&listener, &suite.links[0].url);
    check(&listener, "without-worklets").unwrap();
}

/// Replaces the file `names`, after the supervisor has written it for the last time.
fn set_names(suite: &Suite, lines: &str) {
    let file = suite.room().join("names");
    palabre_e2e::wait_for("the supervisor to write 'names'", palabre_e2e::suite::TIMEOUT, || {
        fs::read_to_string(&file).ok().filter(|text| text.starts_with("p01\there muted\t"))
    })
    .unwrap();
    // The listener reads the copy in `.shown` when the file `names` of the room has changed, so replace the copy first.
    for file in [suite.room().join(".shown/names"), file] {
        fs::write(file.with_extension("test"), format!("p01\there muted\tParticipant 1\n{lines}")).unwrap();
        fs::rename(file.with_extension("test"), &file).unwrap();
    }
}

/// Returns lines of the file `names`.
fn villagers(numbers: RangeInclusive<usize>, state: impl Fn(usize) -> &'static str) -> String {
    numbers.map(|n| format!("p{n:02}\t{}\tPersonne {n} du Village\n", state(n))).collect()
}

/// Names that need much space, or have no letters.
const NAMES: [&str; 8] = [
    "Maximilienne-Alexandrine de la Rochefoucauld-Montmorency-Laval-X",
    "Jean-Christophe Bartholomé",
    "🎉🎊",
    "محمد علي",
    "Donaudampfschifffahrtsgesellschaftskapitän",
    "Anne-Sophie",
    "Q",
    "Ng 阮",
];

#[test]
fn rooms_with_few_and_many_and_long_names_are_accessible() {
    let suite = Suite::start(1).unwrap();
    let browser = open(&suite.links[0], "fr");
    join(&browser);
    browser.click("#mute").unwrap();
    let state = |n: usize| ["here", "here hand", "here muted", "here listening", "away", "here weak"][n % 6];
    set_names(&suite, &villagers(2..=40, state));
    browser.wait_until("document.querySelectorAll('#people > .person').length > 30").unwrap();
    browser.wait_until("document.querySelector('#people .weak .mark').textContent === 'connexion faible'").unwrap();
    counts_people(&browser, ["33 personnes présentes", "7 absents"], ["33 people here", "7 away"]);
    check(&browser, "crowd").unwrap();
    browser.type_into("#search", "qqq").unwrap();
    browser
        .wait_until("document.getElementById('no-hit').textContent === 'Aucun nom ne contient «\u{a0}qqq\u{a0}».'")
        .unwrap();
    browser
        .run("const s = document.getElementById('search'); s.value = ''; s.dispatchEvent(new Event('input'));")
        .unwrap();
    browser.wait_until("document.getElementById('no-hit').textContent === ''").unwrap();

    let row = |name: &str| format!("[data-name={name}] button");
    browser.run(&format!("document.querySelector('{}').focus()", row("p20"))).unwrap();
    browser.wait_until("document.activeElement.closest('.person')").unwrap();
    // A raised hand moves p20's row in the list, and the focus moves with the row.
    let raised = |n: usize| match n {
        19 => "here hand 2",
        20 => "here hand",
        _ => "here",
    };
    set_names(&suite, &villagers(2..=40, raised));
    browser.wait_until("document.querySelector('#people > :nth-child(2)').dataset.name === 'p20'").unwrap();
    browser
        .wait_until("document.querySelector('#people > :nth-child(3) .mark').textContent === 'main levée, n°\u{a0}2'")
        .unwrap();
    has_focus(&browser, &row("p20"));
    set_names(&suite, &villagers(2..=19, raised));
    browser.wait_until("!document.querySelector('[data-name=p20]')").unwrap();
    has_focus(&browser, ".person button");

    let people =
        (2..).zip(NAMES).map(|(n, name)| format!("p{n:02}\t{}\t{name}\n", ["here hand muted", "here weak"][n % 2]));
    set_names(&suite, &format!("{}p10\taway\tX\n", people.collect::<String>()));
    browser.wait_until("document.querySelectorAll('#people > .person').length === 9").unwrap();
    counts_people(&browser, ["", "1 absent"], ["", "1 away"]);
    check(&browser, "names").unwrap();

    // Participants who are away don't count when the page chooses between circle and list.
    set_names(&suite, &villagers(2..=30, |_| "away"));
    browser.wait_until("document.querySelectorAll('#people > .person').length === 1").unwrap();
    let shown = "return [document.getElementById('people').dataset.crowd, document.getElementById('stage').hidden, \
                 document.querySelectorAll('[data-name=p01]').length, document.getElementById('alone').hidden]";
    assert_eq!(browser.run(shown).unwrap(), json!(["few", true, 1, false]));
    browser.click("#away summary").unwrap();
    browser.wait_until("document.querySelectorAll('#away .person').length === 29").unwrap();
    check(&browser, "alone").unwrap();
}

#[test]
fn page_is_usable_by_keyboard_alone() {
    let suite = Suite::start_configured(3, "[room]\nown-display-names = true\n").unwrap();
    let browser = open(&suite.links[0], "en");
    keyboard::try_the_line(&browser).unwrap();
    keyboard::visit(&browser).unwrap();
}

#[test]
fn keys_talk_mute_and_raise_a_hand_also_on_clicked_buttons_but_not_in_fields_or_when_turned_off() {
    let suite = Suite::start(1).unwrap();
    let browser = open(&suite.links[0], "en");
    keyboard::push_to_talk(&browser).unwrap();
    let press = |key: &str| {
        for kind in ["rawKeyDown", "keyUp"] {
            browser.devtools("Input.dispatchKeyEvent", json!({ "type": kind, "key": key })).unwrap();
        }
    };
    browser.run("document.activeElement.blur()").unwrap();
    press("h");
    browser.wait_until("palabreState.hand").unwrap();
    press("m");
    browser
        .wait_until("palabreState.muted && document.querySelector('link[rel=icon]').href.endsWith('icon-muted.svg')")
        .unwrap();
    browser.click("#messages-toggle").unwrap();
    browser.type_into("#message-line", "hm").unwrap();
    browser.wait_until("document.getElementById('message-line').value === 'hm'").unwrap();
    assert_eq!(browser.run("return palabreState.hand && palabreState.muted").unwrap(), true);
    browser.click("#messages-close").unwrap();
    browser.click("#settings-open").unwrap();
    browser.click("#switch-keys").unwrap();
    browser.click("#settings-close").unwrap();
    browser.run("document.activeElement.blur()").unwrap();
    press("h");
    // The page has handled the key before this script runs.
    assert_eq!(browser.run("return palabreState.hand").unwrap(), true);
}

/// Checks that no chunk is sent during a second of the microphone. Waits a second before, in which earlier chunks may still be sent.
fn assert_nothing_is_sent(browser: &Browser) {
    assert_eq!(sent_after_a_second(browser), sent_after_a_second(browser));
}

/// Waits for a second of the microphone, and returns the number of chunks sent so far.
fn sent_after_a_second(browser: &Browser) -> serde_json::Value {
    let (from, rate_hz) = browser.tapped(Tap::Microphone).unwrap();
    browser.wait_tapped(Tap::Microphone, from + rate_hz as usize).unwrap();
    browser.run("return palabreState.sent").unwrap()
}

/// Creates a WAV for the microphone: a second of tone and four of silence.
fn word_and_pause() -> tempfile::NamedTempFile {
    const RATE_HZ: u32 = 48_000;
    let mut samples = palabre_sound::measure::tone(RATE_HZ, 300.0, -15.0, RATE_HZ as usize);
    samples.resize(5 * RATE_HZ as usize, 0);
    let file = tempfile::Builder::new().suffix(".wav").tempfile().unwrap();
    std::fs::write(file.path(), palabre_sound::wav::little(RATE_HZ, &samples)).unwrap();
    file
}

/// Joins with `voice` as microphone, and selects a mode of speaking.
fn join_with_mode(mode: &str, voice: &Path, link: &Link) -> Browser {
    let browser = Browser::start_without_motion(Some(voice), "en").unwrap();
    browser.tap_sound().unwrap();
    open_page(&browser, &link.url);
    join(&browser);
    browser.click("#settings-open").unwrap();
    browser.click(&format!("input[name=mode][value={mode}]")).unwrap();
    browser.click("#settings-close").unwrap();
    browser.wait_until(&format!("palabreState.mode === '{mode}'")).unwrap();
    browser
}

#[test]
fn voice_activation_sends_words_and_no_pauses() {
    let suite = Suite::start(1).unwrap();
    let voice = word_and_pause();
    let browser = join_with_mode("voice", voice.path(), &suite.links[0]);
    for _ in 0..2 {
        let sent = browser.run("return palabreState.sent").unwrap();
        browser.wait_until(&format!("palabreState.sent > {sent} + 10")).unwrap();
        palabre_e2e::wait_for("a pause", palabre_e2e::suite::TIMEOUT, || {
            (sent_after_a_second(&browser) == sent_after_a_second(&browser)).then_some(())
        })
        .unwrap();
    }
}

#[test]
fn push_to_talk_sends_only_while_held_and_status_shows_the_page_s_counters() {
    let suite = Suite::start(1).unwrap();
    let voice = package().join("speech/english-man-16000Hz-mono.wav");
    let browser = join_with_mode("talk", &voice, &suite.links[0]);
    browser.wait_until("document.getElementById('mute').dataset.state === 'ready'").unwrap();
    browser.run("document.activeElement.blur()").unwrap();
    assert_nothing_is_sent(&browser);
    let sent = browser.run("return palabreState.sent").unwrap();
    browser.devtools("Input.dispatchKeyEvent", json!({ "type": "rawKeyDown", "key": " " })).unwrap();
    browser.wait_until(&format!("palabreState.held && palabreState.sent > {sent} + 10")).unwrap();
    browser.devtools("Input.dispatchKeyEvent", json!({ "type": "keyUp", "key": " " })).unwrap();
    browser.wait_until("!palabreState.held").unwrap();
    assert_nothing_is_sent(&browser);
    palabre_e2e::wait_for("the page's counters", palabre_e2e::suite::TIMEOUT, || {
        let status: serde_json::Value = serde_json::from_str(&suite.palabre(&["status", "--json"]).ok()?).ok()?;
        let page = &status["participants"][0];
        let told = ["delay_ms", "underruns"].iter().all(|name| page[name].is_u64());
        let counters = &page["counters"];
        (told && counters["codec"].is_string() && counters["browser"].is_string()).then_some(())
    })
    .unwrap();
}
