//! What a participant hears: the writing end of a pipe, open while somebody reads it, or a WAV that grows.

use std::path::PathBuf;
use std::time::Duration;

use palabre_room::{Format, Kind, OpenError, PipeId, PipeWriter, Wrote, kind, pipe_id};

use crate::context::{Complaint, Context};
use crate::grower::Grower;
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
    writer: Option<Writer>,
    /// A file that couldn't be written: another one in its place is tried again.
    given_up: Option<PipeId>,
    retry_at: Duration,
    complaint: Complaint,
    lost_frames: u64,
    reported_frames: u64,
    report_at: Duration,
}

#[derive(Debug)]
enum Writer {
    Pipe(PipeWriter),
    File(Grower),
}

impl Writer {
    fn id(&self) -> PipeId {
        match self {
            Self::Pipe(pipe) => pipe.id(),
            Self::File(file) => file.id(),
        }
    }
}

impl Ear {
    pub fn new(path: PathBuf, format: Format, key: Key) -> Self {
        Self {
            path,
            format,
            token: Token::Ear(key),
            writer: None,
            given_up: None,
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
        if at_path.is_some() && self.writer.as_ref().map(Writer::id) == at_path {
            return;
        }
        self.close(cx);
        if at_path.is_some() {
            self.open(cx);
        } else {
            self.complaint.clear();
            self.given_up = None;
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
        match &mut self.writer {
            Some(Writer::Pipe(pipe)) => match pipe.write(frame) {
                Wrote::Whole => {}
                Wrote::Slow => self.lost_frames += 1,
                // Somebody else may read by now: the next frame will tell.
                Wrote::Gone => self.left(),
            },
            Some(Writer::File(file)) => {
                let written = file.write(frame, cx.tick_at);
                self.give_up_after(cx, written);
            }
            None => {}
        }
        self.report(cx);
    }

    /// When [`Self::catch_up`] is to be called though nothing is heard.
    pub fn deadline(&self) -> Option<Duration> {
        match &self.writer {
            Some(Writer::File(file)) => Some(file.deadline()),
            _ => None,
        }
    }

    /// Brings a file up to the present.
    pub fn catch_up(&mut self, cx: &mut Context) {
        if let Some(Writer::File(file)) = &mut self.writer {
            let written = file.catch_up(cx.now.since_boot);
            self.give_up_after(cx, written);
        }
    }

    /// Frames that a slow reader has lost so far.
    pub fn lost_frames(&self) -> u64 {
        self.lost_frames
    }

    fn open(&mut self, cx: &mut Context) {
        let now = cx.now.since_boot;
        if kind(&self.path) == Some(Kind::File) {
            // Closing a file that won't do is an event that calls for it to be opened: not at once.
            let is_over = self.given_up.is_some() && self.given_up == pipe_id(&self.path).ok();
            if is_over || now < self.retry_at {
                return;
            }
        }
        self.retry_at = now + RETRY;
        match self.try_to_open(cx) {
            Ok(writer) => {
                self.writer = Some(writer);
                self.complaint.clear();
            }
            Err(OpenError::NoReader(_) | OpenError::Missing(_)) => {}
            Err(error) => self.complaint.say(cx, format!("{error}; nobody hears through it")),
        }
    }

    fn try_to_open(&self, cx: &Context) -> Result<Writer, OpenError> {
        if kind(&self.path) == Some(Kind::File) {
            return Grower::open(&self.path, self.format, cx.now.since_boot).map(Writer::File);
        }
        let pipe = PipeWriter::open(&self.path, self.format)?;
        cx.poller
            .add(&pipe, Interest::Gone, self.token)
            .map_err(|source| OpenError::Io { path: self.path.clone(), source })?;
        Ok(Writer::Pipe(pipe))
    }

    /// Somebody else's disk may be full: that is theirs alone.
    fn give_up_after(&mut self, cx: &mut Context, written: std::io::Result<()>) {
        let Err(error) = written else { return };
        let path = self.path.display();
        self.complaint
            .say(cx, format!("unable to write '{path}': {error}; it is given up until another takes its place"));
        self.given_up = self.writer.as_ref().map(Writer::id);
        self.close(cx);
    }

    fn close(&mut self, cx: &Context) {
        if let Some(Writer::File(mut file)) = self.writer.take() {
            // What it has is told; if that fails too, the head tells of less.
            let _ = file.tell(cx.now.since_boot);
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
