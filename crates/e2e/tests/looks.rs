//! Accessibility of the page in a real Chromium: axe-core finds no violation of WCAG 2.1 AA, on a phone and on a desktop, light and dark, in
//! every language; keyboard and settings work. Stores screenshots in `target/looks`.
#![allow(clippy::unwrap_used, missing_docs)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use palabre_e2e::browser::{Browser, Tap};
use palabre_e2e::keyboard;
use palabre_e2e::suite::{Link, Suite};
use serde_json::{Value, json};

const PHONE: (u32, u32) = (390, 844);
const DESK: (u32, u32) = (1280, 800);

fn package() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn target() -> PathBuf {
    std::env::current_exe().unwrap().ancestors().nth(3).unwrap().to_owned()
}

/// Returns the source of axe-core. npm fetches it once and checks it against the lock file.
fn axe() -> &'static str {
    static AXE: OnceLock<String> = OnceLock::new();
    AXE.get_or_init(|| {
        let dir = target().join("axe");
        let script = dir.join("node_modules/axe-core/axe.min.js");
        fs::create_dir_all(&dir).unwrap();
        let is_new = |name: &str| fs::read(package().join("axe").join(name)).ok() != fs::read(dir.join(name)).ok();
        if is_new("package-lock.json") || !script.exists() {
            for name in ["package.json", "package-lock.json"] {
                fs::copy(package().join("axe").join(name), dir.join(name)).unwrap();
            }
            let fetch = ["ci", "--ignore-scripts", "--no-audit", "--no-fund"];
            let fetched = Command::new("npm").args(fetch).current_dir(&dir).status().unwrap();
            assert!(fetched.success(), "npm is unable to fetch axe-core");
        }
        fs::read_to_string(script).unwrap()
    })
}

fn open(link: &Link, language: &str) -> Browser {
    let voice = package().join("speech/english-man-16000Hz-mono.wav");
    let browser = Browser::start(Some(&voice), language).unwrap();
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

fn set_display(browser: &Browser, (width, height): (u32, u32), scheme: &str) {
    let size = json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600 });
    browser.devtools("Emulation.setDeviceMetricsOverride", size).unwrap();
    let features = json!([
        { "name": "prefers-color-scheme", "value": scheme },
        { "name": "prefers-reduced-motion", "value": "reduce" },
    ]);
    browser.devtools("Emulation.setEmulatedMedia", json!({ "features": features })).unwrap();
    browser
        .wait_until(&format!("innerWidth === {width} && matchMedia('(prefers-color-scheme: {scheme})').matches"))
        .unwrap();
}

/// Checks a screen in both sizes and colour schemes, and on the phone in the other language too, if the screen has a button for that.
fn check(browser: &Browser, name: &str) {
    browser.run(axe()).unwrap();
    for (size_name, size) in [("desk", DESK), ("phone", PHONE)] {
        for scheme in ["dark", "light"] {
            set_display(browser, size, scheme);
            let name = format!("{name}-{size_name}-{scheme}");
            let dir = target().join("looks");
            fs::create_dir_all(&dir).unwrap();
            browser.screenshot(&dir.join(format!("{name}.png"))).unwrap();
            assert_accessible(browser, &name);
        }
    }
    assert_touch_targets(browser, name);
    let toggle = "return Boolean(document.getElementById('language')?.click() ?? document.getElementById('language'))";
    if browser.run(toggle).unwrap() == true {
        assert_accessible(browser, &format!("{name} in the other language"));
        assert_touch_targets(browser, &format!("{name} in the other language"));
        browser.run(toggle).unwrap();
    }
}

/// Checks a screen that must fit without scrolling.
fn check_without_scrolling(browser: &Browser, name: &str) {
    check(browser, name);
    for size in [DESK, PHONE] {
        set_display(browser, size, "light");
        let fits = "return document.documentElement.scrollHeight <= innerHeight";
        assert_eq!(browser.run(fits).unwrap(), true, "{name} is higher than {size:?}");
    }
}

/// Checks that axe-core finds no violation and that the page isn't wider than the window.
fn assert_accessible(browser: &Browser, name: &str) {
    assert_eq!(violations(browser), Vec::<String>::new(), "{name}");
    let fits = "document.documentElement.scrollWidth <= innerWidth && document.body.scrollWidth <= innerWidth";
    assert_eq!(browser.run(&format!("return {fits}")).unwrap(), true, "{name} is too wide");
}

fn violations(browser: &Browser) -> Vec<String> {
    let run = "window.axeSays = null; axe.run(document, { iframes: false, runOnly: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa', 'best-practice'] }) \
               .then((r) => { window.axeSays = r.violations.map((v) => v.id + ': ' + v.nodes.map((n) => n.html.slice(0, 160) + ' ' \
               + n.failureSummary).join(' | ')); }, (e) => { window.axeSays = [String(e)]; })";
    browser.run(run).unwrap();
    browser.wait_until("window.axeSays").unwrap();
    let says = browser.run("return window.axeSays").unwrap();
    says.as_array().into_iter().flatten().filter_map(Value::as_str).map(ToOwned::to_owned).collect()
}

/// Checks that each control, including its label, is at least 44 CSS pixels wide and high.
fn assert_touch_targets(browser: &Browser, name: &str) {
    let small = browser.run(
        "return [...document.querySelectorAll('button, input, select, summary, a')]
           .map((control) => control.closest('label') ?? control)
           .filter((control) => control.checkVisibility({ visibilityProperty: true }))
           .map((control) => [control, control.getBoundingClientRect()])
           .filter(([, { width, height }]) => width < 44 || height < 44)
           .map(([control, { width, height }]) => `${control.outerHTML.slice(0, 80)}: ${width} × ${height}`)",
    );
    assert_eq!(small.unwrap(), json!([]), "{name}");
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
fn check_invitation(suite: &Suite, link: &Link) {
    let printed = suite.palabre(&["invite", &link.name, "--new-key", "--once"]).unwrap();
    let browser = Browser::start(None, "fr").unwrap();
    browser.open(printed.trim()).unwrap();
    browser.wait_until("document.querySelector('form button')").unwrap();
    check(&browser, "once");
    browser.click("form button").unwrap();
    browser.wait_until("window.palabreState?.screen === 'door' && location.search === ''").unwrap();
    browser.open(printed.trim()).unwrap();
    browser.wait_until("window.palabreState?.screen === 'door' && location.search === ''").unwrap();
    let denied = json!({ "permission": { "name": "microphone" }, "setting": "denied" });
    browser.devtools("Browser.setPermission", denied).unwrap();
    browser.click("#join").unwrap();
    browser.wait_until("palabreState.connection === 'live' && document.querySelector('.notice')").unwrap();
    check(&browser, "refused");
}

#[test]
fn all_screens_are_accessible_in_every_size_colour_scheme_and_language() {
    let suite = Suite::start(3).unwrap();
    let browser = open(&suite.links[0], "en");
    check_without_scrolling(&browser, "door");
    assert_names(&browser, &["Join", "Test sound and microphone"]);
    browser.click("#test-open").unwrap();
    browser.wait_until("document.getElementById('advice').dataset.good === 'true'").unwrap();
    check(&browser, "sound-test");
    browser.click("#settings-close").unwrap();
    join(&browser);
    let other = open(&suite.links[1], "fr");
    join(&other);
    other.click("#hand-button").unwrap();
    browser.wait_until("document.querySelector('.person.hand')").unwrap();
    check_without_scrolling(&browser, "room");
    let room = ["Microphone on", "Raise hand", "Messages", "Settings", "Leave", "Mute Participant 2 for me"];
    assert_names(&browser, &room);
    other.click("#messages-toggle").unwrap();
    other.type_into("#message-line", "Le son est bon ?").unwrap();
    other.click("#write button").unwrap();
    other.wait_until("document.querySelector('.message')").unwrap();
    check(&other, "texts");
    browser.click("#settings-open").unwrap();
    browser.click("#details summary").unwrap();
    browser.wait_until("document.querySelectorAll('#figures dd').length > 5").unwrap();
    check(&browser, "settings");
    browser.click("input[name=mode][value=talk]").unwrap();
    browser.click("#settings-close").unwrap();
    browser.wait_until("!document.getElementById('hold').hidden").unwrap();
    check(&browser, "hold");
    check_invitation(&suite, &suite.links[2]);
    check_lost_and_left(&suite, &browser);
}

/// Checks the screens without a listener, after leaving, and with a revoked link.
fn check_lost_and_left(suite: &Suite, browser: &Browser) {
    suite.palabre(&["stop", "p01"]).unwrap();
    browser.wait_until("palabreState.connection === 'lost'").unwrap();
    check(browser, "lost");
    browser.click("#leave").unwrap();
    browser.wait_until("palabreState.screen === 'left'").unwrap();
    check(browser, "left");
    suite.palabre(&["start", "p01"]).unwrap();
    browser.click("#join").unwrap();
    browser.wait_until("palabreState.connection === 'live'").unwrap();
    suite.palabre(&["invite", "p01", "--new-key"]).unwrap();
    browser.wait_until("palabreState.screen === 'unknown'").unwrap();
    check(browser, "unknown");
}

/// Returns a JavaScript expression that is true if the live region has this text.
fn announced(words: &str) -> String {
    format!("document.getElementById('spoken').textContent === '{words}'")
}

#[test]
fn screens_of_participants_that_are_not_heard_are_accessible_and_announced() {
    let suite = Suite::start(1).unwrap();
    let guest = suite.palabre(&["invite", "guest", "--listen-only"]).unwrap();
    let listener = Browser::start(None, "en").unwrap();
    open_page(&listener, guest.trim());
    check_without_scrolling(&listener, "listener-door");
    listener.click("#join").unwrap();
    listener.wait_until("palabreState.connection === 'live'").unwrap();
    check_without_scrolling(&listener, "listener-room");

    let browser = open(&suite.links[0], "en");
    join(&browser);
    browser.wait_until("document.getElementById('mute').dataset.state === 'on'").unwrap();
    suite.palabre(&["mute", "p01"]).unwrap();
    suite.palabre(&["record", "start"]).unwrap();
    let recorded = "Connected · REC · this room is being recorded";
    browser.wait_until(&announced(&format!("{recorded} · Muted by the host"))).unwrap();
    check(&browser, "muted-by-the-host");
    suite.palabre(&["unmute", "p01"]).unwrap();
    browser.wait_until(&announced(&format!("{recorded} · Microphone on"))).unwrap();
    let newer = open(&suite.links[0], "en");
    join(&newer);
    browser.wait_until(&announced(&format!("{recorded} · You can’t be heard from here"))).unwrap();
    check(&browser, "taken");
    browser.click(".notice.urgent button").unwrap();
    browser.wait_until(&announced(&format!("{recorded} · Microphone on"))).unwrap();

    newer.devtools("Network.enable", json!({})).unwrap();
    newer
        .devtools(
            "Network.setBlockedURLs",
            json!({ "urls": [format!("https://localhost:{}/me", suite.links[0].port)] }),
        )
        .unwrap();
    newer.run("location.reload()").unwrap();
    newer.wait_until("window.palabreState?.screen === 'away'").unwrap();
    check(&newer, "away");
    check_without_worklets(&suite.links[0]);
}

fn check_without_worklets(link: &Link) {
    let browser = Browser::start(None, "en").unwrap();
    browser.without_worklets().unwrap();
    open_page(&browser, &link.url);
    check(&browser, "without-worklets");
}

#[test]
fn room_with_forty_participants_is_accessible() {
    let suite = Suite::start(1).unwrap();
    let browser = open(&suite.links[0], "fr");
    join(&browser);
    let state = |n: u32| ["here", "here hand", "here muted", "here listening", "away"][n as usize % 5];
    let people: String = (2..=40).map(|n| format!("p{n:02}\t{}\tPersonne {n} du Village\n", state(n))).collect();
    let file = suite.room().join("names");
    // Wait until the supervisor has written `names` for the last time, before the test replaces it.
    browser.click("#mute").unwrap();
    palabre_e2e::wait_for("the supervisor to write 'names'", palabre_e2e::suite::TIMEOUT, || {
        fs::read_to_string(&file).ok().filter(|text| text.contains("here muted"))
    })
    .unwrap();
    fs::write(file.with_extension("test"), format!("p01\there muted\tP01\n{people}")).unwrap();
    fs::rename(file.with_extension("test"), &file).unwrap();
    browser.wait_until("document.querySelectorAll('#people > .person').length > 30").unwrap();
    check(&browser, "crowd");
}

#[test]
fn page_is_usable_by_keyboard_alone() {
    let suite = Suite::start(3).unwrap();
    let browser = open(&suite.links[0], "en");
    keyboard::try_the_line(&browser).unwrap();
    keyboard::visit(&browser).unwrap();
}

#[test]
fn single_keys_mute_and_raise_a_hand_except_in_fields_and_when_turned_off() {
    let suite = Suite::start(1).unwrap();
    let browser = open(&suite.links[0], "en");
    join(&browser);
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
    // The page handles the key before this script.
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
    let browser = Browser::start(Some(voice), "en").unwrap();
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
