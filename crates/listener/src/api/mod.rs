//! The page's requests that carry no sound: messages to the room, the participant's presence, how loud this participant hears the
//! others, and reports about the connection. Each request has a maximum length and a rate limit.

mod report;
mod request;

pub(crate) use request::serve;

use crate::http::Head;
use crate::meeting::Meeting;
use palabre_config::control::PageReport;
use palabre_host::rate_limit::RateLimit;
use palabre_room::{Name, ParticipantDir};
use report::Report;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// State of the page's requests that carry no sound: rate limits, last report and directories.
#[derive(Debug)]
pub(crate) struct Api {
    name: Name,
    /// Name of the participant's room.
    room_name: String,
    pub(crate) meeting: Meeting,
    directory: ParticipantDir,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// The last report of a page.
    report: Option<Report>,
    messages: RateLimit,
    changes: RateLimit,
    reports: RateLimit,
}

impl Api {
    /// Creates the handlers of one participant's requests. `room_name` is the name of the room, and `meeting` has its messages.
    pub(crate) fn new(name: Name, room_name: String, directory: ParticipantDir, meeting: Meeting) -> Self {
        let state = State {
            report: None,
            messages: RateLimit::new(1.0, 5.0),
            changes: RateLimit::new(2.0, 10.0),
            reports: RateLimit::new(0.2, 3.0),
        };
        Self { name, room_name, meeting, directory, state: Mutex::new(state) }
    }

    /// Returns a summary of the page's last report, if a page has sent one.
    pub(crate) fn page_report(&self) -> Option<PageReport> {
        self.lock().report.as_ref().map(Report::summary)
    }

    /// Returns whether the request's parameter `room` names another room than the participant's, because the operator has moved the participant.
    pub(crate) fn is_for_another_room(&self, head: &Head) -> bool {
        head.parameter("room").is_some_and(|room| room != self.room_name)
    }

    /// Discards the page's last report. Called when no page is connected.
    pub(crate) fn forget(&self) {
        self.lock().report = None;
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use palabre_room::{Format, RoomDir};

    fn api() -> (tempfile::TempDir, Api) {
        let dir = tempfile::tempdir().unwrap();
        let room = RoomDir::new(dir.path().join("main"));
        room.create(Format::default()).unwrap();
        let alice: Name = "alice".parse().unwrap();
        let directory = room.participant(&alice);
        directory.create().unwrap();
        let meeting = Meeting::new(room, directory.clone(), true);
        (dir, Api::new(alice, "main".into(), directory, meeting))
    }

    #[test]
    fn report_of_the_page_is_kept_until_it_leaves() {
        let (_dir, api) = api();
        assert_eq!(api.page_report(), None);
        api.lock().report = Some(Report::parse(b"{\"delay_ms\":142,\"underruns\":3}").unwrap());
        let report = api.page_report().unwrap();
        assert_eq!((report.delay_ms, report.underruns), (Some(142), Some(3)));
        api.forget();
        assert_eq!(api.page_report(), None);
    }
}
