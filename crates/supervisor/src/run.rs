//! The supervisor's start, its main loop, and its end.

use std::fs;
use std::io::{self, Write};
use std::sync::mpsc::{Receiver, SyncSender};
use std::time::{Duration, Instant};

use palabre_config::SandboxSetting;
use palabre_config::control::{Request, Response, Target};
use palabre_config::signing::Order;
use palabre_host::exit::Failure;
use palabre_host::inherit::Inherited;
use palabre_host::notify::Message;
use palabre_host::packet::Packet;
use palabre_host::program::Program;
use palabre_host::signals::{SIGCHLD, SIGHUP, SIGINT, SIGTERM, Signals};
use palabre_host::{logging, notify, process, sandbox};

use crate::audit::{self, Author};
use crate::cli::{Cli, PROG};
use crate::config::Config;
use crate::control;
use crate::event::{self, Client, Event};
use crate::launcher::Launcher;
use crate::recordings::Recordings;
use crate::roster::Roster;
use crate::run_lock;
use crate::saved::{self, Saved};
use crate::service::{Action, Pending};
use crate::signer::Signer;
use crate::sources::Sources;
use crate::storage;
use crate::upgrade::{Children, Failed, Upgrader};
use crate::waiting::{Waiter, Waiting};

/// Maximum number of further events that are handled together with the first one, before the next call of [`Supervisor::tick`].
const MAX_EVENTS: usize = 63;
/// Timeout for all children to end after the supervisor received SIGTERM. The supervisor then exits, and remaining children die with it.
const END_TIMEOUT: Duration = Duration::from_secs(2);

/// Runs the supervisor until SIGTERM or SIGINT arrives.
pub(crate) fn run(cli: &Cli) -> Result<(), Failure> {
    if let Some(version) = cli.probe {
        return probe(cli, version);
    }
    // Take the inherited descriptors before the supervisor opens any: `take` closes all other descriptors above 2.
    let mut inherited = Inherited::take();
    if let Some(parent) = cli.parent_pid {
        process::die_with_parent(parent).map_err(Failure::system)?;
    }
    logging::init(PROG, None, cli.verbose);
    process::protect();
    // If an attacker controls a listener, orphans of the listener become children of this process, so that the control socket recognises and
    // refuses them.
    if let Err(error) = process::adopt_orphans() {
        log::warn!(
            "unable to adopt orphaned processes: {error}; the control socket can't recognize processes that a listener has left behind"
        );
    }
    process::share_with_the_group_only();
    let program = Program::this().map_err(Failure::system)?;
    // Install the signal handlers before any process is started. A signal that arrives before the main loop runs is handled by the loop.
    let signals = Signals::new(&[SIGTERM, SIGINT, SIGHUP, SIGCHLD]).map_err(Failure::system)?;
    if let Err(error) = process::raise_nofile() {
        log::warn!("unable to raise the limit of open files: {error}");
    }
    let mut supervisor = Supervisor::new(cli, program, signals, &mut inherited)?;
    let client = inherited.stream(saved::CLIENT);
    drop(inherited);
    log::info!("serving {}; {}", supervisor.roster.config().run.display(), supervisor.status);
    notify::ready_with_status(&supervisor.status);
    if let Some(client) = client {
        control::restarted(&client);
    }
    supervisor.serve();
    remove_sockets(supervisor.roster.config());
    Ok(())
}

/// Checks whether this program, with this command line, could take over from a program whose saved state has this version. If so, prints the text
/// that the previous program expects.
fn probe(cli: &Cli, version: u32) -> Result<(), Failure> {
    if version != saved::VERSION {
        let ours = saved::VERSION;
        return Err(Failure::refused(format!(
            "unable to take over from a supervisor whose saved state has version {version}: this program reads version {ours}; \
             stop the supervisor and start it again"
        )));
    }
    Config::new(cli, None)?;
    io::stdout().write_all(saved::promise(version).as_bytes()).map_err(Failure::system)
}

/// Reads the state that the previous program saved. Returns `None` if this process has no previous program.
fn saved(inherited: &mut Inherited) -> Result<Option<Saved>, Failure> {
    let unable = |cause: String| {
        Failure::system(format!(
            "unable to read the saved state of the previous supervisor: {cause}; the supervisor exits; start it again unless systemd does"
        ))
    };
    let Some(state) = inherited.state().map_err(|error| unable(error.to_string()))? else {
        return Ok(None);
    };
    serde_json::from_slice(&state).map(Some).map_err(|error| unable(error.to_string()))
}

struct Supervisor {
    roster: Roster,
    recordings: Recordings,
    signer: Signer,
    /// Requests, and the reload by SIGHUP, that wait until the signer has read the certificate and its key.
    waiting: Waiting,
    upgrader: Upgrader,
    events: Receiver<Event>,
    sender: SyncSender<Event>,
    /// The status text that was last sent to systemd.
    status: String,
    /// After SIGTERM or SIGINT: the time at which the supervisor exits even if children remain.
    end: Option<Instant>,
    /// Time of the next notification to systemd's watchdog, and the interval between notifications.
    watchdog: Option<(Instant, Duration)>,
}

impl Supervisor {
    fn new(cli: &Cli, program: Program, signals: Signals, inherited: &mut Inherited) -> Result<Self, Failure> {
        let saved = saved(inherited)?;
        let mut config = Config::new(cli, saved.as_ref())?;
        if config.server.sandbox != SandboxSetting::Off {
            sandbox::forbid_machine();
        }
        let lock = if saved.is_some() { run_lock::inherited(&config)? } else { run_lock::take(&config)? };
        let Sources { events, sender, control, children } = Sources::open(&config, signals, inherited)?;
        let upgrader = Upgrader::new(program, lock, control, children);
        let now = Instant::now();
        let mut signer = Signer::new(cli.await_signer, sender.clone(), now);
        config.launcher = cli.await_launcher.then(|| Launcher::new(sender.clone()));
        let mut early = Vec::new();
        let (roster, mut recordings) = match saved {
            Some(mut saved) => {
                signer.restore(saved.signer.take(), inherited, now);
                let launcher = saved.launcher.take();
                let restored = config.launcher.as_ref().map_or(Ok(()), |own| own.restore(launcher, inherited));
                restored.map_err(Failure::system)?;
                let recordings = Recordings::restore(&config, std::mem::take(&mut saved.recordings));
                (Roster::restore(config, saved, inherited, now), recordings)
            }
            None => {
                if let Some(launcher) = &config.launcher {
                    early = launcher.wait(&events, now);
                }
                let recordings = Recordings::new(&config);
                (Roster::open(config, inherited, now), recordings)
            }
        };
        recordings.set_jobs(storage::start(sender.clone()).map_err(Failure::system)?);
        // SIGCHLD may have been lost during exec, so reap recorders that have ended meanwhile.
        recordings.note_ends();
        recordings.reap(now);
        signer.renew(roster.config());
        let status = roster.summary();
        let watchdog = notify::watchdog_every().map(|every| (now, every));
        let waiting = Waiting::default();
        let mut supervisor =
            Self { roster, recordings, signer, waiting, upgrader, events, sender, status, end: None, watchdog };
        early.into_iter().for_each(|event| supervisor.handle(event, now));
        Ok(supervisor)
    }

    /// Handles events until a signal ends the supervisor and all children are gone, at the latest after [`END_TIMEOUT`].
    fn serve(&mut self) {
        // Start the signer before the first event: listeners wait for it.
        self.tick(Instant::now());
        loop {
            let first = event::next(&self.events, self.deadline());
            let now = Instant::now();
            // The listeners of a large room may report at the same time. `tick` examines each listener, so it is called once for many events.
            let more = std::iter::from_fn(|| self.events.try_recv().ok()).take(MAX_EVENTS);
            let events: Vec<Event> = first.into_iter().chain(more).collect();
            events.into_iter().for_each(|event| self.handle(event, now));
            self.tick(now);
            if self.end.is_some_and(|end| (self.roster.is_empty() && self.recordings.is_empty()) || end <= now) {
                return;
            }
        }
    }

    fn deadline(&self) -> Option<Instant> {
        let watchdog = self.watchdog.map(|(at, _)| at);
        let children = [self.roster.deadline(), self.recordings.deadline(), self.signer.deadline()];
        let others = [self.waiting.deadline(), self.upgrader.deadline(), self.end, watchdog];
        children.into_iter().chain(others).flatten().min()
    }

    /// Does everything whose time has come in all parts of the supervisor. Notifies systemd's watchdog and status.
    fn tick(&mut self, now: Instant) {
        self.note_launcher(now);
        self.roster.tick(now);
        self.recordings.tick(self.roster.config(), now);
        for waiter in self.waiting.due(&self.signer, now) {
            match waiter {
                Waiter::Asked(request, pid, client) => self.perform(request, pid, client, now),
                Waiter::HangUp => self.reload_and_renew(now),
            }
        }
        let (config, listeners) = self.roster.config_and_listeners();
        self.signer.tick(config, listeners, now);
        let children = Children { roster: &self.roster, recordings: &self.recordings, signer: &self.signer };
        if self.end.is_none()
            && let Some(failed) = self.upgrader.tick(children, now)
        {
            self.upgrade_failed(failed, now);
        }
        if let Some((at, every)) = self.watchdog.filter(|(at, _)| *at <= now) {
            notify::watchdog();
            // Keep a fixed schedule: a late notification does not delay the next one.
            self.watchdog = Some(((at + every).max(now), every));
        }
        self.notify_status();
    }

    /// Notes which listeners of the launcher have ended. As after SIGCHLD, first handles the notifications that they have sent, and then reaps them.
    fn note_launcher(&mut self, now: Instant) {
        let news = self.roster.config().launcher.as_ref().map(Launcher::news).unwrap_or_default();
        if news.is_lost || !news.ended.is_empty() {
            self.roster.note_news(&news);
            if event::mark(&self.roster.config().notify_socket()).is_err() {
                self.reap(now);
            }
        }
    }

    fn launcher_connected(&mut self, socket: Packet, pid: u32, now: Instant) {
        if let Some(launcher) = &self.roster.config().launcher {
            launcher.connected(socket, pid);
            self.roster.launcher_connected(now);
        }
    }

    fn handle(&mut self, event: Event, now: Instant) {
        let ending = self.end.is_some();
        match event {
            Event::Signal(SIGTERM | SIGINT) if !ending => self.stop(now),
            // A child that has exited may have sent the reason before. Handle that notification first: the notification that `mark` sends arrives
            // after it, and causes the reaping. A child that ends later is reaped after a later SIGCHLD.
            Event::Signal(SIGCHLD) => {
                self.roster.note_ends();
                self.recordings.note_ends();
                if event::mark(&self.roster.config().notify_socket()).is_err() {
                    self.reap(now);
                }
            }
            Event::Notified { pid, message } if pid == std::process::id() => match message.stopping {
                true => self.notifications_paused(now),
                false => self.reap(now),
            },
            Event::Notified { pid, message } if self.signer.notified(pid, message.status.as_ref()) => {}
            Event::SignerReport { link, report } => self.signer.reported(link, report, now),
            Event::SignerConnected { socket, pid, user } if !ending => self.signer.connected(socket, pid, user, now),
            Event::LauncherConnected { socket, pid } if !ending => self.launcher_connected(socket, pid, now),
            Event::SignerConnected { .. } | Event::LauncherConnected { .. } => {}
            // `tick` handles the report.
            Event::LauncherReport => {}
            Event::Notified { pid, message } => notified(&mut self.roster, &mut self.recordings, pid, &message, now),
            Event::Asked { request, client, .. } if ending && request != Request::Status => client.refuse_at_the_end(),
            Event::Asked { request, pid, client } => self.request(request, pid, client, now),
            Event::Mixer(state) => self.roster.set_mixer(state),
            Event::Measured(measured) => self.recordings.measured(self.roster.config(), measured),
            Event::Signal(SIGHUP) if !ending => self.hang_up(now),
            Event::Signal(_) => {}
        }
    }

    fn stop(&mut self, now: Instant) {
        notify::stopping();
        self.end = Some(now + END_TIMEOUT);
        // Drop a waiting reload, which would start listeners again.
        self.waiting.end();
        self.roster.stop(now);
        self.recordings.stop(now);
        self.signer.stop(now);
    }

    fn reap(&mut self, now: Instant) {
        self.roster.reap(now);
        self.recordings.reap(now);
        self.signer.reap();
    }

    /// Performs a client's request. A reload and its plan wait until the signer has read the files of the certificate and the key. So does a status
    /// if these files have changed. Otherwise a status doesn't wait: its order to the signer only shows later whether the signer answers.
    fn request(&mut self, request: Request, pid: u32, client: Client, now: Instant) {
        let order = match request {
            Request::Status => Some(Order::Refresh),
            Request::Reload => Some(Order::Read),
            Request::Plan => Some(Order::Check),
            _ => None,
        };
        let waits = request != Request::Status || self.roster.config().has_other_certificate();
        match order.and_then(|order| self.signer.order(&order, now)).filter(|_| waits) {
            Some(sent) => self.waiting.push(Waiter::Asked(request, pid, client), sent, now),
            None => self.perform(request, pid, client, now),
        }
    }

    /// Performs a client's request. The client may be answered later, when the action is complete.
    fn perform(&mut self, request: Request, pid: u32, client: Client, now: Instant) {
        let (name, action) = match request {
            Request::Restart(Target::Listener(name)) => (name, Action::Restart),
            Request::Start { name } => (name, Action::Start),
            Request::Stop { name } => (name, Action::Stop),
            Request::Kick { name } => (name, Action::Kick),
            Request::Restart(Target::Supervisor) => {
                audit::restart("palabre-supervisor", &client.by);
                return self.upgrade(Some(client), now);
            }
            // The client's own thread handles this request; it never arrives here.
            Request::Restart(Target::Mixer) => return,
            Request::Sign => {
                return client.answer(self.signer.refusal().map_or(Response::Ok, |why| Response::Refused { why }));
            }
            Request::Launch => return client.answer(Launcher::answer(self.roster.config().launcher.as_ref(), pid)),
            Request::Enter(entrance) => return client.answer(self.roster.enter(pid, entrance)),
            Request::DisplayName { name, display } => {
                return client.answer(self.roster.choose_name(pid, &name, display.as_deref(), &client.by));
            }
            Request::Reload => return client.answer(self.reload(&client.by, now)),
            Request::Plan => {
                return client.answer(Response::Reloaded(self.roster.plan(self.signer.checked().as_deref())));
            }
            Request::Record { room, action } => {
                return self.recordings.request(self.roster.config(), &room, action, client, now);
            }
            Request::Status => {
                let mut status = self.roster.status(self.signer.fault(), now);
                status.signer = self.signer.status();
                status.errors.extend(self.signer.alarm());
                status.errors.extend(self.roster.config().launcher.as_ref().and_then(Launcher::alarm));
                status.errors.extend(self.recordings.alarms());
                status.recordings = self.recordings.status();
                status.storage = self.recordings.storage(self.roster.config());
                return client.answer(Response::Status(status));
            }
        };
        self.roster.request(&name, Pending { action, answer: client.answer }, &client.by, now);
    }

    /// Handles SIGHUP: replaces the supervisor's program if its file was replaced, otherwise reads the configuration again after the signer has read
    /// the certificate.
    fn hang_up(&mut self, now: Instant) {
        if self.upgrader.is_program_replaced() {
            return self.upgrade(None, now);
        }
        match self.signer.order(&Order::Read, now) {
            Some(sent) => self.waiting.push(Waiter::HangUp, sent, now),
            None => self.reload_and_renew(now),
        }
    }

    /// Reads the configuration again, and replaces children that run an older program.
    fn reload_and_renew(&mut self, now: Instant) {
        self.reload(&Author::Signal, now);
        self.roster.hand_over(true);
        self.signer.renew(self.roster.config());
    }

    fn upgrade(&mut self, client: Option<Client>, now: Instant) {
        self.roster.set_alarm(None);
        if let Err(failed) = self.upgrader.request(client, now) {
            self.upgrade_failed(failed, now);
        }
    }

    /// Replaces the program after the thread that receives notifications has stopped. If that fails, starts the thread again.
    fn notifications_paused(&mut self, now: Instant) {
        let children = Children { roster: &self.roster, recordings: &self.recordings, signer: &self.signer };
        if self.end.is_none()
            && let Some(failed) = self.upgrader.notifications_paused(children, now)
        {
            self.upgrade_failed(failed, now);
        }
        let children = self.upgrader.children().try_clone();
        if let Err(error) = children.and_then(|children| event::from_children(children, self.sender.clone())) {
            log::error!(
                "unable to receive notifications from the listeners, the recorders and the signer: {error}; stop palabre-supervisor and start it again"
            );
        }
    }

    /// Reports a failed upgrade to the client. If no client asked, SIGHUP did, so reads the configuration again.
    fn upgrade_failed(&mut self, failed: Failed, now: Instant) {
        log::error!("{}", failed.why);
        self.roster.set_alarm(Some(failed.why.clone()));
        match failed.client {
            Some(client) => client.answer(Response::Refused { why: failed.why }),
            None => drop(self.reload(&Author::Signal, now)),
        }
    }

    fn reload(&mut self, by: &Author, now: Instant) -> Response {
        audit::reload(by);
        let changes = self.roster.reload(by, now);
        log::info!(
            "the configuration was read again; listeners to start: {:?}, to stop: {:?}, to replace: {:?}; faults: {}",
            changes.started,
            changes.stopped,
            changes.restarted,
            changes.errors.len() + changes.refused.len()
        );
        Response::Reloaded(changes)
    }

    /// Sends the status text to systemd if the text has changed.
    fn notify_status(&mut self) {
        let summary = self.roster.summary();
        if summary != self.status {
            notify::status(&summary);
            self.status = summary;
        }
    }
}

/// Passes a child's notification to the service or the recording of that child. Services are tried first: a listener may have the process
/// id of a dead recorder.
fn notified(roster: &mut Roster, recordings: &mut Recordings, pid: u32, message: &Message, now: Instant) {
    if !roster.notified(pid, message, now) && !recordings.notified(pid, message, now) {
        log::debug!("ignoring {message:?} of process {pid}, which is not a child of the supervisor");
    }
}

fn remove_sockets(config: &Config) {
    for path in [config.control_socket(), config.notify_socket()] {
        if let Err(error) = fs::remove_file(&path) {
            log::debug!("unable to remove '{}': {error}", path.display());
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use clap::Parser;
    use palabre_config::control::State;
    use palabre_config::{Key, Participant};

    #[test]
    fn listener_with_the_process_id_of_a_failed_recorder_is_heard() {
        let dir = tempfile::tempdir().unwrap();
        let (path, listener) =
            (dir.path().to_str().unwrap(), concat!(env!("CARGO_MANIFEST_DIR"), "/tests/never-ready"));
        fs::write(dir.path().join("palabre.toml"), "bind = \"127.0.0.1\"\n").unwrap();
        fs::create_dir(dir.path().join(palabre_config::PARTICIPANTS_DIR)).unwrap();
        Participant::new("alice".parse().unwrap(), 0, Key::generate().unwrap().hash()).write(dir.path()).unwrap();
        let cli = Cli::parse_from(["x", "--config", path, "--run", path, "--listener", listener]);
        let (config, now) = (Config::new(&cli, None).unwrap(), Instant::now());
        let mut recordings = Recordings::new(&config);
        let mut roster = Roster::open(config, &mut Inherited::default(), now);
        let pid = roster.status(None, now).participants[0].pid.unwrap();
        recordings.add_failed("main".parse().unwrap(), pid);
        let ready = Message { ready: true, ..Message::default() };
        notified(&mut roster, &mut recordings, pid, &ready, now);
        assert_eq!(roster.status(None, now).participants[0].state, State::Ready);
        assert!(
            recordings.alarms().next().unwrap().contains("no longer recorded"),
            "the recording has not become ready"
        );
        roster.stop(now);
        let end = now + END_TIMEOUT;
        while !roster.is_empty() {
            roster.note_ends();
            roster.reap(end);
            roster.tick(end);
            std::thread::yield_now();
        }
    }
}
