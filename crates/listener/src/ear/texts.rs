//! Reads messages to the participant from the socket `inbox`.

use palabre_host::rate_limit::RateLimit;
use palabre_room::{Inbox, MAX_KEPT, Message, Sender};
use serde::Serialize;
use std::collections::VecDeque;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::time::{Duration, Instant};

/// Rate limit for received messages, per second.
const PER_SECOND: f64 = 20.0;
/// Maximum number of messages in a burst.
const BURST: f64 = 60.0;
/// Maximum number of datagrams read at a time. Any process of the group `palabre` can send datagrams at any rate.
const MAX_DATAGRAMS: usize = 64;
/// Maximum number of messages whose ID is remembered. A sender repeats a message within some seconds.
const MAX_RECEIVED: usize = MAX_KEPT;
/// Pause after [`MAX_DATAGRAMS`] were read at a time. During the pause, datagrams wait in the kernel's queue; a full queue refuses them.
const PAUSE: Duration = Duration::from_millis(50);

/// The socket `inbox` with its rate limit.
#[derive(Debug)]
pub(super) struct Texts {
    inbox: Inbox,
    /// Rate limit for the messages with an ID.
    limit: RateLimit,
    /// Rate limit for the messages without an ID, such as reactions, which then don't displace messages with an ID.
    limit_without_id: RateLimit,
    /// Sender and ID of the last messages, so that a message that was sent twice is received once.
    received: VecDeque<(Sender, String)>,
    /// End of the pause: no datagram is read before.
    next: Instant,
}

/// The JSON of a message record.
#[derive(Serialize)]
struct Text<'a> {
    from: String,
    text: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<&'a str>,
}

impl Texts {
    pub(super) fn new(inbox: Inbox, now: Instant) -> Self {
        let limit = || RateLimit::new(PER_SECOND, BURST);
        Self { inbox, limit: limit(), limit_without_id: limit(), received: VecDeque::new(), next: now }
    }

    /// Returns the descriptor that becomes readable with the next message, or the end of the pause as an error.
    pub(super) fn poll(&self, now: Instant) -> Result<BorrowedFd<'_>, Instant> {
        if now < self.next { Err(self.next) } else { Ok(self.inbox.as_fd()) }
    }

    /// Returns the messages that have arrived, as JSON. Messages above the rate limit, and messages that were received before, are dropped.
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
        messages.iter().filter(|message| self.admit(message, now)).map(json).collect()
    }

    fn admit(&mut self, message: &Message, now: Instant) -> bool {
        let Some(id) = &message.id else { return self.limit_without_id.admit(now) };
        let key = (message.from.clone(), id.clone());
        if self.received.contains(&key) || !self.limit.admit(now) {
            return false;
        }
        self.received.push_back(key);
        if self.received.len() > MAX_RECEIVED {
            self.received.pop_front();
        }
        true
    }
}

fn json(Message { from, id, text }: &Message) -> String {
    serde_json::to_string(&Text { from: from.to_string(), text, id: id.as_deref() }).unwrap_or_default()
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
        let mut arrived = 0;
        for number in 0..200 {
            let message = Message::new("bob".parse().unwrap(), "</b>\"").unwrap();
            room.tell(&message.with_id(&number.to_string()).unwrap()).unwrap();
            for json in texts.read(now) {
                assert_eq!(json, format!("{{\"from\":\"bob\",\"text\":\"</b>\\\"\",\"id\":\"{number}\"}}"));
                arrived += 1;
            }
        }
        assert_eq!(arrived, BURST as usize);
    }

    #[test]
    fn many_reactions_do_not_displace_a_text() {
        let now = Instant::now();
        let (_dir, room, mut texts) = texts(now);
        let reaction = Message::new("bob".parse().unwrap(), "👏").unwrap();
        let mut received = 0;
        for _ in 0..200 {
            room.tell(&reaction).unwrap();
            received += texts.read(now).len();
        }
        assert_eq!(received, BURST as usize);
        room.tell(&Message::new("bob".parse().unwrap(), "x").unwrap().with_id("1").unwrap()).unwrap();
        assert_eq!(texts.read(now).len(), 1);
    }

    #[test]
    fn text_that_was_sent_twice_is_received_once() {
        let now = Instant::now();
        let (_dir, room, mut texts) = texts(now);
        let message = |from: &str, id: &str| Message::new(from.parse().unwrap(), "x").unwrap().with_id(id).unwrap();
        for (from, id) in [("bob", "1"), ("bob", "1"), ("carol", "1"), ("bob", "2"), ("bob", "1")] {
            room.tell(&message(from, id)).unwrap();
        }
        let received = texts.read(now);
        assert_eq!(received.len(), 3);
        assert_eq!(received[0], "{\"from\":\"bob\",\"text\":\"x\",\"id\":\"1\"}");
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
