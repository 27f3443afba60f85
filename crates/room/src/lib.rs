//! The room directory, which is the interface of the mixer: its files and its named pipes.
//!
//! `docs/room-directory.md` specifies every byte. [`RoomDir`] and [`ParticipantDir`] read and write the text files;
//! [`PipeReader`] and [`PipeWriter`] open, lock, size, read and write FIFOs, and translate `ENXIO`, `EAGAIN` and
//! `EPIPE` into states of the sound.
//!
//! The crate reads no clock and contains no TLS, HTTP or TOML.

mod bridge_report;
mod dir;
mod display_name;
mod ear_end;
mod ear_frames;
mod error;
mod file;
mod format;
mod gain;
mod inbox;
mod kept;
mod levelling;
mod levels;
mod lines;
mod machine_file;
mod machines_dir;
mod make;
mod member;
mod mixer_report;
mod name;
mod participant_dir;
mod presence;
mod reader;
mod recording;
mod sender;
mod small_file;
mod writer;

pub use bridge_report::{BridgeReport, MachineLink};
pub use dir::{NO_MIXER, RoomDir, ShownFrom};
pub use display_name::{display_name_is_valid, folded_display_name, own_display_name_is_valid};
pub use ear_end::EarEnd;
pub use ear_frames::EarFrames;
pub use error::{OpenError, RoomError};
pub use file::{FileId, FileKind, RegularFile, file_id, lookup, open_regular, target_in};
pub use format::{FRAME_MS, Format, PIPE_MS, Rate};
pub use gain::{Gain, MAX_GAINS, PersonalGain, PersonalGainError};
pub use inbox::{Inbox, MAX_MESSAGE_CHARS, Message};
pub use kept::{KeptMessage, MAX_KEPT};
pub use levelling::Levelling;
pub use levels::{LevelLine, Talk};
pub use lines::Lines;
pub use machine_file::{
    MAX_MACHINE_BYTES, MAX_MACHINE_PEOPLE, MAX_MACHINES, MachineLevel, MachinePerson, MachineState, OTHER_MACHINES,
    OtherMachines,
};
pub use machines_dir::{MACHINES, MAX_MACHINE_CHARS, MachinesDir, machine_name};
pub use member::{Member, MicState};
pub use mixer_report::{LATE_US, MixerReport, ParticipantCounters};
pub use name::{Name, NameError};
pub use participant_dir::ParticipantDir;
pub use presence::Presence;
pub use reader::{PipeReader, Start, Successor};
pub use recording::{RecordedFrame, RecordingReader, RecordingWriter};
pub use sender::Sender;
pub use small_file::replace_file;
pub use writer::{PipeWriter, Wrote};

/// Name of the socket on which the mixer receives restart requests, in the directory that contains the rooms: `/run/palabre/rooms/.mixer`.
pub const MIXER_SOCKET: &str = ".mixer";
/// Name of the mixer's user in the package. A mixer that is started by hand has the user who starts it.
pub const MIXER_USER: &str = "palabre-mixer";
/// Name of the listeners' user and group in the package. Other listeners have the user of the process that starts them.
pub const LISTENER_USER: &str = "palabre-listener";
