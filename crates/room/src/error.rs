//! What can go wrong with a room's files, and whose fault it is.

use std::io;
use std::path::{Path, PathBuf};

/// A file of the room directory can't be read, written or understood.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RoomError {
    /// The operating system refused.
    #[error("unable to {verb} '{}': {source}", path.display())]
    Io {
        /// What was tried: `read`, `create` …
        verb: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// The file's content is not what `docs/room-directory.md` says.
    #[error("unable to understand '{}': {why}", path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// What is wrong and what is allowed.
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

/// A pipe can't be opened now. The first three are answers rather than failures.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// `ENXIO`: nobody reads this pipe, so there is nothing to write for. Not a loss.
    #[error("nobody reads '{}'", .0.display())]
    NoReader(PathBuf),
    /// Another process reads this pipe and holds its lock.
    #[error("'{}' is being read by another process; a pipe has one reader", .0.display())]
    Taken(PathBuf),
    /// There is no such file (yet).
    #[error("there is no pipe '{}'", .0.display())]
    Missing(PathBuf),
    /// There is a file but it is no FIFO.
    #[error("'{}' is not a named pipe; remove it and make one with mkfifo(1)", .0.display())]
    NotAPipe(PathBuf),
    /// There is something but it is no regular file.
    #[error("'{}' is neither a named pipe nor a file; remove it and make one with mkfifo(1)", .0.display())]
    NotAFile(PathBuf),
    /// The operating system refused.
    #[error("unable to open '{}': {source}", path.display())]
    Io {
        /// The pipe.
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
