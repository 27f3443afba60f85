//! Counts the bytes that this process sends and receives, and the frames that streams skip.
//!
//! The counters are global, because each process has one participant.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use palabre_config::control::Traffic;

static SENT: AtomicU64 = AtomicU64::new(0);
static RECEIVED: AtomicU64 = AtomicU64::new(0);
static SKIPPED: AtomicU64 = AtomicU64::new(0);

/// Adds to the counter of bytes sent through sockets, including TLS.
pub fn sent(bytes: usize) {
    SENT.fetch_add(bytes as u64, Relaxed);
}

/// Adds to the counter of bytes received through sockets, including TLS.
pub fn received(bytes: usize) {
    RECEIVED.fetch_add(bytes as u64, Relaxed);
}

/// Adds to the counter of 20 ms frames that streams skipped because they were too slow.
pub fn skipped(frames: u64) {
    SKIPPED.fetch_add(frames, Relaxed);
}

/// Returns the current values of the counters.
pub fn now() -> Traffic {
    Traffic { sent: SENT.load(Relaxed), received: RECEIVED.load(Relaxed), skipped: SKIPPED.load(Relaxed) }
}
