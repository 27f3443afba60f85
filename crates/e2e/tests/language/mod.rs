//! What depends on the language and the region: texts with numbers, tooltips and times.

use palabre_e2e::browser::Browser;
use serde_json::json;

/// Waits until an element has this tooltip.
fn has_title(browser: &Browser, selector: &str, title: &str) {
    browser.wait_until(&format!("document.querySelector('{selector}').title === '{title}'")).unwrap();
}

pub(super) fn toggle_language(browser: &Browser) {
    browser.run("document.getElementById('language').click()").unwrap();
}

/// The time of the first message.
const TIME: &str = "document.querySelector('.message time').textContent";

/// Checks the tooltips of the raised hand and of the open panel, the time of a message in both languages, and the icon beside the volume.
pub(super) fn tells_state_and_time_in_its_language(french: &Browser) {
    for (lower, hide, time) in [
        ("Baisser la main", "Masquer les messages", r"^\d\d:\d\d$"),
        ("Lower hand", "Hide messages", r"^\d+:\d\d\s[AP]M$"),
    ] {
        has_title(french, "#hand-button", lower);
        has_title(french, "#messages-toggle", hide);
        french.wait_until(&format!("/{time}/.test({TIME})")).unwrap();
        toggle_language(french);
    }
    for (volume, icon) in [(0, "#speaker-off"), (100, "#speaker")] {
        french
            .run(&format!(
                "const volume = document.getElementById('volume'); volume.value = {volume}; volume.dispatchEvent(new Event('input'))"
            ))
            .unwrap();
        let shown = "return document.querySelector('.volume use').getAttribute('href')";
        assert_eq!(french.run(shown).unwrap(), icon);
    }
}

/// Checks that the panel of messages counts the characters that are left, from 400 characters on, with the plural forms of both languages.
pub(super) fn counts_characters(french: &Browser) {
    let counted = |length: usize| {
        let script = format!(
            "const line = document.getElementById('message-line');
             line.value = 'a'.repeat({length}); line.dispatchEvent(new Event('input'));
             const room = document.getElementById('message-room');
             return room.checkVisibility() ? room.textContent.replace(/\\s/g, ' ') : ''"
        );
        french.run(&script).unwrap()
    };
    for texts in [
        ["Caractères restants : 100", "Caractères restants : 0", "1 caractère de trop", "2 caractères de trop"],
        ["Characters left: 100", "Characters left: 0", "1 character too many", "2 characters too many"],
    ] {
        assert_eq!([399, 400, 500, 501, 502].map(counted), ["", texts[0], texts[1], texts[2], texts[3]]);
        toggle_language(french);
    }
    assert_eq!(counted(0), "");
}

/// Checks the tooltips of buttons in both states, and the time of a message in the variant of English that the browser prefers.
pub(super) fn tells_state_and_time_in_its_region(british: &Browser) {
    british.wait_until(&format!(r"/^\d\d:\d\d$/.test({TIME})")).unwrap();
    let agent = british.run("return navigator.userAgent").unwrap();
    british
        .devtools("Emulation.setUserAgentOverride", json!({ "userAgent": agent, "acceptLanguage": "en-US" }))
        .unwrap();
    (0..2).for_each(|_| toggle_language(british));
    british.wait_until(&format!(r"/^\d+:\d\d\s[AP]M$/.test({TIME})")).unwrap();
    has_title(british, "#settings-open", "Settings");
    has_title(british, "#messages-toggle", "Messages, 1 new");
    for title in ["Hide messages", "Messages"] {
        british.click("#messages-toggle").unwrap();
        has_title(british, "#messages-toggle", title);
    }
    for (button, title) in [
        ("#mute", "Muted: no one can hear you, press to unmute"),
        ("#mute", "Microphone on: everyone can hear you"),
        ("#hand-button", "Lower hand"),
        ("#hand-button", "Raise hand"),
        ("#people .mute-for-me", "Unmute Participant 2 for me"),
        ("#people .mute-for-me", "Mute Participant 2 for me"),
    ] {
        british.click(button).unwrap();
        has_title(british, button, title);
    }
}

/// Checks the numbers of present and of absent participants, in French and in English.
pub(super) fn counts_people(french: &Browser, in_french: [&str; 2], in_english: [&str; 2]) {
    let counts = "return ['count', 'away'].map((id) => document.querySelector(`p#${id}, #${id} summary`).textContent)";
    for expected in [in_french, in_english] {
        assert_eq!(french.run(counts).unwrap(), json!(expected));
        toggle_language(french);
    }
}
