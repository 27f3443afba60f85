//! Arguments of the commands that add, change or address a participant.

use std::path::PathBuf;

use clap::Args;
use palabre_room::{Gain, Name};

use super::complete::{participants, rooms};
use super::values::{Expiry, decibels, expiry};

pub(super) const INVITE: &str = "\
Examples:
  palabre invite alice
  palabre invite bob --display-name 'Bob le Bricoleur' --room workshop
  palabre invite alice --new-key     a new link; the old one becomes invalid
  palabre invite guest --expires 2d --listen-only
  palabre invite carol --once        for a link sent through a chat
  palabre invite bob --qr-png bob.png
  palabre invite --from people.csv   every line of a list
  printf 'dora\\nemil\\n' | palabre invite --from - --room choir --csv

The link is printed only now: Palabre stores only the hash of its key. A link
made with --once opens a page with a button, so that a preview of the link
doesn't use it up.";

/// The participants on which a command acts.
#[derive(Args, Debug)]
pub(crate) struct Targets {
    // `allow_negative_numbers` is for `palabre gain`, whose last argument can be a negative number.
    /// Login names of the participants
    #[arg(required = true, value_name = "NAME", allow_negative_numbers = true, add = participants())]
    names: Vec<Name>,
}

impl Targets {
    /// Returns the names in the order of the command line, each once.
    pub(crate) fn names(&self) -> Vec<Name> {
        unique(&self.names)
    }
}

/// Returns the names of the list in its order, without repetitions.
pub(super) fn unique(names: &[Name]) -> Vec<Name> {
    let is_first = |(index, name): &(usize, &Name)| !names[..*index].contains(name);
    names.iter().enumerate().filter(is_first).map(|(_, name)| name.clone()).collect()
}

/// `palabre revoke`.
#[derive(Args, Debug)]
pub(crate) struct Revoke {
    #[command(flatten)]
    pub(crate) targets: Targets,
    /// Print a JSON object; palabre(1) documents it
    #[arg(long)]
    pub(crate) json: bool,
}

/// `palabre rename`.
#[derive(Args, Debug)]
pub(crate) struct Rename {
    /// Login name of the participant; this command doesn't change it
    #[arg(add = participants())]
    pub(crate) name: Name,
    /// New display name, at most 64 characters of any script
    pub(crate) display_name: String,
}

/// `palabre gain`.
#[derive(Args, Debug)]
pub(crate) struct SetGain {
    #[command(flatten)]
    pub(crate) targets: Targets,
    /// Gain in decibels, -60 to 20
    #[arg(value_name = "DB", allow_negative_numbers = true, value_parser = decibels)]
    pub(crate) gain: Gain,
}

/// `palabre change`.
#[derive(Args, Debug)]
#[group(id = "change", required = true, multiple = true, args = ["expires", "listen_only", "no_listen_only"])]
pub(crate) struct Change {
    #[command(flatten)]
    pub(crate) targets: Targets,
    /// New expiry of the link: 30min, 12h, 7d, 2w, never, or a time like 2026-12-31T18:00:00Z
    #[arg(long, value_name = "WHEN", value_parser = expiry)]
    pub(crate) expires: Option<Expiry>,
    /// Don't accept a microphone: the participant only listens
    #[arg(long, conflicts_with = "no_listen_only")]
    pub(crate) listen_only: bool,
    /// Accept a microphone again
    #[arg(long)]
    pub(crate) no_listen_only: bool,
}

/// `palabre move`.
#[derive(Args, Debug)]
pub(crate) struct Move {
    #[command(flatten)]
    pub(crate) targets: Targets,
    /// New room; it is created if it doesn't exist
    #[arg(add = rooms())]
    pub(crate) room: Name,
}

/// `palabre invite`.
#[derive(Args, Debug)]
pub(crate) struct Invite {
    /// Login name: 1 to 32 lower-case letters, digits, - and _; the first is a letter or a digit
    #[arg(required_unless_present = "from", add = participants())]
    pub(crate) name: Option<Name>,
    /// Invite the participants of a list, which palabre(1) documents; - is standard input. Other options apply to empty fields of the list
    #[arg(long, value_name = "FILE", conflicts_with_all = ["name", "port", "display_name", "new_key", "qr", "no_qr"])]
    pub(crate) from: Option<PathBuf>,
    /// With --from: change existing participants who differ from the list. Without this option, a list with such a participant is refused
    #[arg(long, requires = "from")]
    pub(crate) update: bool,
    /// With --from: print a CSV with the links instead of a table
    #[arg(long, requires = "from", conflicts_with = "json")]
    pub(crate) csv: bool,
    /// Print a JSON object with the link; palabre(1) documents it
    #[arg(long)]
    pub(crate) json: bool,
    /// Room of the participant [default: main]
    #[arg(long, value_name = "ROOM", add = rooms())]
    pub(crate) room: Option<Name>,
    /// Port of the participant, a part of the link [default: the first free port of 'ports' in palabre.toml]
    #[arg(long, value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) port: Option<u16>,
    /// Display name, at most 64 characters of any script [default: NAME]
    #[arg(long, value_name = "TEXT")]
    pub(crate) display_name: Option<String>,
    /// Expiry of the link: 30min, 12h, 7d, 2w, never, or a time like 2026-12-31T18:00:00Z [default: never; with --new-key, as before]
    #[arg(long, value_name = "WHEN", value_parser = expiry)]
    pub(crate) expires: Option<Expiry>,
    /// Don't accept a microphone: the participant only listens
    #[arg(long, conflicts_with = "new_key")]
    pub(crate) listen_only: bool,
    /// Make a link that works only in the first browser in which the button on its page is pressed [default: false; with --new-key, as
    /// before]
    #[arg(long)]
    pub(crate) once: bool,
    /// Make a new key for an existing participant; the old link becomes invalid
    #[arg(long, conflicts_with_all = ["room", "port", "display_name"])]
    pub(crate) new_key: bool,
    /// Print a QR code of the link even if standard output is not a terminal
    #[arg(long, conflicts_with_all = ["no_qr", "json"])]
    pub(crate) qr: bool,
    /// Don't print a QR code
    #[arg(long)]
    pub(crate) no_qr: bool,
    /// Write a QR code of the link into FILE as an SVG; only the file's owner may read it
    #[arg(long, value_name = "FILE", conflicts_with = "from")]
    pub(crate) qr_svg: Option<PathBuf>,
    /// Write a QR code of the link into FILE as a PNG; only the file's owner may read it
    #[arg(long, value_name = "FILE", conflicts_with = "from")]
    pub(crate) qr_png: Option<PathBuf>,
}
