//! `palabre record`: starts and stops the recording of a room, and shows the recordings and their disk.

use std::path::Path;
use std::time::Duration;

use palabre_config::control::{RecordAction, Recording, RecordingState, Storage};
use palabre_host::exit::Failure;
use palabre_room::Name;
use serde_json::json;

use crate::cli::{Record, RecordVerb};
use crate::output::{print, print_json, size};
use crate::progress::clock;
use crate::{control, table};

/// The room of `start` and `stop` without `--room`.
const DEFAULT_ROOM: &str = "main";

/// Starts or stops the recording, or prints the state of the recordings. A recording that has failed is an error.
pub(crate) fn run(run: &Path, record: &Record) -> Result<(), Failure> {
    let action = match record.verb {
        RecordVerb::Start => RecordAction::Start,
        RecordVerb::Stop => RecordAction::Stop,
        RecordVerb::Status => return status(run, record),
    };
    let room: Name = match &record.room {
        Some(room) => room.clone(),
        None => DEFAULT_ROOM.parse().map_err(Failure::usage)?,
    };
    let recording = control::record(run, &room, action)?;
    if record.json {
        return print_json(&serde_json::to_value(&recording).map_err(Failure::system)?);
    }
    print(line(&recording, record.verb) + "\n")
}

fn status(run: &Path, record: &Record) -> Result<(), Failure> {
    let status = control::status(run)?;
    let is_meant = |one: &Recording| record.room.as_ref().is_none_or(|room| *room.as_str() == one.room);
    let recordings: Vec<Recording> = status.recordings.into_iter().filter(is_meant).collect();
    if record.json {
        print_json(&json!({ "recordings": recordings, "storage": status.storage }))?;
    } else {
        print(text(record.room.as_ref(), &recordings, status.storage.as_ref()))?;
    }
    let is_broken = |one: &&Recording| matches!(one.state, RecordingState::Failed | RecordingState::Stopped);
    let broken: Vec<String> = recordings.iter().filter(is_broken).map(|one| line(one, record.verb)).collect();
    if broken.is_empty() { Ok(()) } else { Err(Failure::refused(broken.join("\n"))) }
}

/// Returns a table of the recordings, and a line about their disk.
fn text(room: Option<&Name>, recordings: &[Recording], storage: Option<&Storage>) -> String {
    let mut rows = vec![["STATE", "ROOM", "SINCE", "TIME", "SIZE", "RESTARTS", "DIRECTORY"].map(str::to_owned)];
    rows.extend(recordings.iter().map(row));
    let mut lines = match (room, recordings) {
        (Some(room), []) => vec![format!("room '{room}' is not recorded")],
        (None, []) => vec!["no room is recorded".to_owned()],
        _ => table::lines(&rows),
    };
    if let Some(storage) = storage {
        let warning = if storage.nearly_full { "; the disk is nearly full" } else { "" };
        lines.extend([String::new(), format!("{}{warning}", disk(storage))]);
    }
    lines.iter().map(|line| format!("{line}\n")).collect()
}

fn row(one: &Recording) -> [String; 7] {
    let or_dash = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
    let state = match one.state {
        RecordingState::Off => "off",
        RecordingState::Starting => "starting",
        RecordingState::On => "on",
        RecordingState::Stopped => "stopped",
        RecordingState::Failed => "failed",
    };
    [
        state.to_owned(),
        one.room.clone(),
        or_dash(one.began.clone()),
        clock(Duration::from_millis(one.since_ms)),
        or_dash(one.bytes.map(size)),
        one.restarts.to_string(),
        or_dash(one.directory.clone()),
    ]
}

/// Returns a text about the disk: free space, space of the recordings, and the time until the disk is full.
pub(crate) fn disk(storage: &Storage) -> String {
    let Storage { directory, free_bytes, total_bytes, recordings_bytes, left_s, .. } = storage;
    let [free, total, recordings] = [*free_bytes, *total_bytes, *recordings_bytes].map(size);
    let left = match left_s {
        Some(seconds) => format!("; at the present rate the disk is full in {} h", seconds / 3600),
        None => String::new(),
    };
    format!("'{directory}': {free} of {total} are free; all recordings take {recordings}{left}")
}

/// Returns how to get free space for recordings.
pub(crate) fn remedy() -> String {
    "delete files from this disk, or set 'keep-days' or 'max-gib' below [recordings] in palabre.toml".to_owned()
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
        (RecordingState::Failed, RecordVerb::Stop) => {
            format!("room '{room}': the recording had already ended by itself: {note}; its files are in {directory}")
        }
        (_, RecordVerb::Stop) => format!("room '{room}': the recording was stopped; its files are in {directory}"),
        (RecordingState::Off, _) => format!("room '{room}' is not recorded"),
        (RecordingState::Starting, _) => {
            let cause = recording.note.as_ref().map(|note| format!(": {note}")).unwrap_or_default();
            format!("room '{room}': the recorder is being started{cause}{restarts}")
        }
        (RecordingState::Stopped, _) => {
            format!(
                "room '{room}' is not recorded now: the recorder's process is stopped; 'palabre status' shows the command that continues it"
            )
        }
        (RecordingState::On, _) => format!("room '{room}' has been recorded for {time} into {directory}{restarts}"),
        (RecordingState::Failed, _) => format!(
            "room '{room}' is no longer recorded: {note}; start again with 'palabre record start --room {room}'"
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn table_has_every_room_and_the_time_until_the_disk_is_full() {
        let one = |room: &str, state, bytes| Recording {
            room: room.into(),
            state,
            directory: Some(format!("/r/{room}")),
            began: Some("2026-11-22T14:26:00Z".into()),
            bytes,
            since_ms: 3_723_000,
            restarts: 0,
            note: None,
        };
        let mut storage = Storage {
            directory: "/r".into(),
            free_bytes: 3 << 29,
            total_bytes: 100 << 30,
            recordings_bytes: 5 << 20,
            left_s: Some(9_000),
            nearly_full: false,
        };
        let all = [one("main", RecordingState::On, Some(5 << 20)), one("workshop", RecordingState::Starting, None)];
        let expected = "\
STATE     ROOM      SINCE                 TIME     SIZE     RESTARTS  DIRECTORY
on        main      2026-11-22T14:26:00Z  1:02:03  5.0 MiB  0         /r/main
starting  workshop  2026-11-22T14:26:00Z  1:02:03  -        0         /r/workshop

'/r': 1.5 GiB of 100.0 GiB are free; all recordings take 5.0 MiB; at the present rate the disk is full in 2 h
";
        assert_eq!(text(None, &all, Some(&storage)), expected);
        (storage.left_s, storage.nearly_full) = (None, true);
        let ends = "all recordings take 5.0 MiB; the disk is nearly full\n";
        assert!(text(None, &[], Some(&storage)).ends_with(ends));
    }
}
