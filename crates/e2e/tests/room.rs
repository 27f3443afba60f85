//! The room in a real Chromium: presence, talking, hands, messages, muting others for oneself, and large rooms.
#![allow(clippy::unwrap_used, missing_docs)]

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use palabre_e2e::browser::Browser;
use palabre_e2e::line::{Delays, Line};
use palabre_e2e::suite::{Link, Suite, TIMEOUT};
use palabre_e2e::wait_for;

fn voice() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("speech/english-man-16000Hz-mono.wav")
}

fn join(link: &Link) -> Browser {
    let browser = connect(&link.url);
    browser.wait_until("palabreState.microphone === 'on'").unwrap();
    browser
}

/// Joins, with or without a microphone.
fn connect(url: &str) -> Browser {
    let browser = Browser::start(Some(&voice()), "en").unwrap();
    browser.open(url).unwrap();
    browser.wait_until("window.palabreState?.screen === 'door'").unwrap();
    browser.click("#join").unwrap();
    browser.wait_until("palabreState.connection === 'live'").unwrap();
    browser
}

/// Returns a JavaScript expression that finds a participant's row with this class.
fn has(name: &str, class: &str) -> String {
    format!("document.querySelector('#people [data-name=\"{name}\"].{class}')")
}

/// JavaScript expression: the last text in the list is this page's own, and the listener has accepted it.
const LAST_IS_SENT: &str = "document.querySelector('.message:last-child')?.dataset.state === 'sent'";

/// Replaces a file atomically.
fn replace(path: &Path, text: &str) {
    let new = path.with_extension("test");
    fs::write(&new, text).unwrap();
    fs::rename(&new, path).unwrap();
}

#[test]
fn pages_show_talking_muting_hands_and_messages_of_each_other() {
    let suite = Suite::start_configured(2, "[room]\nlevelling = false\nown-display-names = true\n").unwrap();
    let line = Line::to(suite.links[0].port, Delays::default()).unwrap();
    let first = join_over(&line, &suite.links[0]);
    let second = join(&suite.links[1]);
    // Only the first participant of `palabre try` joins unmuted, against feedback. So the second page joins muted.
    first.wait_until(&has("p02", "silenced")).unwrap();
    second.click("#mute").unwrap();
    first.wait_until(&format!("{} && !{}", has("p02", "talking"), has("p02", "silenced"))).unwrap();
    second.click("#mute").unwrap();
    first.wait_until(&format!("{} && !{}", has("p02", "silenced"), has("p02", "talking"))).unwrap();
    second.click("#hand-button").unwrap();
    first.wait_until(&has("p02", "hand")).unwrap();
    second.click("#hand-button").unwrap();
    first.wait_until(&format!("!{}", has("p02", "hand"))).unwrap();

    second.click("#messages-toggle").unwrap();
    second.type_into("#message-line", "</b><script>alert(1)</script> é").unwrap();
    second.click("#write button").unwrap();
    first
        .wait_until("document.getElementById('badge').textContent === '1' && document.title.startsWith('(1) ')")
        .unwrap();
    first.click("#messages-toggle").unwrap();
    let text = "document.querySelector('.message-text')?.textContent === '</b><script>alert(1)</script> é'";
    first.wait_until(&format!("{text} && !document.title.startsWith('(')")).unwrap();
    second.wait_until(text).unwrap();
    assert!(first.console().unwrap().is_empty());
    loses_and_doubles_no_text(&suite, &first, &second);
    shows_a_weak_connection(&line, &first, &second);
    second.click("#messages-toggle").unwrap();
    shows_links_and_keeps_earlier_messages_in_place(&first, &second);
    shows_how_many_characters_are_left(&first);
    second.click("#reactions button").unwrap();
    for page in [&first, &second] {
        page.wait_until("document.querySelector('[data-name=\"p02\"] .reaction')?.textContent === '👍'").unwrap();
    }
    notifies_only_of_kinds_that_are_on(&first, &second);
    first.wait_until("!document.querySelector('.reaction')").unwrap();
    let is_listed = "return [...document.querySelectorAll('.message-text')].some((text) => text.textContent === '👍')";
    assert_eq!(first.run(is_listed).unwrap(), false);
    chooses_a_display_name(&suite, &first, &second);
    // `shows_a_weak_connection` has removed the delay, so the pages show a good connection again.
    first.wait_until("document.getElementById('connection').textContent === 'Connected'").unwrap();
    second.wait_until(&format!("!{}", has("p01", "weak"))).unwrap();
}

/// Joins over this line, and sends the microphone by POST: by POST, a long round trip makes some chunks too old to be sent.
fn join_over(line: &Line, link: &Link) -> Browser {
    let url = link.url.replace(&format!(":{}/", link.port), &format!(":{}/", line.port));
    let browser = connect(&format!("{url}#uplink=post"));
    browser.wait_until("palabreState.microphone === 'on'").unwrap();
    browser
}

/// Checks that a long round trip makes the first page's connection weak, and that both pages show this. Then removes the delay.
fn shows_a_weak_connection(line: &Line, first: &Browser, second: &Browser) {
    second.wait_until(&format!("{} && !{}", has("p01", "talking"), has("p01", "weak"))).unwrap();
    line.change(Delays { rtt: Duration::from_millis(800), ..Delays::default() });
    let mark =
        "document.querySelector('#people [data-name=\"p01\"].weak .mark')?.textContent.endsWith('weak connection')";
    second.wait_until(mark).unwrap();
    first.wait_until("document.getElementById('connection').textContent === 'Connected · weak connection'").unwrap();
    line.change(Delays::default());
}

/// Checks that both pages show a chosen display name, that it survives a restart, that no other participant can choose it, and that `palabre rename`
/// replaces it.
fn chooses_a_display_name(suite: &Suite, first: &Browser, second: &Browser) {
    let name_of = |name: &str| format!("document.querySelector('#people [data-name=\"{name}\"] .name').textContent");
    let choose = |page: &Browser, name: &str, answer: &str| {
        page.click("#settings-open").unwrap();
        page.run("document.getElementById('own-name-line').value = ''").unwrap();
        page.type_into("#own-name-line", name).unwrap();
        page.click("#own-name button").unwrap();
        page.wait_until(&format!("document.getElementById('own-name-said').textContent.startsWith('{answer}')"))
            .unwrap();
        page.click("#settings-close").unwrap();
    };
    choose(first, "participant  2", "Someone else has this name");
    choose(first, "Zoé <b>", "Your name is now “Zoé <b>”");
    choose(second, "zoé<B>", "Someone else has this name");
    for page in [first, second] {
        page.wait_until(&format!("{} === 'Zoé <b>'", name_of("p01"))).unwrap();
    }
    assert!(suite.palabre(&["list"]).unwrap().contains("Zoé <b>"));
    suite.palabre(&["restart", "supervisor"]).unwrap();
    first.run("window.isOld = true; location.reload()").unwrap();
    let door = "document.getElementById('door-title').textContent === 'Hello, Zoé <b>'";
    first.wait_until(&format!("!window.isOld && window.palabreState?.screen === 'door' && {door}")).unwrap();
    first.click("#join").unwrap();
    suite.palabre(&["rename", "p01", "Participant 1"]).unwrap();
    for page in [first, second] {
        page.wait_until(&format!("{} === 'Participant 1'", name_of("p01"))).unwrap();
    }
}

fn shows_links_and_keeps_earlier_messages_in_place(first: &Browser, second: &Browser) {
    let list = "document.getElementById('message-list')";
    first.run(&format!("{list}.style.maxHeight = '4rem'; {list}.scrollTop = 0")).unwrap();
    second.type_into("#message-line", "(see https://example.org/a?b=<i>, javascript:x)").unwrap();
    second.click("#write button").unwrap();
    let below = "document.getElementById('messages-below')";
    first.wait_until(&format!("{below}.checkVisibility() && document.title.startsWith('(1) ')")).unwrap();
    assert_eq!(first.run(&format!("return {list}.scrollTop")).unwrap(), 0);
    first.click("#messages-below").unwrap();
    let is_at_end = format!("{list}.scrollHeight - {list}.scrollTop - {list}.clientHeight < 2");
    first.wait_until(&format!("!{below}.checkVisibility() && {is_at_end} && !document.title.startsWith('(')")).unwrap();
    let links =
        "return [...document.querySelectorAll('.message-text a')].map((a) => [a.href, a.textContent, a.target, a.rel])";
    let link = ["https://example.org/a?b=", "https://example.org/a?b=", "_blank", "noopener noreferrer"];
    assert_eq!(first.run(links).unwrap(), serde_json::json!([link]));
}

/// Checks that sounds and notifications come only after they were switched on.
fn notifies_only_of_kinds_that_are_on(first: &Browser, second: &Browser) {
    first
        .run(
            "window.told = []; window.tones = [];
             window.OscillatorNode = class extends OscillatorNode { constructor(...given) { super(...given); tones.push(given[1].frequency); } };
             window.Notification = class {
                 static permission = 'granted';
                 constructor(title, { body }) { told.push(`${title}/${body}`); }
                 addEventListener() {}
             };
             Object.defineProperty(document, 'hidden', { configurable: true, get: () => true });",
        )
        .unwrap();
    second.click("#hand-button").unwrap();
    first.wait_until(&has("p02", "hand")).unwrap();
    second.click("#hand-button").unwrap();
    first.wait_until(&format!("!{}", has("p02", "hand"))).unwrap();
    assert_eq!(first.run("return told.length + tones.length").unwrap(), 0, "all switches are off");
    first
        .run("for (const kind of ['texts', 'hands', 'joins']) document.getElementById(`alert-${kind}`).click()")
        .unwrap();
    second.click("#hand-button").unwrap();
    first.wait_until("told.join() === 'Participant 2 raised a hand/' && tones.join() === '660,880'").unwrap();
    second.type_into("#message-line", "to the hidden page").unwrap();
    second.click("#write button").unwrap();
    first.wait_until("told[1] === 'Participant 2/to the hidden page' && document.title.startsWith('(1) ')").unwrap();
    first.run("delete document.hidden; document.dispatchEvent(new Event('visibilitychange'))").unwrap();
    first.wait_until("!document.title.startsWith('(')").unwrap();
}

fn shows_how_many_characters_are_left(page: &Browser) {
    let room = "document.getElementById('message-room')";
    let write = |length: usize| {
        let line = "const line = document.getElementById('message-line');";
        let script = format!(
            "{line} line.value = 'é'.repeat({length}); line.dispatchEvent(new Event('input')); line.form.requestSubmit()"
        );
        page.run(&script).unwrap();
    };
    write(501);
    page.wait_until(&format!(
        "{room}.textContent === '1 character too many' && document.getElementById('message-trouble').textContent"
    ))
    .unwrap();
    write(500);
    page.wait_until(&format!(
        "{room}.hidden && document.querySelector('.message:last-child .message-text').textContent.length === 500"
    ))
    .unwrap();
    page.wait_until(LAST_IS_SENT).unwrap();
}

/// Checks that two texts, which are written while the listener of the first page is stopped, arrive once each, in this order.
fn loses_and_doubles_no_text(suite: &Suite, first: &Browser, second: &Browser) {
    let texts = |expected: &str| {
        format!(
            "[...document.querySelectorAll('.message-text')].slice(1).map((text) => text.textContent).join() === '{expected}'"
        )
    };
    suite.palabre(&["stop", "p01"]).unwrap();
    first.wait_until("palabreState.connection === 'lost'").unwrap();
    second.type_into("#message-line", "to the absent").unwrap();
    second.click("#write button").unwrap();
    second.wait_until(&format!("{} && {LAST_IS_SENT}", texts("to the absent"))).unwrap();
    first.type_into("#message-line", "from the absent").unwrap();
    first.click("#write button").unwrap();
    first.wait_until("document.querySelector('.message:last-child[data-state=\"sending\"]')").unwrap();
    suite.palabre(&["start", "p01"]).unwrap();
    for page in [first, second] {
        page.wait_until(&texts("to the absent,from the absent")).unwrap();
    }
    first.wait_until(LAST_IS_SENT).unwrap();
    second.run("window.isOld = true; location.reload()").unwrap();
    second.wait_until("!window.isOld && window.palabreState?.screen === 'door'").unwrap();
    second.click("#join").unwrap();
    second.wait_until(&texts("to the absent,from the absent")).unwrap();
}

#[test]
fn participant_not_heard_by_a_page_is_in_its_file_of_gains_and_stays_so_after_a_reload() {
    let suite = Suite::start(2).unwrap();
    let guest = suite.palabre(&["invite", "guest", "--listen-only"]).unwrap();
    for (name, url) in [("p01", suite.links[0].url.as_str()), ("guest", guest.trim())] {
        let page = connect(url);
        let gains = suite.room().join(name).join("gains");
        page.wait_until("document.querySelector('#people [data-name=\"p02\"] .mute-for-me')").unwrap();
        page.click("#people [data-name=\"p02\"] .mute-for-me").unwrap();
        wait_for("the file 'gains'", TIMEOUT, || fs::read_to_string(&gains).ok().filter(|text| text == "p02\tmute\n"))
            .unwrap();
        page.run("window.isOld = true; location.reload()").unwrap();
        page.wait_until("!window.isOld && window.palabreState?.screen === 'door'").unwrap();
        page.click("#join").unwrap();
        page.wait_until(&has("p02", "muted-for-me")).unwrap();
        page.click("#people [data-name=\"p02\"] .mute-for-me").unwrap();
        wait_for("the end of the file 'gains'", TIMEOUT, || (!gains.exists()).then_some(())).unwrap();
        has_a_volume_that_stays(&page, &gains);
    }
}

/// Sets the volume of p02 for this page's participant. Then removes the file `gains`, and checks that the page sends the volume again after a
/// reload.
fn has_a_volume_that_stays(page: &Browser, gains: &Path) {
    let is_half = || fs::read_to_string(gains).ok().filter(|text| text == "p02\t-6.0\n");
    page.click("#people [data-name=\"p02\"] .more").unwrap();
    page.run("const v = document.getElementById('person-volume'); v.value = 50; v.dispatchEvent(new Event('input'))")
        .unwrap();
    wait_for("the volume in the file 'gains'", TIMEOUT, is_half).unwrap();
    page.click("#person-close").unwrap();
    fs::remove_file(gains).unwrap();
    page.run("window.isOld = true; location.reload()").unwrap();
    page.wait_until("!window.isOld && window.palabreState?.screen === 'door'").unwrap();
    page.click("#join").unwrap();
    page.wait_until("document.querySelector('#people [data-name=\"p02\"] .more')?.textContent === '50%'").unwrap();
    wait_for("the volume in the file 'gains' after a reload", TIMEOUT, is_half).unwrap();
}

#[test]
fn page_says_that_the_participant_is_suspended_and_releases_the_microphone_of_one_who_only_listens() {
    let suite = Suite::start(1).unwrap();
    let page = join(&suite.links[0]);
    suite.palabre(&["change", "p01", "--listen-only"]).unwrap();
    page.wait_until("palabreState.microphone === 'off' && palabreState.uplink === 'off'").unwrap();
    page.wait_until("document.getElementById('mute').disabled").unwrap();
    suite.palabre(&["change", "p01", "--no-listen-only"]).unwrap();
    page.wait_until("!document.getElementById('mute').disabled && palabreState.microphone === 'off'").unwrap();
    page.click("#mute").unwrap();
    page.wait_until("palabreState.microphone === 'on' && palabreState.uplink === 'open'").unwrap();

    suite.palabre(&["suspend", "p01"]).unwrap();
    page.wait_until("palabreState.screen === 'suspended'").unwrap();
    let text = "document.body.innerText.includes('Your access is suspended')";
    page.wait_until(text).unwrap();
    page.open(&suite.links[0].url).unwrap();
    page.wait_until(text).unwrap();
    suite.palabre(&["restart", "supervisor"]).unwrap();
    suite.palabre(&["restart", "p01"]).unwrap();
    assert_eq!(suite.client.get(&suite.links[0], "/me").unwrap().status, 403);
    suite.palabre(&["resume", "p01"]).unwrap();
    page.open(&suite.links[0].url).unwrap();
    page.wait_until("window.palabreState?.screen === 'door'").unwrap();
}

#[test]
fn messages_of_a_participant_not_heard_are_not_shown() {
    let suite = Suite::start(2).unwrap();
    let first = join(&suite.links[0]);
    let second = join(&suite.links[1]);
    let write = |text: &str| {
        second.type_into("#message-line", text).unwrap();
        second.click("#write button").unwrap();
        let is_last = format!("[...document.querySelectorAll('.message-text')].at(-1)?.textContent === '{text}'");
        second.wait_until(&format!("{is_last} && {LAST_IS_SENT}")).unwrap();
    };
    let texts = "[...document.querySelectorAll('.message-text')].map((text) => text.textContent)";
    second.click("#messages-toggle").unwrap();
    first.wait_until("document.querySelector('#people [data-name=\"p02\"] .mute-for-me')").unwrap();
    first.click("#people [data-name=\"p02\"] .mute-for-me").unwrap();
    first.wait_until(&has("p02", "muted-for-me")).unwrap();
    write("not shown");
    // Wait for the first page's own message, which arrives after the muted participant's message.
    first.click("#messages-toggle").unwrap();
    first.type_into("#message-line", "in between").unwrap();
    first.click("#write button").unwrap();
    first.wait_until(LAST_IS_SENT).unwrap();
    first.click("#people [data-name=\"p02\"] .mute-for-me").unwrap();
    first.wait_until(&format!("!{}", has("p02", "muted-for-me"))).unwrap();
    write("shown");
    first.wait_until(&format!("{texts}.length > 1")).unwrap();
    assert_eq!(first.run(&format!("return {texts}")).unwrap(), serde_json::json!(["in between", "shown"]));
    // The listener accepts five texts at once from its own participant, and then one per second.
    second
        .run(
            "const line = document.getElementById('message-line');
             for (let i = 1; i <= 8; i += 1) { line.value = `short ${i}`; line.form.requestSubmit(); }",
        )
        .unwrap();
    let short = (1..=8).map(|i| format!("short {i}")).collect::<Vec<_>>().join(",");
    for page in [&first, &second] {
        page.wait_until(&format!("{texts}.filter((text) => text.startsWith('short')).join() === '{short}'")).unwrap();
    }
    second.wait_until(LAST_IS_SENT).unwrap();
}

#[test]
fn page_of_a_room_with_five_hundred_participants_is_usable() {
    let suite = Suite::start(1).unwrap();
    let browser = join(&suite.links[0]);
    // Wait until the supervisor has written `names` for the last time, before the test replaces it. The mixer writes `levels` a last time
    // in silence.
    browser.click("#mute").unwrap();
    let names = suite.room().join("names");
    wait_for("the supervisor to write 'names'", TIMEOUT, || {
        fs::read_to_string(&names).ok().filter(|text| text.contains("here muted"))
    })
    .unwrap();
    let people = (2..=500).map(|n| format!("p{n:02}\t{}\tPérson {n}\n", if n <= 440 { "here" } else { "away" }));
    let all = ["p01\there muted\tP01\n".to_owned()].into_iter().chain(people).collect::<String>();
    // The listener reads the copy in `.shown` when the file `names` of the room has changed, so replace the copy first.
    replace(&suite.room().join(".shown/names"), &all);
    replace(&names, &all);
    browser.wait_until("document.querySelectorAll('#people > .person').length === 440").unwrap();
    let stage = "document.querySelector('#stage [data-name=\"p300\"].talking')";
    let shown = format!("return Boolean({} && {} && {stage})", has("p300", "talking"), has("p17", "operator"));
    wait_for("the levels", TIMEOUT, || {
        replace(&suite.room().join(".shown/levels"), "p300\ttalking\t-20.0\np17\tmuted\t-inf\n");
        replace(&suite.room().join("levels"), "p300\ttalking\t-20.0\np17\tmuted\t-inf\n");
        (browser.run(&shown).unwrap() == true).then_some(())
    })
    .unwrap();
    assert_eq!(browser.run("return document.querySelector('#away summary').textContent").unwrap(), "60 away");
    browser.type_into("#search", "person 30").unwrap();
    browser.wait_until("document.querySelectorAll('#people > .person:not([hidden])').length === 11").unwrap();
    let stops = "[...document.querySelectorAll('#people > :not([hidden]) button')].filter((b) => b.tabIndex === 0).length === 1";
    browser.wait_until(stops).unwrap();
    browser.run("document.querySelector('#away').open = true").unwrap();
    browser.wait_until("document.querySelectorAll('#away .person').length === 60").unwrap();
}
