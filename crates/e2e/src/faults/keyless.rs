//! Clients without a key that complete TLS handshakes, one after another.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Result, anyhow};

use crate::client::Client;
use crate::link::Link;
use crate::processes::yield_thread;

/// Number of clients, each in a thread, for each listener.
const THREADS: usize = 4;
/// Pause after a connection that the listener has refused.
const PAUSE: Duration = Duration::from_millis(5);

/// Threads that send requests without a key, each with a full TLS handshake.
pub(super) struct Keyless {
    stop: Arc<AtomicBool>,
    /// Number of responses.
    answered: Arc<AtomicU64>,
    threads: Vec<JoinHandle<()>>,
}

impl Keyless {
    /// Starts the threads for these listeners.
    pub(super) fn start(client: &Client, links: &[Link]) -> Self {
        let (stop, answered) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let links = links.iter().flat_map(|link| std::iter::repeat_n(link, THREADS));
        let threads = links.map(|link| {
            let (client, link) = (client.without_tickets(), link.clone());
            let (stop, answered) = (Arc::clone(&stop), Arc::clone(&answered));
            std::thread::spawn(move || {
                // These clients stand for programs of other machines, so they yield the processors to the programs of this machine.
                yield_thread();
                while !stop.load(Ordering::Relaxed) {
                    match client.request(&link, "GET", "/", &[], b"") {
                        Ok(_) => _ = answered.fetch_add(1, Ordering::Relaxed),
                        Err(_) => std::thread::sleep(PAUSE),
                    }
                }
            })
        });
        let threads = threads.collect();
        Self { stop, answered, threads }
    }

    /// Returns the number of responses that the clients have received so far.
    pub(super) fn answered(&self) -> u64 {
        self.answered.load(Ordering::Relaxed)
    }

    /// Ends the threads.
    pub(super) fn stop(self) -> Result<()> {
        self.stop.store(true, Ordering::Relaxed);
        self.threads
            .into_iter()
            .try_for_each(|thread| thread.join().map_err(|_| anyhow!("a thread of a client without a key panicked")))
    }
}
