//! Where the sound of the streams comes from: the participant's pipe `ear`, or (with `--source`) a WAV file that grows.

mod file;
mod pipe;

pub use file::FileSource;
pub use pipe::{PipeSource, TAKE_PATIENCE};

use palabre_room::Format;
use std::path::PathBuf;
use std::time::Instant;

/// What a source is opened from, each time a first stream comes.
#[derive(Debug, Clone)]
pub enum Origin {
    /// The pipe `ear`.
    Pipe(PathBuf),
    /// A growing WAV.
    File(PathBuf),
}

/// An open source.
#[derive(Debug)]
pub enum Source {
    /// The pipe `ear`.
    Pipe(PipeSource),
    /// A growing WAV.
    File(Box<FileSource>),
}

impl Source {
    /// Opens what can be opened now; the rest is tried again later.
    pub fn new(origin: &Origin, format: Format, chunk_ms: u64) -> Self {
        match origin {
            Origin::Pipe(path) => Self::Pipe(PipeSource::new(path.clone(), format)),
            Origin::File(path) => Self::File(Box::new(FileSource::new(path.clone(), format, chunk_ms))),
        }
    }

    /// Whether another process has the sound and is expected to hand it over in a moment.
    pub fn is_taking_over(&self) -> bool {
        matches!(self, Self::Pipe(pipe) if pipe.is_taking_over())
    }

    /// True once after another process has handed the sound over: what is read now follows on what that one has read.
    pub fn has_taken_over(&mut self) -> bool {
        match self {
            Self::Pipe(pipe) => pipe.has_taken_over(),
            Self::File(_) => false,
        }
    }

    /// Whether another process waits for this one to hand the sound over.
    pub fn is_awaited(&self) -> bool {
        matches!(self, Self::Pipe(pipe) if pipe.is_awaited())
    }

    /// Waits for samples until `until` at most and appends those that are there to `out`.
    pub fn read(&mut self, until: Instant, out: &mut Vec<i16>) {
        match self {
            Self::Pipe(pipe) => pipe.read(until, out),
            Self::File(file) => file.read(until, out),
        }
    }
}
