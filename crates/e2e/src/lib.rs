//! What the end-to-end tests stand on: the real suite under `palabre try`, a TLS client, a real Chromium.
//!
//! Nothing here is part of Palabre: no program depends on this crate. It finds the binaries beside its own executable, where
//! `cargo test --workspace` puts them.

pub mod browser;
pub mod client;
pub mod compare;
pub mod firefox;
pub mod keyboard;
pub mod line;
pub mod people;
pub mod suite;

use std::time::{Duration, Instant};

use anyhow::{Result, bail};

/// Asks `ready` again and again until it has an answer.
///
/// # Errors
/// None came within `deadline`; `what` says what was waited for.
pub fn wait_for<T>(what: &str, deadline: Duration, mut ready: impl FnMut() -> Option<T>) -> Result<T> {
    let start = Instant::now();
    loop {
        if let Some(answer) = ready() {
            return Ok(answer);
        }
        if start.elapsed() > deadline {
            bail!("{what}: not within {} s", deadline.as_secs());
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}
