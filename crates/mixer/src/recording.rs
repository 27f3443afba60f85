//! The write end of a room's pipe `recording`, which carries the frames of each participant to the recorder.

use std::path::PathBuf;
use std::time::Duration;

use palabre_room::{Name, OpenError, RecordingWriter, Wrote, file_id};

use crate::context::{Context, LastWarning};

/// Minimum interval between log lines about lost frames of one recording.
const REPORT_INTERVAL: Duration = Duration::from_secs(10);

/// The pipe `recording`, open while a recorder reads it.
#[derive(Debug)]
pub(crate) struct Recording {
    path: PathBuf,
    writer: Option<RecordingWriter>,
    lost_frames: u64,
    report_at: Duration,
    last_warning: LastWarning,
}

impl Recording {
    pub(crate) fn new(path: PathBuf) -> Self {
        Self { path, writer: None, lost_frames: 0, report_at: Duration::ZERO, last_warning: LastWarning::default() }
    }

    /// Opens the pipe at the path, unless it is open already. A recorder always creates a new pipe.
    pub(crate) fn refresh(&mut self, cx: &mut Context) {
        let at_path = file_id(&self.path).ok();
        if at_path.is_some() && at_path == self.writer.as_ref().map(RecordingWriter::id) {
            return;
        }
        self.writer = None;
        match RecordingWriter::open(&self.path) {
            Ok(writer) => {
                self.writer = Some(writer);
                self.last_warning.clear();
            }
            Err(OpenError::Missing(_) | OpenError::NoReader(_)) => {}
            Err(error) => cx.warn_if_new(&mut self.last_warning, format!("{error}; the room is not recorded")),
        }
    }

    /// Returns whether a recorder reads the pipe.
    pub(crate) fn is_open(&self) -> bool {
        self.writer.is_some()
    }

    /// Writes a participant's frame. `at` is the time of its tick. If the pipe is full, the frame is missing in the recording.
    pub(crate) fn write(&mut self, cx: &mut Context, at: Duration, name: &Name, frame: &[i16]) {
        let Some(writer) = &mut self.writer else { return };
        match writer.write(at, name, frame) {
            Wrote::Whole => {}
            Wrote::Slow => self.lost_frames += 1,
            Wrote::Gone => self.writer = None,
        }
        if self.lost_frames > 0 && cx.now.since_boot >= self.report_at {
            let (path, lost) = (self.path.display(), self.lost_frames);
            cx.warn(format_args!("'{path}' is read too slowly: {lost} frames of 20 ms are missing in the recording"));
            (self.lost_frames, self.report_at) = (0, cx.now.since_boot + REPORT_INTERVAL);
        }
    }
}
