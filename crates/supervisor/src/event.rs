//! What the main thread is told, and the threads that tell it.
//!
//! One channel with a maximum: a thread that talks too much waits, and what feeds it waits in the kernel.

use std::io;
use std::sync::mpsc::{Receiver, Sender, SyncSender, sync_channel};
use std::thread;

use palabre_config::control::{Request, Response};
use palabre_host::notify::{self, Message};
use palabre_host::signals::Signals;

/// How many events may wait.
const QUEUE: usize = 64;

/// Something that happened outside the main thread.
#[derive(Debug)]
pub enum Event {
    /// A signal, by its number.
    Signal(i32),
    /// A child has something to say.
    Notified {
        /// Its process id, by the kernel's word.
        pid: u32,
        /// What it says.
        message: Message,
    },
    /// Somebody on the control socket, who may, asks.
    Asked {
        /// For what.
        request: Request,
        /// By the process that connected, by the kernel's word; 0 where that is not known here.
        pid: u32,
        /// Where the answer goes; it may come later.
        answer: Sender<Response>,
    },
}

/// The channel on which the main thread waits.
pub fn channel() -> (SyncSender<Event>, Receiver<Event>) {
    sync_channel(QUEUE)
}

/// A thread that turns signals into events.
pub fn from_signals(mut signals: Signals, events: SyncSender<Event>) -> io::Result<()> {
    named("signals", move || {
        while let Ok(signal) = signals.wait(None) {
            if signal.is_some_and(|signal| events.send(Event::Signal(signal)).is_err()) {
                return;
            }
        }
    })
}

/// A thread that turns what children say into events, until this process says something itself: then what comes after it
/// stays in the socket.
pub fn from_children(receiver: notify::Receiver, events: SyncSender<Event>) -> io::Result<()> {
    named("notify", move || {
        loop {
            let (pid, message) = match receiver.recv() {
                Ok(received) => received,
                Err(error) => {
                    log::error!("unable to hear the listeners any more: {error}; restart the supervisor");
                    return;
                }
            };
            if events.send(Event::Notified { pid, message }).is_err() || pid == std::process::id() {
                return;
            }
        }
    })
}

/// A thread with a name, which ends with the process.
pub fn named(name: &str, work: impl FnOnce() + Send + 'static) -> io::Result<()> {
    thread::Builder::new().name(name.into()).spawn(work).map(drop)
}
