//! Measures the figures of `docs/measurements.md`: `scripts/measure [PART]…`. Long measurements write a plot to `target/measure`.
//!
//! Each part also prints the CPU time that the host took from this machine and, if a sound card is used, the error of the card's clock: figures
//! from a disturbed machine are invalid.
#![allow(clippy::print_stdout)]

mod cluster;
mod codec;
mod echo;
mod encoders;
mod faults;
mod firefox;
mod gaps;
mod heard;
mod join;
mod latency;
mod listener_cost;
mod load;
mod machines;
mod machines_clocks;
mod machines_swarm;
mod memory;
mod nginx;
mod page_cost;
mod pesq;
mod process;
mod pulse;
mod rates;
mod restarts;
mod signer;
mod talking;
mod tone;

use anyhow::{Result, bail};

use crate::gaps::Line;
use crate::process::stolen_ticks;

const SECONDS: usize = 60;
/// Duration of each measurement of the part `machines-opus`.
const SHORT_S: u64 = 20;
/// Lines of the section `[bridge]` for Opus between machines.
const OPUS_20: &str = "codec = \"opus\"\nmessage-ms = 20";
const OPUS_60: &str = "codec = \"opus\"\nmessage-ms = 60";
const LONG_SECONDS: usize = 600;
const DEFAULT_PARTS: [&str; 4] = ["start", "load", "gaps", "latency"];
const HELP: &str = "\
Measures the figures of docs/measurements.md; run it by scripts/measure.

usage: measure [PART]...        default: start load gaps latency

  start             time from scripts/try to the first link
  load              CPU and memory of a room with forty participants
  listener-cost     CPU, memory and wake-ups of a listener and of a minimal server in C, 2 minutes
  codec             CPU, memory and bytes of a listener with one stream of each codec, 30 s
  encoders          quality and CPU time of the Opus encoder, and quality of ffmpeg's libopus
  gaps, gaps-long   gaps and clicks in a tone that Chromium renders: 1 or 10 minutes
  gaps-opus         the same with Opus at 24 kbit/s, 10 minutes
  line              the same over a bad line, 10 minutes
  thin              the same over a line of 128 kbit/s with stalls, with PCM and with Opus, 4 minutes
  handover          the same over renewed streams and planned restarts
  handover-opus     the same with Opus at 32, 24 and 16 kbit/s
  firefox, firefox-opus, firefox-short, firefox-chosen
                    gaps and clicks in Firefox: 10 minutes, the same with Opus, 1 minute, in a chosen loudspeaker
  rates             a tone through every pair of sample rates, 8 minutes
  faults, faults-small
                    what participants lose after each of 20 faults, with 200 or 40 participants, 6 minutes
  keyless         the same for connections without a key only, with 200 participants, 1 minute
  restarts          what a page hears of restarts and killed processes
  restarts-planned  ten planned restarts of a listener
  latency, latency-40, latency-20
                    delay from microphone to output: both uplinks, chunks of 40 or 20 ms
  latency-opus      the same delay with PCM and with Opus in both directions
  signer            duration of handshakes with and without the signer, and after it was killed
  pulse, pulse-busy delay and silences with a microphone of PulseAudio, on an idle machine or with both processors busy
  latency-long, latency-hour
                    the delay once a minute for 20 or 60 minutes
  rtt               the delay over lines of 0 to 150 ms, 8 minutes
  talking           time until a page shows that a participant talks
  pesq              PESQ-WB of speech between two browsers
  pesq-opus         the same in a room of 24 kHz, with PCM and with Opus at 32, 24 and 16 kbit/s in both directions, 6 minutes
  pesq-down         the same with PCM to the server, and with Opus at 32, 24 and 16 kbit/s from it, 5 minutes
  pesq-rates        the same with Opus at 32 kbit/s in rooms of 16 and 48 kHz, 3 minutes
  machines, machines-short
                    delay, bytes and CPU of a room on three machines, with messages of 20 and 60 ms, 13 minutes; or of 20 ms, 2 minutes
  machines-opus     the same with exact samples in messages of 20 ms, and with Opus at 64 kbit/s in messages of 20 and 60 ms, 8 minutes
  machines-clocks, machines-clocks-short
                    gaps, clicks and delay between machines whose clocks differ, 32 or 3 minutes
  machines-swarm, machines-swarm-short
                    three machines with 300 listeners each, or fewer if records are missing, 3 to 15 minutes; or 20 listeners, 1 minute
  echo              level of what a participant with loudspeakers sends back, 4 minutes
  page-cost         CPU of a page's processes, with silence, six and forty participants, in Chromium and Firefox, 4 minutes
  nginx, nginx-page connections and workers of nginx; connections of a page, 4 minutes
  memory-short, memory-20x, memory-1x, memory
                    memory of a tab: 3, 24 or 24 minutes, or the latter two";

fn main() -> Result<()> {
    let asked: Vec<String> = std::env::args().skip(1).collect();
    if asked.iter().any(|part| part == "--help") {
        println!("{HELP}");
        return Ok(());
    }
    let default = DEFAULT_PARTS.map(str::to_owned);
    for part in if asked.is_empty() { default.as_slice() } else { &asked } {
        let before = stolen_ticks()?;
        match part.as_str() {
            "start" => load::start()?,
            "load" => load::load()?,
            "listener-cost" => [40, 20, 1000].into_iter().try_for_each(listener_cost::run)?,
            "gaps" => gaps::gaps(SECONDS, Line::Loopback, 0)?,
            "gaps-long" => gaps::gaps(LONG_SECONDS, Line::Loopback, 0)?,
            "gaps-opus" => gaps::gaps(LONG_SECONDS, Line::Loopback, 24)?,
            "line" => gaps::gaps(LONG_SECONDS, Line::Bad, 0)?,
            "thin" => [0, 24].into_iter().try_for_each(|kbps| gaps::gaps(SECONDS, Line::Thin, kbps))?,
            "handover" => gaps::handover(Line::Loopback, 0).and_then(|()| gaps::handover(Line::Far, 0))?,
            "handover-opus" => [32, 24, 16].into_iter().try_for_each(|kbps| gaps::handover(Line::Loopback, kbps))?,
            "firefox" => firefox::gaps(LONG_SECONDS as u64, 0).and_then(|()| firefox::handover(0))?,
            "firefox-short" => firefox::gaps(SECONDS as u64, 0).and_then(|()| firefox::handover(0))?,
            "firefox-opus" => firefox::gaps(LONG_SECONDS as u64, 24).and_then(|()| firefox::handover(24))?,
            "firefox-chosen" => firefox::chosen(SECONDS as u64)?,
            "rates" => rates::run()?,
            "page-cost" => page_cost::run()?,
            "nginx" => nginx::run()?,
            "nginx-page" => nginx::page()?,
            "faults" => faults::table(200, 10, "")?,
            "faults-small" => faults::table(40, 5, "")?,
            "keyless" => faults::table(200, 10, "without a key")?,
            "restarts" => restarts::run()?,
            "restarts-planned" => restarts::planned()?,
            "latency" => latency::run("websocket", 40).and_then(|()| latency::run("post", 40))?,
            "latency-40" => latency::run("websocket", 40)?,
            "latency-opus" => [0, 24].into_iter().try_for_each(latency::at_bit_rate)?,
            "latency-20" => latency::run("websocket", 20)?,
            "signer" => signer::run()?,
            "codec" => codec::run()?,
            "encoders" => encoders::run()?,
            "pulse" => pulse::run(false)?,
            "pulse-busy" => pulse::run(true)?,
            "rtt" => latency::over_rtts()?,
            "talking" => talking::run()?,
            "pesq" => pesq::run(48_000, 0, 0)?,
            "pesq-opus" => [0, 32, 24, 16].into_iter().try_for_each(|kbps| pesq::run(24_000, kbps, kbps))?,
            "pesq-down" => [32, 24, 16].into_iter().try_for_each(|kbps| pesq::run(24_000, 0, kbps))?,
            "pesq-rates" => [16_000, 48_000].into_iter().try_for_each(|rate_hz| pesq::run(rate_hz, 32, 32))?,
            "echo" => echo::run()?,
            "machines" => machines::run(&["message-ms = 20", "message-ms = 60"], SECONDS as u64)?,
            "machines-short" => machines::run(&["message-ms = 20"], 5)?,
            "machines-opus" => machines::run(&["message-ms = 20", OPUS_20, OPUS_60], SHORT_S)?,
            "machines-swarm" => machines_swarm::run(&[300, 250, 200, 150, 100, 50], SECONDS as u64)?,
            "machines-clocks" => machines_clocks::run(600)?,
            "machines-clocks-short" => machines_clocks::run(20)?,
            "machines-swarm-short" => machines_swarm::run(&[20], 10)?,
            "latency-long" => latency::over_time(20)?,
            "latency-hour" => latency::over_time(60)?,
            "memory" => memory::run(24, 20).and_then(|()| memory::run(24, 1))?,
            "memory-20x" => memory::run(24, 20)?,
            "memory-1x" => memory::run(24, 1)?,
            "memory-short" => memory::run(3, 20)?,
            other => bail!("unknown part '{other}'; 'scripts/measure --help' lists the parts"),
        }
        println!("  (CPU time stolen by the host meanwhile: {} ms)\n", (stolen_ticks()? - before) * 10);
    }
    Ok(())
}
