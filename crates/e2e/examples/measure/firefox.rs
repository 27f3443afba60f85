//! Gaps and clicks in a tone that Firefox plays, recorded from the monitor of its sound card.

use std::time::Duration;

use anyhow::Result;
use palabre_e2e::client::Talker;
use palabre_e2e::firefox::{FIRST_CARD, Firefox, OUTPUT_HZ, SECOND_CARD};
use palabre_e2e::suite::Suite;

use crate::gaps::renew_and_restart;
use crate::join::at_bit_rate;
use crate::tone::{TONE_DBFS, TONE_HZ, disturbances};

const COUNTERS: &str = "return ['underruns', 'stretches', 'stretchMs', 'cuts', 'splices', 'lost', 'reconnects', 'renewals', 'depthMs', \
     'marginMs', 'jitterMs'].map((name) => `${name} ${Math.round(palabreState[name])}`).join(', ')";

/// Measures a tone. The page uses this bit rate of Opus, or PCM if it is 0.
pub fn gaps(seconds: u64, kbps: u32) -> Result<()> {
    heard(&format!("a tone, {kbps} kbit/s of Opus (0: PCM)"), &at_bit_rate("", kbps), FIRST_CARD, |_, _| {
        std::thread::sleep(Duration::from_secs(seconds));
        Ok(())
    })
}

/// Measures a tone that the page plays in a chosen loudspeaker, through an `<audio>` element.
pub fn chosen(seconds: u64) -> Result<()> {
    heard("a tone in a chosen loudspeaker", "", SECOND_CARD, |_, _| {
        std::thread::sleep(Duration::from_secs(seconds));
        Ok(())
    })
}

/// Measures a tone during renewals of the stream and planned restarts of the listener. The page uses this bit rate of Opus, or PCM if it is 0.
pub fn handover(kbps: u32) -> Result<()> {
    let what = format!("a tone over renewed streams and planned restarts, {kbps} kbit/s of Opus (0: PCM)");
    heard(&what, &format!("{}&renew=500000", at_bit_rate("", kbps)), FIRST_CARD, |suite, page| {
        renew_and_restart(suite, |script| page.run(script)).map(drop)
    })
}

/// Measures the sound that is played from ten seconds after joining until `events` returns.
fn heard(what: &str, fragment: &str, card: &str, events: impl FnOnce(&Suite, &Firefox) -> Result<()>) -> Result<()> {
    let suite = Suite::start(2)?;
    let _talker = Talker::tone(&suite.client, &suite.links[0], TONE_HZ, TONE_DBFS);
    let page = Firefox::start("en")?;
    page.open(&format!("{}{fragment}", suite.links[1].url))?;
    page.wait_until("window.palabreState?.screen === 'door'")?;
    page.click("#join")?;
    page.wait_until("palabreState.microphone === 'on'")?;
    if card != FIRST_CARD {
        page.choose_loudspeaker(Some(card))?;
    }
    page.wait_until("palabreState.connection === 'live' && palabreState.chunks > 250")?;
    let counters = || page.run(COUNTERS).map(|value| value.as_str().unwrap_or_default().to_owned());
    let before = counters()?;
    let recording = page.record_output(card)?;
    events(&suite, &page)?;
    let samples = recording.stop()?;
    let after = counters()?;
    let (gaps, clicks) = disturbances(&samples, OUTPUT_HZ);
    let heard_s = samples.len() as f64 / f64::from(OUTPUT_HZ);
    println!("firefox: {what}: {heard_s:.0} s recorded from the sound card: {gaps} gaps, {clicks} clicks");
    println!("  page before: {before}\n  page after:  {after}");
    Ok(())
}
