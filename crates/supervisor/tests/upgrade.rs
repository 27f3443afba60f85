//! Upgrades of the supervisor in its own process, with programs of the same build. Also tests the sockets that systemd stores for the
//! supervisor.

#![allow(clippy::unwrap_used, missing_docs)]

mod fixture;

use std::fs;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use fixture::manager::Manager;
use fixture::{Fixture, Prober, eventually, holds, listener, runs, signal};
use palabre_config::control::{Request, Response, State, Target};

/// Copies of the programs in a temporary directory. A test replaces them by rename, as a package manager does.
struct Programs {
    dir: tempfile::TempDir,
}

impl Programs {
    fn new() -> Self {
        let programs = Self { dir: tempfile::tempdir().unwrap() };
        programs.replace("palabre-supervisor");
        programs.replace("palabre-listener");
        programs.replace("palabre-signer");
        programs
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Replaces a program by another file of the same content. cp(1) writes the file. If this process wrote it, a child that is started meanwhile
    /// would inherit the open descriptor, and a file that is open for writing can't be executed.
    fn replace(&self, name: &str) {
        let made = Path::new(env!("CARGO_BIN_EXE_palabre-supervisor")).with_file_name(name);
        let new = self.path(&format!("{name}.new"));
        assert!(Command::new("cp").arg(made).arg(&new).status().unwrap().success());
        fs::rename(new, self.path(name)).unwrap();
    }

    fn start(&self, fixture: &mut Fixture) {
        listener();
        fixture.start_by(&mut fixture.command_of(&self.path("palabre-supervisor"), &self.path("palabre-listener")));
    }
}

fn upgrade(fixture: &Fixture) -> Result<Response, String> {
    fixture.ask(&Request::Restart(Target::Supervisor))
}

/// Returns the lines of `/proc/PID/status` about the filters of system calls.
fn filters(pid: u32) -> Vec<String> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    status.lines().filter(|line| line.starts_with("Seccomp")).map(str::to_owned).collect()
}

fn began(fixture: &Fixture) -> u64 {
    fixture.status().supervisor.unwrap().began_ms
}

#[test]
fn hangup_replaces_all_newer_programs_and_no_connection_is_refused() {
    let (programs, mut fixture) = (Programs::new(), Fixture::of(&["alice", "bob", "carol"]));
    programs.start(&mut fixture);
    let old = ["alice", "bob"].map(|name| fixture.wait_for(name, State::Ready));
    fixture.wait_for("carol", State::Ready);
    assert_eq!(fixture.stop("carol"), Response::Ok);
    let (pid, before) = (fixture.pid(), began(&fixture));
    let filters_before = filters(pid);
    assert!(filters_before.contains(&"Seccomp:\t2".to_owned()), "{filters_before:?}");
    let prober = Prober::at(old[0].port);
    programs.replace("palabre-supervisor");
    programs.replace("palabre-listener");
    fixture.write("dave", "port = 0\n");
    signal(pid, "HUP");
    for alice in &old {
        let new = fixture.wait_until(&alice.name, |new| new.state == State::Ready && new.pid != alice.pid);
        assert_eq!((new.port, new.restarts, new.last_exit), (alice.port, 0, None));
        assert!(holds(pid, new.port));
        eventually("the old listener is gone", || !runs(alice.pid.unwrap()));
    }
    assert_eq!(prober.refusals(), 0);
    assert_eq!(filters(pid), filters_before);
    let status = fixture.status();
    assert_eq!(status.supervisor.unwrap().pid, pid);
    assert_ne!(status.supervisor.unwrap().began_ms, before);
    assert!(status.errors.is_empty(), "{:?}", status.errors);
    assert_eq!(fixture.participant("carol").state, State::Stopped);
    fixture.wait_for("dave", State::Ready);
    // The supervisor still notices the death of a child that it started before the upgrade.
    let alice = fixture.participant("alice");
    signal(alice.pid.unwrap(), "KILL");
    fixture.wait_until("alice", |again| again.state == State::Ready && again.restarts == 1);
    signal(pid, "TERM");
    assert!(fixture.wait_for_the_end().success());
}

#[test]
fn supervisor_restarts_with_the_same_program_and_keeps_its_listeners() {
    let fixture = Fixture::open(&["alice", "bob"]);
    let (alice, pid) = (fixture.participant("alice"), fixture.pid());
    for _ in 0..3 {
        let before = began(&fixture);
        assert_eq!(upgrade(&fixture), Ok(Response::Restarted { pid }));
        assert_ne!(began(&fixture), before);
        let same = fixture.participant("alice");
        assert_eq!((same.state, same.pid, same.port, same.restarts), (State::Ready, alice.pid, alice.port, 0));
    }
    assert!(runs(pid));
    assert_eq!(fixture.restart("alice"), Response::Ok);
    assert_ne!(fixture.participant("alice").pid, alice.pid);
    let second = fixture.command().output().unwrap();
    assert_eq!(second.status.code(), Some(1), "the lock is held all the time");
    // Children that the previous program started still die with the supervisor.
    let bob = fixture.participant("bob").pid.unwrap();
    signal(pid, "KILL");
    eventually("the listeners are gone", || !runs(bob));
}

#[test]
fn upgrade_keeps_the_fault_of_a_failed_write_of_a_gain_and_repeats_the_write() {
    let fixture = Fixture::open(&["alice"]);
    let gain = fixture.room("main").join("alice/gain");
    // While this directory exists, the file `gain` can't be written.
    fs::create_dir(&gain).unwrap();
    fixture.write("alice", "port = 0\nmuted = true\n");
    fixture.reload();
    assert_eq!(upgrade(&fixture), Ok(Response::Restarted { pid: fixture.pid() }));
    assert!(fixture.participant("alice").gain_fault.is_some());
    fs::remove_dir(&gain).unwrap();
    eventually("the gain is written", || fs::read_to_string(&gain).is_ok_and(|text| text == "mute\n"));
}

#[test]
fn only_listeners_are_replaced_if_only_their_program_is_newer() {
    let (programs, mut fixture) = (Programs::new(), Fixture::of(&["alice", "bob"]));
    programs.start(&mut fixture);
    let (alice, before) = (fixture.wait_for("alice", State::Ready), began(&fixture));
    let bob = fixture.wait_for("bob", State::Ready);
    signal(fixture.pid(), "HUP");
    fixture.write("carol", "port = 0\n");
    signal(fixture.pid(), "HUP");
    fixture.wait_for("carol", State::Ready);
    assert_eq!(fixture.participant("alice").pid, alice.pid, "nothing is newer");
    programs.replace("palabre-listener");
    signal(fixture.pid(), "HUP");
    for old in [alice, bob] {
        fixture.wait_until(&old.name, |new| new.state == State::Ready && new.pid != old.pid);
    }
    assert_eq!(began(&fixture), before);
}

#[test]
fn refused_upgrade_keeps_the_old_program_and_raises_an_alarm() {
    let (programs, mut fixture) = (Programs::new(), Fixture::of(&["alice"]));
    programs.start(&mut fixture);
    let (alice, before) = (fixture.wait_for("alice", State::Ready), began(&fixture));
    fixture.write_server("hots = 1\n");
    let Ok(Response::Refused { why }) = upgrade(&fixture) else { panic!("it was not refused") };
    assert!(
        why.contains("palabre.toml', line 2: unknown field `hots`") && why.contains("keeps the running program"),
        "{why}"
    );
    assert!(fixture.status().errors.contains(&why));
    fixture.write_server("");
    fs::remove_file(programs.path("palabre-supervisor")).unwrap();
    fixture.write("bob", "port = 0\n");
    signal(fixture.pid(), "HUP");
    fixture.wait_for("bob", State::Ready);
    let errors = fixture.status().errors;
    assert!(errors.iter().any(|error| error.contains("No such file or directory")), "{errors:?}");
    for (another, says) in [("/bin/false", "ended with exit status: 1"), ("/bin/true", "did not confirm")] {
        std::os::unix::fs::symlink(another, programs.path("palabre-supervisor")).unwrap();
        let Ok(Response::Refused { why }) = upgrade(&fixture) else { panic!("{another} was not refused") };
        assert!(why.contains(says), "{why}");
        fs::remove_file(programs.path("palabre-supervisor")).unwrap();
    }
    assert_eq!((fixture.participant("alice").pid, began(&fixture)), (alice.pid, before));
    programs.replace("palabre-supervisor");
    assert_eq!(upgrade(&fixture), Ok(Response::Restarted { pid: fixture.pid() }));
    assert_ne!(began(&fixture), before);
    assert!(fixture.status().errors.is_empty());
    assert_eq!(fixture.participant("alice").pid, alice.pid);
}

#[test]
fn program_that_vanishes_after_the_probe_keeps_the_old_one_running() {
    let (programs, mut fixture) = (Programs::new(), Fixture::of(&["alice"]));
    programs.start(&mut fixture);
    let (alice, before) = (fixture.wait_for("alice", State::Ready), began(&fixture));
    // This program passes the probe and removes its own file, so that it can't be executed.
    let promise = "#!/bin/sh\nrm \"$0\"; echo 'takes over from a supervisor with a state of version 1'\n";
    let text = fixture.config().join("promise");
    fs::write(&text, promise).unwrap();
    fs::set_permissions(&text, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    assert!(Command::new("cp").arg(&text).arg(programs.path("new")).status().unwrap().success());
    fs::rename(programs.path("new"), programs.path("palabre-supervisor")).unwrap();
    let Ok(Response::Refused { why }) = upgrade(&fixture) else { panic!("it was not refused") };
    assert!(why.contains("No such file or directory"), "{why}");
    assert!(fixture.status().errors.contains(&why));
    assert_eq!((fixture.participant("alice").pid, began(&fixture)), (alice.pid, before));
    assert_eq!(fixture.restart("alice"), Response::Ok, "its READY=1 is heard");
    let second = fixture.command().output().unwrap();
    assert_eq!(second.status.code(), Some(1), "the lock is held as before");
}

#[test]
fn configuration_that_becomes_invalid_after_the_probe_keeps_the_previous_settings() {
    let (programs, mut fixture) = (Programs::new(), Fixture::of(&["alice"]));
    programs.start(&mut fixture);
    let (alice, before) = (fixture.wait_for("alice", State::Ready), began(&fixture));
    // This program passes the probe and then makes palabre.toml invalid.
    let real = programs.path("real");
    fs::rename(programs.path("palabre-supervisor"), &real).unwrap();
    let (file, real) = (fixture.config().join("palabre.toml"), real.display().to_string());
    let script = format!(
        "#!/bin/sh\ncase \"$*\" in *--probe*) echo 'hots = 1' >>'{}'; \
         echo 'takes over from a supervisor with a state of version 1';; *) exec '{real}' \"$@\";; esac\n",
        file.display()
    );
    let text = fixture.config().join("script");
    fs::write(&text, script).unwrap();
    fs::set_permissions(&text, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    assert!(Command::new("cp").arg(&text).arg(programs.path("palabre-supervisor")).status().unwrap().success());
    assert_eq!(upgrade(&fixture), Ok(Response::Restarted { pid: fixture.pid() }));
    assert_ne!(began(&fixture), before);
    let errors = fixture.status().errors;
    assert!(errors.iter().any(|error| error.contains("unknown field `hots`")), "{errors:?}");
    assert_eq!(fixture.participant("alice").pid, alice.pid);
    fixture.write_server("");
    assert!(fixture.reload().errors.is_empty());
}

#[test]
fn newer_listener_that_fails_ends_the_series_of_handovers_with_an_alarm() {
    let (programs, mut fixture) = (Programs::new(), Fixture::of(&["alice", "bob"]));
    programs.start(&mut fixture);
    let old = ["alice", "bob"].map(|name| fixture.wait_for(name, State::Ready).pid);
    fs::remove_file(programs.path("palabre-listener")).unwrap();
    std::os::unix::fs::symlink("/bin/false", programs.path("palabre-listener")).unwrap();
    signal(fixture.pid(), "HUP");
    let alarm = || fixture.status().errors.into_iter().find(|error| error.contains("unable to replace the listener"));
    eventually("an alarm", || alarm().is_some());
    assert_eq!(["alice", "bob"].map(|name| fixture.participant(name).pid), old);
}

#[test]
fn stored_sockets_outlive_a_killed_supervisor_and_the_watchdog_is_notified() {
    let mut fixture = Fixture::of(&["alice"]);
    let manager = Manager::of(&fixture);
    manager.start(&mut fixture, &[]);
    let fd = manager.wait_for("FDSTORE=1\nFDNAME=alice\nFDPOLL=0\n").unwrap();
    manager.wait_for("READY=1");
    manager.wait_for("WATCHDOG=1");
    manager.wait_for("WATCHDOG=1");
    let alice = fixture.wait_for("alice", State::Ready);
    signal(fixture.pid(), "KILL");
    assert!(!fixture.wait_for_the_end().success());
    eventually("the listener is gone", || !runs(alice.pid.unwrap()));
    // A new connection waits in the stored listening socket while no listener runs.
    let pending = TcpStream::connect(("127.0.0.1", alice.port)).unwrap();
    manager.start(&mut fixture, &[("alice", fd)]);
    let again = fixture.wait_for("alice", State::Ready);
    assert_eq!(again.port, alice.port, "port 0 would have been another one");
    assert!(holds(fixture.pid(), alice.port));
    pending.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    manager.wait_for("FDSTORE=1\nFDNAME=alice\nFDPOLL=0\n");
    assert_eq!(upgrade(&fixture), Ok(Response::Restarted { pid: fixture.pid() }), "an upgrade keeps the stored socket");
    manager.wait_for("READY=1");
    assert_eq!(fixture.wait_for("alice", State::Ready).pid, again.pid);
    manager.wait_for("WATCHDOG=1");
    fixture.remove("alice");
    fixture.reload();
    manager.wait_for("FDSTOREREMOVE=1\nFDNAME=alice\n");
    nix::unistd::close(fd).unwrap();
}

#[test]
fn unused_stored_socket_is_removed_from_the_store() {
    let mut fixture = Fixture::of(&["alice"]);
    let manager = Manager::of(&fixture);
    manager.start(&mut fixture, &[]);
    let fd = manager.wait_for("FDNAME=alice").unwrap();
    let alice = fixture.wait_for("alice", State::Ready);
    signal(fixture.pid(), "TERM");
    assert!(fixture.wait_for_the_end().success());
    let (socket, port) = fixture::occupied_port();
    drop(socket);
    fixture.write("alice", &format!("port = {port}\n"));
    manager.start(&mut fixture, &[("alice", fd)]);
    manager.wait_for("FDSTOREREMOVE=1\nFDNAME=alice\n");
    assert_ne!(fixture.wait_for("alice", State::Ready).port, alice.port);
    signal(fixture.pid(), "TERM");
    assert!(fixture.wait_for_the_end().success());
    fixture.remove("alice");
    manager.start(&mut fixture, &[("alice", fd)]);
    manager.wait_for("FDSTOREREMOVE=1\nFDNAME=alice\n");
    nix::unistd::close(fd).unwrap();
}

#[test]
fn unexpected_inherited_descriptors_are_closed() {
    let mut fixture = Fixture::of(&["alice"]);
    let supervisor = fixture.command();
    let mut command = Command::new("sh");
    command.args(["-c", "exec 7</etc/passwd 8</etc/passwd && exec \"$0\" \"$@\""]).arg(supervisor.get_program());
    fixture.start_by(command.args(supervisor.get_args()));
    let open = fs::read_dir(format!("/proc/{}/fd", fixture.pid())).unwrap();
    let open: Vec<PathBuf> = open.filter_map(|entry| fs::read_link(entry.unwrap().path()).ok()).collect();
    assert!(!open.contains(&PathBuf::from("/etc/passwd")), "{open:?}");
}
