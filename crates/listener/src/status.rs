//! What the supervisor is told in `STATUS=`: how many streams, and who speaks. Said when it changes, at most every half a second.
//! The counters of the traffic and the page's figures come along; that they have changed is told every ten seconds.
//!
//! The threads only ring; the main thread, which waits for connections and signals anyway, looks and tells.

use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

const AT_MOST_EVERY: Duration = Duration::from_millis(500);
const TRAFFIC_EVERY: Duration = Duration::from_secs(10);
const IDLE: &str = "streams=0 speaking=no";

/// The bell that threads ring when something has changed.
#[derive(Debug)]
pub struct Status {
    ring: UnixStream,
    hear: UnixStream,
}

impl Status {
    /// A bell that nobody has rung.
    ///
    /// # Errors
    /// Those of `socketpair(2)`.
    pub fn new() -> io::Result<Self> {
        let (ring, hear) = UnixStream::pair()?;
        ring.set_nonblocking(true)?;
        hear.set_nonblocking(true)?;
        Ok(Self { ring, hear })
    }

    /// Something may have changed.
    pub fn changed(&self) {
        // A full socket means that the bell is ringing already.
        let _ = (&self.ring).write(&[1]);
    }

    /// Hears all that was rung so far.
    pub fn hear(&self) {
        let mut bin = [0; 64];
        while (&self.hear).read(&mut bin).is_ok_and(|count| count == bin.len()) {}
    }
}

impl AsFd for Status {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.hear.as_fd()
    }
}

/// What was told last, and when.
#[derive(Debug, Default)]
pub struct Told {
    text: String,
    counters: String,
    at: Option<Instant>,
}

impl Told {
    /// Tells `text` and then the counters by `say`, if there is news and the last time is long enough ago; else gives when to
    /// come again, if that can be said.
    pub fn tell(&mut self, text: &str, counters: &str, now: Instant, say: impl FnOnce(&str)) -> Option<Instant> {
        let pause = match (text == self.text, counters == self.counters) {
            // Where nobody is, nothing wakes us.
            _ if text == self.text && text.starts_with(IDLE) => return None,
            (true, true) => return Some(now + TRAFFIC_EVERY),
            (true, false) => TRAFFIC_EVERY,
            (false, _) => AT_MOST_EVERY,
        };
        if let Some(due) = self.at.map(|at| at + pause).filter(|due| now < *due) {
            return Some(due);
        }
        say(&format!("{text} {counters}"));
        (self.text, self.counters, self.at) = (text.to_owned(), counters.to_owned(), Some(now));
        Some(now + TRAFFIC_EVERY)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_is_not_told_twice_and_news_wait_half_a_second() {
        let (mut told, start) = (Told::default(), Instant::now());
        let mut said = Vec::new();
        let mut tell = |text: &str, sent: u64, after: Duration| {
            told.tell(text, &format!("sent={sent}"), start + after, |text| said.push(text.to_owned()))
                .map(|due| due - start)
        };
        assert_eq!(tell("streams=1", 0, Duration::ZERO), Some(TRAFFIC_EVERY));
        assert_eq!(tell("streams=1", 0, Duration::ZERO), Some(TRAFFIC_EVERY));
        assert_eq!(tell("streams=2", 0, AT_MOST_EVERY / 2), Some(AT_MOST_EVERY));
        assert_eq!(tell("streams=2", 5, AT_MOST_EVERY), Some(AT_MOST_EVERY + TRAFFIC_EVERY));
        assert_eq!(tell("streams=2", 9, AT_MOST_EVERY * 2), Some(AT_MOST_EVERY + TRAFFIC_EVERY));
        assert_eq!(tell("streams=2", 9, AT_MOST_EVERY + TRAFFIC_EVERY), Some(AT_MOST_EVERY + TRAFFIC_EVERY * 2));
        let expected = ["streams=1 sent=0", "streams=2 sent=5", "streams=2 sent=9"];
        assert_eq!(said, expected);
    }

    #[test]
    fn where_nobody_is_nothing_is_due() {
        let (mut told, start) = (Told::default(), Instant::now());
        assert_eq!(told.tell(IDLE, "sent=0", start, |_| {}), Some(start + TRAFFIC_EVERY));
        assert_eq!(told.tell(IDLE, "sent=9", start + TRAFFIC_EVERY, |_| panic!("told")), None);
    }
}
