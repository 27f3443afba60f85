//! Gaps and clicks in a tone that Chromium renders, for each pair of the room's sample rate and the AudioContext's.
//!
//! The page requests no sample rate, so the measurement sets the rate of the AudioContext.

use anyhow::Result;
use palabre_e2e::browser::Tap;
use palabre_e2e::client::Talker;
use palabre_e2e::suite::Suite;

use crate::heard::Heard;
use crate::join::{join_in, wait_for_samples, with_voice};
use crate::tone::{TONE_DBFS, TONE_HZ};

const SECONDS: usize = 20;
const STREAMS_HZ: [u32; 3] = [16_000, 24_000, 48_000];
const CONTEXTS_HZ: [u32; 3] = [44_100, 48_000, 96_000];

/// Measures 20 s for each pair of rates.
pub fn run() -> Result<()> {
    for stream_hz in STREAMS_HZ {
        let suite = Suite::start_configured(2, &format!("[room]\nrate-hz = {stream_hz}\nlevelling = false\n"))?;
        let _talker = Talker::tone(&suite.client, &suite.links[0], TONE_HZ, TONE_DBFS);
        for context_hz in CONTEXTS_HZ {
            let browser = with_voice()?;
            browser.with_context_rate(context_hz)?;
            let listener = join_in(browser, &suite.links[1].url)?;
            wait_for_samples(&listener, Tap::Output, 10)?;
            println!("rates: a room of {stream_hz} Hz, a context of {context_hz} Hz");
            Heard::start(&listener)?.print_after(SECONDS)?;
        }
        suite.stop()?;
    }
    Ok(())
}
