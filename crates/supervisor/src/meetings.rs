//! When the meeting in each room ends: its kept messages are removed after some time without any participant.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use palabre_room::Name;

/// Time without a connected participant after which a meeting ends. It is longer than a restart of the machine's network, so that
/// participants who lost the connection together find the messages of their meeting.
const END_AFTER: Duration = Duration::from_secs(300);

/// The meeting of each room.
#[derive(Debug, Default)]
pub(crate) struct Meetings {
    /// When each room without a participant ends its meeting; `None` if it has ended. Rooms with a participant have
    /// no entry.
    ends: BTreeMap<Name, Option<Instant>>,
}

impl Meetings {
    /// Notes whether any participant is present in a room.
    pub(crate) fn note(&mut self, room: &Name, is_any_present: bool, now: Instant) {
        match is_any_present {
            true => drop(self.ends.remove(room)),
            false => _ = self.ends.entry(room.clone()).or_insert(Some(now + END_AFTER)),
        }
    }

    /// Returns the time at which to call [`Self::ended`].
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.ends.values().flatten().min().copied()
    }

    /// Returns the rooms whose meeting has ended since the last call.
    pub(crate) fn ended(&mut self, now: Instant) -> Vec<Name> {
        let due = self.ends.iter_mut().filter(|(_, end)| end.is_some_and(|end| end <= now));
        due.map(|(room, end)| {
            *end = None;
            room.clone()
        })
        .collect()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn meeting_ends_once_some_minutes_after_the_last_participant_has_left() {
        let (room, start): (Name, _) = ("main".parse().unwrap(), Instant::now());
        let (mut meetings, minute) = (Meetings::default(), Duration::from_secs(60));
        meetings.note(&room, true, start);
        assert_eq!((meetings.deadline(), meetings.ended(start + END_AFTER)), (None, vec![]));
        meetings.note(&room, false, start + minute);
        meetings.note(&room, false, start + 2 * minute);
        assert_eq!(meetings.deadline(), Some(start + minute + END_AFTER));
        meetings.note(&room, true, start + 3 * minute);
        assert_eq!(meetings.deadline(), None, "a participant came back");
        meetings.note(&room, false, start + 4 * minute);
        let end = start + 4 * minute + END_AFTER;
        assert!(meetings.ended(end - minute).is_empty());
        assert_eq!(meetings.ended(end), std::slice::from_ref(&room));
        meetings.note(&room, false, end + minute);
        assert_eq!((meetings.deadline(), meetings.ended(end + END_AFTER * 2)), (None, vec![]));
    }
}
