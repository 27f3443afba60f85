//! Arguments of the commands that read or write sound: `mix`, `play`, `tap`, `record`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use palabre_room::{Gain, Name};

use super::complete::{participants, rooms};
use super::values::{Switch, decibels};

pub(super) const MIX: &str = "\
Examples:
  palabre mix --out mixes alice.wav bob.wav carol.wav
      mixes/alice.wav is what alice hears: bob and carol
  palabre mix --out mixes --limiter off *.wav
      exact sums; samples beyond full scale are clipped
  palabre mix --out mixes --json *.wav | jq .elapsed_ms

Rates, lengths and numbers of channels may differ. Every mix has the highest
rate, one channel of 16 bits and the length of the longest input. Files of the
same names in DIR are replaced when all mixes are complete; after an error they
are unchanged.";

pub(super) const PLAY: &str = "\
Examples:
  palabre play greeting.wav
  palabre play jingle.wav --room workshop --gain -12 --loop
  ffmpeg -i talk.ogg -f wav - | palabre play - --name radio

The participant leaves the room when the file ends, or on Ctrl-C.";

pub(super) const TAP: &str = "\
Examples:
  palabre tap alice > evening.wav
  palabre tap alice | mpv -
  palabre tap alice --raw | aplay -f S16_LE -r 24000

The tap hears the same as the participant, whether or not the participant
listens. Silence is written too: a minute of the room is a minute of the WAV.
Ctrl-C ends it.";

pub(super) const RECORD: &str = "\
Examples:
  palabre record start
  palabre record start --room workshop
  palabre record status
  palabre record stop

The files are in a new directory, whose path is printed. They are complete at
any time except for the last second. The pages show that the room is recorded.";

/// `palabre mix`.
#[derive(Args, Debug)]
pub(crate) struct Mix {
    /// Directory for the mixes; created if missing. Each mix has the file name of the input that it leaves out
    #[arg(long, value_name = "DIR")]
    pub(crate) out: PathBuf,
    /// Limit peaks beyond full scale as in a room (on), or clip them (off)
    #[arg(long, value_enum, value_name = "on|off", hide_possible_values = true, default_value_t = Switch::On)]
    pub(crate) limiter: Switch,
    /// Print a JSON object; palabre(1) documents it
    #[arg(long)]
    pub(crate) json: bool,
    /// WAV files of any length, 8000 to 192000 Hz, with 1 to 8 channels. The file names must differ, because each mix has the name of the input that it leaves out
    #[arg(required = true, value_name = "IN.wav")]
    pub(crate) files: Vec<PathBuf>,
}

/// `palabre play`.
#[derive(Args, Debug)]
pub(crate) struct Play {
    /// WAV file, 8000 to 192000 Hz, with 1 to 8 channels; - is standard input
    pub(crate) file: PathBuf,
    /// Room to play into
    #[arg(long, value_name = "ROOM", default_value = "main", add = rooms())]
    pub(crate) room: Name,
    /// Gain in decibels, -60 to 20
    #[arg(long, value_name = "DB", allow_negative_numbers = true, value_parser = decibels)]
    pub(crate) gain: Option<Gain>,
    /// Repeat the file until Ctrl-C
    #[arg(long = "loop")]
    pub(crate) repeat: bool,
    /// Login name of the participant in the room [default: made from the file name]
    #[arg(long, value_name = "NAME")]
    pub(crate) name: Option<Name>,
}

/// `palabre tap`.
#[derive(Args, Debug)]
pub(crate) struct Tap {
    /// Login name of the participant
    #[arg(add = participants())]
    pub(crate) name: Name,
    /// Room that the participant is in
    #[arg(long, value_name = "ROOM", default_value = "main", add = rooms())]
    pub(crate) room: Name,
    /// Write raw samples instead of a WAV: signed 16 bits, little-endian, one channel, with the sample rate of the room
    #[arg(long)]
    pub(crate) raw: bool,
}

/// What `palabre record` does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum RecordVerb {
    /// Start recording the room.
    Start,
    /// Stop recording the room.
    Stop,
    /// Print which rooms are recorded, since when and where, and the free space.
    Status,
}

/// `palabre record`.
#[derive(Args, Debug)]
pub(crate) struct Record {
    /// Whether to start or stop the recording, or to print its status
    #[arg(value_enum)]
    pub(crate) verb: RecordVerb,
    /// Room to record; 'status' shows only this room [default: main, and all rooms for 'status']
    #[arg(long, value_name = "ROOM", add = rooms())]
    pub(crate) room: Option<Name>,
    /// Print the result as JSON
    #[arg(long)]
    pub(crate) json: bool,
}
