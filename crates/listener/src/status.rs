//! What the supervisor is told in `STATUS=`: how many streams, and who speaks. Said when it changes, at most every half a second.
//!
//! The threads only ring; the main thread, which waits for connections and signals anyway, looks and tells.

use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

const AT_MOST_EVERY: Duration = Duration::from_millis(500);

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
    at: Option<Instant>,
}

impl Told {
    /// Tells `text` by `say` if it is new and the last time is long enough ago; else gives when to come again.
    pub fn tell(&mut self, text: String, now: Instant, say: impl FnOnce(&str)) -> Option<Instant> {
        if text == self.text {
            return None;
        }
        if let Some(due) = self.at.map(|at| at + AT_MOST_EVERY).filter(|due| now < *due) {
            return Some(due);
        }
        say(&text);
        self.text = text;
        self.at = Some(now);
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_is_not_told_twice_and_news_wait_two_seconds() {
        let (mut told, start) = (Told::default(), Instant::now());
        let mut said = Vec::new();
        assert_eq!(told.tell("streams=1".into(), start, |text| said.push(text.to_owned())), None);
        assert_eq!(told.tell("streams=1".into(), start, |text| said.push(text.to_owned())), None);
        let due = told.tell("streams=2".into(), start + AT_MOST_EVERY / 2, |text| said.push(text.to_owned()));
        assert_eq!(due, Some(start + AT_MOST_EVERY));
        assert_eq!(told.tell("streams=2".into(), start + AT_MOST_EVERY, |text| said.push(text.to_owned())), None);
        assert_eq!(said, ["streams=1", "streams=2"]);
    }
}
