//! Fuzz targets for the parsers of all data from outside: requests, WebSockets, WAVs, configuration, protocols, files of rooms, links.
//!
//! Two drivers run the same [`TARGETS`]: cargo-fuzz (`fuzz/`), and [`driver`], which changes the files of a corpus at random and needs
//! only stable Rust. A target panics if an invariant of the parser is violated.
//!
//! The listener, the bridge and `palabre swarm` are programs without a library, so their parsers are included by path.
// 'cargo test --all-targets' also builds the unit tests of this library, which are those of the programs' files.
#![cfg(not(test))]

pub mod driver;
mod http;
mod opus;
mod table;
mod targets;

#[allow(dead_code)]
#[path = "../../listener/src/speak/chunk.rs"]
mod chunk;
/// Cookies of browsers.
#[allow(dead_code, unreachable_pub)]
#[path = "../../listener/src/auth/cookie.rs"]
mod cookie;
/// Forms of the messages that a TLS server signs. The signer signs no other message.
#[allow(dead_code)]
#[path = "../../signer/src/form.rs"]
mod form;
/// The state that a page sends by `POST /show`.
#[allow(dead_code)]
#[path = "../../listener/src/handover/shown.rs"]
mod handover;
#[allow(dead_code)]
#[path = "../../listener/src/hello.rs"]
mod hello;
#[allow(dead_code)]
#[path = "../../listener/src/proxy_header.rs"]
mod proxy_header;
/// Parser of the stream that `palabre swarm` receives.
#[allow(dead_code)]
#[path = "../../swarm/src/records.rs"]
mod records;
/// Parser of the report about its connection that a page sends to its listener.
#[allow(dead_code, unreachable_pub, missing_docs)]
#[path = "../../listener/src/api/report.rs"]
mod report;
/// Parser of the state that a page shows to other participants.
#[path = "../../listener/src/api/shown.rs"]
mod shown;
/// Messages that the bridges of the machines send each other.
#[allow(dead_code)]
#[path = "../../bridge/src/wire/mod.rs"]
mod wire;

pub use table::{TARGETS, Target};

/// Runs the target of this name, for cargo-fuzz.
///
/// # Panics
/// If there is no such target, or the input violates an invariant.
pub fn run(name: &str, input: &[u8]) {
    let target = TARGETS.iter().find(|target| target.name == name);
    let _ = (target.unwrap_or_else(|| panic!("no target '{name}'")).run)(input);
}
