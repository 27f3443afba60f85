//! The page in a real Chromium, apart from its sound: a link on another site, its policy, refusal, deaths, languages.
#![allow(clippy::unwrap_used, missing_docs)]

use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};

use palabre_e2e::browser::{Browser, Tap};
use palabre_e2e::client::Talker;
use palabre_e2e::suite::{Link, PATIENCE, Suite};
use palabre_e2e::wait_for;
use palabre_sound::measure::goertzel_dbfs;

fn voice() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("speech/english-man-16000Hz-mono.wav")
}

fn open(link: &Link, language: &str) -> Browser {
    let browser = Browser::start(Some(&voice()), language).unwrap();
    browser.open(&link.url).unwrap();
    browser.wait_until("window.palabreState?.screen === 'door'").unwrap();
    browser
}

fn join(link: &Link, language: &str) -> Browser {
    let browser = open(link, language);
    browser.click("#join").unwrap();
    browser.wait_until("palabreState.connection === 'live' && palabreState.microphone === 'on'").unwrap();
    browser
}

/// A page of another origin that holds nothing but a link, as a webmail would; serves until the process ends.
fn page_elsewhere(href: &str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://127.0.0.1:{}/", listener.local_addr().unwrap().port());
    let body = format!("<!doctype html><title>elsewhere</title><a id=link href='{href}'>join</a>");
    std::thread::spawn(move || {
        for mut tcp in listener.incoming().flatten() {
            let _ = tcp.read(&mut [0; 4096]);
            let _ = write!(
                tcp,
                "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: {}\r\n\r\n{body}",
                body.len()
            );
        }
    });
    url
}

#[test]
fn a_link_opened_from_another_site_leads_in_and_the_key_leaves_the_address_bar() {
    let suite = Suite::start(1).unwrap();
    let browser = Browser::start(Some(&voice()), "en").unwrap();
    browser.open(&page_elsewhere(&suite.links[0].url)).unwrap();
    browser.wait_until("document.getElementById('link')").unwrap();
    browser.click("#link").unwrap();
    browser.wait_until("window.palabreState?.screen === 'door'").unwrap();
    let address = browser.run("return location.href").unwrap();
    assert_eq!(address, format!("https://localhost:{}/", suite.links[0].port));
    assert_eq!(browser.run("return document.cookie").unwrap(), "", "no script sees the key");
    browser.run("location.reload()").unwrap();
    browser.wait_until("window.palabreState?.screen === 'door'").unwrap();
}

#[test]
fn without_a_key_there_is_a_plain_page_and_nothing_else() {
    let suite = Suite::start(1).unwrap();
    let link = &suite.links[0];
    for path in ["/", "/me", "/listen", "/listen.wav", "/page/app.js"] {
        let answer = suite.client.request(link, "GET", path, &[], b"").unwrap();
        assert_eq!(answer.status, 401, "{path}");
        assert!(!answer.text().unwrap().contains("p01"), "{path} tells a name");
    }
    let wrong = "Authorization: Bearer 00000000000000000000000000000000";
    assert_eq!(suite.client.request(link, "GET", "/", &[wrong], b"").unwrap().status, 401);
}

#[test]
fn a_page_runs_under_its_policy_and_talks() {
    let suite = Suite::start(2).unwrap();
    let _talker = Talker::tone(&suite.client, &suite.links[1], 440.0, -20.0);
    let browser = join(&suite.links[0], "en");
    browser.wait_until("palabreState.uplink === 'open' && palabreState.sent > 50").unwrap();
    browser.wait_until("palabreState.chunks > 50 && palabreState.connection === 'live'").unwrap();
    let complaints: Vec<_> = browser.console().unwrap();
    assert!(complaints.is_empty(), "{complaints:?}");
}

/// What is rendered from now on is the tone that the other one says at −20 dBFS.
fn assert_hears(browser: &Browser, tone_hz: f64) {
    let (from, _) = browser.tapped(Tap::Output).unwrap();
    wait_for("the other one's tone", PATIENCE, || {
        let (length, rate_hz) = browser.tapped(Tap::Output).ok()?;
        let tenth = rate_hz as usize / 10;
        let start = length.checked_sub(tenth).filter(|&start| start >= from)?;
        let samples = browser.tap_from(Tap::Output, start).ok()?;
        ((goertzel_dbfs(samples.get(..tenth)?, rate_hz, tone_hz) + 20.0).abs() < 1.0).then_some(())
    })
    .unwrap();
}

#[test]
fn a_page_reconnects_by_itself_after_the_death_and_after_a_restart_of_its_listener() {
    let suite = Suite::start(2).unwrap();
    let _talker = Talker::tone(&suite.client, &suite.links[1], 440.0, -20.0);
    let browser = Browser::start(Some(&voice()), "en").unwrap();
    browser.tap_sound().unwrap();
    browser.open(&suite.links[0].url).unwrap();
    browser.wait_until("window.palabreState?.screen === 'door'").unwrap();
    browser.click("#join").unwrap();
    browser.wait_until("palabreState.uplink === 'open' && palabreState.sent > 10 && palabreState.chunks > 10").unwrap();
    for is_planned in [false, true] {
        let old = suite.process("palabre-listener", "p01").unwrap();
        let opened = browser.run("return palabreState.opened").unwrap();
        if is_planned {
            suite.palabre(&["restart", "p01"]).unwrap();
        } else {
            suite.kill("palabre-listener", "p01").unwrap();
        }
        let gone = || (!Path::new(&format!("/proc/{old}")).exists()).then_some(());
        wait_for("the end of the old listener", PATIENCE, gone).unwrap();
        browser
            .wait_until(&format!(
                "palabreState.opened > {opened} && palabreState.connection === 'live' && palabreState.uplink === 'open'"
            ))
            .unwrap();
        let flows = browser.run("return [palabreState.sent, palabreState.chunks]").unwrap();
        let grown = format!("palabreState.sent > {} + 20 && palabreState.chunks > {} + 25", flows[0], flows[1]);
        browser.wait_until(&grown).unwrap();
        assert_hears(&browser, 440.0);
        assert_eq!(browser.run("return palabreState.muted").unwrap(), false);
    }
}

#[test]
fn a_planned_restart_costs_the_page_one_new_stream() {
    let suite = Suite::start(1).unwrap();
    let browser = join(&suite.links[0], "en");
    browser.wait_until("palabreState.uplink === 'open'").unwrap();
    for restarts in 1..=3 {
        let old = suite.process("palabre-listener", "p01").unwrap();
        suite.palabre(&["restart", "p01"]).unwrap();
        browser.wait_until(&format!("palabreState.renewals >= {restarts} && palabreState.uplink === 'open'")).unwrap();
        let gone = || (!Path::new(&format!("/proc/{old}")).exists()).then_some(());
        wait_for("the end of the old listener", PATIENCE, gone).unwrap();
    }
    // A stream that is opened again because nothing came for long is counted as a reconnection.
    assert_eq!(browser.run("return palabreState.renewals").unwrap(), 3);
    browser.wait_until("palabreState.opened <= 4 + palabreState.reconnects").unwrap();
}

#[test]
fn a_stream_is_renewed_by_what_it_has_brought_and_nothing_is_lost() {
    let suite = Suite::start(2).unwrap();
    let _talker = Talker::tone(&suite.client, &suite.links[1], 440.0, -20.0);
    let browser = Browser::start(Some(&voice()), "en").unwrap();
    browser.open(&format!("{}#renew=100000", suite.links[0].url)).unwrap();
    browser.wait_until("window.palabreState?.screen === 'door'").unwrap();
    browser.click("#join").unwrap();
    // A machine that stands still for long loses sound by itself; then five others are looked at.
    wait_for("five renewals without a loss", PATIENCE, || {
        let counts = "[palabreState.renewals, palabreState.lost, palabreState.reconnects]";
        let before = browser.run(&format!("return {counts}")).unwrap();
        browser.wait_until(&format!("palabreState.renewals >= {} + 5", before[0])).unwrap();
        let after = browser.run(&format!("return {counts}")).unwrap();
        (after[1] == before[1] && after[2] == before[2]).then_some(())
    })
    .unwrap();
    assert_eq!(browser.run("return document.querySelectorAll('iframe.wire').length <= 2").unwrap(), true);
}

#[test]
fn a_browser_without_audio_worklet_listens_and_is_told_so() {
    let suite = Suite::start(2).unwrap();
    let _talker = Talker::tone(&suite.client, &suite.links[1], 440.0, -20.0);
    let browser = Browser::start(Some(&voice()), "en").unwrap();
    browser.without_worklets().unwrap();
    browser.open(&suite.links[0].url).unwrap();
    browser.wait_until("window.palabreState?.screen === 'door'").unwrap();
    browser.wait_until("document.getElementById('door-hint').textContent.includes('AudioWorklet')").unwrap();
    browser.click("#join").unwrap();
    browser.wait_until("palabreState.playerKind === 'audio' && palabreState.played >= 3").unwrap();
    assert_eq!(
        browser.run("return [palabreState.microphone, palabreState.sent]").unwrap(),
        serde_json::json!(["off", 0])
    );
    // What the elements play, as it would go to the sound card.
    browser
        .run(
            "const context = new AudioContext();
             window.looks = [...document.querySelectorAll('audio')].map((element) => {
               const analyser = new AnalyserNode(context);
               context.createMediaElementSource(element).connect(analyser).connect(context.destination);
               return analyser;
             });",
        )
        .unwrap();
    let loud = "looks.some((look) => { const x = new Float32Array(2048); look.getFloatTimeDomainData(x);
                return Math.abs(Math.max(...x) - 0.1414) < 0.02; })";
    browser.wait_until(loud).unwrap();
    let complaints: Vec<_> = browser.console().unwrap();
    assert!(complaints.is_empty(), "{complaints:?}");
}

#[test]
fn a_mute_is_kept_over_a_reload_and_a_reconnection() {
    let suite = Suite::start(1).unwrap();
    let browser = join(&suite.links[0], "en");
    browser.click("#mute").unwrap();
    assert_eq!(browser.run("return palabreState.muted").unwrap(), true);
    let count = |name: &str| browser.run(&format!("return palabreState.{name}")).unwrap();
    let opened = count("opened");
    let killed = suite.process("palabre-listener", "p01").unwrap();
    suite.kill("palabre-listener", "p01").unwrap();
    wait_for("another listener", PATIENCE, || suite.process("palabre-listener", "p01").filter(|&pid| pid != killed))
        .unwrap();
    browser
        .wait_until(&format!(
            "palabreState.opened > {opened} && palabreState.connection === 'live' && palabreState.uplink === 'open'"
        ))
        .unwrap();
    // A silent room says so every 2 s.
    let (sent, bytes) = (count("sent"), count("bytes"));
    browser.wait_until(&format!("palabreState.bytes > {bytes}")).unwrap();
    let bytes = count("bytes");
    browser.wait_until(&format!("palabreState.bytes > {bytes}")).unwrap();
    assert_eq!(count("sent"), sent, "nothing is sent");
    assert_eq!(browser.run("return palabreState.muted").unwrap(), true);
    browser.run("location.reload()").unwrap();
    browser.wait_until("window.palabreState?.screen === 'door'").unwrap();
    browser.click("#join").unwrap();
    browser.wait_until("palabreState.microphone === 'on'").unwrap();
    assert_eq!(browser.run("return palabreState.muted").unwrap(), true);
}

#[test]
fn a_newer_page_takes_the_microphone_and_the_older_one_is_told() {
    let suite = Suite::start(1).unwrap();
    let older = join(&suite.links[0], "en");
    older.wait_until("palabreState.uplink === 'open'").unwrap();
    let newer = join(&suite.links[0], "en");
    newer.wait_until("palabreState.uplink === 'open'").unwrap();
    older.wait_until("palabreState.uplink === 'taken' && document.querySelector('.notice button')").unwrap();
    older.click(".notice button").unwrap();
    older.wait_until("palabreState.uplink === 'open'").unwrap();
    newer.wait_until("palabreState.uplink === 'taken'").unwrap();
}

#[test]
fn the_page_says_who_is_here_and_that_one_is_alone() {
    let suite = Suite::start(2).unwrap();
    let first = join(&suite.links[0], "en");
    first.wait_until("!document.getElementById('alone').hidden").unwrap();
    assert_eq!(first.run("return document.querySelectorAll('.person.away').length").unwrap(), 1);
    let second = join(&suite.links[1], "en");
    first.wait_until("document.getElementById('alone').hidden && !document.querySelector('.person.away')").unwrap();
    second
        .wait_until("document.querySelectorAll('.person').length === 2 && !document.querySelector('.person.away')")
        .unwrap();
    second.click("#leave").unwrap();
    first.wait_until("!document.getElementById('alone').hidden && document.querySelector('.person.away')").unwrap();
}

#[test]
fn a_page_speaks_the_language_of_its_browser_until_another_is_chosen() {
    let suite = Suite::start(1).unwrap();
    let words = |browser: &Browser| {
        browser.wait_until("window.palabreState?.screen === 'door'").unwrap();
        browser.run("return [document.documentElement.lang, document.getElementById('join').textContent]").unwrap()
    };
    let english = open(&suite.links[0], "en");
    assert_eq!(words(&english), serde_json::json!(["en", "Join"]));
    let french = open(&suite.links[0], "fr");
    assert_eq!(words(&french), serde_json::json!(["fr", "Rejoindre"]));
    french.click("#language").unwrap();
    assert_eq!(words(&french), serde_json::json!(["en", "Join"]));
    french.run("window.isOld = true; location.reload()").unwrap();
    french.wait_until("!window.isOld && window.palabreState").unwrap();
    assert_eq!(words(&french), serde_json::json!(["en", "Join"]));
    french.click("#language").unwrap();
    assert_eq!(words(&french), serde_json::json!(["fr", "Rejoindre"]));
}

#[test]
fn a_page_says_that_the_room_is_recorded_and_when_it_no_longer_is() {
    let suite = Suite::start(1).unwrap();
    let browser = join(&suite.links[0], "fr");
    let sign = "document.getElementById('recorded').textContent";
    assert_eq!(browser.run(&format!("return {sign}")).unwrap(), "");
    suite.palabre(&["record", "start"]).unwrap();
    browser.wait_until(&format!("{sign}.includes('enregistré')")).unwrap();
    browser.click("#language").unwrap();
    browser.wait_until(&format!("{sign}.includes('recorded')")).unwrap();
    let height = browser.run("return document.getElementById('recorded').getBoundingClientRect().height > 8").unwrap();
    assert_eq!(height, true, "it is seen");
    suite.palabre(&["record", "stop"]).unwrap();
    browser.wait_until(&format!("{sign} === ''")).unwrap();
}

/// Keeps every track that the page gets from the browser.
const KEEP_TRACKS: &str = "
    window.tracks = [];
    const get = MediaDevices.prototype.getUserMedia;
    MediaDevices.prototype.getUserMedia = async function (...wanted) {
        const stream = await get.apply(this, wanted);
        window.tracks.push(...stream.getTracks());
        return stream;
    };";

#[test]
fn the_browser_s_own_gain_control_is_off_while_the_room_levels() {
    for (flags, gain_control) in [(&["--no-voices"][..], false), (&["--no-voices", "--no-levelling"][..], true)] {
        let suite = Suite::start_with(1, flags).unwrap();
        let browser = Browser::start(Some(&voice()), "en").unwrap();
        let source = serde_json::json!({ "source": KEEP_TRACKS });
        browser.devtools("Page.addScriptToEvaluateOnNewDocument", source).unwrap();
        browser.open(&suite.links[0].url).unwrap();
        browser.wait_until("window.palabreState?.screen === 'door'").unwrap();
        browser.click("#join").unwrap();
        browser.wait_until("palabreState.connection === 'live' && palabreState.microphone === 'on'").unwrap();
        let is = browser.run(
            "return window.tracks.filter((t) => t.readyState === 'live').map((t) => t.getSettings().autoGainControl)",
        );
        assert_eq!(is.unwrap(), serde_json::json!([gain_control]), "{flags:?}");
        browser.click("#settings-open").unwrap();
        let offered = browser.run("return document.getElementById('switch-gain').checkVisibility()").unwrap();
        assert_eq!(offered, gain_control, "no switch that does nothing");
        suite.stop().unwrap();
    }
}
