//! Linux as a daemon meets it: exit codes, logging, signals, readiness, sockets handed from one process to the next.
//!
//! Every program of the suite meets the same system in the same way, so the craft stands here once. This crate knows
//! nothing of participants, rooms or sound, and it never prints nor exits by itself but in [`exit::main`].

pub mod claim;
pub mod clock;
pub mod exit;
pub mod inherit;
pub mod lock;
pub mod logging;
pub mod notify;
pub mod peer;
pub mod process;
pub mod program;
pub mod signals;
pub mod sockets;
pub mod usage;
pub mod wait;
