//! What an operator writes and asks: `palabre.toml`, the participants' files, keys, the certificate, the control socket.
//!
//! Text from outside becomes types here, once, with an error that names the file, the line and what is allowed. This
//! crate knows nothing of pipes, sound or processes.
//!
//! ```text
//! /etc/palabre/palabre.toml               the server        [`Server`]
//! /etc/palabre/participants.d/alice.toml  one participant   [`Participant`]
//! /run/palabre/control.sock               the supervisor    [`control`]
//! ```

pub mod certificate;
pub mod control;
mod entrance;
mod error;
mod file;
pub mod key;
mod link;
mod moment;
mod participant;
mod server;
mod text;

pub use entrance::Entrance;
pub use error::ConfigError;
pub use key::{Key, KeyHash};
pub use link::link;
pub use moment::{Moment, NotAMoment};
pub use participant::{Edit, Edited, PARTICIPANTS_DIR, Participant};
pub use server::{Limits, PortRange, SERVER_FILE, Server};
