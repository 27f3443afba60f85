//! Commands that edit participants' files, without a supervisor.
#![allow(clippy::unwrap_used, missing_docs)]

mod common;
mod lists;
mod moving;
mod ports;

use std::fs::{self, Permissions};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Command, Output};
use std::sync::atomic::{AtomicU16, Ordering};

use common::{palabre, stderr, stdout};
use palabre_config::{PARTICIPANTS_DIR, Participant};
use palabre_testing::not_shown;

/// First port for the next test. The ports are below the kernel's range of client ports, so that no client connection uses them.
static PORTS: AtomicU16 = AtomicU16::new(21_000);

/// A directory with a minimal configuration and its own range of ports.
struct TestConfig {
    directory: tempfile::TempDir,
    first_port: u16,
}

impl TestConfig {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let first_port = PORTS.fetch_add(100, Ordering::Relaxed);
        let text =
            format!("host = \"voice.example\"\nbind = \"127.0.0.1\"\nports = \"{first_port}-{}\"\n", first_port + 99);
        fs::write(directory.path().join("palabre.toml"), text).unwrap();
        Self { directory, first_port }
    }

    fn palabre(&self, arguments: &[&str]) -> Output {
        let directory = self.directory.path();
        let run = directory.join("run");
        palabre().arg("--config").arg(directory).arg("--run").arg(run).args(arguments).output().unwrap()
    }

    fn file(&self, name: &str) -> PathBuf {
        Participant::path(self.directory.path(), &name.parse().unwrap())
    }

    fn load(&self, name: &str) -> Participant {
        Participant::load(self.directory.path(), &name.parse().unwrap()).unwrap()
    }
}

/// Returns the access key in an invitation link.
fn key(link: &str) -> &str {
    link.trim().split_once("?key=").unwrap().1
}

#[test]
fn invite_writes_a_file_and_prints_a_matching_link() {
    let config = TestConfig::new();
    let output = config.palabre(&["invite", "alice", "--display-name", "Zoë ✓", "--room", "den"]);
    let link = stdout(&output);
    let alice = config.load("alice");
    assert!(link.starts_with(&format!("https://voice.example:{}/?key=", alice.port)), "{link}");
    assert_eq!(link.lines().count(), 1, "no QR code without a terminal");
    assert!(alice.key_sha256.matches(key(&link)));
    assert_eq!((alice.display(), alice.room.as_str()), ("Zoë ✓", "den"));
    assert_eq!(fs::metadata(config.file("alice")).unwrap().permissions().mode() & 0o777, 0o640);
    let printed = String::from_utf8(output.stderr).unwrap();
    assert!(printed.contains("no supervisor runs"), "{printed}");
    assert!(!fs::read_to_string(config.file("alice")).unwrap().contains(key(&link)), "only the hash is stored");
}

#[test]
fn links_and_codes_have_the_address_of_the_template() {
    let config = TestConfig::new();
    let file = config.directory.path().join("palabre.toml");
    let before = fs::read_to_string(&file).unwrap();
    fs::write(&file, format!("link = \"https://{{name}}.voice.example/\"\n{before}")).unwrap();
    let text = stdout(&config.palabre(&["invite", "alice", "--qr"]));
    let (link, code) = text.split_once('\n').unwrap();
    assert!(link.starts_with("https://alice.voice.example/?key="), "{link}");
    assert!(config.load("alice").key_sha256.matches(key(link)));
    assert!(code.contains('█'), "{code}");
    let renewed = stdout(&config.palabre(&["invite", "alice", "--new-key"]));
    assert!(renewed.starts_with("https://alice.voice.example/?key="), "{renewed}");
    let printed = stderr(&config.palabre(&["invite", "a-"]), 1);
    assert!(printed.contains("the link 'https://a-.voice.example/' is invalid"), "{printed}");
    assert!(!config.file("a-").exists());
}

#[test]
fn invite_assigns_the_next_free_port() {
    let config = TestConfig::new();
    stdout(&config.palabre(&["invite", "alice"]));
    stdout(&config.palabre(&["invite", "bob"]));
    let (alice, bob) = (config.load("alice").port, config.load("bob").port);
    assert!(config.first_port <= alice && alice < bob);
    // If this fails, another program listens on the port, which has the same effect.
    let _other_program = TcpListener::bind(("127.0.0.1", bob + 1));
    stdout(&config.palabre(&["invite", "carol"]));
    assert!(config.load("carol").port > bob + 1);
    let refused = stderr(&config.palabre(&["invite", "dave", "--port", &(bob + 1).to_string()]), 1);
    assert!(refused.contains("another program listens"), "{refused}");
}

#[test]
fn invalid_invitation_writes_nothing() {
    let config = TestConfig::new();
    stdout(&config.palabre(&["invite", "alice"]));
    let port = config.load("alice").port.to_string();
    for (arguments, code, why) in [
        (&["invite", "alice"][..], 1, "--new-key"),
        (&["invite", "bob", "--port", &port], 1, "is used by participant 'alice'"),
        (&["invite", "bob", "--port", "80"], 1, "is not in"),
        (&["invite", "bob", "--display-name", "a\tb"], 1, "display name"),
        (&["invite", "bob", "--display-name", ""], 1, "display name"),
        (&["invite", "bob", "--port", "0"], 2, "--port"),
        (&["invite", "Bob"], 2, "is not a valid name"),
        (&["invite", "../bob"], 2, "is not a valid name"),
        (&["invite", "bob", "--room", "../etc"], 2, "is not a valid name"),
        (&["invite", "bob", "--new-key"], 1, "no such participant"),
        (&["invite", "bob", "--expires", "2026-01-01T00:00:00Z"], 2, "has passed; use a time in the future"),
        (&["invite", "bob", "--expires", "0d"], 2, "has passed; use a time in the future"),
        (&["invite", "recording"], 2, "a file in a room's directory has this name"),
        (&["invite", "bob", "--room", "names"], 2, "a file in a room's directory has this name"),
    ] {
        let printed = stderr(&config.palabre(arguments), code);
        assert!(printed.contains(why), "{arguments:?}: {printed}");
        assert_eq!(fs::read_dir(config.file("alice").parent().unwrap()).unwrap().count(), 1, "{arguments:?}");
    }
    fs::write(config.directory.path().join("palabre.toml"), "hots = 1\n").unwrap();
    let printed = stderr(&config.palabre(&["invite", "bob"]), 78);
    assert!(printed.contains("palabre.toml', line 1"), "{printed}");
}

#[test]
fn invitation_is_printed_as_json() {
    let config = TestConfig::new();
    let all: serde_json::Value =
        serde_json::from_str(&stdout(&config.palabre(&["invite", "alice", "--json"]))).unwrap();
    let alice = config.load("alice");
    let link = all["participants"][0]["link"].as_str().unwrap().to_owned();
    assert!(alice.key_sha256.matches(key(&link)));
    let expected = serde_json::json!({
        "name": "alice", "outcome": "invited", "display": "alice", "room": "main", "port": alice.port, "listen_only": false,
        "key_expires": null, "key_once": false, "link": link, "error": null,
    });
    assert_eq!(all["participants"], serde_json::json!([expected]));
    let again = stdout(&config.palabre(&["invite", "alice", "--new-key", "--json"]));
    assert!(again.contains("\"outcome\": \"renewed\""), "{again}");
}

#[test]
fn new_key_changes_only_the_key() {
    let config = TestConfig::new();
    let old = stdout(&config.palabre(&["invite", "alice", "--display-name", "Alice"]));
    let before = config.load("alice");
    let output = config.palabre(&["invite", "alice", "--new-key"]);
    let printed = String::from_utf8_lossy(&output.stderr);
    assert!(printed.contains("changed the access key of 'alice': room 'main'"), "{printed}");
    let new = stdout(&output);
    let after = config.load("alice");
    assert!(!after.key_sha256.matches(key(&old)));
    assert!(after.key_sha256.matches(key(&new)));
    assert_eq!(Participant { key_sha256: before.key_sha256, ..after }, before);
}

#[test]
fn new_key_is_added_to_a_file_without_one() {
    let config = TestConfig::new();
    stdout(&config.palabre(&["invite", "alice", "--display-name", "Alice", "--room", "den"]));
    let before = config.load("alice");
    let text = fs::read_to_string(config.file("alice")).unwrap();
    let without: String =
        text.lines().filter(|line| !line.starts_with("key-sha256")).map(|l| format!("{l}\n")).collect();
    assert_ne!(without, text);
    fs::write(config.file("alice"), without).unwrap();
    let link = stdout(&config.palabre(&["invite", "alice", "--new-key"]));
    let after = config.load("alice");
    assert!(after.key_sha256.matches(key(&link)));
    assert_eq!(Participant { key_sha256: before.key_sha256, ..after }, before);
}

#[test]
fn revoked_participant_can_get_the_same_port_again() {
    let config = TestConfig::new();
    stdout(&config.palabre(&["invite", "alice"]));
    let port = config.load("alice").port;
    let printed = stdout(&config.palabre(&["revoke", "alice"]));
    assert!(!config.file("alice").exists());
    let again = format!("palabre invite alice --port {port}");
    assert!(printed.contains(&again), "{printed}");
    stdout(&config.palabre(&again.split(' ').skip(1).collect::<Vec<_>>()));
    assert_eq!(config.load("alice").port, port);
    let printed = stderr(&config.palabre(&["revoke", "zoe"]), 1);
    assert!(printed.contains("unable to revoke 'zoe'"), "{printed}");
}

#[test]
fn revoke_prints_as_json_what_was_removed_and_why_the_rest_failed() {
    let config = TestConfig::new();
    stdout(&config.palabre(&["invite", "alice", "--room", "den"]));
    let port = config.load("alice").port;
    let output = config.palabre(&["revoke", "--json", "alice", "zoe"]);
    assert_eq!(output.status.code(), Some(1));
    let all: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let again = format!("palabre invite alice --port {port} --room den");
    let alice = serde_json::json!({
        "name": "alice", "removed": true, "port": port, "room": "den", "again": again, "error": null,
    });
    assert_eq!(all["participants"][0], alice);
    let why = all["participants"][1]["error"].as_str().unwrap();
    assert!(why.starts_with("unable to revoke 'zoe'") && !all["participants"][1]["removed"].as_bool().unwrap());
    assert!(String::from_utf8(output.stderr).unwrap().contains(why));
}

#[test]
fn command_changes_one_setting_and_keeps_comments() {
    let config = TestConfig::new();
    stdout(&config.palabre(&["invite", "alice"]));
    let text = format!("# extension 42\n{}", fs::read_to_string(config.file("alice")).unwrap());
    fs::write(config.file("alice"), text).unwrap();
    let before = config.load("alice");
    let printed = stdout(&config.palabre(&["rename", "alice", "Zoë <b>"]));
    assert!(printed.contains("the login name, the port and the link stay"), "{printed}");
    for arguments in [&["mute", "alice"][..], &["gain", "alice", "-6.1"], &["move", "alice", "den"]] {
        stdout(&config.palabre(arguments));
    }
    let after = config.load("alice");
    let expected = Participant {
        display_name: Some("Zoë <b>".into()),
        muted: true,
        gain_db: Some(-6.1),
        room: "den".parse().unwrap(),
        ..before
    };
    assert_eq!(after, expected);
    stdout(&config.palabre(&["unmute", "alice"]));
    assert_eq!(config.load("alice"), Participant { muted: false, ..expected });
    let text = fs::read_to_string(config.file("alice")).unwrap();
    assert!(text.starts_with("# extension 42\n"), "{text}");
}

#[test]
fn suspended_participant_keeps_everything_and_the_port_is_not_given_away() {
    let config = TestConfig::new();
    stdout(&config.palabre(&["invite", "alice", "--room", "den", "--expires", "30d"]));
    let before = config.load("alice");
    let printed = stdout(&config.palabre(&["suspend", "alice"]));
    assert_eq!(printed, "alice: suspended; 'palabre resume alice' lifts the suspension\n");
    assert_eq!(config.load("alice"), Participant { suspended: true, ..before.clone() });
    stdout(&config.palabre(&["invite", "bob"]));
    assert_ne!(config.load("bob").port, before.port);
    assert!(stdout(&config.palabre(&["list", "--json"])).contains("\"suspended\": true"));
    assert_eq!(stdout(&config.palabre(&["resume", "alice"])), "alice: no longer suspended\n");
    assert_eq!(config.load("alice"), before);
}

#[test]
fn sign_out_changes_only_the_time_of_the_sign_out() {
    let config = TestConfig::new();
    stdout(&config.palabre(&["invite", "alice"]));
    let before = config.load("alice");
    let printed = stdout(&config.palabre(&["sign-out", "alice"]));
    assert_eq!(printed, "alice: all browsers are signed out; each must open the link again\n");
    let after = config.load("alice");
    assert!(after.signed_out.is_some_and(|at| at.has_passed(std::time::SystemTime::now())));
    assert_eq!(Participant { signed_out: None, ..after }, before);
}

#[test]
fn expiry_and_listen_only_are_changed_without_a_new_key() {
    let config = TestConfig::new();
    stdout(&config.palabre(&["invite", "alice"]));
    let before = config.load("alice");
    let printed = stdout(&config.palabre(&["change", "alice", "--listen-only", "--expires", "2999-12-31T18:00:00Z"]));
    assert_eq!(printed, "alice: the link expires on 2999-12-31T18:00:00Z; the participant only listens\n");
    let expected =
        Participant { listen_only: true, key_expires: "2999-12-31T18:00:00Z".parse().ok(), ..before.clone() };
    assert_eq!(config.load("alice"), expected);
    stdout(&config.palabre(&["change", "alice", "--no-listen-only", "--expires", "never"]));
    assert_eq!(config.load("alice"), before);
    for (arguments, why) in [
        (&["change", "alice"][..], "--expires"),
        (&["change", "alice", "--expires", "0d"], "has passed; use a time in the future"),
        (&["change", "alice", "--listen-only", "--no-listen-only"], "cannot be used with"),
    ] {
        assert!(stderr(&config.palabre(arguments), 2).contains(why), "{arguments:?}");
    }
    assert_eq!(config.load("alice"), before);
}

#[test]
fn invalid_change_writes_nothing() {
    let config = TestConfig::new();
    stdout(&config.palabre(&["invite", "alice"]));
    let before = fs::read_to_string(config.file("alice")).unwrap();
    for (arguments, code, why) in [
        (&["mute", "zoe"][..], 1, "unable to mute 'zoe': no such participant; see 'palabre list'"),
        (&["rename", "alice", "a\tb"], 1, "a display name has 1 to 64 characters"),
        (&["gain", "alice", "21"], 2, "from -60 to 20"),
        (&["gain", "alice", "mute"], 2, "a gain is a number of decibels"),
        (&["move", "alice", "../etc"], 2, "is not a valid name"),
        (&["invite", "bob", "--expires", "tomorrow"], 2, "use 30min, 12h, 7d, 2w"),
    ] {
        let printed = stderr(&config.palabre(arguments), code);
        assert!(printed.contains(why), "{arguments:?}: {printed}");
        assert_eq!(fs::read_to_string(config.file("alice")).unwrap(), before);
    }
    fs::write(config.file("alice"), "port = 1\nprot = 2\n").unwrap();
    let printed = stderr(&config.palabre(&["mute", "alice"]), 78);
    assert!(printed.contains("alice.toml', line 2: unknown field `prot`"), "{printed}");
}

#[test]
fn link_can_expire_and_be_listen_only() {
    let config = TestConfig::new();
    stdout(&config.palabre(&["invite", "guest", "--expires", "2999-12-31T18:00:00Z", "--listen-only"]));
    let guest = config.load("guest");
    assert_eq!(guest.key_expires.unwrap().to_string(), "2999-12-31T18:00:00Z");
    assert!(guest.listen_only);
    stdout(&config.palabre(&["invite", "guest", "--new-key", "--expires", "2w"]));
    assert!(config.load("guest").key_expires < guest.key_expires);
    let before = config.load("guest");
    let printed = config.palabre(&["invite", "guest", "--new-key", "--once"]);
    assert!(String::from_utf8_lossy(&printed.stderr).contains("it expires on "), "{printed:?}");
    let printed = config.palabre(&["invite", "guest", "--new-key"]);
    assert!(
        String::from_utf8_lossy(&printed.stderr).contains("the link works in one browser, the first in which"),
        "{printed:?}"
    );
    let after = config.load("guest");
    assert_eq!(after.key_expires, before.key_expires);
    assert!(after.key_once && after.listen_only);
    stdout(&config.palabre(&["invite", "guest", "--new-key", "--expires", "never"]));
    assert_eq!((config.load("guest").key_expires, config.load("guest").key_once), (None, true));
}

#[test]
fn new_key_that_would_have_expired_is_refused() {
    let config = TestConfig::new();
    stdout(&config.palabre(&["invite", "alice", "--expires", "2d"]));
    let mut alice = config.load("alice");
    alice.key_expires = Some("2026-01-01T00:00:00Z".parse().unwrap());
    alice.write(config.directory.path()).unwrap();
    let printed = stderr(&config.palabre(&["invite", "alice", "--new-key"]), 1);
    assert!(printed.contains("has passed; use '--expires WHEN', or '--expires never'"), "{printed}");
    assert_eq!(config.load("alice"), alice);
    stdout(&config.palabre(&["invite", "alice", "--new-key", "--expires", "30d"]));
}

#[test]
fn list_that_may_not_be_read_is_an_error() {
    let config = TestConfig::new();
    stdout(&config.palabre(&["invite", "alice"]));
    fs::create_dir_all(config.directory.path().join("run/rooms")).unwrap();
    let mode = |path: &str, mode: u32| {
        fs::set_permissions(config.directory.path().join(path), Permissions::from_mode(mode)).unwrap();
    };
    let other = |command: &str| {
        let directory = config.directory.path();
        let mut it = palabre();
        it.arg("--config").arg(directory).arg("--run").arg(directory.join("run")).arg(command);
        it.uid(54_321).gid(54_321).output()
    };
    let (roster, rooms) = (PARTICIPANTS_DIR.to_owned(), "run/rooms");
    for (closed, commands) in [("", &["list", "rooms"][..]), (&roster, &["list", "rooms"]), (rooms, &["rooms"])] {
        ["", &roster, &format!("{roster}/alice.toml"), "run", rooms].iter().for_each(|path| mode(path, 0o755));
        mode(closed, 0o750);
        for command in commands {
            let Ok(output) = other(command) else {
                return not_shown("lists that a user may not read", "this user can't run a program as another user");
            };
            assert!(output.stdout.is_empty(), "{command}, {closed}: {output:?}");
            let printed = stderr(&output, 111);
            assert!(printed.contains("Permission denied") && printed.contains("with sudo"), "{printed}");
        }
    }
    let nowhere = palabre().args(["--config", "/nowhere/palabre", "list"]).output().unwrap();
    assert!(stderr(&nowhere, 111).contains("unable to read '/nowhere/palabre'"));
}

#[test]
fn fifo_among_the_participants_is_an_error_and_no_wait() {
    let config = TestConfig::new();
    stdout(&config.palabre(&["invite", "alice"]));
    assert!(Command::new("mkfifo").arg(config.file("bob")).status().unwrap().success());
    let printed = String::from_utf8(config.palabre(&["list"]).stderr).unwrap();
    assert!(printed.contains("bob.toml': the file is not a regular file"), "{printed}");
    let text = String::from_utf8(config.palabre(&["check"]).stdout).unwrap();
    assert!(text.contains("bob.toml': the file is not a regular file"), "{text}");
    // An invitation reads the ports of all participants, and must succeed although bob's file is a FIFO.
    stdout(&config.palabre(&["invite", "carol"]));
}

#[test]
fn participants_and_rooms_are_listed_without_a_supervisor() {
    let config = TestConfig::new();
    assert!(stdout(&config.palabre(&["list"])).contains("palabre invite"));
    assert!(stdout(&config.palabre(&["rooms"])).contains("palabre invite"));
    stdout(&config.palabre(&["invite", "alice", "--display-name", "Zoë", "--room", "den"]));
    stdout(&config.palabre(&["invite", "bob", "--expires", "2999-12-31T18:00:00Z"]));
    stdout(&config.palabre(&["mute", "alice"]));
    fs::write(config.file("carol"), "prot = 1\n").unwrap();
    let output = config.palabre(&["list"]);
    let (text, printed) = (stdout(&output), String::from_utf8(output.stderr).unwrap());
    let (alice, bob) = (config.load("alice").port, config.load("bob").port);
    let expected = format!(
        "NAME   DISPLAY NAME  ROOM  PORT   STATE  GAIN  KEY                         PAGE\n\
         alice  Zoë           den   {alice}  -      mute  -                           -\n\
         bob    bob           main  {bob}  -      0 dB  until 2999-12-31T18:00:00Z  -\n"
    );
    assert_eq!(text, expected);
    assert!(printed.contains("carol.toml', line 1"), "{printed}");
    let json = stdout(&config.palabre(&["list", "--json"]));
    for part in ["\"muted\": true", "\"key_expires\": \"2999-12-31T18:00:00Z\"", "\"state\": null", "carol.toml"] {
        assert!(json.contains(part), "{part}: {json}");
    }
    let text = stdout(&config.palabre(&["rooms"]));
    let expected = "\
ROOM  RATE  PARTICIPANTS  HERE  GUESTS  TALKING  RECORDED
den   -     1             -     -       -        no
main  -     1             -     -       -        no
";
    assert_eq!(text, expected);
    assert!(stdout(&config.palabre(&["rooms", "--json"])).contains("\"name\": \"den\""));
}

#[test]
fn qr_code_is_printed_with_the_flag() {
    let config = TestConfig::new();
    let printed = stdout(&config.palabre(&["invite", "alice", "--qr"]));
    assert!(printed.contains("▄▄▄▄▄"), "{printed}");
}

#[test]
fn output_file_replaces_no_pipe_and_no_device() {
    let config = TestConfig::new();
    stdout(&config.palabre(&["invite", "alice"]));
    let pipe = config.directory.path().join("pipe");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let at = pipe.to_str().unwrap();
    for option in ["--qr-png", "--qr-svg"] {
        let printed = stderr(&config.palabre(&["invite", "bob", option, at]), 111);
        assert!(printed.contains("the path exists and is not a regular file; give the path of a file"), "{printed}");
        assert!(std::os::unix::fs::FileTypeExt::is_fifo(&fs::symlink_metadata(&pipe).unwrap().file_type()));
    }
    assert!(!config.file("bob").exists());
}

#[test]
fn error_without_a_supervisor_names_the_socket() {
    let config = TestConfig::new();
    for arguments in [&["status"][..], &["status", "--json"], &["restart", "alice"], &["reload"]] {
        let output = config.palabre(arguments);
        assert!(output.stdout.is_empty());
        let printed = stderr(&output, 111);
        assert!(printed.starts_with("palabre: unable to reach the supervisor at '"), "{printed}");
        assert!(printed.contains("run/control.sock': ") && printed.contains("; start palabre-supervisor"), "{printed}");
    }
}

#[test]
fn concurrent_edits_are_all_kept() {
    let config = TestConfig::new();
    stdout(&config.palabre(&["invite", "alice"]));
    let edits: [&[&str]; 5] = [
        &["gain", "alice", "-6"],
        &["mute", "alice"],
        &["rename", "alice", "Zoë"],
        &["move", "alice", "den"],
        &["invite", "alice", "--new-key", "--expires", "2d"],
    ];
    let link = std::thread::scope(|scope| {
        let config = &config;
        let runs = edits.map(|edit| scope.spawn(move || stdout(&config.palabre(edit))));
        runs.map(|run| run.join().unwrap()).last().unwrap().clone()
    });
    let alice = config.load("alice");
    assert_eq!((alice.gain_db, alice.muted, alice.display(), alice.room.as_str()), (Some(-6.0), true, "Zoë", "den"));
    assert!(alice.key_expires.is_some() && alice.key_sha256.matches(key(&link)));
}

#[test]
fn concurrent_invitations_get_different_ports() {
    let config = TestConfig::new();
    let names = ["a", "b", "c", "d", "e"];
    std::thread::scope(|scope| {
        let config = &config;
        let runs = names.map(|name| scope.spawn(move || stdout(&config.palabre(&["invite", name]))));
        runs.into_iter().for_each(|run| drop(run.join().unwrap()));
    });
    let ports: std::collections::BTreeSet<u16> = names.iter().map(|name| config.load(name).port).collect();
    assert_eq!(ports.len(), names.len());
}
