//! The room directory and its named pipes: the whole interface of the mixer.
//!
//! A room is a directory, a participant is a directory in it with two FIFOs; `docs/room-directory.md` says every byte.
//! This crate reads and writes those files ([`RoomDir`], [`ParticipantDir`]) and is the only place that knows FIFO craft
//! ([`PipeReader`], [`PipeWriter`]): who keeps a pipe alive, what `ENXIO` means, how much sound a pipe may hide.
//!
//! It is not a mixer, knows no clock but the one it is given, and must never know TLS, HTTP or TOML.

mod dir;
mod error;
mod file;
mod format;
mod gain;
mod inbox;
mod levelling;
mod levels;
mod member;
mod mixer_report;
mod name;
mod reader;
mod recording;
mod writer;

pub use dir::{ParticipantDir, RoomDir};
pub use error::{OpenError, RoomError};
pub use file::{Kind, SoundFile, kind};
pub use format::{FRAME_MS, Format, PIPE_MS, Rate};
pub use gain::Gain;
pub use inbox::{Inbox, MAX_MESSAGE_CHARS, Message};
pub use levelling::Levelling;
pub use levels::{LevelLine, Talk};
pub use member::{Member, Voice};
pub use mixer_report::{LATE_US, Losses, MixerReport};
pub use name::{Name, display_name_is_valid};
pub use reader::{PipeReader, STRAY_MS, Start, Successor};
pub use recording::{RecordingReader, RecordingWriter, Take};
pub use writer::{PipeWriter, Wrote};

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// The file among the rooms whose lock (fcntl(2)) the mixer holds.
pub const MIXER_POST: &str = ".mixer";

/// Which pipe a path names or a descriptor refers to: device and inode. Two differ when somebody replaced the pipe.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PipeId {
    /// Device number of the file system.
    pub device: u64,
    /// Inode number.
    pub inode: u64,
}

impl PipeId {
    fn of(metadata: &std::fs::Metadata) -> Self {
        Self { device: metadata.dev(), inode: metadata.ino() }
    }
}

/// The identity of the file at `path`, to compare with [`PipeReader::id`] and [`PipeWriter::id`].
///
/// # Errors
/// What `stat(2)` says.
pub fn pipe_id(path: &Path) -> io::Result<PipeId> {
    Ok(PipeId::of(&std::fs::metadata(path)?))
}
