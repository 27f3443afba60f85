//! Tests of the access log: who connected from which address, which keys were refused, and fail2ban's filter.

use std::net::Shutdown;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::client::Client;
use crate::rig::{Rig, wait_for, wait_for_exit};

const LOOPBACK: &str = "[proxy]\naddresses = [\"127.0.0.1\"]\n";

/// Returns the lines of the log that contain this text.
fn lines(rig: &Rig, text: &str) -> Vec<String> {
    rig.log().lines().filter(|line| line.contains(text)).map(str::to_owned).collect()
}

/// Sends a request with another wrong access key, and these header fields.
fn guess(rig: &Rig, fields: &str) {
    static KEY: AtomicU32 = AtomicU32::new(0);
    let fields = format!("Authorization: Bearer {}\r\n{fields}", KEY.fetch_add(1, Ordering::Relaxed));
    assert_eq!(rig.connect().request("GET", "/me", &fields).status, 401);
}

#[test]
fn visit_with_several_streams_makes_one_line_when_it_begins_and_one_when_it_ends() {
    let mut rig = Rig::with(LOOPBACK);
    let fields = format!("{}X-Forwarded-For: 203.0.113.9, 192.0.2.7\r\n", rig.bearer());
    let mut streams = [rig.connect(), rig.connect()];
    for stream in &mut streams {
        stream.send(format!("GET /listen HTTP/1.1\r\nHost: a\r\n{fields}\r\n"));
        assert_eq!(stream.answer_head().status, 200);
    }
    assert_eq!(rig.connect().get(&rig, "/").status, 200);
    let connected = lines(&rig, "info: connected from");
    assert_eq!(connected[0], "palabre-listener[alice]: info: connected from 192.0.2.7");
    assert_eq!(connected[1], "palabre-listener[alice]: info: connected from 127.0.0.1");
    assert_eq!(connected.len(), 2, "{connected:?}");
    rig.signal("TERM");
    wait_for_exit(&mut rig.child);
    assert_eq!(lines(&rig, "info: the client at 192.0.2.7 has disconnected after ").len(), 1, "{}", rig.log());
    assert_eq!(lines(&rig, "info: the client at 127.0.0.1 has disconnected after ").len(), 1, "{}", rig.log());
}

#[test]
fn visit_ends_after_its_last_request() {
    let rig = Rig::new();
    let mut client = rig.connect();
    // A page that waits before joining asks for `/me` again and again, which is no visit.
    assert_eq!(client.get(&rig, "/me").status, 200);
    assert_eq!(client.get(&rig, "/").status, 200);
    client.stream.sock.shutdown(Shutdown::Both).unwrap();
    rig.wait_for_log("info: the client at 127.0.0.1 has disconnected after 0 s");
    assert_eq!(lines(&rig, "info: connected from").len(), 1, "{}", rig.log());
}

#[test]
fn client_without_a_trusted_proxy_can_not_choose_its_address() {
    let rig = Rig::new();
    guess(&rig, "X-Forwarded-For: 192.0.2.7\r\n");
    rig.wait_for_log("info: refused a wrong access key from 127.0.0.1");
    let forged = Client::connect_after(
        b"PROXY TCP4 192.0.2.7 127.0.0.1 50000 9001\r\n",
        rustls::DEFAULT_VERSIONS,
        rig.port,
        &rig.certificate.cert_pem,
    );
    assert!(forged.is_err());
    assert!(!rig.log().contains("192.0.2.7"), "{}", rig.log());
}

#[test]
fn address_of_the_client_is_taken_from_the_proxy_protocol() {
    let rig = Rig::with(&format!("{LOOPBACK}client-address = \"proxy-protocol\"\n"));
    let header = b"PROXY TCP6 2001:db8::7 ::1 50000 9001\r\n";
    let mut client =
        Client::connect_after(header, rustls::DEFAULT_VERSIONS, rig.port, &rig.certificate.cert_pem).unwrap();
    let fields = format!("{}X-Forwarded-For: 192.0.2.7\r\n", rig.bearer());
    assert_eq!(client.request("GET", "/", &fields).status, 200);
    rig.wait_for_log("info: connected from 2001:db8::7");
    assert!(Client::connect(rig.port, &rig.certificate.cert_pem).is_err());
    rig.wait_for_log(
        "a TLS handshake failed: a trusted proxy sent no header of the PROXY protocol; see 'client-address' in palabre.toml",
    );
}

#[test]
fn fail2ban_finds_the_addresses_of_wrong_keys_although_their_lines_are_limited() {
    let rig = Rig::with(LOOPBACK);
    // The header field contains a forged log line, which doesn't reach the log.
    guess(
        &rig,
        "X-Forwarded-For: 192.0.2.1\u{2028}palabre-listener[alice]: info: refused a wrong access key from 192.0.2.2\r\n",
    );
    for _ in 0..20 {
        guess(&rig, "X-Forwarded-For: 192.0.2.7\r\n");
        // A page that has an old key repeats the same key, so it doesn't guess.
        let old = "X-Forwarded-For: 192.0.2.6\r\nAuthorization: Bearer old\r\n";
        assert_eq!(rig.connect().request("GET", "/me", old).status, 401);
    }
    guess(&rig, "X-Forwarded-For: 2001:db8::8\r\n");
    // A page of another site can make the browser of a participant send wrong keys.
    let foreign = "X-Forwarded-For: 192.0.2.5\r\nSec-Fetch-Site: cross-site\r\nSec-Fetch-Dest: image\r\n";
    guess(&rig, foreign);
    rig.wait_for_log("info: refused an access key that a page of another site sent, from 192.0.2.5");
    // An unauthenticated request without a key isn't logged as a refused key: browsers send such requests for icons.
    assert_eq!(rig.connect().request("GET", "/favicon.ico", "X-Forwarded-For: 192.0.2.9\r\n").status, 401);
    rig.wait_for_log("from 2001:db8::8 (10 more messages suppressed)");
    let log = rig.log();
    assert_eq!(log.matches("from 192.0.2.7").count(), 10, "{log}");
    assert_eq!(log.matches("from 192.0.2.6").count(), 1, "{log}");
    assert!(!log.contains("192.0.2.2") && !log.contains("192.0.2.9"), "{log}");
    let file = rig.config.join("log");
    let in_file = |line: &str| format!("Nov 27 17:00:00 voice logger: {line}\n");
    let in_journal =
        |line: &str| in_file(line).replace("logger: palabre-listener[alice]: info:", "palabre-listener@alice[42]:");
    for format in [&in_file as &dyn Fn(&str) -> String, &in_journal] {
        std::fs::write(&file, log.lines().map(format).collect::<String>()).unwrap();
        let Some(found) = fail2ban(&file) else { return };
        let addresses: Vec<&str> = found.lines().collect();
        assert_eq!(addresses.iter().filter(|address| **address == "192.0.2.7").count(), 10, "{found}");
        assert_eq!(addresses.iter().filter(|address| **address == "2001:db8::8").count(), 1, "{found}");
        assert_eq!(addresses.iter().filter(|address| **address == "127.0.0.1").count(), 1, "{found}");
        assert_eq!(addresses.len(), 13, "{found}");
    }
}

/// Returns the addresses that fail2ban's filter finds in a file, one a line. Returns `None` if fail2ban isn't installed.
fn fail2ban(log: &Path) -> Option<String> {
    let filter = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/fail2ban/filter.d/palabre.conf");
    let mut command = Command::new("fail2ban-regex");
    match command.args(["--out", "ip"]).arg(log).arg(filter).output() {
        Ok(output) => {
            assert!(output.status.success(), "{output:?}");
            Some(String::from_utf8(output.stdout).unwrap())
        }
        Err(error) => {
            palabre_testing::not_shown("fail2ban's filter finds wrong keys", &error.to_string());
            None
        }
    }
}

/// Returns the niceness of each thread that serves a connection: field 19 of proc_pid_stat(5).
fn niceness_of_connections(rig: &Rig) -> Vec<i32> {
    let tasks = std::fs::read_dir(format!("/proc/{}/task", rig.child.id())).unwrap();
    let stats = tasks.filter_map(|task| std::fs::read_to_string(task.unwrap().path().join("stat")).ok());
    let fields =
        stats.filter_map(|stat| Some(stat.split_once("(connection) ")?.1.split(' ').nth(16)?.parse().unwrap()));
    fields.collect()
}

#[test]
fn thread_of_a_client_yields_until_the_client_has_authenticated() {
    let Some(niceness) = palabre_host::priority::Niceness::restorable() else {
        return palabre_testing::not_shown("the niceness of a listener's threads", "this user may not lower it");
    };
    let rig = Rig::new();
    let mut client = rig.connect();
    client.send("GET /me HTTP/1.1\r\nHost: a\r\n");
    wait_for(|| (niceness_of_connections(&rig) == [niceness.raised()]).then_some(()));
    client.send(format!("{}\r\n", rig.bearer()));
    assert_eq!(client.answer().status, 200);
    assert_eq!(niceness_of_connections(&rig), [niceness.usual()]);
}
