//! The figures of a page's own line, as it reports them every 10 s. They come from a browser, so nothing is believed but that
//! they are numbers, and texts are cut to what may stand in a log.

use serde::Deserialize;
use std::fmt;

/// The longest text of a report, in characters.
const MAX_CHARS: usize = 160;
/// The most errors of a report.
const MAX_ERRORS: usize = 5;

/// What a page reports. What it doesn't know is absent.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct Report {
    delay_ms: Option<f64>,
    depth_ms: Option<f64>,
    jitter_ms: Option<f64>,
    underruns: Option<f64>,
    lost: Option<f64>,
    bytes: Option<f64>,
    rate_hz: Option<f64>,
    codec: String,
    browser: String,
    errors: Vec<String>,
}

impl Report {
    /// Reads the JSON of a request; `None` if it is none.
    pub fn parse(json: &[u8]) -> Option<Self> {
        let mut report: Self = serde_json::from_slice(json).ok()?;
        report.codec = plain(&report.codec);
        report.browser = plain(&report.browser);
        report.errors.truncate(MAX_ERRORS);
        report.errors.iter_mut().for_each(|error| *error = plain(error));
        Some(report)
    }

    /// Everything, for a log.
    pub fn line(&self) -> String {
        let number =
            |name: &str, value: Option<f64>| value.map(|it| format!(" {name}={}", whole(it))).unwrap_or_default();
        let numbers = [
            ("delay_ms", self.delay_ms),
            ("depth_ms", self.depth_ms),
            ("jitter_ms", self.jitter_ms),
            ("underruns", self.underruns),
            ("lost", self.lost),
            ("bytes", self.bytes),
            ("rate_hz", self.rate_hz),
        ];
        let numbers: String = numbers.map(|(name, value)| number(name, value)).concat();
        format!("the page reports:{numbers} codec='{}' browser='{}' errors={:?}", self.codec, self.browser, self.errors)
    }
}

/// The words of a `STATUS=`; each begins with a space.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(delay) = self.delay_ms {
            write!(f, " delay={}ms", whole(delay))?;
        }
        if let Some(underruns) = self.underruns {
            write!(f, " underruns={}", whole(underruns))?;
        }
        if let Some(lost) = self.lost {
            write!(f, " lost={}", whole(lost))?;
        }
        Ok(())
    }
}

fn whole(number: f64) -> u64 {
    // A cast of a float saturates, and makes 0 of what is no number.
    number.round() as u64
}

/// Printable ASCII only: a log is read on a terminal.
fn plain(text: &str) -> String {
    text.chars().map(|c| if c == ' ' || c.is_ascii_graphic() { c } else { '?' }).take(MAX_CHARS).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_report_is_told_in_a_few_words() {
        let report = Report::parse(crate::protocol_doc::example("json report").as_bytes()).unwrap();
        assert_eq!(report.to_string(), " delay=142ms underruns=0 lost=0");
        assert!(report.line().contains("codec='PCM 16' browser='Chromium 156, Linux' errors=[]"), "{}", report.line());
    }

    #[test]
    fn nothing_that_a_browser_says_can_spoil_a_terminal_or_a_status() {
        let json = "{\"delay_ms\":-1e300,\"underruns\":1e300,\"browser\":\"\\u001b[2J\\nx\u{e9}\",\"errors\":[\"a\\u0000\"],\"more\":[]}";
        let report = Report::parse(json.as_bytes()).unwrap();
        assert_eq!(report.to_string(), format!(" delay=0ms underruns={}", u64::MAX));
        assert!(report.line().contains("browser='?[2J?x?' errors=[\"a?\"]"), "{}", report.line());
        let long = format!("{{\"browser\":\"{}\",\"errors\":[\"1\",\"2\",\"3\",\"4\",\"5\",\"6\"]}}", "x".repeat(1000));
        let report = Report::parse(long.as_bytes()).unwrap();
        assert_eq!((report.browser.len(), report.errors.len()), (MAX_CHARS, MAX_ERRORS));
        for bad in ["", "[]x", "null", "{\"delay_ms\":\"1\"}", "{\"errors\":{}}"] {
            assert_eq!(Report::parse(bad.as_bytes()), None, "{bad}");
        }
    }
}
