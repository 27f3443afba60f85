//! The part of the status that doesn't come from the supervisor: levels, CPU and memory, connections, systemd's units.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use palabre_config::control::{ParticipantStatus, Status};
use palabre_host::usage::{self, Usage};
use palabre_room::{LevelLine, RoomDir};

use crate::units::{self, Unit};
use crate::{cli, processes};

/// Levels, connections, processes and daemons at one time.
#[derive(Debug, Default)]
pub(crate) struct Snapshot {
    /// Number of TCP connections by port.
    pub(crate) connections: BTreeMap<u16, usize>,
    /// Levels by room and login name.
    pub(crate) levels: BTreeMap<(String, String), LevelLine>,
    /// CPU and memory usage by process id.
    pub(crate) usage: BTreeMap<u32, Usage>,
    /// The daemons other than listeners.
    pub(crate) daemons: Vec<Daemon>,
}

/// A daemon other than a listener.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Daemon {
    pub(crate) program: String,
    /// Process id; `None` if the daemon doesn't run.
    pub(crate) pid: Option<u32>,
    /// The daemon's systemd unit, if it has one.
    pub(crate) unit: Option<Unit>,
}

impl Daemon {
    pub(crate) fn state(&self) -> &str {
        self.unit.as_ref().map_or("running", |unit| &unit.state)
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
        let daemon = |(program, pid)| Daemon { program, pid: Some(pid), unit: None };
        let daemons: Vec<Daemon> = processes::daemons(run).into_iter().map(daemon).collect();
        let listeners = status.participants.iter().filter_map(|participant| participant.pid);
        let pids = listeners.chain(daemons.iter().filter_map(|daemon| daemon.pid));
        let usage = pids.filter_map(|pid| Some((pid, usage::of(pid)?))).collect();
        let mut snapshot = Self { connections: usage::connections(), levels: BTreeMap::new(), usage, daemons };
        snapshot.read_levels(run, status);
        snapshot
    }

    /// Adds the state of systemd's units to the daemons that run in them. A unit without a process is added only if it is not `dead` and `run` is
    /// the default directory, which the units use.
    pub(crate) fn add_systemd(&mut self, run: &Path) {
        let known = ["palabre-exporter", "palabre-mixer", "palabre-supervisor"];
        self.add_units(units::query(&known), run == Path::new(cli::RUN));
    }

    pub(crate) fn add_units(&mut self, units: BTreeMap<String, Unit>, is_default: bool) {
        for (program, unit) in units {
            let same = |daemon: &&mut Daemon| daemon.pid.is_some() && daemon.pid == unit.pid;
            match self.daemons.iter_mut().find(same) {
                Some(daemon) => daemon.unit = Some(unit),
                // Omit `dead` units, which were never started or were stopped by the operator.
                None if is_default && unit.pid.is_none() && unit.state != "dead" => {
                    self.daemons.push(Daemon { program, pid: None, unit: Some(unit) });
                }
                None => {}
            }
        }
    }

    /// Reads the levels again. They change faster than the rest of the snapshot.
    pub(crate) fn read_levels(&mut self, run: &Path, status: &Status) {
        self.levels.clear();
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
