//! Injects faults, and prints which records the participants of `palabre swarm` missed and which mixes were wrong.

use std::time::Duration;

use anyhow::Result;
use palabre_e2e::faults::{Options, run};

/// Prints the table of faults in docs/measurements.md. If `only` isn't empty, the table has only the fault "nothing" and the faults whose names
/// contain `only`.
pub fn table(participants: usize, talkers: usize, only: &'static str) -> Result<()> {
    let options = Options {
        participants,
        talkers,
        hold: Duration::from_secs(5),
        rest: Duration::from_secs(10),
        only_cheap: false,
        only,
    };
    let (rows, skipped) = run(&options)?;
    println!("faults: {participants} participants, {talkers} of whom talk; each fault lasts 5 s");
    println!(
        "| fault | participants affected | their losses | losses of all others | effect of the fault |\n| --- | --- | --- | --- | --- |"
    );
    for row in rows {
        let effect = row.effect.as_deref().unwrap_or("**none**");
        println!("| {} | {} | {} | {} | {effect} |", row.what, row.victims, row.lost, row.others);
    }
    skipped.iter().for_each(|line| println!("NOT SHOWN: {line}"));
    Ok(())
}
