//! The events that the main thread handles, and the threads that send them to it.
//!
//! All events go through one bounded channel. While the channel is full, the sending threads block, and their input waits in the kernel.

use std::io;
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::path::Path;
use std::sync::mpsc::{Receiver, Sender, SyncSender, sync_channel};
use std::thread;
use std::time::Instant;

use crate::audit::Author;
use crate::measured::Measured;
use palabre_config::control::{MixerState, Request, Response};
use palabre_config::signing::SignerReport;
use palabre_host::notify::{self, Message};
use palabre_host::packet::Packet;
use palabre_host::signals::Signals;

/// Maximum number of events in the channel.
const QUEUE: usize = 64;
/// The answer to a request that arrives while the supervisor is ending.
pub(crate) const ENDING: &str = "unable to perform the request: the supervisor is ending";

/// Something that happened outside the main thread.
#[derive(Debug)]
pub(crate) enum Event {
    /// A signal, by its number.
    Signal(i32),
    /// A process has sent a notification.
    Notified {
        /// Process id of the sender, from the kernel.
        pid: u32,
        message: Message,
    },
    /// The state of the mixer has changed.
    Mixer(MixerState),
    /// The thread `storage` has measured the disk of the recordings.
    Measured(Measured),
    /// A signer has sent a report. `None`: the connection to the signer is closed.
    SignerReport {
        /// Number of the connection.
        link: u64,
        report: Option<SignerReport>,
    },
    /// A signer of another user has connected.
    SignerConnected {
        socket: Packet,
        /// Process id of the signer, from the kernel.
        pid: u32,
        user: String,
    },
    /// The launcher has sent a report, or has closed the connection. See [`crate::launcher::Launcher::news`].
    LauncherReport,
    /// A launcher has connected.
    LauncherConnected {
        socket: Packet,
        /// Process id of the launcher, from the kernel.
        pid: u32,
    },
    /// An authorized client of the control socket has sent a request.
    Asked {
        request: Request,
        /// Process id of the client, from the kernel; 0 if the client is in another PID namespace.
        pid: u32,
        client: Client,
    },
}

/// A client of the control socket that waits for an answer.
#[derive(Debug)]
pub(crate) struct Client {
    /// Passes the answer to the thread that serves the client.
    pub(crate) answer: Sender<Response>,
    /// If the client asked for a restart of the supervisor: the connection, on which the next program answers.
    pub(crate) connection: Option<UnixStream>,
    /// The user of the client.
    pub(crate) by: Author,
}

impl Client {
    /// Sends the answer to the client's thread. Does nothing if the client has disconnected.
    pub(crate) fn answer(&self, response: Response) {
        let _ = self.answer.send(response);
    }

    /// Refuses the request, because the supervisor is ending.
    pub(crate) fn refuse_at_the_end(&self) {
        self.answer(Response::Refused { why: ENDING.into() });
    }
}

/// Creates the channel from which the main thread receives events.
pub(crate) fn channel() -> (SyncSender<Event>, Receiver<Event>) {
    sync_channel(QUEUE)
}

/// Waits for the next event, at most until the deadline.
pub(crate) fn next(events: &Receiver<Event>, deadline: Option<Instant>) -> Option<Event> {
    let Some(deadline) = deadline else {
        return events.recv().ok();
    };
    events.recv_timeout(deadline.saturating_duration_since(Instant::now())).ok()
}

/// Starts the thread that sends an event for each signal.
pub(crate) fn from_signals(mut signals: Signals, events: SyncSender<Event>) -> io::Result<()> {
    named("signals", move || {
        while let Ok(signal) = signals.wait(None) {
            if signal.is_some_and(|signal| events.send(Event::Signal(signal)).is_err()) {
                return;
            }
        }
    })
}

/// Starts the thread that sends an event for each notification of a child. The thread ends after a STOPPING=1 that this process itself
/// has sent; later notifications remain in the socket.
pub(crate) fn from_children(receiver: notify::Receiver, events: SyncSender<Event>) -> io::Result<()> {
    named("notify", move || {
        loop {
            let (pid, message) = match receiver.recv() {
                Ok(received) => received,
                Err(error) => {
                    log::error!(
                        "unable to receive notifications from the listeners, the recorders and the signer: {error}; stop palabre-supervisor and start it again"
                    );
                    return;
                }
            };
            let is_end = pid == std::process::id() && message.stopping;
            if events.send(Event::Notified { pid, message }).is_err() || is_end {
                return;
            }
        }
    })
}

/// Sends an empty notification from this process to its own socket at `path`. The main thread receives it after all notifications that
/// children have sent before.
pub(crate) fn mark(path: &Path) -> io::Result<()> {
    let socket = UnixDatagram::unbound()?;
    // If the socket is full, the send fails instead of waiting: the main thread must not wait for the thread that empties the socket.
    socket.set_nonblocking(true)?;
    socket.send_to(b"\n", path).map(drop)
}

/// Starts a thread with this name. No one joins it: it may run until the process ends.
pub(crate) fn named(name: &str, work: impl FnOnce() + Send + 'static) -> io::Result<()> {
    thread::Builder::new().name(name.into()).spawn(work).map(drop)
}
