//! The life of the supervisor: claim the run directory, seat everybody, then one event after the other.

use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::sync::mpsc::{Receiver, Sender};
use std::time::{Duration, Instant};

use palabre_config::control::{Request, Response};
use palabre_host::exit::Failure;
use palabre_host::lock::Lock;
use palabre_host::signals::{SIGCHLD, SIGHUP, SIGINT, SIGTERM, Signals};
use palabre_host::{logging, notify, process};

use crate::cli::{Cli, PROG};
use crate::control;
use crate::event::{self, Event};
use crate::recordings::Recordings;
use crate::roster::Roster;
use crate::seat::{Verb, Waiting};
use crate::site::Site;

/// The end comes at the latest so long after SIGTERM; who is still there dies with us.
const END_PATIENCE: Duration = Duration::from_secs(2);

/// Runs until a signal says that it is enough.
pub fn run(cli: &Cli) -> Result<(), Failure> {
    if let Some(parent) = cli.parent_pid {
        process::die_with_parent(parent).map_err(Failure::system)?;
    }
    logging::init(PROG, None, cli.verbose);
    process::share_with_the_group_only();
    // Before anything is started: a signal that comes now waits for the loop.
    let signals = Signals::new(&[SIGTERM, SIGINT, SIGHUP, SIGCHLD]).map_err(Failure::system)?;
    if let Err(error) = process::raise_nofile() {
        log::warn!("unable to raise the limit of open files: {error}");
    }
    let site = Site::new(cli)?;
    let _lock = claim(&site)?;
    let events = open_sources(&site, signals)?;
    let mut roster = Roster::open(site, Instant::now());
    let mut told = roster.summary();
    log::info!("serving {}; {told}", roster.site().run.display());
    notify::ready_with_status(&told);
    let mut recordings = Recordings::new(roster.site());
    serve(&mut roster, &mut recordings, &events, &mut told);
    remove_sockets(roster.site());
    Ok(())
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

fn open_sources(site: &Site, signals: Signals) -> Result<Receiver<Event>, Failure> {
    let open = |path: &Path, error: io::Error| Failure::system(format!("unable to open '{}': {error}", path.display()));
    let (sender, events) = event::channel();
    let path = site.notify_socket();
    let children = notify::Receiver::bind(&path).map_err(|error| open(&path, error))?;
    event::from_children(children, sender.clone()).map_err(Failure::system)?;
    event::from_signals(signals, sender.clone()).map_err(Failure::system)?;
    let path = site.control_socket();
    control::open(&path, sender).map_err(|error| open(&path, error))?;
    Ok(events)
}

/// The loop. It ends when a signal says so and all children are gone, or at the latest after [`END_PATIENCE`].
fn serve(roster: &mut Roster, recordings: &mut Recordings, events: &Receiver<Event>, told: &mut String) {
    let mut end: Option<Instant> = None;
    loop {
        let event = next(events, [roster.deadline(), recordings.deadline(), end].into_iter().flatten().min());
        let now = Instant::now();
        match event {
            Some(Event::Signal(SIGTERM | SIGINT)) if end.is_none() => {
                notify::stopping();
                end = Some(now + END_PATIENCE);
                roster.stop(now);
                recordings.stop(now);
            }
            Some(event) => handle(roster, recordings, event, end.is_some(), now),
            None => {}
        }
        roster.tick(now);
        recordings.tick(roster.site(), now);
        if end.is_some_and(|end| (roster.is_empty() && recordings.is_empty()) || end <= now) {
            return;
        }
        tell(roster, told);
    }
}

fn next(events: &Receiver<Event>, deadline: Option<Instant>) -> Option<Event> {
    let Some(deadline) = deadline else {
        return events.recv().ok();
    };
    events.recv_timeout(deadline.saturating_duration_since(Instant::now())).ok()
}

fn handle(roster: &mut Roster, recordings: &mut Recordings, event: Event, ending: bool, now: Instant) {
    match event {
        Event::Signal(SIGCHLD) => {
            roster.reap(now);
            recordings.reap(now);
        }
        Event::Notified { pid, message } => {
            if !recordings.notified(pid, &message, now) {
                roster.notified(pid, &message, now);
            }
        }
        Event::Asked { request, answer } if ending && request != Request::Status => {
            answered(&answer, Response::Refused { why: "unable to do this now: the supervisor is ending".into() });
        }
        Event::Asked { request, answer } => asked(roster, recordings, request, answer, now),
        Event::Signal(SIGHUP) if !ending => drop(reload(roster, now)),
        Event::Signal(_) => {}
    }
}

/// Does what somebody asks for; it may be answered later.
fn asked(roster: &mut Roster, recordings: &mut Recordings, request: Request, answer: Sender<Response>, now: Instant) {
    let (name, verb) = match request {
        Request::Restart { name } => (name, Verb::Restart),
        Request::Start { name } => (name, Verb::Start),
        Request::Stop { name } => (name, Verb::Stop),
        Request::Kick { name } => (name, Verb::Kick),
        Request::Reload => return answered(&answer, reload(roster, now)),
        Request::Record { room, action } => return recordings.asked(roster.site(), &room, action, answer, now),
        Request::Status => {
            let mut status = roster.status(now);
            status.errors.extend(recordings.alarms());
            return answered(&answer, Response::Status(status));
        }
    };
    roster.asked(&name, Waiting { verb, answer }, now);
}

fn reload(roster: &mut Roster, now: Instant) -> Response {
    let changes = roster.reload(now);
    log::info!(
        "read the configuration again: started {:?}, stopped {:?}, restarted {:?}, faults {}",
        changes.started,
        changes.stopped,
        changes.restarted,
        changes.errors.len()
    );
    Response::Reloaded(changes)
}

/// Whoever asked may have left.
fn answered(to: &Sender<Response>, response: Response) {
    let _ = to.send(response);
}

/// Tells systemd how things are, when that has changed.
fn tell(roster: &Roster, told: &mut String) {
    let summary = roster.summary();
    if summary != *told {
        notify::status(&summary);
        *told = summary;
    }
}

fn remove_sockets(site: &Site) {
    for path in [site.control_socket(), site.notify_socket()] {
        if let Err(error) = fs::remove_file(&path) {
            log::debug!("unable to remove '{}': {error}", path.display());
        }
    }
}
