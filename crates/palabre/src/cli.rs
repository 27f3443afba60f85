//! The command line of `palabre` and the text of every `--help`.
//!
//! The manual page and the shell completions are made from these definitions.

use std::path::{Path, PathBuf};

use clap::{Parser, Subcommand};

mod complete;
mod exec_mixer;
mod look;
mod moving;
mod participants;
mod proxy_config;
mod restart;
mod self_sign;
mod shell;
mod sound;
mod values;

pub(crate) use exec_mixer::ExecMixer;
pub(crate) use look::{Check, List, Logs, Rooms, Status, Top};
pub(crate) use moving::{Export, Import};
pub(crate) use participants::{Change, Invite, Move, Rename, Revoke, SetGain, Targets};
pub(crate) use proxy_config::{Proxy, ProxyConfig};
pub(crate) use restart::{Reload, Restart};
pub(crate) use self_sign::SelfSign;
pub(crate) use shell::{Completions, Man};
pub(crate) use sound::{Mix, Play, Record, RecordVerb, Tap};
pub(crate) use values::{CONFIG, Expiry, RUN, Switch, any_expiry};

/// Operate Palabre, a voice room for people who have only a browser
#[derive(Debug, Parser)]
#[command(name = "palabre", version, max_term_width = 100, propagate_version = false)]
#[command(after_help = "\
Examples:
  palabre try                        run a trial room on this machine
  palabre invite alice               add a participant, print the link
  palabre status                     show the state of every listener

Exit status: 0 done, 1 refused, 2 usage error, 78 configuration error,
111 system error.
Manual: palabre(1), palabre-supervisor(8), palabre-listener(8), palabre-mixer(8)")]
pub(crate) struct Cli {
    /// Directory of palabre.toml and participants.d/ [default: /etc/palabre]
    #[arg(long, global = true, value_name = "DIR", help_heading = "Common options")]
    pub(crate) config: Option<PathBuf>,
    /// Runtime directory with the rooms and the control socket [default: /run/palabre]
    #[arg(long, global = true, value_name = "DIR", help_heading = "Common options")]
    pub(crate) run: Option<PathBuf>,
    /// With 'palabre try' and 'swarm': print all log lines of the daemons; -vv adds lines for debugging
    #[arg(short, long, global = true, action = clap::ArgAction::Count, help_heading = "Common options")]
    pub(crate) verbose: u8,
    #[command(subcommand)]
    pub(crate) command: Command,
}

impl Cli {
    /// Returns the directory of the configuration.
    pub(crate) fn config_dir(&self) -> &Path {
        self.config.as_deref().unwrap_or(Path::new(CONFIG))
    }

    /// Returns the runtime directory.
    pub(crate) fn run_dir(&self) -> &Path {
        self.run.as_deref().unwrap_or(Path::new(RUN))
    }
}

/// The subcommands.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Show every participant's listener: state, port, connections, level, CPU, memory, restarts
    #[command(after_help = look::STATUS)]
    Status(Status),
    /// Check configuration, certificate, ports, limits and directories, and print a remedy for each fault
    #[command(after_help = look::CHECK)]
    Check(Check),
    /// Show the status continuously, with level meters
    #[command(after_help = look::TOP)]
    Top(Top),
    /// Show the log of a participant's listener, or of all daemons, from the journal
    #[command(after_help = look::LOGS)]
    Logs(Logs),
    /// Replace a listener, all listeners, the mixer or the supervisor by a new process
    #[command(after_help = restart::EXAMPLES)]
    Restart(Restart),
    /// Stop the listeners of participants and close their ports
    #[command(after_help = "\
Examples:
  palabre stop alice
  palabre stop bob carol             a failure for one doesn't hinder the other

All connections end within 1.5 s, and the port refuses new ones. The listener
stays stopped until 'palabre start' or until the supervisor's service is
restarted. To exclude a participant permanently, use 'palabre revoke'.")]
    Stop(Targets),
    /// Start listeners that were stopped or have failed
    #[command(after_help = "\
Examples:
  palabre start alice
  palabre start bob carol")]
    Start(Targets),
    /// Close the connections of participants, who may connect again
    #[command(after_help = "\
Examples:
  palabre kick alice
  palabre kick bob carol

An open page connects again within seconds. To keep a participant out, use
'palabre stop' or 'palabre revoke'.")]
    Kick(Targets),
    /// Make the supervisor read the configuration again
    #[command(after_help = "\
Examples:
  palabre reload                     after a change of palabre.toml, of a
                                     participant's file or of the certificate
  palabre reload --dry-run           what this would change

Only listeners whose configuration changed are replaced, without losing sound.
The command waits until all changes are complete and prints the outcome for each
participant. If something can't be used (a file, a port, the certificate), the
listeners serve as before, and the exit status is not 0.")]
    Reload(Reload),
    /// Make a self-signed certificate; fails if a certificate or its key exists
    #[command(after_help = self_sign::EXAMPLES)]
    SelfSign(SelfSign),
    /// Add a participant: write the file, reload the supervisor, print the invitation link
    #[command(after_help = participants::INVITE)]
    Invite(Invite),
    /// Change a participant's display name
    #[command(after_help = "\
Examples:
  palabre rename bob 'Bob le Bricoleur'

The login name stays, and with it the port, the link and the file. To change the
login name, revoke the participant and invite them again. If the participant has
chosen a display name on the page, DISPLAY_NAME replaces it.")]
    Rename(Rename),
    /// Mute participants for everyone
    #[command(after_help = "\
Examples:
  palabre mute bob
  palabre mute bob carol

The setting is stored in the participant's file, and shown on their page.")]
    Mute(Targets),
    /// Unmute participants
    #[command(after_help = "\
Examples:
  palabre unmute bob")]
    Unmute(Targets),
    /// Set the gain of the named participants' sound in the mixes of all others
    #[command(after_help = "\
Examples:
  palabre gain bob -6
  palabre gain bob carol 0

The setting is stored in the participant's file.")]
    Gain(SetGain),
    /// Change the expiry of links, or whether participants only listen; the links themselves don't change
    #[command(after_help = "\
Examples:
  palabre change alice --expires 30d
  palabre change alice bob --expires never
  palabre change guest --listen-only
  palabre change guest --no-listen-only --expires 2026-12-31T18:00:00Z

Connections go on, unless the link has expired. To change the display name, use
'palabre rename'; the room, 'palabre move'; the key, 'palabre invite NAME
--new-key'.")]
    Change(Change),
    /// Suspend participants: their links don't work until 'palabre resume'
    #[command(after_help = "\
Examples:
  palabre suspend bob
  palabre suspend bob carol

The participants' connections end, and their pages say why. Key, port and
room stay the same. The setting is stored in the participants' files, so it
survives a reboot.")]
    Suspend(Targets),
    /// Resume suspended participants: their links work again
    #[command(after_help = "\
Examples:
  palabre resume bob")]
    Resume(Targets),
    /// Sign out the named participants in all their browsers: each browser must open the link again
    #[command(after_help = "\
Examples:
  palabre sign-out bob
  palabre sign-out bob carol

Use this for a lost or borrowed device. The cookies of the participants'
browsers become invalid, and the connections end. The link stays valid: if
others may have it, use 'palabre invite NAME --new-key' instead. A one-time link
can't be opened again, so the participant needs a new link.")]
    SignOut(Targets),
    /// Move participants to another room
    #[command(after_help = "\
Examples:
  palabre move bob workshop
  palabre move bob carol main        the last argument is the room

The participants' connections end within 1.5 s. An open page connects again by
itself, in the new room. The port and the link stay.")]
    Move(Move),
    /// List the participants: room, port, gain, expiry of the key
    #[command(after_help = "\
Examples:
  palabre list
  palabre list --everywhere                  also the people on other machines
  palabre list --json | jq -r '.participants[]|select(.muted).name'

The list comes from the participants' files, and the state from the supervisor
if one runs. People on other machines come from palabre-bridge.")]
    List(List),
    /// List the rooms: participants, who is connected, who is talking
    #[command(after_help = "\
Examples:
  palabre rooms
  palabre rooms --json | jq -r '.rooms[]|select(.recorded).name'")]
    Rooms(Rooms),
    /// Remove participants: delete their files, reload the supervisor
    #[command(after_help = "\
Examples:
  palabre revoke alice
  palabre revoke bob carol
  palabre revoke bob --json | jq -r '.participants[].again'

The participant's connections end, and the link becomes invalid. To invite the
participant again, run the 'palabre invite' command that 'palabre revoke'
prints. It keeps the name, the room and the port. The link is new, and all other
settings, such as display name, expiry and listen-only, are the defaults.")]
    Revoke(Revoke),
    /// Write a document with everything that another machine needs to make the same participants
    #[command(after_help = moving::EXPORT)]
    Export(Export),
    /// Make the participants of a document that 'palabre export' has written on another machine
    #[command(after_help = moving::IMPORT)]
    Import(Import),
    /// Execute the mixer in this process, with the setting 'sandbox' of palabre.toml as its option --sandbox
    #[command(hide = true)]
    ExecMixer(ExecMixer),
    /// Print a configuration of nginx or HAProxy that serves all participants on one port
    #[command(after_help = proxy_config::EXAMPLES)]
    ProxyConfig(ProxyConfig),
    /// Run a complete room in the foreground, without configuration
    #[command(after_help = "\
Examples:
  palabre try                        two participants, this machine only
  palabre try --open                 also open two browser windows
  palabre try --lan                  for phones and others on the local network
  palabre try --dir ~/palabre-try    keep keys, ports and certificate
  palabre try --machines 3           one room on three machines

Nothing is installed, and root is not needed. Ctrl-C ends the room and removes
its files, except those in the directory of --dir.")]
    Try(palabre_trial::Options),
    /// Measure how many participants this machine can serve, and check what they hear
    #[command(after_help = "\
Examples:
  palabre swarm                      100 participants, 5 of whom talk
  palabre swarm --participants 500 --talkers 10 --seconds 60
  palabre swarm --participants 1000 --chunk-ms 100 --json > swarm.json
  palabre swarm --links links --certificate /etc/palabre/tls/cert.pem

Without --links, the command starts a room of its own on free ports and removes
it at the end. Exit status 1: records were missing, mixes were wrong,
or nothing could be measured.")]
    Swarm(palabre_swarm::Options),
    /// Mix WAV files: for each input, write the sum of all other inputs
    #[command(after_help = sound::MIX)]
    Mix(Mix),
    /// Play a WAV file into a room, as a participant of its own
    #[command(after_help = sound::PLAY)]
    Play(Play),
    /// Write what a participant hears to standard output, as a continuous WAV
    #[command(after_help = sound::TAP)]
    Tap(Tap),
    /// Record a room: one WAV file per speaker and one of the mix, aligned
    #[command(after_help = sound::RECORD)]
    Record(Record),
    /// Print a completion script for a shell
    #[command(after_help = "\
Examples:
  palabre completions bash > /usr/share/bash-completion/completions/palabre
  palabre completions zsh > /usr/local/share/zsh/site-functions/_palabre
  palabre completions fish > ~/.config/fish/completions/palabre.fish

The script runs palabre, which offers commands, options, and the names of
participants and rooms. A user who may not read the names is offered none.")]
    Completions(Completions),
    /// Print the manual page palabre(1) in roff format
    #[command(after_help = "\
Examples:
  palabre man | man -l -
  palabre man --out /usr/local/share/man/man1")]
    Man(Man),
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    /// Width of a terminal. clap doesn't wrap the examples.
    const WIDTH: usize = 80;

    #[test]
    fn command_line_is_well_formed() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_command_has_examples_that_fit_the_terminal() {
        let mut command = Cli::command();
        command.build();
        let commands =
            command.get_subcommands().filter(|command| command.get_name() != "help" && !command.is_hide_set());
        let commands = commands.chain([&command]);
        for command in commands {
            let text = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            assert!(text.starts_with("Examples:\n  "), "{}", command.get_name());
            for line in text.lines() {
                assert!(line.chars().count() <= WIDTH, "{}: {line}", command.get_name());
            }
        }
    }
}
