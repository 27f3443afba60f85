//! Counters of what went through this process, for the operator.
//!
//! The counters are global, since a process has one participant.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use palabre_config::control::Traffic;

static SENT: AtomicU64 = AtomicU64::new(0);
static RECEIVED: AtomicU64 = AtomicU64::new(0);
static SKIPPED: AtomicU64 = AtomicU64::new(0);

/// Counts bytes sent through a socket, TLS included.
pub fn sent(bytes: usize) {
    SENT.fetch_add(bytes as u64, Relaxed);
}

/// Counts bytes received through a socket, TLS included.
pub fn received(bytes: usize) {
    RECEIVED.fetch_add(bytes as u64, Relaxed);
}

/// Counts frames of 20 ms that a stream missed because it was too slow.
pub fn skipped(frames: u64) {
    SKIPPED.fetch_add(frames, Relaxed);
}

/// Returns the counters.
pub fn now() -> Traffic {
    Traffic { sent: SENT.load(Relaxed), received: RECEIVED.load(Relaxed), skipped: SKIPPED.load(Relaxed) }
}
