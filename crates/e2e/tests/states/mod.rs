//! Screens and notices that a participant rarely sees. `hooks.js` gives the page inputs that otherwise take minutes, or come from the system.

use palabre_e2e::browser::Browser;
use palabre_e2e::screens::{check, check_state};
use palabre_e2e::suite::{Suite, signal};
use serde_json::{Value, json};

use super::language::toggle_language;
use super::{join, open_page, package};

#[test]
fn rare_screens_and_notices_are_accessible() {
    let suite = Suite::start(2).unwrap();
    let browser = open_with_hooks(&suite);
    check_doors(&suite, &browser);
    reload(&browser, &json!({ "me": { "page": "older" } }), "door");
    join(&browser);
    check_texts(&suite, &browser);
    check_keys(&browser);
    check_notices(&suite, &browser);
    check_lines(&suite, &browser);
    check_ends(&suite, &browser);
}

/// Opens the first participant's page with `hooks.js`.
fn open_with_hooks(suite: &Suite) -> Browser {
    let voice = package().join("speech/english-man-16000Hz-mono.wav");
    let browser = Browser::start_without_motion(Some(&voice), "en").unwrap();
    let source = json!({ "source": include_str!("hooks.js") });
    browser.devtools("Page.addScriptToEvaluateOnNewDocument", source).unwrap();
    suite.palabre(&["record", "start"]).unwrap();
    open_page(&browser, &suite.links[0].url);
    browser
}

/// Loads the page again with other answers of the listener (see `hooks.js`).
fn reload(browser: &Browser, answers: &Value, screen: &str) {
    let store = format!("sessionStorage.answers = JSON.stringify({answers})");
    browser.run(&format!("window.isOld = true; {store}; location.reload()")).unwrap();
    browser.wait_until(&format!("!window.isOld && window.palabreState?.screen === '{screen}'")).unwrap();
}

/// Waits until the page shows exactly the notices with these titles, and this state of the microphone.
fn shows(browser: &Browser, titles: &[&str], microphone: &str) {
    let shown = "JSON.stringify([...document.querySelectorAll('.notice strong')].map((title) => title.textContent))";
    let state = "document.getElementById('mute').dataset.state";
    let expected = format!("{shown} === JSON.stringify({}) && {state} === '{microphone}'", json!(titles));
    browser.wait_until(&expected).unwrap();
}

/// Checks the screens before joining.
fn check_doors(suite: &Suite, browser: &Browser) {
    browser.wait_until("document.getElementById('door-recorded').textContent !== ''").unwrap();
    check_state(browser, "door-recorded").unwrap();
    suite.palabre(&["record", "stop"]).unwrap();
    for (answer, screen) in [(json!("none"), "loading"), (json!(403), "suspended")] {
        reload(browser, &json!({ "me": answer }), screen);
        check_state(browser, screen).unwrap();
    }
    browser.run("sessionStorage.insecure = 'yes'").unwrap();
    reload(browser, &json!({}), "insecure");
    check_state(browser, "insecure").unwrap();
    browser.run("delete sessionStorage.insecure").unwrap();
}

/// Checks the panel of messages with a text that is being sent, one that failed, a counter and new messages, and a reaction in the room.
fn check_texts(suite: &Suite, browser: &Browser) {
    shows(browser, &["Palabre was updated on the server"], "on");
    browser.click("#messages-toggle").unwrap();
    browser.click(".reaction-button").unwrap();
    browser.wait_until("document.querySelector('.reaction')").unwrap();
    browser.run("for (const animation of document.getAnimations()) animation.pause()").unwrap();
    for text in ["first", "second", "third", "fourth"] {
        suite.post("p02", "/say", &format!("{text} {}", "long ".repeat(90))).unwrap();
    }
    browser.wait_until("document.querySelectorAll('.message').length === 4").unwrap();
    for (answer, state, text) in [(json!(409), "failed", "I can’t hear you"), (json!("none"), "sending", "Now I can")]
    {
        browser.run(&format!("states.answers.say = {answer}")).unwrap();
        write(browser, text);
        browser.wait_until(&format!("document.querySelector('.message[data-state={state}]')")).unwrap();
    }
    browser.run("states.answers.say = undefined; document.getElementById('message-list').scrollTop -= 100").unwrap();
    suite.post("p02", "/say", "Can you hear me?").unwrap();
    browser.wait_until("!document.getElementById('messages-below').hidden").unwrap();
    write(browser, &"long ".repeat(110));
    browser.wait_until("document.getElementById('message-trouble').textContent.startsWith('Your message is')").unwrap();
    toggle_language(browser);
    browser.wait_until("document.getElementById('message-trouble').textContent.startsWith('Votre message')").unwrap();
    toggle_language(browser);
    check(browser, "messages-in-all-states").unwrap();
    browser.click("#messages-close").unwrap();
}

/// Writes a text as the user does.
fn write(browser: &Browser, text: &str) {
    let line = "const line = document.getElementById('message-line')";
    let event = "line.dispatchEvent(new Event('input'))";
    browser.run(&format!("{line}; line.value = '{text}'; {event}; line.form.requestSubmit()")).unwrap();
}

fn check_keys(browser: &Browser) {
    for kind in ["rawKeyDown", "keyUp"] {
        browser.run("document.activeElement.blur()").unwrap();
        browser.devtools("Input.dispatchKeyEvent", json!({ "type": kind, "key": "?" })).unwrap();
    }
    browser.wait_until("document.getElementById('keys').open").unwrap();
    check(browser, "keys").unwrap();
    browser.click("#keys-close").unwrap();
}

/// Checks the notices. They are shown together if the page can have their causes at the same time.
fn check_notices(suite: &Suite, browser: &Browser) {
    check_state(browser, "outdated").unwrap();
    browser.run("states.tracks.at(-1).enabled = false").unwrap();
    browser.wait_until("(states.laterMs += 5000, palabreState.silent)").unwrap();
    // Another program sends sound for this participant, so the page loses the microphone until that program ends.
    let speaker = suite.client.speak(&suite.links[0], 24_000).unwrap();
    browser.wait_until("document.querySelectorAll('.notice').length === 2").unwrap();
    drop(speaker);
    shows(browser, &["Your microphone is silent", "You have left the other window"], "silent");
    check_state(browser, "silent-and-free").unwrap();
    browser.click(".notice:last-child button").unwrap();

    browser.run("states.tracks.at(-1).enabled = true; states.muteBySystem(true); states.pauseSound()").unwrap();
    let paused = "Your browser has paused the sound";
    shows(browser, &[paused, "Your microphone is muted by your system"], "system");
    check_state(browser, "paused-and-muted-by-the-system").unwrap();
    browser.run("states.isPaused = false; states.muteBySystem(false)").unwrap();
    browser.click(".notice button").unwrap();
    browser.wait_until("palabreState.audible && !palabreState.systemMuted").unwrap();

    browser.run("states.asleepMs = 100000").unwrap();
    shows(browser, &["You are muted because you were away"], "muted");
    check_state(browser, "was-away").unwrap();
    browser.click(".notice button").unwrap();
    browser.wait_until("!palabreState.muted").unwrap();
    suite.palabre(&["move", "p01", "other"]).unwrap();
    shows(browser, &["You are now in the room “other”"], "muted");
    check_state(browser, "moved").unwrap();
}

/// Checks the states of the connection, and the notice of a muted participant who talks.
fn check_lines(suite: &Suite, browser: &Browser) {
    // Unmute, which removes the notice of the move to another room, and mute again.
    browser.click("#mute").unwrap();
    browser.click("#mute").unwrap();
    let mixer = suite.process("palabre-mixer", "").unwrap();
    signal(mixer, "STOP").unwrap();
    let line = |state: &str| format!("document.getElementById('connection').dataset.state === '{state}'");
    browser.wait_until(&line("noSound")).unwrap();
    shows(browser, &["You are talking while muted"], "muted");
    check_state(browser, "no-sound-and-talking-while-muted").unwrap();
    signal(mixer, "CONT").unwrap();
    browser.click("#mute").unwrap();
    browser.wait_until(&format!("!palabreState.muted && {}", line("live"))).unwrap();
    let listener = suite.process("palabre-listener", "p01").unwrap();
    signal(listener, "STOP").unwrap();
    browser.wait_until(&line("unstable")).unwrap();
    browser.run("states.freezeStream()").unwrap();
    check_state(browser, "unstable").unwrap();
    browser.run("states.answers = { me: { page: 'older' }, listen: 429 }; states.goOn()").unwrap();
    shows(browser, &["Your link is open in too many places"], "waiting");
    check_state(browser, "too-many-pages").unwrap();
    browser.run("states.answers = {}").unwrap();
    signal(listener, "CONT").unwrap();
    browser.wait_until(&line("live")).unwrap();
}

/// Checks the screens after the room: in another tab, and removed.
fn check_ends(suite: &Suite, browser: &Browser) {
    // Load the page again with the listener's true answers: a page that is outdated would load itself again when it leaves the room.
    reload(browser, &json!({}), "door");
    join(browser);
    browser.new_tab().unwrap();
    open_page(browser, &suite.links[0].url);
    join(browser);
    browser.show_tab(0).unwrap();
    browser.wait_until("palabreState.screen === 'otherTab'").unwrap();
    check_state(browser, "other-tab").unwrap();
    browser.click("#join").unwrap();
    browser.wait_until("palabreState.connection === 'live'").unwrap();
    suite.palabre(&["revoke", "p01"]).unwrap();
    browser.wait_until("palabreState.screen === 'removed'").unwrap();
    check_state(browser, "removed").unwrap();
}
