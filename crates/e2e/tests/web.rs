//! Attacks on the page in a real Chromium: hostile texts of other participants, and pages of other origins.
#![allow(clippy::unwrap_used, missing_docs)]

use std::path::Path;

use palabre_e2e::browser::Browser;
use palabre_e2e::elsewhere::Elsewhere;
use palabre_e2e::hostile_texts::Attacked;
use palabre_e2e::suite::{Link, Suite};
use serde_json::{Map, Value, json};

/// Opens a browser whose page has joined.
fn join(link: &Link) -> Browser {
    let voice = Path::new(env!("CARGO_MANIFEST_DIR")).join("speech/english-man-16000Hz-mono.wav");
    let browser = Browser::start(Some(&voice), "en").unwrap();
    browser.open(&link.url).unwrap();
    browser.wait_until("window.palabreState?.screen === 'door'").unwrap();
    browser.click("#join").unwrap();
    browser.wait_until("palabreState.connection === 'live' && palabreState.uplink === 'open'").unwrap();
    browser
}

#[test]
fn texts_of_participants_become_no_elements_and_run_no_scripts() {
    let suite = Suite::start_configured(2, "[room]\nown-display-names = true\n").unwrap();
    let browser = join(&suite.links[0]);
    let attacked = Attacked::new(&suite, &browser).unwrap();
    attacked.shows_only_texts().unwrap();
    let messages = browser.console().unwrap();
    assert!(messages.is_empty(), "{messages:?}");
    attacked.policy_stops_markup().unwrap();
    attacked.texts_run_without_protection(|url| browser.open(url)).unwrap();
}

/// What a script of another origin can try.
const ATTACK: &str = include_str!("web/attack.js");

/// Opens a page of another origin in a new tab, and runs the attack there. Returns the outcome of each attempt.
fn attack(browser: &Browser, page: &str, target: &str) -> Map<String, Value> {
    browser.new_tab().unwrap();
    browser.open(page).unwrap();
    browser.wait_until(&format!("location.href === '{page}' && document.readyState === 'complete'")).unwrap();
    browser.run(&format!("{ATTACK}\nwindow.attack('{target}')")).unwrap();
    browser.wait_until("window.attacked").unwrap();
    outcomes(browser)
}

fn outcomes(browser: &Browser) -> Map<String, Value> {
    browser.run("return window.outcomes").unwrap().as_object().unwrap().clone()
}

/// The state of a participant that an attack could change, as the page and the listener know it.
fn state(suite: &Suite, victim: &Browser) -> Value {
    let of_page = "return [palabreState.opened, palabreState.reconnects, palabreState.connection, palabreState.uplink, palabreState.muted,
        palabreState.hand, [...document.querySelectorAll('.message')].length, document.querySelector('#people [data-name=p01] .name').textContent]";
    let link = &suite.links[0];
    let get = |path: &str| suite.client.get(link, path).unwrap().text().unwrap();
    json!([victim.run(of_page).unwrap(), get("/me"), get("/gains")])
}

#[test]
fn pages_of_other_origins_read_nothing_change_nothing_and_frame_nothing() {
    let suite = Suite::start_configured(2, "[room]\nown-display-names = true\n").unwrap();
    let victim = join(&suite.links[0]);
    let before = state(&suite, &victim);
    let port = suite.links[0].port;
    let target = format!("https://localhost:{port}");
    let tls = suite.dir().join("etc/tls");
    let elsewhere = Elsewhere::with_tls(&tls, "<!doctype html><title>elsewhere</title><body>").unwrap();
    // The page at `localhost` stands for another service on the listener's host, to which the browser sends the participant's cookie too. The page
    // at `127.0.0.1` stands for another site.
    for host in ["localhost", "127.0.0.1"] {
        let outcomes = attack(&victim, &format!("https://{host}:{}/", elsewhere.port), &target);
        let other: Vec<_> = outcomes.iter().filter(|(_, outcome)| *outcome != "refused").collect();
        assert!(other.is_empty() && outcomes.len() > 60, "{host}: {other:?}");
        let framed = victim.run_in_frames("return location.href").unwrap();
        assert!(
            !framed.is_empty() && framed.iter().all(|url| url == "chrome-error://chromewebdata/"),
            "{host}: {framed:?}"
        );
        victim.run(&format!("window.openAndRead('{target}')")).unwrap();
        victim.wait_until("window.outcomes.opened").unwrap();
        assert_eq!(victim.run("return window.outcomes.opened").unwrap(), "refused", "{host}");
        // A script can't replace the participant's cookie.
        victim.run("document.cookie = '__Host-palabre-p01=x; Path=/; Secure'").unwrap();
        victim.show_tab(0).unwrap();
        victim.wait_until("palabreState.connection === 'live' && palabreState.uplink === 'open'").unwrap();
        assert_eq!(state(&suite, &victim), before, "{host}");
    }
    let has_cookie = |head: &String| head.contains("Cookie: __Host-palabre-p01=");
    assert!(elsewhere.heads().iter().any(has_cookie), "another service on the host gets the cookie");
    assert!(!elsewhere.heads().iter().any(|head| head.contains(&suite.links[0].key)), "and not the access key");
    name_of_another_site_that_leads_to_the_listener_gives_no_access(&victim, port);
    victim.show_tab(0).unwrap();
    assert_eq!(state(&suite, &victim), before);
    assert!(!suite.palabre(&["status"]).unwrap().contains("streams=2"));
}

/// DNS rebinding: another site lets its own name lead to the listener, so that its page has the listener's origin. The browser has been told to accept
/// every certificate. The page of the other site has no policy, so the tab ignores policies.
fn name_of_another_site_that_leads_to_the_listener_gives_no_access(browser: &Browser, port: u16) {
    let target = format!("https://elsewhere.localhost:{port}");
    browser.new_tab().unwrap();
    browser.devtools("Page.setBypassCSP", json!({ "enabled": true })).unwrap();
    browser.open(&format!("{target}/")).unwrap();
    browser.wait_until(&format!("location.origin === '{target}' && document.title === 'Palabre'")).unwrap();
    browser.run(&format!("{ATTACK}\nwindow.attack('{target}')")).unwrap();
    browser.wait_until("window.attacked").unwrap();
    let is_denied =
        |outcome: &Value| ["refused", "basic 401", "basic 400"].contains(&outcome.as_str().unwrap_or_default());
    let outcomes = outcomes(browser);
    let other: Vec<_> = outcomes.iter().filter(|(_, outcome)| !is_denied(outcome)).collect();
    assert!(other.is_empty() && outcomes["GET /me cors default"] == "basic 401", "{other:?}");
}
