//! What a participant hears: the writing end of a pipe, open while somebody reads it.

use std::path::PathBuf;
use std::time::Duration;

use palabre_room::{Format, OpenError, PipeWriter, Wrote, pipe_id};

use crate::context::{Complaint, Context};
use crate::poller::{Interest, Key, Token};

/// How often an ear is tried again while there is something to hear.
const RETRY: Duration = Duration::from_secs(1);
/// How often losses of one reader are logged.
const REPORT: Duration = Duration::from_secs(10);

/// The ear of one participant.
#[derive(Debug)]
pub struct Ear {
    path: PathBuf,
    format: Format,
    token: Token,
    writer: Option<PipeWriter>,
    retry_at: Duration,
    complaint: Complaint,
    lost_frames: u64,
    reported_frames: u64,
    report_at: Duration,
}

impl Ear {
    pub fn new(path: PathBuf, format: Format, key: Key) -> Self {
        Self {
            path,
            format,
            token: Token::Ear(key),
            writer: None,
            retry_at: Duration::ZERO,
            complaint: Complaint::default(),
            lost_frames: 0,
            reported_frames: 0,
            report_at: Duration::ZERO,
        }
    }

    /// Brings what is open in line with what is at the path now; somebody may have come to read.
    pub fn refresh(&mut self, cx: &mut Context) {
        let at_path = pipe_id(&self.path).ok();
        if self.writer.is_some() && self.writer.as_ref().map(PipeWriter::id) == at_path {
            return;
        }
        self.writer = None;
        if at_path.is_some() {
            self.open(cx);
        } else {
            self.complaint.clear();
        }
    }

    /// The reader left, and what was in the pipe is gone with it.
    pub fn left(&mut self) {
        self.writer = None;
        self.retry_at = Duration::ZERO;
    }

    /// Whether a frame is wanted now: there is a reader, or it is time to look for one.
    pub fn wants(&self, now: Duration) -> bool {
        self.writer.is_some() || now >= self.retry_at
    }

    /// Gives a frame to the reader, if there is one. A slow reader loses it, alone.
    pub fn write(&mut self, cx: &mut Context, frame: &[i16]) {
        if self.writer.is_none() {
            self.open(cx);
        }
        let Some(writer) = &mut self.writer else { return };
        match writer.write(frame) {
            Wrote::Whole => {}
            Wrote::Slow => self.lost_frames += 1,
            // Somebody else may read by now: the next frame will tell.
            Wrote::Gone => self.left(),
        }
        self.report(cx);
    }

    /// Frames that a slow reader has lost so far.
    pub fn lost_frames(&self) -> u64 {
        self.lost_frames
    }

    fn open(&mut self, cx: &mut Context) {
        self.retry_at = cx.now.since_boot + RETRY;
        match PipeWriter::open(&self.path, self.format) {
            Ok(writer) => match cx.poller.add(&writer, Interest::Gone, self.token) {
                Ok(()) => {
                    self.writer = Some(writer);
                    self.complaint.clear();
                }
                Err(error) => self.complaint.say(cx, format!("unable to watch '{}': {error}", self.path.display())),
            },
            Err(OpenError::NoReader(_) | OpenError::Missing(_)) => {}
            Err(error) => self.complaint.say(cx, format!("{error}; nobody hears through it")),
        }
    }

    fn report(&mut self, cx: &mut Context) {
        let lost = self.lost_frames - self.reported_frames;
        if lost > 0 && cx.now.since_boot >= self.report_at {
            cx.warn(format_args!("'{}' is read too slowly: {lost} frames of 20 ms lost", self.path.display()));
            self.reported_frames = self.lost_frames;
            self.report_at = cx.now.since_boot + REPORT;
        }
    }
}
