//! Replacing the mixer's program: a socket beside the rooms, on which the supervisor asks for it (`palabre restart mixer`).
//!
//! A mixer that finds another one at the socket does not start.

use std::io;
use std::path::Path;

use palabre_host::exit::Failure;
use palabre_host::inherit::{Inherited, Legacy};
use palabre_host::program::Program;
use palabre_host::restart::{Client, RestartSocket};
use palabre_room::MIXER_SOCKET;

use crate::poller::{Interest, Poller, Token};

/// The restart socket.
pub(crate) struct Restarts {
    /// `None` where the directory can't be written: then only SIGHUP replaces the program.
    socket: Option<RestartSocket>,
    /// The client that asked the previous program.
    client: Option<Client>,
}

impl Restarts {
    /// Takes the socket from the previous program, or opens it in the directory of the rooms. Signals must be handled before: a client
    /// may ask at once.
    pub(crate) fn open(rooms: &Path, inherited: &mut Inherited) -> Result<Self, Failure> {
        let (socket, client) = RestartSocket::inherit(inherited);
        if socket.is_some() {
            return Ok(Self { socket, client });
        }
        match RestartSocket::open(&rooms.join(MIXER_SOCKET)) {
            Ok(Some(socket)) => Ok(Self { socket: Some(socket), client }),
            Ok(None) => Err(Failure::Refused(format!(
                "unable to mix in '{}': another palabre-mixer runs there; stop it, or give another directory with --rooms",
                rooms.display()
            ))),
            Err(error) => {
                // A directory that doesn't exist is reported when it is watched.
                if error.kind() != io::ErrorKind::NotFound {
                    log::warn!(
                        "unable to open '{MIXER_SOCKET}' in '{}': {error}; use SIGHUP to restart",
                        rooms.display()
                    );
                }
                Ok(Self { socket: None, client })
            }
        }
    }

    /// Has the poller report requests.
    pub(crate) fn watch(&self, poller: &Poller) -> io::Result<()> {
        self.socket.as_ref().map_or(Ok(()), |socket| poller.add(socket, Interest::Read, Token::Restart))
    }

    /// Answers the client of the previous program: this one serves.
    pub(crate) fn serves(&mut self) {
        if let Some(client) = self.client.take() {
            client.done();
        }
    }

    /// Returns a client that asks for a restart.
    pub(crate) fn request(&mut self, poller: &Poller) -> Option<Client> {
        let socket = self.socket.as_mut()?;
        if let Some(connection) = socket.accept()
            && let Err(error) = poller.add(connection, Interest::Read, Token::Restart)
        {
            log::warn!("unable to wait for a restart request: {error}");
        }
        socket.request()
    }

    /// Closes the socket after its file was removed: while it is open, the removal of its directory is not reported.
    pub(crate) fn close(&mut self) {
        self.socket = None;
    }

    /// Becomes the program that is now at this one's path. Returns only if that fails.
    pub(crate) fn replace(&self, program: &Program, client: Option<&Client>) -> io::Error {
        let leave = || {
            let mut legacy = Legacy::new(&[])?;
            self.socket.as_ref().map_or(Ok(()), |socket| socket.leave(client, &mut legacy))?;
            Ok(legacy)
        };
        match leave() {
            Ok(legacy) => program.replace(&legacy.environment()),
            Err(error) => error,
        }
    }
}
