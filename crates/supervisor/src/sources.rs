//! The sources of events: signals, children, clients, and the mixer's state.

use std::io;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::sync::mpsc::{Receiver, SyncSender};

use palabre_host::exit::Failure;
use palabre_host::inherit::Inherited;
use palabre_host::notify;
use palabre_host::signals::Signals;

use crate::config::Config;
use crate::control;
use crate::event::{self, Event};
use crate::mixer;
use crate::saved;

/// The receiver of events, and the sockets that the threads read.
pub(crate) struct Sources {
    pub(crate) events: Receiver<Event>,
    pub(crate) sender: SyncSender<Event>,
    pub(crate) control: UnixListener,
    pub(crate) children: notify::Receiver,
}

impl Sources {
    /// Opens the control socket and the notification socket, or takes them from the previous program. Starts the threads that read them.
    pub(crate) fn open(config: &Config, signals: Signals, inherited: &mut Inherited) -> Result<Self, Failure> {
        let unable =
            |path: &Path, error: io::Error| Failure::system(format!("unable to open '{}': {error}", path.display()));
        let (sender, events) = event::channel();
        let path = config.notify_socket();
        let children = match inherited.datagram(saved::NOTIFY) {
            Some(socket) => notify::Receiver::adopt(socket),
            None => notify::Receiver::bind(&path),
        };
        let children = children.map_err(|error| unable(&path, error))?;
        let duplicate = children.try_clone().map_err(|error| unable(&path, error))?;
        event::from_children(duplicate, sender.clone()).map_err(Failure::system)?;
        event::from_signals(signals, sender.clone()).map_err(Failure::system)?;
        mixer::watch(config.mixer_socket(), sender.clone()).map_err(Failure::system)?;
        let path = config.control_socket();
        let control = inherited.unix(saved::CONTROL);
        let control = control::open(&path, control, config.mixer_socket(), sender.clone());
        Ok(Self { events, sender, control: control.map_err(|error| unable(&path, error))?, children })
    }
}
