//! The configuration files, access keys, the certificate, and the control protocol.
//!
//! Parses text into types, with errors that name the file, the line and the allowed values.
//!
//! ```text
//! /etc/palabre/palabre.toml               the server        [`Server`]
//! /etc/palabre/participants.d/alice.toml  one participant   [`Participant`]
//! /run/palabre/control.sock               the supervisor    [`control`]
//! ```

mod bridge;
mod bridge_check;
pub mod certificate;
pub mod control;
mod cookie_secret;
mod entrance;
mod error;
mod file;
pub mod hex;
pub mod key;
mod link;
mod listener_settings;
mod moment;
mod own_name;
mod participant;
pub mod port;
mod proxy;
mod record;
mod recordings;
mod server;
pub mod signing;
mod text;

pub use bridge::{Bridge, BridgeCodec};
pub use bridge_check::{BridgeCheck, CheckedMachine, CheckedRoom};
pub use cookie_secret::{CookieKey, CookieSecret};
pub use entrance::Entrance;
pub use error::ConfigError;
pub use key::{Key, KeyHash};
pub use link::{LinkTemplate, PageAddress};
pub use listener_settings::{ListenerSettings, MAX_SETTINGS_BYTES, SettingsError};
pub use moment::{Moment, NotAMoment};
pub use own_name::OwnName;
pub use participant::{Edit, Edited, Exported, MAX_EXPORT_BYTES, PARTICIPANTS_DIR, Participant};
pub use proxy::{ClientAddress, Proxy};
pub use recordings::Recordings;
pub use server::{CodecSetting, Limits, PortRange, SERVER_FILE, SandboxSetting, Server};
