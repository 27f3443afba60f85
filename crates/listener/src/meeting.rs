//! The messages of a meeting: sends them to the room, keeps them, and returns those that a stream may have missed.
//!
//! A message goes to the sockets `inbox` of all listeners and, before that, to the file `.meeting/texts` of the room. A new stream
//! gets its place in the ring before it reads the file, so it misses no message. If the stream gets a message in both ways, the page
//! recognises the message by its ID and shows it once.

use crate::other_machines::is_recorded_elsewhere;
use crate::record;
use palabre_host::clock::boottime_ms;
use palabre_host::lock::Lock;
use palabre_host::log_limit::LastWarning;
use palabre_room::{KeptMessage, Message, Name, ParticipantDir, RoomDir, RoomError};
use serde::Serialize;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

/// Timeout for the lock of the room's directory, which a listener holds while it writes `.meeting/texts`.
const LOCK_TIMEOUT: Duration = Duration::from_millis(500);
/// Maximum time in ms between the sending of a message and its arrival in a stream. A message may wait in the inbox during a handover, and a page
/// declares a stream dead after 5 s.
const MAX_DELAY_MS: u64 = 10_000;

/// The kept messages of the room, and the participant who reads and writes them.
#[derive(Debug)]
pub(crate) struct Meeting {
    room: RoomDir,
    participant: ParticipantDir,
    /// Whether a participant also gets the messages that were sent before the participant joined the meeting.
    is_open_to_latecomers: bool,
    /// The errors that were logged last, so that the same error isn't logged again: of keeping a message, of reading the kept messages, and of noting
    /// when the participant joined.
    keep_warning: Mutex<LastWarning>,
    read_warning: Mutex<LastWarning>,
    join_warning: Mutex<LastWarning>,
}

/// The JSON of a record with kept messages.
#[derive(Serialize)]
struct Kept<'a> {
    messages: Vec<KeptText<'a>>,
}

#[derive(Serialize)]
struct KeptText<'a> {
    from: String,
    text: &'a str,
    id: Option<&'a str>,
    age_ms: u64,
}

impl Meeting {
    pub(crate) fn new(room: RoomDir, participant: ParticipantDir, is_open_to_latecomers: bool) -> Self {
        let [keep_warning, read_warning, join_warning] = Default::default();
        Self { room, participant, is_open_to_latecomers, keep_warning, read_warning, join_warning }
    }

    /// Returns whether the room is being recorded, here or on another machine.
    pub(crate) fn is_recorded(&self) -> bool {
        self.room.recording().exists() || is_recorded_elsewhere(&self.room.other_machines())
    }

    /// Returns the display name of a participant in the file `names` of the room, or `None` if the file has no line for the participant.
    pub(crate) fn shown_name(&self, name: &Name) -> Option<String> {
        let members = self.room.names().inspect_err(|error| log::debug!("{error}")).ok()?;
        members.into_iter().find(|member| member.name == *name).map(|member| member.display)
    }

    /// Keeps a message and sends it to the room. If the message is kept already, only sends it: the process that kept the message may
    /// have ended before it sent the message. Returns false, and does nothing, if another message with this ID is kept.
    pub(crate) fn say(&self, message: Message) -> Result<bool, RoomError> {
        let message = match &message.id {
            Some(_) => message,
            None => message.clone().with_id(&new_id()).unwrap_or(message),
        };
        let effect = |error| format!("{error}; participants who aren't connected now don't get this message");
        let is_kept = note(&self.keep_warning, || self.keep(&message).map_err(effect));
        if is_kept == Some(false) {
            return Ok(false);
        }
        self.say_once(&message).map(|()| true)
    }

    /// Sends a message to the room, and doesn't keep it.
    pub(crate) fn say_once(&self, message: &Message) -> Result<(), RoomError> {
        self.room.tell(message).map(drop)
    }

    /// Returns a record of the kept messages that a stream may have missed; empty if there are none. `after`: the SEQ of the last record
    /// that the page has received; `None` if it has received none.
    pub(crate) fn missed(&self, seq: u64, after: Option<u64>) -> Vec<u8> {
        let now_ms = boottime_ms();
        let effect =
            |error| format!("{error}; the page gets earlier text messages only if texts-for-latecomers is true");
        let joined_ms =
            note(&self.join_warning, || self.participant.join_meeting(now_ms).map_err(effect)).unwrap_or(now_ms);
        let first_ms = if self.is_open_to_latecomers { 0 } else { joined_ms };
        // A SEQ is a time since the start of the machine. Ignore a SEQ that is much later than now: it is from before a restart of the machine.
        let after_ms = after.filter(|seq| *seq <= now_ms + MAX_DELAY_MS).unwrap_or(0).saturating_sub(MAX_DELAY_MS);
        let effect = |error| format!("{error}; the page gets no earlier text messages");
        let kept = note(&self.read_warning, || self.room.kept_messages(now_ms).map_err(effect)).unwrap_or_default();
        let is_missed = |kept: &&KeptMessage| kept.sent_ms >= first_ms.max(after_ms);
        let messages: Vec<KeptText> = kept.iter().filter(is_missed).map(|kept| text(kept, now_ms)).collect();
        match messages.is_empty() {
            true => Vec::new(),
            false => record::messages(seq, &serde_json::to_string(&Kept { messages }).unwrap_or_default()),
        }
    }

    fn keep(&self, message: &Message) -> Result<bool, String> {
        let path = self.room.path();
        let lock = Lock::wait(path, LOCK_TIMEOUT)
            .map_err(|error| format!("unable to lock '{}': {error}", path.display()))?
            .ok_or_else(|| {
                format!("unable to lock '{}': another process holds the lock; find it with 'lslocks'", path.display())
            })?;
        let kept = self.room.keep_message(message, boottime_ms()).map_err(|error| error.to_string());
        drop(lock);
        kept
    }
}

/// Logs an error of `attempt`, unless it is the same as the last one and nothing has succeeded since. Returns the value, if there was no error.
/// Only one thread at a time makes an attempt with the same `warning`: two threads would use the same temporary file.
fn note<T>(warning: &Mutex<LastWarning>, attempt: impl FnOnce() -> Result<T, String>) -> Option<T> {
    let mut warning = warning.lock().unwrap_or_else(PoisonError::into_inner);
    match attempt() {
        Ok(value) => {
            warning.clear();
            Some(value)
        }
        Err(error) => {
            if let Some(text) = warning.unless_repeated(error) {
                log::warn!("{text}");
            }
            None
        }
    }
}

/// Returns an ID for a message without one.
fn new_id() -> String {
    let time = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
    format!("{:x}", time.as_nanos())
}

fn text(kept: &KeptMessage, now_ms: u64) -> KeptText<'_> {
    let KeptMessage { sent_ms, message } = kept;
    let age_ms = now_ms.saturating_sub(*sent_ms);
    KeptText { from: message.from.to_string(), text: &message.text, id: message.id.as_deref(), age_ms }
}
