//! Runs several machines of a room as processes on this machine: a suite and a bridge for each, and one NATS server.

use std::ffi::OsStr;
use std::fs::File;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result};
use palabre_e2e::suite::{Suite, TIMEOUT, binary, descendants};
use palabre_e2e::wait_for;
use palabre_room::BridgeReport;

use crate::process::cpu_ms;

/// Names of the machines.
pub const NAMES: [&str; 3] = ["lyon", "paris", "lille"];

/// Running machines. The fields are dropped in the order of their declaration: the bridges end before their rooms.
pub struct Cluster {
    bridges: Vec<Ended>,
    pub suites: Vec<Suite>,
    nats: Ended,
    /// Port of the NATS server.
    pub port: u16,
}

/// A process that is killed when this value is dropped.
struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Cluster {
    /// Starts three machines, each with this number of participants and these lines of `palabre.toml`. Waits until the bridge of each machine is
    /// connected to the bridges of the others. `bridge` has more lines of the section `[bridge]`.
    pub fn start(participants: usize, bridge: &str, palabre_toml: &str) -> Result<Self> {
        Self::start_in(participants, bridge, palabre_toml, &[&[]; NAMES.len()])
    }

    /// Does the same as [`Self::start`], with environment variables for each machine.
    pub fn start_in(
        participants: usize,
        bridge: &str,
        palabre_toml: &str,
        environments: &[&[(&str, &OsStr)]; NAMES.len()],
    ) -> Result<Self> {
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let mut nats = Command::new("nats-server");
        let nats = nats.args(["-a", "127.0.0.1", "-p", &port.to_string()]).stderr(Stdio::null()).spawn();
        let nats = Ended(nats.context("unable to start 'nats-server'; install the package nats-server")?);
        let suites = NAMES.iter().zip(environments).map(|(machine, environment)| {
            let connected = format!(
                "[bridge]\nmachine = \"{machine}\"\nrooms = [\"main\"]\nservers = [\"nats://127.0.0.1:{port}\"]\n"
            );
            let settings = format!("{palabre_toml}{connected}{bridge}\n");
            Suite::start_configured_in(participants, &settings, environment)
        });
        let suites = suites.collect::<Result<Vec<_>>>()?;
        let bridges =
            suites.iter().zip(environments).map(|(suite, environment)| start_bridge(&suite.dir(), environment));
        let bridges = bridges.collect::<Result<_>>()?;
        let cluster = Self { bridges, suites, nats, port };
        wait_for("the connections of all machines", TIMEOUT, || {
            let reports: Option<Vec<BridgeReport>> = (0..NAMES.len()).map(|machine| cluster.report(machine)).collect();
            let is_whole = |report: &BridgeReport| {
                report.links.len() == NAMES.len() - 1 && !report.links.iter().any(|link| link.is_cut_off)
            };
            reports?.iter().all(is_whole).then_some(())
        })?;
        Ok(cluster)
    }

    /// Returns the state of a machine's bridge.
    pub fn report(&self, machine: usize) -> Option<BridgeReport> {
        BridgeReport::read(&self.suites[machine].dir().join("run/rooms")).ok()?
    }

    /// Returns the process ID of a machine's bridge.
    pub fn bridge_pid(&self, machine: usize) -> u32 {
        self.bridges[machine].0.id()
    }

    /// Writes the certificates of all machines into one file, and returns its path.
    pub fn certificates(&self) -> Result<PathBuf> {
        let read = |suite: &Suite| std::fs::read_to_string(suite.dir().join("etc/tls/cert.pem"));
        let all: String = self.suites.iter().map(read).collect::<Result<_, _>>()?;
        let path = self.suites[0].dir().with_file_name("certificates.pem");
        std::fs::write(&path, all)?;
        Ok(path)
    }

    /// Returns the CPU time in ms of the NATS server, of each bridge, of all mixers together and of all listeners together, each with a name.
    pub fn cpu(&self) -> Result<Vec<(String, f64)>> {
        let mut all = vec![("nats-server".to_owned(), cpu_ms(self.nats.0.id())?)];
        for (machine, name) in NAMES.iter().enumerate() {
            all.push((format!("palabre-bridge of {name}"), cpu_ms(self.bridge_pid(machine))?));
        }
        for program in ["palabre-mixer", "palabre-listener"] {
            let pids =
                self.suites.iter().flat_map(|suite| descendants(suite.pid())).filter(|pid| is_named(*pid, program));
            all.push((format!("all {program}"), pids.filter_map(|pid| cpu_ms(pid).ok()).sum()));
        }
        Ok(all)
    }

    /// Ends all machines.
    pub fn stop(self) -> Result<()> {
        drop(self.bridges);
        self.suites.into_iter().try_for_each(Suite::stop)
    }
}

fn start_bridge(dir: &Path, environment: &[(&str, &OsStr)]) -> Result<Ended> {
    let mut command = Command::new(binary("palabre-bridge")?);
    command.arg("--config").arg(dir.join("etc")).arg("--run").arg(dir.join("run"));
    command.envs(environment.iter().copied());
    Ok(Ended(command.stderr(File::create(dir.with_file_name("bridge.log"))?).spawn()?))
}

/// Returns whether the process `pid` runs `program`. The kernel keeps only the first 15 bytes of a process's name.
fn is_named(pid: u32, program: &str) -> bool {
    let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    name.trim() == &program[..program.len().min(15)]
}
