//! The events of the main thread, and the threads that send them.
//!
//! All events go through one bounded channel. While it is full, the sending threads wait, and their input waits in the kernel.

use std::io;
use std::os::unix::net::UnixStream;
use std::sync::mpsc::{Receiver, Sender, SyncSender, sync_channel};
use std::thread;

use palabre_config::control::{Request, Response};
use palabre_host::notify::{self, Message};
use palabre_host::signals::Signals;

/// Maximum number of waiting events.
const QUEUE: usize = 64;

/// Something that happened outside the main thread.
#[derive(Debug)]
pub(crate) enum Event {
    /// A signal, by its number.
    Signal(i32),
    /// A process has sent a notification.
    Notified {
        /// The sender, as the kernel says.
        pid: u32,
        message: Message,
    },
    /// An authorized client of the control socket has sent a request.
    Asked {
        request: Request,
        /// The client's process, as the kernel says; 0 if it is in another PID namespace.
        pid: u32,
        client: Client,
    },
}

/// A client of the control socket that waits for an answer.
#[derive(Debug)]
pub(crate) struct Client {
    /// Passes the answer to the thread that serves the client.
    pub(crate) answer: Sender<Response>,
    /// The connection, on which the next program answers after the supervisor's restart.
    pub(crate) connection: Option<UnixStream>,
}

impl Client {
    /// Answers. The client may have left.
    pub(crate) fn answer(&self, response: Response) {
        let _ = self.answer.send(response);
    }
}

/// Makes the channel on which the main thread waits.
pub(crate) fn channel() -> (SyncSender<Event>, Receiver<Event>) {
    sync_channel(QUEUE)
}

/// Starts the thread that turns signals into events.
pub(crate) fn from_signals(mut signals: Signals, events: SyncSender<Event>) -> io::Result<()> {
    named("signals", move || {
        while let Ok(signal) = signals.wait(None) {
            if signal.is_some_and(|signal| events.send(Event::Signal(signal)).is_err()) {
                return;
            }
        }
    })
}

/// Starts the thread that turns notifications into events. It stops after a notification of this process itself; later ones stay in the
/// socket.
pub(crate) fn from_children(receiver: notify::Receiver, events: SyncSender<Event>) -> io::Result<()> {
    named("notify", move || {
        loop {
            let (pid, message) = match receiver.recv() {
                Ok(received) => received,
                Err(error) => {
                    log::error!("unable to receive notifications from the listeners: {error}; restart the supervisor");
                    return;
                }
            };
            if events.send(Event::Notified { pid, message }).is_err() || pid == std::process::id() {
                return;
            }
        }
    })
}

/// Starts a named thread, which ends with the process.
pub(crate) fn named(name: &str, work: impl FnOnce() + Send + 'static) -> io::Result<()> {
    thread::Builder::new().name(name.into()).spawn(work).map(drop)
}
