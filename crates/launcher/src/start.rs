//! The start of a listener process.

use std::io::{self, PipeReader, Write, pipe};
use std::net::TcpListener;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::{Child, Command};

use palabre_config::{Entrance, ListenerSettings, MAX_SETTINGS_BYTES};
use palabre_host::packet::{MAX_FDS, Packet};
use palabre_host::{heap, notify, sockets};
use palabre_room::Name;

/// The program and the directories of all listeners.
#[derive(Debug, Clone)]
pub struct Directories {
    /// Path of the program palabre-listener.
    pub listener: PathBuf,
    /// Directory of the configuration.
    pub config: PathBuf,
    /// Directory of rooms and sockets.
    pub run: PathBuf,
}

/// What a listener process inherits.
#[derive(Debug)]
pub struct Given {
    /// A pipe with the participant's settings, which the listener reads from standard input.
    settings: PipeReader,
    /// The socket of the participant's port.
    socket: TcpListener,
    /// The listener's end of its connection to the signer.
    signer: Packet,
}

/// A listener to be started.
#[derive(Debug)]
pub struct Start<'a> {
    /// The participant.
    pub name: &'a Name,
    /// The recorded use of the participant's one-time link.
    pub entered: Option<Entrance>,
    /// What the listener inherits.
    pub given: Given,
}

impl Given {
    /// Returns what a listener needs to serve the participant of `settings` on `socket`.
    pub fn new(settings: &ListenerSettings, socket: &TcpListener, signer: Packet) -> io::Result<Self> {
        let bytes = settings.to_bytes();
        if bytes.len() > MAX_SETTINGS_BYTES {
            return Err(io::Error::other(format!(
                "the participant's settings are longer than {MAX_SETTINGS_BYTES} bytes"
            )));
        }
        let (settings, mut input) = pipe()?;
        // This write never waits: every empty pipe takes `MAX_SETTINGS_BYTES` at once.
        input.write_all(&bytes)?;
        Ok(Self { settings, socket: socket.try_clone()?, signer })
    }

    /// Returns the descriptors, for a message that [`Self::from_fds`] takes.
    #[must_use]
    pub fn fds(&self) -> [BorrowedFd<'_>; MAX_FDS] {
        [self.settings.as_fd(), self.socket.as_fd(), self.signer.as_fd()]
    }

    /// Takes the descriptors that came with a message, in the order of [`Self::fds`]. Returns `None` if their number is wrong.
    #[must_use]
    pub fn from_fds(fds: Vec<OwnedFd>) -> Option<Self> {
        let [settings, socket, signer] = <[OwnedFd; MAX_FDS]>::try_from(fds).ok()?;
        Some(Self { settings: settings.into(), socket: socket.into(), signer: signer.into() })
    }
}

impl Start<'_> {
    /// Starts the listener as a child of this process, which must be its main thread.
    ///
    /// The child inherits standard output and standard error. It has its own process group, so that Ctrl-C at a terminal doesn't reach it.
    ///
    /// # Errors
    /// The program can't be executed, or a limit of the system is reached.
    pub fn spawn(self, directories: &Directories) -> io::Result<Child> {
        use std::os::unix::process::CommandExt as _;
        let mut command = Command::new(&directories.listener);
        command.arg(self.name.as_str()).arg("--config").arg(&directories.config).arg("--run").arg(&directories.run);
        command.arg("--settings-on-stdin").arg("--parent-pid").arg(std::process::id().to_string());
        if let Some(entered) = self.entered {
            command.arg("--entered").arg(entered.to_string());
        }
        command.stdin(self.given.settings).process_group(0);
        notify::for_child(&mut command, &notify_socket(&directories.run));
        heap::keep_small(&mut command);
        sockets::give(&mut command, &self.given.socket, Some(&self.given.signer))?;
        command.spawn()
    }
}

/// Returns the path of the socket to which the listeners of a runtime directory send notifications.
fn notify_socket(run: &Path) -> PathBuf {
    run.join("notify.sock")
}
