//! Limits for log lines that a client, or another user of a directory, can cause.

use std::fmt::Display;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use log::Level;

use crate::rate_limit::RateLimit;

/// A rate limit for one kind of log line. The next logged line contains the number of suppressed lines.
#[derive(Debug)]
pub struct LogLimit {
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    limit: RateLimit,
    suppressed: u64,
}

impl LogLimit {
    /// Returns a limit of `per_second` lines a second on average and `burst` lines at once.
    #[must_use]
    pub const fn new(per_second: f64, burst: f64) -> Self {
        Self { state: Mutex::new(State { limit: RateLimit::new(per_second, burst), suppressed: 0 }) }
    }

    /// Logs `text`, or counts it as suppressed if the limit is reached.
    pub fn log(&self, level: Level, now: Instant, text: impl Display) {
        match self.admit(now) {
            None => {}
            Some(0) => log::log!(level, "{text}"),
            Some(suppressed) => log::log!(level, "{text} ({suppressed} more messages suppressed)"),
        }
    }

    /// Returns how many lines were suppressed since the last logged line, or `None` if the limit is reached: then the
    /// present line is suppressed too.
    fn admit(&self, now: Instant) -> Option<u64> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.limit.admit(now) {
            return Some(std::mem::take(&mut state.suppressed));
        }
        state.suppressed += 1;
        None
    }
}

/// The last warning about one object, so that an attempt that fails again with the same error is not logged again.
#[derive(Clone, Debug, Default)]
pub struct LastWarning(Option<String>);

impl LastWarning {
    /// Stores `text` and returns it, or returns `None` if `text` repeats the last warning.
    pub fn unless_repeated(&mut self, text: String) -> Option<&str> {
        if self.0.as_ref() == Some(&text) {
            return None;
        }
        Some(self.0.insert(text))
    }

    /// Forgets the last warning, because the object works again. Returns whether there was a last warning.
    pub fn clear(&mut self) -> bool {
        self.0.take().is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn suppressed_lines_are_counted_in_the_next_one() {
        let (limit, start) = (LogLimit::new(0.1, 1.0), Instant::now());
        assert_eq!(limit.admit(start), Some(0));
        for second in 0..9 {
            assert_eq!(limit.admit(start + Duration::from_secs(second)), None);
        }
        assert_eq!(limit.admit(start + Duration::from_secs(11)), Some(9));
    }

    #[test]
    fn a_warning_is_new_when_its_text_changes_or_the_object_worked_in_between() {
        let mut last = LastWarning::default();
        assert_eq!(last.unless_repeated("not found".to_owned()), Some("not found"));
        assert_eq!(last.unless_repeated("not found".to_owned()), None);
        assert!(last.unless_repeated("permission denied".to_owned()).is_some());
        assert!(last.clear() && !last.clear());
        assert!(last.unless_repeated("permission denied".to_owned()).is_some());
    }
}
