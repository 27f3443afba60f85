//! The source of the streams' sound: the participant's pipe `ear`, or (with `--source`) a growing WAV file.

mod file;
mod pipe;

pub(crate) use pipe::TAKE_TIMEOUT;

use file::FileSource;
use palabre_room::{EarFrames, Format, ParticipantDir};
use pipe::PipeSource;
use std::os::fd::BorrowedFd;
use std::path::PathBuf;
use std::time::Instant;

/// The path of a source. The source is opened when the first stream begins.
#[derive(Debug, Clone)]
pub(crate) enum Origin {
    /// The pipe `ear` in the participant's directory.
    Pipe(ParticipantDir),
    /// A WAV file to which another program appends samples.
    File(PathBuf),
}

/// A source of sound, from which the reader reads.
#[derive(Debug)]
pub(crate) enum Source {
    Pipe(Box<PipeSource>),
    File(Box<FileSource>),
}

impl Source {
    /// Opens the source at `origin`. If this fails, calls of [`Self::read`] try to open it again.
    pub(crate) fn new(origin: &Origin, format: Format, chunk_ms: u64) -> Self {
        match origin {
            Origin::Pipe(participant) => {
                Self::Pipe(Box::new(PipeSource::new(participant.clone(), format, EarFrames::of_chunk(chunk_ms))))
            }
            Origin::File(path) => Self::File(Box::new(FileSource::new(path.clone(), format, chunk_ms))),
        }
    }

    /// Returns how many frames the mixer was asked to write into the pipe at once.
    pub(crate) fn writes(&self) -> EarFrames {
        match self {
            Self::Pipe(pipe) => pipe.writes(),
            Self::File(_) => EarFrames::default(),
        }
    }

    /// Returns whether this process waits for the previous process, which still has the pipe open and is expected to close it soon.
    pub(crate) fn is_taking_over(&self) -> bool {
        matches!(self, Self::Pipe(pipe) if pipe.is_taking_over())
    }

    /// Returns whether the next process has requested the pipe.
    pub(crate) fn is_requested(&self) -> bool {
        matches!(self, Self::Pipe(pipe) if pipe.is_requested())
    }

    /// Returns the descriptor that becomes readable when samples arrive. Returns `None` for a file, and while the pipe isn't open.
    pub(crate) fn fd(&self) -> Option<BorrowedFd<'_>> {
        match self {
            Self::Pipe(pipe) => pipe.fd(),
            Self::File(_) => None,
        }
    }

    /// Returns the time of the next call of [`Self::read`], if no samples arrive before.
    pub(crate) fn due(&self) -> Instant {
        match self {
            Self::Pipe(pipe) => pipe.due(),
            Self::File(file) => file.due(),
        }
    }

    /// Appends the available samples to `out`, without waiting. Returns whether this call has taken over the pipe from the previous
    /// process. Then these samples continue the samples that the previous process has read.
    pub(crate) fn read(&mut self, now: Instant, out: &mut Vec<i16>) -> bool {
        match self {
            Self::Pipe(pipe) => pipe.read(now, out),
            Self::File(file) => {
                file.read(now, out);
                false
            }
        }
    }
}
