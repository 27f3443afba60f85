//! The socket `inbox` of a participant, for short texts: a datagram says who wrote and what, and is kept nowhere.
//!
//! Whoever writes sends one datagram to each inbox of the room and waits for nobody: a full inbox misses this text alone.

use std::fs::Permissions;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixDatagram;
use std::str::FromStr;

use crate::{Name, ParticipantDir, RoomDir, RoomError};

/// The longest text of a message, in characters.
pub const MAX_MESSAGE_CHARS: usize = 500;
/// A name, a tab, and a text of which each character takes at most four bytes.
const MAX_BYTES: usize = 32 + 1 + 4 * MAX_MESSAGE_CHARS;
const MODE: u32 = 0o660;

/// A short text that somebody wrote to the room.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Login name of whoever wrote.
    pub from: Name,
    /// 1 to 500 characters of one line, none of them a control character.
    pub text: String,
}

impl Message {
    /// A message, if `text` may be one.
    #[must_use]
    pub fn new(from: Name, text: &str) -> Option<Self> {
        let length = text.chars().take(MAX_MESSAGE_CHARS + 1).count();
        let is_plain = !text.chars().any(|c| c.is_control() || matches!(c, '\u{2028}' | '\u{2029}'));
        let valid = (1..=MAX_MESSAGE_CHARS).contains(&length) && is_plain && !text.trim().is_empty();
        valid.then(|| Self { from, text: text.to_owned() })
    }
}

impl FromStr for Message {
    type Err = ();

    fn from_str(datagram: &str) -> Result<Self, ()> {
        let (from, text) = datagram.split_once('\t').ok_or(())?;
        Self::new(from.parse().map_err(|_| ())?, text).ok_or(())
    }
}

/// Where one participant's messages arrive.
#[derive(Debug)]
pub struct Inbox {
    socket: UnixDatagram,
}

impl Inbox {
    /// Makes the socket, in the place of one that is there: whoever comes later gets the messages from then on.
    ///
    /// # Errors
    /// What the file system says; the path of a socket has at most 107 bytes.
    pub fn bind(participant: &ParticipantDir) -> Result<Self, RoomError> {
        let (path, new) = (participant.inbox(), participant.path().join("inbox.new"));
        // Left behind by somebody who died between the two steps.
        let _ = std::fs::remove_file(&new);
        let bound = UnixDatagram::bind(&new).and_then(|socket| {
            socket.set_nonblocking(true)?;
            std::fs::set_permissions(&new, Permissions::from_mode(MODE))?;
            std::fs::rename(&new, &path)?;
            Ok(socket)
        });
        Ok(Self { socket: bound.map_err(RoomError::io("make the socket", &path))? })
    }

    /// The next message that has arrived; datagrams that are none are passed over.
    pub fn receive(&self) -> Option<Message> {
        let mut bytes = [0; MAX_BYTES + 1];
        loop {
            let length = self.socket.recv(&mut bytes).ok()?;
            let text = bytes.get(..length.min(MAX_BYTES + 1)).and_then(|bytes| std::str::from_utf8(bytes).ok());
            if let Some(message) = text.filter(|_| length <= MAX_BYTES).and_then(|text| text.parse().ok()) {
                return Some(message);
            }
        }
    }
}

impl AsFd for Inbox {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl RoomDir {
    /// Sends a message to every inbox of the room, the writer's own too, and says how many took it.
    ///
    /// # Errors
    /// The directory can't be read, or there are no more file descriptors.
    pub fn tell(&self, message: &Message) -> Result<usize, RoomError> {
        let socket = UnixDatagram::unbound().and_then(|socket| socket.set_nonblocking(true).map(|()| socket));
        let socket = socket.map_err(RoomError::io("write into", self.path()))?;
        let datagram = format!("{}\t{}", message.from, message.text);
        // Nobody there, nobody reading, no room left: each concerns that participant alone.
        let took = |name: &Name| socket.send_to(datagram.as_bytes(), self.participant(name).inbox()).is_ok();
        Ok(self.participants()?.iter().filter(|name| took(name)).count())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::Format;

    fn name(text: &str) -> Name {
        text.parse().unwrap()
    }

    fn room(names: &[&str]) -> (tempfile::TempDir, RoomDir) {
        let dir = tempfile::tempdir().unwrap();
        let room = RoomDir::new(dir.path().join("main"));
        room.create(Format::default()).unwrap();
        names.iter().for_each(|it| room.participant(&name(it)).create().unwrap());
        (dir, room)
    }

    #[test]
    fn a_message_reaches_every_inbox_and_no_other_room() {
        let (_dir, room) = room(&["alice", "bob", "carol"]);
        let inboxes = ["alice", "bob"].map(|it| Inbox::bind(&room.participant(&name(it))).unwrap());
        let message = Message::new(name("alice"), "bonjour à tous").unwrap();
        assert_eq!(room.tell(&message).unwrap(), 2, "carol has none");
        for inbox in &inboxes {
            assert_eq!(inbox.receive(), Some(message.clone()));
            assert_eq!(inbox.receive(), None);
        }
    }

    #[test]
    fn the_newest_inbox_gets_what_comes_from_then_on() {
        let (_dir, room) = room(&["alice"]);
        let alice = room.participant(&name("alice"));
        let older = Inbox::bind(&alice).unwrap();
        let newer = Inbox::bind(&alice).unwrap();
        assert_eq!(room.tell(&Message::new(name("alice"), "x").unwrap()).unwrap(), 1);
        assert!(older.receive().is_none() && newer.receive().is_some());
        let mode = std::fs::metadata(alice.inbox()).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, MODE);
    }

    #[test]
    fn whoever_does_not_read_misses_texts_and_holds_up_nobody() {
        let (_dir, room) = room(&["alice", "bob"]);
        let _idle = Inbox::bind(&room.participant(&name("alice"))).unwrap();
        let bob = Inbox::bind(&room.participant(&name("bob"))).unwrap();
        // More than any length of a queue that unix(7) knows.
        for _ in 0..2000 {
            assert!(room.tell(&Message::new(name("bob"), "x").unwrap()).unwrap() >= 1);
            assert!(bob.receive().is_some());
        }
    }

    #[test]
    fn only_short_plain_texts_are_messages() {
        let new = |text: &str| Message::new(name("alice"), text).is_some();
        assert!(new("é") && new(&"é".repeat(MAX_MESSAGE_CHARS)) && new("</b><script>, \u{1f600}"));
        for bad in ["", " ", "a\nb", "a\tb", "\u{7}", "\u{85}", "a\u{2028}b", &"é".repeat(MAX_MESSAGE_CHARS + 1)] {
            assert!(!new(bad), "{bad:?}");
        }
    }

    #[test]
    fn datagrams_that_are_no_messages_are_passed_over() {
        let (_dir, room) = room(&["alice"]);
        let alice = room.participant(&name("alice"));
        let inbox = Inbox::bind(&alice).unwrap();
        let stranger = UnixDatagram::unbound().unwrap();
        let long = format!("alice\t{}", "x".repeat(5000));
        for bad in [&b""[..], b"alice", b"Alice\tx", b"alice\t", b"\xff\tx", long.as_bytes()] {
            stranger.send_to(bad, alice.inbox()).unwrap();
        }
        stranger.send_to(b"bob\tlast", alice.inbox()).unwrap();
        assert_eq!(inbox.receive(), Message::new(name("bob"), "last"));
    }
}
