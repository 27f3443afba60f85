//! A soak test: `palabre swarm` checks a room in which participants come and go, listeners are restarted and the certificate is renewed. Meanwhile memory,
//! descriptors and threads of the processes are sampled. The result says which of these quantities grow.

mod churn;
mod growth;
mod options;
mod samples;

use std::fs;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use crate::processes::prefer;
use crate::suite::{Suite, TIMEOUT, binary};
use crate::swarm::Swarm;
use crate::wait::wait_for;

use churn::Churn;
pub use growth::Growth;
pub use options::Options;
use samples::Samples;

/// The result of a soak test.
#[derive(Debug)]
pub struct Outcome {
    /// Whether each quantity grows.
    pub growth: Vec<Growth>,
    /// The report of `palabre swarm`.
    pub swarm: Value,
    /// Numbers of joins, leaves, restarts and renewals.
    pub events: [usize; 4],
    /// Processes and entries of the room that exist after the last guest has left and did not exist before the first guest joined, and daemons that
    /// have no process, or more descriptors than before.
    pub left: Vec<String>,
}

/// Runs the test, and writes its results into the directory of the options: `samples.csv`, `events.csv`, `swarm.json`, `summary.json`, and plots.
pub fn run(options: &Options) -> Result<Outcome> {
    fs::create_dir_all(&options.out)?;
    let suite = Suite::start(options.participants)?;
    let exporter = Exporter::start(&suite)?;
    let mut churn = Churn::new(&suite, options)?;
    suite.palabre(&["record", "start"])?;
    let descriptors = Descriptors::of(&suite)?;
    let swarm =
        Swarm::start(&suite, &suite.links, &churn.certificates(), options.talkers, options.time.as_secs() + 3600)?;
    // Lower the niceness of the swarm and the mixer, so that other programs of this machine don't disturb the measurement. Under systemd the
    // mixer has the same niceness.
    prefer(swarm.pid());
    suite.process("palabre-mixer", "").into_iter().for_each(prefer);
    let before = inventory(&suite);
    let mut samples = Samples::new(suite.pid(), exporter.0.id(), swarm.pid());
    let began = Instant::now();
    let (mut sampled, mut failed) = (None, None);
    while began.elapsed() < options.time {
        let now = began.elapsed();
        if sampled.is_none_or(|at| now >= at + options.interval) {
            sampled = Some(now);
            samples.take(now);
        }
        if let Err(error) = churn.step(now) {
            failed = Some(error);
            break;
        }
        std::thread::sleep((churn.next() + Duration::from_millis(1)).saturating_sub(began.elapsed()));
    }
    churn.end()?;
    let report = swarm.stop()?;
    let mut left = Vec::new();
    let _ = wait_for("the end of all that belongs to the guests", TIMEOUT, || {
        left = inventory(&suite).into_iter().filter(|entry| !before.contains(entry)).collect();
        left.extend(descriptors.left());
        left.is_empty().then_some(())
    });
    suite.palabre(&["record", "stop"])?;
    let outcome = Outcome { growth: growth::of(&samples, &report), swarm: report, events: churn.counts(), left };
    write(options, &samples, &churn, &outcome)?;
    drop(exporter);
    suite.stop()?;
    failed.map_or(Ok(outcome), Err)
}

/// Returns the names of all processes of the suite, and of all files and directories of the room, except the text messages of the meeting.
fn inventory(suite: &Suite) -> Vec<String> {
    let programs = crate::processes::programs(suite.pid());
    let mut names: Vec<String> =
        programs.into_iter().map(|(_, program, argument)| format!("process {program} {argument}")).collect();
    let mut directories = vec![suite.room()];
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(&directory).into_iter().flatten().flatten() {
            if entry.file_name() == "texts" {
                continue;
            }
            names.push(format!("file {}", entry.path().display()));
            directories.extend(entry.file_type().is_ok_and(|kind| kind.is_dir()).then(|| entry.path()));
        }
    }
    names
}

/// The numbers of descriptors of the daemons before the swarm has begun.
struct Descriptors<'a>(&'a Suite, Vec<(&'static str, usize)>);

impl<'a> Descriptors<'a> {
    fn of(suite: &'a Suite) -> Result<Self> {
        let daemon = |program| {
            let count = count(suite, program).with_context(|| format!("no process of {program}"))?;
            anyhow::Ok((program, count))
        };
        let daemons = ["palabre-mixer", "palabre-supervisor", "palabre-signer"];
        Ok(Self(suite, daemons.into_iter().map(daemon).collect::<Result<_>>()?))
    }

    /// Returns a text for each daemon that has no process now, or more descriptors than at the first count. A few more are allowed, for
    /// example for the recording, which may have begun only after the first count. One for each guest would be more.
    fn left(&self) -> impl Iterator<Item = String> {
        const ALLOWED: usize = 3;
        let now = self.1.iter().map(|(program, before)| (program, *before, count(self.0, program)));
        let more = now.filter(|(_, before, now)| now.is_none_or(|now| now > before + ALLOWED));
        more.map(|(program, before, now)| match now {
            Some(now) => format!("{program}: {now} descriptors, {before} before"),
            None => format!("{program}: no process"),
        })
    }
}

/// Returns the number of descriptors of a daemon. Returns `None` if the daemon doesn't run.
fn count(suite: &Suite, program: &str) -> Option<usize> {
    let pid = suite.process(program, "")?;
    fs::read_dir(format!("/proc/{pid}/fd")).ok().map(Iterator::count)
}

/// A `palabre-exporter` that serves the suite's metrics.
struct Exporter(Child);

impl Exporter {
    fn start(suite: &Suite) -> Result<Self> {
        let child = Command::new(binary("palabre-exporter")?)
            .args(["--listen", "127.0.0.1:0", "--run"])
            .arg(suite.dir().join("run"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .context("unable to start palabre-exporter")?;
        Ok(Self(child))
    }
}

impl Drop for Exporter {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn write(options: &Options, samples: &Samples, churn: &Churn<'_>, outcome: &Outcome) -> Result<()> {
    let path = |name: &str| options.out.join(name);
    fs::write(path("samples.csv"), samples.csv())?;
    fs::write(path("events.csv"), churn.csv())?;
    fs::write(path("swarm.json"), serde_json::to_string_pretty(&outcome.swarm)?)?;
    let growth: Vec<Value> = outcome.growth.iter().map(Growth::json).collect();
    let [joins, leaves, restarts, renewals] = outcome.events;
    let summary = json!({
        "seconds": options.time.as_secs_f64(), "participants": options.participants, "talkers": options.talkers, "joins": joins, "leaves": leaves,
        "restarts": restarts, "renewals": renewals, "missing": outcome.swarm["missing"], "wrong": outcome.swarm["wrong"], "left": outcome.left,
        "growth": growth,
    });
    fs::write(path("summary.json"), serde_json::to_string_pretty(&summary)?)?;
    for (name, plot) in growth::plots(samples, &outcome.swarm) {
        fs::write(path(name), plot)?;
    }
    if outcome.growth.is_empty() {
        bail!("no quantity was sampled often enough");
    }
    Ok(())
}
