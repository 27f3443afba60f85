//! CPU time, memory and bytes of a listener with one stream, for each codec.

use std::io::Read as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use palabre_e2e::client::Talker;
use palabre_e2e::suite::{Suite, TIMEOUT};
use palabre_e2e::wait_for;

use crate::join::speech;
use crate::listener_cost::Work;
use crate::process::rollup_kib;

const QUERIES: [&str; 5] = ["", "?codec=adpcm", "?codec=opus&kbps=32", "?codec=opus&kbps=24", "?codec=opus&kbps=16"];
const ROUNDS: usize = 3;
const ROUND: Duration = Duration::from_secs(10);

/// Measures one listener per codec, all at the same time, while one participant speaks without a pause.
pub fn run() -> Result<()> {
    let suite = Suite::start(1 + QUERIES.len())?;
    let _talker = Talker::repeating(&suite.client, &suite.links[0], crate::join::SPEECH_RATE_HZ, speech()?);
    let streams = QUERIES.iter().zip(&suite.links[1..]).map(|(query, link)| {
        let mut stream = suite.client.get(link, &format!("/listen{query}"))?;
        let received = Arc::new(AtomicU64::new(0));
        let count = Arc::clone(&received);
        std::thread::spawn(move || {
            let mut bytes = [0; 65_536];
            while let Ok(got @ 1..) = stream.read(&mut bytes) {
                count.fetch_add(got as u64, Ordering::Relaxed);
            }
        });
        wait_for("sound", TIMEOUT, || (received.load(Ordering::Relaxed) > 20_000).then_some(()))?;
        let pid = suite.process("palabre-listener", &link.name);
        Ok((query, received, pid.with_context(|| format!("no listener of {}", link.name))?))
    });
    let streams: Vec<_> = streams.collect::<Result<_>>()?;
    println!("codec: one stream of speech per listener, chunks of 40 ms, {ROUNDS} rounds of {} s", ROUND.as_secs());
    for _ in 0..ROUNDS {
        let before: Vec<(Work, u64)> = streams
            .iter()
            .map(|(_, received, pid)| Ok((Work::of(*pid)?, received.load(Ordering::Relaxed))))
            .collect::<Result<_>>()?;
        let began = Instant::now();
        std::thread::sleep(ROUND);
        for ((query, received, pid), (work, bytes)) in streams.iter().zip(before) {
            let seconds = began.elapsed().as_secs_f64();
            let cpu = Work::of(*pid)?.since(&work).cpu_ns as f64 / 1e7 / seconds;
            let rate = (received.load(Ordering::Relaxed) - bytes) as f64 / seconds;
            let pss = rollup_kib(*pid, "Pss")?;
            println!("  '{query}': {cpu:.2} % of a core, PSS {pss:.0} KiB, {rate:.0} bytes/s without TLS");
        }
    }
    suite.stop()
}
