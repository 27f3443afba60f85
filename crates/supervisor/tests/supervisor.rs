//! The real supervisor with real listeners: what is started, what dies, what a reload changes, how it all ends.

#![allow(clippy::unwrap_used, missing_docs)]

mod house;

use std::collections::BTreeSet;
use std::fs;
use std::net::TcpStream;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::Path;
use std::process::{Command, Stdio};

use house::{House, Knocker, eventually, holds, occupied_port, runs, signal};
use palabre_config::certificate;
use palabre_config::control::{Response, State};
use palabre_host::notify::Message;

fn is_open(port: u16) -> bool {
    TcpStream::connect(("127.0.0.1", port)).is_ok()
}

#[test]
fn every_participant_gets_a_room_pipes_a_port_and_a_listener() {
    let mut house = House::of(&["bob"]);
    house.write("alice", "port = 0\nroom = \"den\"\ndisplay-name = \"Zoé\"\ngain-db = -6.0\n");
    house.start();
    let alice = house.wait_for("alice", State::Ready);
    let bob = house.wait_for("bob", State::Ready);
    assert_ne!(alice.port, bob.port);
    assert!(is_open(alice.port) && is_open(bob.port));
    assert!(holds(house.pid(), alice.port) && holds(house.pid(), bob.port));
    assert_eq!((alice.display.as_str(), alice.room.as_str(), bob.display.as_str()), ("Zoé", "den", "bob"));
    assert_eq!((alice.restarts, alice.last_exit), (0, None));
    assert!(runs(alice.pid.unwrap()) && runs(bob.pid.unwrap()));
    let den = house.room("den");
    assert_eq!(fs::read_to_string(den.join("format")).unwrap(), "s16le 24000 1\n");
    assert_eq!(fs::read_to_string(den.join("names")).unwrap(), "alice\taway\tZoé\n");
    assert_eq!(fs::read_to_string(den.join("alice/gain")).unwrap().trim().parse::<f32>().unwrap(), -6.0);
    for pipe in ["mic", "ear"] {
        assert!(fs::metadata(house.room("main").join("bob").join(pipe)).unwrap().file_type().is_fifo());
    }
    let socket = fs::metadata(house.run().join("control.sock")).unwrap();
    assert_eq!(socket.permissions().mode() & 0o777, 0o660);
}

#[test]
fn however_much_somebody_writes_for_the_mixer_the_status_is_answered() {
    let house = House::open(&["alice"]);
    let lines: String = (0..40_000).map(|n| format!("of main g{n} 1 1 1\n")).collect();
    let counts = house.run().join("rooms/.mixer-counts");
    fs::write(counts.with_extension("new"), format!("ticks 7\n{lines}")).unwrap();
    fs::rename(counts.with_extension("new"), counts).unwrap();
    let mixing = house.status().mixing.unwrap();
    assert_eq!((mixing.ticks, mixing.participants.len()), (7, 2000));
}

#[test]
fn a_killed_listener_is_started_again_and_nobody_is_refused() {
    let house = House::open(&["alice", "bob"]);
    let (alice, bob) = (house.participant("alice"), house.participant("bob"));
    let knocker = Knocker::at(alice.port);
    signal(alice.pid.unwrap(), "KILL");
    let again = house.wait_until("alice", |alice| alice.state == State::Ready && alice.restarts == 1);
    assert_eq!(knocker.refusals(), 0);
    assert_eq!(again.port, alice.port);
    assert_ne!(again.pid, alice.pid);
    assert_eq!(again.last_exit.as_deref(), Some("killed by signal 9"));
    assert_eq!(house.participant("bob").pid, bob.pid);
}

#[test]
fn a_listener_that_cannot_work_is_failed_its_port_closed_and_a_reload_tries_it_again() {
    let mut house = House::of(&["alice"]);
    fs::write(house.config().join("tls/cert.pem"), "this is no certificate\n").unwrap();
    house.start();
    let failed = house.wait_for("alice", State::Failed);
    assert_eq!(failed.pid, None);
    assert_eq!(failed.last_exit.as_deref(), Some("exit code 78"));
    assert!(failed.note.unwrap().contains("port closed"));
    assert!(!holds(house.pid(), failed.port));
    house.write_certificate();
    assert_eq!(house.reload().started, ["alice"]);
    let ready = house.wait_for("alice", State::Ready);
    assert_eq!(ready.port, failed.port);
    assert!(is_open(ready.port));
}

#[test]
fn a_program_that_does_not_exist_is_tried_five_times_and_then_failed() {
    let mut house = House::of(&[]);
    house.write("alice", "port = 0\n");
    house.start_with_listener(Path::new("/nonexistent/palabre-listener"));
    let failed = house.wait_for("alice", State::Failed);
    assert_eq!(failed.restarts, 4);
    assert!(failed.last_exit.unwrap().starts_with("unable to start '/nonexistent/palabre-listener': No such file"));
    assert!(!holds(house.pid(), failed.port));
}

#[test]
fn a_restart_replaces_the_process_and_refuses_nobody() {
    let house = House::open(&["alice"]);
    let old = house.participant("alice");
    let knocker = Knocker::at(old.port);
    assert_eq!(house.restart("alice"), Response::Ok);
    let new = house.participant("alice");
    assert_eq!(knocker.refusals(), 0);
    assert_eq!((new.state, new.port, new.restarts), (State::Ready, old.port, 0));
    assert_ne!(new.pid, old.pid);
    assert!(!runs(old.pid.unwrap()));
}

#[test]
fn a_restart_that_cannot_work_leaves_the_old_process() {
    let house = House::open(&["alice"]);
    let old = house.participant("alice");
    fs::write(house.config().join("tls/cert.pem"), "this is no certificate\n").unwrap();
    let Response::Refused { why } = house.restart("alice") else {
        panic!("a listener without a certificate was started");
    };
    assert!(why.starts_with("unable to restart 'alice': the new listener has ended: exit code 78"), "{why}");
    let same = house.participant("alice");
    assert_eq!((same.state, same.pid), (State::Ready, old.pid));
    assert!(is_open(old.port));
    house.write_certificate();
    house.reload();
    house.wait_until("alice", |alice| alice.state == State::Ready && alice.pid != old.pid);
}

#[test]
fn a_restart_kills_an_old_process_that_hangs() {
    let house = House::open(&["alice"]);
    let old = house.participant("alice").pid.unwrap();
    signal(old, "STOP");
    assert_eq!(house.restart("alice"), Response::Ok);
    assert!(!runs(old));
}

#[test]
fn a_restart_of_nobody_is_refused() {
    let house = House::open(&[]);
    assert!(matches!(house.restart("zoe"), Response::Refused { why } if why.contains("no such participant")));
}

#[test]
fn who_is_stopped_stays_so_over_a_reload_and_a_move_until_the_start() {
    let house = House::open(&["alice", "bob"]);
    let (alice, bob) = (house.participant("alice"), house.participant("bob"));
    assert_eq!(house.stop("alice"), Response::Ok);
    let stopped = house.participant("alice");
    assert_eq!((stopped.state, stopped.pid, stopped.port), (State::Stopped, None, alice.port));
    assert!(!runs(alice.pid.unwrap()) && !holds(house.pid(), alice.port));
    house.write("alice", "port = 0\nroom = \"den\"\n");
    house.write_server("[stream]\nchunk-ms = 20\n");
    assert_eq!(house.reload().restarted, ["bob"]);
    house.wait_until("alice", |alice| alice.state == State::Stopped && alice.room == "den");
    assert!(matches!(house.restart("alice"), Response::Refused { why } if why.contains("'palabre start'")));
    assert_eq!(house.begin("alice"), Response::Ok);
    let again = house.participant("alice");
    assert_eq!((again.state, again.room.as_str(), again.restarts), (State::Ready, "den", 0));
    assert!(is_open(again.port) && house.room("den/alice").exists());
    house.wait_until("bob", |new| new.state == State::Ready && new.pid != bob.pid);
}

#[test]
fn who_is_kicked_loses_every_connection_and_may_come_back() {
    let house = House::open(&["alice"]);
    let old = house.participant("alice");
    let mut connection = TcpStream::connect(("127.0.0.1", old.port)).unwrap();
    let knocker = Knocker::at(old.port);
    assert_eq!(house.kick("alice"), Response::Ok);
    assert_eq!(knocker.refusals(), 0);
    // A connection that had just begun ends without a word.
    assert!(matches!(std::io::Read::read(&mut connection, &mut [0]), Ok(0) | Err(_)));
    let new = house.participant("alice");
    assert_eq!((new.state, new.port, new.restarts, new.last_exit), (State::Ready, old.port, 0, None));
    assert_ne!(new.pid, old.pid);
    assert!(!runs(old.pid.unwrap()) && is_open(new.port));
}

#[test]
fn a_reload_adds_and_removes_participants_and_leaves_what_was_made_by_hand() {
    let house = House::open(&["alice", "bob"]);
    let alice = house.participant("alice");
    let bob = house.participant("bob");
    let by_hand = house.room("main").join("radio");
    fs::create_dir(&by_hand).unwrap();
    house.remove("bob");
    house.write("carol", "port = 0\n");
    let changes = house.reload();
    assert_eq!((changes.started, changes.stopped), (vec!["carol".to_owned()], vec!["bob".to_owned()]));
    assert!(changes.restarted.is_empty() && changes.errors.is_empty());
    house.wait_for("carol", State::Ready);
    eventually("bob is gone", || house.find("bob").is_none());
    assert!(!runs(bob.pid.unwrap()) && !holds(house.pid(), bob.port));
    assert!(!house.room("main").join("bob").exists());
    assert!(by_hand.exists());
    assert_eq!(
        fs::read_to_string(house.room("main").join("names")).unwrap(),
        "alice\taway\talice\ncarol\taway\tcarol\n"
    );
    assert_eq!(house.participant("alice").pid, alice.pid);
}

#[test]
fn a_hangup_signal_is_a_reload() {
    let house = House::open(&["alice"]);
    house.write("bob", "port = 0\n");
    signal(house.pid(), "HUP");
    house.wait_for("bob", State::Ready);
}

#[test]
fn a_bad_file_is_named_and_everybody_goes_on() {
    let house = House::open(&["alice", "bob"]);
    let (alice, bob) = (house.participant("alice"), house.participant("bob"));
    house.write("alice", "prot = 9001\n");
    house.write("carol", "port = 0\nroom = \"../etc\"\n");
    let changes = house.reload();
    assert!(changes.started.is_empty() && changes.stopped.is_empty() && changes.restarted.is_empty());
    let errors = house.status().errors;
    assert_eq!(errors.len(), 2);
    assert!(errors[0].contains("alice.toml', line 1: unknown field `prot`"), "{}", errors[0]);
    assert!(errors[1].contains("carol.toml', line 2: '../etc' is not a name"), "{}", errors[1]);
    assert_eq!(house.participant("alice").pid, alice.pid);
    assert_eq!(house.participant("bob").pid, bob.pid);
}

#[test]
fn another_key_replaces_the_process_at_the_same_port() {
    let house = House::open(&["alice", "bob"]);
    let (old, bob) = (house.participant("alice"), house.participant("bob"));
    house.write("alice", &format!("port = 0\nkey-sha256 = \"{}\"\n", "0".repeat(64)));
    assert_eq!(house.reload().restarted, ["alice"]);
    let new = house.wait_until("alice", |alice| alice.state == State::Ready && alice.pid != old.pid);
    assert_eq!(new.port, old.port);
    eventually("the old process is gone", || !runs(old.pid.unwrap()));
    assert_eq!(house.participant("bob").pid, bob.pid);
}

#[test]
fn another_gain_replaces_no_process() {
    let house = House::open(&["alice"]);
    let old = house.participant("alice");
    let gain = house.room("main/alice").join("gain");
    house.write("alice", "port = 0\nmuted = true\n");
    assert!(house.reload().restarted.is_empty());
    assert_eq!(fs::read_to_string(&gain).unwrap(), "mute\n");
    house.write("alice", "port = 0\n");
    house.reload();
    assert!(!gain.exists());
    assert_eq!(house.participant("alice").pid, old.pid);
}

#[test]
fn a_file_that_now_names_the_port_that_was_found_replaces_no_process() {
    let house = House::open(&["alice"]);
    let old = house.participant("alice");
    house.write("alice", &format!("port = {}\n", old.port));
    assert!(house.reload().restarted.is_empty());
    let same = house.participant("alice");
    assert_eq!((same.pid, same.port), (old.pid, old.port));
}

#[test]
fn another_room_and_another_port_are_taken_when_the_old_process_is_gone() {
    let house = House::open(&["alice"]);
    let old = house.participant("alice");
    let (socket, port) = occupied_port();
    house.write("alice", &format!("port = {port}\nroom = \"den\"\n"));
    assert_eq!(house.reload().restarted, ["alice"]);
    let waiting = house.wait_until("alice", |alice| alice.state == State::BackingOff);
    assert!(waiting.last_exit.unwrap().starts_with(&format!("unable to open port {port}: Address already in use")));
    assert!(!runs(old.pid.unwrap()) && !holds(house.pid(), old.port));
    assert!(!house.room("main/alice").exists());
    drop(socket);
    let new = house.wait_for("alice", State::Ready);
    assert_eq!((new.port, new.room.as_str()), (port, "den"));
    assert!(house.room("den/alice").exists());
}

#[test]
fn another_certificate_is_read_by_every_listener_and_a_bad_one_is_refused_with_an_alarm() {
    let house = House::open(&["alice", "bob"]);
    let pids = || ["alice", "bob"].map(|name| house.participant(name).pid);
    let old = pids();
    assert!(!house.reload().certificate);
    house.write_certificate();
    let changes = house.reload();
    assert!(changes.certificate && changes.restarted.is_empty());
    let others = certificate::self_signed(&["localhost".into()]).unwrap();
    fs::write(house.config().join("tls/key.pem"), others.key_pem).unwrap();
    assert!(house.reload().certificate);
    let alarms =
        || house.status().errors.iter().filter(|error| error.contains("unable to renew the certificate")).count();
    eventually("both refuse it", || alarms() == 2);
    house.write_certificate();
    house.reload();
    eventually("both take it", || alarms() == 0);
    assert_eq!(pids(), old);
}

#[test]
fn the_status_says_how_long_the_certificate_is_good_and_what_is_wrong_with_it() {
    let house = House::open(&["alice"]);
    let ours = house.status().certificate.unwrap();
    assert!(ours.path.ends_with("tls/cert.pem") && ours.self_signed && ours.fault.is_none(), "{ours:?}");
    assert_eq!((ours.days_left.map(|days| days / 10), ours.names), (Some(39), vec!["localhost".to_owned()]));
    let key = house.config().join("tls/key.pem");
    let others = certificate::self_signed(&["localhost".into()]).unwrap();
    fs::write(&key, others.key_pem).unwrap();
    let fault = house.status().certificate.unwrap().fault.unwrap();
    assert!(fault.contains("key.pem': they don't belong together"), "{fault}");
    fs::write(house.config().join("tls/cert.pem"), "this is no certificate\n").unwrap();
    let broken = house.status().certificate.unwrap();
    assert!(broken.days_left.is_none() && broken.fault.unwrap().contains("there is no certificate in it"));
}

#[test]
fn another_rate_waits_for_the_next_start() {
    let house = House::open(&["alice"]);
    house.write_server("[room]\nrate-hz = 48000\n");
    let errors = house.reload().errors;
    assert!(errors[0].starts_with("unable to change rate-hz from 24000 to 48000"), "{errors:?}");
    assert_eq!(fs::read_to_string(house.room("main/format")).unwrap(), "s16le 24000 1\n");
}

#[test]
fn rooms_level_voices_unless_the_file_says_otherwise() {
    let house = House::open(&["alice"]);
    let alice = house.participant("alice");
    let said = || fs::read_to_string(house.room("main/levelling")).unwrap();
    assert_eq!(said(), "on\n");
    house.write_server("[room]\nlevelling = false\n");
    assert_eq!(house.reload().restarted, ["alice"], "the page must be told");
    assert_eq!(said(), "off\n");
    house.wait_until("alice", |new| new.state == State::Ready && new.pid != alice.pid);
}

#[test]
fn a_flag_keeps_voices_as_they_are_whatever_the_file_says() {
    let mut house = House::of(&["alice"]);
    house.write_server("[room]\nlevelling = true\n");
    let mut command = house.command();
    house.start_by(command.arg("--no-levelling"));
    let said = || fs::read_to_string(house.room("main/levelling")).ok();
    house.wait_for("alice", State::Ready);
    assert_eq!(said().as_deref(), Some("off\n"));
    house.write_server("[room]\nlevelling = true\n[stream]\nchunk-ms = 20\n");
    house.reload();
    assert_eq!(said().as_deref(), Some("off\n"));
}

#[test]
fn a_termination_ends_every_listener_and_removes_the_sockets() {
    let mut house = House::open(&["alice", "bob"]);
    let pids = ["alice", "bob"].map(|name| house.participant(name).pid.unwrap());
    signal(house.pid(), "TERM");
    assert!(house.wait_for_the_end().success());
    assert!(pids.iter().all(|pid| !runs(*pid)));
    assert!(!house.run().join("control.sock").exists() && !house.run().join("notify.sock").exists());
    assert!(house.room("main/alice").exists());
}

#[test]
fn a_termination_kills_a_listener_that_hangs() {
    let mut house = House::open(&["alice"]);
    let alice = house.participant("alice").pid.unwrap();
    signal(alice, "STOP");
    signal(house.pid(), "TERM");
    assert!(house.wait_for_the_end().success());
    assert!(!runs(alice));
}

#[test]
fn listeners_die_with_a_killed_supervisor_and_the_next_one_takes_over() {
    let mut house = House::open(&["alice", "bob"]);
    let pids = ["alice", "bob"].map(|name| house.participant(name).pid.unwrap());
    signal(house.pid(), "KILL");
    assert!(!house.wait_for_the_end().success());
    eventually("the listeners are gone", || pids.iter().all(|pid| !runs(*pid)));
    house.start();
    house.wait_for("alice", State::Ready);
}

#[test]
fn a_second_supervisor_in_the_same_directory_is_refused() {
    let house = House::open(&["alice"]);
    let alice = house.participant("alice");
    let second = house.command().stderr(Stdio::piped()).output().unwrap();
    assert_eq!(second.status.code(), Some(1));
    let message = String::from_utf8(second.stderr).unwrap();
    assert!(message.starts_with("palabre-supervisor: unable to start in '"), "{message}");
    assert!(message.contains("another palabre-supervisor runs there"), "{message}");
    assert_eq!(house.participant("alice").pid, alice.pid);
}

#[test]
fn a_bad_server_file_ends_the_supervisor_with_78_and_its_line() {
    let house = House::of(&[]);
    house.write_server("hots = \"localhost\"\n");
    let output = house.command().stderr(Stdio::piped()).output().unwrap();
    assert_eq!(output.status.code(), Some(78));
    let message = String::from_utf8(output.stderr).unwrap();
    assert!(message.contains("palabre.toml', line 2: unknown field `hots`"), "{message}");
}

#[test]
fn a_supervisor_whose_parent_is_another_process_does_not_stay() {
    let house = House::of(&[]);
    let output = house.command().args(["--parent-pid", "1"]).stderr(Stdio::piped()).output().unwrap();
    assert_eq!(output.status.code(), Some(2), "the option was given twice");
    let mut orphan = Command::new(env!("CARGO_BIN_EXE_palabre-supervisor"));
    orphan.arg("--parent-pid").arg("1").arg("--config").arg(house.config()).arg("--run").arg(house.run());
    let output = orphan.stderr(Stdio::piped()).output().unwrap();
    assert_eq!(output.status.code(), Some(111));
    assert!(String::from_utf8(output.stderr).unwrap().contains("the parent process 1 is gone"));
}

#[test]
fn the_supervisor_says_that_it_is_ready_and_how_things_are() {
    let mut house = House::of(&["alice"]);
    let path = house.config().join("systemd.sock");
    let systemd = palabre_host::notify::Receiver::bind(&path).unwrap();
    let mut command = house.command();
    house.start_by(command.env("NOTIFY_SOCKET", &path).env("LISTEN_FDS", "1"));
    let supervisor = house.pid();
    // Sockets to be stored come before, and are another test's business.
    let next =
        || std::iter::repeat_with(|| systemd.recv().unwrap()).find(|(_, message)| *message != Message::default());
    let first = next().unwrap();
    assert_eq!((first.0, first.1.ready), (supervisor, true));
    assert_eq!(first.1.status.as_deref(), Some("ready: 0 of 1"));
    let second = next().unwrap();
    assert_eq!((second.0, second.1.status.as_deref()), (supervisor, Some("ready: 1 of 1")));
    signal(supervisor, "TERM");
    assert!(systemd.recv().unwrap().1.stopping);
}

#[test]
fn a_listener_inherits_its_socket_and_nothing_else_of_the_supervisor() {
    let house = House::open(&["alice", "bob"]);
    let listener = house.participant("alice").pid.unwrap();
    let Some(inherited) = targets(listener) else {
        return palabre_testing::not_shown(
            "which file descriptors a listener inherits",
            "only root can see those of a process that is not dumpable",
        );
    };
    let inherited_by_us = targets(std::process::id()).unwrap();
    let supervisor = targets(house.pid()).unwrap();
    let shared: Vec<String> = inherited.intersection(&supervisor).cloned().collect();
    let foreign: Vec<&String> = shared.iter().filter(|target| !inherited_by_us.contains(*target)).collect();
    assert_eq!(foreign.len(), 1, "{foreign:?}");
    assert_eq!(*foreign[0], fs::read_link(format!("/proc/{listener}/fd/3")).unwrap().to_string_lossy());
}

/// What a process has open, except what is everybody's. Descriptors that whoever runs the tests left open are in all.
fn targets(pid: u32) -> Option<BTreeSet<String>> {
    let descriptors = fs::read_dir(format!("/proc/{pid}/fd")).ok()?;
    let targets = descriptors
        .filter_map(|entry| fs::read_link(entry.unwrap().path()).ok())
        .map(|target| target.to_string_lossy().into_owned())
        .filter(|target| target != "/dev/null" && !target.starts_with("anon_inode"));
    Some(targets.collect())
}
