//! The report about its own connection that a page sends every 10 s. The numbers are not verified, because only the operator sees them.
//! Texts are limited in length and to printable ASCII, because they are logged.

use palabre_config::control::PageReport;
use serde::Deserialize;

/// Maximum length of a text in a report, in characters.
const MAX_CHARS: usize = 160;
/// Maximum number of errors in a report.
const MAX_ERRORS: usize = 5;
/// Maximum length of the codec's name in a summary, in characters.
const MAX_CODEC_CHARS: usize = 16;
/// Maximum length of the browser's name in a summary, in characters.
const MAX_BROWSER_CHARS: usize = 40;
/// Maximum length of the newest error in a summary, in characters.
const MAX_ERROR_CHARS: usize = 100;
/// Maximum of any number in a report. A larger number is replaced by this maximum.
const MAX_NUMBER: f64 = 1e12;

/// The JSON of a `/report` request. A page leaves out fields whose values it doesn't know.
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
    /// Parses the JSON of a `/report` request. Returns `None` if it is invalid.
    pub fn parse(json: &[u8]) -> Option<Self> {
        let mut report: Self = serde_json::from_slice(json).ok()?;
        report.codec = plain(&report.codec);
        report.browser = plain(&report.browser);
        report.errors.truncate(MAX_ERRORS);
        report.errors.iter_mut().for_each(|error| *error = plain(error));
        Some(report)
    }

    /// Returns the summary of this report that is sent to the supervisor.
    pub fn summary(&self) -> PageReport {
        let number = |value: Option<f64>| value.map(whole);
        PageReport {
            delay_ms: number(self.delay_ms),
            underruns: number(self.underruns),
            lost: number(self.lost),
            depth_ms: number(self.depth_ms),
            jitter_ms: number(self.jitter_ms),
            bytes: number(self.bytes),
            rate_hz: number(self.rate_hz),
            codec: word(&self.codec, MAX_CODEC_CHARS),
            browser: word(&self.browser, MAX_BROWSER_CHARS),
            errors: u32::try_from(self.errors.len()).unwrap_or(u32::MAX),
            error: word(self.errors.last().map_or("", String::as_str), MAX_ERROR_CHARS),
        }
    }

    /// Returns all values in one line, for the log.
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
        format!(
            "report of the page:{numbers} codec='{}' browser='{}' errors={:?}",
            self.codec, self.browser, self.errors
        )
    }
}

fn whole(number: f64) -> u64 {
    // The cast saturates: a negative number becomes 0. JSON has no NaN.
    number.round().min(MAX_NUMBER) as u64
}

/// Replaces all characters except printable ASCII by `?`, because an operator reads the log on a terminal.
fn plain(text: &str) -> String {
    text.chars().map(|c| if c == ' ' || c.is_ascii_graphic() { c } else { '?' }).take(MAX_CHARS).collect()
}

/// Returns the first `max` characters of a text, with `_` for spaces, quotes and backslashes, so that JSON needs no escapes.
fn word(text: &str, max: usize) -> String {
    text.chars().take(max).map(|c| if " \"\\".contains(c) { '_' } else { c }).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn report_is_summarized_for_the_supervisor_and_for_the_log() {
        let report = Report::parse(crate::protocol_doc::example("json report").as_bytes()).unwrap();
        let expected = PageReport {
            delay_ms: Some(142),
            underruns: Some(0),
            lost: Some(0),
            depth_ms: Some(52),
            jitter_ms: Some(3),
            bytes: Some(1_234_567),
            rate_hz: Some(48_000),
            codec: "PCM_16".into(),
            browser: "Chromium_156,_Linux".into(),
            ..PageReport::default()
        };
        assert_eq!((report.summary(), Report::default().summary()), (expected, PageReport::default()));
        assert!(report.line().contains("codec='PCM 16' browser='Chromium 156, Linux' errors=[]"), "{}", report.line());
    }

    #[test]
    fn text_from_a_browser_cannot_spoil_a_terminal_or_a_summary() {
        let json = "{\"delay_ms\":-1e300,\"underruns\":1e300,\"browser\":\"\\u001b[2J\\nx\u{e9}\",\"errors\":[\"a\\u0000\"],\"more\":[]}";
        let report = Report::parse(json.as_bytes()).unwrap();
        let summary = report.summary();
        assert_eq!((summary.delay_ms, summary.underruns, summary.lost), (Some(0), Some(1_000_000_000_000), None));
        assert!(report.line().contains("browser='?[2J?x?' errors=[\"a?\"]"), "{}", report.line());
        let long = format!("{{\"browser\":\"{}\",\"errors\":[\"1\",\"2\",\"3\",\"4\",\"5\",\"6\"]}}", "x".repeat(1000));
        let report = Report::parse(long.as_bytes()).unwrap();
        assert_eq!((report.browser.len(), report.errors.len()), (MAX_CHARS, MAX_ERRORS));
        let longest =
            format!("{{\"codec\":\"{x}\",\"browser\":\"{x}\",\"errors\":[\"a\",\"b\\\" {x}\"]}}", x = "x".repeat(1000));
        let summary = Report::parse(longest.as_bytes()).unwrap().summary();
        assert_eq!((summary.codec.len(), summary.browser.len()), (MAX_CODEC_CHARS, MAX_BROWSER_CHARS));
        assert!(summary.errors == 2 && summary.error.starts_with("b__x") && summary.error.len() == MAX_ERROR_CHARS);
        for bad in ["", "[]x", "null", "{\"delay_ms\":\"1\"}", "{\"errors\":{}}"] {
            assert_eq!(Report::parse(bad.as_bytes()), None, "{bad}");
        }
    }
}
