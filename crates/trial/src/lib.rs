//! `palabre try`: a complete room in the foreground, without configuration and without root.
//!
//! [`run`] prepares a directory (a temporary one or `--dir`), writes a configuration into it, and starts the real mixer and supervisor.
//! When a signal arrives, it ends both daemons and cleans up.
//!
//! The melody and the echo (`bots`) are participants without a listener. Threads of this process write their sound.

mod addresses;
mod bots;
mod browser;
mod daemon;
mod log_file;
mod messages;
mod name_file;
mod options;
mod roster;
mod trial_dir;

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use palabre_config::Server;
use palabre_config::control::{self, Request, Response, Status};
use palabre_host::exit::Failure;
use palabre_host::signals::{SIGCHLD, SIGHUP, SIGINT, SIGTERM, Signals};
use palabre_room::RoomDir;

pub use options::Options;

use bots::Bots;
use browser::Browser;
use daemon::Daemon;
use log_file::LogFile;
use roster::Entry;
use trial_dir::TrialDir;

/// Interval between status requests to the supervisor, until all listeners are ready.
const STATUS_INTERVAL: Duration = Duration::from_millis(50);
/// Timeout for the supervisor's answer to a status request.
const STATUS_TIMEOUT: Duration = Duration::from_secs(5);
/// Time after the start at which a warning about each listener that is not ready is logged.
const READY_TIMEOUT: Duration = Duration::from_secs(10);
/// Name of the room in which all participants of the trial are.
const ROOM: &str = "main";

/// Runs a room until SIGINT, SIGTERM or SIGHUP arrives. The caller must have set up the log.
///
/// `verbosity` is the number of `-v`; from 1 on, all log lines of the daemons are shown. `qr` returns a link as a QR code for the terminal.
///
/// # Errors
/// Returns an error if the trial can't be started. Later failures are logged and retried.
pub fn run(options: &Options, verbosity: u8, qr: fn(&str) -> Option<String>) -> Result<(), Failure> {
    // Handle signals from now on, so that this process can clean up before it ends.
    let mut signals = Signals::new(&[SIGINT, SIGTERM, SIGHUP, SIGCHLD]).map_err(Failure::system)?;
    let programs = Programs::find()?;
    let addresses = if options.lan { addresses::local() } else { Vec::new() };
    let directory = TrialDir::prepare(options.dir.as_deref())?;
    let pin = directory.certificate(&addresses)?;
    let server = directory.configure(options.lan, &addresses)?;
    let entries = roster::write(&directory, &server, options)?;
    let mut trial = Trial::start(&directory, programs, &server, &entries, options, verbosity)?;
    trial.browser = options.open.then(|| find_browser(&directory, &pin)).flatten();
    messages::starting(&addresses, entries.len());
    let result = trial.watch(&mut signals, options, qr);
    messages::ending();
    // End windows, bots, supervisor with its listeners and mixer, in this order. Afterwards their directory can be removed.
    drop(trial);
    result
}

/// The paths of the daemons.
struct Programs {
    mixer: PathBuf,
    supervisor: PathBuf,
    listener: PathBuf,
}

impl Programs {
    fn find() -> Result<Self, Failure> {
        Ok(Self {
            mixer: daemon::find("palabre-mixer")?,
            supervisor: daemon::find("palabre-supervisor")?,
            listener: daemon::find("palabre-listener")?,
        })
    }
}

/// A running trial. The fields are dropped in the order of their declaration, which ends the processes in the right order.
struct Trial<'a> {
    browser: Option<Browser>,
    _bots: Option<Bots>,
    /// The daemons, in the order in which they are ended: the supervisor, then the mixer.
    daemons: [Daemon; 2],
    log: LogFile,
    directory: &'a TrialDir,
    server: &'a Server,
    entries: &'a [Entry],
    /// The link of each entry whose listener has been ready.
    links: Vec<Option<String>>,
}

impl<'a> Trial<'a> {
    fn start(
        directory: &'a TrialDir,
        programs: Programs,
        server: &'a Server,
        entries: &'a [Entry],
        options: &Options,
        verbosity: u8,
    ) -> Result<Self, Failure> {
        let log = LogFile::open(&directory.log(), verbosity > 0)
            .map_err(|error| Failure::system(format!("unable to open '{}': {error}", directory.log().display())))?;
        let rooms = directory.run().join("rooms");
        let room = RoomDir::new(rooms.join(ROOM));
        std::fs::create_dir_all(&rooms).map_err(Failure::system)?;
        room.create(server.format).map_err(Failure::system)?;
        let mixer = Daemon::start(
            programs.mixer,
            with_verbosity(vec!["--rooms".into(), rooms.into()], verbosity),
            log.clone(),
        )?;
        let arguments = with_verbosity(supervisor_arguments(directory, programs.listener, options), verbosity);
        let supervisor = Daemon::start(programs.supervisor, arguments, log.clone())?;
        let bots = (!options.no_voices)
            .then(|| Bots::start(&room, entries.iter().map(|entry| entry.name.clone()).collect()))
            .transpose()
            .map_err(Failure::system)?;
        let links = vec![None; entries.len()];
        Ok(Self { browser: None, _bots: bots, daemons: [supervisor, mixer], log, directory, server, entries, links })
    }

    fn watch(
        &mut self,
        signals: &mut Signals,
        options: &Options,
        qr: fn(&str) -> Option<String>,
    ) -> Result<(), Failure> {
        let began = Instant::now();
        let mut reported = false;
        loop {
            let now = Instant::now();
            let restart = self.daemons.iter_mut().filter_map(|daemon| daemon.supervise(now)).min();
            if let Some(browser) = &mut self.browser {
                browser.reap();
            }
            if self.is_starting() {
                self.show_ready(options, qr);
                if !reported && began.elapsed() > READY_TIMEOUT {
                    reported = true;
                    self.report_late();
                }
            }
            let status = self.is_starting().then(|| now + STATUS_INTERVAL);
            let wake = restart.into_iter().chain(status).min();
            let timeout = wake.map(|wake| wake.saturating_duration_since(Instant::now()));
            match signals.wait(timeout).map_err(Failure::system)? {
                Some(SIGCHLD) | None => {}
                Some(_) => {
                    self.log.silence();
                    return Ok(());
                }
            }
        }
    }

    fn is_starting(&self) -> bool {
        self.links.iter().any(Option::is_none)
    }

    /// Prints the link of each listener that has become ready. After the last one, writes the file `links`.
    fn show_ready(&mut self, options: &Options, qr: fn(&str) -> Option<String>) {
        let Ok(status) = status(self.directory) else { return };
        let width = self.entries.iter().map(|entry| entry.display_name.chars().count()).max().unwrap_or(0);
        for (entry, known) in self.entries.iter().zip(&mut self.links) {
            let ready = status.participants.iter().find(|p| p.name == entry.name.as_str() && p.state.is_up());
            let (Some(ready), None) = (ready, &known) else { continue };
            if entry.port == 0
                && let Err(error) = roster::keep_port(self.directory, entry, ready.port)
            {
                log::warn!("{error}");
            }
            let link = self.server.links.link(entry.name.as_str(), ready.port, &entry.key);
            messages::link(entry, width, &link, options.lan.then(|| qr(&link)).flatten());
            if let Some(browser) = &mut self.browser
                && let Err(error) = browser.open(entry.name.as_str(), &link)
            {
                log::warn!("unable to open a browser window for '{}': {error}; open the link yourself", entry.name);
            }
            *known = Some(link);
        }
        if !self.is_starting() {
            self.write_links();
            messages::ready(self.directory, options, self.browser.is_some());
        }
    }

    fn write_links(&self) {
        let path = self.directory.links();
        let names = self.entries.iter().map(|entry| entry.name.as_str());
        let links = self.links.iter().flatten().map(String::as_str);
        if let Err(error) = name_file::write(&path, names.zip(links)) {
            log::warn!("unable to write the links to '{}': {error}", path.display());
        }
    }

    /// Logs a warning about each listener that is not ready.
    fn report_late(&self) {
        match status(self.directory) {
            Err(error) => log::warn!("{error}; see the log file '{}'", self.directory.log().display()),
            Ok(status) => {
                let ready = self.entries.iter().zip(&self.links).filter(|(_, link)| link.is_some());
                let ready: BTreeSet<&str> = ready.map(|(entry, _)| entry.name.as_str()).collect();
                for late in status.participants.iter().filter(|p| !ready.contains(p.name.as_str())) {
                    let log = self.directory.log();
                    let note = late.note.clone().unwrap_or_else(|| format!("see the log file '{}'", log.display()));
                    log::warn!("the listener of '{}' is {}: {note}", late.name, late.state);
                }
                status.errors.iter().for_each(|error| log::warn!("{error}"));
            }
        }
    }
}

fn supervisor_arguments(directory: &TrialDir, listener: PathBuf, options: &Options) -> Vec<OsString> {
    let paths = [
        ("--config", directory.etc()),
        ("--run", directory.run()),
        ("--listener", listener),
        ("--recordings", directory.recordings()),
        ("--links", directory.entrances()),
    ];
    let arguments = paths.into_iter().flat_map(|(flag, path)| [flag.into(), path.into()]);
    arguments.chain(options.no_levelling.then(|| "--no-levelling".into())).collect()
}

/// Adds the daemons' `-v` arguments: one less than `verbosity`, since the first `-v` only shows the daemons' log and doesn't change it.
fn with_verbosity(mut arguments: Vec<OsString>, verbosity: u8) -> Vec<OsString> {
    arguments.extend((1..verbosity).map(|_| "-v".into()));
    arguments
}

fn status(directory: &TrialDir) -> Result<Status, Failure> {
    let socket = directory.run().join("control.sock");
    match control::request(&socket, &Request::Status, STATUS_TIMEOUT).map_err(Failure::system)? {
        Response::Status(status) => Ok(status),
        other => Err(Failure::system(format!(
            "unable to get the supervisor's status: the supervisor sent an unexpected answer, {other:?}; use programs of one release"
        ))),
    }
}

fn find_browser(directory: &TrialDir, pin: &str) -> Option<Browser> {
    let browser = Browser::find(&directory.browser(), pin);
    if browser.is_none() {
        log::warn!("unable to find 'chromium' or 'google-chrome' in PATH; install one, or open the links yourself");
    }
    browser
}
