//! A log line that strangers can cause: at most one in 10 s, with the number of those that were left out.

use std::fmt::Display;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

const AT_MOST_EVERY: Duration = Duration::from_secs(10);

/// One kind of complaint.
#[derive(Debug, Default)]
pub struct Grumble {
    state: Mutex<(Option<Instant>, u64)>,
}

impl Grumble {
    /// Logs `what` as information, unless one of its kind was logged a short while ago.
    pub fn log(&self, what: impl Display) {
        if let Some(left_out) = self.admits(Instant::now()) {
            match left_out {
                0 => log::info!("{what}"),
                n => log::info!("{what} ({n} more like this before)"),
            }
        }
    }

    /// How many were left out, if this one may be logged.
    fn admits(&self, now: Instant) -> Option<u64> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let (last, left_out) = &mut *state;
        if last.is_some_and(|last| now < last + AT_MOST_EVERY) {
            *left_out += 1;
            return None;
        }
        *last = Some(now);
        Some(std::mem::take(left_out))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_of_complaints_is_one_line_in_ten_seconds() {
        let (grumble, start) = (Grumble::default(), Instant::now());
        assert_eq!(grumble.admits(start), Some(0));
        for second in 0..9 {
            assert_eq!(grumble.admits(start + Duration::from_secs(second)), None);
        }
        assert_eq!(grumble.admits(start + AT_MOST_EVERY), Some(9));
    }
}
