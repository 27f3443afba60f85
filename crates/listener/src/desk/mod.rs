//! The desk: the small requests by which a page takes part in the room besides its sound.
//!
//! A text to the room, a raised hand, whom one doesn't want to hear, the figures of one's own line. Each is bounded in
//! length and in how often it may come, and none is written down but the file `without`.

mod report;
mod request;

pub use request::serve;

use palabre_config::control::ListenerReport;
use palabre_host::rate_limit::RateLimit;
use palabre_room::{Inbox, Message, Name, ParticipantDir, RoomDir, Voice};
use report::Report;
use serde::{Deserialize, Serialize};
use std::os::fd::{AsFd as _, BorrowedFd};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// What other people may learn of one by messages, at most, in a second and at once.
const RECEIVED: (f64, f64) = (20.0, 60.0);

/// The desk of one participant.
#[derive(Debug)]
pub struct Desk {
    name: Name,
    room: RoomDir,
    directory: ParticipantDir,
    inbox: Option<Inbox>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    shown: Shown,
    report: Option<Report>,
    messages: RateLimit,
    changes: RateLimit,
    reports: RateLimit,
    received: RateLimit,
}

/// What a page shows of its person.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Shown {
    hand: bool,
    microphone: Microphone,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Microphone {
    #[default]
    Open,
    Muted,
    None,
}

/// A message as it stands in a record.
#[derive(Serialize)]
struct Said<'a> {
    from: &'a str,
    text: &'a str,
}

impl Desk {
    /// The desk of `name`. Without an inbox, which is logged, they get no messages.
    pub fn new(name: Name, room: RoomDir) -> Self {
        let directory = room.participant(&name);
        let inbox = Inbox::bind(&directory).inspect_err(|error| log::warn!("{error}; messages don't arrive")).ok();
        let state = State {
            shown: Shown::default(),
            report: None,
            messages: RateLimit::new(1.0, 5.0),
            changes: RateLimit::new(2.0, 10.0),
            reports: RateLimit::new(0.2, 3.0),
            received: RateLimit::new(RECEIVED.0, RECEIVED.1),
        };
        Self { name, room, directory, inbox, state: Mutex::new(state) }
    }

    /// To wait for messages.
    pub fn inbox_fd(&self) -> Option<BorrowedFd<'_>> {
        self.inbox.as_ref().map(|inbox| inbox.as_fd())
    }

    /// The messages that have arrived, as JSON. What comes too fast is lost.
    pub fn messages(&self) -> Vec<String> {
        let Some(inbox) = &self.inbox else { return Vec::new() };
        let now = Instant::now();
        let mut messages = Vec::new();
        while let Some(Message { from, text }) = inbox.receive() {
            if self.lock().received.admit(now) {
                messages.push(serde_json::to_string(&Said { from: from.as_str(), text: &text }).unwrap_or_default());
            }
        }
        messages
    }

    /// Adds to the listener's report what the page shows and what it reported last.
    pub fn add_to(&self, report: &mut ListenerReport) {
        let state = self.lock();
        report.hand = state.shown.hand;
        report.microphone = state.shown.voice();
        report.page = state.report.as_ref().map(Report::summary);
    }

    /// The last page has left, and with it what it showed.
    pub fn forget(&self) {
        let mut state = self.lock();
        state.shown = Shown::default();
        state.report = None;
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Shown {
    fn voice(self) -> Voice {
        match self.microphone {
            Microphone::Open => Voice::Open,
            Microphone::Muted => Voice::Muted,
            Microphone::None => Voice::None,
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use palabre_room::Format;

    fn desk() -> (tempfile::TempDir, Desk) {
        let dir = tempfile::tempdir().unwrap();
        let room = RoomDir::new(dir.path().join("main"));
        room.create(Format::default()).unwrap();
        let alice: Name = "alice".parse().unwrap();
        room.participant(&alice).create().unwrap();
        (dir, Desk::new(alice, room))
    }

    #[test]
    fn what_the_page_shows_is_reported_until_it_leaves() {
        let (_dir, desk) = desk();
        let report = || {
            let mut report = ListenerReport::default();
            desk.add_to(&mut report);
            report
        };
        assert_eq!(report(), ListenerReport::default());
        desk.lock().shown = serde_json::from_str("{\"hand\":true,\"microphone\":\"muted\"}").unwrap();
        desk.lock().report = Some(Report::parse(b"{\"delay_ms\":142,\"underruns\":3}").unwrap());
        let shown = report();
        assert_eq!((shown.hand, shown.microphone), (true, Voice::Muted));
        assert_eq!(shown.page.map(|page| (page.delay_ms, page.underruns)), Some((Some(142), Some(3))));
        desk.forget();
        assert_eq!(report(), ListenerReport::default());
    }

    #[test]
    fn messages_arrive_as_json_and_a_flood_of_them_is_cut() {
        let (_dir, desk) = desk();
        let message = Message::new("bob".parse().unwrap(), "</b>\"").unwrap();
        let mut arrived = 0;
        for _ in 0..200 {
            desk.room.tell(&message).unwrap();
            for json in desk.messages() {
                assert_eq!(json, "{\"from\":\"bob\",\"text\":\"</b>\\\"\"}");
                arrived += 1;
            }
        }
        assert!((60..200).contains(&arrived), "{arrived}");
    }
}
