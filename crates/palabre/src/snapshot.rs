//! The part of the status that doesn't come from the supervisor: levels, CPU and memory, connections, systemd's units.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use palabre_config::control::{MixerState, ParticipantStatus, Status};
use palabre_host::usage::{self, Usage};
use palabre_room::{LevelLine, RoomDir};

use crate::output::word;
use crate::units::{self, Unit};
use crate::{cli, processes};

const MIXER: &str = "palabre-mixer";

/// Levels, connections, processes and daemons at one time.
#[derive(Debug, Default)]
pub(crate) struct Snapshot {
    /// Number of TCP connections by local port.
    pub(crate) connections: BTreeMap<u16, usize>,
    /// Levels by room and login name.
    pub(crate) levels: BTreeMap<(String, String), LevelLine>,
    /// CPU and memory usage by process id.
    pub(crate) usage: BTreeMap<u32, Usage>,
    /// The daemons other than listeners.
    pub(crate) daemons: Vec<Daemon>,
    /// Participant and process id of each listener whose process is stopped, for example by SIGSTOP.
    pub(crate) stopped: BTreeMap<String, u32>,
}

/// A daemon other than a listener.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Daemon {
    pub(crate) program: String,
    /// Process id; `None` if the daemon doesn't run.
    pub(crate) pid: Option<u32>,
    /// The daemon's systemd unit, if it has one.
    pub(crate) unit: Option<Unit>,
    /// Whether the process is stopped, for example by SIGSTOP.
    pub(crate) is_stopped: bool,
}

impl Daemon {
    /// Creates a daemon without a systemd unit.
    pub(crate) fn new(program: String, pid: Option<u32>) -> Self {
        Self { program, pid, unit: None, is_stopped: pid.is_some_and(usage::is_stopped) }
    }

    pub(crate) fn state(&self) -> &str {
        match &self.unit {
            _ if self.is_stopped => "stopped",
            Some(unit) => &unit.state,
            None if self.pid.is_some() => "running",
            None => "missing",
        }
    }

    pub(crate) fn restarts(&self) -> Option<u64> {
        self.unit.as_ref().map(|unit| unit.restarts)
    }

    pub(crate) fn last_exit(&self) -> Option<&String> {
        self.unit.as_ref()?.last_exit.as_ref()
    }
}

impl Snapshot {
    /// Reads everything except the state of systemd's units.
    pub(crate) fn now(run: &Path, status: &Status) -> Self {
        let daemon = |(program, pid)| Daemon::new(program, Some(pid));
        let mut daemons: Vec<Daemon> = processes::daemons(run).into_iter().map(daemon).collect();
        if status.mixer == Some(MixerState::Missing) {
            daemons.push(Daemon::new(MIXER.to_owned(), None));
        }
        let listeners = status.participants.iter().filter_map(|participant| participant.pid);
        let pids = listeners.chain(daemons.iter().filter_map(|daemon| daemon.pid));
        let usage = pids.filter_map(|pid| Some((pid, usage::of(pid)?))).collect();
        let pids = status.participants.iter().filter_map(|one| Some((one.name.clone(), one.pid?)));
        let stopped = pids.filter(|(_, pid)| usage::is_stopped(*pid)).collect();
        let mut snapshot = Self { connections: usage::connections(), levels: BTreeMap::new(), usage, daemons, stopped };
        snapshot.read_levels(run, status);
        snapshot
    }

    /// Adds the state of systemd's units to the daemons that run in them. A unit without a process is added only if it is not `dead` and `run` is
    /// the default directory, which the units use.
    pub(crate) fn add_systemd(&mut self, run: &Path) {
        self.add_units(units::query(&units::PROGRAMS), run == Path::new(cli::RUN));
    }

    pub(crate) fn add_units(&mut self, units: BTreeMap<String, Unit>, is_default: bool) {
        for (program, unit) in units {
            let same =
                |daemon: &&mut Daemon| daemon.pid == unit.pid && (daemon.pid.is_some() || daemon.program == program);
            match self.daemons.iter_mut().find(same) {
                Some(daemon) => daemon.unit = Some(unit),
                // Omit `dead` units, which were never started or were stopped by the operator.
                None if is_default && unit.pid.is_none() && unit.state != "dead" => {
                    self.daemons.push(Daemon { unit: Some(unit), ..Daemon::new(program, None) });
                }
                None => {}
            }
        }
    }

    /// Returns a message, and a shell command that helps, for each stopped daemon, for each stopped listener and for a missing mixer.
    /// A process is stopped, for example, by SIGSTOP. `run` is the runtime directory.
    pub(crate) fn faults(&self, run: &Path) -> Vec<(String, String)> {
        let fault = |daemon: &Daemon| {
            let program = &daemon.program;
            let effect = if program == MIXER { ": all rooms are silent" } else { "" };
            match (daemon.pid, &daemon.unit) {
                (Some(pid), _) if daemon.is_stopped => {
                    Some((format!("{program} is stopped{effect}"), format!("kill -CONT {pid}")))
                }
                (None, Some(_)) if program == MIXER => {
                    Some((format!("no {program} runs{effect}"), format!("systemctl restart {program}")))
                }
                (None, None) if program == MIXER => {
                    let rooms = run.join("rooms");
                    Some((format!("no {program} runs{effect}"), format!("{program} --rooms {} &", word(&rooms))))
                }
                _ => None,
            }
        };
        let listener = |(name, pid): (&String, &u32)| {
            let text =
                format!("the process of the listener of '{name}' is stopped: the participant's page can't connect");
            (text, format!("kill -CONT {pid}"))
        };
        self.daemons.iter().filter_map(fault).chain(self.stopped.iter().map(listener)).collect()
    }

    /// Reads the levels again. They change faster than the rest of the snapshot.
    pub(crate) fn read_levels(&mut self, run: &Path, status: &Status) {
        self.levels.clear();
        // If the mixer doesn't work, the files `levels` are old, so no levels are read.
        if status.mixer.is_some_and(|mixer| mixer != MixerState::Running) {
            return;
        }
        let rooms: BTreeSet<&String> = status.participants.iter().map(|participant| &participant.room).collect();
        for room in rooms {
            let lines = RoomDir::new(run.join("rooms").join(room)).levels().unwrap_or_default();
            self.levels.extend(lines.into_iter().map(|line| ((room.clone(), line.name.to_string()), line)));
        }
    }

    /// Returns a participant's level; `None` during silence.
    pub(crate) fn level(&self, participant: &ParticipantStatus) -> Option<&LevelLine> {
        self.levels.get(&(participant.room.clone(), participant.name.clone()))
    }

    /// Returns the number of TCP connections to a participant's port.
    pub(crate) fn connections(&self, participant: &ParticipantStatus) -> usize {
        self.connections.get(&participant.port).copied().unwrap_or(0)
    }

    /// Returns CPU and memory of a process.
    pub(crate) fn usage(&self, pid: Option<u32>) -> Option<Usage> {
        pid.and_then(|pid| self.usage.get(&pid)).copied()
    }
}
