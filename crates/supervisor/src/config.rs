//! The supervisor's configuration: directories, sockets, programs, and the settings of `palabre.toml`.

use std::fs;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use palabre_config::control::LOCK_FILE;
use palabre_config::{ConfigError, CookieKey, CookieSecret, Server};
use palabre_host::executable;
use palabre_host::exit::Failure;
use palabre_host::sockets;
use palabre_host::stamp::FileStamp;
use palabre_launcher::Directories;
use palabre_room::{MIXER_SOCKET, Name, ParticipantDir, RoomDir, RoomError};

use crate::certificate::{self, stamps};
use crate::cli::Cli;
use crate::launcher::Launcher;
use crate::saved::Saved;

const LISTENER: &str = "palabre-listener";
const RECORDER: &str = "palabre-recorder";
const SIGNER: &str = "palabre-signer";

/// The configuration of one supervisor. All directories are absolute.
#[derive(Debug)]
pub(crate) struct Config {
    /// Directory of the configuration.
    pub(crate) directory: PathBuf,
    /// Directory of rooms and sockets.
    pub(crate) run: PathBuf,
    /// Path of the program that runs for each participant, palabre-listener.
    pub(crate) listener: PathBuf,
    /// Path of the program that records a room, palabre-recorder.
    pub(crate) recorder: PathBuf,
    /// Path of the program that signs TLS handshakes, palabre-signer.
    pub(crate) signer: PathBuf,
    /// Directory of recordings.
    pub(crate) recordings: PathBuf,
    /// Directory with one file for each one-time invitation link that was used.
    pub(crate) links: PathBuf,
    /// Directory with one file for each participant who has chosen a display name.
    pub(crate) names: PathBuf,
    /// Starts the listeners; `None` if the supervisor starts them itself.
    pub(crate) launcher: Option<Launcher>,
    /// The settings of `palabre.toml`.
    pub(crate) server: Server,
    /// The text of `palabre.toml`.
    pub(crate) server_file: String,
    /// Number of the present settings. Each change of the settings increases it.
    pub(crate) settings: u64,
    /// Messages about settings in `palabre.toml` that can't be used. The supervisor keeps the previous settings.
    pub(crate) refused: Vec<String>,
    no_levelling: bool,
    certificate: [Option<FileStamp>; 2],
}

impl Loaded {
    /// Returns the address on which ports are to be opened.
    pub(crate) fn bind(&self) -> IpAddr {
        self.server.bind
    }

    /// Returns why listeners can't use the certificate or its key. `of_key` is the signer's answer about both files.
    pub(crate) fn certificate_fault(&self, of_key: Option<&str>) -> Option<String> {
        certificate::status(&self.server, of_key, SystemTime::now()).fault
    }
}

/// The settings that a reload has read, compared with the present settings.
#[derive(Debug)]
pub(crate) struct Loaded {
    /// The settings that listeners use have changed: listeners must be replaced.
    pub(crate) is_changed: bool,
    /// The certificate or its key has changed, but not the settings: listeners must get the certificate again.
    pub(crate) is_certificate_changed: bool,
    /// Messages about settings that can't be used.
    pub(crate) refused: Vec<String>,
    server: Server,
    server_file: String,
    certificate: [Option<FileStamp>; 2],
}

impl Config {
    /// Reads `palabre.toml` and finds the programs. If `palabre.toml` became invalid after the upgrade probe, keeps the previous
    /// program's settings.
    pub(crate) fn new(cli: &Cli, saved: Option<&Saved>) -> Result<Self, Failure> {
        let directory = absolute(&cli.config)?;
        let previous = saved.and_then(|saved| saved.server_file.clone());
        let read = load(&directory, cli.no_levelling).or_else(|error| {
            let Some(text) = previous else { return Err(error) };
            log::error!("{error}; keeping the previous settings");
            parse(&directory, text, cli.no_levelling)
        });
        let (server, server_file) = read.map_err(Failure::config)?;
        let listener = program(cli.listener.as_deref(), LISTENER)?;
        let (recorder, recordings) = (program(cli.recorder.as_deref(), RECORDER)?, absolute(&cli.recordings)?);
        let signer = program(cli.signer.as_deref(), SIGNER)?;
        let certificate = stamps(&server);
        Ok(Self {
            directory,
            run: absolute(&cli.run)?,
            listener,
            recorder,
            signer,
            recordings,
            links: absolute(&cli.links)?,
            names: absolute(&cli.names)?,
            launcher: None,
            server,
            server_file,
            settings: 0,
            refused: Vec::new(),
            no_levelling: cli.no_levelling,
            certificate,
        })
    }

    /// Reads `palabre.toml` again, and changes nothing. Settings that can't be used are replaced by the present ones.
    pub(crate) fn load(&self) -> Result<Loaded, ConfigError> {
        let (mut server, server_file) = load(&self.directory, self.no_levelling)?;
        let mut refused = Vec::new();
        // The rooms' format stays as it was when this process started, since the mixer has the pipes open.
        if server.format != self.server.format {
            let (new, old) = (server.format.rate.hz(), self.server.format.rate.hz());
            refused.push(format!(
                "unable to change rate-hz from {old} to {new} while rooms are open; stop and start the supervisor and the mixer"
            ));
            server.format = self.server.format;
        }
        if let Err(error) = sockets::listen(server.bind, 0) {
            let bind = std::mem::replace(&mut server.bind, self.server.bind);
            refused.push(format!(
                "unable to open ports on '{bind}': {error}; the listeners keep their present address; correct 'bind' in palabre.toml"
            ));
        }
        // Listeners don't use the settings of recordings.
        let is_changed = Server { recordings: self.server.recordings, ..server.clone() } != self.server;
        let certificate = stamps(&server);
        Ok(Loaded {
            is_changed,
            is_certificate_changed: !is_changed && certificate != self.certificate,
            refused,
            server,
            server_file,
            certificate,
        })
    }

    /// Makes the loaded settings the present ones.
    pub(crate) fn apply(&mut self, loaded: Loaded) {
        self.settings += u64::from(loaded.is_changed);
        (self.server, self.server_file) = (loaded.server, loaded.server_file);
        (self.refused, self.certificate) = (loaded.refused, loaded.certificate);
    }

    /// Returns the settings of `palabre.toml` as text, to compare them with earlier settings.
    pub(crate) fn server_text(&self) -> String {
        format!("{:?}", self.server)
    }

    /// Keeps the previous program's room format and stamps of the certificate. Returns true if the settings differ from the previous
    /// program's settings, so that listeners must be replaced.
    pub(crate) fn restore(&mut self, saved: &Saved) -> bool {
        self.certificate = saved.certificate;
        if let Ok(format) = saved.format.parse() {
            self.server.format = format;
        }
        self.server_text() != saved.server
    }

    /// Returns the stamps that the files of the certificate and its key had when `palabre.toml` was last read.
    pub(crate) fn certificate(&self) -> [Option<FileStamp>; 2] {
        self.certificate
    }

    /// Returns whether the certificate or its key has changed since the supervisor last told the listeners to read the certificate again.
    pub(crate) fn has_other_certificate(&self) -> bool {
        stamps(&self.server) != self.certificate
    }

    /// Returns the directory of a room.
    pub(crate) fn room(&self, room: &Name) -> RoomDir {
        RoomDir::new(self.run.join("rooms").join(room))
    }

    /// Returns the names of the rooms that have a directory.
    pub(crate) fn rooms(&self) -> impl Iterator<Item = Name> {
        let entries = fs::read_dir(self.run.join("rooms")).into_iter().flatten().flatten();
        entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
    }

    /// Creates a room's directory with the settings of `palabre.toml`.
    pub(crate) fn make_room(&self, room: &Name) -> Result<(), RoomError> {
        let room = self.room(room);
        room.create(self.server.format)?;
        if self.launcher.is_some() {
            room.share_meeting()?;
        }
        room.set_levelling(Some(self.server.levelling.into()))
    }

    /// Returns the directory of a participant.
    pub(crate) fn participant(&self, room: &Name, name: &Name) -> ParticipantDir {
        self.room(room).participant(name)
    }

    /// Returns the program and the directories of the listeners.
    pub(crate) fn directories(&self) -> Directories {
        Directories { listener: self.listener.clone(), config: self.directory.clone(), run: self.run.clone() }
    }

    /// Returns the key for a participant's cookies. If the installation's secret can't be read or created, the key comes from a secret in the runtime
    /// directory, which lasts until the machine restarts.
    pub(crate) fn cookie_key(&self, name: &Name) -> io::Result<CookieKey> {
        let secret = CookieSecret::load(&self.links).or_else(|error| {
            log::warn!(
                "{error}; after a restart of this machine, each browser must open the link again; \
                 correct the directory of --links, then run 'palabre restart --all'"
            );
            CookieSecret::load(&self.run).map_err(io::Error::other)
        });
        secret.map(|secret| secret.key_of(name.as_str()))
    }

    /// Returns the path of the control socket.
    pub(crate) fn control_socket(&self) -> PathBuf {
        self.run.join("control.sock")
    }

    /// Returns the path of the socket to which children send notifications.
    pub(crate) fn notify_socket(&self) -> PathBuf {
        self.run.join("notify.sock")
    }

    /// Returns the path of the mixer's restart socket.
    pub(crate) fn mixer_socket(&self) -> PathBuf {
        self.run.join("rooms").join(MIXER_SOCKET)
    }

    /// Returns the path of the file that the supervisor locks.
    pub(crate) fn lock_file(&self) -> PathBuf {
        self.run.join(LOCK_FILE)
    }
}

fn load(directory: &Path, no_levelling: bool) -> Result<(Server, String), ConfigError> {
    parse(directory, Server::text(directory)?, no_levelling)
}

fn parse(directory: &Path, text: String, no_levelling: bool) -> Result<(Server, String), ConfigError> {
    let server = Server::from_toml(directory, &text)?;
    Ok((Server { levelling: server.levelling && !no_levelling, ..server }, text))
}

fn absolute(path: &Path) -> Result<PathBuf, Failure> {
    std::path::absolute(path)
        .map_err(|error| Failure::usage(format!("unable to make '{}' an absolute path: {error}", path.display())))
}

/// Returns the path of a program: `given`, or the file `name` beside this program. If there is neither, returns `name`, which is searched
/// in PATH.
fn program(given: Option<&Path>, name: &str) -> Result<PathBuf, Failure> {
    match given {
        Some(path) => absolute(path),
        None => Ok(executable::find(name).unwrap_or_else(|| name.into())),
    }
}
