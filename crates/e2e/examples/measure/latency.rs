//! Delay from the microphone of one Chromium to the output of another, without the delay of the devices.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use palabre_e2e::browser::{Browser, Tap};
use palabre_e2e::compare::{Match, RATE_HZ, convert, find, median, percentile};
use palabre_e2e::line::{Delays, Line};
use palabre_e2e::suite::{Suite, descendants};
use palabre_host::clock::boottime_ms;

use crate::heard::Heard;
use crate::join::{join, join_in, wait_for_samples, with_voice};
use crate::process::cpu_ms;
use palabre_e2e::plot::{Curve, svg};
use palabre_e2e::trend::Trend;

const SECONDS: usize = 60;
/// Length of each measurement over a line.
const RTT_SECONDS: usize = 30;
/// Minimum correlation of a window whose position counts as found.
pub const FOUND: f64 = 0.8;

/// Measures the delay with this bit rate of Opus in both directions, or with PCM if it is 0.
pub fn at_bit_rate(kbps: u32) -> Result<()> {
    run(&format!("websocket&kbps={kbps}"), 40)
}

/// Measures the delay between two pages that talk, and its stages.
pub fn run(uplink: &str, chunk_ms: u32) -> Result<()> {
    let suite = Suite::start_configured(2, &format!("[stream]\nchunk-ms = {chunk_ms}\n"))?;
    let speaker = join(&suite, 0, uplink)?;
    let listener = join(&suite, 1, uplink)?;
    wait_for_samples(&listener, Tap::Output, 12)?;
    let spoken = Spoken::record(&speaker, &listener, SECONDS)?;
    let (middle, p95) = spoken.delay_ms();
    println!(
        "latency by {uplink}, chunks of {chunk_ms} ms: mouth to ear, Chromium to Chromium: median {middle:.0} ms, p95 {p95:.0} ms"
    );
    let correlation = median(spoken.matches.iter().map(|m| m.coefficient));
    let (found, all) = (spoken.found().count(), spoken.matches.len());
    println!("  {found} of {all} windows of 150 ms found; median correlation {correlation:.3}");
    println!("  listening page: {}", Heard::counters(&listener)?);
    match stages(&spoken, &speaker, &listener) {
        Ok(stages) => println!("  stages of an average sample, means of the same windows: {stages}"),
        // With Opus the stages can't be computed, because the recording of the stream contains only chunks in PCM.
        Err(error) => println!("  stages of an average sample: not measured: {error:#}"),
    }
    Ok(())
}

/// Measures the delay of sound that the speaking page sends by WebSocket, and by POST, over lines of increasing round-trip time to its listener.
pub fn over_rtts() -> Result<()> {
    let (mut speaker, mut listener) = (with_voice()?, with_voice()?);
    let mut lines = Vec::new();
    println!(
        "| uplink | RTT | median | p95 | player's buffer | windows found | chunks sent per second | CPU of the speaker's listener | CPU of the speaker's browser |"
    );
    println!("| --- | --- | --- | --- | --- | --- | --- | --- | --- |");
    for uplink in ["websocket", "post"] {
        for rtt_ms in [0, 50, 100, 150] {
            let delays = Delays { rtt: Duration::from_millis(rtt_ms), ..Delays::default() };
            // Page and mixer remember lateness for one or two minutes, also the lateness that a starting browser causes. So the same two browsers are
            // used for all measurements, but each measurement has a new suite and new pages.
            let suite = Suite::start(2)?;
            let link = &suite.links[0];
            let port = Line::to(link.port, delays)?.port;
            let url = link.url.replace(&link.port.to_string(), &port.to_string());
            speaker = join_in(speaker, &format!("{url}#uplink={uplink}"))?;
            listener = join_in(listener, &format!("{}#uplink=websocket", suite.links[1].url))?;
            wait_for_samples(&listener, Tap::Output, 15)?;
            let pid = suite
                .process("palabre-listener", &link.name)
                .with_context(|| format!("no palabre-listener process of '{}'", link.name))?;
            let browser = descendants(speaker.pid());
            let (cpu_before, browser_before) = (cpu_ms(pid)?, cpu_of(&browser));
            let started = Instant::now();
            let spoken = Spoken::record(&speaker, &listener, RTT_SECONDS)?;
            let elapsed_ms = started.elapsed().as_secs_f64() * 1000.0;
            let percent = |ms: f64| ms * 100.0 / elapsed_ms;
            let (cpu, browser) = (percent(cpu_ms(pid)? - cpu_before), percent(cpu_of(&browser) - browser_before));
            let pieces = (speaker.tap_counts()?.0 - spoken.stretch.from.sent) as f64 * 1000.0 / elapsed_ms;
            let (middle, p95) = spoken.delay_ms();
            let (found, all) = (spoken.found().count(), spoken.matches.len());
            let held = listener.run("return palabreState.depthMs")?.as_f64().unwrap_or(f64::NAN);
            println!(
                "| {uplink} | {rtt_ms} ms | {middle:.0} ms | {p95:.0} ms | {held:.0} ms | {found} of {all} | {pieces:.1} | {cpu:.2} % | {browser:.0} % |"
            );
            lines.push(format!("{uplink}, {rtt_ms} ms: {}", stages(&spoken, &speaker, &listener)?));
            suite.stop()?;
        }
    }
    println!("stages, means:\n{}", lines.join("\n"));
    Ok(())
}

/// Measures the delay once a minute, as median of 15 s. It must not grow.
pub fn over_time(minutes: usize) -> Result<()> {
    const SLICE_S: usize = 15;
    let suite = Suite::start(2)?;
    let speaker = join(&suite, 0, "websocket")?;
    let listener = join(&suite, 1, "websocket")?;
    wait_for_samples(&listener, Tap::Output, 12)?;
    let started = Instant::now();
    let (mut stretches, mut points) = (Vec::new(), Vec::new());
    for minute in 0..=minutes {
        let due = Duration::from_secs(60 * minute as u64);
        std::thread::sleep(due.saturating_sub(started.elapsed()));
        [&speaker, &listener].iter().try_for_each(|browser| browser.tap_keeps(true))?;
        stretches.push(Stretch::record(&speaker, &listener, SLICE_S)?);
        [&speaker, &listener].iter().try_for_each(|browser| browser.tap_keeps(false))?;
        println!("  minute {minute}: {}; player: {}", suite.mixer_counters()?, Heard::counters(&listener)?);
    }
    for (whose, browser) in [("speaker", &speaker), ("listener", &listener)] {
        println!("  sound card of the {whose}, minute and ms of each jump: {:.1?}", jumps(browser)?);
    }
    // Fetch the recordings at the end, because fetching keeps the page busy and adds to its delay.
    for (minute, stretch) in stretches.into_iter().enumerate() {
        let spoken = stretch.fetch(&speaker, &listener)?;
        let (median_ms, _) = spoken.delay_ms();
        println!("  minute {minute}: {median_ms:.0} ms; {}", stages(&spoken, &speaker, &listener)?);
        points.push((minute as f64, median_ms));
    }
    print_trend(minutes, points)?;
    suite.stop()
}

/// Prints and plots the delay over time.
fn print_trend(minutes: usize, points: Vec<(f64, f64)>) -> Result<()> {
    let medians: Vec<f64> = points.iter().map(|point| point.1).collect();
    let trend = Trend::through(&points[1..]);
    let mean = |of: &[f64]| of.iter().sum::<f64>() / of.len() as f64;
    let (early, late) = medians[1..].split_at(minutes / 2);
    println!(
        "latency-long: medians of 15 s, each minute for {minutes}: {medians:.0?} ms; after the first: mean {:.0} ms, first half {:.0} ms, \
         second half {:.0} ms, slope {:+.2} ± {:.2} ms a minute",
        trend.mean,
        mean(early),
        mean(late),
        trend.slope,
        trend.slope_error
    );
    std::fs::create_dir_all("target/measure")?;
    let curve = Curve { name: "mouth to ear", colour: "#1d4f91", points };
    std::fs::write(
        "target/measure/latency-long.svg",
        svg(&format!("Mouth to ear over {minutes} minutes"), "minutes", "ms", &[curve]),
    )?;
    println!("  plot: target/measure/latency-long.svg");
    Ok(())
}

/// Returns the times in minutes at which a browser's sound card stopped or caught up, each with the size of the jump in ms. Leaves out drift.
fn jumps(browser: &Browser) -> Result<Vec<(f64, f64)>> {
    const LEAST_MS: f64 = 8.0;
    /// Number of entries of `tap_times` in about two seconds. A worklet runs in bursts, which delay most of these entries, but not the entry with
    /// the smallest delay.
    const BLOCKS: usize = 20;
    let rate_hz = f64::from(browser.tapped(Tap::Output)?.1);
    let times = browser.tap_times(Tap::Output, 0)?;
    let behind_ms = |blocks: &[(f64, f64)]| {
        blocks.iter().map(|&(sample, ms)| ms - sample * 1000.0 / rate_hz).fold(f64::INFINITY, f64::min)
    };
    let (mut jumps, mut next) = (Vec::new(), BLOCKS);
    while next + BLOCKS <= times.len() {
        let jump_ms = behind_ms(&times[next..next + BLOCKS]) - behind_ms(&times[next - BLOCKS..next]);
        if jump_ms.abs() > LEAST_MS {
            jumps.push(((times[next].1 - times[0].1) / 60_000.0, jump_ms));
            next += 2 * BLOCKS;
        }
        next += 1;
    }
    Ok(jumps)
}

/// Returns the sum of the CPU time of processes in ms, without those that have ended.
fn cpu_of(pids: &[u32]) -> f64 {
    pids.iter().filter_map(|&pid| cpu_ms(pid).ok()).sum()
}

/// A stretch of the recordings of two browsers.
#[derive(Clone, Copy)]
struct Stretch {
    from: Mark,
    to: Mark,
}

/// A moment of a measurement, given by the numbers of samples and chunks that each recording contains at that moment.
#[derive(Clone, Copy)]
struct Mark {
    said: usize,
    heard: usize,
    stream: usize,
    sent: usize,
    arrived: usize,
}

impl Stretch {
    /// Records both browsers for `seconds` from now on, and 3 s longer, because the listening browser renders the sound later.
    fn record(speaker: &Browser, listener: &Browser, seconds: usize) -> Result<Self> {
        let all = Self::record_all(speaker, &[listener], seconds)?;
        all.into_iter().next().context("no listener")
    }

    /// Does the same as [`Self::record`] for several listening browsers at the same time.
    fn record_all(speaker: &Browser, listeners: &[&Browser], seconds: usize) -> Result<Vec<Self>> {
        let from = listeners.iter().map(|listener| Mark::now(speaker, listener)).collect::<Result<Vec<_>>>()?;
        let said_hz = speaker.tapped(Tap::Microphone)?.1 as usize;
        // Sleep instead of polling the pages: polling would keep them busy.
        std::thread::sleep(Duration::from_secs(seconds as u64 + 3));
        let mut stretches = Vec::new();
        for (listener, from) in listeners.iter().zip(from) {
            let heard_hz = listener.tapped(Tap::Output)?.1 as usize;
            wait_for_samples(speaker, Tap::Microphone, from.said / said_hz + seconds + 1)?;
            wait_for_samples(listener, Tap::Output, from.heard / heard_hz + seconds + 3)?;
            stretches.push(Self { from, to: Mark::now(speaker, listener)? });
        }
        Ok(stretches)
    }

    /// Fetches the sound and its times.
    fn fetch(self, speaker: &Browser, listener: &Browser) -> Result<Spoken> {
        let Self { from, to } = self;
        let recorded = |browser: &Browser, tap, start, end| {
            let rate_hz = browser.tapped(tap)?.1;
            let samples = convert(&browser.tap_between(tap, start, end)?, rate_hz, RATE_HZ);
            anyhow::Ok((samples, Recorded { start, rate_hz, clock: Clock::new(browser.tap_times(tap, start)?) }))
        };
        let (said, said_at) = recorded(speaker, Tap::Microphone, from.said, to.said)?;
        let (heard, heard_at) = recorded(listener, Tap::Output, from.heard, to.heard)?;
        let matches = find(&said, &heard, 2_000);
        Ok(Spoken { said, heard, matches, stretch: self, said_at, heard_at })
    }
}

impl Mark {
    fn now(speaker: &Browser, listener: &Browser) -> Result<Self> {
        Ok(Self {
            said: speaker.tapped(Tap::Microphone)?.0,
            heard: listener.tapped(Tap::Output)?.0,
            stream: listener.tapped(Tap::Stream)?.0,
            sent: speaker.tap_counts()?.0,
            arrived: listener.tap_counts()?.1,
        })
    }
}

/// The sound that one page sent and the other page rendered, with the matches of their windows.
pub struct Spoken {
    /// The samples of the speaking browser's microphone, at [`RATE_HZ`].
    pub said: Vec<i16>,
    /// The samples that the listening browser rendered, at [`RATE_HZ`].
    pub heard: Vec<i16>,
    matches: Vec<Match>,
    stretch: Stretch,
    said_at: Recorded,
    heard_at: Recorded,
}

impl Spoken {
    /// Records both browsers for `seconds` from now on.
    pub fn record(speaker: &Browser, listener: &Browser, seconds: usize) -> Result<Self> {
        Stretch::record(speaker, listener, seconds)?.fetch(speaker, listener)
    }

    /// Does the same as [`Self::record`] for several listening browsers at the same time.
    pub fn record_all(speaker: &Browser, listeners: &[&Browser], seconds: usize) -> Result<Vec<Self>> {
        let stretches = Stretch::record_all(speaker, listeners, seconds)?;
        stretches.into_iter().zip(listeners).map(|(stretch, listener)| stretch.fetch(speaker, listener)).collect()
    }

    /// Returns the number of windows of speech.
    pub fn windows(&self) -> usize {
        self.matches.len()
    }

    /// Returns the windows of speech that were found in the listening browser's sound.
    pub fn found(&self) -> impl Iterator<Item = &Match> {
        self.matches.iter().filter(|m| m.coefficient > FOUND)
    }

    /// Returns the wall-clock time of a sample of [`Self::said`] in ms.
    pub fn said_ms(&self, sample: usize) -> f64 {
        self.said_at.ms(sample)
    }

    /// Returns the wall-clock time of a sample of [`Self::heard`] in ms.
    pub fn heard_ms(&self, sample: usize) -> f64 {
        self.heard_at.ms(sample)
    }

    /// Returns median and 95th percentile of the delay.
    pub fn delay_ms(&self) -> (f64, f64) {
        let delays: Vec<f64> = self.found().map(|m| self.heard_at.ms(m.at + m.lag) - self.said_at.ms(m.at)).collect();
        (median(delays.clone()), percentile(delays, 95.0))
    }
}

/// Returns a text with the mean delay of each stage. All stages are computed for the same windows, so that their means add up.
pub fn stages(spoken: &Spoken, speaker: &Browser, listener: &Browser) -> Result<String> {
    let Stretch { from, to } = spoken.stretch;
    let arrived = listener.tap_stages((usize::MAX, from.arrived))?.arrived;
    let (start, rate_hz) = (spoken.stream_start(&arrived)?, listener.tapped(Tap::Stream)?.1);
    let came =
        find(&spoken.said, &convert(&listener.tap_between(Tap::Stream, start, to.stream)?, rate_hz, RATE_HZ), 2_000);
    // SEQ is CLOCK_BOOTTIME in ms when the chunk was complete.
    let boot_ms = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs_f64() * 1000.0 - boottime_ms() as f64;
    let (mut mixed, mut rest, mut down, mut player) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for window in came.iter().filter(|m| m.coefficient > FOUND) {
        let Some(heard) = spoken.found().find(|m| m.at == window.at) else { continue };
        let place = start as f64 + (window.at + window.lag) as f64 * f64::from(rate_hz) / f64::from(RATE_HZ);
        let next = arrived.partition_point(|&(from, ..)| from <= place);
        let (Some(&(_, came_ms, seq)), Some(&(end, ..))) = (arrived.get(next - 1), arrived.get(next)) else { continue };
        let (complete_ms, rest_ms) = (seq + boot_ms, (end - place) * 1000.0 / f64::from(rate_hz));
        mixed.push(complete_ms - rest_ms - spoken.said_at.ms(window.at));
        rest.push(rest_ms);
        down.push(came_ms - complete_ms);
        player.push(spoken.heard_at.ms(heard.at + heard.lag) - came_ms);
    }
    // On average, the samples of a chunk wait half a chunk less than its first sample until the chunk is sent.
    let room_hz = f64::from(rate_hz);
    // Age of each chunk's first sample when it was sent, in ms, and its number of samples.
    let mut sent = speaker.tap_stages((from.sent, usize::MAX))?.sent;
    sent.truncate(to.sent - from.sent);
    let samples: f64 = sent.iter().map(|(_, count)| count).sum();
    let sent_ms = sent.iter().map(|(age, count)| (age - count * 500.0 / room_hz) * count).sum::<f64>() / samples;
    let [mixed, rest, down, player] = [mixed, rest, down, player].map(|all| all.iter().sum::<f64>() / all.len() as f64);
    Ok(format!(
        "capture to send {sent_ms:.0} ms, send to mix {:.0} ms, mix to complete chunk {rest:.0} ms, \
         complete chunk to page {down:.0} ms, player {player:.0} ms; total {:.0} ms",
        mixed - sent_ms,
        mixed + rest + down + player
    ))
}

impl Spoken {
    /// Returns the position in the stream's recording of the chunk that arrived when the recording of the microphone began.
    fn stream_start(&self, arrived: &[(f64, f64, f64)]) -> Result<usize> {
        let began_ms = self.said_at.ms(0);
        let first = arrived
            .iter()
            .find(|(_, came_ms, _)| *came_ms >= began_ms)
            .context("no chunk arrived at the listening page after the recording began")?;
        Ok(first.0 as usize)
    }
}

/// The part of a recording after a sample.
struct Recorded {
    start: usize,
    rate_hz: u32,
    clock: Clock,
}

impl Recorded {
    /// Returns the wall-clock time of a sample, counted from `start` at [`RATE_HZ`].
    fn ms(&self, sample: usize) -> f64 {
        self.clock.at(self.start as f64 + sample as f64 * f64::from(self.rate_hz) / f64::from(RATE_HZ))
    }
}

/// Wall-clock time of recorded samples, smoothed over two seconds because worklets run in bursts.
pub struct Clock {
    times: Vec<(f64, f64)>,
}

impl Clock {
    /// Returns a clock from pairs of a sample and its time in ms.
    pub fn new(times: Vec<(f64, f64)>) -> Self {
        Self { times }
    }

    /// Returns the time of a sample in ms.
    pub fn at(&self, sample: f64) -> f64 {
        let middle = self.times.partition_point(|&(at, _)| at < sample);
        let near = &self.times[middle.saturating_sub(10)..(middle + 10).min(self.times.len())];
        let slope = match (near.first(), near.last()) {
            (Some(first), Some(last)) if last.0 > first.0 => (last.1 - first.1) / (last.0 - first.0),
            _ => 0.0,
        };
        median(near.iter().map(|&(at, ms)| ms + (sample - at) * slope))
    }
}
