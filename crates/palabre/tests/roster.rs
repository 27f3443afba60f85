//! `palabre invite` and `palabre revoke` on a configuration without a supervisor.
#![allow(clippy::unwrap_used, missing_docs)]

mod common;

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Output;
use std::sync::atomic::{AtomicU16, Ordering};

use common::{palabre, stderr, stdout};
use palabre_config::Participant;

/// Below the ports that the kernel gives to clients, so that nobody gets one of ours in the middle of a test.
static PORTS: AtomicU16 = AtomicU16::new(21_000);

/// A directory with an empty configuration, on ports of its own.
struct Desk {
    directory: tempfile::TempDir,
    first_port: u16,
}

impl Desk {
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

/// The key in a link.
fn key(link: &str) -> &str {
    link.trim().split_once("?key=").unwrap().1
}

#[test]
fn an_invitation_is_a_file_and_a_link_that_fits_it() {
    let desk = Desk::new();
    let output = desk.palabre(&["invite", "alice", "--display-name", "Zoë ✓", "--room", "den"]);
    let link = stdout(&output);
    let alice = desk.load("alice");
    assert!(link.starts_with(&format!("https://voice.example:{}/?key=", alice.port)), "{link}");
    assert_eq!(link.lines().count(), 1, "no code where standard output is no terminal");
    assert!(alice.key_sha256.matches(key(&link)));
    assert_eq!((alice.display(), alice.room.as_str()), ("Zoë ✓", "den"));
    assert_eq!(fs::metadata(desk.file("alice")).unwrap().permissions().mode() & 0o777, 0o640);
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("no supervisor runs"), "{said}");
    assert!(!fs::read_to_string(desk.file("alice")).unwrap().contains(key(&link)), "only the hash is kept");
}

#[test]
fn everybody_has_the_next_free_port() {
    let desk = Desk::new();
    stdout(&desk.palabre(&["invite", "alice"]));
    stdout(&desk.palabre(&["invite", "bob"]));
    let (alice, bob) = (desk.load("alice").port, desk.load("bob").port);
    assert!(desk.first_port <= alice && alice < bob);
    // The next port is in use: by this socket, or by another program already.
    let _socket = TcpListener::bind(("127.0.0.1", bob + 1));
    stdout(&desk.palabre(&["invite", "carol"]));
    assert!(desk.load("carol").port > bob + 1);
    let refused = stderr(&desk.palabre(&["invite", "dave", "--port", &(bob + 1).to_string()]), 1);
    assert!(refused.contains("another program listens"), "{refused}");
}

#[test]
fn nothing_is_written_when_anything_is_wrong() {
    let desk = Desk::new();
    stdout(&desk.palabre(&["invite", "alice"]));
    let port = desk.load("alice").port.to_string();
    for (arguments, code, why) in [
        (&["invite", "alice"][..], 1, "--new-key"),
        (&["invite", "bob", "--port", &port], 1, "is alice's"),
        (&["invite", "bob", "--port", "80"], 1, "is not in"),
        (&["invite", "bob", "--display-name", "a\tb"], 1, "display name"),
        (&["invite", "bob", "--display-name", ""], 1, "display name"),
        (&["invite", "bob", "--port", "0"], 2, "--port"),
        (&["invite", "Bob"], 2, "is not a name"),
        (&["invite", "../bob"], 2, "is not a name"),
        (&["invite", "bob", "--room", "../etc"], 2, "is not a name"),
        (&["invite", "bob", "--new-key"], 1, "no such participant"),
    ] {
        let said = stderr(&desk.palabre(arguments), code);
        assert!(said.contains(why), "{arguments:?}: {said}");
        assert_eq!(fs::read_dir(desk.file("alice").parent().unwrap()).unwrap().count(), 1, "{arguments:?}");
    }
    fs::write(desk.directory.path().join("palabre.toml"), "hots = 1\n").unwrap();
    let said = stderr(&desk.palabre(&["invite", "bob"]), 78);
    assert!(said.contains("palabre.toml', line 1"), "{said}");
}

#[test]
fn a_new_key_changes_the_key_alone() {
    let desk = Desk::new();
    let old = stdout(&desk.palabre(&["invite", "alice", "--display-name", "Alice"]));
    let before = desk.load("alice");
    let new = stdout(&desk.palabre(&["invite", "alice", "--new-key"]));
    let after = desk.load("alice");
    assert!(!after.key_sha256.matches(key(&old)));
    assert!(after.key_sha256.matches(key(&new)));
    assert_eq!(Participant { key_sha256: before.key_sha256, ..after }, before);
}

#[test]
fn a_new_key_mends_a_file_that_has_none() {
    let desk = Desk::new();
    stdout(&desk.palabre(&["invite", "alice", "--display-name", "Alice", "--room", "den"]));
    let before = desk.load("alice");
    let text = fs::read_to_string(desk.file("alice")).unwrap();
    let without: String =
        text.lines().filter(|line| !line.starts_with("key-sha256")).map(|l| format!("{l}\n")).collect();
    assert_ne!(without, text);
    fs::write(desk.file("alice"), without).unwrap();
    let link = stdout(&desk.palabre(&["invite", "alice", "--new-key"]));
    let after = desk.load("alice");
    assert!(after.key_sha256.matches(key(&link)));
    assert_eq!(Participant { key_sha256: before.key_sha256, ..after }, before);
}

#[test]
fn who_is_revoked_can_have_the_same_port_again() {
    let desk = Desk::new();
    stdout(&desk.palabre(&["invite", "alice"]));
    let port = desk.load("alice").port;
    let said = stdout(&desk.palabre(&["revoke", "alice"]));
    assert!(!desk.file("alice").exists());
    let again = format!("palabre invite alice --port {port}");
    assert!(said.contains(&again), "{said}");
    stdout(&desk.palabre(&again.split(' ').skip(1).collect::<Vec<_>>()));
    assert_eq!(desk.load("alice").port, port);
    let said = stderr(&desk.palabre(&["revoke", "zoe"]), 1);
    assert!(said.contains("unable to revoke 'zoe'"), "{said}");
}

#[test]
fn a_word_changes_one_field_and_leaves_the_comments() {
    let desk = Desk::new();
    stdout(&desk.palabre(&["invite", "alice"]));
    let text = format!("# extension 42\n{}", fs::read_to_string(desk.file("alice")).unwrap());
    fs::write(desk.file("alice"), text).unwrap();
    let before = desk.load("alice");
    let said = stdout(&desk.palabre(&["rename", "alice", "Zoë <b>"]));
    assert!(said.contains("the login name, the port and the link stay"), "{said}");
    for arguments in [&["mute", "alice"][..], &["gain", "alice", "-6.1"], &["move", "alice", "den"]] {
        stdout(&desk.palabre(arguments));
    }
    let after = desk.load("alice");
    let expected = Participant {
        display_name: Some("Zoë <b>".into()),
        muted: true,
        gain_db: Some(-6.1),
        room: "den".parse().unwrap(),
        ..before
    };
    assert_eq!(after, expected);
    stdout(&desk.palabre(&["unmute", "alice"]));
    assert_eq!(desk.load("alice"), Participant { muted: false, ..expected });
    let text = fs::read_to_string(desk.file("alice")).unwrap();
    assert!(text.starts_with("# extension 42\n"), "{text}");
}

#[test]
fn a_word_about_nobody_or_with_no_meaning_changes_nothing() {
    let desk = Desk::new();
    stdout(&desk.palabre(&["invite", "alice"]));
    let before = fs::read_to_string(desk.file("alice")).unwrap();
    for (arguments, code, why) in [
        (&["mute", "zoe"][..], 1, "unable to mute 'zoe': no such participant; 'palabre list' lists them"),
        (&["rename", "alice", "a\tb"], 1, "a display name has 1 to 64 characters"),
        (&["gain", "alice", "21"], 2, "from -60 to 20"),
        (&["gain", "alice", "mute"], 2, "use a number of decibels"),
        (&["move", "alice", "../etc"], 2, "is not a name"),
        (&["invite", "bob", "--expires", "tomorrow"], 2, "use 30min, 12h, 7d, 2w"),
    ] {
        let said = stderr(&desk.palabre(arguments), code);
        assert!(said.contains(why), "{arguments:?}: {said}");
        assert_eq!(fs::read_to_string(desk.file("alice")).unwrap(), before);
    }
    fs::write(desk.file("alice"), "port = 1\nprot = 2\n").unwrap();
    let said = stderr(&desk.palabre(&["mute", "alice"]), 78);
    assert!(said.contains("alice.toml', line 2: unknown field `prot`"), "{said}");
}

#[test]
fn a_guest_s_link_may_end_and_have_no_microphone() {
    let desk = Desk::new();
    stdout(&desk.palabre(&["invite", "guest", "--expires", "2999-12-31T18:00:00Z", "--listen-only"]));
    let guest = desk.load("guest");
    assert_eq!(guest.key_expires.unwrap().to_string(), "2999-12-31T18:00:00Z");
    assert!(guest.listen_only);
    stdout(&desk.palabre(&["invite", "guest", "--new-key", "--expires", "2w"]));
    assert!(desk.load("guest").key_expires < guest.key_expires);
    stdout(&desk.palabre(&["invite", "guest", "--new-key"]));
    assert_eq!((desk.load("guest").key_expires, desk.load("guest").listen_only), (None, true));
}

#[test]
fn everybody_and_every_room_is_listed_without_a_supervisor_too() {
    let desk = Desk::new();
    assert!(stdout(&desk.palabre(&["list"])).contains("palabre invite"));
    assert!(stdout(&desk.palabre(&["rooms"])).contains("palabre invite"));
    stdout(&desk.palabre(&["invite", "alice", "--display-name", "Zoë", "--room", "den"]));
    stdout(&desk.palabre(&["invite", "bob", "--expires", "2999-12-31T18:00:00Z"]));
    stdout(&desk.palabre(&["mute", "alice"]));
    fs::write(desk.file("carol"), "prot = 1\n").unwrap();
    let output = desk.palabre(&["list"]);
    let (text, said) = (stdout(&output), String::from_utf8(output.stderr).unwrap());
    let (alice, bob) = (desk.load("alice").port, desk.load("bob").port);
    let expected = format!(
        "NAME   DISPLAY NAME  ROOM  PORT   STATE  GAIN  KEY                         PAGE\n\
         alice  Zoë           den   {alice}  -      mute  -                           -\n\
         bob    bob           main  {bob}  -      0 dB  until 2999-12-31T18:00:00Z  -\n"
    );
    assert_eq!(text, expected);
    assert!(said.contains("carol.toml', line 1"), "{said}");
    let json = stdout(&desk.palabre(&["list", "--json"]));
    for part in ["\"muted\": true", "\"key_expires\": \"2999-12-31T18:00:00Z\"", "\"state\": null", "carol.toml"] {
        assert!(json.contains(part), "{part}: {json}");
    }
    let text = stdout(&desk.palabre(&["rooms"]));
    let expected = "\
ROOM  RATE  PARTICIPANTS  HERE  GUESTS  TALKING  RECORDED
den   -     1             -     -       -        no
main  -     1             -     -       -        no
";
    assert_eq!(text, expected);
    assert!(stdout(&desk.palabre(&["rooms", "--json"])).contains("\"name\": \"den\""));
}

#[test]
fn a_code_is_printed_when_it_is_asked_for() {
    let desk = Desk::new();
    let said = stdout(&desk.palabre(&["invite", "alice", "--qr"]));
    assert!(said.contains("▄▄▄▄▄"), "{said}");
}

#[test]
fn without_a_supervisor_the_message_says_where_it_was_looked_for() {
    let desk = Desk::new();
    for arguments in [&["status"][..], &["status", "--json"], &["restart", "alice"], &["reload"]] {
        let output = desk.palabre(arguments);
        assert!(output.stdout.is_empty());
        let said = stderr(&output, 111);
        assert!(said.starts_with("palabre: unable to reach the supervisor at '"), "{said}");
        assert!(said.contains("run/control.sock': ") && said.contains("; start palabre-supervisor"), "{said}");
    }
}

#[test]
fn edits_at_the_same_time_are_all_kept() {
    let desk = Desk::new();
    stdout(&desk.palabre(&["invite", "alice"]));
    let edits: [&[&str]; 5] = [
        &["gain", "alice", "-6"],
        &["mute", "alice"],
        &["rename", "alice", "Zoë"],
        &["move", "alice", "den"],
        &["invite", "alice", "--new-key", "--expires", "2d"],
    ];
    let link = std::thread::scope(|scope| {
        let desk = &desk;
        let runs = edits.map(|edit| scope.spawn(move || stdout(&desk.palabre(edit))));
        runs.map(|run| run.join().unwrap()).last().unwrap().clone()
    });
    let alice = desk.load("alice");
    assert_eq!((alice.gain_db, alice.muted, alice.display(), alice.room.as_str()), (Some(-6.0), true, "Zoë", "den"));
    assert!(alice.key_expires.is_some() && alice.key_sha256.matches(key(&link)));
}

#[test]
fn invitations_at_the_same_time_get_ports_of_their_own() {
    let desk = Desk::new();
    let names = ["a", "b", "c", "d", "e"];
    std::thread::scope(|scope| {
        let desk = &desk;
        let runs = names.map(|name| scope.spawn(move || stdout(&desk.palabre(&["invite", name]))));
        runs.into_iter().for_each(|run| drop(run.join().unwrap()));
    });
    let ports: std::collections::BTreeSet<u16> = names.iter().map(|name| desk.load(name).port).collect();
    assert_eq!(ports.len(), names.len());
}
