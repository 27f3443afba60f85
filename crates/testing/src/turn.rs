//! Runs the measurements of a test program one at a time.

use std::cell::Cell;
use std::sync::{Mutex, MutexGuard, PoisonError};

static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

thread_local! {
    static IS_MINE: Cell<bool> = const { Cell::new(false) };
}

/// A test's turn. It ends when this is dropped.
#[derive(Debug)]
pub struct Turn(Option<MutexGuard<'static, ()>>);

/// Waits until no other test of this program has its turn. A test that has it already goes on at once.
#[must_use]
pub fn turn() -> Turn {
    if IS_MINE.replace(true) {
        return Turn(None);
    }
    // A poisoned lock is a failed test, which must not fail the others.
    Turn(Some(ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner)))
}

impl Drop for Turn {
    fn drop(&mut self) {
        if self.0.is_some() {
            IS_MINE.set(false);
        }
    }
}
