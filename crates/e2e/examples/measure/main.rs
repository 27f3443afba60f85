//! Measures what `docs/measurements.md` reports: `scripts/measure [PART]…`, by default `start`, `load`, `gaps`, `latency`.
//!
//! Which parts there are, and how long they take, stands in `scripts/measure`. Those of ten minutes write a plot to `target/measure`.
//!
//! Figures of a shared machine are worth only what the machine was doing: each part prints the CPU time stolen meanwhile
//! and, where a sound card is involved, how well it kept time.
#![allow(clippy::print_stdout)]

mod echo;
mod firefox;
mod latency;
mod memory;
mod pesq;
mod plot;
mod rates;
mod restarts;
mod talking;
mod trend;

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::plot::Curve;
use anyhow::{Context, Result, bail};
use palabre_e2e::browser::{Browser, Tap};
use palabre_e2e::client::Talker;
use palabre_e2e::compare::{median, percentile};
use palabre_e2e::line::Badness;
use palabre_e2e::suite::{Link, PATIENCE, Suite, descendants};
use palabre_e2e::wait_for;

const SECONDS: usize = 60;
const LONG_SECONDS: usize = 600;
/// Of a handover.
const RENEWALS: u64 = 10;
const RESTARTS: u64 = 5;
const TONE_HZ: f64 = 440.0;
const TONE_DBFS: f64 = -20.0;

fn main() -> Result<()> {
    let asked: Vec<String> = std::env::args().skip(1).collect();
    let all = ["start", "load", "gaps", "latency"].map(str::to_owned);
    for part in if asked.is_empty() { all.as_slice() } else { &asked } {
        let before = stolen_ticks()?;
        match part.as_str() {
            "start" => start()?,
            "load" => load()?,
            "gaps" => gaps(SECONDS, Line::Loopback)?,
            "gaps-long" => gaps(LONG_SECONDS, Line::Loopback)?,
            "line" => gaps(LONG_SECONDS, Line::Bad)?,
            "handover" => handover(Line::Loopback).and_then(|()| handover(Line::Far))?,
            "firefox" => firefox::gaps(LONG_SECONDS as u64).and_then(|()| firefox::handover())?,
            "firefox-short" => firefox::gaps(SECONDS as u64).and_then(|()| firefox::handover())?,
            "firefox-chosen" => firefox::chosen(SECONDS as u64)?,
            "rates" => rates::run()?,
            "restarts" => restarts::run()?,
            "restarts-planned" => restarts::planned()?,
            "latency" => latency::run("websocket", 40).and_then(|()| latency::run("post", 40))?,
            "latency-40" => latency::run("websocket", 40)?,
            "latency-20" => latency::run("websocket", 20)?,
            "rtt" => latency::over_rtts()?,
            "talking" => talking::run()?,
            "pesq" => pesq::run()?,
            "echo" => echo::run()?,
            "latency-long" => latency::over_time(20)?,
            "latency-hour" => latency::over_time(60)?,
            "memory" => memory::run(24, 20).and_then(|()| memory::run(24, 1))?,
            "memory-20x" => memory::run(24, 20)?,
            "memory-1x" => memory::run(24, 1)?,
            "memory-short" => memory::run(3, 20)?,
            other => bail!("'{other}' is not one of the parts; 'scripts/measure' says which there are"),
        }
        println!("  (CPU time stolen by neighbours meanwhile: {} ms)\n", (stolen_ticks()? - before) * 10);
    }
    Ok(())
}

/// From the command to the first link, five times.
fn start() -> Result<()> {
    let mut took_ms = Vec::new();
    for _ in 0..5 {
        let started = Instant::now();
        let mut child = Command::new("scripts/try")
            .args(["--first-port", "0", "--no-voices"])
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .context("run this in the top folder")?;
        let output = BufReader::new(child.stdout.take().context("output")?);
        let link = output.lines().map_while(Result::ok).find(|line| line.contains("https://"));
        took_ms.push(started.elapsed().as_secs_f64() * 1000.0);
        palabre_e2e::suite::signal(child.id(), "INT")?;
        child.wait()?;
        link.context("no link was printed")?;
    }
    println!("start: scripts/try (built) to the first link: median {:.0} ms of {took_ms:.0?}", median(took_ms.clone()));
    Ok(())
}

/// Forty participants who all listen, five of whom talk.
fn load() -> Result<()> {
    const PEOPLE: usize = 40;
    const TALKERS: usize = 5;
    let suite = Suite::start(PEOPLE)?;
    let streams = suite.links.iter().map(|link| suite.client.get(link, "/listen")).collect::<Result<Vec<_>>>()?;
    let readers: Vec<_> = streams.into_iter().map(|stream| std::thread::spawn(move || read_to_end(stream))).collect();
    let idle = usage_over(&suite, Duration::from_secs(20))?;
    println!("load: {PEOPLE} participants listen in the page's way, nobody talks");
    print_usage(&idle);
    let talk = |link| Talker::tone(&suite.client, link, TONE_HZ, TONE_DBFS);
    let talkers: Vec<_> = suite.links.iter().take(TALKERS).map(talk).collect();
    let heard = suite.client.record(&suite.links[PEOPLE - 1])?;
    wait_for("sound", PATIENCE, || (heard.len() > 48_000).then_some(()))?;
    drop(heard);
    let busy = usage_over(&suite, Duration::from_secs(20))?;
    println!("load: {PEOPLE} participants listen in the page's way, {TALKERS} of them talk; chunks of 40 ms at 24 kHz");
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

/// Program, percent of a core, PSS in KiB, for each process of the suite.
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
            "  {program:16} × {count:2}: CPU median {cpu:.2} %, most {most:.2} % of a core; PSS median {pss:.0} KiB"
        );
    }
}

/// What is between the listener and the page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Line {
    Loopback,
    Bad,
    /// 150 ms there and back.
    Far,
}

impl Line {
    /// The address of this participant's page at this end of the line.
    fn to(self, link: &Link) -> Result<String> {
        let badness = match self {
            Self::Loopback => return Ok(link.url.clone()),
            Self::Bad => Badness {
                jitter: Duration::from_millis(50),
                stall_every: 100,
                stall: Duration::from_millis(200),
                ..Badness::default()
            },
            Self::Far => Badness { rtt: Duration::from_millis(150), ..Badness::default() },
        };
        let port = palabre_e2e::line::Line::to(link.port, badness)?.port;
        Ok(link.url.replace(&link.port.to_string(), &port.to_string()))
    }
}

/// A tone, as Chromium rendered it.
fn gaps(seconds: usize, line: Line) -> Result<()> {
    let suite = Suite::start(2)?;
    let _talker = Talker::tone(&suite.client, &suite.links[0], TONE_HZ, TONE_DBFS);
    let listener = join_at(&line.to(&suite.links[1])?)?;
    // A bad line is learnt from what it does: its first half minute doesn't count.
    wait_for_samples(&listener, Tap::Output, if line == Line::Bad { 30 } else { 10 })?;
    let heard = Heard::start(&listener)?;
    plot_delay(&listener, seconds, &format!("{line:?}").to_lowercase())?;
    println!("gaps: a tone for {seconds} s through Chromium, line: {line:?}");
    heard.print_after(seconds)
}

/// Looks at the page's figures once a second for so long, and draws them.
fn plot_delay(listener: &Browser, seconds: usize, name: &str) -> Result<()> {
    let names = [("delay", "#1d4f91"), ("held back", "#2a6f4e"), ("margin", "#b4541a")];
    let mut curves = names.map(|(name, colour)| Curve { name, colour, points: Vec::new() });
    let started = Instant::now();
    while started.elapsed().as_secs_f64() < seconds as f64 {
        let now = listener.run("return [palabreState.delayMs, palabreState.depthMs, palabreState.marginMs]")?;
        for (curve, value) in curves.iter_mut().zip(0..) {
            let figure = now[value as usize].as_f64().unwrap_or(f64::NAN);
            curve.points.push((started.elapsed().as_secs_f64(), figure));
        }
        std::thread::sleep(Duration::from_secs(1));
    }
    std::fs::create_dir_all("target/measure")?;
    let file = format!("target/measure/delay-{name}-{seconds}s.svg");
    std::fs::write(&file, plot::svg("The player's delay as the page tells it", "seconds", "ms", &curves))?;
    println!("plot of the delay: {file}");
    Ok(())
}

/// A tone while the stream is renewed again and again and the listener is replaced as planned.
fn handover(line: Line) -> Result<()> {
    let suite = Suite::start(2)?;
    let _talker = Talker::tone(&suite.client, &suite.links[0], TONE_HZ, TONE_DBFS);
    // 40 ms of 24 kHz cost about 6700 (stream/frames.js): a new frame every 3 s.
    let listener = join_at(&format!("{}#renew=500000", line.to(&suite.links[1])?))?;
    wait_for_samples(&listener, Tap::Output, 10)?;
    let heard = Heard::start(&listener)?;
    let fresh = renew_and_restart(&suite, |script| listener.run(script))?;
    println!("handover: a tone over {fresh} fresh streams, {RESTARTS} of them by a planned restart, line: {line:?}");
    heard.print_after(0)
}

/// Replaces p02's listener again and again between the renewals of their page's stream, in which `run` runs scripts; gives how
/// many fresh streams there were.
fn renew_and_restart(suite: &Suite, run: impl Fn(&str) -> Result<serde_json::Value>) -> Result<u64> {
    let renewals = || run("return palabreState.renewals").ok().and_then(|value| value.as_u64());
    let before = renewals().context("renewals")?;
    for restart in 0..=RESTARTS {
        let wanted = before + (restart + 1) * (RENEWALS + RESTARTS).div_ceil(RESTARTS);
        wait_for("renewals", PATIENCE, || renewals().filter(|&count| count >= wanted))?;
        if restart < RESTARTS {
            suite.palabre(&["restart", "p02"])?;
        }
    }
    Ok(renewals().unwrap_or(before) - before)
}

/// What a page renders from some moment on.
struct Heard<'a> {
    browser: &'a Browser,
    start: usize,
    before: String,
}

impl<'a> Heard<'a> {
    const FIGURES: &'static str = "return ['underruns', 'stretches', 'stretchMs', 'cuts', 'splices', 'lost', 'reconnects', 'opened', 'depthMs', 'marginMs', \
         'jitterMs', 'outputMs'].map((name) => `${name} ${Math.round(palabreState[name])}`).join(', ')";

    fn start(browser: &'a Browser) -> Result<Self> {
        let before = Self::figures(browser)?;
        Ok(Self { browser, start: browser.tapped(Tap::Output)?.0, before })
    }

    fn figures(browser: &Browser) -> Result<String> {
        Ok(browser.run(Self::FIGURES)?.as_str().unwrap_or_default().to_owned())
    }

    fn print_after(self, seconds: usize) -> Result<()> {
        let rate_hz = self.browser.tapped(Tap::Output)?.1;
        wait_for_samples(self.browser, Tap::Output, self.start / rate_hz as usize + 1 + seconds)?;
        // Before ten minutes of samples are fetched, which keeps the page from running.
        let after = Self::figures(self.browser)?;
        let samples = self.browser.tap_from(Tap::Output, self.start)?;
        let heard_s = samples.len() as f64 / f64::from(rate_hz);
        let (gaps, clicks) = disturbances(&samples, rate_hz);
        println!("  {heard_s:.0} s at {rate_hz} Hz: {gaps} gaps, {clicks} clicks");
        self.print_card(rate_hz)?;
        println!("  page before: {}\n  page after:  {after}", self.before);
        Ok(())
    }
}

impl Heard<'_> {
    /// How well the sound card kept time: a run in which it didn't says nothing about us.
    fn print_card(&self, rate_hz: u32) -> Result<()> {
        const MOST_PPM: f64 = 1000.0;
        const MOST_MS: f64 = 60.0;
        let times: Vec<_> = self.browser.tap_times(Tap::Output, self.start)?;
        let times: Vec<_> = times.into_iter().filter(|&(sample, _)| sample >= self.start as f64).collect();
        let (Some(first), Some(last)) = (times.first(), times.last()) else { return Ok(()) };
        let behind_ms = |&(sample, ms): &(f64, f64)| ms - first.1 - (sample - first.0) * 1000.0 / f64::from(rate_hz);
        let ppm = behind_ms(last) / (last.1 - first.1) * -1e6;
        let steps = times.windows(2).map(|pair| behind_ms(&pair[1]) - behind_ms(&pair[0]));
        let stood_ms = steps.fold(0.0, f64::max);
        let disturbed = if ppm.abs() > MOST_PPM || stood_ms > MOST_MS { "; this run was disturbed" } else { "" };
        println!(
            "  the card ran {ppm:+.0} ppm fast by the wall clock and stood for {stood_ms:.0} ms at most{disturbed}"
        );
        Ok(())
    }
}

/// Windows of 5 ms in which the tone is 6 dB down, and places where the wave is broken, each counted once in 20 ms.
fn disturbances(samples: &[i16], rate_hz: u32) -> (usize, usize) {
    let window = rate_hz as usize / 200;
    let gaps = quiet_windows(samples, rate_hz).enumerate().filter(|(_, quiet)| *quiet).map(|(at, _)| at * window);
    (events(gaps, rate_hz), breaks(samples, rate_hz))
}

/// For each window of 5 ms whether the tone is 6 dB down in it.
fn quiet_windows(samples: &[i16], rate_hz: u32) -> impl Iterator<Item = bool> {
    let most = move |w: &[i16]| f64::from(w.iter().map(|&x| i32::from(x).abs()).max().unwrap_or(0));
    samples.chunks_exact(rate_hz as usize / 200).map(move |window| most(window) < peak() / 2.0)
}

/// Places where the wave is broken, each counted once in 20 ms.
fn breaks(samples: &[i16], rate_hz: u32) -> usize {
    // A sine of this frequency obeys x[n+1] = 2 cos(w) x[n] − x[n−1]; what doesn't is a break.
    let two_cos = 2.0 * (std::f64::consts::TAU * TONE_HZ / f64::from(rate_hz)).cos();
    let broken = |x: &[i16]| (f64::from(x[2]) - two_cos * f64::from(x[1]) + f64::from(x[0])).abs() > peak() * 0.02;
    events(samples.windows(3).enumerate().filter(|(_, x)| broken(x)).map(|(at, _)| at), rate_hz)
}

/// Of the tone, in samples.
fn peak() -> f64 {
    32_768.0 * 10f64.powf(TONE_DBFS / 20.0) * 2f64.sqrt()
}

fn events(places: impl Iterator<Item = usize>, rate_hz: u32) -> usize {
    let mut count = 0;
    let mut last = None;
    for at in places {
        if last.is_none_or(|last| at - last > rate_hz as usize / 50) {
            count += 1;
        }
        last = Some(at);
    }
    count
}

fn join(suite: &Suite, person: usize, uplink: &str) -> Result<Browser> {
    join_at(&format!("{}#uplink={uplink}", suite.links[person].url))
}

fn join_at(url: &str) -> Result<Browser> {
    join_in(with_voice()?, url)
}

/// A browser with somebody who speaks before it.
fn with_voice() -> Result<Browser> {
    let voice = Path::new(env!("CARGO_MANIFEST_DIR")).join("speech/english-man-16000Hz-mono.wav");
    Browser::start(Some(&voice), "en")
}

fn join_in(browser: Browser, url: &str) -> Result<Browser> {
    let browser = enter(browser, url)?;
    browser.wait_until("palabreState.connection === 'live' && palabreState.microphone === 'on'")?;
    Ok(browser)
}

fn join_without_microphone(url: &str) -> Result<Browser> {
    let browser = enter(Browser::start(None, "en")?, url)?;
    browser.wait_until("palabreState.connection === 'live' && palabreState.microphone === 'refused'")?;
    Ok(browser)
}

fn enter(browser: Browser, url: &str) -> Result<Browser> {
    browser.tap_sound()?;
    browser.open(url)?;
    browser.wait_until("window.palabreState?.screen === 'door'")?;
    browser.click("#join")?;
    Ok(browser)
}

fn wait_for_samples(browser: &Browser, tap: Tap, seconds: usize) -> Result<()> {
    browser.wait_tapped(tap, 0)?;
    browser.wait_tapped(tap, seconds * browser.tapped(tap)?.1 as usize)
}

/// User and system time of a process, from `/proc/PID/stat` (proc(5)); a tick is 10 ms on Linux.
fn cpu_ms(pid: u32) -> Result<f64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let fields: Vec<&str> = stat.rsplit_once(')').context("stat")?.1.split_whitespace().collect();
    Ok((fields[11].parse::<f64>()? + fields[12].parse::<f64>()?) * 10.0)
}

/// A field of `/proc/PID/smaps_rollup` (proc(5)), which is in KiB.
fn rollup_kib(pid: u32, field: &str) -> Result<f64> {
    let rollup = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))?;
    let value = rollup.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
    let value = value.and_then(|value| value.split_whitespace().next());
    Ok(value.with_context(|| format!("no '{field}'"))?.parse()?)
}

/// CPU time that the host gave to others, in ticks of 10 ms.
fn stolen_ticks() -> Result<u64> {
    let stat = std::fs::read_to_string("/proc/stat")?;
    Ok(stat.split_whitespace().nth(8).context("steal")?.parse()?)
}
