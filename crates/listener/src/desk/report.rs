//! The figures of a page's own line, as it reports them every 10 s. They come from a browser, so nothing is believed but that
//! they are numbers, and texts are cut to what may stand in a log.

use serde::Deserialize;
use std::fmt;

/// The longest text of a report, in characters.
const MAX_CHARS: usize = 160;
/// The most errors of a report.
const MAX_ERRORS: usize = 5;
/// What a `STATUS=` has room for, in characters: the codec, the browser, and the newest error, which comes last.
const CODEC_CHARS: usize = 16;
const BROWSER_CHARS: usize = 40;
const ERROR_CHARS: usize = 100;
/// More than anybody counts in the life of a page.
const MOST: f64 = 1e12;

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

    /// The words of a `STATUS=` that change with each report, each after a space: all that [`Display`](fmt::Display) doesn't tell.
    pub fn figures(&self) -> String {
        let numbers = [
            ("depth", self.depth_ms, "ms"),
            ("jitter", self.jitter_ms, "ms"),
            ("bytes", self.bytes, ""),
            ("rate", self.rate_hz, "Hz"),
        ];
        let number = |(name, value, unit): (&str, Option<f64>, &str)| {
            value.map(|it| format!(" {name}={}{unit}", whole(it))).unwrap_or_default()
        };
        let text = |name: &str, text: &str, most: usize| match text {
            "" => String::new(),
            text => format!(" {name}={}", word(text, most)),
        };
        numbers.map(number).concat()
            + &text("codec", &self.codec, CODEC_CHARS)
            + &text("browser", &self.browser, BROWSER_CHARS)
            + &format!(" errors={}", self.errors.len())
            + &text("error", self.errors.last().map_or("", String::as_str), ERROR_CHARS)
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
    number.round().min(MOST) as u64
}

/// Printable ASCII only: a log is read on a terminal.
fn plain(text: &str) -> String {
    text.chars().map(|c| if c == ' ' || c.is_ascii_graphic() { c } else { '?' }).take(MAX_CHARS).collect()
}

/// A text that stands between two spaces, and in JSON as it is.
fn word(text: &str, most: usize) -> String {
    text.chars().take(most).map(|c| if " \"\\".contains(c) { '_' } else { c }).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_report_is_told_in_a_few_words() {
        let report = Report::parse(crate::protocol_doc::example("json report").as_bytes()).unwrap();
        assert_eq!(report.to_string(), " delay=142ms underruns=0 lost=0");
        let figures =
            " depth=52ms jitter=3ms bytes=1234567 rate=48000Hz codec=PCM_16 browser=Chromium_156,_Linux errors=0";
        assert_eq!((report.figures(), Report::default().figures()), (figures.into(), " errors=0".into()));
        assert!(report.line().contains("codec='PCM 16' browser='Chromium 156, Linux' errors=[]"), "{}", report.line());
    }

    #[test]
    fn nothing_that_a_browser_says_can_spoil_a_terminal_or_a_status() {
        let json = "{\"delay_ms\":-1e300,\"underruns\":1e300,\"browser\":\"\\u001b[2J\\nx\u{e9}\",\"errors\":[\"a\\u0000\"],\"more\":[]}";
        let report = Report::parse(json.as_bytes()).unwrap();
        assert_eq!(report.to_string(), " delay=0ms underruns=1000000000000");
        assert!(report.line().contains("browser='?[2J?x?' errors=[\"a?\"]"), "{}", report.line());
        let long = format!("{{\"browser\":\"{}\",\"errors\":[\"1\",\"2\",\"3\",\"4\",\"5\",\"6\"]}}", "x".repeat(1000));
        let report = Report::parse(long.as_bytes()).unwrap();
        assert_eq!((report.browser.len(), report.errors.len()), (MAX_CHARS, MAX_ERRORS));
        let longest =
            format!("{{\"codec\":\"{x}\",\"browser\":\"{x}\",\"errors\":[\"a\",\"b\\\" {x}\"]}}", x = "x".repeat(1000));
        let figures = Report::parse(longest.as_bytes()).unwrap().figures();
        assert!(
            figures.contains(" errors=2 error=b__x") && figures.len() == 7 + 16 + 9 + 40 + 9 + 7 + 100,
            "{figures}"
        );
        for bad in ["", "[]x", "null", "{\"delay_ms\":\"1\"}", "{\"errors\":{}}"] {
            assert_eq!(Report::parse(bad.as_bytes()), None, "{bad}");
        }
    }
}
