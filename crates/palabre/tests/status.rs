//! `palabre status` and other commands with a real supervisor.
#![allow(clippy::unwrap_used, missing_docs)]

mod common;

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use common::{Process, palabre, sibling, start, stdout, wait_for};
use palabre_config::{Key, PARTICIPANTS_DIR, Participant};

fn status(directory: &Path, arguments: &[&str]) -> Output {
    palabre().arg("--run").arg(directory.join("run")).arg("status").args(arguments).output().unwrap()
}

/// Checks that a section of palabre(1) has every member of the printed JSON. A unit test compares `status --json`.
fn check_members_are_documented(printed: &str, section: &str) {
    let page = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/man/palabre.1")).unwrap();
    let section = page.split(&format!(".SH {section}\n")).nth(1).unwrap().split(".SH ").next().unwrap();
    let members: Vec<&str> = printed
        .lines()
        .filter_map(|line| line.trim_start().strip_prefix('"')?.split_once("\": "))
        .map(|it| it.0)
        .collect();
    assert!(members.len() > 2, "{printed}");
    for member in members {
        assert!(section.contains(&format!("\"{member}\": ")), "palabre(1) doesn't have the member {member}");
    }
}

#[test]
fn changes_of_a_participant_take_effect_at_once() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    fs::write(directory.join("palabre.toml"), "bind = \"127.0.0.1\"\n").unwrap();
    fs::create_dir(directory.join(PARTICIPANTS_DIR)).unwrap();
    fs::create_dir(directory.join("tls")).unwrap();
    palabre_config::certificate::self_signed(&["localhost".into()]).unwrap().write(&directory.join("tls")).unwrap();
    let key = Key::generate().unwrap().hash();
    Participant::new("alice".parse().unwrap(), 0, key).write(directory).unwrap();
    let _supervisor = start(directory);
    let palabre = |arguments: &[&str]| {
        let run = directory.join("run");
        stdout(&palabre().arg("--config").arg(directory).arg("--run").arg(run).args(arguments).output().unwrap())
    };
    wait_for("alice to be ready", || {
        let output = status(directory, &[]);
        String::from_utf8_lossy(&output.stdout).contains("ready").then_some(())
    });
    let mut mixer = Command::new(sibling("palabre-mixer"));
    let mixer = Process(mixer.arg("--rooms").arg(directory.join("run/rooms")).spawn().unwrap());
    let mut exporter = Command::new(sibling("palabre-exporter"));
    exporter.arg("--run").arg(directory.join("run")).args(["--listen", "127.0.0.1:0"]);
    let _exporter = Process(exporter.spawn().unwrap());
    let json = wait_for("the exporter", || {
        let json = stdout(&status(directory, &["--json"]));
        let runs = json.contains("\"program\": \"palabre-exporter\"") && json.contains("\"mixer\": \"running\"");
        runs.then_some(json)
    });
    assert!(!json.contains("\"rss_kib\": null") && json.contains("\"state\": \"running\""), "{json}");
    for (command, section) in [
        (&["list", "--json"][..], "LISTS"),
        (&["rooms", "--json"], "LISTS"),
        (&["check", "--json"], "CHECK"),
        (&["restart", "alice", "--json"], "RESTARTS"),
        (&["reload", "--json"], "RELOADS AND REMOVALS"),
        (&["invite", "alice", "--new-key", "--json"], "INVITATIONS"),
    ] {
        check_members_are_documented(&palabre(command), section);
    }
    let gain = directory.join("run/rooms/main/alice/gain");
    palabre(&["mute", "alice"]);
    assert_eq!(fs::read_to_string(&gain).unwrap(), "mute\n");
    palabre(&["unmute", "alice"]);
    palabre(&["gain", "alice", "-6"]);
    assert_eq!(fs::read_to_string(&gain).unwrap().trim().parse::<f32>().unwrap(), -6.0);
    assert!(palabre(&["list"]).contains("ready  -6 dB"));
    palabre(&["rename", "alice", "Zoë"]);
    assert_eq!(fs::read_to_string(directory.join("run/rooms/main/names")).unwrap(), "alice\taway\tZoë\n");
    assert!(palabre(&["rooms"]).contains("main  24000 Hz  1"));
    palabre(&["suspend", "alice"]);
    assert!(palabre(&["list"]).contains("  suspended  "));
    assert!(palabre(&["status"]).contains("  suspended"));
    palabre(&["resume", "alice"]);
    assert!(!palabre(&["list"]).contains("suspended") && !palabre(&["status"]).contains("suspended"));
    palabre(&["stop", "alice"]);
    assert!(palabre(&["list"]).contains("stopped"));
    palabre(&["start", "alice"]);
    palabre(&["kick", "alice"]);
    palabre(&["move", "alice", "den"]);
    wait_for("alice's new room", || directory.join("run/rooms/den/alice/mic").exists().then_some(()));
    wait_for("the removal of the old one", || (!directory.join("run/rooms/main/alice").exists()).then_some(()));
    drop(mixer);
    wait_for("the missing mixer to be shown", || {
        let output = status(directory, &[]);
        let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        let is_shown =
            out.contains("\nmissing  palabre-mixer") && err.contains("no palabre-mixer runs: all rooms are silent");
        is_shown.then_some(())
    });
}

#[test]
fn failed_listener_is_shown_and_is_not_an_error() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    fs::write(directory.join("palabre.toml"), "bind = \"127.0.0.1\"\n").unwrap();
    fs::create_dir(directory.join(PARTICIPANTS_DIR)).unwrap();
    let key = Key::generate().unwrap().hash();
    // The configuration of this test has no certificate, so alice's listener fails.
    Participant::new("alice".parse().unwrap(), 0, key).write(directory).unwrap();
    let _supervisor = start(directory);
    let failed = wait_for("alice to have failed", || {
        let output = status(directory, &[]);
        String::from_utf8_lossy(&output.stdout).contains("failed").then_some(output)
    });
    let text = stdout(&failed);
    assert!(text.contains("exit code 78") && text.contains("port closed"), "{text}");
    assert!(!text.contains('\x1b'), "colours without a terminal: {text}");
    assert!(text.contains("\nrunning  palabre-supervisor  "), "{text}");
    let json = stdout(&status(directory, &["--json"]));
    for part in ["\"state\": \"failed\"", "\"connections\": 0", "\"program\": \"palabre-supervisor\"", "\"rss_kib\": "]
    {
        assert!(json.contains(part), "{part}: {json}");
    }
}
