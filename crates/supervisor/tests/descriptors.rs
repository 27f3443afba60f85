//! Tests with `/proc/PID/fd` that each process has exactly the descriptors that it needs, however it was started.

#![allow(clippy::unwrap_used, missing_docs)]

mod fixture;

use std::fs;

use fixture::manager::Manager;
use fixture::{Fixture, descriptors, eventually, runs, signal};
use palabre_config::control::{RecordAction, Request, Response, State, Target};

const NAMES: [&str; 3] = ["alice", "bob", "carol"];

/// Returns the descriptors of a participant's listener. The name stands for the participant's directory, and `own port` for the port.
fn of_listener(fixture: &Fixture, name: &str) -> Vec<String> {
    let participant = fixture.wait_for(name, State::Ready);
    let (directory, port) = (format!("/{name}/"), format!("port {}", participant.port));
    let common = |kind: String| if kind == port { "own port".to_owned() } else { kind.replace(&directory, "/NAME/") };
    let mut kinds: Vec<String> = descriptors(participant.pid.unwrap()).into_iter().map(common).collect();
    kinds.sort();
    kinds
}

fn is_port(kind: &str) -> bool {
    kind.starts_with("port ") || kind == "own port"
}

/// Returns the descriptors that a process keeps open: the shortest of several lists, since other descriptors are open only briefly.
fn kept(pid: u32) -> Vec<String> {
    (0..20).map(|_| descriptors(pid)).min_by_key(Vec::len).unwrap()
}

/// Waits until all listeners have the same descriptors, among them the own port and no other. Returns them.
fn all_alike(fixture: &Fixture) -> Vec<String> {
    let mut found = Vec::new();
    let ports = |of: &[String]| of.iter().filter(|kind| is_port(kind)).cloned().collect::<Vec<_>>();
    eventually("the listeners have the same descriptors", || {
        found = NAMES.map(|name| of_listener(fixture, name)).into();
        assert!(found.iter().all(|of| ports(of) == ["own port"]), "{found:?}");
        found.iter().all(|of| *of == found[0])
    });
    found.swap_remove(0)
}

fn wait_for_all(fixture: &Fixture, how: &str, needed: &[String]) {
    eventually(&format!("{needed:?} {how}"), || all_alike(fixture) == needed);
}

/// Waits until the supervisor has these descriptors.
fn wait_for_supervisor(fixture: &Fixture, how: &str, needed: &[String]) {
    let mut found = Vec::new();
    eventually(&format!("{needed:?} {how}"), || {
        found = descriptors(fixture.pid());
        found == needed
    });
}

#[test]
fn listener_has_the_same_descriptors_after_each_way_of_starting() {
    let mut fixture = Fixture::of(&NAMES);
    let manager = Manager::of(&fixture);
    manager.start(&mut fixture, &[]);
    let stored = NAMES.map(|name| (name, manager.wait_for(&format!("FDSTORE=1\nFDNAME={name}\n")).unwrap()));
    let alice = fixture.wait_for("alice", State::Ready).pid.unwrap();
    if fs::read_dir(format!("/proc/{alice}/fd")).is_err() {
        return palabre_testing::not_shown("the descriptors of listeners", "only root sees them");
    }
    let needed = all_alike(&fixture);
    let of_supervisor = kept(fixture.pid());

    let first = fixture.participant("alice").pid;
    signal(first.unwrap(), "KILL");
    fixture.wait_until("alice", |alice| alice.state == State::Ready && alice.pid != first);
    wait_for_all(&fixture, "after a crash of a listener", &needed);

    assert_eq!(fixture.restart("bob"), Response::Ok);
    wait_for_all(&fixture, "after a handover", &needed);

    let upgrade = || fixture.ask(&Request::Restart(Target::Supervisor));
    assert_eq!(upgrade(), Ok(Response::Restarted { pid: fixture.pid() }));
    for name in NAMES {
        assert_eq!(fixture.restart(name), Response::Ok);
    }
    wait_for_all(&fixture, "after an upgrade of the supervisor and handovers", &needed);
    wait_for_supervisor(&fixture, "after an upgrade", &of_supervisor);

    assert_eq!(fixture.kick("carol"), Response::Ok);
    fixture.wait_for("carol", State::Ready);
    wait_for_all(&fixture, "after a kick", &needed);

    for end in ["KILL", "TERM"] {
        signal(fixture.pid(), end);
        fixture.wait_for_the_end();
        manager.start(&mut fixture, &stored);
        wait_for_all(&fixture, "of a supervisor that has stored sockets", &needed);
        wait_for_supervisor(&fixture, "with stored sockets", &of_supervisor);
    }

    fixture.stop("bob");
    let port = fixture.participant("bob").port;
    let held: Vec<_> = [Some(fixture.pid()), fixture.participant("alice").pid, fixture.participant("carol").pid]
        .into_iter()
        .filter(|pid| fixture::holds(pid.unwrap(), port))
        .collect();
    assert_eq!(held, [], "a stopped participant's port is open");
    for (_, fd) in stored {
        nix::unistd::close(fd).unwrap();
    }
}

/// Returns the process id of the supervisor's recorder.
fn recorder(supervisor: u32) -> Option<u32> {
    let children = fs::read_to_string(format!("/proc/{supervisor}/task/{supervisor}/children")).unwrap();
    let name = |pid: &u32| fs::read_link(format!("/proc/{pid}/exe")).is_ok_and(|exe| exe.ends_with("palabre-recorder"));
    children.split_whitespace().filter_map(|pid| pid.parse().ok()).find(name)
}

#[test]
fn recorder_has_the_same_descriptors_with_stored_sockets() {
    let mut fixture = Fixture::of(&NAMES);
    let manager = Manager::of(&fixture);
    manager.start(&mut fixture, &[]);
    let stored = NAMES.map(|name| (name, manager.wait_for(&format!("FDNAME={name}\n")).unwrap()));
    let answer = fixture.ask(&Request::Record { room: "main".parse().unwrap(), action: RecordAction::Start });
    assert!(matches!(answer, Ok(Response::Recording(_))), "{answer:?}");
    let pid = recorder(fixture.pid()).unwrap();
    let needed = kept(pid);
    assert!(!needed.iter().any(|kind| is_port(kind)), "{needed:?}");
    signal(fixture.pid(), "KILL");
    fixture.wait_for_the_end();
    eventually("the recorder is gone", || !runs(pid));
    manager.start(&mut fixture, &stored);
    // The supervisor continues the recording.
    eventually("a recorder", || recorder(fixture.pid()).is_some());
    let again = recorder(fixture.pid()).unwrap();
    eventually(&format!("{needed:?}"), || descriptors(again) == needed);
    for (_, fd) in stored {
        nix::unistd::close(fd).unwrap();
    }
}
