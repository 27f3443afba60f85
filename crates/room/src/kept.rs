//! The messages of a meeting that are kept: the file `.meeting/texts` of a room, and the file `joined` of each participant.
//!
//! A meeting lasts while a participant is connected, and for some minutes afterwards. The supervisor ends it.

use std::str::FromStr;

use crate::inbox::MAX_BYTES;
use crate::small_file::{read, write, write_or_remove};
use crate::{Message, ParticipantDir, RoomDir, RoomError};

/// Name of a room's file with the kept messages.
const TEXTS: &str = ".meeting/texts";
/// Name of a participant's file with the time at which the participant joined the meeting.
const JOINED: &str = "joined";
/// Maximum number of messages that a room keeps.
pub const MAX_KEPT: usize = 50;
/// Maximum age of a kept message, in ms: 12 hours.
const MAX_AGE_MS: u64 = 12 * 3600 * 1000;
/// Maximum length of a line of `.meeting/texts`: a time, a tab, a message and a line feed.
const MAX_LINE_BYTES: usize = 20 + 1 + MAX_BYTES + 1;
/// Maximum length of the file `joined`, in bytes.
const MAX_JOINED_BYTES: u64 = 64;

/// A message that a room keeps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeptMessage {
    /// Time at which the message was sent: CLOCK_BOOTTIME in ms.
    pub sent_ms: u64,
    /// The message, which has an ID.
    pub message: Message,
}

impl FromStr for KeptMessage {
    type Err = ();

    fn from_str(line: &str) -> Result<Self, ()> {
        let (sent_ms, message) = line.split_once('\t').ok_or(())?;
        let kept = Self { sent_ms: sent_ms.parse().map_err(|_| ())?, message: message.parse()? };
        kept.message.id.is_some().then_some(kept).ok_or(())
    }
}

impl RoomDir {
    /// Returns the kept messages, oldest first. Ignores invalid lines, messages that are older than 12 hours, and messages
    /// whose time is later than `now_ms`: they are from before the last restart of the machine.
    ///
    /// # Errors
    /// The file can't be read.
    pub fn kept_messages(&self, now_ms: u64) -> Result<Vec<KeptMessage>, RoomError> {
        let text = read(&self.path().join(TEXTS), (MAX_KEPT * MAX_LINE_BYTES) as u64)?.unwrap_or_default();
        let is_valid = |kept: &KeptMessage| (now_ms.saturating_sub(MAX_AGE_MS)..=now_ms).contains(&kept.sent_ms);
        let kept = text.lines().filter_map(|line| line.parse().ok()).filter(is_valid).collect::<Vec<_>>();
        Ok(kept.into_iter().rev().take(MAX_KEPT).rev().collect())
    }

    /// Keeps a message with an ID, unless it is kept already. Returns false if the file has another message of the
    /// sender with this ID. That message then stays. Only one process at a time may call this for a room.
    ///
    /// # Errors
    /// The file can't be written.
    pub fn keep_message(&self, message: &Message, now_ms: u64) -> Result<bool, RoomError> {
        // A file that can't be read is replaced.
        let mut kept = self.kept_messages(now_ms).unwrap_or_default();
        let has_id = |kept: &&KeptMessage| (&kept.message.from, &kept.message.id) == (&message.from, &message.id);
        if let Some(kept) = kept.iter().find(has_id) {
            return Ok(kept.message == *message);
        }
        kept.push(KeptMessage { sent_ms: now_ms, message: message.clone() });
        let newest = &kept[kept.len().saturating_sub(MAX_KEPT)..];
        let lines: String = newest.iter().map(|kept| format!("{}\t{}\n", kept.sent_ms, kept.message)).collect();
        write(&self.path().join(TEXTS), &lines).map(|()| true)
    }

    /// Removes the kept messages, and the file `joined` of each participant.
    ///
    /// # Errors
    /// A file can't be removed, or the directory can't be read.
    pub fn end_meeting(&self) -> Result<(), RoomError> {
        let texts = write_or_remove(&self.path().join(TEXTS), None);
        // Remove as many files as possible: with an old file `joined`, a participant who joins the next meeting would get its earlier messages.
        let joined = |name| write_or_remove(&self.participant(&name).path().join(JOINED), None);
        self.participants()?.into_iter().map(joined).fold(texts, Result::and)
    }
}

impl ParticipantDir {
    /// Returns when the participant joined the meeting, as CLOCK_BOOTTIME in ms. Without a valid time in the file
    /// `joined`, the participant joins now: writes `now_ms` to the file.
    ///
    /// # Errors
    /// The file can't be read or written.
    pub fn join_meeting(&self, now_ms: u64) -> Result<u64, RoomError> {
        let path = self.path().join(JOINED);
        let joined = read(&path, MAX_JOINED_BYTES)?.and_then(|text| text.trim().parse().ok());
        if let Some(joined_ms) = joined.filter(|joined_ms| *joined_ms <= now_ms) {
            return Ok(joined_ms);
        }
        write(&path, &format!("{now_ms}\n"))?;
        Ok(now_ms)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::{Format, MAX_MESSAGE_CHARS};

    fn room() -> (tempfile::TempDir, RoomDir) {
        let dir = tempfile::tempdir().unwrap();
        let room = RoomDir::new(dir.path().join("main"));
        room.create(Format::default()).unwrap();
        room.participant(&"alice".parse().unwrap()).create().unwrap();
        (dir, room)
    }

    fn message(id: usize, text: &str) -> Message {
        Message::new("alice".parse().unwrap(), text).unwrap().with_id(&id.to_string()).unwrap()
    }

    #[test]
    fn the_newest_messages_are_kept_once_each_however_long_they_are() {
        let (_dir, room) = room();
        let longest = "\u{1f600}".repeat(MAX_MESSAGE_CHARS);
        for id in 0..60 {
            let first = message(id, &longest);
            assert!(room.keep_message(&first, 100 + id as u64).unwrap() && room.keep_message(&first, 1000).unwrap());
            assert!(!room.keep_message(&message(id, "another text"), 1000).unwrap());
        }
        let kept = room.kept_messages(1000).unwrap();
        assert_eq!((kept.len(), kept[0].sent_ms), (MAX_KEPT, 110));
        assert!(kept.iter().all(|kept| kept.message.text == longest));
    }

    #[test]
    fn old_and_invalid_messages_are_not_kept() {
        let (_dir, room) = room();
        room.keep_message(&message(1, "old"), 1000).unwrap();
        let now_ms = 1001 + MAX_AGE_MS;
        assert!(room.kept_messages(now_ms).unwrap().is_empty());
        assert!(room.kept_messages(999).unwrap().is_empty(), "the message is from before a restart of the machine");
        let path = room.path().join(TEXTS);
        std::fs::write(&path, "x\n1\talice\tno ID\n\n1001\talice\t7\t</b>\n-1\talice\t8\tx\n1001\tAlice\t9\tx\n")
            .unwrap();
        assert_eq!(room.kept_messages(1001).unwrap(), [KeptMessage { sent_ms: 1001, message: message(7, "</b>") }]);
        std::fs::write(&path, vec![0xff; 200_000]).unwrap();
        assert!(room.kept_messages(1001).is_err());
        room.keep_message(&message(2, "new"), 1001).unwrap();
        assert_eq!(room.kept_messages(1001).unwrap().len(), 1);
    }

    #[test]
    fn the_end_of_a_meeting_removes_its_messages_and_who_joined() {
        let (_dir, room) = room();
        let alice = room.participant(&"alice".parse().unwrap());
        room.end_meeting().unwrap();
        room.keep_message(&message(1, "x"), 5).unwrap();
        assert_eq!([alice.join_meeting(5).unwrap(), alice.join_meeting(9).unwrap()], [5, 5]);
        assert_eq!(alice.join_meeting(4).unwrap(), 4, "the machine was restarted");
        // If a member of the group has put a directory in the place of a file, the other files are removed all the same.
        let texts = room.path().join(TEXTS);
        std::fs::remove_file(&texts).unwrap();
        std::fs::create_dir(&texts).unwrap();
        assert!(room.end_meeting().is_err() && !alice.path().join(JOINED).exists());
        std::fs::remove_dir(&texts).unwrap();
        room.end_meeting().unwrap();
        assert!(room.kept_messages(9).unwrap().is_empty() && !room.path().join(TEXTS).exists());
        assert_eq!(alice.join_meeting(9).unwrap(), 9);
    }
}
