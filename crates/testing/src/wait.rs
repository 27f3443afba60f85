//! Waits for another process or thread.

use std::time::{Duration, Instant};

/// Timeout for everything that a test waits for.
pub const TIMEOUT: Duration = Duration::from_secs(20);
/// Interval between calls.
const POLL: Duration = Duration::from_millis(2);

/// Calls `ready` until it returns a value.
///
/// # Panics
/// If `ready` returns no value within [`TIMEOUT`]. The message has `what`.
pub fn wait_until<T>(what: &str, mut ready: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + TIMEOUT;
    loop {
        if let Some(value) = ready() {
            return value;
        }
        assert!(Instant::now() < deadline, "timed out waiting for {what}");
        std::thread::sleep(POLL);
    }
}
