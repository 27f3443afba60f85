//! The microphone of the page: gain control, a mute by the system, silence, and talking while muted.

use palabre_e2e::browser::Browser;
use palabre_e2e::client::Talker;
use palabre_e2e::clock::MICROPHONE_LATER;
use palabre_e2e::suite::{Link, Suite};

use super::voice;

/// Stores every track that getUserMedia() returns, except those of the probe of a silent microphone.
const KEEP_TRACKS: &str = "
    window.tracks = [];
    const get = MediaDevices.prototype.getUserMedia;
    MediaDevices.prototype.getUserMedia = async function (...wanted) {
        const isProbe = new Error().stack.includes('silence-probe.js');
        const stream = await get.apply(this, wanted);
        if (!isProbe) window.tracks.push(...stream.getTracks());
        return stream;
    };";

/// Joins with a page that stores its microphone's tracks.
fn join_with_tracks(browser: Browser, link: &Link) -> Browser {
    let source = serde_json::json!({ "source": KEEP_TRACKS });
    browser.devtools("Page.addScriptToEvaluateOnNewDocument", source).unwrap();
    browser.open(&link.url).unwrap();
    browser.wait_until("window.palabreState?.screen === 'door'").unwrap();
    browser.click("#join").unwrap();
    browser
}

#[test]
fn browser_s_gain_control_is_off_in_a_room_with_levelling() {
    for (flags, gain_control) in [(&["--no-voices"][..], false), (&["--no-voices", "--no-levelling"][..], true)] {
        let suite = Suite::start_with(1, flags).unwrap();
        let browser = join_with_tracks(Browser::start(Some(&voice()), "en").unwrap(), &suite.links[0]);
        browser.wait_until("palabreState.connection === 'live' && palabreState.microphone === 'on'").unwrap();
        let is = browser.run(
            "return window.tracks.filter((t) => t.readyState === 'live').map((t) => t.getSettings().autoGainControl)",
        );
        assert_eq!(is.unwrap(), serde_json::json!([gain_control]), "{flags:?}");
        browser.click("#settings-open").unwrap();
        let offered = browser.run("return document.getElementById('switch-gain').checkVisibility()").unwrap();
        assert_eq!(offered, gain_control, "the switch is hidden where it has no effect");
        suite.stop().unwrap();
    }
}

#[test]
fn microphone_that_is_muted_by_the_system_or_silent_is_shown_to_everybody_and_talking_while_muted_to_oneself() {
    let suite = Suite::start(2).unwrap();
    let browser = Browser::with_pulse_microphone(&voice(), "en").unwrap();
    let browser = join_with_tracks(browser, &suite.links[0]);
    let shows = |words: &str, is_muted: bool| {
        let row = "document.querySelector('#people [data-name=\"p01\"]')";
        browser
            .wait_until(&format!(
                "document.getElementById('mic-state').textContent === '{words}'
                 && {row}?.classList.contains('silenced') === {is_muted} && document.title.startsWith('🔇') === {is_muted}"
            ))
            .unwrap();
    };
    shows("Microphone on", false);
    let notice = |title: &str| {
        let found = format!("document.querySelector('.notice.urgent strong')?.textContent === '{title}'");
        browser.wait_until(&found).unwrap();
    };
    // While the loudspeaker plays, Chromium's echo cancellation adds noise to the zeros of the muted microphone.
    let talker = Talker::tone(&suite.client, &suite.links[1], 440.0, -20.0);
    browser.wait_until("document.querySelector('#people [data-name=p02].talking')").unwrap();
    browser.mute_microphone(true).unwrap();
    shows("Muted by your system", true);
    assert_eq!(browser.run("return palabreState.muted").unwrap(), false, "the user didn't mute the microphone");
    browser.wait_until(&format!("{MICROPHONE_LATER} && document.querySelector('.notice')")).unwrap();
    notice("Your microphone is muted by your system");
    drop(talker);
    browser.mute_microphone(false).unwrap();
    shows("Microphone on", false);
    browser.wait_until("!document.querySelector('.notice')").unwrap();
    // Simulate that the device went away: the track ends, and the browser sends no `devicechange`.
    browser
        .run("window.before = window.tracks.length; window.tracks.at(-1).dispatchEvent(new Event('ended'))")
        .unwrap();
    browser.wait_until("window.tracks.length > window.before && palabreState.microphone === 'on'").unwrap();
    shows("Microphone on", false);
    for (enabled, is_silent, words) in [(false, true, "No sound from your microphone"), (true, false, "Microphone on")]
    {
        // Simulate a silent microphone: a disabled track delivers zeros, and the page gets no event.
        browser.run(&format!("window.tracks.at(-1).enabled = {enabled}")).unwrap();
        if is_silent {
            browser.wait_until(&format!("{MICROPHONE_LATER} && document.querySelector('.notice')")).unwrap();
        }
        shows(words, is_silent);
        if is_silent {
            notice("Your microphone is silent");
        }
        browser
            .wait_until(&format!("document.querySelectorAll('.notice').length === {}", u8::from(is_silent)))
            .unwrap();
    }
    browser.click("#mute").unwrap();
    notice("You are talking while muted");
    browser.run("window.tracks.at(-1).enabled = false").unwrap();
    browser
        .wait_until(&format!("{MICROPHONE_LATER} && !palabreState.talkingMuted && !document.querySelector('.notice')"))
        .unwrap();
    assert_eq!(browser.run("return palabreState.muted").unwrap(), true, "only the notice ends by itself");
    browser.run("window.tracks.at(-1).enabled = true").unwrap();
    notice("You are talking while muted");
    browser.click(".notice button").unwrap();
    browser.wait_until("!palabreState.muted && !document.querySelector('.notice')").unwrap();
    assert_eq!(browser.run("return document.activeElement.id").unwrap(), "mute", "the notice's button had the focus");
}
