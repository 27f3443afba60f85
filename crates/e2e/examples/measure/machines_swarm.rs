//! How many participants a room on three machines carries. All three machines run as processes on this machine.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use palabre_e2e::link::Link;
use palabre_e2e::suite::TIMEOUT;
use palabre_e2e::swarm::{Swarm, losses};
use serde_json::Value;

use crate::cluster::{Cluster, NAMES};
use crate::process::cpu_ms;

/// Talkers of each machine.
const TALKERS: usize = 3;
/// Maximum number of lines that are printed about records which didn't arrive.
const SHOWN: usize = 10;
const SETTINGS: &str = "[room]\nlevelling = false\n[stream]\nchunk-ms = 100\n";

/// Runs three machines, each with three talkers and the first number of `listeners`, and chunks of 100 ms. If records were missing or the
/// measurement could not begin, measures with the next number of `listeners`.
pub fn run(listeners: &[usize], seconds: u64) -> Result<()> {
    for &count in listeners {
        match measure(count, seconds) {
            Ok(0) => break,
            Ok(_) => {}
            Err(error) => println!("machines-swarm: 3 machines, each with {count} listeners: not measured: {error:#}"),
        }
    }
    Ok(())
}

/// Returns the number of missing records.
fn measure(listeners: usize, seconds: u64) -> Result<u64> {
    let cluster = Cluster::start(TALKERS + listeners, "", SETTINGS)?;
    let (links, certificates) = (links(&cluster), cluster.certificates()?);
    let swarm = Swarm::start(&cluster.suites[0], &links, &certificates, TALKERS * NAMES.len(), seconds)?;
    let cpu = |swarm: &Swarm| {
        let mut all = cluster.cpu()?;
        all.push(("palabre swarm".to_owned(), cpu_ms(swarm.pid())?));
        anyhow::Ok(all)
    };
    let (before, began) = (cpu(&swarm)?, Instant::now());
    std::thread::sleep(Duration::from_secs(seconds.saturating_sub(1)));
    let (after, elapsed_s) = (cpu(&swarm)?, began.elapsed().as_secs_f64());
    let report = swarm.finish(Duration::from_secs(seconds) + TIMEOUT)?;
    println!("machines-swarm: 3 machines, each with {listeners} listeners and {TALKERS} talkers, {seconds} s");
    let missing = print_records(&report)?;
    let used = before
        .iter()
        .zip(&after)
        .map(|((name, before), (_, after))| format!("{name} {:.1} %", (after - before) / 10.0 / elapsed_s));
    println!("  CPU, % of a core: {}", used.collect::<Vec<_>>().join(", "));
    print_machines(&cluster)?;
    cluster.stop()?;
    Ok(missing)
}

/// Returns the links of all machines. The first ones talk, three of each machine. `palabre swarm` measures the delay in the last three.
fn links(cluster: &Cluster) -> Vec<Link> {
    let part = |talks: bool| {
        NAMES.iter().zip(&cluster.suites).flat_map(move |(machine, suite)| {
            let (first, others) = suite.links.split_at(TALKERS);
            let chosen = if talks { first } else { others };
            chosen.iter().map(move |link| Link { name: format!("{}@{machine}", link.name), ..link.clone() })
        })
    };
    part(true).chain(part(false)).collect()
}

/// Prints what the participants have heard. Returns the number of missing records.
fn print_records(report: &Value) -> Result<u64> {
    let participants = || report["participants"].as_array().into_iter().flatten();
    let sum = |field: &str| participants().filter_map(|one| one[field].as_u64()).sum::<u64>();
    let missing = report["missing"].as_u64().context("the report has no number of missing records")?;
    println!(
        "  {missing} of {} records of 100 ms missing; {} of {} checked mixes wrong, {} disturbed",
        sum("records") + missing,
        report["wrong"],
        sum("checked"),
        sum("disturbed")
    );
    println!("  faults of mixes: {}; lateness in ms: {}", report["faults"], report["lateness_ms"]);
    println!("  lateness of 'palabre swarm' itself in ms: {}", report["swarm_lateness_ms"]);
    let losses = losses(report);
    losses.iter().take(SHOWN).for_each(|line| println!("  {line}"));
    if losses.len() > SHOWN {
        println!("  and {} more", losses.len() - SHOWN);
    }
    Ok(missing)
}

/// Prints the counters of all bridges and mixers.
fn print_machines(cluster: &Cluster) -> Result<()> {
    for (machine, name) in NAMES.iter().enumerate() {
        let links = cluster.report(machine).map(|report| report.links).unwrap_or_default();
        let lost = links.iter().map(|link| {
            format!("{} ms lost and {} messages late from {}", link.lost_ms, link.late_messages, link.machine)
        });
        let lost: Vec<String> = lost.collect();
        println!("  {name}: {}; mixer: {}", lost.join(", "), cluster.suites[machine].mixer_counters()?);
    }
    Ok(())
}
