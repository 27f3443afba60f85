//! The arguments of the commands that read or write sound: `palabre mix`, `play`, `tap`.

use std::path::PathBuf;

use clap::Args;
use palabre_room::{Gain, Name};

use super::{Switch, decibels};

/// `palabre mix`.
#[derive(Args, Debug)]
pub struct Mix {
    /// Directory of the mixes, which get the names of the files; made if it isn't there
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// What is louder than full scale: turned down in time, as in a room, or cut off
    #[arg(long, value_enum, value_name = "on|off", hide_possible_values = true, default_value_t = Switch::On)]
    pub limiter: Switch,
    /// Print JSON, one object, as palabre(1) documents it
    #[arg(long)]
    pub json: bool,
    /// WAV files, any rates, lengths and channels; each of a name of its own
    #[arg(required = true, value_name = "IN.wav")]
    pub files: Vec<PathBuf>,
}

/// `palabre play`.
#[derive(Args, Debug)]
pub struct Play {
    /// The WAV file, any rate, 1 to 8 channels; - is standard input
    pub file: PathBuf,
    /// The room
    #[arg(long, value_name = "ROOM", default_value = "main")]
    pub room: Name,
    /// Louder or softer by so many decibels, -60 to 20
    #[arg(long, value_name = "DB", allow_negative_numbers = true, value_parser = decibels)]
    pub gain: Option<Gain>,
    /// Begin again at its end, until Ctrl-C
    #[arg(long = "loop")]
    pub again: bool,
    /// Name in the room [default: from the file's name]
    #[arg(long, value_name = "NAME")]
    pub name: Option<Name>,
}

/// `palabre tap`.
#[derive(Args, Debug)]
pub struct Tap {
    /// Who hears it
    pub name: Name,
    /// Their room
    #[arg(long, value_name = "ROOM", default_value = "main")]
    pub room: Name,
    /// Samples alone, without a head: signed, 16 bits, low byte first, one channel, at the room's rate
    #[arg(long)]
    pub raw: bool,
}
