//! Two participants talk with real Chromiums: each page renders the sound of the other participant's microphone.
#![allow(clippy::unwrap_used, missing_docs)]

use std::path::{Path, PathBuf};

use palabre_e2e::browser::{Browser, Tap};
use palabre_e2e::compare::{RATE_HZ, convert, find, median};
use palabre_e2e::suite::{Link, Suite};
use palabre_sound::measure::rms_dbfs;

const SECONDS: usize = 4;

fn voice(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("speech").join(name)
}

/// A participant with a browser.
struct Person {
    browser: Browser,
}

impl Person {
    /// Joins with an AudioContext of `rate_hz`, or of the sound card's rate.
    fn join(link: &Link, voice_name: &str, uplink: &str, rate_hz: Option<u32>) -> Self {
        let browser = Browser::start(Some(&voice(voice_name)), "en").unwrap();
        if let Some(rate_hz) = rate_hz {
            browser.with_context_rate(rate_hz).unwrap();
        }
        browser.tap_sound().unwrap();
        browser.open(&format!("{}#uplink={uplink}", link.url)).unwrap();
        browser.wait_until("palabreState?.screen === 'door'").unwrap();
        browser.click("#join").unwrap();
        browser.wait_until("palabreState.connection === 'live' && palabreState.microphone === 'on'").unwrap();
        if let Some(rate_hz) = rate_hz {
            browser.wait_until(&format!("palabreState.contextRate === {rate_hz}")).unwrap();
        }
        Self { browser }
    }

    fn set_muted(&self, muted: bool) {
        let is = || self.browser.run("return palabreState.muted").unwrap() == muted;
        if !is() {
            self.browser.click("#mute").unwrap();
        }
        assert!(is());
        if !muted {
            self.browser.wait_until("palabreState.uplink === 'open' && palabreState.sent > 10").unwrap();
        }
    }

    fn now(&self, tap: Tap) -> usize {
        self.browser.tapped(tap).unwrap().0
    }

    /// Waits until at least `seconds` of sound are recorded from sample `start` on. Returns all sound from there on, at `RATE_HZ`.
    fn recorded(&self, tap: Tap, start: usize, seconds: usize) -> Vec<i16> {
        let (_, rate_hz) = self.browser.tapped(tap).unwrap();
        self.browser.wait_tapped(tap, start + seconds * rate_hz as usize).unwrap();
        convert(&self.browser.tap_from(tap, start).unwrap(), rate_hz, RATE_HZ)
    }
}

/// A direction of the talk: the page that speaks, and the page that renders the sound.
struct Direction<'a> {
    what: String,
    from: &'a Person,
    to: &'a Person,
}

/// Checks that in each direction one page renders the sound of the other page's microphone. Returns the samples of the first microphone.
/// All directions are recorded at the same time.
fn assert_heard(directions: &[Direction<'_>]) -> Vec<i16> {
    let starts: Vec<_> = directions.iter().map(|d| (d.to.now(Tap::Output), d.from.now(Tap::Microphone))).collect();
    let mut first = Vec::new();
    for (Direction { what, from, to }, (start_to, start_from)) in directions.iter().zip(starts) {
        // The recordings start at almost the same time; the difference adds to the measured delay.
        let said = from.recorded(Tap::Microphone, start_from, SECONDS);
        let heard = to.recorded(Tap::Output, start_to, SECONDS + 2);
        assert_found(what, &said, &heard[..heard.len().min((SECONDS + 2) * RATE_HZ as usize)]);
        if first.is_empty() {
            first = said;
        }
    }
    first
}

fn assert_found(what: &str, said: &[i16], heard: &[i16]) {
    let found = find(&said[..said.len().min(SECONDS * RATE_HZ as usize)], heard, 2_000);
    let coefficient = median(found.iter().map(|window| window.coefficient));
    let gain_db = median(found.iter().map(|window| window.gain_db));
    let lag_ms = median(found.iter().map(|window| window.lag as f64 * 1000.0 / f64::from(RATE_HZ)));
    println!("{what}: correlation {coefficient:.3}, gain {gain_db:.1} dB, lag {lag_ms:.0} ms, {} windows", found.len());
    assert!(found.len() >= 5 && coefficient > 0.8, "{what}: {found:?}");
}

fn two_participants_talk(uplink: &str, rates_hz: [Option<u32>; 2]) {
    let suite = Suite::start(2).unwrap();
    let alice = Person::join(&suite.links[0], "english-man-16000Hz-mono.wav", uplink, rates_hz[0]);
    let bob = Person::join(&suite.links[1], "french-woman-16000Hz-mono.wav", uplink, rates_hz[1]);
    let kind = if uplink == "post" { "post" } else { "websocket" };

    // Only the first page joins unmuted, since two pages on one laptop cause feedback.
    bob.set_muted(true);
    alice.set_muted(false);
    let alone = Direction { what: format!("{kind}: alice to bob"), from: &alice, to: &bob };
    let said = assert_heard(&[alone]);
    let own = alice.recorded(Tap::Output, 0, 1);
    let down_db = rms_dbfs(&said) - rms_dbfs(&own);
    println!("{kind}: alice hears herself {down_db:.0} dB below what she said");
    assert!(down_db > 40.0, "alice hears herself only {down_db} dB down");

    bob.set_muted(false);
    assert_heard(&[
        Direction { what: format!("{kind}: bob to alice, both talking"), from: &bob, to: &alice },
        Direction { what: format!("{kind}: alice to bob, both talking"), from: &alice, to: &bob },
    ]);
    for person in [&alice, &bob] {
        assert_eq!(person.browser.run("return palabreState.uplinkKind").unwrap(), kind);
    }
}

#[test]
fn two_participants_talk_by_websocket() {
    two_participants_talk("websocket", [None; 2]);
}

#[test]
fn two_participants_talk_by_post_with_sound_cards_of_96_and_48_khz() {
    two_participants_talk("post", [Some(96_000), Some(48_000)]);
}
