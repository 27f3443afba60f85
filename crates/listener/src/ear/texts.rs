//! Reads messages to the participant from the socket `inbox`.

use palabre_host::rate_limit::RateLimit;
use palabre_room::{Inbox, Message};
use serde::Serialize;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::time::{Duration, Instant};

/// Rate limit for received messages, per second.
const PER_SECOND: f64 = 20.0;
/// Maximum number of messages in a burst.
const BURST: f64 = 60.0;
/// Maximum number of datagrams read at a time. Any process of the group `palabre` can send datagrams at any rate.
const MAX_DATAGRAMS: usize = 64;
/// Pause after [`MAX_DATAGRAMS`] were read at a time. During the pause, datagrams wait in the kernel's queue; a full queue refuses them.
const PAUSE: Duration = Duration::from_millis(50);

/// The socket `inbox` with its rate limit.
#[derive(Debug)]
pub(super) struct Texts {
    inbox: Inbox,
    limit: RateLimit,
    /// End of the pause: no datagram is read before.
    next: Instant,
}

/// The JSON of a message record.
#[derive(Serialize)]
struct Text<'a> {
    from: &'a str,
    text: &'a str,
}

impl Texts {
    pub(super) fn new(inbox: Inbox, now: Instant) -> Self {
        Self { inbox, limit: RateLimit::new(PER_SECOND, BURST), next: now }
    }

    /// Returns the descriptor that becomes readable with the next message, or the end of the pause as an error.
    pub(super) fn poll(&self, now: Instant) -> Result<BorrowedFd<'_>, Instant> {
        if now < self.next { Err(self.next) } else { Ok(self.inbox.as_fd()) }
    }

    /// Returns the messages that have arrived, as JSON. Messages above the rate limit are dropped.
    pub(super) fn read(&mut self, now: Instant) -> Vec<String> {
        self.read_batch(now, MAX_DATAGRAMS)
    }

    fn read_batch(&mut self, now: Instant, max_datagrams: usize) -> Vec<String> {
        if now < self.next {
            return Vec::new();
        }
        let (count, messages) = self.inbox.receive(max_datagrams);
        if count == max_datagrams {
            self.next = now + PAUSE;
        }
        let admitted = messages.iter().filter(|_| self.limit.admit(now));
        admitted.map(|Message { from, text }| json(from.as_str(), text)).collect()
    }
}

fn json(from: &str, text: &str) -> String {
    serde_json::to_string(&Text { from, text }).unwrap_or_default()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use palabre_room::{Format, RoomDir};
    use std::os::unix::net::UnixDatagram;

    fn texts(now: Instant) -> (tempfile::TempDir, RoomDir, Texts) {
        let dir = tempfile::tempdir().unwrap();
        let room = RoomDir::new(dir.path().join("main"));
        room.create(Format::default()).unwrap();
        let alice = room.participant(&"alice".parse().unwrap());
        alice.create().unwrap();
        let texts = Texts::new(Inbox::bind(&alice).unwrap(), now);
        (dir, room, texts)
    }

    #[test]
    fn texts_arrive_as_json_up_to_the_rate_limit() {
        let now = Instant::now();
        let (_dir, room, mut texts) = texts(now);
        let message = Message::new("bob".parse().unwrap(), "</b>\"").unwrap();
        let mut arrived = 0;
        for _ in 0..200 {
            room.tell(&message).unwrap();
            for json in texts.read(now) {
                assert_eq!(json, "{\"from\":\"bob\",\"text\":\"</b>\\\"\"}");
                arrived += 1;
            }
        }
        assert_eq!(arrived, BURST as usize);
    }

    #[test]
    fn flood_of_datagrams_is_read_in_batches_with_pauses() {
        let now = Instant::now();
        let (_dir, room, mut texts) = texts(now);
        let (inbox, socket) = (room.participant(&"alice".parse().unwrap()).inbox(), UnixDatagram::unbound().unwrap());
        (0..3).for_each(|_| assert!(socket.send_to(b"invalid", &inbox).is_ok()));
        assert!(texts.read_batch(now, 2).is_empty());
        assert_eq!(texts.poll(now).unwrap_err(), now + PAUSE);
        room.tell(&Message::new("bob".parse().unwrap(), "x").unwrap()).unwrap();
        assert!(texts.read_batch(now, 2).is_empty(), "in the pause");
        assert!(texts.poll(now + PAUSE).is_ok());
        assert_eq!(texts.read(now + PAUSE).len(), 1);
    }
}
