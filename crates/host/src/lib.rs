//! The interface of a daemon to Linux: exit codes, logging, signals, readiness, inherited descriptors, and waiting.
//!
//! Only [`exit::main`] prints or ends the process.

pub mod access;
pub mod backoff;
pub mod clock;
pub mod disk;
pub mod executable;
pub mod exit;
pub mod heap;
pub mod inherit;
pub mod lock;
pub mod log_limit;
pub mod logging;
pub mod notify;
pub mod pace;
pub mod packet;
pub mod peer;
pub mod priority;
pub mod process;
pub mod program;
pub mod rate_limit;
pub mod restart;
pub mod sandbox;
pub mod signals;
pub mod sockets;
pub mod stamp;
pub mod usage;
pub mod wait;
