//! Screens and states of the messages that a participant rarely sees. `hooks.js` gives the page answers that a listener seldom sends.

use palabre_e2e::browser::Browser;
use palabre_e2e::screens::{check, check_state};
use palabre_e2e::suite::Suite;
use serde_json::{Value, json};

use super::{join, open_page, package};

#[test]
fn rare_screens_and_states_of_messages_are_accessible() {
    let suite = Suite::start(2).unwrap();
    let browser = open_with_hooks(&suite);
    check_doors(&suite, &browser);
    reload(&browser, &json!({ "me": { "page": "older" } }), "door");
    join(&browser);
    check_texts(&suite, &browser);
}

/// Opens the first participant's page with `hooks.js`.
fn open_with_hooks(suite: &Suite) -> Browser {
    let voice = package().join("speech/english-man-16000Hz-mono.wav");
    let browser = Browser::start(Some(&voice), "en").unwrap();
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
    check(browser, "messages-in-all-states").unwrap();
    browser.click("#messages-close").unwrap();
}

/// Writes a text as the user does.
fn write(browser: &Browser, text: &str) {
    let line = "const line = document.getElementById('message-line')";
    let event = "line.dispatchEvent(new Event('input'))";
    browser.run(&format!("{line}; line.value = '{text}'; {event}; line.form.requestSubmit()")).unwrap();
}
