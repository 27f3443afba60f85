//! Runs the measurements of a test program one at a time.

use std::cell::Cell;
use std::sync::{Mutex, MutexGuard, PoisonError};

static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

thread_local! {
    static IS_MINE: Cell<bool> = const { Cell::new(false) };
}

/// A test's turn to run. Dropping this value ends the turn.
#[derive(Debug)]
pub struct Turn(Option<MutexGuard<'static, ()>>);

/// Waits until no other test of this program has its turn, and returns this test's turn. Returns at once if the test has its turn already.
#[must_use]
pub fn turn() -> Turn {
    if IS_MINE.replace(true) {
        return Turn(None);
    }
    // If the lock is poisoned, another test has panicked. That must not fail this test.
    Turn(Some(ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner)))
}

impl Drop for Turn {
    fn drop(&mut self) {
        if self.0.is_some() {
            IS_MINE.set(false);
        }
    }
}
