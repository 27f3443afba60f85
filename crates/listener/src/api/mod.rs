//! The page's requests that carry no sound: messages to the room, the participant's presence, how loud this participant hears the
//! others, the display name that the participant chooses, and reports about the connection. Each request has a maximum length and a rate limit.

mod own_name;
mod report;
mod request;
mod shown;

pub(crate) use request::serve;

use crate::http::{Head, Response};
use crate::meeting::Meeting;
use palabre_config::control::PageReport;
use palabre_host::rate_limit::RateLimit;
use palabre_room::{Name, ParticipantDir};
use report::Report;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// State of the page's requests that carry no sound: rate limits, last report and directories.
#[derive(Debug)]
pub(crate) struct Api {
    name: Name,
    /// Name of the participant's room.
    room_name: String,
    pub(crate) meeting: Meeting,
    directory: ParticipantDir,
    /// The control socket of the supervisor, which records a chosen display name. `None` if the participant may not choose a display name.
    supervisor: Option<PathBuf>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// The last report of a page.
    report: Option<Report>,
    messages: RateLimit,
    changes: RateLimit,
    names: RateLimit,
    reports: RateLimit,
}

impl Api {
    /// Creates the handlers of one participant's requests. `room_name` is the name of the room, and `meeting` has its messages.
    pub(crate) fn new(name: Name, room_name: String, directory: ParticipantDir, meeting: Meeting) -> Self {
        let state = State {
            report: None,
            messages: RateLimit::new(1.0, 5.0),
            changes: RateLimit::new(2.0, 10.0),
            names: RateLimit::new(0.1, 5.0),
            reports: RateLimit::new(0.2, 3.0),
        };
        Self { name, room_name, meeting, directory, supervisor: None, state: Mutex::new(state) }
    }

    /// Allows the participant to choose a display name. `supervisor` is the control socket.
    pub(crate) fn with_own_name(self, supervisor: PathBuf) -> Self {
        Self { supervisor: Some(supervisor), ..self }
    }

    /// Returns the display name in the file `names` of the room. Returns `None` if the participant may not choose a display name.
    pub(crate) fn own_name(&self) -> Option<String> {
        self.supervisor.as_ref()?;
        self.meeting.shown_name(&self.name)
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

/// Returns the response to a request above a rate limit. `retry_after` is the time in s after which the client may try again.
fn too_many_requests(retry_after: &str) -> Response {
    Response::text(429, "too many requests; try again later").with("Retry-After", retry_after)
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
