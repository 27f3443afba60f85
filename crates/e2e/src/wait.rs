//! Waits for a condition, with a timeout.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};

/// Calls `ready` until it returns a value, and returns that value. Fails after `timeout`, with `what` in the message.
pub fn wait_for<T>(what: &str, timeout: Duration, ready: impl FnMut() -> Option<T>) -> Result<T> {
    wait_with(Duration::from_millis(20), what, timeout, ready)
}

/// Like [`wait_for`], with this interval between two calls.
pub(crate) fn wait_with<T>(
    interval: Duration,
    what: &str,
    timeout: Duration,
    mut ready: impl FnMut() -> Option<T>,
) -> Result<T> {
    let start = Instant::now();
    loop {
        if let Some(answer) = ready() {
            return Ok(answer);
        }
        if start.elapsed() > timeout {
            bail!("timeout: {what}: not within {} s", timeout.as_secs());
        }
        std::thread::sleep(interval);
    }
}
