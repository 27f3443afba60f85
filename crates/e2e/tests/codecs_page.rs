//! Opus and ADPCM in the page. Chromium and Firefox play and send them, and use PCM or ADPCM if decoding fails.
#![allow(clippy::unwrap_used, missing_docs)]

use std::path::{Path, PathBuf};
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Duration;

use palabre_e2e::browser::{Browser, Tap};
use palabre_e2e::client::{Recording, Talker};
use palabre_e2e::firefox::Firefox;
use palabre_e2e::keyboard::Page;
use palabre_e2e::line::{Delays, Line};
use palabre_e2e::suite::{Suite, TIMEOUT};
use palabre_e2e::wait_for;
use palabre_sound::measure::{goertzel_dbfs, rms_dbfs};
use palabre_testing::undisturbed;
use serde_json::json;

/// Frequency of the other participant's tone.
const TONE_HZ: f64 = 500.0;

/// While a test that listens for gaps runs, no other test of this program runs. The other tests run at the same time.
static PROCESSORS: RwLock<()> = RwLock::new(());

fn alone() -> RwLockWriteGuard<'static, ()> {
    PROCESSORS.write().unwrap_or_else(PoisonError::into_inner)
}

fn beside_others() -> RwLockReadGuard<'static, ()> {
    PROCESSORS.read().unwrap_or_else(PoisonError::into_inner)
}

fn voice() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("speech/english-man-16000Hz-mono.wav")
}

/// Starts a suite with a tone in the room, and a browser that has not opened the page yet.
fn scene() -> (Suite, Talker, Browser) {
    let suite = Suite::start(2).unwrap();
    let talker = Talker::tone(&suite.client, &suite.links[1], TONE_HZ, -20.0);
    (suite, talker, Browser::start(Some(&voice()), "en").unwrap())
}

/// Joins with the setting `quality`.
fn join(page: &impl Page, quality: &str) {
    page.wait_until("window.palabreState?.screen === 'door'").unwrap();
    page.run(&format!("localStorage.setItem('palabre / quality', '{quality}')")).unwrap();
    page.click("#join").unwrap();
    page.wait_until("palabreState.connection === 'live' && palabreState.chunks > 10").unwrap();
}

/// Chooses the quality in the settings, as a user does.
fn choose(page: &impl Page, quality: &str) {
    let choice = format!(
        "const list = document.getElementById('quality'); list.value = '{quality}'; list.dispatchEvent(new Event('change'))"
    );
    page.run(&choice).unwrap();
}

fn plays(page: &impl Page, codec: &str) {
    page.wait_until(&format!("palabreState.codec === '{codec}'")).unwrap();
}

/// Returns the level of the quietest 10 ms, in dBFS, and the largest second difference of the samples. A click has a large one.
fn quietest_and_sharpest(samples: &[i16], rate_hz: u32) -> (f64, i32) {
    let quietest = samples.chunks_exact(rate_hz as usize / 100).map(rms_dbfs).fold(f64::INFINITY, f64::min);
    let corner = |w: &[i16]| (i32::from(w[0]) - 2 * i32::from(w[1]) + i32::from(w[2])).abs();
    (quietest, samples.windows(3).map(corner).max().unwrap())
}

#[test]
fn opus_is_heard_without_gaps_over_renewals_and_changes_of_the_codec() {
    let _processors = alone();
    undisturbed(|| {
        let (suite, _talker, browser) = scene();
        browser.tap_sound().unwrap();
        browser.open(&format!("{}#renew=60000", suite.links[0].url)).unwrap();
        join(&browser, "save");
        plays(&browser, "Opus 24");
        browser.click("#settings-open").unwrap();
        browser.run("document.getElementById('details').open = true").unwrap();
        browser.wait_until("document.getElementById('figures').textContent.includes('Opus 24')").unwrap();
        browser
            .wait_until("palabreState.depthMs > 0 && palabreState.renewals >= 2 && palabreState.surplusMs < 10")
            .unwrap();
        let (start, rate_hz) = browser.tapped(Tap::Output).unwrap();
        let renewals = browser.run("return palabreState.renewals").unwrap();
        browser.wait_until(&format!("palabreState.renewals >= {renewals} + 2")).unwrap();
        for (quality, codec) in [("full", "PCM 16"), ("save", "Opus 24")] {
            choose(&browser, quality);
            plays(&browser, codec);
            let chunks = browser.run("return palabreState.chunks").unwrap();
            browser.wait_until(&format!("palabreState.chunks > {chunks} + 15")).unwrap();
        }
        let samples = browser.tap_from(Tap::Output, start).unwrap();
        let (quietest, sharpest) = quietest_and_sharpest(&samples, rate_hz);
        let state = browser.run("return palabreState").unwrap();
        println!("quietest 10 ms: {quietest:.1} dBFS, sharpest corner: {sharpest}");
        assert!(quietest > -25.0, "{quietest} dBFS, {state}");
        // The largest second difference of the tone itself is 24, and 65 where the encoder changes its mode in the first half second. Two
        // streams that are joined without a fade have 270.
        assert!(sharpest < 130, "{sharpest}, {state}");
        assert_eq!((&state["lost"], &state["reconnects"]), (&json!(0), &json!(0)));
    });
}

/// Makes the page's decoder fail from now on.
const BREAK: &str = "AudioDecoder.prototype.decode = () => { throw new Error('injected') };";

/// Checks that the sound goes on in PCM after the decoder failed, and that the page uses Opus no more.
fn recovers_from_a_broken_decoder(page: &impl Page) {
    page.run(BREAK).unwrap();
    plays(page, "PCM 16");
    page.wait_until("palabreState.connection === 'live'").unwrap();
    page.wait_until("palabreState.errors.some((error) => error.includes('injected'))").unwrap();
    let before = page.run("return [palabreState.chunks, palabreState.opened]").unwrap();
    page.wait_until(&format!("palabreState.chunks > {} + 50", before[0])).unwrap();
    assert_eq!(page.run("return [palabreState.codec, palabreState.opened]").unwrap(), json!(["PCM 16", before[1]]));
}

#[test]
fn page_goes_on_in_pcm_within_a_second_after_an_error_of_the_decoder() {
    let _processors = alone();
    let (suite, _talker, browser) = scene();
    browser.tap_sound().unwrap();
    browser.open(&suite.links[0].url).unwrap();
    join(&browser, "save");
    plays(&browser, "Opus 24");
    browser.wait_until("palabreState.depthMs > 0").unwrap();
    let (start, rate_hz) = browser.tapped(Tap::Output).unwrap();
    recovers_from_a_broken_decoder(&browser);
    let samples = browser.tap_from(Tap::Output, start).unwrap();
    let silent = |block: &[i16]| rms_dbfs(block) < -30.0;
    let blocks: Vec<bool> = samples.chunks_exact(rate_hz as usize / 100).map(silent).collect();
    let longest = blocks.split(|silent| !silent).map(<[bool]>::len).max().unwrap();
    println!("longest silence: {} ms", 10 * longest);
    assert!(longest < 100, "{} ms", 10 * longest);
}

#[test]
fn browser_without_webcodecs_gets_adpcm() {
    let _processors = beside_others();
    let (suite, _talker, browser) = scene();
    let source = json!({ "source": "delete window.AudioDecoder; delete window.AudioEncoder;" });
    browser.devtools("Page.addScriptToEvaluateOnNewDocument", source).unwrap();
    browser.tap_sound().unwrap();
    browser.open(&suite.links[0].url).unwrap();
    join(&browser, "save");
    plays(&browser, "ADPCM");
    // A late chunk on a busy machine changes the phase of the tone within a window, so a later window may be the first with the right level.
    let (mut start, rate_hz) = browser.tapped(Tap::Output).unwrap();
    wait_for("a tone of -20 dBFS", TIMEOUT, || {
        let samples = browser.tap_from(Tap::Output, start).unwrap();
        let window = samples.get(..rate_hz as usize / 2)?;
        start += window.len();
        ((goertzel_dbfs(window, rate_hz, TONE_HZ) + 20.0).abs() < 2.0).then_some(())
    })
    .unwrap();
    assert_eq!(browser.run("return palabreState.uplinkCodec").unwrap(), "PCM 16");
}

#[test]
fn page_compresses_both_directions_when_the_line_becomes_too_slow() {
    let _processors = beside_others();
    let (suite, _talker, browser) = scene();
    let link = &suite.links[0];
    let rtt = Duration::from_millis(60);
    let line = Line::to(link.port, Delays { rtt, ..Delays::default() }).unwrap();
    let url = link.url.replace(&format!("localhost:{}/", link.port), &format!("far.palabre.test:{}/", line.port));
    assert_ne!(url, link.url);
    browser.open(&url).unwrap();
    join(&browser, "auto");
    plays(&browser, "PCM 16");
    browser.wait_until("palabreState.uplinkCodec === 'PCM 16' && palabreState.sent > 10").unwrap();
    // PCM needs 550 kbit/s down and 400 kbit/s up, more than the line now carries.
    line.change(Delays { rtt, bits_per_s: 128_000, ..Delays::default() });
    browser.wait_until("palabreState.codec.startsWith('Opus') && palabreState.uplinkCodec.startsWith('Opus')").unwrap();
    // The PCM that still waits in the line delays the first chunks in Opus, so chunks may be lost. After that the line carries every chunk.
    wait_for("four seconds without a lost chunk", TIMEOUT, || {
        let counts = "return [palabreState.lost, palabreState.reconnects]";
        let before = browser.run(counts).unwrap();
        let chunks = browser.run("return palabreState.chunks").unwrap();
        browser.wait_until(&format!("palabreState.chunks > {chunks} + 100")).unwrap();
        (browser.run(counts).unwrap() == before).then_some(())
    })
    .unwrap();
}

/// Waits until the page sends Opus and the other participant hears the microphone.
fn is_heard_in_opus(page: &impl Page, recording: &Recording) {
    page.wait_until("palabreState.uplink === 'open' && palabreState.uplinkCodec === 'Opus 24'").unwrap();
    let sent = page.run("return palabreState.sent").unwrap();
    page.wait_until(&format!("palabreState.sent > {sent} + 10")).unwrap();
    let mut from = recording.len();
    let window = recording.rate_hz as usize / 2;
    wait_for("the microphone of the page", TIMEOUT, || {
        let samples = recording.from(from);
        let enough = samples.get(..window)?;
        from += window;
        (rms_dbfs(enough) > -45.0).then_some(())
    })
    .unwrap();
    let errors = page.run("return palabreState.errors").unwrap();
    assert!(!errors.to_string().contains("Opus"), "{errors}");
}

#[test]
fn microphone_is_heard_in_opus_by_websocket_and_by_post() {
    let _processors = beside_others();
    for uplink in ["#", "#uplink=post"] {
        let suite = Suite::start(2).unwrap();
        let recording = suite.client.record(&suite.links[1]).unwrap();
        let browser = Browser::start(Some(&voice()), "en").unwrap();
        browser.open(&format!("{}{uplink}", suite.links[0].url)).unwrap();
        browser.wait_until("window.palabreState?.screen === 'door'").unwrap();
        browser.run("localStorage.setItem('palabre / quality', 'save')").unwrap();
        browser.click("#join").unwrap();
        is_heard_in_opus(&browser, &recording);
    }
}

#[test]
fn firefox_plays_opus_and_goes_on_in_pcm() {
    let _processors = beside_others();
    let suite = Suite::start(2).unwrap();
    let _talker = Talker::tone(&suite.client, &suite.links[1], TONE_HZ, -20.0);
    let firefox = Firefox::start("en").unwrap();
    firefox.open(&suite.links[0].url).unwrap();
    join(&firefox, "save");
    plays(&firefox, "Opus 24");
    let loudest = format!("Math.max(...[0.999, 1, 1.001].map((speed) => heardDbfs({TONE_HZ} * speed)))");
    firefox.wait_until(&format!("Math.abs({loudest} + 20) < 1")).unwrap();
    let recording = suite.client.record(&suite.links[1]).unwrap();
    is_heard_in_opus(&firefox, &recording);
    recovers_from_a_broken_decoder(&firefox);
}
