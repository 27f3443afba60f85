//! Tests of the page, access keys, origins, and HTTP itself.

use std::time::{Duration, SystemTime};

use palabre_config::{Key, Moment};

use crate::client::Client;
use crate::rig::{Rig, wait_for};

#[test]
fn me_and_page_are_served_on_one_connection() {
    let rig = Rig::new();
    let mut client = rig.connect();
    let me = client.get(&rig, "/me");
    let expected = "{\"name\":\"alice\",\"display\":\"Alice\",\"room\":\"main\",\"rate_hz\":24000,\"chunk_ms\":40,\"levelling\":false,\"join_muted\":false,\"codec\":\"auto\",\"page\":";
    assert_eq!(me.status, 200);
    assert!(me.text().starts_with(expected), "{}", me.text());
    let page = client.get(&rig, "/");
    assert_eq!(page.status, 200);
    assert!(page.field("content-security-policy").unwrap().contains("default-src 'none'"));
    assert!(page.text().to_lowercase().starts_with("<!doctype html>"));
    let script = client.get(&rig, "/page/stream/records.js");
    assert_eq!(script.field("content-type"), Some("text/javascript; charset=utf-8"));
    let tag = script.field("etag").unwrap();
    let fields = format!("{}If-None-Match: {tag}\r\n", rig.bearer());
    assert_eq!(client.request("GET", "/page/stream/records.js", &fields).status, 304);
    assert_eq!(client.get(&rig, "/me").status, 200);
}

#[test]
fn tls_1_2_and_1_3_are_supported() {
    let rig = Rig::new();
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let mut client = Client::connect_by(&[version], rig.port, &rig.certificate.cert_pem).unwrap();
        assert_eq!(client.stream.conn.protocol_version(), Some(version.version));
        assert_eq!(client.get(&rig, "/me").status, 200);
    }
}

#[test]
fn every_response_has_security_fields() {
    let rig = Rig::new();
    let (key, bearer) = (format!("/?key={}", rig.key.as_str()), rig.bearer());
    for (method, target, fields, status) in [
        ("GET", "/", bearer.as_str(), 200),
        ("GET", "/page/app.js", &bearer, 200),
        ("GET", "/me", &bearer, 200),
        ("GET", "/listen", &bearer, 200),
        ("GET", "/listen.wav", &bearer, 200),
        ("GET", &key, "", 303),
        ("GET", "/", "", 401),
        ("GET", "/me", "", 401),
        ("GET", "/nothing", &bearer, 404),
        ("GET", "/speak", &bearer, 426),
        ("BREW", "/", &bearer, 501),
    ] {
        let mut client = rig.connect();
        client.send(format!("{method} {target} HTTP/1.1\r\nHost: localhost\r\n{fields}\r\n"));
        let answer = client.answer_head();
        assert_eq!(answer.status, status, "{method} {target}");
        for (name, value) in [
            ("x-content-type-options", "nosniff"),
            ("referrer-policy", "no-referrer"),
            ("cross-origin-resource-policy", "same-origin"),
        ] {
            assert_eq!(answer.field(name), Some(value), "{method} {target}");
        }
        let policy = answer.field("content-security-policy").unwrap();
        // The only response that may be shown in a frame is the stream, and only a page of this origin may contain the frame.
        let framed_by = if target == "/listen" { "frame-ancestors 'self'" } else { "frame-ancestors 'none'" };
        assert!(policy.starts_with("default-src 'none'") && policy.ends_with(framed_by), "{method} {target}: {policy}");
        assert!(!policy.contains("unsafe"), "{method} {target}: {policy}");
    }
}

#[test]
fn listen_only_participant_has_no_microphone() {
    let rig = Rig::with_alice("", |alice| alice.listen_only = true);
    let mut client = rig.connect();
    assert!(client.get(&rig, "/me").text().contains("\"listen_only\":true"));
    assert_eq!(client.get(&rig, "/").status, 200);
    assert_eq!(client.get(&rig, "/speak").status, 404);
    assert_eq!(rig.connect().post("/speak", &rig.bearer(), b"RIFF").status, 404);
    rig.connect().listen(&rig, "").record();
}

#[test]
fn key_is_valid_until_it_expires() {
    let in_an_hour = Moment::after(SystemTime::now(), Duration::from_secs(3600));
    let rig = Rig::with_alice("", |alice| alice.key_expires = in_an_hour);
    assert_eq!(rig.connect().get(&rig, "/me").status, 200);
    let soon = Moment::after(SystemTime::now(), Duration::from_secs(1));
    let rig = Rig::with_alice("", |alice| alice.key_expires = soon);
    wait_for(|| (rig.connect().get(&rig, "/me").status == 401).then_some(()));
    let page = rig.connect().request("GET", &format!("/?key={}", rig.key.as_str()), "");
    assert!(page.status == 401 && page.text().contains("has expired"), "{}", page.text());
    for (method, target) in [("GET", "/listen"), ("GET", "/listen.wav"), ("GET", "/speak"), ("POST", "/say")] {
        assert_eq!(rig.connect().request(method, target, &rig.bearer()).status, 401, "{method} {target}");
    }
}

#[test]
fn response_to_head_has_no_body() {
    let rig = Rig::new();
    let mut client = rig.connect();
    for target in ["/", "/me", "/page/stream/records.js"] {
        let get = client.get(&rig, target);
        let head = client.request("HEAD", target, &rig.bearer());
        assert_eq!((head.status, head.field("content-length")), (200, get.field("content-length")), "{target}");
    }
    for target in ["/listen", "/listen.wav"] {
        let head = rig.connect().request("HEAD", target, &rig.bearer());
        assert_eq!(head.status, 200, "{target}");
    }
}

#[test]
fn every_path_requires_the_key() {
    let rig = Rig::new();
    let wrong = "Authorization: Bearer 00000000000000000000000000000000\r\n";
    for fields in ["", wrong, "Cookie: __Host-palabre-alice=x\r\n"] {
        for target in
            ["/", "/?key=0123", "/me", "/listen", "/listen.wav", "/speak", "/page/stream/records.js", "/nothing"]
        {
            let mut client = rig.connect();
            let answer = client.request("GET", target, fields);
            assert_eq!(answer.status, 401, "{target}");
            assert!(client.is_closed(), "one unauthenticated request per connection");
            assert_eq!(answer.field("set-cookie"), None);
        }
    }
    let page = rig.connect().request("GET", "/", "");
    assert!(page.text().contains("Demandez-le") && page.text().contains("Ask the person"));
    assert!(!page.text().contains("alice"));
}

#[test]
fn link_sets_the_cookie_and_redirects() {
    let rig = Rig::new();
    let mut client = rig.connect();
    let answer = client.request("GET", &format!("/?key={}", rig.key.as_str()), "");
    assert_eq!((answer.status, answer.field("location")), (303, Some("./")));
    let cookie = answer.field("set-cookie").unwrap();
    let (pair, attributes) = cookie.split_once("; ").unwrap();
    let (name, value) = pair.split_once('=').unwrap();
    assert_eq!(name, "__Host-palabre-alice");
    assert!(attributes.starts_with("Path=/; Secure; HttpOnly; SameSite=Lax; Max-Age="), "{attributes}");
    assert!(!cookie.contains(rig.key.as_str()), "another service on this host gets the cookie, but not the key");
    assert_eq!(client.request("GET", "/", &format!("Cookie: {pair}\r\n")).status, 200);
    for (target, fields) in [
        (format!("/me?key={value}"), String::new()),
        ("/me".into(), format!("Authorization: Bearer {value}\r\n")),
        ("/listen".into(), format!("Cookie: {name}={}\r\n", rig.key.as_str())),
    ] {
        assert_eq!(rig.connect().request("GET", &target, &fields).status, 401, "{target} {fields}");
    }
    assert_eq!(client.request("GET", &format!("/me?key={}", rig.key.as_str()), "").status, 200);
}

/// An earlier version put the access key into the cookie.
#[test]
fn cookie_of_an_earlier_version_is_replaced_and_is_no_wrong_key() {
    let rig = Rig::new();
    let former = format!("Cookie: __Host-palabre-alice={}\r\n", rig.key.as_str());
    assert_eq!(rig.connect().request("GET", "/listen", &former).status, 401);
    for target in ["/", "/me"] {
        let answer = rig.connect().request("GET", target, &former);
        assert_eq!(answer.status, 200, "{target}");
        let cookie = format!("Cookie: {}\r\n", answer.field("set-cookie").unwrap().split_once(';').unwrap().0);
        let next = rig.connect().request("GET", target, &cookie);
        assert_eq!((next.status, next.field("set-cookie")), (200, None), "{target}");
        assert_eq!(rig.connect().request("HEAD", "/listen", &cookie).status, 200);
    }
    rig.wait_for_log("refused an access key or a cookie that is no longer valid from 127.0.0.1");
    assert!(!rig.log().contains("a wrong access key"), "{}", rig.log());
}

#[test]
fn cookie_is_valid_in_the_next_process_until_the_operator_signs_out_the_browsers() {
    let mut rig = Rig::new();
    let cookie = rig.cookie();
    let status = |rig: &Rig, cookie: &str| rig.connect().request("GET", "/me", cookie).status;
    let mut first = rig.replace();
    first.kill().unwrap();
    first.wait().unwrap();
    assert_eq!(status(&rig, &cookie), 200);
    let file = rig.config.join("participants.d/alice.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, format!("signed-out = 2999-01-01T00:00:00Z\n{text}")).unwrap();
    let mut second = rig.replace();
    second.kill().unwrap();
    second.wait().unwrap();
    assert_eq!(status(&rig, &cookie), 401);
    let next = rig.cookie();
    assert_eq!(status(&rig, &next), 200, "a browser that opens the link again");
    // fail2ban counts only lines about a wrong access key.
    rig.wait_for_log("refused an access key or a cookie that is no longer valid from 127.0.0.1");
    assert!(!rig.log().contains("a wrong access key"), "{}", rig.log());
    let changed = text.lines().map(|line| match line.starts_with("key-sha256") {
        true => format!("key-sha256 = \"{}\"\n", Key::generate().unwrap().hash()),
        false => format!("{line}\n"),
    });
    std::fs::write(&file, changed.collect::<String>()).unwrap();
    let mut third = rig.replace();
    third.kill().unwrap();
    third.wait().unwrap();
    assert_eq!((status(&rig, &cookie), status(&rig, &next)), (401, 401), "a new key makes all cookies invalid");
    assert!(!rig.log().contains("a wrong access key"), "{}", rig.log());
}

/// Writes a certificate that a certificate authority has signed, and its key, into the configuration. Returns the authority's certificate in PEM.
fn certificate_of_an_authority(rig: &Rig) -> String {
    let [authority_key, key] = [(); 2].map(|()| rcgen::KeyPair::generate().unwrap());
    let mut authority = rcgen::CertificateParams::new(Vec::new()).unwrap();
    authority.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    authority.distinguished_name.push(rcgen::DnType::CommonName, "Test authority");
    let root = authority.self_signed(&authority_key).unwrap().pem();
    let issuer = rcgen::Issuer::new(authority, authority_key);
    let mut own = rcgen::CertificateParams::new(vec!["localhost".into()]).unwrap();
    own.distinguished_name.push(rcgen::DnType::CommonName, "localhost");
    std::fs::write(rig.config.join("tls/cert.pem"), own.signed_by(&key, &issuer).unwrap().pem()).unwrap();
    std::fs::write(rig.config.join("tls/key.pem"), key.serialize_pem()).unwrap();
    root
}

#[test]
fn browsers_are_told_to_use_only_https_unless_the_certificate_is_self_signed_or_a_proxys() {
    let proxied = "[proxy]\naddresses = [\"127.0.0.1\"]\n";
    for (server_toml, expected) in
        [("", Some("max-age=2592000")), ("[security]\nhsts-days = 0\n", None), (proxied, None)]
    {
        let rig = Rig::with(server_toml);
        let told = |mut client: Client| {
            let answer = client.request("GET", "/", &rig.bearer());
            assert_eq!(answer.status, 200);
            answer.field("strict-transport-security").map(str::to_owned)
        };
        assert_eq!(told(rig.connect()), None, "self-signed");
        let root = certificate_of_an_authority(&rig);
        rig.signal("HUP");
        let client = wait_for(|| Client::connect(rig.port, &root).ok());
        assert_eq!(told(client).as_deref(), expected, "{server_toml}");
    }
}

#[test]
fn cookie_may_write_from_own_page_only() {
    let rig = Rig::new();
    let _mic = rig.mic();
    let (cookie, host) = (rig.cookie(), rig.host());
    let post = |fields: &str| {
        let mut client = rig.connect();
        client.send(format!("POST /speak HTTP/1.1\r\nHost: {host}\r\n{fields}Content-Length: 0\r\n\r\n"));
        client.answer().status
    };
    let upgrade = |fields: &str| {
        let mut client = rig.connect();
        client.send(format!(
            "GET /speak?page=a HTTP/1.1\r\nHost: {host}\r\n{fields}Connection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        ));
        client.answer_head().status
    };
    for foreign in ["", "Origin: null\r\n", "Origin: https://evil.example\r\n", &format!("Origin: http://{host}\r\n")] {
        let fields = format!("{cookie}{foreign}");
        assert_eq!((post(&fields), upgrade(&fields)), (403, 403), "{foreign}");
    }
    let own = format!("{cookie}Origin: https://{host}\r\n");
    assert_eq!((post(&own), upgrade(&own)), (400, 101));
    // A program sends its key in the field 'Authorization', and no field 'Origin'.
    assert_eq!((post(&rig.bearer()), upgrade(&rig.bearer())), (400, 101));
}

#[test]
fn page_of_another_port_cannot_open_a_stream_with_the_cookie() {
    let rig = Rig::new();
    let (cookie, host) = (rig.cookie(), rig.host());
    let status = |path: &str, fields: &str| {
        let mut client = rig.connect();
        client.send(format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n{cookie}{fields}\r\n"));
        client.answer_head().status
    };
    let foreign = "Sec-Fetch-Site: same-site\r\nSec-Fetch-Mode: no-cors\r\nSec-Fetch-Dest: empty\r\n";
    for path in ["/listen", "/listen.wav", "/me", "/page/app.js"] {
        assert_eq!(status(path, foreign), 403, "{path}");
    }
    let link = "Sec-Fetch-Site: cross-site\r\nSec-Fetch-Mode: navigate\r\nSec-Fetch-Dest: document\r\n";
    assert_eq!(status("/", link), 200);
    assert_eq!(status("/listen", &foreign.replace("same-site", "same-origin")), 200);
}

#[test]
fn unknown_paths_and_methods_are_refused() {
    let rig = Rig::new();
    let mut client = rig.connect();
    for (method, target, status) in [
        ("GET", "/nothing", 404),
        ("GET", "/page/", 404),
        ("GET", "/page/../page.rs", 404),
        ("GET", "/page/stream/", 404),
        ("GET", "/page/records.js", 303),
        ("POST", "/me", 405),
        ("DELETE", "/", 405),
        ("OPTIONS", "/listen", 405),
        ("HEAD", "/speak", 405),
        ("GET", "/speak", 426),
        ("POST", "/speak", 411),
        ("GET", "/listen?from=x", 400),
    ] {
        let answer = client.request(method, target, &rig.bearer());
        assert_eq!(answer.status, status, "{method} {target}");
        if answer.field("connection") == Some("close") {
            assert!(client.is_closed());
            client = rig.connect();
        }
    }
    assert_eq!(client.request("BREW", "/", &rig.bearer()).status, 501);
    assert!(client.is_closed());
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let rig = Rig::new();
    let mut client = rig.connect();
    let one = format!("GET /me HTTP/1.1\r\nHost: a\r\n{}\r\n", rig.bearer());
    let last = format!("GET /nothing HTTP/1.1\r\nHost: a\r\nConnection: close\r\n{}\r\n", rig.bearer());
    client.send(format!("{one}{one}{last}"));
    assert_eq!([client.answer().status, client.answer().status, client.answer().status], [200, 200, 404]);
    assert!(client.is_closed());
}

#[test]
fn http_1_0_connection_is_closed_after_the_response() {
    let rig = Rig::new();
    let mut client = rig.connect();
    client.send(format!("GET /me HTTP/1.0\r\n{}\r\n", rig.bearer()));
    assert_eq!(client.answer().status, 200);
    assert!(client.is_closed());
}
