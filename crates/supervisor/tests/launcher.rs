//! Tests of the launcher: palabre-launcher starts listeners for the supervisor.
#![allow(clippy::unwrap_used, missing_docs)]

mod fixture;

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

use fixture::{Fixture, Started, eventually, program, runs, signal};
use palabre_config::control::{Request, Response, State, Target};

/// Returns whether this test can run: it must run as root to start a launcher that the supervisor accepts.
fn may_launch() -> bool {
    let is_root = fs::metadata("/proc/self").unwrap().uid() == 0;
    if !is_root {
        palabre_testing::not_shown("that a launcher starts the listeners", "only root may start one here");
    }
    is_root
}

/// Starts a launcher, and a supervisor that uses it. Waits until the listener of 'alice' is ready. Returns `None` if this test can't run.
fn open() -> Option<(Fixture, Started)> {
    open_by(&program("palabre-launcher"))
}

/// Does the same as [`open`] with the launcher at `path`.
fn open_by(path: &Path) -> Option<(Fixture, Started)> {
    if !may_launch() {
        return None;
    }
    let mut fixture = Fixture::of(&["alice"]);
    let launcher = start_by(&fixture, path);
    fixture.start_by(fixture.command().arg("--await-launcher"));
    fixture.wait_for("alice", State::Ready);
    Some((fixture, launcher))
}

fn start(fixture: &Fixture) -> Started {
    start_by(fixture, &program("palabre-launcher"))
}

fn start_by(fixture: &Fixture, path: &Path) -> Started {
    let mut command = Command::new(path);
    command.arg("--config").arg(fixture.config()).arg("--run").arg(fixture.run());
    command.arg("--listener").arg(fixture::listener()).stdin(Stdio::null());
    Started(command.spawn().unwrap())
}

fn pid(fixture: &Fixture) -> u32 {
    fixture.participant("alice").pid.unwrap()
}

fn parent(pid: u32) -> u32 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    status.lines().find_map(|line| line.strip_prefix("PPid:")).unwrap().trim().parse().unwrap()
}

/// Waits until the listener of 'alice' is ready as another process, and returns its process id.
fn next(fixture: &Fixture, old: u32) -> u32 {
    let status = fixture.wait_until("alice", |alice| alice.state == State::Ready && alice.pid != Some(old));
    status.pid.unwrap()
}

#[test]
fn listeners_are_children_of_the_launcher_and_the_supervisor_learns_how_they_end() {
    let Some((fixture, launcher)) = open() else { return };
    let first = pid(&fixture);
    assert_eq!(parent(first), launcher.pid());
    assert_eq!(fixture.restart("alice"), Response::Ok);
    let second = next(&fixture, first);
    assert_eq!(parent(second), launcher.pid());
    eventually("the first listener has ended", || !runs(first));
    signal(second, "KILL");
    let third = next(&fixture, second);
    assert_eq!(fixture.participant("alice").last_exit.as_deref(), Some("killed by signal 9"));
    assert_eq!(fixture.ask(&Request::Restart(Target::Supervisor)), Ok(Response::Restarted { pid: fixture.pid() }));
    assert_eq!(pid(&fixture), third, "the listener stays the same");
    signal(third, "KILL");
    let fourth = next(&fixture, third);
    assert_eq!(parent(fourth), launcher.pid());
    assert_eq!(fixture.stop("alice"), Response::Ok);
    assert!(!runs(fourth));
    assert_eq!(fixture.begin("alice"), Response::Ok);
    // A configuration that the listener refuses.
    fixture.write_server("rate-hz = 16000\n");
    fs::write(fixture.room("main").join("format"), "?").unwrap();
    signal(pid(&fixture), "KILL");
    let failed = fixture.wait_until("alice", |alice| alice.last_exit.as_ref().is_some_and(|exit| exit.contains("78")));
    assert!(failed.last_exit.unwrap().starts_with("exit code 78: unable to "));
}

#[test]
fn listeners_die_with_the_launcher_and_start_again_with_the_next_one() {
    let Some((fixture, launcher)) = open() else { return };
    let first = pid(&fixture);
    let mut second_launcher = start(&fixture);
    let refused = fixture.ask(&Request::Launch).unwrap();
    let why = format!("palabre-launcher already runs as process {}; end one of the two launchers", launcher.pid());
    assert!(matches!(refused, Response::Refused { why: cause } if cause.ends_with(&why)));
    assert!(second_launcher.0.try_wait().unwrap().is_none());
    drop(second_launcher);
    let gone = launcher.pid();
    drop(launcher);
    eventually("the listener has ended", || !runs(first));
    eventually("an alarm", || {
        let missing = format!("palabre-launcher (process {gone}) has ended, so no listener can start; run ");
        fixture.status().errors.iter().any(|error| error.starts_with(&missing))
    });
    let refused = fixture.restart("alice");
    let launcher = start(&fixture);
    assert_eq!(parent(next(&fixture, first)), launcher.pid());
    assert!(matches!(refused, Response::Refused { .. } | Response::Ok), "{refused:?}");
    assert!(fixture.status().errors.is_empty());
}

#[test]
fn launcher_that_hangs_does_not_stop_the_supervisor() {
    let Some((fixture, launcher)) = open() else { return };
    let (first, stopped) = (pid(&fixture), launcher.pid());
    signal(stopped, "STOP");
    for _ in 0..3 {
        let Response::Refused { why } = fixture.restart("alice") else { panic!("restarted") };
        assert!(
            why.contains(&format!("palabre-launcher (process {stopped}) is stopped, so no listener can start")),
            "{why}"
        );
    }
    assert!(fixture.status().errors[0].contains(&format!("run 'kill -CONT {stopped}' to continue it")));
    assert_eq!((pid(&fixture), runs(first)), (first, true));
    signal(stopped, "CONT");
    // The listener whose start was answered too late is killed.
    eventually("a restart", || fixture.restart("alice") == Response::Ok);
    let second = next(&fixture, first);
    eventually("no other listener runs", || {
        let children = fs::read_to_string(format!("/proc/{stopped}/task/{stopped}/children")).unwrap();
        children.split_whitespace().map(|pid| pid.parse::<u32>().unwrap()).filter(|pid| runs(*pid)).eq([second])
    });
    assert!(fixture.status().errors.is_empty());
}

#[test]
fn launcher_ends_with_its_listeners_when_the_supervisor_dies() {
    let Some((fixture, mut launcher)) = open() else { return };
    let listener = pid(&fixture);
    drop(fixture);
    let mut status = None;
    eventually("the launcher has ended", || {
        status = launcher.0.try_wait().unwrap();
        status.is_some()
    });
    assert!(status.unwrap().success());
    eventually("the listener has ended", || !runs(listener));
}

#[test]
fn launcher_replaces_its_program_and_keeps_the_listeners() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("palabre-launcher");
    // cp(1) writes the file. If this process wrote it, a child that is started meanwhile would inherit the open descriptor, and a file that is open
    // for writing can't be executed.
    let copy =
        |to: &Path| assert!(Command::new("cp").arg(program("palabre-launcher")).arg(to).status().unwrap().success());
    copy(&path);
    let Some((fixture, launcher)) = open_by(&path) else { return };
    let (first, program) = (pid(&fixture), || fs::metadata(format!("/proc/{}/exe", launcher.pid())).unwrap().ino());
    let old = program();
    signal(launcher.pid(), "HUP");
    let new = directory.path().join("new");
    copy(&new);
    fs::rename(&new, &path).unwrap();
    signal(launcher.pid(), "HUP");
    eventually("the new program", || program() != old);
    assert_eq!(pid(&fixture), first);
    signal(first, "KILL");
    assert_eq!(parent(next(&fixture, first)), launcher.pid());
}

#[test]
fn launcher_without_free_descriptors_refuses_a_start_and_takes_the_next_order() {
    let Some((fixture, launcher)) = open() else { return };
    let first = pid(&fixture);
    let open_files = fs::read_dir(format!("/proc/{}/fd", launcher.pid())).unwrap().count();
    let limit = |files: usize| {
        let prlimit = Command::new("prlimit")
            .args(["--pid", &launcher.pid().to_string(), &format!("--nofile={files}:")])
            .status();
        assert!(prlimit.unwrap().success());
    };
    limit(open_files + 1);
    for _ in 0..2 {
        let Response::Refused { why } = fixture.restart("alice") else { panic!("restarted") };
        assert!(
            why.contains(
                "the descriptors for the listener are missing, because the limit of open files of palabre-launcher"
            ),
            "{why}"
        );
    }
    limit(1024);
    assert_eq!(fixture.restart("alice"), Response::Ok);
    assert_eq!(parent(next(&fixture, first)), launcher.pid());
}
