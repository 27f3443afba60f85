//! How a listener process is started, and the protocol between the supervisor and the program `palabre-launcher`.
//!
//! The supervisor starts the listeners itself, with its own user, or it orders `palabre-launcher`, which has another user, to start them. Both use
//! [`Start`].

mod protocol;
mod start;

pub use protocol::{MAX_MESSAGE_BYTES, Order, Report, Signal, encode, parse};
pub use start::{Directories, Given, Start};
