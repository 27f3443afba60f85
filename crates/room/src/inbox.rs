//! The socket `inbox` of a participant, which receives text messages as datagrams.
//!
//! A sender sends one datagram to each inbox of the room and never blocks: a message for a full inbox is lost.

use std::fmt;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::str::FromStr;

use nix::sys::socket::{AddressFamily, SockFlag, SockType, UnixAddr, socket};
use nix::sys::stat::{Mode, fchmod};

use crate::small_file::{FILE_MODE, temporary};
use crate::{MAX_MACHINE_CHARS, MachinesDir, ParticipantDir, RoomDir, RoomError, Sender};

/// Maximum length of a message in characters.
pub const MAX_MESSAGE_CHARS: usize = 500;
/// Maximum length of a message's ID.
const MAX_ID_CHARS: usize = 32;
/// Maximum size of a datagram in bytes: a sender (NAME@MACHINE), a tab, an ID, a tab and a text with at most four bytes for each character.
pub(crate) const MAX_BYTES: usize = 32 + 1 + MAX_MACHINE_CHARS + 1 + MAX_ID_CHARS + 1 + 4 * MAX_MESSAGE_CHARS;

/// A text message to a room.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// The sender.
    pub from: Sender,
    /// Identifies the message among the messages of this sender: 1 to 32 lower-case letters or digits. A message that was sent
    /// twice has the same ID both times. `None`: the message was sent once, by a program that gives no IDs.
    pub id: Option<String>,
    /// One line of 1 to 500 characters without control characters.
    pub text: String,
}

impl Message {
    /// Returns a message, or `None` if `text` is invalid.
    #[must_use]
    pub fn new(from: Sender, text: &str) -> Option<Self> {
        let length = text.chars().take(MAX_MESSAGE_CHARS + 1).count();
        let is_plain = !text.chars().any(|c| c.is_control() || matches!(c, '\u{2028}' | '\u{2029}'));
        let valid = (1..=MAX_MESSAGE_CHARS).contains(&length) && is_plain && !text.trim().is_empty();
        valid.then(|| Self { from, id: None, text: text.to_owned() })
    }

    /// Gives the message the ID `id`, and returns it; `None` if the ID is invalid.
    #[must_use]
    pub fn with_id(self, id: &str) -> Option<Self> {
        let valid = (1..=MAX_ID_CHARS).contains(&id.len())
            && id.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
        valid.then(|| Self { id: Some(id.to_owned()), ..self })
    }
}

/// The datagram of a message: `FROM`, tab, `ID`, tab, `TEXT`; without an ID `FROM`, tab, `TEXT`.
impl fmt::Display for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.id {
            Some(id) => write!(f, "{}\t{id}\t{}", self.from, self.text),
            None => write!(f, "{}\t{}", self.from, self.text),
        }
    }
}

impl FromStr for Message {
    type Err = ();

    fn from_str(datagram: &str) -> Result<Self, ()> {
        let (from, rest) = datagram.split_once('\t').ok_or(())?;
        let from: Sender = from.parse()?;
        let message = match rest.split_once('\t') {
            Some((id, text)) => Self::new(from, text).and_then(|message| message.with_id(id)),
            None => Self::new(from, rest),
        };
        message.ok_or(())
    }
}

/// The socket on which a participant's messages arrive.
#[derive(Debug)]
pub struct Inbox {
    socket: UnixDatagram,
}

impl Inbox {
    /// Creates the socket. An existing socket is replaced, and receives no more messages.
    ///
    /// # Errors
    /// The socket can't be created. The path of a Unix socket has at most 107 bytes.
    pub fn bind(participant: &ParticipantDir) -> Result<Self, RoomError> {
        Self::bind_at(&participant.inbox())
    }

    /// Creates the socket that receives the messages for other machines, as [`Self::bind`] does.
    ///
    /// # Errors
    /// As for [`Self::bind`].
    pub fn bind_for_machines(machines: &MachinesDir) -> Result<Self, RoomError> {
        Self::bind_at(&machines.inbox())
    }

    fn bind_at(path: &Path) -> Result<Self, RoomError> {
        let new = temporary(path);
        // A killed process may have left a file with this name.
        let _ = std::fs::remove_file(&new);
        let socket = bind(&new).map_err(|errno| RoomError::io("create the socket", path)(errno.into()))?;
        std::fs::rename(&new, path).map_err(RoomError::io("create the socket", path))?;
        Ok(Self { socket })
    }

    /// Reads at most `max_datagrams` that have arrived. Returns the number of datagrams that were read, and the valid
    /// messages among them.
    pub fn receive(&self, max_datagrams: usize) -> (usize, Vec<Message>) {
        let mut bytes = [0; MAX_BYTES + 1];
        let (mut count, mut messages) = (0, Vec::new());
        while count < max_datagrams
            && let Ok(length) = self.socket.recv(&mut bytes)
        {
            count += 1;
            let text =
                bytes.get(..length).filter(|_| length <= MAX_BYTES).and_then(|text| std::str::from_utf8(text).ok());
            messages.extend(text.and_then(|text| text.parse::<Message>().ok()));
        }
        (count, messages)
    }
}

/// Creates a socket at `path`, with mode 660 minus the umask.
///
/// The mode is set before bind(2), which gives the file at `path` this mode. Setting the mode by path afterwards would not be safe, because a member of
/// the group could have replaced the socket by another file. In its sandbox, a listener can't call fchmod(2); then the mode is 777
/// minus the umask.
fn bind(path: &Path) -> nix::Result<UnixDatagram> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let socket = socket(AddressFamily::Unix, SockType::Datagram, flags, None)?;
    let _ = fchmod(&socket, Mode::from_bits_truncate(FILE_MODE));
    nix::sys::socket::bind(socket.as_raw_fd(), &UnixAddr::new(path)?)?;
    Ok(socket.into())
}

impl AsFd for Inbox {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl RoomDir {
    /// Sends a message to every inbox of the room, including the sender's inbox. Returns how many participants' inboxes received the
    /// message. The message of a participant of this machine is also sent to the inbox of the directory `.machines`. A message
    /// from another machine is never sent on.
    ///
    /// # Errors
    /// The directory can't be read, or no socket can be created.
    pub fn tell(&self, message: &Message) -> Result<usize, RoomError> {
        let sender = InboxSender::new(self)?;
        let datagram = message.to_string();
        if message.from.machine.is_none() {
            sender.send(&self.machines().inbox(), datagram.as_bytes());
        }
        let participants = self.participants()?;
        Ok(participants.iter().filter(|name| sender.send(&self.participant(name).inbox(), datagram.as_bytes())).count())
    }

    /// Wakes all listeners of the room, which then look at the room's files at once. Otherwise they look every 2 s while the room is silent. Returns
    /// how many participants' inboxes received the datagram, which is empty.
    ///
    /// # Errors
    /// The directory can't be read, or no socket can be created.
    pub fn wake(&self) -> Result<usize, RoomError> {
        let (sender, participants) = (InboxSender::new(self)?, self.participants()?);
        Ok(participants.iter().filter(|name| sender.send(&self.participant(name).inbox(), &[])).count())
    }
}

/// Sends datagrams to inboxes, and never blocks.
struct InboxSender(UnixDatagram);

impl InboxSender {
    fn new(room: &RoomDir) -> Result<Self, RoomError> {
        let socket = UnixDatagram::unbound().and_then(|socket| socket.set_nonblocking(true).map(|()| socket));
        socket.map(Self).map_err(RoomError::io(
            "create a socket for sending messages to the participants of the room in",
            room.path(),
        ))
    }

    /// Returns whether the inbox has received the datagram. An inbox that is missing, not read or full doesn't receive it. A symbolic link is
    /// not followed, since it could lead to another program's socket.
    fn send(&self, inbox: &Path, datagram: &[u8]) -> bool {
        let is_socket = std::fs::symlink_metadata(inbox).is_ok_and(|file| file.file_type().is_socket());
        is_socket && self.0.send_to(datagram, inbox).is_ok()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::{Format, Name};
    use std::os::unix::fs::PermissionsExt;

    fn name(text: &str) -> Name {
        text.parse().unwrap()
    }

    fn from(text: &str) -> Sender {
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
    fn every_inbox_is_woken_without_a_message() {
        let (_dir, room) = room(&["alice", "bob", "carol"]);
        let inboxes = ["alice", "bob"].map(|it| Inbox::bind(&room.participant(&name(it))).unwrap());
        assert_eq!(room.wake().unwrap(), 2, "carol has none");
        assert!(inboxes.iter().all(|inbox| inbox.receive(10) == (1, Vec::new())));
    }

    #[test]
    fn a_message_reaches_every_inbox_and_no_other_room() {
        let (_dir, room) = room(&["alice", "bob", "carol"]);
        let inboxes = ["alice", "bob"].map(|it| Inbox::bind(&room.participant(&name(it))).unwrap());
        let message = Message::new(from("alice"), "bonjour à tous").unwrap();
        assert_eq!(room.tell(&message).unwrap(), 2, "carol has none");
        for inbox in &inboxes {
            assert_eq!(inbox.receive(9), (1, vec![message.clone()]));
            assert_eq!(inbox.receive(9), (0, vec![]));
        }
    }

    #[test]
    fn a_new_inbox_replaces_the_previous_one() {
        // This is the umask of a listener.
        nix::sys::stat::umask(Mode::S_IRWXO);
        let (_dir, room) = room(&["alice"]);
        let alice = room.participant(&name("alice"));
        let older = Inbox::bind(&alice).unwrap();
        let newer = Inbox::bind(&alice).unwrap();
        assert_eq!(room.tell(&Message::new(from("alice"), "x").unwrap()).unwrap(), 1);
        assert_eq!((older.receive(9).0, newer.receive(9).0), (0, 1));
        let mode = std::fs::metadata(alice.inbox()).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, FILE_MODE);
    }

    #[test]
    fn an_inbox_that_is_not_read_delays_no_other() {
        let (_dir, room) = room(&["alice", "bob"]);
        let _idle = Inbox::bind(&room.participant(&name("alice"))).unwrap();
        let bob = Inbox::bind(&room.participant(&name("bob"))).unwrap();
        // 2000 messages are more than the queue of a Unix socket can hold (unix(7)).
        for _ in 0..2000 {
            assert!(room.tell(&Message::new(from("bob"), "x").unwrap()).unwrap() >= 1);
            assert_eq!(bob.receive(9).0, 1);
        }
    }

    #[test]
    fn messages_are_short_and_have_no_control_characters() {
        let new = |text: &str| Message::new(from("alice"), text).is_some();
        assert!(new("é") && new(&"é".repeat(MAX_MESSAGE_CHARS)) && new("</b><script>, \u{1f600}"));
        for bad in ["", " ", "a\nb", "a\tb", "\u{7}", "\u{85}", "a\u{2028}b", &"é".repeat(MAX_MESSAGE_CHARS + 1)] {
            assert!(!new(bad), "{bad:?}");
        }
    }

    #[test]
    fn invalid_datagrams_are_ignored() {
        let (_dir, room) = room(&["alice"]);
        let alice = room.participant(&name("alice"));
        let inbox = Inbox::bind(&alice).unwrap();
        let sender = UnixDatagram::unbound().unwrap();
        let long = format!("alice\t{}", "x".repeat(5000));
        let long_id = format!("alice\t{}\tx", "1".repeat(33));
        for bad in [
            &b""[..],
            b"alice",
            b"Alice\tx",
            b"alice\t",
            b"\xff\tx",
            b"alice\t\tx",
            b"alice\tA\tx",
            b"alice\t1\t2\tx",
            long_id.as_bytes(),
            long.as_bytes(),
        ] {
            sender.send_to(bad, alice.inbox()).unwrap();
        }
        sender.send_to(b"bob\tlast", alice.inbox()).unwrap();
        assert_eq!(inbox.receive(10), (10, vec![]));
        assert_eq!(inbox.receive(9), (1, vec![Message::new(from("bob"), "last").unwrap()]));
    }

    #[test]
    fn a_message_with_an_id_is_received_with_its_id() {
        let (_dir, room) = room(&["alice"]);
        let inbox = Inbox::bind(&room.participant(&name("alice"))).unwrap();
        let text = "x".repeat(MAX_MESSAGE_CHARS);
        let message = Message::new(from("alice"), &text).unwrap().with_id(&"9z".repeat(16)).unwrap();
        assert_eq!(room.tell(&message).unwrap(), 1);
        assert_eq!(inbox.receive(9), (1, vec![message]));
    }

    #[test]
    fn a_message_is_for_other_machines_too_unless_it_is_from_one() {
        let (_dir, room) = room(&["alice"]);
        room.machines().create(&[]).unwrap();
        let machines = Inbox::bind_for_machines(&room.machines()).unwrap();
        let alice = Inbox::bind(&room.participant(&name("alice"))).unwrap();
        let here = Message::new(from("alice"), "x").unwrap();
        let longest = from(&format!("{}@{}", "c".repeat(32), "p".repeat(27)));
        let text = "\u{1f600}".repeat(MAX_MESSAGE_CHARS);
        let elsewhere = Message::new(longest, &text).unwrap().with_id(&"9".repeat(32)).unwrap();
        for message in [&here, &elsewhere] {
            assert_eq!(room.tell(message).unwrap(), 1);
        }
        assert_eq!(machines.receive(9), (1, vec![here.clone()]));
        assert_eq!(alice.receive(9), (2, vec![here, elsewhere]));
    }

    #[test]
    fn receive_returns_after_the_given_number_of_datagrams() {
        let (_dir, room) = room(&["alice"]);
        let inbox = Inbox::bind(&room.participant(&name("alice"))).unwrap();
        let message = Message::new(from("bob"), "x").unwrap();
        (0..5).for_each(|_| assert_eq!(room.tell(&message).unwrap(), 1));
        assert_eq!([2, 2, 2].map(|max| inbox.receive(max).0), [2, 2, 1]);
    }
}
