//! What Firefox renders, taken behind it: from the monitor of the sound card that it plays to.

use std::time::Duration;

use anyhow::Result;
use palabre_e2e::client::Talker;
use palabre_e2e::firefox::{FIRST_CARD, Firefox, OUTPUT_HZ, SECOND_CARD};
use palabre_e2e::suite::Suite;

use crate::{TONE_DBFS, TONE_HZ, disturbances, renew_and_restart};

const FIGURES: &str = "return ['underruns', 'stretches', 'stretchMs', 'cuts', 'splices', 'lost', 'reconnects', 'renewals', 'depthMs', \
     'marginMs', 'jitterMs'].map((name) => `${name} ${Math.round(palabreState[name])}`).join(', ')";

/// A tone for so many seconds.
pub fn gaps(seconds: u64) -> Result<()> {
    heard("a tone", "", FIRST_CARD, |_, _| {
        std::thread::sleep(Duration::from_secs(seconds));
        Ok(())
    })
}

/// The same in a loudspeaker that was chosen, so by way of an element.
pub fn chosen(seconds: u64) -> Result<()> {
    heard("a tone in a loudspeaker that was chosen", "", SECOND_CARD, |_, _| {
        std::thread::sleep(Duration::from_secs(seconds));
        Ok(())
    })
}

/// A tone while the stream is renewed again and again and the listener is replaced as planned.
pub fn handover() -> Result<()> {
    heard("a tone over fresh streams and planned restarts", "#renew=500000", FIRST_CARD, |suite, page| {
        renew_and_restart(suite, |script| page.run(script)).map(drop)
    })
}

/// What is rendered from ten seconds after the page was joined until `events` are over.
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
    let figures = || page.run(FIGURES).map(|value| value.as_str().unwrap_or_default().to_owned());
    let before = figures()?;
    let recording = page.record_output(card)?;
    events(&suite, &page)?;
    let samples = recording.stop()?;
    let after = figures()?;
    let (gaps, clicks) = disturbances(&samples, OUTPUT_HZ);
    let heard_s = samples.len() as f64 / f64::from(OUTPUT_HZ);
    println!("firefox: {what}: {heard_s:.0} s behind the sound card: {gaps} gaps, {clicks} clicks");
    println!("  page before: {before}\n  page after:  {after}");
    Ok(())
}
