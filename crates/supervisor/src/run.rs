//! The life of the supervisor: claim the run directory, seat everybody, then one event after the other.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::sync::mpsc::{Receiver, Sender, SyncSender};
use std::time::{Duration, Instant};

use palabre_config::control::{Request, Response};
use palabre_host::exit::Failure;
use palabre_host::inherit::Inherited;
use palabre_host::lock::Lock;
use palabre_host::program::Program;
use palabre_host::signals::{SIGCHLD, SIGHUP, SIGINT, SIGTERM, Signals};
use palabre_host::{logging, notify, process};

use crate::cli::{Cli, PROG};
use crate::control;
use crate::estate::{self, Estate};
use crate::event::{self, Event};
use crate::recordings::Recordings;
use crate::roster::Roster;
use crate::seat::{Verb, Waiting};
use crate::site::Site;
use crate::upgrade::{Failed, Upgrader};

/// The end comes at the latest so long after SIGTERM; who is still there dies with us.
const END_PATIENCE: Duration = Duration::from_secs(2);

/// Runs until a signal says that it is enough.
pub fn run(cli: &Cli) -> Result<(), Failure> {
    if let Some(version) = cli.probe {
        return probe(cli, version);
    }
    // Before anything is opened.
    let mut inherited = Inherited::take();
    if let Some(parent) = cli.parent_pid {
        process::die_with_parent(parent).map_err(Failure::system)?;
    }
    logging::init(PROG, None, cli.verbose);
    process::share_with_the_group_only();
    let program = Program::this().map_err(Failure::system)?;
    // Before anything is started: a signal that comes now waits for the loop.
    let signals = Signals::new(&[SIGTERM, SIGINT, SIGHUP, SIGCHLD]).map_err(Failure::system)?;
    if let Err(error) = process::raise_nofile() {
        log::warn!("unable to raise the number of open files: {error}");
    }
    let mut supervisor = Supervisor::begin(cli, program, signals, &mut inherited)?;
    inherited.close_the_rest();
    log::info!("serving {}; {}", supervisor.roster.site().run.display(), supervisor.told);
    notify::ready_with_status(&supervisor.told);
    supervisor.serve();
    remove_sockets(supervisor.roster.site());
    Ok(())
}

/// Whether this program, with this command line, could take over from one with a state of `version`.
fn probe(cli: &Cli, version: u32) -> Result<(), Failure> {
    if version != estate::VERSION {
        let ours = estate::VERSION;
        return Err(Failure::refused(format!(
            "unable to take over from a supervisor whose state is of version {version}: this one knows {ours}; restart it"
        )));
    }
    Site::new(cli, None)?;
    io::stdout().write_all(estate::promise(version).as_bytes()).map_err(Failure::system)
}

/// What the program before us has left, where there was one.
fn estate(inherited: &mut Inherited) -> Result<Option<Estate>, Failure> {
    let unable = |cause: String| Failure::system(format!("unable to take over from the supervisor before: {cause}"));
    let Some(state) = inherited.state().map_err(|error| unable(error.to_string()))? else {
        return Ok(None);
    };
    serde_json::from_slice(&state).map(Some).map_err(|error| unable(error.to_string()))
}

/// Makes the run directory and makes sure that we are alone in it.
fn claim(site: &Site) -> Result<Lock, Failure> {
    let run = site.run.display();
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o750)
        .create(&site.run)
        .map_err(|error| Failure::system(format!("unable to create directory '{run}': {error}")))?;
    let path = site.lock_file();
    match Lock::take(&path) {
        Ok(Some(lock)) => Ok(lock),
        Ok(None) => Err(Failure::refused(format!(
            "unable to start in '{run}': another palabre-supervisor runs there; stop it or choose another --run"
        ))),
        Err(error) => Err(Failure::system(format!("unable to lock '{}': {error}", path.display()))),
    }
}

/// The doors through which we are told what happens.
struct Doors {
    events: Receiver<Event>,
    sender: SyncSender<Event>,
    control: UnixListener,
    children: notify::Receiver,
}

fn open_doors(site: &Site, signals: Signals, inherited: &mut Inherited) -> Result<Doors, Failure> {
    let open = |path: &Path, error: io::Error| Failure::system(format!("unable to open '{}': {error}", path.display()));
    let (sender, events) = event::channel();
    let path = site.notify_socket();
    let children = match inherited.datagram(estate::NOTIFY) {
        Some(socket) => notify::Receiver::adopt(socket),
        None => notify::Receiver::bind(&path),
    };
    let children = children.map_err(|error| open(&path, error))?;
    let again = children.try_clone().map_err(|error| open(&path, error))?;
    event::from_children(again, sender.clone()).map_err(Failure::system)?;
    event::from_signals(signals, sender.clone()).map_err(Failure::system)?;
    let path = site.control_socket();
    let left = inherited.unix(estate::CONTROL);
    let control = control::open(&path, left, sender.clone()).map_err(|error| open(&path, error))?;
    Ok(Doors { events, sender, control, children })
}

struct Supervisor {
    roster: Roster,
    recordings: Recordings,
    upgrader: Upgrader,
    events: Receiver<Event>,
    sender: SyncSender<Event>,
    /// What systemd was told last.
    told: String,
    /// When it is enough, after a signal.
    end: Option<Instant>,
    /// When systemd is told that we turn, and how often.
    watchdog: Option<(Instant, Duration)>,
}

impl Supervisor {
    fn begin(cli: &Cli, program: Program, signals: Signals, inherited: &mut Inherited) -> Result<Self, Failure> {
        let estate = estate(inherited)?;
        let site = Site::new(cli, estate.as_ref())?;
        let lock = if estate.is_some() { left_lock(&site)? } else { claim(&site)? };
        let Doors { events, sender, control, children } = open_doors(&site, signals, inherited)?;
        let upgrader = Upgrader::new(program, lock, control, children);
        let now = Instant::now();
        let (roster, recordings) = match estate {
            Some(mut estate) => {
                let recordings = Recordings::inherit(&site, std::mem::take(&mut estate.recordings));
                (Roster::inherit(site, estate, inherited, now), recordings)
            }
            None => {
                let recordings = Recordings::new(&site);
                (Roster::open(site, inherited, now), recordings)
            }
        };
        let mut recordings = recordings;
        // Whoever ended while this program began: its SIGCHLD has come to nobody.
        recordings.reap(now);
        let told = roster.summary();
        let watchdog = notify::watchdog_every().map(|every| (now, every));
        Ok(Self { roster, recordings, upgrader, events, sender, told, end: None, watchdog })
    }

    /// The loop. It ends when a signal says so and all children are gone, or at the latest after [`END_PATIENCE`].
    fn serve(&mut self) {
        loop {
            let event = next(&self.events, self.deadline());
            let now = Instant::now();
            match event {
                Some(Event::Signal(SIGTERM | SIGINT)) if self.end.is_none() => {
                    notify::stopping();
                    self.end = Some(now + END_PATIENCE);
                    self.roster.stop(now);
                    self.recordings.stop(now);
                }
                Some(event) => self.handle(event, now),
                None => {}
            }
            self.tick(now);
            if self.end.is_some_and(|end| (self.roster.is_empty() && self.recordings.is_empty()) || end <= now) {
                return;
            }
        }
    }

    fn deadline(&self) -> Option<Instant> {
        let watchdog = self.watchdog.map(|(at, _)| at);
        let others = [self.roster.deadline(), self.recordings.deadline(), self.upgrader.deadline(), self.end, watchdog];
        others.into_iter().flatten().min()
    }

    /// Does what is due.
    fn tick(&mut self, now: Instant) {
        self.roster.tick(now);
        self.recordings.tick(self.roster.site(), now);
        if self.end.is_none()
            && let Some(failed) = self.upgrader.tick(&self.roster, &self.recordings, now)
        {
            self.stay(failed, now);
        }
        if let Some((at, every)) = self.watchdog.filter(|(at, _)| *at <= now) {
            notify::watchdog();
            // By the same clock: what is late once is not late for ever.
            self.watchdog = Some(((at + every).max(now), every));
        }
        self.tell();
    }

    fn handle(&mut self, event: Event, now: Instant) {
        let ending = self.end.is_some();
        match event {
            Event::Signal(SIGCHLD) => {
                self.roster.reap(now);
                self.recordings.reap(now);
            }
            Event::Notified { pid, .. } if pid == std::process::id() => self.hushed(now),
            Event::Notified { pid, message } => {
                if !self.recordings.notified(pid, &message, now) {
                    self.roster.notified(pid, &message, now);
                }
            }
            Event::Asked { request, answer, .. } if ending && request != Request::Status => {
                answered(&answer, Response::Refused { why: "unable to do this now: the supervisor is ending".into() });
            }
            Event::Asked { request, pid, answer } => self.asked(request, pid, answer, now),
            Event::Signal(SIGHUP) if !ending => self.hung_up(now),
            Event::Signal(_) => {}
        }
    }

    /// Does what somebody asks for; it may be answered later.
    fn asked(&mut self, request: Request, pid: u32, answer: Sender<Response>, now: Instant) {
        let (name, verb) = match request {
            Request::Restart { name } => (name, Verb::Restart),
            Request::Start { name } => (name, Verb::Start),
            Request::Stop { name } => (name, Verb::Stop),
            Request::Kick { name } => (name, Verb::Kick),
            Request::Enter(entrance) => return answered(&answer, self.roster.enter(pid, entrance)),
            Request::Upgrade => return self.upgrade(Some(answer), now),
            Request::Reload => return answered(&answer, self.reload(now)),
            Request::Record { room, action } => {
                return self.recordings.asked(self.roster.site(), &room, action, answer, now);
            }
            Request::Status => {
                let mut status = self.roster.status(now);
                status.errors.extend(self.recordings.alarms());
                return answered(&answer, Response::Status(status));
            }
        };
        self.roster.asked(&name, Waiting { verb, answer }, now);
    }

    /// SIGHUP: where our own program is another one, that one reads everything again; else we do.
    fn hung_up(&mut self, now: Instant) {
        if self.upgrader.is_there_another_one() {
            return self.upgrade(None, now);
        }
        self.reload(now);
        self.roster.hand_over(false);
    }

    fn upgrade(&mut self, answer: Option<Sender<Response>>, now: Instant) {
        self.roster.set_alarm(None);
        if let Err(why) = self.upgrader.want(answer.clone(), now) {
            self.stay(Failed { why, answer }, now);
        }
    }

    /// The thread that hears the children has stopped: this is the moment. Who comes back hears them again.
    fn hushed(&mut self, now: Instant) {
        if self.end.is_none()
            && let Some(failed) = self.upgrader.hushed(&self.roster, &self.recordings, now)
        {
            self.stay(failed, now);
        }
        let again = self.upgrader.children().try_clone();
        if let Err(error) = again.and_then(|children| event::from_children(children, self.sender.clone())) {
            log::error!("unable to hear the listeners any more: {error}; restart the supervisor");
        }
    }

    /// No other program has taken our place. Whoever sent a signal wanted the files to be read again, too.
    fn stay(&mut self, failed: Failed, now: Instant) {
        log::error!("{}", failed.why);
        self.roster.set_alarm(Some(failed.why.clone()));
        match failed.answer {
            Some(answer) => answered(&answer, Response::Refused { why: failed.why }),
            None => drop(self.reload(now)),
        }
    }

    fn reload(&mut self, now: Instant) -> Response {
        let changes = self.roster.reload(now);
        log::info!(
            "read the configuration again: started {:?}, stopped {:?}, restarted {:?}, faults {}",
            changes.started,
            changes.stopped,
            changes.restarted,
            changes.errors.len()
        );
        Response::Reloaded(changes)
    }

    /// Tells systemd how things are, when that has changed.
    fn tell(&mut self) {
        let summary = self.roster.summary();
        if summary != self.told {
            notify::status(&summary);
            self.told = summary;
        }
    }
}

fn left_lock(site: &Site) -> Result<Lock, Failure> {
    match Lock::from_stdin() {
        Ok(Some(lock)) => Ok(lock),
        other => {
            let cause = other.err().map_or_else(|| "another process has it".to_owned(), |error| error.to_string());
            Err(Failure::system(format!("unable to keep the lock of '{}': {cause}", site.run.display())))
        }
    }
}

fn next(events: &Receiver<Event>, deadline: Option<Instant>) -> Option<Event> {
    let Some(deadline) = deadline else {
        return events.recv().ok();
    };
    events.recv_timeout(deadline.saturating_duration_since(Instant::now())).ok()
}

/// Whoever asked may have left.
fn answered(to: &Sender<Response>, response: Response) {
    let _ = to.send(response);
}

fn remove_sockets(site: &Site) {
    for path in [site.control_socket(), site.notify_socket()] {
        if let Err(error) = fs::remove_file(&path) {
            log::debug!("unable to remove '{}': {error}", path.display());
        }
    }
}
