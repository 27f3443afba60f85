//! CPU time of the processes of a browser that shows a room: in silence, and while other participants talk.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::Result;
use palabre_e2e::browser::Browser;
use palabre_e2e::client::Talker;
use palabre_e2e::firefox::Firefox;
use palabre_e2e::suite::{Suite, TIMEOUT, descendants};
use palabre_e2e::wait_for;

use crate::join::{SPEECH_RATE_HZ, speech};
use crate::process::cpu_ms;

const WATCHED: Duration = Duration::from_secs(20);
/// Pairs of the number of participants and the number of talkers.
const ROOMS: [(usize, usize); 3] = [(6, 0), (6, 1), (40, 4)];

pub fn run() -> Result<()> {
    for (participants, talkers) in ROOMS {
        let suite = Suite::start(participants)?;
        let present =
            suite.links[1..].iter().map(|link| suite.client.get(link, "/listen")).collect::<Result<Vec<_>>>()?;
        for mut stream in present {
            std::thread::spawn(move || std::io::copy(&mut stream, &mut std::io::sink()));
        }
        let samples = speech()?;
        let talking: Vec<Talker> = suite.links[1..=talkers]
            .iter()
            .enumerate()
            .map(|(n, link)| {
                // Each talker starts at a different position of the speech, so that the talkers pause at different times.
                let mut samples = samples.clone();
                let offset = n * samples.len() / talkers;
                samples.rotate_left(offset);
                Talker::repeating(&suite.client, link, SPEECH_RATE_HZ, samples)
            })
            .collect();
        let how = format!("page-cost: {participants} participants, {talkers} of whom talk");
        chromium(&suite, participants, &how)?;
        firefox(&suite, participants, &how)?;
        drop(talking);
        suite.stop()?;
    }
    Ok(())
}

fn chromium(suite: &Suite, participants: usize, how: &str) -> Result<()> {
    let browser = Browser::start(None, "en")?;
    browser.open(&suite.links[0].url)?;
    browser.wait_until("window.palabreState?.screen === 'door'")?;
    browser.click("#join")?;
    browser.wait_until(&ready(participants))?;
    report(&format!("{how}, Chromium"), &usage(browser.pid())?);
    Ok(())
}

fn firefox(suite: &Suite, participants: usize, how: &str) -> Result<()> {
    let browser = Firefox::start("en")?;
    browser.open(&suite.links[0].url)?;
    browser.wait_until("window.palabreState?.screen === 'door'")?;
    browser.click("#join")?;
    browser.wait_until(&ready(participants))?;
    report(&format!("{how}, Firefox"), &usage(browser.pid())?);
    Ok(())
}

fn ready(participants: usize) -> String {
    format!(
        "palabreState.connection === 'live' && document.querySelectorAll('#people .person:not(.away)').length === {participants}"
    )
}

/// Returns the CPU use of each kind of process, in percent of a core. The measurement starts after a wait of five seconds.
fn usage(pid: u32) -> Result<BTreeMap<String, f64>> {
    std::thread::sleep(Duration::from_secs(5));
    let pids = wait_for("processes", TIMEOUT, || Some(descendants(pid)).filter(|pids| !pids.is_empty()))?;
    let before: Vec<Option<f64>> = pids.iter().map(|&pid| cpu_ms(pid).ok()).collect();
    let started = Instant::now();
    std::thread::sleep(WATCHED);
    let elapsed_ms = started.elapsed().as_secs_f64() * 1000.0;
    let mut shares = BTreeMap::new();
    for (pid, before) in pids.into_iter().zip(before) {
        let (Some(before), Ok(after)) = (before, cpu_ms(pid)) else { continue };
        *shares.entry(kind(pid)?).or_insert(0.0) += (after - before) * 100.0 / elapsed_ms;
    }
    Ok(shares)
}

/// Returns the kind of a process. For a child process of Chromium, it is the type in the command line, such as `renderer` or
/// `audio.mojom.AudioService`. For other processes, it is the program's name.
fn kind(pid: u32) -> Result<String> {
    let command = std::fs::read_to_string(format!("/proc/{pid}/cmdline"))?;
    let words: Vec<&str> = command.split(['\0', ' ']).collect();
    let flag = |name: &str| words.iter().find_map(|word| word.strip_prefix(name));
    let name = || Ok(std::fs::read_to_string(format!("/proc/{pid}/comm"))?.trim().to_owned());
    flag("--utility-sub-type=").or_else(|| flag("--type=")).map_or_else(name, |kind| Ok(kind.to_owned()))
}

fn report(how: &str, shares: &BTreeMap<String, f64>) {
    println!("{how}: {:.1} % of a core in all", shares.values().sum::<f64>());
    for (kind, share) in shares.iter().filter(|(_, share)| **share >= 0.1) {
        println!("  {kind:32} {share:5.1} %");
    }
}
