//! Unit tests of a seat: real processes that stay and say nothing, and a time that passes as the test says.

use super::*;
use crate::cli::Cli;
use clap::Parser;
use palabre_config::control::Response;
use std::process::Command;
use std::sync::mpsc::{Receiver, channel};

const READY: Message = Message { ready: true, stopping: false, status: None };

struct Scene {
    _dir: tempfile::TempDir,
    site: Site,
    seat: Seat,
    now: Instant,
}

impl Scene {
    fn open() -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("palabre.toml"), "bind = \"127.0.0.1\"\n").unwrap();
        let listener = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/never-ready");
        let path = dir.path().to_str().unwrap();
        let cli = Cli::parse_from(["x", "--config", path, "--run", path, "--listener", listener]);
        let site = Site::new(&cli, None).unwrap();
        let now = Instant::now();
        let key = palabre_config::Key::generate().unwrap().hash();
        let seat = Seat::open(&site, Participant::new("alice".parse().unwrap(), 0, key), None, now);
        Self { _dir: dir, site, seat, now }
    }

    fn ready() -> Self {
        let mut scene = Self::open();
        scene.says_ready(scene.pid());
        scene
    }

    fn pid(&self) -> u32 {
        self.seat.current.as_ref().unwrap().pid()
    }

    fn successor(&self) -> u32 {
        self.seat.successor.as_ref().unwrap().pid()
    }

    fn says_ready(&mut self, pid: u32) {
        assert!(self.seat.notified(pid, &READY, &self.site, self.now));
    }

    fn pass(&mut self, time: Duration) {
        self.now += time;
        self.seat.tick(&self.site, self.now);
    }

    fn restart(&mut self) -> Receiver<Response> {
        self.ask(Verb::Restart)
    }

    fn ask(&mut self, verb: Verb) -> Receiver<Response> {
        let (answer, answered) = channel();
        self.seat.asked(Waiting { verb, answer }, &self.site, self.now);
        answered
    }

    /// Somebody listens, or nobody does.
    fn says_streams(&mut self, streams: u32) {
        let report = ListenerReport { streams, ..ListenerReport::default() };
        let message = Message { ready: false, stopping: false, status: Some(report.encode()) };
        assert!(self.seat.notified(self.pid(), &message, &self.site, self.now));
    }

    /// Looks at the children until this is so; a process that was killed takes a moment to end.
    fn reap_until(&mut self, is_so: impl Fn(&Seat) -> bool) {
        let deadline = Instant::now() + Duration::from_secs(60);
        while !is_so(&self.seat) {
            assert!(Instant::now() < deadline, "waited too long: {:?}", self.seat);
            self.seat.reap(&self.site, self.now);
            std::thread::yield_now();
        }
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        self.seat.part(self.now);
        self.pass(Duration::from_secs(60));
        if !std::thread::panicking() {
            self.reap_until(Seat::is_gone);
        }
    }
}

fn kill(pid: u32) {
    assert!(Command::new("kill").arg("-KILL").arg(pid.to_string()).status().unwrap().success());
}

fn refusal(answered: &Receiver<Response>) -> String {
    match answered.try_recv().unwrap() {
        Response::Refused { why } => why,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_process_that_is_not_ready_in_time_is_killed_and_started_again() {
    let mut scene = Scene::open();
    let first = scene.pid();
    scene.pass(START_PATIENCE);
    scene.reap_until(|seat| seat.state == State::BackingOff);
    assert_eq!(scene.seat.last_exit.as_deref(), Some("killed by signal 9"));
    assert!(scene.seat.socket.is_some());
    scene.pass(Duration::from_millis(99));
    assert_eq!(scene.seat.state, State::BackingOff);
    scene.pass(Duration::from_millis(1));
    assert_eq!((scene.seat.state, scene.seat.restarts), (State::Starting, 1));
    assert_ne!(scene.pid(), first);
}

#[test]
fn a_successor_that_is_not_ready_in_time_is_killed_and_the_old_process_goes_on() {
    let mut scene = Scene::ready();
    let old = scene.pid();
    let answered = scene.restart();
    assert_eq!((scene.seat.state, scene.seat.successor.is_some()), (State::Ready, true));
    scene.pass(SUCCESSOR_PATIENCE);
    scene.reap_until(|seat| seat.successor.is_none());
    assert!(refusal(&answered).contains("the new listener has ended: killed by signal 9; the old one goes on"));
    assert_eq!(scene.pid(), old);
    scene.pass(Duration::from_secs(60));
    assert_eq!(scene.seat.state, State::Ready, "the same configuration is not tried again");
}

#[test]
fn a_restart_is_answered_when_the_old_process_is_gone() {
    let mut scene = Scene::ready();
    let answered = scene.restart();
    let new = scene.successor();
    scene.says_ready(new);
    assert_eq!((scene.seat.state, scene.pid()), (State::Ready, new));
    assert!(answered.try_recv().is_err());
    scene.reap_until(|seat| seat.leaving.is_empty());
    assert_eq!(answered.try_recv().unwrap(), Response::Ok);
}

#[test]
fn when_the_old_process_dies_first_its_successor_takes_the_seat() {
    let mut scene = Scene::ready();
    let answered = scene.restart();
    let (old, new) = (scene.pid(), scene.successor());
    kill(old);
    scene.reap_until(|seat| seat.state == State::Starting);
    assert_eq!(scene.pid(), new);
    scene.says_ready(new);
    assert_eq!(answered.try_recv().unwrap(), Response::Ok);
}

#[test]
fn a_second_restart_at_the_same_time_is_refused() {
    let mut scene = Scene::ready();
    let first = scene.restart();
    assert!(refusal(&scene.restart()).contains("already"));
    assert!(first.try_recv().is_err());
}

#[test]
fn a_change_during_a_restart_is_followed_by_another_restart() {
    let mut scene = Scene::ready();
    let answered = scene.restart();
    scene.seat.renew();
    let second = scene.successor();
    scene.says_ready(second);
    scene.reap_until(|seat| seat.successor.is_some());
    let third = scene.successor();
    scene.says_ready(third);
    scene.reap_until(|seat| seat.leaving.is_empty());
    assert_eq!((scene.seat.state, scene.pid()), (State::Ready, third));
    assert_eq!(answered.try_recv().unwrap(), Response::Ok);
}

#[test]
fn a_process_that_is_not_of_this_seat_says_nothing_here() {
    let mut scene = Scene::open();
    assert!(!scene.seat.notified(std::process::id(), &READY, &scene.site, scene.now));
    assert_eq!(scene.seat.state, State::Starting);
}

#[test]
fn a_seat_that_is_given_up_closes_its_socket_and_opens_the_same_port_later() {
    let mut scene = Scene::open();
    let port = scene.seat.port;
    for _ in 0..5 {
        kill(scene.pid());
        scene.reap_until(|seat| seat.current.is_none());
        if scene.seat.state == State::BackingOff {
            scene.pass(Duration::from_secs(1));
        }
    }
    assert_eq!(scene.seat.state, State::Failed);
    assert!(scene.seat.socket.is_none());
    scene.pass(Duration::from_secs(30));
    assert_eq!((scene.seat.state, scene.seat.port), (State::Starting, port));
    assert!(scene.seat.socket.is_some());
}

#[test]
fn somebody_who_listens_is_served_and_a_restart_leaves_it_so() {
    let mut scene = Scene::ready();
    scene.says_streams(1);
    assert_eq!(scene.seat.state, State::Serving);
    let answered = scene.restart();
    let new = scene.successor();
    scene.says_ready(new);
    scene.reap_until(|seat| seat.leaving.is_empty());
    assert_eq!((answered.try_recv().unwrap(), scene.seat.state), (Response::Ok, State::Serving));
    scene.says_streams(1);
    scene.pass(Duration::from_secs(60));
    assert_eq!(scene.seat.state, State::Serving);
    scene.says_streams(0);
    scene.pass(Duration::from_secs(60));
    assert_eq!(scene.seat.state, State::Ready);
}

#[test]
fn who_is_stopped_has_no_process_and_no_port_until_somebody_asks() {
    let mut scene = Scene::ready();
    let (port, stopped) = (scene.seat.port, scene.ask(Verb::Stop));
    assert_eq!(scene.seat.state, State::Draining);
    assert!(scene.seat.socket.is_none() && stopped.try_recv().is_err());
    assert!(refusal(&scene.ask(Verb::Stop)).contains("already"));
    assert!(refusal(&scene.ask(Verb::Start)).contains("it is being stopped"));
    scene.reap_until(|seat| seat.state == State::Stopped);
    assert_eq!(stopped.try_recv().unwrap(), Response::Ok);
    scene.pass(Duration::from_secs(3600));
    assert_eq!((scene.seat.state, scene.seat.deadline()), (State::Stopped, None));
    assert!(refusal(&scene.restart()).contains("'palabre start' starts it"));
    assert_eq!(scene.ask(Verb::Stop).try_recv().unwrap(), Response::Ok);
    let started = scene.ask(Verb::Start);
    assert_eq!((scene.seat.state, scene.seat.port, scene.seat.restarts), (State::Starting, port, 0));
    scene.says_ready(scene.pid());
    assert_eq!((started.try_recv().unwrap(), scene.seat.is_parked()), (Response::Ok, false));
}

#[test]
fn a_stop_comes_before_a_restart_and_a_removal_before_both() {
    let mut scene = Scene::ready();
    let restarted = scene.restart();
    let stopped = scene.ask(Verb::Stop);
    assert!(refusal(&restarted).contains("somebody else asked"));
    scene.seat.part(scene.now);
    scene.pass(STOP_PATIENCE);
    scene.reap_until(Seat::is_gone);
    assert_eq!(stopped.try_recv().unwrap(), Response::Ok);
}

#[test]
fn who_is_kicked_finds_a_new_process_at_the_same_port() {
    let mut scene = Scene::ready();
    scene.says_streams(1);
    let (old, port) = (scene.pid(), scene.seat.port);
    let kicked = scene.ask(Verb::Kick);
    assert_eq!((scene.seat.state, scene.seat.port), (State::Starting, port));
    assert!(scene.seat.socket.is_some() && !scene.seat.member("x").here);
    assert_ne!(scene.pid(), old);
    scene.says_ready(scene.pid());
    scene.reap_until(|seat| seat.leaving.is_empty());
    assert_eq!(kicked.try_recv().unwrap(), Response::Ok);
    assert_eq!((scene.seat.restarts, scene.seat.last_exit.clone()), (0, None));
}

#[test]
fn one_that_was_given_up_is_started_when_somebody_asks() {
    let mut scene = Scene::open();
    for _ in 0..5 {
        kill(scene.pid());
        scene.reap_until(|seat| seat.current.is_none());
        if scene.seat.state == State::BackingOff {
            scene.pass(Duration::from_secs(1));
        }
    }
    assert_eq!(scene.ask(Verb::Kick).try_recv().unwrap(), Response::Ok);
    let started = scene.ask(Verb::Start);
    assert_eq!(scene.seat.state, State::Starting);
    scene.says_ready(scene.pid());
    assert_eq!(started.try_recv().unwrap(), Response::Ok);
}

#[test]
fn a_key_that_expires_ends_what_was_begun_with_it() {
    let mut scene = Scene::ready();
    scene.seat.participant.key_expires = Some("2999-12-31T18:00:00Z".parse().unwrap());
    scene.seat.plan_expiry(scene.now);
    let old = scene.pid();
    scene.pass(Duration::from_secs(24 * 60 * 60));
    assert_eq!((scene.pid(), scene.seat.state), (old, State::Ready), "not yet");
    scene.seat.participant.key_expires = Some("2026-01-01T00:00:00Z".parse().unwrap());
    scene.pass(Duration::from_secs(24 * 60 * 60));
    assert_eq!(scene.seat.state, State::Starting);
    assert_ne!(scene.pid(), old);
    scene.says_ready(scene.pid());
    let new = scene.pid();
    scene.pass(Duration::from_secs(48 * 60 * 60));
    assert_eq!((scene.pid(), scene.seat.expiry_at), (new, None), "once");
}
