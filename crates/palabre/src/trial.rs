//! `palabre try`: a whole room in the foreground, with no configuration, as an ordinary user.
//!
//! Everything is made in one directory (a temporary one, or `--dir`), the mixer and the supervisor are our children, and
//! nothing is left when we end. It is the real suite with a real configuration, not a demonstration of it.

mod addresses;
mod browser;
mod children;
mod links;
mod log_file;
mod place;
mod roster;
mod text;
mod voices;

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use palabre_config::{Participant, Server, link};
use palabre_host::exit::Failure;
use palabre_host::logging;
use palabre_host::signals::{SIGCHLD, SIGHUP, SIGINT, SIGTERM, Signals};
use palabre_room::RoomDir;

use crate::cli::{Cli, Try};
use crate::control;

use browser::Browser;
use children::Kept;
use log_file::LogFile;
use place::Place;
use roster::Person;
use voices::Voices;

/// How often we ask the supervisor who is ready, until everybody is.
const ASK_AGAIN: Duration = Duration::from_millis(50);
/// Who isn't ready by then has a problem that must be told.
const SHOULD_BE_READY: Duration = Duration::from_secs(10);
/// The room everybody is in.
const ROOM: &str = "main";

/// Runs the room until a signal ends it.
///
/// # Errors
/// Anything that is missing at the start; once the room runs, problems are told and everything is tried again.
pub fn run(cli: &Cli, options: &Try) -> Result<(), Failure> {
    if cli.config.is_some() || cli.run.is_some() {
        return Err(Failure::usage("unable to use '--config' or '--run' with 'try': it makes its own; see '--dir'"));
    }
    logging::init("palabre", None, cli.verbose);
    // From here on a signal ends us in order, with nothing left behind.
    let mut signals = Signals::new(&[SIGINT, SIGTERM, SIGHUP, SIGCHLD]).map_err(Failure::system)?;
    let programs = Programs::find()?;
    let addresses = if options.lan { addresses::own() } else { Vec::new() };
    let place = Place::prepare(options.dir.as_deref())?;
    let certificate = place.certificate(&addresses)?;
    let server = place.configure(options.lan, &addresses)?;
    let people = roster::write(&place, &server, options)?;
    let mut room = Room::start(&place, programs, &server, &people, options, cli.verbose)?;
    room.browser = options.open.then(|| find_browser(&place, &certificate)).flatten();
    text::beginning(&addresses, people.len());
    let result = room.watch(&mut signals, options);
    text::end();
    // In this order: windows, voices, listeners with their supervisor, mixer; then the directory they used.
    drop(room);
    result
}

/// Where the daemons are.
struct Programs {
    mixer: PathBuf,
    supervisor: PathBuf,
    listener: PathBuf,
}

impl Programs {
    fn find() -> Result<Self, Failure> {
        Ok(Self {
            mixer: children::find("palabre-mixer")?,
            supervisor: children::find("palabre-supervisor")?,
            listener: children::find("palabre-listener")?,
        })
    }
}

/// What runs. The fields are dropped in this order.
struct Room<'a> {
    browser: Option<Browser>,
    _voices: Option<Voices>,
    children: [Kept; 2],
    log: LogFile,
    place: &'a Place,
    server: &'a Server,
    people: &'a [Person],
    /// Links of those who have been ready, in the order of `people`.
    links: Vec<Option<String>>,
}

impl<'a> Room<'a> {
    fn start(
        place: &'a Place,
        programs: Programs,
        server: &'a Server,
        people: &'a [Person],
        options: &Try,
        verbosity: u8,
    ) -> Result<Self, Failure> {
        let log = LogFile::open(&place.log(), verbosity > 0)
            .map_err(|error| Failure::system(format!("unable to open '{}': {error}", place.log().display())))?;
        let rooms = place.run().join("rooms");
        let room = RoomDir::new(rooms.join(ROOM));
        std::fs::create_dir_all(&rooms).map_err(Failure::system)?;
        room.create(server.format).map_err(Failure::system)?;
        let mut mixer: Vec<OsString> = vec!["--rooms".into(), rooms.into()];
        let mut supervisor: Vec<OsString> = vec![
            "--config".into(),
            place.etc().into(),
            "--run".into(),
            place.run().into(),
            "--listener".into(),
            programs.listener.into(),
            "--recordings".into(),
            place.recordings().into(),
            "--links".into(),
            place.entrances().into(),
        ];
        if options.no_levelling {
            supervisor.push("--no-levelling".into());
        }
        // The first -v shows what they say anyway.
        for _ in 1..verbosity {
            mixer.push("-v".into());
            supervisor.push("-v".into());
        }
        // The supervisor is ended before the mixer.
        let mixer = Kept::start(programs.mixer, mixer, log.clone())?;
        let supervisor = Kept::start(programs.supervisor, supervisor, log.clone())?;
        let voices = (!options.no_voices)
            .then(|| Voices::start(&room, people.iter().map(|person| person.name.clone()).collect()))
            .transpose()
            .map_err(Failure::system)?;
        let links = vec![None; people.len()];
        Ok(Self { browser: None, _voices: voices, children: [supervisor, mixer], log, place, server, people, links })
    }

    fn watch(&mut self, signals: &mut Signals, options: &Try) -> Result<(), Failure> {
        let began = Instant::now();
        let mut complained = false;
        loop {
            let now = Instant::now();
            let restart = self.children.iter_mut().filter_map(|child| child.look_after(now)).min();
            if let Some(browser) = &mut self.browser {
                browser.look_after();
            }
            let waiting = self.links.iter().any(Option::is_none);
            if waiting {
                self.show_the_ready(options);
                if !complained && began.elapsed() > SHOULD_BE_READY {
                    complained = true;
                    self.complain();
                }
            }
            let ask_again = self.links.iter().any(Option::is_none).then(|| now + ASK_AGAIN);
            let wake = restart.into_iter().chain(ask_again).min();
            let timeout = wake.map(|wake| wake.saturating_duration_since(Instant::now()));
            match signals.wait(timeout).map_err(Failure::system)? {
                Some(SIGCHLD) | None => {}
                Some(_) => {
                    self.log.be_quiet();
                    return Ok(());
                }
            }
        }
    }

    fn show_the_ready(&mut self, options: &Try) {
        let Ok(status) = control::status(&self.place.run()) else { return };
        let width = self.people.iter().map(|person| person.display_name.chars().count()).max().unwrap_or(0);
        for (person, known) in self.people.iter().zip(&mut self.links) {
            let ready = status.participants.iter().find(|p| p.name == person.name.as_str() && p.state.is_up());
            let (Some(ready), None) = (ready, &known) else { continue };
            if person.port == 0
                && let Err(error) = roster::keep_port(self.place, person, ready.port)
            {
                log::warn!("{error}");
            }
            let link = link(&self.server.host, ready.port, &person.key);
            text::link(person, width, &link, options.lan);
            if let Some(browser) = &mut self.browser
                && let Err(error) = browser.open(person.name.as_str(), &link)
            {
                log::warn!("unable to open a window for {}: {error}; open the link yourself", person.name);
            }
            *known = Some(link);
        }
        if self.links.iter().all(Option::is_some) {
            self.all_are_ready(options);
        }
    }

    fn all_are_ready(&self, options: &Try) {
        let names = self.people.iter().map(|person| person.name.as_str());
        let links = self.links.iter().flatten().map(String::as_str);
        if let Err(error) = links::write(&self.place.links(), names.zip(links)) {
            log::warn!("unable to write '{}': {error}", self.place.links().display());
        }
        text::ready(self.place, options, self.browser.is_some());
    }

    fn complain(&self) {
        match control::status(&self.place.run()) {
            Err(error) => log::warn!("{error}; see '{}'", self.place.log().display()),
            Ok(status) => {
                let ready: BTreeSet<&str> = self
                    .people
                    .iter()
                    .zip(&self.links)
                    .filter(|(_, link)| link.is_some())
                    .map(|(p, _)| p.name.as_str())
                    .collect();
                for late in status.participants.iter().filter(|p| !ready.contains(p.name.as_str())) {
                    let note = late.note.as_deref().unwrap_or("it doesn't say why");
                    log::warn!("{}'s listener is {}: {note}", late.name, late.state);
                }
                status.errors.iter().for_each(|error| log::warn!("{error}"));
            }
        }
    }
}

fn find_browser(place: &Place, pin: &str) -> Option<Browser> {
    let browser = Browser::find(&place.browser(), pin);
    if browser.is_none() {
        log::warn!("unable to find 'chromium' or 'google-chrome' in PATH: install one, or open the links yourself");
    }
    browser
}

/// Names and addresses of this machine that a certificate must have.
fn hosts(addresses: &[IpAddr]) -> Vec<String> {
    ["localhost", "127.0.0.1", "::1"]
        .map(str::to_owned)
        .into_iter()
        .chain(addresses.iter().map(IpAddr::to_string))
        .collect()
}

/// The file of a participant of the room everybody is in.
fn participant(person: &Person, join_muted: bool) -> Participant {
    let mut participant = Participant::new(person.name.clone(), person.port, person.key.hash());
    participant.display_name = Some(person.display_name.clone());
    participant.join_muted = join_muted;
    participant
}
