//! What everybody says, for whoever records the room: a pipe that is never waited for.

use std::path::PathBuf;
use std::time::Duration;

use palabre_room::{Name, OpenError, RecordingWriter, Wrote};

use crate::context::{Complaint, Context};

/// How often losses are logged.
const REPORT: Duration = Duration::from_secs(10);

/// The writing end of a room's `recording`, open while it is there and read.
#[derive(Debug)]
pub struct Tape {
    path: PathBuf,
    writer: Option<RecordingWriter>,
    lost_frames: u64,
    report_at: Duration,
    complaint: Complaint,
}

impl Tape {
    pub fn new(path: PathBuf) -> Self {
        Self { path, writer: None, lost_frames: 0, report_at: Duration::ZERO, complaint: Complaint::default() }
    }

    /// Opens what is at the path now: the reader makes a new pipe whenever it begins.
    pub fn refresh(&mut self, cx: &mut Context) {
        match RecordingWriter::open(&self.path) {
            Ok(writer) => {
                self.writer = Some(writer);
                self.complaint.clear();
            }
            Err(OpenError::Missing(_) | OpenError::NoReader(_)) => self.writer = None,
            Err(error) => {
                self.writer = None;
                self.complaint.say(cx, format!("{error}; the room is not recorded"));
            }
        }
    }

    /// Gives a talker's frame to the recorder, if there is one.
    pub fn write(&mut self, cx: &mut Context, at: Duration, name: &Name, frame: &[i16]) {
        let Some(writer) = &mut self.writer else { return };
        match writer.write(at, name, frame) {
            Wrote::Whole => {}
            Wrote::Slow => self.lost_frames += 1,
            Wrote::Gone => self.writer = None,
        }
        if self.lost_frames > 0 && cx.now.since_boot >= self.report_at {
            let (path, lost) = (self.path.display(), self.lost_frames);
            cx.warn(format_args!("'{path}' is read too slowly: {lost} frames of 20 ms are missing in the recording"));
            (self.lost_frames, self.report_at) = (0, cx.now.since_boot + REPORT);
        }
    }
}
