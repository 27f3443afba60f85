//! `palabre record`: starts and stops the recording of a room, and shows its state.

use std::path::Path;
use std::time::Duration;

use palabre_config::control::{RecordAction, Recording, RecordingState};
use palabre_host::exit::Failure;

use crate::cli::{Record, RecordVerb};
use crate::control;
use crate::output::print;
use crate::progress::clock;

/// Starts or stops the recording, or prints its state. If the recording has failed, its state is printed as an error.
pub(crate) fn run(run: &Path, record: &Record) -> Result<(), Failure> {
    let action = match record.verb {
        RecordVerb::Start => RecordAction::Start,
        RecordVerb::Stop => RecordAction::Stop,
        RecordVerb::Status => RecordAction::Status,
    };
    let recording = control::record(run, &record.room, action)?;
    match (recording.state, record.verb) {
        (RecordingState::Failed | RecordingState::Stopped, RecordVerb::Status) => {
            Err(Failure::refused(line(&recording, record.verb)))
        }
        _ => print(line(&recording, record.verb) + "\n"),
    }
}

fn line(recording: &Recording, verb: RecordVerb) -> String {
    let Recording { room, .. } = recording;
    let directory = recording.directory.as_deref().unwrap_or_default();
    let note = recording.note.as_deref().unwrap_or("unknown reason");
    let time = clock(Duration::from_millis(recording.since_ms));
    let restarts = match recording.restarts {
        0 => String::new(),
        restarts => format!("; recorder restarts: {restarts}"),
    };
    match (recording.state, verb) {
        (_, RecordVerb::Stop) => format!("room '{room}': the recording was stopped; its files are in {directory}"),
        (RecordingState::Off, _) => format!("room '{room}' is not recorded"),
        (RecordingState::Starting, _) => {
            format!("room '{room}': the recorder has ended and is being restarted: {note}")
        }
        (RecordingState::Stopped, _) => {
            format!(
                "room '{room}' is not recorded now: the recorder's process is stopped; continue it with 'kill -CONT'"
            )
        }
        (RecordingState::On, _) => format!("room '{room}' has been recorded for {time} into {directory}{restarts}"),
        (RecordingState::Failed, _) => format!(
            "room '{room}' is no longer recorded: {note}; start again with 'palabre record start --room {room}'"
        ),
    }
}
