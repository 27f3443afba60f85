//! Errors of the room directory.

use std::io;
use std::path::{Path, PathBuf};

/// Error: a file of the room directory can't be read or written, or is invalid.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RoomError {
    /// A system call failed.
    #[error("unable to {verb} '{}': {source}", path.display())]
    Io {
        /// The operation that failed, as a verb: `read`, `create` …
        verb: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// The file is not as `docs/room-directory.md` specifies it.
    #[error("unable to use '{}': {why}", path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// The reason why the content is invalid, and the allowed content.
        why: String,
    },
}

impl RoomError {
    pub(crate) fn io(verb: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { verb, path, source }
    }

    pub(crate) fn content(path: &Path, why: impl Into<String>) -> Self {
        Self::Content { path: path.to_owned(), why: why.into() }
    }
}

/// Error: a pipe or file can't be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// `ENXIO`: no process reads this pipe, which is a normal state.
    #[error("no process reads the pipe '{}'", .0.display())]
    NoReader(PathBuf),
    /// Another process reads this pipe and has locked it.
    #[error("'{}' is being read by another process; a pipe has one reader, so end that process", .0.display())]
    Taken(PathBuf),
    /// There is no file at this path.
    #[error("unable to open '{}': there is no such pipe or file", .0.display())]
    Missing(PathBuf),
    /// The file is not a FIFO.
    #[error("'{}' is not a named pipe; remove it and make one with mkfifo(1)", .0.display())]
    NotAPipe(PathBuf),
    /// The file is not a regular file.
    #[error("'{}' is neither a named pipe nor a regular file; remove it and make one with mkfifo(1)", .0.display())]
    NotAFile(PathBuf),
    /// A system call failed.
    #[error("unable to open '{}': {source}", path.display())]
    Io {
        /// The pipe or file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
}

impl OpenError {
    pub(crate) fn io(path: &Path, source: impl Into<io::Error>) -> Self {
        Self::Io { path: path.to_owned(), source: source.into() }
    }
}
