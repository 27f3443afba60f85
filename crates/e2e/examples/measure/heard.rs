//! The sound that a page renders during a measurement.

use anyhow::Result;
use palabre_e2e::browser::{Browser, Tap};

use crate::join::wait_for_samples;
use crate::tone::disturbances;

/// A measurement of the sound that a page renders from a moment on.
pub struct Heard<'a> {
    browser: &'a Browser,
    start: usize,
    before: String,
}

impl<'a> Heard<'a> {
    const COUNTERS: &'static str = "return ['underruns', 'stretches', 'stretchMs', 'cuts', 'splices', 'lost', 'reconnects', 'opened', 'depthMs', 'marginMs', \
         'jitterMs', 'outputMs'].map((name) => `${name} ${Math.round(palabreState[name])}`).join(', ')";

    pub fn start(browser: &'a Browser) -> Result<Self> {
        let before = Self::counters(browser)?;
        Ok(Self { browser, start: browser.tapped(Tap::Output)?.0, before })
    }

    pub fn counters(browser: &Browser) -> Result<String> {
        Ok(browser.run(Self::COUNTERS)?.as_str().unwrap_or_default().to_owned())
    }

    pub fn print_after(self, seconds: usize) -> Result<()> {
        let rate_hz = self.browser.tapped(Tap::Output)?.1;
        wait_for_samples(self.browser, Tap::Output, self.start / rate_hz as usize + 1 + seconds)?;
        // Read the counters before the samples, because fetching samples keeps the page busy.
        let after = Self::counters(self.browser)?;
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
    /// Prints how far the sound card's clock deviated from the wall clock. If the sound card stopped, the measurement is invalid.
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
        let disturbed = if ppm.abs() > MOST_PPM || stood_ms > MOST_MS { "; this measurement is invalid" } else { "" };
        println!(
            "  sound card: clock {ppm:+.0} ppm relative to the wall clock, longest stop {stood_ms:.0} ms{disturbed}"
        );
        Ok(())
    }
}
