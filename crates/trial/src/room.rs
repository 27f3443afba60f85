//! A room with its daemons: the directory, the mixer, the supervisor and the links of the participants.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use palabre_config::Server;
use palabre_config::control::{self, Request, Response, Status};
use palabre_host::exit::Failure;
use palabre_room::RoomDir;

use crate::addresses;
use crate::bots::Bots;
use crate::daemon::{self, Daemon};
use crate::log_file::LogFile;
use crate::name_file;
use crate::options::Options;
use crate::roster::{self, Entry};
use crate::trial_dir::TrialDir;

/// Time after the start at which a warning about each listener that is not ready is logged.
pub(crate) const READY_TIMEOUT: Duration = Duration::from_secs(10);

/// Interval between status requests to the supervisor until all listeners are ready, with at most 100 participants. With 101 to 200 participants it
/// is twice as long, and so on.
const STATUS_INTERVAL: Duration = Duration::from_millis(50);
/// Timeout for the supervisor's answer to a status request.
const STATUS_TIMEOUT: Duration = Duration::from_secs(5);
/// Name of the room in which all participants of the trial are.
const ROOM: &str = "main";

/// A room that runs in the foreground. Dropping this value ends the daemons and removes the files.
///
/// The fields are dropped in the order of their declaration: the directory after the daemons that use it.
pub struct Room {
    /// The daemons, in the order in which they are ended: the supervisor, then the mixer.
    daemons: [Daemon; 2],
    log: LogFile,
    server: Server,
    addresses: Vec<IpAddr>,
    pin: String,
    entries: Vec<Entry>,
    /// The link of each entry. `None`: the listener has not been ready yet.
    links: Vec<Option<String>>,
    directory: TrialDir,
}

impl Room {
    /// Writes the configuration of a room and starts its mixer and supervisor. The caller must have set up the log. Only the main thread
    /// may call this, because the daemons end with the thread that started them.
    ///
    /// If the directory has no palabre.toml, the new palabre.toml also has the lines `settings`. From a `verbosity` of 1 on, all log lines of the
    /// daemons are shown.
    pub fn start(options: &Options, settings: &str, verbosity: u8) -> Result<Self, Failure> {
        let programs = Programs::find()?;
        let addresses = if options.lan { addresses::local() } else { Vec::new() };
        let directory = TrialDir::prepare(options.dir.as_deref())?;
        let pin = directory.certificate(&addresses)?;
        let server = directory.configure(options.lan, &addresses, settings)?;
        let entries = roster::write(&directory, &server, options)?;
        let log = LogFile::open(&directory.log(), verbosity > 0)
            .map_err(|error| Failure::system(format!("unable to open '{}': {error}", directory.log().display())))?;
        let daemons = start_daemons(&directory, programs, &server, options, verbosity, &log)?;
        let links = vec![None; entries.len()];
        Ok(Self { daemons, log, server, addresses, pin, entries, links, directory })
    }

    /// Restarts daemons that have ended, when their delay has passed. Returns the time of the next restart. Call this again at that time and
    /// after each SIGCHLD.
    pub fn supervise(&mut self) -> Option<Instant> {
        let now = Instant::now();
        self.daemons.iter_mut().filter_map(|daemon| daemon.supervise(now)).min()
    }

    /// Returns whether some listeners have not been ready yet.
    #[must_use]
    pub fn is_starting(&self) -> bool {
        self.links.iter().any(Option::is_none)
    }

    /// Returns how long to wait between two calls of [`Self::newly_ready`].
    #[must_use]
    pub fn status_interval(&self) -> Duration {
        STATUS_INTERVAL * u32::try_from(self.entries.len().div_ceil(100)).unwrap_or(1)
    }

    /// Asks the supervisor which listeners are ready. Returns the index and the link of each participant whose listener has become ready.
    pub fn newly_ready(&mut self) -> Vec<(usize, String)> {
        let Ok(status) = status(&self.directory) else { return Vec::new() };
        let up = status.participants.iter().filter(|participant| participant.state.is_up());
        let ports: BTreeMap<&str, u16> = up.map(|participant| (participant.name.as_str(), participant.port)).collect();
        let mut ready = Vec::new();
        for (index, entry) in self.entries.iter().enumerate().filter(|(index, _)| self.links[*index].is_none()) {
            let Some(&port) = ports.get(entry.name.as_str()) else { continue };
            if entry.port == 0
                && let Err(error) = roster::keep_port(&self.directory, entry, port)
            {
                log::warn!("{error}");
            }
            ready.push((index, self.server.links.link(entry.name.as_str(), port, &entry.key)));
        }
        for (index, link) in &ready {
            self.links[*index] = Some(link.clone());
        }
        ready
    }

    /// Returns login name and link of each participant whose listener has been ready.
    pub fn links(&self) -> impl Iterator<Item = (&str, &str)> {
        let links = self.entries.iter().zip(&self.links);
        links.filter_map(|(entry, link)| Some((entry.name.as_str(), link.as_deref()?)))
    }

    /// Returns the runtime directory, like /run/palabre.
    #[must_use]
    pub fn run(&self) -> PathBuf {
        self.directory.run()
    }

    /// Returns the path of the certificate that the listeners use.
    #[must_use]
    pub fn certificate(&self) -> &Path {
        &self.server.certificate
    }

    /// Logs a warning about each listener that is not ready.
    pub fn report_late(&self) {
        match status(&self.directory) {
            Err(error) => log::warn!("{error}; see the log file '{}'", self.directory.log().display()),
            Ok(status) => {
                let ready: BTreeSet<&str> = self.links().map(|(name, _)| name).collect();
                for late in status.participants.iter().filter(|p| !ready.contains(p.name.as_str())) {
                    let log = self.directory.log();
                    let note = late.note.clone().unwrap_or_else(|| format!("see the log file '{}'", log.display()));
                    log::warn!("the listener of '{}' is {}: {note}", late.name, late.state);
                }
                status.errors.iter().for_each(|error| log::warn!("{error}"));
            }
        }
    }

    /// Shows no further log lines of the daemons. Call this before the room ends.
    pub fn silence(&self) {
        self.log.silence();
    }

    /// Starts the melody and the echo.
    pub(crate) fn start_bots(&self) -> Result<Bots, Failure> {
        let names = self.entries.iter().map(|entry| entry.name.clone()).collect();
        Bots::start(&RoomDir::new(self.run().join("rooms").join(ROOM)), names).map_err(Failure::system)
    }

    /// Starts `palabre-bridge`, which reads the section [bridge] of this room's palabre.toml.
    pub(crate) fn start_bridge(&self, program: &Path, verbosity: u8) -> Result<Daemon, Failure> {
        let arguments = vec!["--config".into(), self.directory.etc().into(), "--run".into(), self.run().into()];
        Daemon::start_without_parent(program.to_owned(), with_verbosity(arguments, verbosity), self.log.clone())
    }

    /// Returns the first port after those of this room, or 0 if it uses any free ports.
    pub(crate) fn next_port(&self) -> u16 {
        self.entries
            .iter()
            .map(|entry| entry.port)
            .max()
            .map_or(0, |port| if port == 0 { 0 } else { port.saturating_add(1) })
    }

    /// Writes the file `links`.
    pub(crate) fn write_links(&self) {
        let path = self.directory.links();
        if let Err(error) = name_file::write(&path, self.links()) {
            log::warn!("unable to write the links to '{}': {error}", path.display());
        }
    }

    pub(crate) fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// Returns this machine's addresses at which other machines reach the room.
    pub(crate) fn addresses(&self) -> &[IpAddr] {
        &self.addresses
    }

    /// Returns the SHA-256 of the certificate's public key, in base64.
    pub(crate) fn pin(&self) -> &str {
        &self.pin
    }

    pub(crate) fn log(&self) -> &LogFile {
        &self.log
    }

    pub(crate) fn directory(&self) -> &TrialDir {
        &self.directory
    }
}

/// Niceness of the mixer relative to this process: the `Nice=` of `palabre-mixer.service`.
const MIXER_NICENESS: i32 = -10;

/// The paths of the daemons.
struct Programs {
    mixer: PathBuf,
    supervisor: PathBuf,
    signer: PathBuf,
    listener: PathBuf,
}

impl Programs {
    fn find() -> Result<Self, Failure> {
        Ok(Self {
            mixer: daemon::find("palabre-mixer")?,
            supervisor: daemon::find("palabre-supervisor")?,
            signer: daemon::find("palabre-signer")?,
            listener: daemon::find("palabre-listener")?,
        })
    }
}

/// Creates the room's directory. Starts the mixer and the supervisor.
fn start_daemons(
    directory: &TrialDir,
    programs: Programs,
    server: &Server,
    options: &Options,
    verbosity: u8,
    log: &LogFile,
) -> Result<[Daemon; 2], Failure> {
    let rooms = directory.run().join("rooms");
    std::fs::create_dir_all(&rooms).map_err(Failure::system)?;
    RoomDir::new(rooms.join(ROOM)).create(server.format).map_err(Failure::system)?;
    let mixer = with_verbosity(vec!["--rooms".into(), rooms.into()], verbosity);
    let mixer = Daemon::start(programs.mixer, mixer, MIXER_NICENESS, log.clone())?;
    let supervisor =
        with_verbosity(supervisor_arguments(directory, programs.signer, programs.listener, options), verbosity);
    let supervisor = Daemon::start(programs.supervisor, supervisor, 0, log.clone())?;
    Ok([supervisor, mixer])
}

fn supervisor_arguments(directory: &TrialDir, signer: PathBuf, listener: PathBuf, options: &Options) -> Vec<OsString> {
    let paths = [
        ("--config", directory.etc()),
        ("--run", directory.run()),
        ("--signer", signer),
        ("--listener", listener),
        ("--recordings", directory.recordings()),
        ("--links", directory.entrances()),
        ("--names", directory.names()),
    ];
    let arguments = paths.into_iter().flat_map(|(flag, path)| [flag.into(), path.into()]);
    arguments.chain(options.no_levelling.then(|| "--no-levelling".into())).collect()
}

/// Adds `-v` arguments for a daemon: one fewer than `verbosity`, because the first `-v` only makes this program show the daemons' log lines.
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
