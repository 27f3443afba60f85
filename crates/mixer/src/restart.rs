//! The restart socket in the directory of the rooms. The supervisor sends a request to it (`palabre restart mixer`), and the mixer
//! replaces its program by exec.
//!
//! If another mixer already serves the restart socket, this mixer does not start.

use std::io;
use std::path::Path;

use palabre_host::exit::Failure;
use palabre_host::inherit::{Inherited, Legacy};
use palabre_host::program::Program;
use palabre_host::restart::{Client, RestartSocket};
use palabre_host::sandbox::Enforced;
use palabre_room::MIXER_SOCKET;

use crate::poller::{Interest, Poller, Token};

/// The restart socket, and the client of the previous program that waits for an answer.
pub(crate) struct Restarts {
    /// `None` if the socket could not be opened, for example because the mixer can't write to the directory of the rooms, and after
    /// [`Self::close`]. Then only SIGHUP replaces the program.
    socket: Option<RestartSocket>,
    /// The client that asked the previous program for the restart and still waits for an answer.
    client: Option<Client>,
}

impl Restarts {
    /// Takes the restart socket from the previous program, or opens one in the directory of the rooms. Call it after the signal handlers
    /// are installed: a client may request a restart at once.
    pub(crate) fn open(rooms: &Path, inherited: &mut Inherited) -> Result<Self, Failure> {
        let (socket, client) = RestartSocket::inherit(inherited, rooms);
        if socket.is_some() {
            return Ok(Self { socket, client });
        }
        match RestartSocket::open(&rooms.join(MIXER_SOCKET)) {
            Ok(Some(socket)) => Ok(Self { socket: Some(socket), client }),
            Ok(None) => Err(Failure::Refused(format!(
                "unable to mix in '{}': another palabre-mixer serves this directory; stop that mixer, or give another directory with --rooms",
                rooms.display()
            ))),
            Err(error) => {
                // If the directory doesn't exist, adding the inotify watch fails later and reports it.
                if error.kind() != io::ErrorKind::NotFound {
                    log::warn!(
                        "unable to open the restart socket '{MIXER_SOCKET}' in '{}': {error}; 'palabre restart mixer' doesn't work, but SIGHUP does",
                        rooms.display()
                    );
                }
                Ok(Self { socket: None, client })
            }
        }
    }

    /// Adds the restart socket to the poller, so that a restart request wakes the mixer.
    pub(crate) fn watch(&self, poller: &Poller) -> io::Result<()> {
        self.socket.as_ref().map_or(Ok(()), |socket| poller.add(socket, Interest::Read, Token::Restart))
    }

    /// Tells the client that asked the previous program for the restart that this program serves.
    pub(crate) fn serves(&mut self) {
        if let Some(client) = self.client.take() {
            client.done();
        }
    }

    /// Returns a client that has sent a restart request, if there is one.
    pub(crate) fn request(&mut self, poller: &Poller) -> Option<Client> {
        let socket = self.socket.as_mut()?;
        if let Some(connection) = socket.accept()
            && let Err(error) = poller.add(connection, Interest::Read, Token::Restart)
        {
            log::warn!("unable to wait for a restart request: {error}; send SIGHUP to the mixer to restart it");
        }
        socket.request()
    }

    /// Closes the restart socket after its file was removed. While the socket is open, inotify doesn't report the removal of the
    /// directory.
    pub(crate) fn close(&mut self) {
        self.socket = None;
    }

    /// Executes the file at this program's path in this process. Returns only if that fails. The process stays in its
    /// sandbox, so `enforced` tells the next program which parts of the sandbox the kernel enforces already.
    pub(crate) fn replace(&self, program: &Program, client: Option<&Client>, enforced: Enforced) -> io::Error {
        let leave = || {
            let mut legacy = Legacy::new(enforced.to_string().as_bytes())?;
            self.socket.as_ref().map_or(Ok(()), |socket| socket.leave(client, &mut legacy))?;
            Ok(legacy)
        };
        match leave() {
            Ok(legacy) => program.replace(&legacy.environment()),
            Err(error) => error,
        }
    }
}
