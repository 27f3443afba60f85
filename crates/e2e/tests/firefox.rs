//! One person's visit in a real Firefox, from the door through a mute and a reload to a listener that dies. What the page is
//! in detail is tested in Chromium: here is only what another browser may do in another way.
#![allow(clippy::unwrap_used, missing_docs)]

use palabre_e2e::client::{Recording, Talker};
use palabre_e2e::firefox::Firefox;
use palabre_e2e::suite::{PATIENCE, Suite};
use palabre_e2e::wait_for;
use palabre_sound::measure::rms_dbfs;

/// Not the tone of Firefox's fake microphone, which is at 440 Hz.
const TONE_HZ: f64 = 1000.0;

fn enter(firefox: &Firefox) {
    firefox.wait_until("window.palabreState?.screen === 'door'").unwrap();
    firefox.click("#join").unwrap();
    firefox.wait_until("palabreState.connection === 'live' && palabreState.microphone === 'on'").unwrap();
}

/// What the other one says is rendered, in the very context that is connected to the sound card.
fn assert_hears(firefox: &Firefox) {
    firefox.wait_until(&format!("Math.abs(heardDbfs({TONE_HZ}) + 20) < 1")).unwrap();
}

/// Half a second that begins now is loud, or silent.
fn assert_is_heard(recording: &Recording, loud: bool) {
    let mut from = recording.len();
    let window = recording.rate_hz as usize / 2;
    wait_for("what Firefox says", PATIENCE, || {
        let samples = recording.from(from);
        let enough = samples.get(..window)?;
        from += window;
        ((rms_dbfs(enough) > -45.0) == loud).then_some(())
    })
    .unwrap();
}

/// One Firefox for all of it: to start another takes as long as what it is for.
#[test]
fn a_person_with_firefox_hears_speaks_mutes_reloads_and_is_reconnected() {
    let suite = Suite::start(2).unwrap();
    let other = suite.client.record(&suite.links[1]).unwrap();
    let _talker = Talker::tone(&suite.client, &suite.links[1], TONE_HZ, -20.0);
    let firefox = Firefox::start("fr").unwrap();
    firefox.open(&suite.links[0].url).unwrap();
    firefox.wait_until("window.palabreState?.screen === 'door'").unwrap();
    assert_eq!(firefox.run("return document.documentElement.lang").unwrap(), "fr");
    firefox.tab_to("#join").unwrap();
    enter(&firefox);
    assert_hears(&firefox);
    assert_is_heard(&other, true);
    assert_eq!(firefox.run("return palabreState.uplinkKind").unwrap(), "websocket");

    firefox.run("document.activeElement.blur()").unwrap();
    firefox.press("m").unwrap();
    firefox.wait_until("palabreState.muted").unwrap();
    assert_is_heard(&other, false);
    firefox.reload().unwrap();
    firefox.wait_until("window.palabreState?.screen !== 'inside'").unwrap();
    enter(&firefox);
    assert_hears(&firefox);
    assert_eq!(firefox.run("return palabreState.muted").unwrap(), true);
    assert_is_heard(&other, false);
    firefox.tab_to("#mute").unwrap();
    firefox.run("document.activeElement.blur()").unwrap();
    firefox.press("m").unwrap();
    assert_is_heard(&other, true);

    suite.palabre(&["restart", "p01"]).unwrap();
    firefox
        .wait_until("palabreState.renewals + palabreState.reconnects > 0 && palabreState.uplink === 'open'")
        .unwrap();
    assert_hears(&firefox);
    assert_is_heard(&other, true);

    let opened = firefox.run("return palabreState.opened").unwrap();
    suite.kill("palabre-listener", "p01").unwrap();
    firefox
        .wait_until(&format!(
            "palabreState.opened > {opened} && palabreState.connection === 'live' && palabreState.uplink === 'open'"
        ))
        .unwrap();
    assert_hears(&firefox);
    assert_is_heard(&other, true);
}
