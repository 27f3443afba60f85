//! The command line: what `palabre` accepts, and the text of every `--help`.
//!
//! Nothing here does anything; the man page and the completions are made from the same definitions.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;
use palabre_config::Moment;
use palabre_room::{Gain, Name};

mod look;
mod restart;
mod self_sign;
mod sound;

pub use look::{Check, Logs, Top};
pub use restart::Restart;
pub use self_sign::SelfSign;
pub use sound::{Mix, Play, Tap};

/// Where the configuration is, and what runs, unless a flag says otherwise.
pub(crate) const CONFIG: &str = "/etc/palabre";
pub(crate) const RUN: &str = "/run/palabre";

/// A voice room for people who have nothing but a browser: the operator's command
#[derive(Debug, Parser)]
#[command(name = "palabre", version, max_term_width = 100, propagate_version = false)]
#[command(after_help = "\
Examples:
  palabre try                        a room on this machine, now
  palabre invite alice               add a participant, print the link to send
  palabre status                     who is there, on which port, since when

Exit status: 0 done, 1 refused, 2 usage, 78 configuration, 111 system failure.
Manual: palabre(1), palabre-supervisor(8), palabre-listener(8), palabre-mixer(8)")]
pub struct Cli {
    /// Directory of palabre.toml and participants.d/ [default: /etc/palabre]
    #[arg(long, global = true, value_name = "DIR", help_heading = "Common options")]
    pub config: Option<PathBuf>,
    /// Directory of the control socket and the rooms [default: /run/palabre]
    #[arg(long, global = true, value_name = "DIR", help_heading = "Common options")]
    pub run: Option<PathBuf>,
    /// Say more on standard error; twice for everything
    #[arg(short, long, global = true, action = clap::ArgAction::Count, help_heading = "Common options")]
    pub verbose: u8,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

impl Cli {
    /// The directory of the configuration.
    #[must_use]
    pub fn config_dir(&self) -> &Path {
        self.config.as_deref().unwrap_or(Path::new(CONFIG))
    }

    /// The directory of what runs.
    #[must_use]
    pub fn run_dir(&self) -> &Path {
        self.run.as_deref().unwrap_or(Path::new(RUN))
    }
}

/// The subcommands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Show every participant's listener: state, port, connections, level, processor, memory, restarts
    #[command(after_help = "\
Examples:
  palabre status
  palabre status --json | jq -r '.participants[]|select(.state==\"failed\").name'

The exit status is 0 whatever the states are; it is 111 where no supervisor
runs. Faults of the configuration are told on standard error.")]
    Status(Status),
    /// Look at configuration, certificate, ports, limits and directories, and say what mends what is wrong
    #[command(after_help = look::CHECK)]
    Check(Check),
    /// Show the status live, with level meters, until q is typed
    #[command(after_help = look::TOP)]
    Top(Top),
    /// Show what a participant's listener has logged, from the journal
    #[command(after_help = look::LOGS)]
    Logs(Logs),
    /// Replace a participant's listener, or everybody's, by a new process, losing no sound
    #[command(after_help = restart::EXAMPLES)]
    Restart(Restart),
    /// End a participant's listener and close their port, until it is started
    #[command(after_help = "\
Examples:
  palabre stop alice

Their connections end within 1.5 s and their port refuses new ones. It stays so
over 'palabre reload', until 'palabre start' or the supervisor's own restart.
Who must stay away for good is revoked: 'palabre revoke'.")]
    Stop(Who),
    /// Start a participant's listener that was stopped or has failed
    #[command(after_help = "\
Examples:
  palabre start alice")]
    Start(Who),
    /// End a participant's connections now; they may come back
    #[command(after_help = "\
Examples:
  palabre kick alice

A page that stays open connects again by itself within seconds; who is not to
come back is stopped or revoked.")]
    Kick(Who),
    /// Have the supervisor read the configuration again
    #[command(after_help = "\
Examples:
  palabre reload                     after palabre.toml or a participant's file
                                     was edited, or the certificate renewed

Only the listeners for which something has changed are replaced, losing no
sound. A file with no meaning is named, and changes nothing.")]
    Reload,
    /// Make a self-signed certificate where there is none yet
    #[command(after_help = self_sign::EXAMPLES)]
    SelfSign(SelfSign),
    /// Add a participant: write their file, reload the supervisor, print their link
    #[command(after_help = "\
Examples:
  palabre invite alice
  palabre invite bob --display-name 'Bob le Bricoleur' --room workshop
  palabre invite alice --new-key     a new link; the old one no longer opens
  palabre invite guest --expires 2d --listen-only
  palabre invite carol --once        for a way that others may read, as a chat

The link is shown once: only the hash of its key is kept. A link of --once opens
to a page with a button, so that a preview does not use it up.")]
    Invite(Invite),
    /// Change the name that others see of a participant
    #[command(after_help = "\
Examples:
  palabre rename bob 'Bob le Bricoleur'

The login name stays, and with it the port, the link and the file: for another
one, revoke the participant and invite them anew.")]
    Rename(Rename),
    /// Have nobody hear a participant, until they are unmuted
    #[command(after_help = "\
Examples:
  palabre mute bob

It stands in their file, so it outlives every restart. Their page shows it.")]
    Mute(Who),
    /// Have everybody hear a participant again
    #[command(after_help = "\
Examples:
  palabre unmute bob")]
    Unmute(Who),
    /// Make a participant louder or softer for everybody
    #[command(after_help = "\
Examples:
  palabre gain bob -6
  palabre gain bob 0

It stands in their file, so it outlives every restart.")]
    Gain(Loudness),
    /// Put a participant into another room
    #[command(after_help = "\
Examples:
  palabre move bob workshop

Their connections end within 1.5 s and a page that is open comes back by itself,
in the other room. The port and the link stay.")]
    Move(Move),
    /// Show who may come: room, port, gain, the end of their key
    #[command(after_help = "\
Examples:
  palabre list
  palabre list --json | jq -r '.participants[]|select(.muted).name'

It reads the files; the state is the supervisor's, where one runs.")]
    List(List),
    /// Show the rooms: who belongs there, who is there, who talks
    #[command(after_help = "\
Examples:
  palabre rooms
  palabre rooms --json | jq -r '.rooms[]|select(.recorded).name'")]
    Rooms(List),
    /// Remove a participant: delete their file, reload the supervisor
    #[command(after_help = "\
Examples:
  palabre revoke alice

Their connections end and their link no longer opens. It prints how to give
them the same port again.")]
    Revoke(Revoke),
    /// Run a whole room in the foreground, with no configuration, to try it
    #[command(after_help = "\
Examples:
  palabre try                        two links, on this machine only
  palabre try --open                 and two browser windows that trust them
  palabre try --lan                  for telephones and others on this network
  palabre try --dir ~/palabre-try    keep keys, ports and certificate

Nothing is installed and nothing needs root. Ctrl-C ends everything and leaves
nothing behind.")]
    Try(Try),
    /// Mix WAV files: for each of them, a file of all the others
    #[command(after_help = "\
Examples:
  palabre mix --out mixes alice.wav bob.wav carol.wav
      mixes/alice.wav is what alice hears: bob and carol
  palabre mix --out mixes --limiter off *.wav
      the exact sums; what is louder than full scale is cut off
  palabre mix --out mixes --json *.wav | jq .elapsed_ms

Rates, lengths and numbers of channels may differ: every mix has the highest
rate, one channel of 16 bits, the length of the longest file, and begins when
they begin. Files of the same names in DIR are replaced when all mixes are
complete; when anything fails, nothing is.")]
    Mix(Mix),
    /// Play a WAV file into a room, as a participant of its own
    #[command(after_help = "\
Examples:
  palabre play greeting.wav
  palabre play jingle.wav --room workshop --gain -12 --loop
  ffmpeg -i talk.ogg -f wav - | palabre play - --name radio

It is there until the file ends, or until Ctrl-C, and leaves nothing behind.")]
    Play(Play),
    /// Write what a participant hears to standard output, as a continuous WAV
    #[command(after_help = "\
Examples:
  palabre tap alice > evening.wav
  palabre tap alice | mpv -
  palabre tap alice --raw | aplay -f S16_LE -r 24000

It hears what they hear at the same time, and whether or not they listen: their
own ear is left to them. The silence of an idle room is filled in, so that a
minute of it lasts a minute. Ctrl-C ends it.")]
    Tap(Tap),
    /// Record a room: a WAV for each speaker and one of all, aligned
    #[command(after_help = "\
Examples:
  palabre record start
  palabre record status --room workshop
  palabre record stop

The files are in a directory of their own, which is printed, and are complete at
every moment but for the last second. The pages show that the room is recorded.")]
    Record(Record),
    /// Print the completions for a shell
    #[command(after_help = "\
Examples:
  palabre completions bash > /usr/share/bash-completion/completions/palabre
  palabre completions zsh > /usr/local/share/zsh/site-functions/_palabre
  palabre completions fish > ~/.config/fish/completions/palabre.fish")]
    Completions(Completions),
    /// Print the manual page of this command
    #[command(after_help = "\
Examples:
  palabre man | man -l -
  palabre man --out /usr/local/share/man/man1")]
    Man(Man),
}

/// `palabre status`.
#[derive(Args, Debug)]
pub struct Status {
    /// Print JSON, one object, as palabre(1) documents it
    #[arg(long)]
    pub json: bool,
}

/// A command about one participant.
#[derive(Args, Debug)]
pub struct Who {
    /// Login name of the participant
    pub name: Name,
}

/// `palabre rename`.
#[derive(Args, Debug)]
pub struct Rename {
    /// Login name of the participant, which stays
    pub name: Name,
    /// What others are to see, any script, at most 64 characters
    pub display_name: String,
}

/// `palabre gain`.
#[derive(Args, Debug)]
pub struct Loudness {
    /// Login name of the participant
    pub name: Name,
    /// Decibels, -60 to 20
    #[arg(value_name = "DB", allow_negative_numbers = true, value_parser = decibels)]
    pub gain: Gain,
}

/// `palabre move`.
#[derive(Args, Debug)]
pub struct Move {
    /// Login name of the participant
    pub name: Name,
    /// The room, which need not be there yet
    pub room: Name,
}

/// `palabre list` and `palabre rooms`.
#[derive(Args, Debug)]
pub struct List {
    /// Print JSON, one object, as palabre(1) documents it
    #[arg(long)]
    pub json: bool,
}

/// `palabre invite`.
#[derive(Args, Debug)]
pub struct Invite {
    /// Login name: lower-case letters, digits, - and _, at most 32, the first one a letter or a digit
    pub name: Name,
    /// Room, where everybody hears everybody else [default: main]
    #[arg(long, value_name = "ROOM")]
    pub room: Option<Name>,
    /// Port of their own, for life [default: the first free one of the range in palabre.toml]
    #[arg(long, value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
    pub port: Option<u16>,
    /// Name for the pages, any script, at most 64 characters [default: NAME]
    #[arg(long, value_name = "TEXT")]
    pub display_name: Option<String>,
    /// When the link opens no longer: 30min, 12h, 7d, 2w, or a time like 2026-12-31T18:00:00Z [default: never]
    #[arg(long, value_name = "WHEN", value_parser = moment)]
    pub expires: Option<Moment>,
    /// Without a microphone: they hear and are not heard
    #[arg(long, conflicts_with = "new_key")]
    pub listen_only: bool,
    /// The link opens once: to the browser in which its button is pressed first, and to that one alone afterwards
    #[arg(long)]
    pub once: bool,
    /// Make a new key for a participant who exists: the old link, if any, no longer opens
    #[arg(long, conflicts_with_all = ["room", "port", "display_name"])]
    pub new_key: bool,
    /// Print a QR code of the link even when standard output isn't a terminal
    #[arg(long, conflicts_with = "no_qr")]
    pub qr: bool,
    /// Print no QR code
    #[arg(long)]
    pub no_qr: bool,
}

/// `palabre revoke`.
#[derive(Args, Debug)]
pub struct Revoke {
    /// Who is to leave
    pub name: Name,
}

/// `palabre try`.
#[derive(Args, Debug)]
pub struct Try {
    /// How many participants, named p01, p02, … [default: two, alice and bob]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=99))]
    pub participants: Option<u16>,
    /// First port; the next ones follow, a taken one is skipped. 0: any free ports
    #[arg(long, value_name = "PORT", default_value_t = 9001)]
    pub first_port: u16,
    /// Keep everything here instead of in a temporary directory, and begin with what is there
    #[arg(long, value_name = "DIR")]
    pub dir: Option<PathBuf>,
    /// Leave out the melody and the echo
    #[arg(long)]
    pub no_voices: bool,
    /// Leave every voice as loud as it comes; else the room brings speech to one loudness
    #[arg(long)]
    pub no_levelling: bool,
    /// Let other machines on the network in: listen on every address, links with this machine's own
    #[arg(long)]
    pub lan: bool,
    /// Open each link in a Chromium window of its own that trusts this certificate
    #[arg(long)]
    pub open: bool,
}

/// On or off.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Switch {
    /// On.
    On,
    /// Off.
    Off,
}

/// What to do about a recording.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum RecordVerb {
    /// Begin to record.
    Start,
    /// End the recording.
    Stop,
    /// Say whether the room is recorded, where and since when.
    Status,
}

/// `palabre record`.
#[derive(Args, Debug)]
pub struct Record {
    /// What to do
    #[arg(value_enum)]
    pub verb: RecordVerb,
    /// The room
    #[arg(long, value_name = "ROOM", default_value = "main")]
    pub room: Name,
}

/// `palabre completions`.
#[derive(Args, Debug)]
pub struct Completions {
    /// The shell
    pub shell: Shell,
}

/// `palabre man`.
#[derive(Args, Debug)]
pub struct Man {
    /// Write palabre.1 into this directory instead of to standard output
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
}

/// A time, or one that comes after so long.
fn moment(text: &str) -> Result<Moment, String> {
    let unit = text.trim_start_matches(|digit: char| digit.is_ascii_digit());
    let seconds = match unit {
        "min" => 60,
        "h" => 60 * 60,
        "d" => 24 * 60 * 60,
        "w" => 7 * 24 * 60 * 60,
        _ => return text.parse().map_err(|_| "use 30min, 12h, 7d, 2w, or a time like 2026-12-31T18:00:00Z".to_owned()),
    };
    let count: Option<u64> = text.strip_suffix(unit).and_then(|count| count.parse().ok());
    let time = count.and_then(|count| count.checked_mul(seconds)).map(Duration::from_secs);
    let moment = time.and_then(|time| Moment::after(SystemTime::now(), time));
    moment.ok_or_else(|| "this is no time before the year 10000".to_owned())
}

/// A gain that is a number.
fn decibels(text: &str) -> Result<Gain, String> {
    match text.parse() {
        Ok(Gain::Mute) => Err("use a number of decibels, -60 to 20".to_owned()),
        other => other.map_err(|error| error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    /// What clap doesn't break by itself; a terminal of the usual width shows it as it was written.
    const WIDTH: usize = 80;

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }

    #[test]
    fn an_expiry_is_a_time_or_comes_after_some() {
        assert_eq!(
            moment("2026-12-31T18:00:00Z").map(|moment| moment.to_string()).as_deref(),
            Ok("2026-12-31T18:00:00Z")
        );
        let (now, week) = (SystemTime::now(), Duration::from_secs(7 * 24 * 60 * 60));
        for text in ["1w", "7d", "168h", "10080min"] {
            let left = moment(text).ok().and_then(|moment| moment.left(now));
            assert!(left.is_some_and(|left| left <= week + Duration::from_secs(60) && left > week / 2), "{text}");
        }
        for bad in ["", "d", "7", "7 d", "-1d", "7days", "99999999999999999999d", "999999999d", "2026-12-31"] {
            assert!(moment(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn every_command_has_examples_and_no_line_of_them_is_broken() {
        let mut command = Cli::command();
        command.build();
        let commands = command.get_subcommands().filter(|command| command.get_name() != "help").chain([&command]);
        for command in commands {
            let text = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            assert!(text.starts_with("Examples:\n  "), "{}", command.get_name());
            for line in text.lines() {
                assert!(line.chars().count() <= WIDTH, "{}: {line}", command.get_name());
            }
        }
    }
}
