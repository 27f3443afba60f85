//! Tests that the supervisor's log has each change, with the user who asked for it.
#![allow(clippy::unwrap_used, missing_docs)]

mod fixture;

use std::fs::{self, File};
use std::process::Command;

use fixture::{Fixture, eventually, signal};
use palabre_config::control::{Request, State, Target};

/// Runs id(1).
fn id(option: &str) -> String {
    String::from_utf8(Command::new("id").arg(option).output().unwrap().stdout).unwrap().trim().to_owned()
}

#[test]
fn each_change_is_logged_with_the_user_who_asked_for_it() {
    let mut fixture = Fixture::of(&["alice", "bob"]);
    let log = fixture.config().join("log");
    let mut command = fixture.command();
    command.stderr(File::create(&log).unwrap());
    fixture.start_by(&mut command);
    for name in ["alice", "bob"] {
        fixture.wait_for(name, State::Ready);
    }
    let user = format!("user '{}' (uid {})", id("-un"), id("-u"));
    fixture.write("alice", "port = 0\nmuted = true\ngain-db = 3.5\n");
    fixture.remove("bob");
    fixture.write("carol", "port = 0\n");
    fixture.ask(&Request::Plan).unwrap();
    fixture.ask(&Request::Reload).unwrap();
    fixture.ask(&Request::Restart(Target::Listener("alice".parse().unwrap()))).unwrap();
    fixture.ask(&Request::Reload).unwrap();
    fixture.write("alice", "port = 0\n");
    signal(fixture.pid(), "HUP");
    let lines = || -> Vec<String> {
        let text = fs::read_to_string(&log).unwrap();
        let lines = text.lines().filter(|line| line.contains(" by "));
        lines.map(|line| line.trim_start_matches("palabre-supervisor: info: ").replace(&user, "USER")).collect()
    };
    let mut expected = [
        "reload of the configuration requested by USER",
        "bob: revoked by USER",
        "alice: muted by USER",
        "alice: gain changed to 3.5 dB by USER",
        "carol: invited by USER",
        "alice: restart requested by USER",
        "reload of the configuration requested by USER",
        "reload of the configuration requested by SIGHUP",
        "alice: unmuted by SIGHUP",
        "alice: gain changed to 0 dB by SIGHUP",
    ];
    eventually("all lines", || lines().len() >= expected.len());
    // Compare without the order of the lines: a reload logs the revoked participants first, then the others by name.
    expected.sort_unstable();
    let mut lines = lines();
    lines.sort_unstable();
    assert_eq!(lines, expected);
}
