//! Where everything is: directories, sockets, the listener's program, and what `palabre.toml` says.

use std::path::{Path, PathBuf};

use palabre_config::{ConfigError, Server};
use palabre_host::executable;
use palabre_host::exit::Failure;
use palabre_host::stamp::FileStamp;
use palabre_room::{Name, ParticipantDir, RoomDir, RoomError};

use crate::certificate::stamps;
use crate::cli::Cli;
use crate::estate::Estate;

const LISTENER: &str = "palabre-listener";
const RECORDER: &str = "palabre-recorder";

/// The places of one supervisor.
#[derive(Debug)]
pub struct Site {
    /// The directory of the configuration, absolute.
    pub config: PathBuf,
    /// The directory of rooms and sockets, absolute.
    pub run: PathBuf,
    /// The program that is started for each participant.
    pub listener: PathBuf,
    /// The program that records a room.
    pub recorder: PathBuf,
    /// The directory of recordings, absolute.
    pub recordings: PathBuf,
    /// The directory of who has used a link that opens once, absolute.
    pub links: PathBuf,
    /// What `palabre.toml` says.
    pub server: Server,
    /// The text that says so.
    pub server_file: String,
    /// What is in `palabre.toml` and waits for the next start.
    pub waits: Option<String>,
    no_levelling: bool,
    certificate: [Option<FileStamp>; 2],
}

/// What has changed.
#[derive(Debug, Clone, Copy, Default)]
pub struct Reread {
    /// `palabre.toml` says something else: listeners must be replaced.
    pub server: bool,
    /// Only the certificate or its key is another file: listeners must read them again.
    pub certificate: bool,
}

impl Site {
    /// Reads `palabre.toml` and finds the listener's program. Where the file has lost its meaning since the program before us asked
    /// whether we could, what that one has read holds.
    pub fn new(cli: &Cli, estate: Option<&Estate>) -> Result<Self, Failure> {
        let config = absolute(&cli.config)?;
        let left = estate.and_then(|estate| estate.server_file.clone());
        let read = load(&config, cli.no_levelling).or_else(|error| {
            log::error!("{error}; what was read before holds");
            let text = left.ok_or(error)?;
            meant(&config, text, cli.no_levelling)
        });
        let (server, server_file) = read.map_err(Failure::config)?;
        let listener = program(cli.listener.as_deref(), LISTENER)?;
        let (recorder, recordings) = (program(cli.recorder.as_deref(), RECORDER)?, absolute(&cli.recordings)?);
        let certificate = stamps(&server);
        Ok(Self {
            config,
            run: absolute(&cli.run)?,
            listener,
            recorder,
            recordings,
            links: absolute(&cli.links)?,
            server,
            server_file,
            waits: None,
            no_levelling: cli.no_levelling,
            certificate,
        })
    }

    /// Reads `palabre.toml` again.
    ///
    /// The rooms' format stays as it was when this process started, since the mixer has its pipes open.
    pub fn reload(&mut self) -> Result<Reread, ConfigError> {
        let (written, text) = load(&self.config, self.no_levelling)?;
        self.waits = (written.format != self.server.format).then(|| {
            let (new, old) = (written.format.rate.hz(), self.server.format.rate.hz());
            format!("unable to change rate-hz from {old} to {new} while rooms are open; restart supervisor and mixer")
        });
        let new = Server { format: self.server.format, ..written };
        let (server, certificate) = (new != self.server, stamps(&new));
        let reread = Reread { server, certificate: !server && certificate != self.certificate };
        (self.server, self.server_file) = (new, text);
        self.certificate = certificate;
        Ok(reread)
    }

    /// What `palabre.toml` means, as a text to compare.
    pub fn server_text(&self) -> String {
        format!("{:?}", self.server)
    }

    /// What the program before us has read: true when listeners must be replaced, as [`Self::reload`] says.
    pub fn inherit(&mut self, estate: &Estate) -> bool {
        self.certificate = estate.certificate;
        if let Ok(format) = estate.format.parse() {
            self.server.format = format;
        }
        self.server_text() != estate.server
    }

    /// The stamps of the certificate and its key when they were read last.
    pub fn certificate(&self) -> [Option<FileStamp>; 2] {
        self.certificate
    }

    /// The directory of a room.
    pub fn room(&self, room: &Name) -> RoomDir {
        RoomDir::new(self.run.join("rooms").join(room))
    }

    /// Makes a room's directory and writes what `palabre.toml` says about rooms into it.
    pub fn make_room(&self, room: &Name) -> Result<(), RoomError> {
        let room = self.room(room);
        room.create(self.server.format)?;
        room.set_levelling(Some(self.server.levelling.into()))
    }

    /// The directory of a participant.
    pub fn participant(&self, room: &Name, name: &Name) -> ParticipantDir {
        self.room(room).participant(name)
    }

    /// Where `palabre` asks.
    pub fn control_socket(&self) -> PathBuf {
        self.run.join("control.sock")
    }

    /// Where the listeners say that they are ready.
    pub fn notify_socket(&self) -> PathBuf {
        self.run.join("notify.sock")
    }

    /// Whoever holds this lock is the supervisor here.
    pub fn lock_file(&self) -> PathBuf {
        self.run.join("supervisor.lock")
    }
}

fn load(config: &Path, no_levelling: bool) -> Result<(Server, String), ConfigError> {
    meant(config, Server::text(config)?, no_levelling)
}

fn meant(config: &Path, text: String, no_levelling: bool) -> Result<(Server, String), ConfigError> {
    let server = Server::from_toml(config, &text)?;
    Ok((Server { levelling: server.levelling && !no_levelling, ..server }, text))
}

fn absolute(path: &Path) -> Result<PathBuf, Failure> {
    std::path::absolute(path).map_err(|error| Failure::usage(format!("unable to use '{}': {error}", path.display())))
}

/// The one that is given, or the one beside us, or the one in PATH.
fn program(given: Option<&Path>, name: &str) -> Result<PathBuf, Failure> {
    match given {
        Some(path) => absolute(path),
        None => Ok(executable::find(name).unwrap_or_else(|| name.into())),
    }
}
