//! How long `scripts/try` takes to start, and what a room of forty costs.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use palabre_e2e::client::Talker;
use palabre_e2e::compare::{median, percentile};
use palabre_e2e::suite::{Suite, TIMEOUT, descendants};
use palabre_e2e::wait_for;

use crate::process::{cpu_ms, rollup_kib};
use crate::tone::{TONE_DBFS, TONE_HZ};

/// Measures five times how long `scripts/try` takes until it prints the first link.
pub fn start() -> Result<()> {
    let mut took_ms = Vec::new();
    for _ in 0..5 {
        let started = Instant::now();
        let mut child = Command::new("scripts/try")
            .args(["--first-port", "0", "--no-voices"])
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .context("unable to start 'scripts/try'; run this program in the repository's top folder")?;
        let output = BufReader::new(child.stdout.take().context("scripts/try has no standard output")?);
        let link = output.lines().map_while(Result::ok).find(|line| line.contains("https://"));
        took_ms.push(started.elapsed().as_secs_f64() * 1000.0);
        palabre_e2e::suite::signal(child.id(), "INT")?;
        child.wait()?;
        link.context("scripts/try printed no link")?;
    }
    println!("start: scripts/try (built) to the first link: median {:.0} ms of {took_ms:.0?}", median(took_ms.clone()));
    Ok(())
}

/// Measures forty participants that listen, without and with five that talk.
pub fn load() -> Result<()> {
    const PEOPLE: usize = 40;
    const TALKERS: usize = 5;
    let suite = Suite::start(PEOPLE)?;
    let streams = suite.links.iter().map(|link| suite.client.get(link, "/listen")).collect::<Result<Vec<_>>>()?;
    let readers: Vec<_> = streams.into_iter().map(|stream| std::thread::spawn(move || read_to_end(stream))).collect();
    let idle = usage_over(&suite, Duration::from_secs(20))?;
    println!("load: {PEOPLE} participants receive the page's stream, nobody talks");
    print_usage(&idle);
    let talk = |link| Talker::tone(&suite.client, link, TONE_HZ, TONE_DBFS);
    let talkers: Vec<_> = suite.links.iter().take(TALKERS).map(talk).collect();
    let heard = suite.client.record(&suite.links[PEOPLE - 1])?;
    wait_for("sound", TIMEOUT, || (heard.len() > 48_000).then_some(()))?;
    drop(heard);
    let busy = usage_over(&suite, Duration::from_secs(20))?;
    println!(
        "load: {PEOPLE} participants receive the page's stream, {TALKERS} of them talk; chunks of 40 ms at 24 kHz"
    );
    print_usage(&busy);
    drop(talkers);
    suite.stop()?;
    for reader in readers {
        let _ = reader.join();
    }
    Ok(())
}

fn read_to_end(mut stream: impl std::io::Read) {
    let mut bytes = [0; 16_384];
    while stream.read(&mut bytes).is_ok_and(|got| got > 0) {}
}

/// Measures each process of the running room for `time`. Returns the program's name, its CPU share in percent and its PSS in KiB.
fn usage_over(suite: &Suite, time: Duration) -> Result<Vec<(String, f64, f64)>> {
    let pids = [vec![suite.pid()], descendants(suite.pid())].concat();
    let before: Vec<f64> = pids.iter().map(|&pid| cpu_ms(pid)).collect::<Result<_>>()?;
    let started = Instant::now();
    std::thread::sleep(time);
    let elapsed_ms = started.elapsed().as_secs_f64() * 1000.0;
    let usage = |(&pid, before): (&u32, f64)| {
        let name = std::fs::read_to_string(format!("/proc/{pid}/comm"))?.trim().to_owned();
        Ok((name, (cpu_ms(pid)? - before) * 100.0 / elapsed_ms, rollup_kib(pid, "Pss")?))
    };
    pids.iter().zip(before).map(usage).collect()
}

fn print_usage(usage: &[(String, f64, f64)]) {
    let mut programs: Vec<&str> = usage.iter().map(|(name, ..)| name.as_str()).collect();
    programs.sort_unstable();
    programs.dedup();
    for program in programs {
        let of = || usage.iter().filter(|(name, ..)| name == program);
        let count = of().count();
        let (cpu, pss) = (median(of().map(|row| row.1)), median(of().map(|row| row.2)));
        let most = percentile(of().map(|row| row.1), 100.0);
        println!(
            "  {program:16} × {count:2}: CPU median {cpu:.2} %, maximum {most:.2} % of a core; PSS median {pss:.0} KiB"
        );
    }
}
