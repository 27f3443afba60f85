//! `palabre reload` with a real supervisor and real listeners: the printed lines and the exit status.

#![allow(clippy::unwrap_used, missing_docs)]

mod common;

use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::process::Output;

use common::{Process, palabre, signal, start, stderr, stdout, wait_for};
use palabre_config::{Key, Participant, certificate};
use serde_json::Value;

struct Server {
    directory: tempfile::TempDir,
    _supervisor: Process,
}

impl Server {
    /// Starts a supervisor with these participants.
    fn start(names: &[&str]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path();
        fs::create_dir_all(path.join("participants.d")).unwrap();
        fs::create_dir(path.join("tls")).unwrap();
        certificate::self_signed(&["localhost".into()]).unwrap().write(&path.join("tls")).unwrap();
        names.iter().for_each(|name| write(path, name, 0));
        fs::write(path.join("palabre.toml"), "bind = \"127.0.0.1\"\n").unwrap();
        let server = Self { _supervisor: start(path), directory };
        wait_for("the listeners", || {
            let status = server.palabre(&["status", "--json"]);
            let ready = String::from_utf8_lossy(&status.stdout).matches("\"state\": \"ready\"").count();
            (status.status.success() && ready == names.len()).then_some(())
        });
        server
    }

    fn path(&self) -> &Path {
        self.directory.path()
    }

    fn palabre(&self, arguments: &[&str]) -> Output {
        let run = self.path().join("run");
        palabre().arg("--config").arg(self.path()).arg("--run").arg(run).args(arguments).output().unwrap()
    }

    fn set(&self, text: &str) {
        fs::write(self.path().join("palabre.toml"), format!("bind = \"127.0.0.1\"\n{text}")).unwrap();
    }
}

fn write(directory: &Path, name: &str, port: u16) {
    Participant::new(name.parse().unwrap(), port, Key::generate().unwrap().hash()).write(directory).unwrap();
}

#[test]
fn reload_waits_and_says_what_became_of_each_listener() {
    let server = Server::start(&["alice", "bob"]);
    assert_eq!(
        stdout(&server.palabre(&["reload", "--dry-run"])),
        "a reload would start, stop or replace no listener\n"
    );
    let unchanged = "nothing has changed: no listener was started, stopped or replaced\n";
    assert_eq!(stdout(&server.palabre(&["reload"])), unchanged);
    write(server.path(), "carol", 0);
    write(server.path(), "alice", 0);
    Participant::remove(server.path(), &"bob".parse().unwrap()).unwrap();
    let planned = stdout(&server.palabre(&["reload", "--dry-run"]));
    let expected = "carol: the listener would be started\nbob: the listener would be stopped\nalice: the listener would be replaced\n";
    assert_eq!(planned, expected);
    let lines = stdout(&server.palabre(&["reload"]));
    assert!(lines.contains("carol: the listener was started and serves port "), "{lines}");
    assert!(lines.contains("alice: the listener was replaced and serves port "), "{lines}");
    assert!(lines.contains("bob: the listener was stopped\n"), "{lines}");
    certificate::self_signed(&["localhost".into()]).unwrap().write(&server.path().join("tls")).unwrap();
    assert_eq!(stdout(&server.palabre(&["reload"])), "listeners that use the new certificate: 2\n");
}

#[test]
fn reload_prints_its_changes_as_json() {
    let server = Server::start(&["alice", "bob"]);
    let json = |arguments: &[&str], code: i32| -> Value {
        let output = server.palabre(arguments);
        assert_eq!(output.status.code(), Some(code), "{output:?}");
        serde_json::from_slice(&output.stdout).unwrap()
    };
    let nothing = serde_json::json!({
        "dry_run": true, "started": [], "stopped": [], "replaced": [], "gains": [], "certificate": false, "failed": [], "errors": [],
    });
    assert_eq!(json(&["reload", "--dry-run", "--json"], 0), nothing);
    let file = Participant::path(server.path(), &"bob".parse().unwrap());
    let text = fs::read_to_string(&file).unwrap();
    fs::write(&file, format!("muted = true\n{text}")).unwrap();
    assert_eq!(stdout(&server.palabre(&["reload", "--dry-run"])), "bob: the gain would change\n");
    assert_eq!(json(&["reload", "--json"], 0)["gains"], serde_json::json!(["bob"]));
    fs::write(&file, &text).unwrap();
    assert_eq!(stdout(&server.palabre(&["reload"])), "bob: the gain was changed\n");
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    write(server.path(), "carol", socket.local_addr().unwrap().port());
    fs::write(file, "port = no\n").unwrap();
    let failed = json(&["reload", "--json"], 1);
    assert_eq!((&failed["started"], &failed["failed"][0]["name"]), (&serde_json::json!(["carol"]), &"carol".into()));
    assert!(failed["errors"][0].as_str().unwrap().contains("bob.toml"), "{failed}");
}

#[test]
fn command_with_several_names_acts_on_each_and_fails_if_one_fails() {
    let server = Server::start(&["alice", "bob"]);
    for (arguments, done, failed) in [
        (&["stop", "alice", "zoe", "bob", "alice"][..], ["alice: stopped", "bob: stopped"], "unable to stop 'zoe': "),
        (
            &["start", "zoe", "alice", "bob"],
            ["alice: the listener is ready", "bob: the listener is ready"],
            "unable to start 'zoe': ",
        ),
        (
            &["restart", "zoe", "alice", "bob"],
            ["alice: a new listener", "bob: a new listener"],
            "unable to restart 'zoe': ",
        ),
        (
            &["kick", "zoe", "alice", "bob"],
            ["alice: all connections", "bob: all connections"],
            "unable to kick 'zoe': ",
        ),
        (&["mute", "alice", "zoe", "bob"], ["alice: muted", "bob: muted"], "unable to mute 'zoe': "),
        (
            &["unmute", "alice", "zoe", "bob"],
            ["alice: no longer muted", "bob: no longer muted"],
            "unable to unmute 'zoe': ",
        ),
        (
            &["gain", "alice", "bob", "zoe", "-6"],
            ["alice: the gain is now -6 dB", "bob: the gain is now"],
            "the gain of 'zoe': ",
        ),
        (
            &["move", "zoe", "alice", "bob", "den"],
            ["alice: moved to room 'den'", "bob: moved"],
            "unable to move 'zoe': ",
        ),
        (
            &["revoke", "alice", "zoe", "bob"],
            ["alice had port 0 in room 'den'", "bob had port"],
            "unable to revoke 'zoe': ",
        ),
    ] {
        let output = server.palabre(arguments);
        let printed = String::from_utf8_lossy(&output.stdout);
        assert!(done.iter().all(|line| printed.matches(line).count() == 1), "{arguments:?}: {output:?}");
        let errors = stderr(&output, 1);
        assert!(
            errors.contains(failed) && errors.ends_with("\npalabre: 1 of 3 failed: zoe\n"),
            "{arguments:?}: {errors}"
        );
    }
}

#[test]
fn reload_fails_with_the_reason_and_the_listeners_serve_as_before() {
    let server = Server::start(&["alice", "bob"]);
    let status = || -> Value { serde_json::from_slice(&server.palabre(&["status", "--json"]).stdout).unwrap() };
    let pids = || status()["participants"].as_array().unwrap().iter().map(|one| one["pid"].clone()).collect::<Vec<_>>();
    let old = pids();
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = socket.local_addr().unwrap().port();
    let foreign = certificate::self_signed(&["localhost".into()]).unwrap().key_pem;
    fs::write(server.path().join("tls/foreign.pem"), foreign).unwrap();
    for (settings, says) in [
        ("certificate = \"tls/missing.pem\"\n", "No such file or directory"),
        ("private-key = \"tls/foreign.pem\"\n", "unable to use certificate '"),
    ] {
        server.set(settings);
        // End the signer, which would keep the previous certificate, so that listeners could start with it. The next signer has no certificate.
        let signer = || status()["signer"]["pid"].as_u64();
        let old_signer = signer().unwrap();
        signal(u32::try_from(old_signer).unwrap(), "KILL");
        wait_for("another signer", || signer().filter(|pid| *pid != old_signer));
        for arguments in [&["reload", "--dry-run"][..], &["reload"]] {
            let why = stderr(&server.palabre(arguments), 1);
            assert!(why.contains(says) || (arguments.len() > 1 && why.contains("unable to ")), "{why}");
        }
        assert_eq!(pids(), old);
    }
    server.set("");
    stdout(&server.palabre(&["reload"]));
    fs::write(server.path().join("palabre.toml"), "bind = \"192.0.2.1\"\n").unwrap();
    assert!(stderr(&server.palabre(&["reload"]), 1).contains("unable to open ports on '192.0.2.1'"));
    server.set("");
    write(server.path(), "alice", port);
    let why = stderr(&server.palabre(&["reload"]), 1);
    assert!(why.contains(&format!("unable to move 'alice': unable to open port {port}")), "{why}");
    write(server.path(), "alice", 0);
    write(server.path(), "carol", port);
    let why = stderr(&server.palabre(&["reload"]), 1);
    assert!(why.contains(&format!("the listener of 'carol' doesn't serve: unable to open port {port}")), "{why}");
    drop(socket);
    stdout(&server.palabre(&["reload"]));
    server.set("hots = 1\n");
    assert!(stderr(&server.palabre(&["reload"]), 78).contains("unknown field `hots`"));
}

#[test]
fn mute_that_does_not_reach_the_mixer_is_an_error() {
    let server = Server::start(&["alice"]);
    let gain = server.path().join("run/rooms/main/alice/gain");
    // Make writing the file `gain` fail, as on a full file system: put a directory at its path, which a file can't replace.
    fs::create_dir(&gain).unwrap();
    for command in [&["mute", "alice"][..], &["gain", "alice", "6"]] {
        let error = stderr(&server.palabre(command), 111);
        assert!(error.contains("unable to write '") && error.contains("alice/gain': "), "{error}");
    }
    assert!(stderr(&server.palabre(&["reload"]), 1).contains("alice/gain': "));
    fs::remove_dir(&gain).unwrap();
    stdout(&server.palabre(&["mute", "alice"]));
    assert_eq!(fs::read_to_string(&gain).unwrap(), "mute\n");
}

#[test]
fn command_whose_change_has_no_effect_fails() {
    let server = Server::start(&["alice", "bob"]);
    fs::write(server.path().join("run/rooms/attic"), "").unwrap();
    let moved = server.palabre(&["move", "alice", "attic"]);
    let why = stderr(&moved, 1);
    assert!(why.contains("unable to move 'alice'") && why.contains("has no effect yet"), "{why}");
    assert!(moved.stdout.is_empty(), "nothing claims that she was moved");

    // The operator names the configuration of another supervisor.
    let other = Server::start(&["bob"]);
    let run = server.path().join("run");
    let revoked =
        palabre().arg("--config").arg(other.path()).arg("--run").arg(&run).args(["revoke", "bob"]).output().unwrap();
    let why = stderr(&revoked, 1);
    assert!(why.contains("unable to end the listener of 'bob'") && why.contains("the link may still work"), "{why}");
    assert!(!String::from_utf8(revoked.stdout).unwrap().contains("invalid now"));
    stdout(&server.palabre(&["revoke", "bob"]));
}
