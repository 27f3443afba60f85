//! Support for the end-to-end tests: runs the real suite with `palabre try`, connects to it by TLS, and drives real browsers.
//!
//! No program depends on this crate. The crate expects the programs beside the running test program, where `cargo test --workspace` puts them.

pub mod alerts;
pub mod browser;
pub mod client;
pub mod clock;
pub mod compare;
pub mod earlier_texts;
pub mod elsewhere;
pub mod faults;
pub mod firefox;
pub mod hostile_texts;
pub mod keyboard;
pub mod line;
pub mod link;
pub mod machines;
mod media_keys;
pub mod people;
pub mod plot;
pub mod processes;
pub mod proxy;
mod pulse;
pub mod screens;
pub mod soak;
pub mod suite;
pub mod swarm;
pub mod trend;
mod wait;

pub use wait::wait_for;
