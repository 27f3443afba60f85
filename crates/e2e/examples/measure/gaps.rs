//! Gaps and clicks in a tone that Chromium renders: over simulated network lines, over renewals of the stream
//! and over planned restarts.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use palabre_e2e::browser::{Browser, Tap};
use palabre_e2e::client::Talker;
use palabre_e2e::line::Delays;
use palabre_e2e::suite::{Link, Suite, TIMEOUT};
use palabre_e2e::wait_for;

use crate::heard::Heard;
use crate::join::{at_bit_rate, join_at, wait_for_samples};
use crate::tone::{TONE_DBFS, TONE_HZ};
use palabre_e2e::plot::{Curve, svg};

/// Number of renewals in a measurement of handovers.
const RENEWALS: u64 = 10;
/// Number of planned restarts in a measurement of handovers.
const RESTARTS: u64 = 5;

/// The simulated network line between listener and page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Line {
    Loopback,
    Bad,
    /// Round-trip time of 150 ms.
    Far,
    /// 128 kbit/s in each direction and a round-trip time of 100 ms. On average, one
    /// piece in a hundred from the listener comes another 200 ms later.
    Thin,
}

impl Line {
    /// Starts the line to a participant's page, and returns the page's address on it.
    fn to(self, link: &Link) -> Result<String> {
        let delays = match self {
            Self::Loopback => return Ok(link.url.clone()),
            Self::Bad => Delays {
                jitter: Duration::from_millis(50),
                stall_every: 100,
                stall: Duration::from_millis(200),
                ..Delays::default()
            },
            Self::Far => Delays { rtt: Duration::from_millis(150), ..Delays::default() },
            Self::Thin => Delays {
                rtt: Duration::from_millis(100),
                bits_per_s: 128_000,
                stall_every: 100,
                stall: Duration::from_millis(200),
                ..Delays::default()
            },
        };
        let port = palabre_e2e::line::Line::to(link.port, delays)?.port;
        Ok(link.url.replace(&link.port.to_string(), &port.to_string()))
    }
}

/// Measures a tone that Chromium renders. The page uses this bit rate of Opus, or PCM if it is 0.
pub fn gaps(seconds: usize, line: Line, kbps: u32) -> Result<()> {
    let suite = Suite::start(2)?;
    let _talker = Talker::tone(&suite.client, &suite.links[0], TONE_HZ, TONE_DBFS);
    let listener = join_at(&at_bit_rate(&line.to(&suite.links[1])?, kbps))?;
    // On a bad line the player adapts its margin during the first half minute.
    wait_for_samples(&listener, Tap::Output, if matches!(line, Line::Bad | Line::Thin) { 30 } else { 10 })?;
    let heard = Heard::start(&listener)?;
    plot_delay(&listener, seconds, &format!("{line:?}-{kbps}").to_lowercase())?;
    println!("gaps: a tone for {seconds} s through Chromium, line: {line:?}, {kbps} kbit/s of Opus (0: PCM)");
    heard.print_after(seconds)
}

/// Plots the page's delay, read once a second.
fn plot_delay(listener: &Browser, seconds: usize, name: &str) -> Result<()> {
    let names = [("delay", "#1d4f91"), ("buffer", "#2a6f4e"), ("margin", "#b4541a")];
    let mut curves = names.map(|(name, colour)| Curve { name, colour, points: Vec::new() });
    let started = Instant::now();
    while started.elapsed().as_secs_f64() < seconds as f64 {
        let now = listener.run("return [palabreState.delayMs, palabreState.depthMs, palabreState.marginMs]")?;
        for (curve, value) in curves.iter_mut().zip(0..) {
            let value_ms = now[value as usize].as_f64().unwrap_or(f64::NAN);
            curve.points.push((started.elapsed().as_secs_f64(), value_ms));
        }
        std::thread::sleep(Duration::from_secs(1));
    }
    std::fs::create_dir_all("target/measure")?;
    let file = format!("target/measure/delay-{name}-{seconds}s.svg");
    std::fs::write(&file, svg("Delay of the player, as reported by the page", "seconds", "ms", &curves))?;
    println!("plot of the delay: {file}");
    Ok(())
}

/// Measures a tone during renewals of the stream and planned restarts of the listener. The page uses this bit rate of Opus, or PCM if it is 0.
pub fn handover(line: Line, kbps: u32) -> Result<()> {
    let suite = Suite::start(2)?;
    let _talker = Talker::tone(&suite.client, &suite.links[0], TONE_HZ, TONE_DBFS);
    // `renew` in the page's address is the maximum cost of a stream, after which the page renews the stream. A chunk of 40 ms at 24 kHz costs about
    // 6700 (stream/frames.js), so 500000 makes the page renew the stream every 3 s.
    let listener = join_at(&format!("{}&renew=500000", at_bit_rate(&line.to(&suite.links[1])?, kbps)))?;
    wait_for_samples(&listener, Tap::Output, 10)?;
    let heard = Heard::start(&listener)?;
    let renewals = renew_and_restart(&suite, |script| listener.run(script))?;
    println!(
        "handover: a tone over {renewals} new streams, {RESTARTS} of them after a planned restart, line: {line:?}, {kbps} kbit/s of Opus (0: PCM)"
    );
    heard.print_after(0)
}

/// Restarts the listener of p02 several times between renewals of its page's stream. `run` runs a script in that page. Returns the number of
/// renewals.
pub fn renew_and_restart(suite: &Suite, run: impl Fn(&str) -> Result<serde_json::Value>) -> Result<u64> {
    let renewals = || run("return palabreState.renewals").ok().and_then(|value| value.as_u64());
    let before = renewals().context("palabreState.renewals is not a number")?;
    for restart in 0..=RESTARTS {
        let wanted = before + (restart + 1) * (RENEWALS + RESTARTS).div_ceil(RESTARTS);
        wait_for("renewals", TIMEOUT, || renewals().filter(|&count| count >= wanted))?;
        if restart < RESTARTS {
            suite.palabre(&["restart", "p02"])?;
        }
    }
    Ok(renewals().unwrap_or(before) - before)
}
