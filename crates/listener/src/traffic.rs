//! What went through this process, counted since it began: for the operator, not for any decision.
//!
//! The counters are the process's own, as the process has one participant; threads add to them and look at nothing else.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

static SENT: AtomicU64 = AtomicU64::new(0);
static RECEIVED: AtomicU64 = AtomicU64::new(0);
static SKIPPED: AtomicU64 = AtomicU64::new(0);

/// Bytes left through a socket: what TLS makes of it, without TCP's own.
pub fn sent(bytes: usize) {
    SENT.fetch_add(bytes as u64, Relaxed);
}

/// Bytes came through a socket.
pub fn received(bytes: usize) {
    RECEIVED.fetch_add(bytes as u64, Relaxed);
}

/// A stream was behind and has missed so many frames of 20 ms.
pub fn skipped(frames: u64) {
    SKIPPED.fetch_add(frames, Relaxed);
}

/// The counters at a moment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Bytes.
    pub sent: u64,
    /// Bytes.
    pub received: u64,
    /// Frames of 20 ms that streams have missed, being too slow for them.
    pub skipped: u64,
}

/// The counters now.
pub fn now() -> Traffic {
    Traffic { sent: SENT.load(Relaxed), received: RECEIVED.load(Relaxed), skipped: SKIPPED.load(Relaxed) }
}

impl fmt::Display for Traffic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sent={} received={} skipped={}", self.sent, self.received, self.skipped)
    }
}
