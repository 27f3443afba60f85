//! Where the sound of the streams comes from: the participant's pipe `ear`, or (with `--source`) a WAV file that grows.

mod file;
mod pipe;

pub(crate) use pipe::TAKE_TIMEOUT;

use file::FileSource;
use palabre_room::Format;
use pipe::PipeSource;
use std::os::fd::BorrowedFd;
use std::path::PathBuf;
use std::time::Instant;

/// What a source is opened from, each time a first stream comes.
#[derive(Debug, Clone)]
pub(crate) enum Origin {
    /// The pipe `ear`.
    Pipe(PathBuf),
    /// A growing WAV.
    File(PathBuf),
}

/// An open source.
#[derive(Debug)]
pub(crate) enum Source {
    Pipe(PipeSource),
    File(Box<FileSource>),
}

impl Source {
    /// Opens the source. What can't be opened now is tried again later.
    pub(crate) fn new(origin: &Origin, format: Format, chunk_ms: u64) -> Self {
        match origin {
            Origin::Pipe(path) => Self::Pipe(PipeSource::new(path.clone(), format)),
            Origin::File(path) => Self::File(Box::new(FileSource::new(path.clone(), format, chunk_ms))),
        }
    }

    /// Returns whether the previous process still has the pipe and is expected to close it in a moment.
    pub(crate) fn is_taking_over(&self) -> bool {
        matches!(self, Self::Pipe(pipe) if pipe.is_taking_over())
    }

    /// Returns whether the next process requests the pipe.
    pub(crate) fn is_requested(&self) -> bool {
        matches!(self, Self::Pipe(pipe) if pipe.is_requested())
    }

    /// Returns the descriptor that becomes readable with the next sound.
    pub(crate) fn fd(&self) -> Option<BorrowedFd<'_>> {
        match self {
            Self::Pipe(pipe) => pipe.fd(),
            Self::File(_) => None,
        }
    }

    /// Returns when to call [`Self::read`], if no sound comes before.
    pub(crate) fn due(&self) -> Instant {
        match self {
            Self::Pipe(pipe) => pipe.due(),
            Self::File(file) => file.due(),
        }
    }

    /// Appends the sound that is there to `out`, without waiting. Returns whether the pipe has just been taken over: this sound and all
    /// later sound follows on what the previous process has read.
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
