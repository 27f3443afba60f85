//! Unit tests of a service. The listeners are real processes that run and send nothing; the time is simulated.

use super::*;
use crate::cli::Cli;
use clap::Parser;
use palabre_config::control::Response;
use palabre_room::{Gain, ParticipantDir};
use std::process::Command;
use std::sync::mpsc::{Receiver, channel};

const READY: Message = Message { ready: true, stopping: false, status: None };

struct Fixture {
    _dir: tempfile::TempDir,
    config: Config,
    service: Service,
    now: Instant,
}

impl Fixture {
    fn open() -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("palabre.toml"), "bind = \"127.0.0.1\"\n").unwrap();
        let listener = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/never-ready");
        let path = dir.path().to_str().unwrap();
        let cli = Cli::parse_from(["x", "--config", path, "--run", path, "--listener", listener]);
        let config = Config::new(&cli, None).unwrap();
        let now = Instant::now();
        let key = palabre_config::Key::generate().unwrap().hash();
        let service = Service::open(&config, Participant::new("alice".parse().unwrap(), 0, key), None, now);
        Self { _dir: dir, config, service, now }
    }

    fn ready() -> Self {
        let mut fixture = Self::open();
        fixture.says_ready(fixture.pid());
        fixture
    }

    fn pid(&self) -> u32 {
        self.service.current.as_ref().unwrap().pid()
    }

    fn successor(&self) -> u32 {
        self.service.successor.as_ref().unwrap().pid()
    }

    fn says_ready(&mut self, pid: u32) {
        assert!(self.service.notified(pid, &READY, &self.config, self.now));
    }

    fn pass(&mut self, time: Duration) {
        self.now += time;
        self.service.tick(&self.config, self.now);
    }

    fn directory(&self) -> ParticipantDir {
        let alice = self.service.participant();
        self.config.participant(&alice.room, &alice.name)
    }

    fn dies_and_restarts(&mut self) {
        kill(self.pid());
        self.reap_until(|service| service.state == State::BackingOff);
        self.pass(Duration::from_secs(60));
        assert_eq!(self.service.state, State::Starting);
    }

    fn restart(&mut self) -> Receiver<Response> {
        self.ask(Action::Restart)
    }

    fn ask(&mut self, action: Action) -> Receiver<Response> {
        let (answer, answered) = channel();
        self.service.request(Pending { action, answer }, &self.config, self.now);
        answered
    }

    /// Passes a report with this number of streams from the listener to the service.
    fn says_streams(&mut self, streams: u32) {
        let report = ListenerReport { streams, ..ListenerReport::default() };
        let message = Message { ready: false, stopping: false, status: Some(report.encode()) };
        assert!(self.service.notified(self.pid(), &message, &self.config, self.now));
    }

    /// Reaps the children until `is_so` returns true. A killed process needs a short time to end.
    fn reap_until(&mut self, is_so: impl Fn(&Service) -> bool) {
        let deadline = Instant::now() + Duration::from_secs(60);
        while !is_so(&self.service) {
            assert!(Instant::now() < deadline, "waited too long: {:?}", self.service);
            self.service.note_ends();
            self.service.reap(&self.config, self.now);
            std::thread::yield_now();
        }
    }
}

impl Drop for Fixture {
    fn drop(&mut self) {
        self.service.remove(self.now);
        self.pass(Duration::from_secs(60));
        if !std::thread::panicking() {
            self.reap_until(Service::is_gone);
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

/// The reaping for an earlier SIGCHLD can come after a process has ended, but before the process's last notification, with the reason, has
/// arrived. Then the process is not reaped yet.
#[test]
fn process_is_reaped_only_after_its_reason_has_arrived() {
    let mut fixture = Fixture::ready();
    let pid = fixture.pid();
    kill(pid);
    let stat = || std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    while !stat().contains(") Z ") {
        std::thread::yield_now();
    }
    fixture.service.reap(&fixture.config, fixture.now);
    assert_eq!((fixture.service.state, fixture.pid()), (State::Ready, pid));
    let message = Message { ready: false, stopping: false, status: Some("unable to read 'x'".to_owned()) };
    assert!(fixture.service.notified(pid, &message, &fixture.config, fixture.now));
    fixture.reap_until(|service| service.state == State::BackingOff);
    assert_eq!(fixture.service.last_exit.as_deref(), Some("killed by signal 9: unable to read 'x'"));
}

#[test]
fn process_that_is_not_ready_in_time_is_killed_and_restarted() {
    let mut fixture = Fixture::open();
    let first = fixture.pid();
    fixture.pass(START_TIMEOUT);
    fixture.reap_until(|service| service.state == State::BackingOff);
    assert_eq!(fixture.service.last_exit.as_deref(), Some("killed by signal 9"));
    assert!(fixture.service.socket.is_some());
    fixture.pass(Duration::from_millis(99));
    assert_eq!(fixture.service.state, State::BackingOff);
    fixture.pass(Duration::from_millis(1));
    assert_eq!((fixture.service.state, fixture.service.restarts), (State::Starting, 1));
    assert_ne!(fixture.pid(), first);
}

#[test]
fn new_service_replaces_the_file_gain_of_an_earlier_supervisor() {
    let mut fixture = Fixture::ready();
    let (alice, directory) = (fixture.service.participant().clone(), fixture.directory());
    fixture.service.dismiss(fixture.now);
    fixture.reap_until(Service::is_gone);
    directory.set_gain(Some(Gain::Mute)).unwrap();
    fixture.service = Service::open(&fixture.config, alice, None, fixture.now);
    assert_eq!(directory.gain().unwrap(), Gain::default());
}

#[test]
fn restart_keeps_an_operators_file_gain_and_writes_the_gain_into_a_new_directory() {
    let mut fixture = Fixture::ready();
    let directory = fixture.directory();
    let muted = Participant { muted: true, ..fixture.service.participant().clone() };
    fixture.service.change(&fixture.config, muted, fixture.now);
    directory.set_gain(None).unwrap();
    fixture.dies_and_restarts();
    assert_eq!(directory.gain().unwrap(), Gain::default());
    directory.remove().unwrap();
    fixture.dies_and_restarts();
    assert_eq!(directory.gain().unwrap(), Gain::Mute);
}

#[test]
fn successor_that_is_not_ready_in_time_is_killed_and_the_old_process_stays() {
    let mut fixture = Fixture::ready();
    let old = fixture.pid();
    let answered = fixture.restart();
    assert_eq!((fixture.service.state, fixture.service.successor.is_some()), (State::Ready, true));
    fixture.pass(SUCCESSOR_TIMEOUT);
    fixture.reap_until(|service| service.successor.is_none());
    assert!(
        refusal(&answered)
            .contains("the new listener has ended: killed by signal 9; the previous listener keeps running")
    );
    assert_eq!(fixture.pid(), old);
    let status = fixture.service.status(fixture.now);
    assert_eq!((status.last_exit, status.pending), (None, false), "the process that serves has not exited");
    assert!(status.kept.unwrap().contains("killed by signal 9; the previous process keeps running"));
    fixture.pass(Duration::from_secs(60));
    assert_eq!(fixture.service.state, State::Ready, "a second successor with the same configuration was started");
}

#[test]
fn last_exit_is_shown_until_the_listener_is_replaced_or_has_served_for_an_hour() {
    let mut fixture = Fixture::ready();
    let last_exit = |fixture: &Fixture| fixture.service.status(fixture.now).last_exit;
    for replace in [false, true] {
        kill(fixture.pid());
        fixture.reap_until(|service| service.state == State::BackingOff);
        fixture.pass(Duration::from_secs(1));
        fixture.says_ready(fixture.pid());
        assert_eq!(last_exit(&fixture).as_deref(), Some("killed by signal 9"));
        if replace {
            let _answered = fixture.restart();
            fixture.says_ready(fixture.successor());
        } else {
            fixture.pass(EXIT_SHOWN);
        }
        assert_eq!(last_exit(&fixture), None);
    }
}

#[test]
fn reason_that_a_process_reports_is_shown_after_its_exit() {
    let mut fixture = Fixture::open();
    let message = Message { status: Some("unable to read 'x'".into()), ..Message::default() };
    assert!(fixture.service.notified(fixture.pid(), &message, &fixture.config, fixture.now));
    kill(fixture.pid());
    fixture.reap_until(|service| service.state == State::BackingOff);
    let status = fixture.service.status(fixture.now);
    assert_eq!(status.last_exit.as_deref(), Some("killed by signal 9: unable to read 'x'"));
    assert_eq!(status.note, status.last_exit);
}

/// Collects the log lines of this process, each with the value of its field `PALABRE_INSTANCE`.
struct Collector(std::sync::Mutex<Vec<(String, String)>>);

static COLLECTOR: Collector = Collector(std::sync::Mutex::new(Vec::new()));

impl log::Log for Collector {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        let instance = record.key_values().get("PALABRE_INSTANCE".into()).map(|value| value.to_string());
        self.0.lock().unwrap().push((record.args().to_string(), instance.unwrap_or_default()));
    }

    fn flush(&self) {}
}

#[test]
fn log_lines_about_a_participant_have_its_name_as_a_field() {
    log::set_logger(&COLLECTOR).unwrap();
    log::set_max_level(log::LevelFilter::Info);
    let fixture = Fixture::ready();
    let line = format!("the listener of 'alice' serves port {} as process {}", fixture.service.port, fixture.pid());
    assert!(COLLECTOR.0.lock().unwrap().contains(&(line, "alice".to_owned())));
}

#[test]
fn renewal_of_the_certificate_is_pending_until_the_listener_reports_it_or_times_out() {
    let mut fixture = Fixture::ready();
    let report = |reads, fault: &str| Message {
        status: Some(
            ListenerReport {
                certificate_reads: reads,
                certificate_refused: !fault.is_empty(),
                certificate_fault: fault.into(),
                ..ListenerReport::default()
            }
            .encode(),
        ),
        ..Message::default()
    };
    let says = |fixture: &mut Fixture, reads, fault| {
        let message = report(reads, fault);
        assert!(fixture.service.notified(fixture.pid(), &message, &fixture.config, fixture.now));
        let status = fixture.service.status(fixture.now);
        (status.pending, status.kept.unwrap_or_default())
    };
    assert_eq!(says(&mut fixture, 1, ""), (false, String::new()));
    fixture.service.renewal.begin(fixture.service.report.as_ref(), fixture.now);
    assert_eq!(says(&mut fixture, 1, ""), (true, String::new()));
    let (pending, kept) = says(&mut fixture, 2, "a key of another certificate");
    assert!(!pending && kept.contains("of 'alice': a key of another certificate; the listener keeps"), "{kept}");
    fixture.service.renewal.begin(fixture.service.report.as_ref(), fixture.now);
    assert!(says(&mut fixture, 2, "").0);
    fixture.pass(Duration::from_secs(5));
    let status = fixture.service.status(fixture.now);
    assert!(!status.pending && status.kept.unwrap().contains("the listener does not answer"));
    assert_eq!(says(&mut fixture, 3, ""), (false, String::new()));
}

#[test]
fn restart_is_answered_when_the_old_process_has_ended() {
    let mut fixture = Fixture::ready();
    let answered = fixture.restart();
    let new = fixture.successor();
    fixture.says_ready(new);
    assert_eq!((fixture.service.state, fixture.pid()), (State::Ready, new));
    assert!(answered.try_recv().is_err());
    fixture.reap_until(|service| service.leaving.is_empty());
    assert_eq!(answered.try_recv().unwrap(), Response::Ok);
}

#[test]
fn successor_takes_over_if_the_old_process_dies_first() {
    let mut fixture = Fixture::ready();
    let answered = fixture.restart();
    let (old, new) = (fixture.pid(), fixture.successor());
    kill(old);
    fixture.reap_until(|service| service.state == State::Starting);
    assert_eq!(fixture.pid(), new);
    fixture.says_ready(new);
    assert_eq!(answered.try_recv().unwrap(), Response::Ok);
}

#[test]
fn second_restart_at_the_same_time_is_refused() {
    let mut fixture = Fixture::ready();
    let first = fixture.restart();
    assert!(refusal(&fixture.restart()).contains("already"));
    assert!(first.try_recv().is_err());
}

#[test]
fn change_during_a_restart_leads_to_another_restart() {
    let mut fixture = Fixture::ready();
    let answered = fixture.restart();
    fixture.service.request_successor();
    let second = fixture.successor();
    fixture.says_ready(second);
    fixture.reap_until(|service| service.successor.is_some());
    let third = fixture.successor();
    fixture.says_ready(third);
    fixture.reap_until(|service| service.leaving.is_empty());
    assert_eq!((fixture.service.state, fixture.pid()), (State::Ready, third));
    assert_eq!(answered.try_recv().unwrap(), Response::Ok);
}

#[test]
fn notification_of_another_process_is_ignored() {
    let mut fixture = Fixture::open();
    assert!(!fixture.service.notified(std::process::id(), &READY, &fixture.config, fixture.now));
    assert_eq!(fixture.service.state, State::Starting);
}

#[test]
fn service_that_is_given_up_closes_its_socket_and_opens_the_same_port_later() {
    let mut fixture = Fixture::open();
    let port = fixture.service.port;
    for _ in 0..5 {
        kill(fixture.pid());
        fixture.reap_until(|service| service.current.is_none());
        if fixture.service.state == State::BackingOff {
            fixture.pass(Duration::from_secs(1));
        }
    }
    assert_eq!(fixture.service.state, State::Failed);
    assert!(fixture.service.socket.is_none());
    fixture.pass(Duration::from_secs(30));
    assert_eq!((fixture.service.state, fixture.service.port), (State::Starting, port));
    assert!(fixture.service.socket.is_some());
}

#[test]
fn error_advises_to_give_the_listeners_path_only_if_the_program_is_missing() {
    let mut fixture = Fixture::ready();
    fixture.config.listener = "/nonexistent/palabre-listener".into();
    let cause = |it: &Fixture| it.service.spawn(&it.config, START_TIMEOUT, it.now).map(drop).unwrap_err().to_string();
    assert!(
        cause(&fixture).ends_with("; start palabre-supervisor with --listener PATH, the path of palabre-listener"),
        "{}",
        cause(&fixture)
    );
    fixture.service.close_port();
    assert!(
        cause(&fixture).contains(": the supervisor has closed the participant's port, because "),
        "{}",
        cause(&fixture)
    );
}

#[test]
fn restart_keeps_the_state_of_a_connected_participant() {
    let mut fixture = Fixture::ready();
    fixture.says_streams(1);
    assert_eq!(fixture.service.state, State::Serving);
    let answered = fixture.restart();
    let new = fixture.successor();
    fixture.says_ready(new);
    fixture.reap_until(|service| service.leaving.is_empty());
    assert_eq!((answered.try_recv().unwrap(), fixture.service.state), (Response::Ok, State::Serving));
    fixture.says_streams(1);
    fixture.pass(Duration::from_secs(60));
    assert_eq!(fixture.service.state, State::Serving);
    fixture.says_streams(0);
    fixture.pass(Duration::from_secs(60));
    assert_eq!(fixture.service.state, State::Ready);
}

#[test]
fn stopped_service_has_no_process_and_no_port_until_it_is_started() {
    let mut fixture = Fixture::ready();
    let (port, stopped) = (fixture.service.port, fixture.ask(Action::Stop));
    assert_eq!(fixture.service.state, State::Draining);
    assert!(fixture.service.socket.is_none() && stopped.try_recv().is_err());
    assert!(refusal(&fixture.ask(Action::Stop)).contains("already"));
    assert!(refusal(&fixture.ask(Action::Start)).contains("the participant's listener is being stopped"));
    fixture.reap_until(|service| service.state == State::Stopped);
    assert_eq!(stopped.try_recv().unwrap(), Response::Ok);
    fixture.pass(Duration::from_secs(3600));
    assert_eq!((fixture.service.state, fixture.service.deadline()), (State::Stopped, None));
    assert!(refusal(&fixture.restart()).contains("'palabre start' starts the listener"));
    assert_eq!(fixture.ask(Action::Stop).try_recv().unwrap(), Response::Ok);
    let started = fixture.ask(Action::Start);
    assert_eq!((fixture.service.state, fixture.service.port, fixture.service.restarts), (State::Starting, port, 0));
    fixture.says_ready(fixture.pid());
    assert_eq!((started.try_recv().unwrap(), fixture.service.is_stopped()), (Response::Ok, false));
}

#[test]
fn stop_displaces_a_restart_and_a_removal_both() {
    let mut fixture = Fixture::ready();
    let restarted = fixture.restart();
    let stopped = fixture.ask(Action::Stop);
    assert!(refusal(&restarted).contains("another client asked"));
    fixture.service.remove(fixture.now);
    fixture.pass(STOP_TIMEOUT);
    fixture.reap_until(Service::is_gone);
    assert_eq!(stopped.try_recv().unwrap(), Response::Ok);
}

#[test]
fn kick_starts_a_new_process_at_the_same_port() {
    let mut fixture = Fixture::ready();
    fixture.says_streams(1);
    let (old, port) = (fixture.pid(), fixture.service.port);
    let kicked = fixture.ask(Action::Kick);
    assert_eq!((fixture.service.state, fixture.service.port), (State::Starting, port));
    assert!(fixture.service.socket.is_some() && !fixture.service.member("x").here);
    assert_ne!(fixture.pid(), old);
    fixture.says_ready(fixture.pid());
    fixture.reap_until(|service| service.leaving.is_empty());
    assert_eq!(kicked.try_recv().unwrap(), Response::Ok);
    assert_eq!((fixture.service.restarts, fixture.service.last_exit.clone()), (0, None));
}

#[test]
fn service_that_was_given_up_is_started_by_request() {
    let mut fixture = Fixture::open();
    for _ in 0..5 {
        kill(fixture.pid());
        fixture.reap_until(|service| service.current.is_none());
        if fixture.service.state == State::BackingOff {
            fixture.pass(Duration::from_secs(1));
        }
    }
    assert_eq!(fixture.ask(Action::Kick).try_recv().unwrap(), Response::Ok);
    let started = fixture.ask(Action::Start);
    assert_eq!((fixture.service.state, fixture.service.restarts), (State::Starting, 4), "no operator's start counts");
    fixture.says_ready(fixture.pid());
    assert_eq!(started.try_recv().unwrap(), Response::Ok);
}

#[test]
fn suspending_ends_the_connections_and_resuming_replaces_the_listener() {
    let mut fixture = Fixture::ready();
    let (old, alice) = (fixture.pid(), fixture.service.participant().clone());
    let suspended = Participant { suspended: true, ..alice.clone() };
    fixture.service.change(&fixture.config, suspended.clone(), fixture.now);
    assert_eq!((fixture.service.state, fixture.service.successor.is_some()), (State::Starting, false));
    assert_ne!(fixture.pid(), old);
    fixture.says_ready(fixture.pid());
    fixture.reap_until(|service| service.leaving.is_empty());
    assert!(fixture.service.status(fixture.now).suspended);
    let refusing = fixture.pid();
    fixture.service.change(&fixture.config, suspended, fixture.now);
    assert_eq!((fixture.pid(), fixture.service.state), (refusing, State::Ready), "once");
    fixture.service.change(&fixture.config, alice, fixture.now);
    fixture.service.tick(&fixture.config, fixture.now);
    assert!(fixture.service.successor.is_some() && !fixture.service.status(fixture.now).suspended);
}

#[test]
fn expired_key_ends_the_connections() {
    let mut fixture = Fixture::ready();
    fixture.service.participant.key_expires = Some("2999-12-31T18:00:00Z".parse().unwrap());
    fixture.service.plan_expiry(fixture.now);
    let old = fixture.pid();
    fixture.pass(Duration::from_secs(24 * 60 * 60));
    assert_eq!((fixture.pid(), fixture.service.state), (old, State::Ready), "not yet");
    fixture.service.participant.key_expires = Some("2026-01-01T00:00:00Z".parse().unwrap());
    fixture.pass(Duration::from_secs(24 * 60 * 60));
    assert_eq!(fixture.service.state, State::Starting);
    assert_ne!(fixture.pid(), old);
    fixture.says_ready(fixture.pid());
    let new = fixture.pid();
    fixture.pass(Duration::from_secs(48 * 60 * 60));
    assert_eq!((fixture.pid(), fixture.service.expiry_at), (new, None), "once");
}
