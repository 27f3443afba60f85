//! Support for the tests of every crate: the order in which they run, measurements that the machine can disturb, and skipped parts.
//!
//! `scripts/test` counts the lines that this crate prints: it fails at three `REPEATED` lines, and lists every `NOT SHOWN` line at its end.

#[allow(clippy::unwrap_used, clippy::missing_panics_doc)]
pub mod attack;
mod disturbance;
pub mod key_kinds;
mod proc;
mod turn;
mod wait;

pub use disturbance::{undisturbed, undisturbed_by};
pub use turn::{Turn, turn};
pub use wait::{TIMEOUT, wait_until};

/// Prints which check this machine can't perform, and why: `NOT SHOWN: alice is heard by another user: only root can switch users`.
pub fn not_shown(what: &str, reason: &str) {
    println!("NOT SHOWN: {what}: {reason}");
}
