//! Tests of the real supervisor with real listeners: starts, deaths, reloads and the end.

#![allow(clippy::unwrap_used, missing_docs)]

mod fixture;

use std::collections::BTreeSet;
use std::fs;
use std::net::TcpStream;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use fixture::{Fixture, Prober, eventually, forget_certificate, holds, is_open, program, runs, signal};
use palabre_config::certificate;
use palabre_config::control::{MixerState, Request, Response, State, request};
use palabre_host::notify::Message;

#[test]
fn every_participant_gets_a_room_pipes_a_port_and_a_listener() {
    let mut fixture = Fixture::of(&["bob"]);
    fixture.write("alice", "port = 0\nroom = \"den\"\ndisplay-name = \"Zoé\"\ngain-db = -6.0\n");
    fixture.start();
    let alice = fixture.wait_for("alice", State::Ready);
    let bob = fixture.wait_for("bob", State::Ready);
    assert_ne!(alice.port, bob.port);
    assert!(is_open(alice.port) && is_open(bob.port));
    assert!(holds(fixture.pid(), alice.port) && holds(fixture.pid(), bob.port));
    assert_eq!((alice.display.as_str(), alice.room.as_str(), bob.display.as_str()), ("Zoé", "den", "bob"));
    assert_eq!((alice.restarts, alice.last_exit), (0, None));
    assert!(runs(alice.pid.unwrap()) && runs(bob.pid.unwrap()));
    let den = fixture.room("den");
    assert_eq!(fs::read_to_string(den.join("format")).unwrap(), "s16le 24000 1\n");
    assert_eq!(fs::read_to_string(den.join("names")).unwrap(), "alice\taway\tZoé\n");
    assert_eq!(fs::read_to_string(den.join("alice/gain")).unwrap().trim().parse::<f32>().unwrap(), -6.0);
    for pipe in ["mic", "ear"] {
        assert!(fs::metadata(fixture.room("main").join("bob").join(pipe)).unwrap().file_type().is_fifo());
    }
    let socket = fs::metadata(fixture.run().join("control.sock")).unwrap();
    assert_eq!(socket.permissions().mode() & 0o777, 0o660);
}

#[test]
fn status_is_answered_however_long_the_mixer_counters_are() {
    let fixture = Fixture::open(&["alice"]);
    let lines: String = (0..40_000).map(|n| format!("of main g{n} 1 1 1\n")).collect();
    let counts = fixture.run().join("rooms/.mixer-counts");
    fs::write(counts.with_extension("new"), format!("ticks 7\n{lines}")).unwrap();
    fs::rename(counts.with_extension("new"), counts).unwrap();
    let mixing = fixture.status().mixing.unwrap();
    assert_eq!((mixing.ticks, mixing.participants.len()), (7, 2000));
}

#[test]
fn mixer_that_is_stopped_or_has_ended_is_in_the_status_and_marked_in_the_rooms() {
    let fixture = Fixture::open(&["alice"]);
    let wait_for = |state: MixerState| {
        eventually(&format!("the mixer is {state:?}"), || fixture.status().mixer == Some(state));
        assert_eq!(fixture.room("main").join(".no-mixer").exists(), state != MixerState::Running);
    };
    wait_for(MixerState::Missing);
    let mut mixer = Command::new(program("palabre-mixer"));
    let mut mixer = mixer.arg("--rooms").arg(fixture.run().join("rooms")).spawn().unwrap();
    wait_for(MixerState::Running);
    signal(mixer.id(), "STOP");
    wait_for(MixerState::Stopped);
    fixture.write("bob", "port = 0\nroom = \"den\"\n");
    fixture.reload();
    assert!(fixture.room("den").join(".no-mixer").exists());
    signal(mixer.id(), "CONT");
    wait_for(MixerState::Running);
    signal(mixer.id(), "KILL");
    mixer.wait().unwrap();
    wait_for(MixerState::Missing);
}

#[test]
fn killed_listener_is_restarted_and_no_connection_is_refused() {
    let fixture = Fixture::open(&["alice", "bob"]);
    let (alice, bob) = (fixture.participant("alice"), fixture.participant("bob"));
    let prober = Prober::at(alice.port);
    signal(alice.pid.unwrap(), "KILL");
    let again = fixture.wait_until("alice", |alice| alice.state == State::Ready && alice.restarts == 1);
    assert_eq!(prober.refusals(), 0);
    assert_eq!(again.port, alice.port);
    assert_ne!(again.pid, alice.pid);
    assert_eq!(again.last_exit.as_deref(), Some("killed by signal 9"));
    assert_eq!(fixture.participant("bob").pid, bob.pid);
}

#[test]
fn failed_listener_has_its_port_closed_and_is_tried_again_by_a_reload() {
    let mut fixture = Fixture::of(&["alice"]);
    fs::write(fixture.config().join("tls/cert.pem"), "this is no certificate\n").unwrap();
    fixture.start();
    let failed = fixture.wait_for("alice", State::Failed);
    assert_eq!(failed.pid, None);
    let why = failed.last_exit.unwrap();
    assert!(why.starts_with("exit code 78: unable to use certificate '") && why.contains("no certificate"), "{why}");
    assert!(failed.note.unwrap().contains(&format!("{why}; port closed")));
    assert!(!holds(fixture.pid(), failed.port));
    fixture.write_certificate();
    assert_eq!(fixture.reload().started, ["alice"]);
    let ready = fixture.wait_for("alice", State::Ready);
    assert_eq!(ready.port, failed.port);
    assert!(is_open(ready.port));
}

#[test]
fn missing_program_is_tried_five_times() {
    let mut fixture = Fixture::of(&[]);
    fixture.write("alice", "port = 0\n");
    fixture.start_with_listener(Path::new("/nonexistent/palabre-listener"));
    let failed = fixture.wait_for("alice", State::Failed);
    assert_eq!(failed.restarts, 4);
    assert!(failed.last_exit.unwrap().starts_with("unable to start '/nonexistent/palabre-listener': No such file"));
    assert!(!holds(fixture.pid(), failed.port));
}

#[test]
fn restart_replaces_the_process_and_refuses_no_connection() {
    let fixture = Fixture::open(&["alice"]);
    let old = fixture.participant("alice");
    let prober = Prober::at(old.port);
    assert_eq!(fixture.restart("alice"), Response::Ok);
    let new = fixture.participant("alice");
    assert_eq!(prober.refusals(), 0);
    assert_eq!((new.state, new.port, new.restarts), (State::Ready, old.port, 0));
    assert_ne!(new.pid, old.pid);
    assert!(!runs(old.pid.unwrap()));
}

#[test]
fn failed_restart_keeps_the_old_process() {
    let fixture = Fixture::open(&["alice"]);
    let old = fixture.participant("alice");
    fs::write(fixture.config().join("tls/cert.pem"), "this is no certificate\n").unwrap();
    forget_certificate(&fixture);
    let Response::Refused { why } = fixture.restart("alice") else {
        panic!("a listener without a certificate was started");
    };
    assert!(why.starts_with("unable to restart 'alice': the new listener has ended: exit code 78"), "{why}");
    let same = fixture.participant("alice");
    assert_eq!((same.state, same.pid, same.last_exit), (State::Ready, old.pid, None));
    assert!(same.kept.unwrap().contains("contains no certificate"));
    assert!(is_open(old.port));
    fixture.write_certificate();
    fixture.reload();
    let new = fixture.wait_until("alice", |alice| alice.state == State::Ready && alice.pid != old.pid);
    assert_eq!((new.last_exit, new.kept), (None, None));
}

#[test]
fn restart_kills_an_old_process_that_hangs() {
    let fixture = Fixture::open(&["alice"]);
    let old = fixture.participant("alice").pid.unwrap();
    signal(old, "STOP");
    assert_eq!(fixture.restart("alice"), Response::Ok);
    assert!(!runs(old));
}

#[test]
fn restart_of_an_unknown_participant_is_refused() {
    let fixture = Fixture::open(&[]);
    assert!(matches!(fixture.restart("zoe"), Response::Refused { why } if why.contains("no such participant")));
}

#[test]
fn stopped_service_stays_stopped_over_a_reload_and_a_move() {
    let fixture = Fixture::open(&["alice", "bob"]);
    let (alice, bob) = (fixture.participant("alice"), fixture.participant("bob"));
    assert_eq!(fixture.stop("alice"), Response::Ok);
    let stopped = fixture.participant("alice");
    assert_eq!((stopped.state, stopped.pid, stopped.port), (State::Stopped, None, alice.port));
    assert!(!runs(alice.pid.unwrap()) && !holds(fixture.pid(), alice.port));
    fixture.write("alice", "port = 0\nroom = \"den\"\n");
    fixture.write_server("[stream]\nchunk-ms = 20\n");
    assert_eq!(fixture.reload().restarted, ["bob"]);
    fixture.wait_until("alice", |alice| alice.state == State::Stopped && alice.room == "den");
    assert!(matches!(fixture.restart("alice"), Response::Refused { why } if why.contains("'palabre start'")));
    assert_eq!(fixture.begin("alice"), Response::Ok);
    let again = fixture.participant("alice");
    assert_eq!((again.state, again.room.as_str(), again.restarts), (State::Ready, "den", 0));
    assert!(is_open(again.port) && fixture.room("den/alice").exists());
    fixture.wait_until("bob", |new| new.state == State::Ready && new.pid != bob.pid);
}

#[test]
fn kick_ends_every_connection_and_allows_new_ones() {
    let fixture = Fixture::open(&["alice"]);
    let old = fixture.participant("alice");
    let mut connection = TcpStream::connect(("127.0.0.1", old.port)).unwrap();
    let prober = Prober::at(old.port);
    assert_eq!(fixture.kick("alice"), Response::Ok);
    assert_eq!(prober.refusals(), 0);
    // The connection that was opened before the kick is closed without an answer.
    assert!(matches!(std::io::Read::read(&mut connection, &mut [0]), Ok(0) | Err(_)));
    let new = fixture.participant("alice");
    assert_eq!((new.state, new.port, new.restarts, new.last_exit), (State::Ready, old.port, 0, None));
    assert_ne!(new.pid, old.pid);
    assert!(!runs(old.pid.unwrap()) && is_open(new.port));
}

#[test]
fn new_certificate_is_read_by_every_listener_and_an_invalid_one_raises_an_alarm() {
    let fixture = Fixture::open(&["alice", "bob"]);
    let pids = || ["alice", "bob"].map(|name| fixture.participant(name).pid);
    let old = pids();
    assert!(!fixture.reload().certificate);
    fixture.write_certificate();
    let changes = fixture.reload();
    assert!(changes.certificate && changes.restarted.is_empty());
    let others = certificate::self_signed(&["localhost".into()]).unwrap();
    fs::write(fixture.config().join("tls/key.pem"), others.key_pem).unwrap();
    assert!(fixture.reload().certificate);
    for name in ["alice", "bob"] {
        let why = fixture.settled(name).kept.unwrap();
        assert!(
            why.starts_with(&format!(
                "unable to use the renewed certificate in the listener of '{name}': unable to use certificate '"
            )),
            "{why}"
        );
        assert!(fixture.status().errors.contains(&why));
    }
    fixture.write_certificate();
    fixture.reload();
    assert_eq!(["alice", "bob"].map(|name| fixture.settled(name).kept), [None, None]);
    assert_eq!(pids(), old);
}

#[test]
fn status_shows_the_validity_and_the_faults_of_the_certificate() {
    let fixture = Fixture::open(&["alice"]);
    let ours = fixture.status().certificate.unwrap();
    assert!(ours.path.ends_with("tls/cert.pem") && ours.self_signed && ours.fault.is_none(), "{ours:?}");
    assert_eq!((ours.days_left.map(|days| days / 10), ours.names), (Some(39), vec!["localhost".to_owned()]));
    let key = fixture.config().join("tls/key.pem");
    let others = certificate::self_signed(&["localhost".into()]).unwrap();
    fs::write(&key, others.key_pem).unwrap();
    let fault = fixture.status().certificate.unwrap().fault.unwrap();
    assert!(fault.contains("key.pem': the key doesn't match the certificate"), "{fault}");
    fs::write(fixture.config().join("tls/cert.pem"), "this is no certificate\n").unwrap();
    let broken = fixture.status().certificate.unwrap();
    assert!(
        broken.days_left.is_none()
            && broken.fault.unwrap().contains("the file of the certificate contains no certificate")
    );
}

#[test]
fn changed_rate_waits_for_the_next_start() {
    let fixture = Fixture::open(&["alice"]);
    fixture.write_server("[room]\nrate-hz = 48000\n");
    let refused = fixture.reload().refused;
    assert!(refused[0].starts_with("unable to change rate-hz from 24000 to 48000"), "{refused:?}");
    assert_eq!(fs::read_to_string(fixture.room("main/format")).unwrap(), "s16le 24000 1\n");
}

#[test]
fn levelling_is_on_unless_the_file_disables_it() {
    let fixture = Fixture::open(&["alice"]);
    let alice = fixture.participant("alice");
    let said = || fs::read_to_string(fixture.room("main/levelling")).unwrap();
    assert_eq!(said(), "on\n");
    fixture.write_server("[room]\nlevelling = false\n");
    assert_eq!(fixture.reload().restarted, ["alice"], "the page must be told");
    assert_eq!(said(), "off\n");
    fixture.wait_until("alice", |new| new.state == State::Ready && new.pid != alice.pid);
}

#[test]
fn flag_disables_levelling_whatever_the_file_says() {
    let mut fixture = Fixture::of(&["alice"]);
    fixture.write_server("[room]\nlevelling = true\n");
    let mut command = fixture.command();
    fixture.start_by(command.arg("--no-levelling"));
    let said = || fs::read_to_string(fixture.room("main/levelling")).ok();
    fixture.wait_for("alice", State::Ready);
    assert_eq!(said().as_deref(), Some("off\n"));
    fixture.write_server("[room]\nlevelling = true\n[stream]\nchunk-ms = 20\n");
    fixture.reload();
    assert_eq!(said().as_deref(), Some("off\n"));
}

#[test]
fn termination_ends_every_listener_and_removes_the_sockets() {
    let mut fixture = Fixture::open(&["alice", "bob"]);
    let pids = ["alice", "bob"].map(|name| fixture.participant(name).pid.unwrap());
    signal(fixture.pid(), "TERM");
    assert!(fixture.wait_for_the_end().success());
    assert!(pids.iter().all(|pid| !runs(*pid)));
    assert!(!fixture.run().join("control.sock").exists() && !fixture.run().join("notify.sock").exists());
    assert!(fixture.room("main/alice").exists());
}

#[test]
fn termination_kills_a_listener_that_hangs() {
    let mut fixture = Fixture::open(&["alice"]);
    let alice = fixture.participant("alice").pid.unwrap();
    signal(alice, "STOP");
    signal(fixture.pid(), "TERM");
    assert!(fixture.wait_for_the_end().success());
    assert!(!runs(alice));
}

#[test]
fn listeners_die_with_a_killed_supervisor_and_the_next_one_starts_new_ones() {
    let mut fixture = Fixture::open(&["alice", "bob"]);
    let pids = ["alice", "bob"].map(|name| fixture.participant(name).pid.unwrap());
    signal(fixture.pid(), "KILL");
    assert!(!fixture.wait_for_the_end().success());
    eventually("the listeners are gone", || pids.iter().all(|pid| !runs(*pid)));
    fixture.start();
    fixture.wait_for("alice", State::Ready);
}

#[test]
fn participants_who_left_while_no_supervisor_ran_have_no_directory() {
    let mut fixture = Fixture::open(&["alice", "bob", "carol", "dora"]);
    let by_hand = fixture.room("main").join("radio");
    std::fs::create_dir(&by_hand).unwrap();
    signal(fixture.pid(), "TERM");
    assert!(fixture.wait_for_the_end().success());
    fixture.remove("bob");
    fixture.write("carol", "port = 0\nroom = \"den\"\n");
    fixture.write("dora", "port = \"invalid\"\n");
    fixture.start();
    fixture.wait_for("carol", State::Ready);
    let main = palabre_room::RoomDir::new(fixture.room("main"));
    let names: Vec<String> = main.participants().unwrap().iter().map(ToString::to_string).collect();
    assert_eq!(names, ["alice", "dora", "radio"]);
    assert!(fixture.room("den/carol").exists());
}

#[test]
fn second_supervisor_in_the_same_directory_is_refused() {
    let fixture = Fixture::open(&["alice"]);
    let alice = fixture.participant("alice");
    let second = fixture.command().stderr(Stdio::piped()).output().unwrap();
    assert_eq!(second.status.code(), Some(1));
    let message = String::from_utf8(second.stderr).unwrap();
    assert!(message.starts_with("palabre-supervisor: unable to start in '"), "{message}");
    assert!(message.contains("another palabre-supervisor runs there"), "{message}");
    assert_eq!(fixture.participant("alice").pid, alice.pid);
}

#[test]
fn invalid_server_file_ends_the_supervisor_with_78_and_names_the_line() {
    let fixture = Fixture::of(&[]);
    fixture.write_server("hots = \"localhost\"\n");
    let output = fixture.command().stderr(Stdio::piped()).output().unwrap();
    assert_eq!(output.status.code(), Some(78));
    let message = String::from_utf8(output.stderr).unwrap();
    assert!(message.contains("palabre.toml', line 2: unknown field `hots`"), "{message}");
    assert!(!message.contains("previous settings"), "{message}");
}

#[test]
fn supervisor_whose_parent_is_another_process_exits() {
    let fixture = Fixture::of(&[]);
    let output = fixture.command().args(["--parent-pid", "1"]).stderr(Stdio::piped()).output().unwrap();
    assert_eq!(output.status.code(), Some(2), "the option was given twice");
    let mut orphan = Command::new(env!("CARGO_BIN_EXE_palabre-supervisor"));
    orphan.arg("--parent-pid").arg("1").arg("--config").arg(fixture.config()).arg("--run").arg(fixture.run());
    let output = orphan.stderr(Stdio::piped()).output().unwrap();
    assert_eq!(output.status.code(), Some(111));
    assert!(String::from_utf8(output.stderr).unwrap().contains("the parent process 1 has ended"));
}

#[test]
fn supervisor_notifies_readiness_and_status() {
    let mut fixture = Fixture::of(&["alice"]);
    let path = fixture.config().join("systemd.sock");
    let systemd = palabre_host::notify::Receiver::bind(&path).unwrap();
    let mut command = fixture.command();
    fixture.start_by(command.env("NOTIFY_SOCKET", &path).env("LISTEN_FDS", "1"));
    let supervisor = fixture.pid();
    // Skip the notifications that store sockets, which another test checks.
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
fn listener_inherits_only_its_socket_from_the_supervisor() {
    let fixture = Fixture::open(&["alice", "bob"]);
    let listener = fixture.participant("alice").pid.unwrap();
    let Some(inherited) = targets(listener) else {
        return palabre_testing::not_shown(
            "which file descriptors a listener inherits",
            "only root can see those of a process that is not dumpable",
        );
    };
    let inherited_by_us = targets(std::process::id()).unwrap();
    let supervisor = targets(fixture.pid()).unwrap();
    let shared: Vec<String> = inherited.intersection(&supervisor).cloned().collect();
    let foreign: Vec<&String> = shared.iter().filter(|target| !inherited_by_us.contains(*target)).collect();
    assert_eq!(foreign.len(), 1, "{foreign:?}");
    assert_eq!(*foreign[0], fs::read_link(format!("/proc/{listener}/fd/3")).unwrap().to_string_lossy());
}

/// Returns the open files of a process, except /dev/null and anonymous inodes. The processes of the test share the test's
/// standard output and standard error.
fn targets(pid: u32) -> Option<BTreeSet<String>> {
    let descriptors = fs::read_dir(format!("/proc/{pid}/fd")).ok()?;
    let targets = descriptors
        .filter_map(|entry| fs::read_link(entry.unwrap().path()).ok())
        .map(|target| target.to_string_lossy().into_owned())
        .filter(|target| target != "/dev/null" && !target.starts_with("anon_inode"));
    Some(targets.collect())
}

/// Environment variable with the directory into which [`a_child_asks`] writes the answers.
const ANSWERS: &str = "PALABRE_TEST_ANSWERS";
/// A listener that asks for a reload in a grandchild of the supervisor and in an orphan, and to be the signer in a grandchild.
const ASKING_LISTENER: &str = "#!/bin/sh
export SUPERVISOR=$PPID
ask() { export KIND=$1; exec \"$PALABRE_TEST_PROGRAM\" --exact a_child_asks >&2; }
(ask child)
(ask signer)
(ask orphan &)
exec sleep 60
";

/// Does nothing in a normal test run. [`ASKING_LISTENER`] runs this test, which then sends a request and writes the answer into a file.
#[test]
fn a_child_asks() {
    let Some(answers) = std::env::var_os(ANSWERS).map(PathBuf::from) else { return };
    let kind = std::env::var("KIND").unwrap();
    let supervisor: u32 = std::env::var("SUPERVISOR").unwrap().parse().unwrap();
    if kind == "orphan" {
        eventually("the supervisor adopts this process", || std::os::unix::process::parent_id() == supervisor);
    }
    let asked = if kind == "signer" { Request::Sign } else { Request::Reload };
    let answer = request(&answers.join("run/control.sock"), &asked, fixture::TIMEOUT).unwrap();
    fs::write(answers.join(".new"), format!("{answer:?}")).unwrap();
    fs::rename(answers.join(".new"), answers.join(kind)).unwrap();
}

#[test]
fn listener_and_its_descendants_may_not_control_the_supervisor() {
    let mut fixture = Fixture::of(&["alice"]);
    let answers = fixture.run().parent().unwrap().to_owned();
    let listener = answers.join("asking-listener");
    fs::write(&listener, ASKING_LISTENER).unwrap();
    fs::set_permissions(&listener, fs::Permissions::from_mode(0o755)).unwrap();
    let mut command = fixture.command_of(Path::new(env!("CARGO_BIN_EXE_palabre-supervisor")), &listener);
    command.env(ANSWERS, &answers).env("PALABRE_TEST_PROGRAM", std::env::current_exe().unwrap());
    fixture.start_by(&mut command);
    for kind in ["child", "signer", "orphan"] {
        eventually("the child is answered", || answers.join(kind).exists());
        let answer = fs::read_to_string(answers.join(kind)).unwrap();
        assert!(answer.starts_with("Refused") && answer.contains("may not control the supervisor"), "{kind}: {answer}");
    }
    assert!(matches!(fixture.ask(&Request::Reload), Ok(Response::Reloaded(_))));
    let [alice] = fixture.status().participants.try_into().unwrap();
    signal(alice.pid.unwrap(), "KILL");
}
