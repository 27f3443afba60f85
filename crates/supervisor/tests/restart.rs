//! Tests that one request on the control socket restarts the mixer or the supervisor, and is answered once.

#![allow(clippy::unwrap_used, missing_docs)]

mod fixture;

use std::fs;
use std::os::fd::AsFd;
use std::process::Command;
use std::thread;
use std::time::Duration;

use fixture::{Fixture, eventually, signal};
use palabre_config::control::{MixerState, Request, Response, State, Target};
use palabre_host::restart::{Client, RestartSocket};
use palabre_host::{usage, wait};

/// A fake mixer, which has only a restart socket.
struct Mixer(RestartSocket);

impl Mixer {
    fn of(fixture: &Fixture) -> Self {
        let path = fixture.run().join("rooms").join(palabre_room::MIXER_SOCKET);
        // The path can still be in use: a process that another test starts holds a copy of the closed socket until it executes its program.
        let mut socket = None;
        eventually("the previous mixer has closed its socket", || {
            socket = RestartSocket::open(&path).unwrap();
            socket.is_some()
        });
        Self(socket.unwrap())
    }

    fn next(&mut self) -> Client {
        loop {
            // The supervisor keeps a further connection open, on which it sends no request.
            wait::readable(&[self.0.as_fd()], Some(Duration::from_millis(10))).unwrap();
            self.0.accept();
            if let Some(client) = self.0.request() {
                return client;
            }
        }
    }
}

fn restart_mixer(fixture: &Fixture, answer: impl FnOnce(Client) + Send) -> Response {
    let mut mixer = Mixer::of(fixture);
    thread::scope(|scope| {
        scope.spawn(move || answer(mixer.next()));
        fixture.ask(&Request::Restart(Target::Mixer)).unwrap()
    })
}

#[test]
fn restart_of_the_mixer_is_answered_when_it_serves_refuses_or_ends() {
    let fixture = Fixture::open(&["alice"]);
    let Response::Refused { why } = fixture.ask(&Request::Restart(Target::Mixer)).unwrap() else {
        panic!("no refusal")
    };
    assert!(
        why.contains("unable to connect to the restart socket")
            && why.contains("'systemctl restart palabre-mixer' starts a new mixer"),
        "{why}"
    );
    assert_eq!(restart_mixer(&fixture, Client::done), Response::Restarted { pid: std::process::id() });
    let refused =
        restart_mixer(&fixture, |client| client.failed("unable to execute 'x'; the mixer keeps the running program"));
    assert_eq!(refused, Response::Refused { why: "unable to execute 'x'; the mixer keeps the running program".into() });
    let Response::Failed { why } = restart_mixer(&fixture, drop) else { panic!("no failure") };
    assert!(why.ends_with("the daemon ended before its new program was ready; see the mixer's log"), "{why}");
}

#[test]
fn restart_of_a_stopped_mixer_is_refused_with_the_cause_and_the_command() {
    let fixture = Fixture::open(&["alice"]);
    let mut mixer = Command::new(fixture::program("palabre-mixer"));
    let mut mixer = mixer.arg("--rooms").arg(fixture.run().join("rooms")).spawn().unwrap();
    eventually("the mixer runs", || fixture.status().mixer == Some(MixerState::Running));
    signal(mixer.id(), "STOP");
    eventually("the mixer is stopped", || usage::is_stopped(mixer.id()));
    let refused = fixture.ask(&Request::Restart(Target::Mixer)).unwrap();
    signal(mixer.id(), "KILL");
    mixer.wait().unwrap();
    let why = format!("process {0} is stopped; run 'kill -CONT {0}' to continue it", mixer.id());
    assert!(matches!(&refused, Response::Refused { why: text } if text.ends_with(&why)), "{refused:?}");
}

#[test]
fn supervisor_goes_on_with_its_work_while_the_mixer_restarts() {
    let fixture = Fixture::open(&["alice"]);
    let answered = restart_mixer(&fixture, |client| {
        assert_eq!(fixture.restart("alice"), Response::Ok);
        client.done();
    });
    assert!(matches!(answered, Response::Restarted { .. }));
}

#[test]
fn supervisor_that_ends_meanwhile_closes_the_connection_without_an_answer() {
    let mut fixture = Fixture::open(&["alice"]);
    let mut mixer = Mixer::of(&fixture);
    let pid = fixture.pid();
    thread::scope(|scope| {
        let asked = scope.spawn(|| fixture.ask(&Request::Restart(Target::Mixer)));
        let _client = mixer.next();
        signal(pid, "KILL");
        assert!(asked.join().unwrap().unwrap_err().contains("the other program closed the connection"));
    });
    assert!(!fixture.wait_for_the_end().success());
}

#[test]
fn program_that_ends_before_it_serves_leaves_the_client_without_an_answer() {
    let mut fixture = Fixture::of(&["alice"]);
    // This script passes the probe, but exits when it should take over.
    let script =
        "#!/bin/sh\ncase \"$*\" in *--probe*) echo 'takes over from a supervisor with a state of version 1';; esac\n";
    let programs = fixture.config().join("programs");
    fs::create_dir(&programs).unwrap();
    let path = programs.join("palabre-supervisor");
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_palabre-supervisor"), &path).unwrap();
    fixture.start_by(&mut fixture.command_of(&path, fixture::listener()));
    fixture.wait_for("alice", State::Ready);
    fixture::write_program(&path, script);
    let error = fixture.ask(&Request::Restart(Target::Supervisor)).unwrap_err();
    assert!(error.contains("the other program closed the connection"), "{error}");
    assert!(fixture.wait_for_the_end().success(), "the script's own exit status");
}

#[test]
fn client_that_leaves_changes_nothing() {
    use std::io::Write;
    let fixture = Fixture::open(&["alice"]);
    let before = fixture.status().supervisor.unwrap();
    let mut client = std::os::unix::net::UnixStream::connect(fixture.run().join("control.sock")).unwrap();
    client.write_all(b"{\"version\":3,\"request\":{\"restart\":\"supervisor\"}}\n").unwrap();
    drop(client);
    eventually("another program", || {
        // The request may fail while the supervisor replaces its program.
        matches!(fixture.ask(&Request::Status), Ok(Response::Status(status)) if status.supervisor.unwrap() != before)
    });
    fixture.wait_for("alice", State::Ready);
}
