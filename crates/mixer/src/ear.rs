//! A participant's `ear`: the write end of a pipe, open while a process reads the pipe, or a WAV file being recorded.

use std::path::PathBuf;
use std::time::Duration;

use palabre_room::{EarFrames, FileId, FileKind, Format, OpenError, PipeWriter, Wrote, lookup};

use crate::context::{Context, LastWarning};
use crate::file_writer::{Failure, QueuedEar};
use crate::poller::{Interest, ParticipantId, Token};

/// Interval between attempts to open an ear while there is sound for it.
const RETRY_INTERVAL: Duration = Duration::from_secs(1);
/// Minimum interval between log lines about lost frames of one ear.
const REPORT_INTERVAL: Duration = Duration::from_secs(10);

/// The ear of one participant.
#[derive(Debug)]
pub(crate) struct Ear {
    path: PathBuf,
    format: Format,
    participant: ParticipantId,
    /// Number of frames in each write into the pipe.
    frames: EarFrames,
    writer: Option<Writer>,
    /// A file that could not be written. The mixer opens the path again only when another file is there.
    given_up: Option<FileId>,
    /// A pipe or file that could not be opened. Its events are ignored until `retry_at`, since the attempt to open it causes events too.
    failed: Option<FileId>,
    retry_at: Duration,
    last_warning: LastWarning,
    lost_frames: u64,
    reported_frames: u64,
    report_at: Duration,
}

#[derive(Debug)]
enum Writer {
    Pipe(PipeWriter),
    File(QueuedEar),
}

impl Writer {
    fn id(&self) -> FileId {
        match self {
            Self::Pipe(pipe) => pipe.id(),
            Self::File(file) => file.id(),
        }
    }
}

impl Ear {
    pub(crate) fn new(path: PathBuf, format: Format, participant: ParticipantId) -> Self {
        Self {
            path,
            format,
            participant,
            frames: EarFrames::default(),
            writer: None,
            given_up: None,
            failed: None,
            retry_at: Duration::ZERO,
            last_warning: LastWarning::default(),
            lost_frames: 0,
            reported_frames: 0,
            report_at: Duration::ZERO,
        }
    }

    /// Opens the pipe or file at the path, unless it is open already. Call it when a process may have opened the pipe for reading.
    pub(crate) fn refresh(&mut self, cx: &mut Context) {
        let id = lookup(&cx.resolve(&self.path)).map(|(_, id)| id);
        if id.is_some() && id == self.writer.as_ref().map(Writer::id) {
            return;
        }
        self.writer = None;
        if id.is_none() {
            self.last_warning.clear();
            (self.given_up, self.failed) = (None, None);
        } else if id != self.failed || cx.now.since_boot >= self.retry_at {
            self.open(cx);
        }
    }

    /// Closes the pipe after its last reader has closed it. The kernel has discarded the content of the pipe.
    pub(crate) fn lose_reader(&mut self) {
        self.writer = None;
        self.retry_at = Duration::ZERO;
    }

    /// Closes the file after the file writer could not open or write it, and logs the reason.
    pub(crate) fn fail(&mut self, cx: &mut Context, failure: &Failure) {
        if self.writer.as_ref().map(Writer::id) != Some(failure.file) {
            return;
        }
        self.writer = None;
        let path = self.path.display();
        if failure.error.kind() == std::io::ErrorKind::InvalidData {
            cx.warn_if_new(
                &mut self.last_warning,
                format!("unable to open '{path}': {}; the mixer writes no sound to this file", failure.error),
            );
            self.set_failed(cx, failure.file);
        } else {
            self.given_up = Some(failure.file);
            cx.warn_if_new(
                &mut self.last_warning,
                format!(
                    "unable to write '{path}': {}; the mixer writes no more sound to this file; replace it by an empty file or a pipe",
                    failure.error
                ),
            );
        }
    }

    /// Returns whether to call [`Self::write`]: the ear is open, or the next attempt to open it is due.
    pub(crate) fn wants_frame(&self, now: Duration) -> bool {
        self.writer.is_some() || now >= self.retry_at
    }

    /// Sets the number of frames that the pipe's reader wants in each write.
    pub(crate) fn set_frames(&mut self, frames: EarFrames) {
        self.frames = frames;
        if let Some(Writer::Pipe(pipe)) = &mut self.writer {
            pipe.make_room_for(frames);
        }
    }

    /// Writes a frame, if the ear is open. A file gets the frame at once. A pipe gets it together with the following frames, if the reader
    /// wants several frames in each write. If the pipe or the file's queue is full, frames are dropped.
    pub(crate) fn write(&mut self, cx: &mut Context, frame: &[i16]) {
        if self.writer.is_none() {
            self.open(cx);
        }
        match &mut self.writer {
            Some(Writer::Pipe(pipe)) => {
                pipe.gather(frame);
                // The participants' numbers distribute the writes over the ticks, so that the readers don't all wake up in the same tick.
                let is_turn = (cx.tick + u64::from(self.participant.participant)).is_multiple_of(self.frames.count());
                if is_turn || pipe.gathered() >= pipe.gathered_max() {
                    self.write_gathered();
                }
            }
            Some(Writer::File(file)) => {
                self.lost_frames += u64::from(file.write(frame, cx.tick_at) == Wrote::Slow);
            }
            None => {}
        }
        self.report_lost_frames(cx);
    }

    /// Writes the gathered frames although their number is smaller than the reader wants. Called when the room falls silent, and before this
    /// process ends.
    pub(crate) fn flush(&mut self, cx: &mut Context) {
        if matches!(&self.writer, Some(Writer::Pipe(pipe)) if pipe.gathered() > 0) {
            self.write_gathered();
            self.report_lost_frames(cx);
        }
    }

    /// Returns the number of frames that were lost because the reader or the disk was too slow.
    pub(crate) fn lost_frames(&self) -> u64 {
        self.lost_frames
    }

    fn open(&mut self, cx: &mut Context) {
        self.retry_at = cx.now.since_boot + RETRY_INTERVAL;
        let path = cx.resolve(&self.path);
        let Some((kind, id)) = lookup(&path).filter(|(_, id)| Some(*id) != self.given_up) else { return };
        let opened = match kind {
            FileKind::Regular => cx.file_writer.open(self.participant, &path, self.format).map(Writer::File),
            FileKind::Pipe | FileKind::Other => self.open_pipe(cx),
        };
        match opened {
            Ok(writer) => {
                if self.failed != Some(id) {
                    self.last_warning.clear();
                }
                self.writer = Some(writer);
            }
            Err(OpenError::NoReader(_) | OpenError::Missing(_)) => {}
            Err(error) => {
                self.set_failed(cx, id);
                cx.warn_if_new(&mut self.last_warning, format!("{error}; the participant hears nothing"));
            }
        }
    }

    fn open_pipe(&self, cx: &Context) -> Result<Writer, OpenError> {
        let mut pipe = PipeWriter::open(&self.path, self.format)?;
        pipe.make_room_for(self.frames);
        cx.keep_reserve(&pipe)
            .and_then(|()| cx.poller.add(&pipe, Interest::Closed, Token::Ear(self.participant)))
            .map_err(|source| OpenError::Io { path: self.path.clone(), source })?;
        Ok(Writer::Pipe(pipe))
    }

    fn write_gathered(&mut self) {
        let Some(Writer::Pipe(pipe)) = &mut self.writer else { return };
        match pipe.write_gathered() {
            Some(lost) => self.lost_frames += lost as u64,
            // The pipe has lost its reader. Another process may read it already, so the next frame tries at once to open the pipe again.
            None => self.lose_reader(),
        }
    }

    fn set_failed(&mut self, cx: &Context, id: FileId) {
        self.failed = Some(id);
        self.retry_at = cx.now.since_boot + RETRY_INTERVAL;
    }

    fn report_lost_frames(&mut self, cx: &mut Context) {
        let lost = self.lost_frames - self.reported_frames;
        if lost > 0 && cx.now.since_boot >= self.report_at {
            let slow = if matches!(self.writer, Some(Writer::File(_))) { "the file system" } else { "the reader" };
            cx.warn(format_args!("{slow} of '{}' is too slow: {lost} frames of 20 ms were lost", self.path.display()));
            self.reported_frames = self.lost_frames;
            self.report_at = cx.now.since_boot + REPORT_INTERVAL;
        }
    }
}
