//! `palabre try --machines`: several complete rooms, each with a bridge, and one NATS server on loopback.

use std::ffi::OsString;
use std::net::{Ipv4Addr, TcpListener};
use std::time::{Duration, Instant};

use palabre_host::executable;
use palabre_host::exit::Failure;
use palabre_host::signals::{SIGCHLD, Signals};

use crate::bots::Bots;
use crate::daemon::{self, Daemon};
use crate::messages;
use crate::options::Options;
use crate::room::{READY_TIMEOUT, Room};

/// Names of the machines, in the order in which they are used.
const NAMES: [&str; 5] = ["lyon", "paris", "lille", "nantes", "brest"];

/// A machine. The fields are dropped in the order of their declaration: the bridge says goodbye before its room ends.
struct Machine {
    name: &'static str,
    bridge: Daemon,
    _bots: Option<Bots>,
    room: Room,
    is_shown: bool,
}

/// All machines, which end before the NATS server.
struct Machines {
    machines: Vec<Machine>,
    nats: Daemon,
}

/// Runs `count` machines until a signal other than SIGCHLD arrives.
pub(crate) fn run(options: &Options, count: usize, verbosity: u8, signals: &mut Signals) -> Result<(), Failure> {
    let mut machines = Machines::start(options, count, verbosity)?;
    messages::machines_starting(count);
    let result = machines.watch(signals);
    messages::ending();
    drop(machines);
    result
}

impl Machines {
    fn start(options: &Options, count: usize, verbosity: u8) -> Result<Self, Failure> {
        let nats = executable::find_in_path("nats-server").ok_or_else(|| {
            Failure::system("unable to find 'nats-server' in PATH; install the package 'nats-server' for '--machines'")
        })?;
        let bridge = daemon::find("palabre-bridge")?;
        let port = free_port()?;
        let mut options = options.clone();
        let mut rooms = Vec::new();
        for name in NAMES.into_iter().take(count) {
            let room = Room::start(&options, &settings(name, port), verbosity)?;
            options.first_port = room.next_port();
            rooms.push((name, room));
        }
        let log = rooms[0].1.log().clone();
        let nats_log = rooms[0].1.directory().log().with_extension("nats");
        let mut arguments = ["-a", "127.0.0.1", "-p", &port.to_string(), "-l"].map(OsString::from).to_vec();
        arguments.push(nats_log.into_os_string());
        let nats = Daemon::start_without_parent(nats, arguments, log)?;
        let mut machines = Vec::new();
        for (name, room) in rooms {
            let bots = (machines.is_empty() && !options.no_voices).then(|| room.start_bots()).transpose()?;
            let bridge = room.start_bridge(&bridge, verbosity)?;
            machines.push(Machine { name, bridge, _bots: bots, room, is_shown: false });
        }
        Ok(Self { machines, nats })
    }

    fn watch(&mut self, signals: &mut Signals) -> Result<(), Failure> {
        let began = Instant::now();
        let mut reported = false;
        loop {
            let restart = self.supervise();
            let status = self.show_ready();
            if status.is_some() && !reported && began.elapsed() > READY_TIMEOUT {
                reported = true;
                self.machines.iter().filter(|machine| machine.room.is_starting()).for_each(|m| m.room.report_late());
            }
            let status = status.map(|interval| Instant::now() + interval);
            let wake = restart.into_iter().chain(status).min();
            let timeout = wake.map(|wake| wake.saturating_duration_since(Instant::now()));
            match signals.wait(timeout).map_err(Failure::system)? {
                Some(SIGCHLD) | None => {}
                Some(_) => {
                    self.machines.iter().for_each(|machine| machine.room.silence());
                    return Ok(());
                }
            }
        }
    }

    /// Restarts daemons that have ended. Returns the time of the next restart.
    fn supervise(&mut self) -> Option<Instant> {
        let now = Instant::now();
        let nats = self.nats.supervise(now);
        let machines = self.machines.iter_mut();
        let others = machines.flat_map(|machine| [machine.room.supervise(), machine.bridge.supervise(now)]);
        others.flatten().chain(nats).min()
    }

    /// Prints the links of each machine whose listeners are all ready, in the order of the machines. Returns the time to wait until the next call
    /// if some machines are not ready yet.
    fn show_ready(&mut self) -> Option<Duration> {
        if self.machines.iter().all(|machine| machine.is_shown) {
            return None;
        }
        for machine in self.machines.iter_mut().filter(|machine| !machine.is_shown) {
            machine.room.newly_ready();
            if machine.room.is_starting() {
                return Some(machine.room.status_interval());
            }
            machine.show();
        }
        let logs: Vec<_> = self.machines.iter().map(|machine| machine.room.directory().log()).collect();
        messages::machines_ready(&logs);
        None
    }
}

impl Machine {
    fn show(&mut self) {
        self.is_shown = true;
        self.room.write_links();
        messages::machine(self.name);
        let entries = self.room.entries();
        let width = entries.iter().map(|entry| entry.display_name.chars().count()).max().unwrap_or(0);
        for (entry, (_, link)) in entries.iter().zip(self.room.links()) {
            messages::link(entry, width, link, None);
        }
    }
}

fn settings(machine: &str, port: u16) -> String {
    format!("[bridge]\nmachine = \"{machine}\"\nrooms = [\"main\"]\nservers = [\"nats://127.0.0.1:{port}\"]\n")
}

/// Returns a port on loopback that is free now.
fn free_port() -> Result<u16, Failure> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|listener| listener.local_addr());
    listener
        .map(|address| address.port())
        .map_err(|error| Failure::system(format!("unable to find a free port for 'nats-server' on 127.0.0.1: {error}")))
}
