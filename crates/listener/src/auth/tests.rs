//! Tests of who may use a listener.

#![allow(clippy::unwrap_used)]

use super::*;
use crate::http::head::parse;
use palabre_config::key::Key;

fn head(target: &str, fields: &str) -> Head {
    let text = format!("GET {target} HTTP/1.1\r\nHost: Palabre.example:9001\r\n{fields}\r\n");
    parse(text.as_bytes()).unwrap().unwrap().0
}

fn authenticator() -> (Authenticator, String) {
    let key = Key::generate().unwrap();
    (Authenticator::new(key.hash(), Cookies::new("alice", b"secret")), key.as_str().to_owned())
}

#[test]
fn key_is_accepted_as_bearer_or_query_parameter_and_its_cookie_only_as_a_cookie() {
    let (auth, key) = authenticator();
    let credential = |target: &str, fields: &str| auth.authenticate(&head(target, fields));
    assert_eq!(credential(&format!("/me?key={key}"), ""), Some(Credential::Explicit));
    assert_eq!(credential("/me", &format!("Authorization: bearer {key}\r\n")), Some(Credential::Explicit));
    let cookie = auth.cookies.issue(auth.key, SystemTime::now());
    let value = cookie.split_once('=').unwrap().1.split_once(';').unwrap().0;
    assert!(!cookie.contains(&key));
    assert_eq!(credential("/me", &format!("Cookie: a=b; __Host-palabre-alice={value}\r\n")), Some(Credential::Cookie));
    assert_eq!(credential("/me", &format!("Cookie: __Host-palabre-bob={value}\r\n")), None);
    assert_eq!(credential("/me", &format!("Authorization: Bearer {value}\r\n")), None);
    assert_eq!(credential(&format!("/me?key={value}"), ""), None);
    assert_eq!(credential("/me", &format!("Authorization: Basic {key}\r\n")), None);
}

#[test]
fn cookie_of_the_former_format_is_accepted_where_the_response_replaces_it() {
    let (auth, key) = authenticator();
    let cookie = format!("Cookie: __Host-palabre-alice={key}\r\n");
    for (target, credential) in [
        ("/", Some(Credential::FormerCookie)),
        ("/me", Some(Credential::FormerCookie)),
        ("/listen", None),
        ("/page/app.js", None),
    ] {
        assert_eq!(auth.authenticate(&head(target, &cookie)), credential, "{target}");
    }
    assert_eq!(auth.key_fault(&head("/listen", &cookie)), Some(KeyFault::Old));
    let new = auth.new_cookie().unwrap();
    let both = format!("{cookie}Cookie: {}\r\n", new.split(';').next().unwrap());
    assert_eq!(auth.authenticate(&head("/", &both)), Some(Credential::Cookie));
    let other = format!("Cookie: __Host-palabre-alice={}\r\n", "0".repeat(32));
    assert_eq!(auth.authenticate(&head("/", &other)), None);
    assert_eq!(auth.key_fault(&head("/", &other)), Some(KeyFault::Wrong));
    let cookies = Cookies::new("alice", b"secret").signed_out(Some("2026-01-01T00:00:00Z".parse().unwrap()));
    let auth = Authenticator { cookies, ..auth };
    assert_eq!(auth.authenticate(&head("/", &cookie)), None, "the operator has signed out the browsers");
    assert_eq!(auth.key_fault(&head("/", &cookie)), Some(KeyFault::Old));
}

#[test]
fn browser_that_used_a_one_time_link_keeps_its_access_with_a_cookie_of_the_former_format() {
    let (auth, link) = authenticator();
    let key = Key::generate().unwrap();
    let entrance = Entrance { link: auth.key, key: key.hash() };
    let auth = auth.invitation("/nonexistent".into(), Some(entrance));
    let credential = |value: &str| auth.authenticate(&head("/", &format!("Cookie: __Host-palabre-alice={value}\r\n")));
    assert_eq!(credential(key.as_str()), Some(Credential::FormerCookie));
    assert_eq!(credential(&link), None);
}

#[test]
fn cookie_that_was_made_with_another_key_or_secret_is_old_and_not_a_guess() {
    let (auth, key) = authenticator();
    let issued = |auth: &Authenticator| {
        let cookie = auth.new_cookie().unwrap();
        format!("Cookie: {}\r\n", cookie.split(';').next().unwrap())
    };
    let (replaced, other_secret) = (authenticator().0, Authenticator::new(auth.key, Cookies::new("alice", b"other")));
    for cookie in [issued(&replaced), issued(&other_secret)] {
        assert_eq!(auth.key_fault(&head("/me", &cookie)), Some(KeyFault::Old));
        let guess = format!("{cookie}Authorization: Bearer 0\r\n");
        assert_eq!(auth.key_fault(&head("/me", &guess)), Some(KeyFault::Wrong));
        assert_eq!(auth.key_fault(&head("/me?key=0", &cookie)), Some(KeyFault::Wrong));
    }
    assert_eq!(auth.key_fault(&head(&format!("/me?key={key}"), &issued(&replaced))), Some(KeyFault::Old));
}

#[test]
fn wrong_key_is_refused() {
    let (auth, key) = authenticator();
    for wrong in ["", "0", &key[1..], &format!("{key}0"), &"0".repeat(32), &"é".repeat(16)] {
        assert_eq!(auth.authenticate(&head("/me", &format!("Authorization: Bearer {wrong}\r\n"))), None, "{wrong}");
    }
}

#[test]
fn fault_of_a_key_differs_from_a_missing_key() {
    let (auth, key) = authenticator();
    let fault = |auth: &Authenticator, fields: &str| auth.key_fault(&head("/me", fields));
    let bearer = format!("Authorization: Bearer {key}\r\n");
    for other in ["", "Cookie: __Host-palabre-bob=x\r\n", "Authorization: Basic x\r\n", "Authorization: Bearer \r\n"] {
        assert_eq!(fault(&auth, other), None, "{other}");
    }
    for wrong in ["Cookie: __Host-palabre-alice=0\r\n", "Authorization: Bearer 0\r\n"] {
        assert_eq!(fault(&auth, wrong), Some(KeyFault::Wrong), "{wrong}");
    }
    assert_eq!(auth.key_fault(&head("/?key=0", "")), Some(KeyFault::Wrong));
    for dest in ["image", "document"] {
        let fields = format!("Sec-Fetch-Site: cross-site\r\nSec-Fetch-Dest: {dest}\r\n");
        assert_eq!(auth.key_fault(&head("/?key=0", &fields)), Some(KeyFault::Foreign), "{dest}");
    }
    let auth = auth.expires(Some("2026-01-01T00:00:00Z".parse().unwrap()));
    assert_eq!(fault(&auth, &bearer), Some(KeyFault::Old));
    let (auth, link) = authenticator();
    let auth = auth.invitation("/nonexistent".into(), None);
    let bearer = format!("Authorization: Bearer {link}\r\n");
    assert_eq!(fault(&auth, &bearer), None, "the link is unused");
    auth.redeem(&link, &Key::generate().unwrap(), |_, _| true);
    assert_eq!(fault(&auth, &bearer), Some(KeyFault::Old));
}

#[test]
fn expired_key_is_refused_and_named_as_expired_only_if_correct() {
    let (auth, key) = authenticator();
    let moment = |text: &str| Some(text.parse().unwrap());
    let auth = auth.expires(moment("9999-01-01T00:00:00Z"));
    let (right, wrong) = (head(&format!("/?key={key}"), ""), head("/?key=0", ""));
    assert_eq!(auth.authenticate(&right), Some(Credential::Explicit));
    let auth = auth.expires(moment("2026-01-01T00:00:00Z"));
    assert_eq!(auth.authenticate(&right), None);
    let page = |head: &Head| {
        let mut answer = Vec::new();
        auth.unauthorized(head).write(&mut answer, false, false).unwrap();
        String::from_utf8(answer).unwrap()
    };
    assert!(page(&right).starts_with("HTTP/1.1 401 ") && page(&right).contains("Your personal link has expired"));
    assert!(page(&wrong).contains("This page opens with your personal link"));
    let program = head("/me", &format!("Authorization: Bearer {key}\r\n"));
    assert!(
        page(&program).ends_with("the access key has expired; ask the operator for a new link\n"),
        "{}",
        page(&program)
    );
}

#[test]
fn suspended_participant_is_told_so_only_with_the_correct_key() {
    let (auth, key) = authenticator();
    let auth = auth.suspended(true);
    let answer = |head: &Head| {
        assert_eq!(auth.authenticate(head), None);
        let mut answer = Vec::new();
        auth.unauthorized(head).write(&mut answer, false, false).unwrap();
        String::from_utf8(answer).unwrap()
    };
    let page = answer(&head(&format!("/?key={key}"), ""));
    assert!(page.starts_with("HTTP/1.1 403 ") && page.contains("Your access is suspended"), "{page}");
    let right = head("/me", &format!("Authorization: Bearer {key}\r\n"));
    let program = answer(&right);
    assert_eq!(auth.key_fault(&right), Some(KeyFault::Suspended));
    assert!(program.starts_with("HTTP/1.1 403 ") && program.contains("suspended"), "{program}");
    assert!(!program.contains("WWW-Authenticate"), "{program}");
    assert!(answer(&head("/?key=0", "")).starts_with("HTTP/1.1 401 "));
    let auth = auth.invitation("/nonexistent".into(), None);
    let denied = Redemption::Denied(Denial::Suspended);
    assert_eq!(auth.redeem(&key, &Key::generate().unwrap(), |_, _| panic!("recorded")), denied);
}

#[test]
fn invitation_works_for_the_recorded_browser_only() {
    let (auth, link) = authenticator();
    let auth = auth.invitation("/nonexistent".into(), None);
    let [first, second] = [(); 2].map(|()| Key::generate().unwrap());
    let is_valid = |key: &str| auth.authenticate(&head("/me", &format!("Authorization: Bearer {key}\r\n"))).is_some();
    assert!(!is_valid(&link));
    assert_eq!(auth.redeem(&link, &first, |_, _| false), Redemption::NotRecorded);
    assert_eq!(
        auth.redeem(second.as_str(), &first, |_, _| panic!("recorded again")),
        Redemption::Denied(Denial::Unauthenticated)
    );
    assert!(!is_valid(first.as_str()));
    assert_eq!(auth.redeem(&link, &second, |entrance, _| entrance.key == second.hash()), Redemption::Accepted);
    assert_eq!(auth.redeem(&link, &second, |_, _| panic!("recorded again")), Redemption::Accepted);
    assert_eq!(auth.redeem(&link, &first, |_, _| panic!("recorded again")), Redemption::Denied(Denial::Used));
    assert!(is_valid(second.as_str()) && !is_valid(first.as_str()) && !is_valid(&link));
}

#[test]
fn use_of_another_link_is_ignored_and_expired_link_shows_no_button() {
    let (auth, link) = authenticator();
    let (key, old) = (
        Key::generate().unwrap(),
        Entrance { link: "0".repeat(64).parse().unwrap(), key: "1".repeat(64).parse().unwrap() },
    );
    let auth = auth.invitation("/nonexistent".into(), Some(old));
    assert_eq!(auth.redeem(&link, &key, |_, _| false), Redemption::NotRecorded, "unused");
    let auth = auth.expires(Some("2026-01-01T00:00:00Z".parse().unwrap()));
    assert_eq!(auth.redeem(&link, &key, |_, _| panic!("recorded again")), Redemption::Denied(Denial::Expired));
    let mut answer = Vec::new();
    auth.unauthorized(&head(&format!("/?key={link}"), "")).write(&mut answer, false, false).unwrap();
    assert!(String::from_utf8(answer).unwrap().contains("has expired"));
}

#[test]
fn page_of_another_site_or_port_may_only_open_the_page_with_the_cookie() {
    let may_ask = |path: &str, site: &str, mode: &str, dest: &str| {
        let fields = format!("Sec-Fetch-Site: {site}\r\nSec-Fetch-Mode: {mode}\r\nSec-Fetch-Dest: {dest}\r\n");
        let head = head(path, &fields);
        assert!(Credential::Explicit.may_ask(&head));
        Credential::Cookie.may_ask(&head)
    };
    assert!(Credential::Cookie.may_ask(&head("/listen", "")));
    for site in ["same-origin", "none"] {
        assert!(may_ask("/listen", site, "navigate", "iframe"), "{site}");
        assert!(may_ask("/page/app.js", site, "cors", "script"), "{site}");
    }
    for site in ["same-site", "cross-site", ""] {
        assert!(may_ask("/", site, "navigate", "document"), "{site}");
        for (path, mode, dest) in [
            ("/listen", "no-cors", "empty"),
            ("/listen", "navigate", "document"),
            ("/listen.wav", "no-cors", "audio"),
            ("/page/app.js", "no-cors", "script"),
            ("/", "navigate", "iframe"),
            ("/", "no-cors", "image"),
        ] {
            assert!(!may_ask(path, site, mode, dest), "{site} {path} {mode} {dest}");
        }
    }
}

#[test]
fn cookie_may_write_from_own_origin_only() {
    let own = |fields: &str| is_own_origin(&head("/speak", fields));
    assert!(own("Origin: https://palabre.example:9001\r\n"));
    for other in [
        "",
        "Origin: null\r\n",
        "Origin: http://palabre.example:9001\r\n",
        "Origin: https://palabre.example:9002\r\n",
        "Origin: https://palabre.example\r\n",
        "Origin: https://evil.palabre.example:9001\r\n",
        "Origin: https://palabre.example:9001\r\nOrigin: https://evil\r\n",
    ] {
        assert!(!own(other), "{other}");
    }
}
