//! Tests of the real supervisor with real listeners: what a reload changes and keeps, and failed writes that are repeated.

#![allow(clippy::unwrap_used, missing_docs)]

mod fixture;

use std::fs;
use std::net::{TcpListener, TcpStream};

use fixture::{Fixture, Prober, eventually, forget_certificate, holds, is_open, occupied_port, runs, signal};
use palabre_config::control::State;

#[test]
fn reload_adds_and_removes_participants_and_keeps_directories_made_by_hand() {
    let fixture = Fixture::open(&["alice", "bob"]);
    let alice = fixture.participant("alice");
    let bob = fixture.participant("bob");
    let by_hand = fixture.room("main").join("radio");
    fs::create_dir(&by_hand).unwrap();
    fixture.remove("bob");
    fixture.write("carol", "port = 0\n");
    let changes = fixture.reload();
    assert_eq!((changes.started, changes.stopped), (vec!["carol".to_owned()], vec!["bob".to_owned()]));
    assert!(changes.restarted.is_empty() && changes.errors.is_empty());
    fixture.wait_for("carol", State::Ready);
    eventually("bob to be removed", || fixture.find("bob").is_none());
    assert!(!runs(bob.pid.unwrap()) && !holds(fixture.pid(), bob.port));
    assert!(!fixture.room("main").join("bob").exists());
    assert!(by_hand.exists());
    assert_eq!(
        fs::read_to_string(fixture.room("main").join("names")).unwrap(),
        "alice\taway\talice\ncarol\taway\tcarol\n"
    );
    assert_eq!(fixture.participant("alice").pid, alice.pid);
}

#[test]
fn failed_write_of_names_is_repeated() {
    let fixture = Fixture::open(&["alice"]);
    fixture.wait_for("alice", State::Ready);
    let names = fixture.room("main").join("names");
    fs::remove_file(&names).unwrap();
    fs::create_dir(&names).unwrap();
    let old = fixture.participant("alice");
    fixture.write("alice", "port = 0\ndisplay-name = \"Zoé\"\n");
    fixture.reload();
    // Wait until the new listener causes no more events. Then only the repetition of the failed write can write the file `names`.
    fixture.wait_until("alice", |alice| alice.state == State::Ready && alice.pid != old.pid);
    eventually("the old process is gone", || !runs(old.pid.unwrap()));
    fixture.status();
    fs::remove_dir(&names).unwrap();
    eventually("the names are written", || fs::read_to_string(&names).is_ok_and(|text| text == "alice\taway\tZoé\n"));
}

#[test]
fn failed_write_of_a_gain_is_reported_and_repeated() {
    let fixture = Fixture::open(&["alice"]);
    fixture.wait_for("alice", State::Ready);
    let gain = fixture.room("main").join("alice/gain");
    // While this directory exists, the file `gain` can't be written.
    fs::create_dir(&gain).unwrap();
    fixture.write("alice", "port = 0\nmuted = true\n");
    fixture.reload();
    let fault = fixture.participant("alice").gain_fault.unwrap();
    assert!(fault.starts_with("unable to write '") && fault.contains("alice/gain': "), "{fault}");
    fs::remove_dir(&gain).unwrap();
    eventually("the gain is written", || fs::read_to_string(&gain).is_ok_and(|text| text == "mute\n"));
    fixture.wait_until("alice", |alice| alice.gain_fault.is_none());
}

#[test]
fn hangup_signal_is_a_reload() {
    let fixture = Fixture::open(&["alice"]);
    fixture.write("bob", "port = 0\n");
    signal(fixture.pid(), "HUP");
    fixture.wait_for("bob", State::Ready);
}

#[test]
fn invalid_file_is_reported_and_changes_nothing() {
    let fixture = Fixture::open(&["alice", "bob"]);
    let (alice, bob) = (fixture.participant("alice"), fixture.participant("bob"));
    fixture.write("alice", "prot = 9001\n");
    fixture.write("carol", "port = 0\nroom = \"../etc\"\n");
    let changes = fixture.reload();
    assert!(changes.started.is_empty() && changes.stopped.is_empty() && changes.restarted.is_empty());
    let errors = fixture.status().errors;
    assert_eq!(errors.len(), 2);
    assert!(errors[0].contains("alice.toml', line 1: unknown field `prot`"), "{}", errors[0]);
    assert!(errors[1].contains("carol.toml', line 2: '../etc' is not a valid name"), "{}", errors[1]);
    assert_eq!(fixture.participant("alice").pid, alice.pid);
    assert_eq!(fixture.participant("bob").pid, bob.pid);
}

#[test]
fn changed_key_replaces_the_process_at_the_same_port() {
    let fixture = Fixture::open(&["alice", "bob"]);
    let (old, bob) = (fixture.participant("alice"), fixture.participant("bob"));
    fixture.write("alice", &format!("port = 0\nkey-sha256 = \"{}\"\n", "0".repeat(64)));
    assert_eq!(fixture.reload().restarted, ["alice"]);
    let new = fixture.wait_until("alice", |alice| alice.state == State::Ready && alice.pid != old.pid);
    assert_eq!(new.port, old.port);
    eventually("the old process is gone", || !runs(old.pid.unwrap()));
    assert_eq!(fixture.participant("bob").pid, bob.pid);
}

#[test]
fn changed_gain_replaces_no_process() {
    let fixture = Fixture::open(&["alice"]);
    let old = fixture.participant("alice");
    let gain = fixture.room("main/alice").join("gain");
    fixture.write("alice", "port = 0\nmuted = true\n");
    assert!(fixture.reload().restarted.is_empty());
    assert_eq!(fs::read_to_string(&gain).unwrap(), "mute\n");
    fixture.write("alice", "port = 0\n");
    fixture.reload();
    assert!(!gain.exists());
    assert_eq!(fixture.participant("alice").pid, old.pid);
}

#[test]
fn file_that_names_the_chosen_port_replaces_no_process() {
    let fixture = Fixture::open(&["alice"]);
    let old = fixture.participant("alice");
    fixture.write("alice", &format!("port = {}\n", old.port));
    assert!(fixture.reload().restarted.is_empty());
    let same = fixture.participant("alice");
    assert_eq!((same.pid, same.port), (old.pid, old.port));
}

#[test]
fn port_in_use_keeps_the_old_port_and_room_until_it_is_free() {
    let fixture = Fixture::open(&["alice"]);
    let old = fixture.participant("alice");
    let (socket, port) = occupied_port();
    fixture.write("alice", &format!("port = {port}\nroom = \"den\"\n"));
    let planned = fixture.plan();
    assert_eq!((planned.restarted, planned.refused.len()), (vec!["alice".to_owned()], 1));
    assert_eq!(fixture.reload().restarted, ["alice"]);
    let same = fixture.settled("alice");
    assert_eq!((same.state, same.pid, same.port, same.room.as_str()), (State::Ready, old.pid, old.port, "main"));
    let why = same.kept.unwrap();
    assert!(why.contains(&format!("unable to open port {port}: Address already in use")), "{why}");
    assert!(fixture.status().errors.contains(&why));
    drop(socket);
    fixture.reload();
    let new = fixture.settled("alice");
    assert_eq!((new.state, new.port, new.room.as_str(), new.kept), (State::Ready, port, "den", None));
    assert!(!runs(old.pid.unwrap()) && !holds(fixture.pid(), old.port));
    assert!(fixture.room("den/alice").exists() && !fixture.room("main/alice").exists());
}

#[test]
fn port_that_a_participant_has_to_keep_is_free_for_no_other_participant() {
    let fixture = Fixture::open(&["alice", "bob", "carol"]);
    let old = ["alice", "bob", "carol"].map(|name| fixture.participant(name));
    let (_socket, port) = occupied_port();
    for (one, port) in old.iter().zip([old[1].port, port, old[0].port]) {
        fixture.write(&one.name, &format!("port = {port}\n"));
    }
    assert_eq!(fixture.plan().refused.len(), 3);
    fixture.reload();
    for old in old {
        let same = fixture.settled(&old.name);
        assert_eq!((same.state, same.pid, same.port), (State::Ready, old.pid, old.port));
        assert!(same.kept.unwrap().contains("Address already in use"));
    }
}

#[test]
fn participant_stays_if_the_new_port_does_not_become_free() {
    let names = ["bad-room", "bad-file", "stopped", "to-bad-room", "to-bad-file", "to-stopped"];
    let fixture = Fixture::open(&names);
    let old = names.map(|name| fixture.participant(name));
    // The directory of the room 'den' can't be created while a file has its name.
    fs::write(fixture.room("den"), "").unwrap();
    fixture.write("bad-room", "port = 0\nroom = \"den\"\n");
    fixture.write("bad-file", "prot = 0\n");
    fixture.stop("stopped");
    fixture.remove("stopped");
    let _socket = TcpListener::bind(("127.0.0.1", old[2].port)).unwrap();
    for (name, old) in names[3..].iter().zip(&old) {
        fixture.write(name, &format!("port = {}\n", old.port));
    }
    fixture.reload();
    for old in [&old[..2], &old[3..]].concat() {
        let same = fixture.settled(&old.name);
        assert_eq!((same.state, same.pid, same.port), (State::Ready, old.pid, old.port), "{}", old.name);
    }
}

#[test]
fn port_stays_open_if_only_the_room_changes() {
    let fixture = Fixture::open(&["alice"]);
    let old = fixture.participant("alice");
    let prober = Prober::at(old.port);
    for room in ["den", "hall"] {
        fixture.write("alice", &format!("port = {}\nroom = \"{room}\"\n", old.port));
        fixture.reload();
    }
    let new = fixture.wait_until("alice", |alice| alice.state == State::Ready && alice.room == "hall");
    assert_eq!(prober.refusals(), 0);
    assert_ne!(new.pid, old.pid);
    assert!(!fixture.room("den").join("alice").exists());
}

#[test]
fn second_reload_during_a_move_opens_the_port_of_the_last_file() {
    let fixture = Fixture::open(&["alice"]);
    let old = fixture.participant("alice");
    let other = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    for port in [other, old.port] {
        fixture.write("alice", &format!("port = {port}\n"));
        fixture.reload();
    }
    fixture.wait_until("alice", |alice| alice.state == State::Ready && alice.pid != old.pid && alice.port == old.port);
    assert!(is_open(old.port) && !is_open(other));
}

#[test]
fn file_whose_port_can_not_be_opened_still_mutes_and_suspends() {
    let fixture = Fixture::open(&["alice"]);
    let old = fixture.participant("alice");
    let (_socket, port) = occupied_port();
    fixture.write("alice", &format!("port = {port}\nmuted = true\n"));
    fixture.reload();
    let gain = fixture.room("main").join("alice/gain");
    eventually("the mute", || fs::read_to_string(&gain).is_ok_and(|text| text == "mute\n"));
    let same = fixture.settled("alice");
    assert_eq!((same.pid, same.port, same.kept.is_some()), (old.pid, old.port, true));
    fixture.write("alice", &format!("port = {port}\nsuspended = true\n"));
    fixture.reload();
    fixture.wait_until("alice", |alice| alice.state == State::Ready && alice.pid != old.pid && alice.port == old.port);
}

#[test]
fn two_participants_exchange_their_ports() {
    let fixture = Fixture::open(&["alice", "bob"]);
    let ports = ["alice", "bob"].map(|name| fixture.participant(name).port);
    for (name, port) in [("alice", ports[1]), ("bob", ports[0])] {
        fixture.write(name, &format!("port = {port}\n"));
    }
    fixture.reload();
    for (name, port) in [("alice", ports[1]), ("bob", ports[0])] {
        fixture.wait_until(name, |one| one.state == State::Ready && one.port == port);
    }
}

#[test]
fn address_that_the_machine_does_not_have_keeps_every_port_open() {
    let fixture = Fixture::open(&["alice", "bob"]);
    let old = ["alice", "bob"].map(|name| fixture.participant(name).pid);
    // 192.0.2.1 is reserved for documentation (RFC 5737), so this machine doesn't have this address.
    fs::write(fixture.config().join("palabre.toml"), "bind = \"192.0.2.1\"\n").unwrap();
    for _ in 0..2 {
        let refused = fixture.reload().refused;
        assert!(refused[0].starts_with("unable to open ports on '192.0.2.1': Cannot assign"), "{refused:?}");
        assert!(fixture.status().errors.contains(&refused[0]));
        let same = ["alice", "bob"].map(|name| fixture.settled(name));
        assert_eq!(same.each_ref().map(|one| one.pid), old);
        assert!(same.iter().all(|one| is_open(one.port)));
    }
    fixture.write("carol", "port = 0\n");
    fixture.reload();
    assert_eq!(fixture.settled("carol").state, State::Ready, "a new participant gets a port on the old address");
    fs::write(fixture.config().join("palabre.toml"), "bind = \"127.0.0.2\"\n").unwrap();
    let changes = fixture.reload();
    assert_eq!((changes.restarted, changes.refused), (["alice", "bob", "carol"].map(str::to_owned).to_vec(), vec![]));
    let alice = fixture.settled("alice");
    assert!(
        alice.state == State::Ready && TcpStream::connect(("127.0.0.2", alice.port)).is_ok() && !is_open(alice.port)
    );
}

#[test]
fn settings_that_no_listener_can_use_replace_no_listener() {
    let fixture = Fixture::open(&["alice", "bob", "carol"]);
    let pids = || ["alice", "bob", "carol"].map(|name| fixture.settled(name).pid);
    let old = pids();
    fixture.write_server("certificate = \"tls/missing.pem\"\n");
    let planned = fixture.plan();
    assert_eq!((planned.restarted.len(), planned.refused.len()), (3, 1));
    forget_certificate(&fixture);
    assert_eq!(fixture.reload().restarted, ["alice", "bob", "carol"]);
    assert_eq!(pids(), old);
    let kept = ["alice", "bob", "carol"].map(|name| fixture.participant(name).kept.unwrap());
    assert!(kept[0].contains("exit code 78: unable to read '") && kept[0].contains("missing.pem"), "{kept:?}");
    assert!(kept[1..].iter().all(|why| why.contains("another participant")), "{kept:?}");
    assert!(["alice", "bob", "carol"].iter().all(|name| fixture.participant(name).last_exit.is_none()));
    let certificate = fixture.config().join("tls/cert.pem");
    fs::copy(certificate, fixture.config().join("tls/missing.pem")).unwrap();
    assert_eq!(fixture.reload().restarted, ["alice", "bob", "carol"]);
    let new = pids();
    assert!(new.iter().zip(old).all(|(new, old)| *new != old), "{new:?} {old:?}");
    assert!(["alice", "bob", "carol"].iter().all(|name| fixture.participant(name).kept.is_none()));
    assert!(fixture.status().errors.is_empty());
}

#[test]
fn plan_changes_nothing() {
    let fixture = Fixture::open(&["alice", "bob"]);
    assert_eq!(fixture.plan(), palabre_config::control::Changes::default());
    let old = ["alice", "bob"].map(|name| fixture.participant(name).pid);
    fixture.write("alice", "port = 0\ndisplay-name = \"Zoé\"\n");
    fixture.remove("bob");
    fixture.write("carol", "port = 0\n");
    let planned = fixture.plan();
    assert_eq!([planned.started, planned.stopped, planned.restarted].concat(), ["carol", "bob", "alice"]);
    assert_eq!(["alice", "bob"].map(|name| fixture.settled(name).pid), old);
    assert!(fixture.find("carol").is_none());
}
