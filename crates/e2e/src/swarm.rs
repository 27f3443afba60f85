//! `palabre swarm` in a suite. Its report says which participants lost which records, when, and which mixes were wrong.

use std::fs::{self, File};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::link::Link;
use crate::suite::{Suite, TIMEOUT, binary, signal};
use crate::wait::wait_for;

/// Maximum time from the end of the measurement to the end of the program.
const END: Duration = Duration::from_secs(30);

/// Returns a line for each period in which records of a participant were missing, from a report.
#[must_use]
pub fn losses(report: &Value) -> Vec<String> {
    let participants = report["participants"].as_array().into_iter().flatten();
    let faults =
        participants.flat_map(|one| one["faults"].as_array().into_iter().flatten().map(move |fault| (one, fault)));
    let missing =
        faults.filter(|(_, fault)| fault["what"].as_str().is_some_and(|what| what.starts_with("records are missing")));
    missing
        .map(|(one, fault)| {
            format!(
                "{}: {} records in {} ms at {} s; {}",
                one["name"], fault["records"], fault["ms"], fault["at_s"], one["error"]
            )
        })
        .collect()
}

/// A running `palabre swarm`. Dropping this value ends it.
#[derive(Debug)]
pub struct Swarm {
    child: Child,
    files: tempfile::TempDir,
}

impl Swarm {
    /// Starts a swarm of the participants of `links`, the first `talkers` of whom talk, and waits until the measurement has begun. The swarm trusts
    /// the certificates in this PEM file.
    pub fn start(suite: &Suite, links: &[Link], certificates: &Path, talkers: usize, seconds: u64) -> Result<Self> {
        let files = tempfile::Builder::new().prefix("palabre-swarm-").tempdir()?;
        let path = |name: &str| files.path().join(name);
        let lines: String = links.iter().map(|link| format!("{} {}\n", link.name, link.url)).collect();
        fs::write(path("links"), lines)?;
        let child = Command::new(binary("palabre")?)
            .arg("--run")
            .arg(suite.dir().join("run"))
            .args(["swarm", "--json", "--talkers", &talkers.to_string(), "--seconds", &seconds.to_string(), "--links"])
            .arg(path("links"))
            .arg("--certificate")
            .arg(certificates)
            .stdin(Stdio::null())
            .stdout(File::create(path("report"))?)
            .stderr(File::create(path("progress"))?)
            .spawn()?;
        let mut swarm = Self { child, files };
        let timeout = TIMEOUT + Duration::from_millis(200) * u32::try_from(links.len())?;
        wait_for("the beginning of the measurement", timeout, || {
            (swarm.progress().contains(" records missing, ") || swarm.has_ended()).then_some(())
        })?;
        if swarm.has_ended() {
            bail!("'palabre swarm' ended before its measurement: {}", swarm.progress());
        }
        Ok(swarm)
    }

    /// Returns the process ID.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Returns whether the program has ended.
    pub fn has_ended(&mut self) -> bool {
        !matches!(self.child.try_wait(), Ok(None))
    }

    /// Ends the measurement now, and returns the report as JSON.
    pub fn stop(mut self) -> Result<Value> {
        if !self.has_ended() {
            signal(self.child.id(), "INT")?;
        }
        self.report()
    }

    /// Waits for the end of the measurement, and returns the report as JSON.
    pub fn finish(mut self, timeout: Duration) -> Result<Value> {
        wait_for("the end of 'palabre swarm'", timeout + END, || self.has_ended().then_some(()))?;
        self.report()
    }

    fn report(&mut self) -> Result<Value> {
        wait_for("the end of 'palabre swarm'", END, || self.has_ended().then_some(()))?;
        let report = fs::read_to_string(self.files.path().join("report"))?;
        serde_json::from_str(&report).with_context(|| format!("'palabre swarm' printed no report: {}", self.progress()))
    }

    fn progress(&self) -> String {
        fs::read_to_string(self.files.path().join("progress")).unwrap_or_default()
    }
}

impl Drop for Swarm {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
