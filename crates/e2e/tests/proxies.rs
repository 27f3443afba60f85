//! The configurations that `palabre proxy-config` writes: a real page, its stream and its microphone work behind the real programs.
#![allow(clippy::unwrap_used, missing_docs)]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::SystemTime;

use palabre_e2e::browser::{Browser, Tap};
use palabre_e2e::client::Recording;
use palabre_e2e::proxy::Proxy;
use palabre_e2e::suite::{Suite, TIMEOUT};
use palabre_e2e::wait_for;
use palabre_host::clock::boottime_ms;
use palabre_sound::measure::{goertzel_dbfs, tone};
use palabre_sound::wav;

/// Opens an invitation link, presses its button, and joins.
fn join(link: &str) -> Browser {
    let voice: PathBuf = Path::new(env!("CARGO_MANIFEST_DIR")).join("speech/english-man-16000Hz-mono.wav");
    let browser = Browser::start(Some(&voice), "en").unwrap();
    browser.tap_sound().unwrap();
    browser.open(link).unwrap();
    browser.wait_until("document.querySelector('form button')").unwrap();
    browser.click("form button").unwrap();
    join_room(&browser);
    browser
}

fn join_room(browser: &Browser) {
    browser.wait_until("window.palabreState?.screen === 'door'").unwrap();
    browser.click("#join").unwrap();
    browser.wait_until("palabreState.connection === 'live' && palabreState.microphone === 'on'").unwrap();
    // In `palabre try` all pages except the first join muted.
    if browser.run("return palabreState.muted").unwrap() == true {
        browser.click("#mute").unwrap();
    }
}

/// Waits until the page renders a voice.
fn wait_for_voice(browser: &Browser) {
    let loud = || {
        let (count, rate_hz) = browser.tapped(Tap::Output).ok()?;
        let samples = browser.tap_from(Tap::Output, count.saturating_sub(rate_hz as usize)).ok()?;
        (samples.iter().filter(|sample| sample.unsigned_abs() > 1_000).count() > 500).then_some(())
    };
    wait_for("a voice", TIMEOUT, loud).unwrap();
}

/// Says a tone with a POST by curl, and waits until the other participant hears it.
fn post_a_tone(address: &str, key: &str, directory: &Path, hears: &Recording, freq_hz: f64) {
    let file = directory.join("tone.wav");
    std::fs::write(&file, wav::little(24_000, &tone(24_000, freq_hz, -20.0, 24_000))).unwrap();
    let mut curl = Command::new("curl");
    curl.args(["--silent", "--insecure", "--max-time", "60", "--output", "/dev/null", "--write-out", "%{http_code}"]);
    curl.arg("--header").arg(format!("Authorization: Bearer {key}")).arg("--header").arg("Content-Type: audio/wav");
    curl.arg("--data-binary").arg(format!("@{}", file.display())).arg(format!("{address}speak"));
    let said = std::thread::spawn(move || curl.output().unwrap());
    let heard = || {
        let window = hears.rate_hz as usize / 4;
        let samples = hears.from(hears.len().checked_sub(window)?);
        (goertzel_dbfs(&samples, hears.rate_hz, freq_hz) > -30.0).then_some(())
    };
    wait_for("the posted tone", TIMEOUT, heard).unwrap();
    let said = said.join().unwrap();
    assert!(String::from_utf8_lossy(&said.stdout).starts_with('2'), "{address}: {said:?}");
}

/// Creates an invitation link, which must lead to the page at `address`.
fn invite(suite: &Suite, name: &str, address: &str) -> String {
    let printed = suite.palabre(&["invite", name, "--new-key", "--once"]).unwrap();
    assert!(printed.starts_with(&format!("{address}?key=")), "{printed}");
    printed.trim().to_owned()
}

/// Returns two sorted lists of delays in ms: of chunks from the listener to the page, and of requests to their responses.
fn delays_ms(browser: &Browser) -> [Vec<f64>; 2] {
    const CHUNKS: usize = 40;
    const ASK: &str = "return (async () => {
        const times = [];
        for (let n = 0; n < 40; n++) {
            const begin = performance.now();
            await (await fetch('me', { cache: 'no-store' })).text();
            times.push(performance.now() - begin);
        }
        return times;
    })()";
    let boot_ms =
        SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs_f64() * 1000.0 - boottime_ms() as f64;
    let begun = browser.tap_counts().unwrap();
    let enough = || browser.tap_stages(begun).ok().filter(|stages| stages.arrived.len() >= CHUNKS);
    let arrived = wait_for("enough chunks", TIMEOUT, enough).unwrap().arrived;
    let down = arrived.iter().map(|(_, wall_ms, seq)| wall_ms - (seq + boot_ms)).collect();
    let asked = browser.run(ASK).unwrap().as_array().unwrap().iter().filter_map(serde_json::Value::as_f64).collect();
    let sorted = |mut values: Vec<f64>| {
        values.sort_by(f64::total_cmp);
        values
    };
    [sorted(down), sorted(asked)]
}

/// Prints the delay that a proxy adds in each direction: the delay of the page through the proxy minus the delay of the page without it, at the
/// median and at the 10th percentile, which depends least on other load.
fn print_added_delay(name: &str, browser: &Browser, direct_url: &str) {
    let through = delays_ms(browser);
    browser.open(direct_url).unwrap();
    join_room(browser);
    let direct = delays_ms(browser);
    for (which, part) in [("median", 2), ("quickest tenth", 10)] {
        let [down, both] = [0, 1].map(|way| {
            let at = |values: &[Vec<f64>; 2]| values[way][values[way].len() / part];
            at(&through) - at(&direct)
        });
        println!(
            "{name}, {which}: adds {down:+.1} ms from the listener to the page, {:+.1} ms from the page to the listener",
            both - down
        );
    }
}

#[test]
fn page_stream_and_microphone_work_behind_nginx_and_haproxy() {
    let suite = Suite::start(3).unwrap();
    let directory = tempfile::tempdir().unwrap();
    let hears = suite.client.record(suite.link("p03")).unwrap();
    let post = |name: &str, address: &str, freq_hz: f64| {
        post_a_tone(address, &suite.link(name).key, directory.path(), &hears, freq_hz);
    };
    let nginx = Proxy::nginx(&suite, directory.path(), "", "").unwrap();
    let by_path = format!("https://localhost:{}/p01/", nginx.port);
    post("p01", &by_path, 700.0);
    let first = invite(&suite, "p01", &by_path);
    let haproxy = Proxy::haproxy(&suite, directory.path()).unwrap();
    let by_name = format!("https://p02.localhost:{}/", haproxy.port);
    post("p02", &by_name, 1_100.0);
    let second = invite(&suite, "p02", &by_name);
    drop(hears);
    let pages = [first, second].map(|link| join(&link));
    for (browser, address) in pages.iter().zip([&by_path, &by_name]) {
        assert_eq!(browser.run("return location.href").unwrap(), *address);
        wait_for_voice(browser);
        assert_eq!(browser.run("return palabreState.uplinkKind").unwrap(), "websocket");
    }
    // Browsers ask for /favicon.ico, and nginx logs failed requests with their field Referer. This field must not contain the key of the link.
    let log = std::fs::read_to_string(directory.path().join("error.log")).unwrap();
    assert!(!log.contains("?key="), "{log}");
    // The cookie is valid on the listener's own port too: cookies don't depend on the port, and both proxies' names are local.
    print_added_delay("nginx", &pages[0], &format!("https://localhost:{}/", suite.link("p01").port));
    print_added_delay("HAProxy", &pages[1], &format!("https://p02.localhost:{}/", suite.link("p02").port));
    suite.stop().unwrap();
}
