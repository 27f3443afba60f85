//! A room on three machines: how much later the other machines hear, and what the connection costs.

use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use palabre_e2e::browser::Tap;
use palabre_e2e::client::Talker;
use palabre_e2e::link::Link;
use palabre_e2e::suite::{Suite, TIMEOUT};
use palabre_e2e::swarm::Swarm;

use crate::cluster::{Cluster, NAMES};
use crate::join::{join_at, join_without_microphone, wait_for_samples};
use crate::latency::Spoken;
use crate::tone::{TONE_DBFS, TONE_HZ};

/// Participants of each machine.
const PEOPLE: usize = 5;
/// Number of talkers, all of the first machine. `palabre swarm` measures their delay in the streams of three participants who don't talk: first on
/// the talkers' machine, then on another one.
const SWARM_TALKERS: usize = 2;
/// Length of the heads of IPv4 (20 bytes) and TCP with timestamps (32 bytes).
const HEAD_BYTES: f64 = 52.0;
/// Maximum length of a segment's content on Ethernet.
const SEGMENT_BYTES: f64 = 1448.0;

/// Measures delays and costs of a room on three machines, for each of these lines of the section `[bridge]`. Each single measurement lasts
/// `seconds`.
pub fn run(settings: &[&str], seconds: u64) -> Result<()> {
    for &bridge in settings {
        println!("machines: three machines, {}", bridge.replace('\n', ", "));
        let cluster = Cluster::start(PEOPLE, bridge, "[room]\nlevelling = false\n")?;
        delays(&cluster, seconds)?;
        pages(&cluster, seconds)?;
        costs(&cluster, seconds)?;
        cluster.stop()?;
    }
    Ok(())
}

/// Measures the delay from the capture of a sample to its arrival at a client, on the talkers' machine and on another one.
fn delays(cluster: &Cluster, seconds: u64) -> Result<()> {
    let talkers = &cluster.suites[0].links[..SWARM_TALKERS];
    let mut medians = Vec::new();
    for (machine, name) in NAMES.iter().enumerate().take(2) {
        let listeners = &cluster.suites[machine].links[PEOPLE - 3..];
        let links: Vec<Link> = talkers.iter().chain(listeners).cloned().collect();
        let suite = &cluster.suites[0];
        let swarm = Swarm::start(suite, &links, &cluster.certificates()?, SWARM_TALKERS, seconds)?;
        let report = swarm.finish(Duration::from_secs(seconds) + TIMEOUT)?;
        let of = |talker: usize, field: &str| report["talkers"][talker]["delay_ms"][field].as_f64().unwrap_or(f64::NAN);
        let shown: Vec<String> =
            (0..SWARM_TALKERS).map(|talker| format!("{:.0}, {:.0} ms", of(talker, "p50"), of(talker, "p95"))).collect();
        medians.push((0..SWARM_TALKERS).map(|talker| of(talker, "p50")).sum::<f64>() / SWARM_TALKERS as f64);
        println!(
            "  client to client, lyon to {name}: median, p95 of each talker: {}; {} records missing, {} mixes wrong",
            shown.join("; "),
            report["missing"],
            report["wrong"]
        );
    }
    println!("  client to client: the other machine hears {:.0} ms later", medians[1] - medians[0]);
    Ok(())
}

/// Measures the delay from the microphone of a page to the output of a page on the same machine and of one on another, at the same time.
fn pages(cluster: &Cluster, seconds: u64) -> Result<()> {
    let url = |machine: usize, participant: usize| &cluster.suites[machine].links[participant].url;
    let speaker = join_at(url(0, 0))?;
    let (here, there) = (join_without_microphone(url(0, 1))?, join_without_microphone(url(1, 1))?);
    for listener in [&here, &there] {
        wait_for_samples(listener, Tap::Output, 20)?;
    }
    let spoken = Spoken::record_all(&speaker, &[&here, &there], usize::try_from(seconds)?)?;
    let medians = spoken.iter().zip(["the same machine", "another machine"]).map(|(spoken, place)| {
        let (middle, p95) = spoken.delay_ms();
        println!(
            "  page to page on {place}: median {middle:.0} ms, p95 {p95:.0} ms; {} of {} windows found",
            spoken.found().count(),
            spoken.windows()
        );
        middle
    });
    let medians: Vec<f64> = medians.collect();
    println!("  page to page: the other machine hears {:.0} ms later", medians[1] - medians[0]);
    Ok(())
}

/// Prints the bytes between each bridge and the NATS server, and the CPU of all programs.
fn costs(cluster: &Cluster, seconds: u64) -> Result<()> {
    for (talking, what) in [(0, "nobody talks"), (1, "lyon talks"), (3, "all three machines talk")] {
        let talk = |suite: &Suite| Talker::tone(&suite.client, &suite.links[0], TONE_HZ, TONE_DBFS);
        let _talkers: Vec<Talker> = cluster.suites[..talking].iter().map(talk).collect();
        // Leave out the first seconds, in which the machines tell each other who talks: their traffic and CPU time are not typical.
        std::thread::sleep(Duration::from_secs(3));
        let (wire, cpu, began) = (counters(cluster)?, cluster.cpu()?, Instant::now());
        std::thread::sleep(Duration::from_secs(seconds));
        let (wire_after, cpu_after, elapsed_s) = (counters(cluster)?, cluster.cpu()?, began.elapsed().as_secs_f64());
        println!("  {what}:");
        for (name, (before, after)) in NAMES.iter().zip(wire.iter().zip(&wire_after)) {
            let [sends, receives] = [0, 1].map(|way| after[way].since(before[way]).text(elapsed_s));
            println!("    {name} sends {sends}, receives {receives}");
        }
        let used = cpu
            .iter()
            .zip(&cpu_after)
            .map(|((name, before), (_, after))| format!("{name} {:.2} %", (after - before) / 10.0 / elapsed_s));
        println!("    CPU, % of a core: {}", used.collect::<Vec<_>>().join(", "));
    }
    Ok(())
}

/// The data that one end of a connection has sent, by the counters of TCP.
#[derive(Clone, Copy, Debug, Default)]
struct Way {
    bytes: f64,
    segments: f64,
    /// Segments with content.
    full: f64,
}

impl Way {
    fn since(self, before: Self) -> Self {
        let Self { bytes, segments, full } = self;
        Self { bytes: bytes - before.bytes, segments: segments - before.segments, full: full - before.full }
    }

    /// Returns the content, and an estimate of what Ethernet would carry: the loopback interface has segments of any length, Ethernet at most
    /// [`SEGMENT_BYTES`].
    fn text(self, elapsed_s: f64) -> String {
        let more = self.full * ((self.bytes / self.full.max(1.0) / SEGMENT_BYTES).ceil() - 1.0).max(0.0);
        let kbps = |bytes: f64| bytes * 8.0 / 1000.0 / elapsed_s;
        let with_heads = kbps(self.bytes + HEAD_BYTES * (self.segments + more));
        let per_s = (self.segments + more) / elapsed_s;
        format!("{:.1} kbit/s, {with_heads:.1} with TCP and IP ({per_s:.0} segments/s)", kbps(self.bytes))
    }
}

/// Returns what each bridge has sent to the NATS server, and received from it.
fn counters(cluster: &Cluster) -> Result<Vec<[Way; 2]>> {
    let filter = ["-OHtinp", "state", "established", "dport", "=", &format!(":{}", cluster.port)];
    let output =
        Command::new("ss").args(filter).output().context("unable to start 'ss'; install the package iproute2")?;
    let text = String::from_utf8(output.stdout)?;
    let of_machine = |machine: usize| {
        let owner = format!("pid={},", cluster.bridge_pid(machine));
        let line = text.lines().find(|line| line.contains(&owner));
        let line = line.with_context(|| format!("no connection of the bridge of {}", NAMES[machine]))?;
        let value = |name: &str| {
            let value = line.split_whitespace().find_map(|word| word.strip_prefix(name)?.parse::<f64>().ok());
            value.unwrap_or(0.0)
        };
        let way = |bytes, segments, full| Way { bytes: value(bytes), segments: value(segments), full: value(full) };
        let sent = way("bytes_sent:", "segs_out:", "data_segs_out:");
        Ok([sent, way("bytes_received:", "segs_in:", "data_segs_in:")])
    };
    (0..NAMES.len()).map(of_machine).collect()
}
