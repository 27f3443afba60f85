//! The answers to clients, and the name of a recording's directory.

use std::sync::mpsc::Sender;
use std::time::{Duration, SystemTime};

use palabre_config::Moment;
use palabre_config::control::{Recording as RecordingStatus, RecordingState, Response};
use palabre_room::Name;

/// Sends the status of a room's recording. `None` means that the room isn't recorded.
pub(super) fn tell(to: &Sender<Response>, room: &Name, recording: Option<RecordingStatus>) {
    let off = || RecordingStatus {
        room: room.to_string(),
        state: RecordingState::Off,
        directory: None,
        began: None,
        bytes: None,
        since_ms: 0,
        restarts: 0,
        note: None,
    };
    // Sending fails if the client has disconnected.
    let _ = to.send(Response::Recording(recording.unwrap_or_else(off)));
}

pub(super) fn refuse(to: &Sender<Response>, room: &Name, action: &str, why: &str) {
    let _ = to.send(Response::Refused { why: format!("unable to {action} room '{room}': {why}") });
}

/// Formats a time in UTC for the name of a recording's directory: `20261122T142600Z`.
pub(super) fn stamp(time: SystemTime) -> String {
    Moment::after(time, Duration::ZERO).map(|moment| moment.to_string().replace(['-', ':'], "")).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directory_is_named_after_the_time() {
        for (seconds, name) in [
            (0, "19700101T000000Z"),
            (951_782_399, "20000228T235959Z"),
            (951_782_400, "20000229T000000Z"),
            (1_795_357_560, "20261122T142600Z"),
            (1_798_761_599, "20261231T235959Z"),
        ] {
            assert_eq!(stamp(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)), name);
        }
    }
}
