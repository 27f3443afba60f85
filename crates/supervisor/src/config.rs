//! The supervisor's configuration: directories, sockets, programs, and the settings of `palabre.toml`.

use std::path::{Path, PathBuf};

use palabre_config::{ConfigError, Server};
use palabre_host::executable;
use palabre_host::exit::Failure;
use palabre_host::stamp::FileStamp;
use palabre_room::{MIXER_SOCKET, Name, ParticipantDir, RoomDir, RoomError};

use crate::certificate::stamps;
use crate::cli::Cli;
use crate::saved::Saved;

const LISTENER: &str = "palabre-listener";
const RECORDER: &str = "palabre-recorder";

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
    /// Directory of recordings.
    pub(crate) recordings: PathBuf,
    /// Directory with one file for each one-time invitation link that was used.
    pub(crate) links: PathBuf,
    /// The settings of `palabre.toml`.
    pub(crate) server: Server,
    /// The text of `palabre.toml`.
    pub(crate) server_file: String,
    /// Message about a changed setting that takes effect only at the next start of the supervisor.
    pub(crate) deferred: Option<String>,
    no_levelling: bool,
    certificate: [Option<FileStamp>; 2],
}

/// Which settings a reload has changed.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Changed {
    /// The settings of `palabre.toml` have changed: listeners must be replaced.
    pub(crate) server: bool,
    /// The certificate or its key has changed: listeners must read both files again.
    pub(crate) certificate: bool,
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
        let certificate = stamps(&server);
        Ok(Self {
            directory,
            run: absolute(&cli.run)?,
            listener,
            recorder,
            recordings,
            links: absolute(&cli.links)?,
            server,
            server_file,
            deferred: None,
            no_levelling: cli.no_levelling,
            certificate,
        })
    }

    /// Reads `palabre.toml` again. The rooms' format stays as it was when this process started, since the mixer has the pipes open.
    pub(crate) fn reload(&mut self) -> Result<Changed, ConfigError> {
        let (written, text) = load(&self.directory, self.no_levelling)?;
        self.deferred = (written.format != self.server.format).then(|| {
            let (new, old) = (written.format.rate.hz(), self.server.format.rate.hz());
            format!("unable to change rate-hz from {old} to {new} while rooms are open; stop and start the supervisor and the mixer")
        });
        let new = Server { format: self.server.format, ..written };
        let (server, certificate) = (new != self.server, stamps(&new));
        let changed = Changed { server, certificate: !server && certificate != self.certificate };
        (self.server, self.server_file) = (new, text);
        self.certificate = certificate;
        Ok(changed)
    }

    /// Returns the settings of `palabre.toml` as text, to compare them with the settings of another time.
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

    /// Returns the stamps of the certificate and its key when they were last read.
    pub(crate) fn certificate(&self) -> [Option<FileStamp>; 2] {
        self.certificate
    }

    /// Returns the directory of a room.
    pub(crate) fn room(&self, room: &Name) -> RoomDir {
        RoomDir::new(self.run.join("rooms").join(room))
    }

    /// Creates a room's directory with the settings of `palabre.toml`.
    pub(crate) fn make_room(&self, room: &Name) -> Result<(), RoomError> {
        let room = self.room(room);
        room.create(self.server.format)?;
        room.set_levelling(Some(self.server.levelling.into()))
    }

    /// Returns the directory of a participant.
    pub(crate) fn participant(&self, room: &Name, name: &Name) -> ParticipantDir {
        self.room(room).participant(name)
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
        self.run.join("supervisor.lock")
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
