//! Runs the soak test of docs/measurements.md: `scripts/soak [--minutes M] [--participants N] [--out DIR]`.
#![allow(clippy::print_stdout)]

use std::time::Duration;

use anyhow::{Context, Result, bail};
use palabre_e2e::soak::{Growth, Options, run};

const HELP: &str = "\
Runs a room with participants who come and go, and prints which quantities grow. Run it by scripts/soak.

usage: soak [--minutes M] [--participants N] [--out DIR]

  --minutes M       length of the measurement (default 40)
  --participants N  number of participants, 3 of whom talk; 5 guests are added (default 30)
  --out DIR         directory for CSV, JSON and plots (default target/soak)

Exit status: 0 nothing grows, no record is missing and nothing is left; 1 otherwise.";

fn main() -> Result<()> {
    let mut options = Options {
        time: Duration::from_secs(40 * 60),
        participants: 30,
        talkers: 3,
        interval: Duration::from_secs(5),
        restart_every: Duration::from_secs(10),
        renew_every: Duration::from_secs(180),
        out: "target/soak".into(),
    };
    let mut arguments = std::env::args().skip(1);
    while let Some(flag) = arguments.next() {
        if flag == "--help" {
            println!("{HELP}");
            return Ok(());
        }
        let value = arguments.next().with_context(|| format!("'{flag}' needs a value"))?;
        match flag.as_str() {
            "--minutes" => options.time = Duration::from_secs_f64(60.0 * value.parse::<f64>()?),
            "--participants" => options.participants = value.parse()?,
            "--out" => options.out = value.into(),
            _ => bail!("unknown option '{flag}'; 'scripts/soak --help' lists the options"),
        }
    }
    let outcome = run(&options)?;
    let [joins, leaves, restarts, renewals] = outcome.events;
    let minutes = options.time.as_secs_f64() / 60.0;
    println!(
        "{minutes:.0} minutes, {} participants: {joins} joins, {leaves} leaves, {restarts} restarts, {renewals} renewals",
        options.participants
    );
    println!("{} records missing, {} mixes wrong", outcome.swarm["missing"], outcome.swarm["wrong"]);
    println!("| process | quantity | mean | slope per hour | noise | verdict |\n| --- | --- | --- | --- | --- | --- |");
    outcome.growth.iter().for_each(|growth| println!("{}", growth.row()));
    outcome.left.iter().for_each(|entry| println!("left: {entry}"));
    println!("results are in '{}'", options.out.display());
    if outcome.growth.iter().any(Growth::grows) || !outcome.left.is_empty() || outcome.swarm["missing"] != 0 {
        std::process::exit(1);
    }
    Ok(())
}
