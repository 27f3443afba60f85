//! The report of a listener: its own state, and the state of its participant's page.
//!
//! A listener sends its report to the supervisor as one line of JSON in the `STATUS=` of sd_notify(3). The supervisor passes it on
//! in [`ParticipantStatus`](super::ParticipantStatus). Fields may be added: a reader ignores fields that it doesn't know.

use std::fmt;

use palabre_room::MicState;
use serde::{Deserialize, Serialize};

use super::codec::{self, Codec, StreamCodecs};

/// Maximum length of an encoded report, in bytes.
pub const MAX_REPORT_BYTES: usize = 1024;

/// Maximum length of [`ListenerReport::certificate_fault`], in characters.
pub const MAX_FAULT_CHARS: usize = 200;

/// Error: a text is not a listener's report.
#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    /// The listener's report is longer than [`MAX_REPORT_BYTES`]. Contains its length in bytes.
    #[error("the listener's report is too long: it has {0} bytes, the maximum is {MAX_REPORT_BYTES}")]
    TooLong(usize),
    /// The listener's report is not the JSON of a report.
    #[error("the listener's report is invalid: {0}")]
    Malformed(#[source] serde_json::Error),
}

/// The report of one listener.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ListenerReport {
    /// Number of open streams.
    pub streams: u32,
    /// How the participant sends sound.
    pub speaking: Speaking,
    /// Codec of the newest stream.
    #[serde(deserialize_with = "codec::some", skip_serializing_if = "Option::is_none")]
    pub down: Option<Codec>,
    /// Number of open streams of each codec.
    #[serde(skip_serializing_if = "StreamCodecs::is_empty")]
    pub codecs: StreamCodecs,
    /// Codec of the sound that the participant sends.
    #[serde(deserialize_with = "codec::some", skip_serializing_if = "Option::is_none")]
    pub up: Option<Codec>,
    /// Whether the participant has raised a hand.
    #[serde(skip_serializing_if = "is_false")]
    pub hand: bool,
    /// The participant's microphone, as the page shows it.
    #[serde(with = "Microphone", skip_serializing_if = "is_open")]
    pub microphone: MicState,
    /// Whether the page reports a weak connection.
    #[serde(skip_serializing_if = "is_false")]
    pub weak: bool,
    /// Whether the listener could not use the certificate that it was told to read, and keeps the previous certificate.
    #[serde(skip_serializing_if = "is_false")]
    pub certificate_refused: bool,
    /// Why the listener could not use the certificate that it was told to read, at most [`MAX_FAULT_CHARS`] characters. Empty if it uses it.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub certificate_fault: String,
    /// Number of times that the listener has loaded the certificate, or has failed to: at the start, after each SIGHUP, and when the certificate
    /// has changed. 0 from an earlier release.
    pub certificate_reads: u64,
    /// The parts of the listener's sandbox that the kernel enforces, such as `Landlock 6, seccomp`. Empty in the report of an older listener, which has
    /// no sandbox.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub sandbox: String,
    /// Counters of the listener's network traffic.
    pub traffic: Traffic,
    /// The last report of the participant's page.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub page: Option<PageReport>,
}

/// How a participant sends sound.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Speaking {
    /// The participant sends no sound.
    #[default]
    No,
    /// The participant sends sound over a WebSocket.
    Ws,
    /// The participant sends sound by one POST for each chunk.
    Queue,
    /// The participant sends sound by one POST without an end, as programs do.
    Post,
}

/// Counters of a listener's process.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Traffic {
    /// Bytes sent, TLS included.
    pub sent: u64,
    /// Bytes received, TLS included.
    pub received: u64,
    /// Number of frames of 20 ms that the listener did not send, because the client received a stream too slowly.
    pub skipped: u64,
}

/// What a page reports about its own connection. A page may leave out values that the page doesn't know.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct PageReport {
    /// Time from a chunk's arrival to its output by the sound card.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub delay_ms: Option<u64>,
    /// Number of underruns of the page's player.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub underruns: Option<u64>,
    /// Number of gaps in the stream, where one or more chunks never arrived at the page.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lost: Option<u64>,
    /// Depth of the player's buffer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub depth_ms: Option<u64>,
    /// Jitter of the chunks' arrival.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub jitter_ms: Option<u64>,
    /// Number of bytes of the stream that the page has received in total, reconnections included.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
    /// Sample rate of the sound card.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rate_hz: Option<u64>,
    /// The codec, as one word.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub codec: String,
    /// The browser, as one word.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub browser: String,
    /// Number of errors that the page counted.
    pub errors: u32,
    /// The page's newest error, as one word.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub error: String,
}

impl ListenerReport {
    /// Encodes the report as one line of JSON. Leaves out [`Self::certificate_fault`] if the line would be too long.
    #[must_use]
    pub fn encode(&self) -> String {
        let text = serde_json::to_string(self).unwrap_or_default();
        if text.len() <= MAX_REPORT_BYTES || self.certificate_fault.is_empty() {
            return text;
        }
        Self { certificate_fault: String::new(), ..self.clone() }.encode()
    }

    /// Parses the output of [`Self::encode`], or the report of a listener of an earlier release (`streams=1 speaking=ws
    /// hand`). Such a listener runs until it is replaced after the supervisor's upgrade.
    ///
    /// # Errors
    /// [`ReportError`].
    pub fn parse(text: &str) -> Result<Self, ReportError> {
        if text.len() > MAX_REPORT_BYTES {
            return Err(ReportError::TooLong(text.len()));
        }
        match Self::from_words(text) {
            Some(report) => Ok(report),
            None => serde_json::from_str(text).map_err(ReportError::Malformed),
        }
    }

    /// Parses the report of an earlier release. Reads the streams, the raised hand, the microphone and the refused
    /// certificate, and ignores the counters.
    fn from_words(text: &str) -> Option<Self> {
        let streams = text.split(' ').next()?.strip_prefix("streams=")?.parse().ok()?;
        let has = |wanted| text.split(' ').any(|word| word == wanted);
        let microphone = match (has("mic=muted"), has("mic=none")) {
            (true, _) => MicState::Muted,
            (_, true) => MicState::None,
            _ => MicState::Open,
        };
        let certificate_refused = has("certificate=refused");
        Some(Self { streams, hand: has("hand"), microphone, certificate_refused, ..Self::default() })
    }
}

/// The state of the listener in a few words, without counters: `streams=1 speaking=ws hand mic=muted`.
impl fmt::Display for ListenerReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "streams={} speaking={}", self.streams, self.speaking)?;
        let microphone = match self.microphone {
            MicState::Open => "",
            MicState::Muted => " mic=muted",
            MicState::None => " mic=none",
        };
        let certificate = if self.certificate_refused { " certificate=refused" } else { "" };
        let weak = if self.weak { " weak" } else { "" };
        write!(f, "{}{microphone}{weak}{certificate}", if self.hand { " hand" } else { "" })
    }
}

impl fmt::Display for Speaking {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::No => "no",
            Self::Ws => "ws",
            Self::Queue => "queue",
            Self::Post => "post",
        })
    }
}

/// The JSON form of [`MicState`].
#[derive(Serialize, Deserialize)]
#[serde(remote = "MicState", rename_all = "kebab-case")]
enum Microphone {
    Open,
    Muted,
    None,
}

fn is_false(flag: &bool) -> bool {
    !flag
}

fn is_open(microphone: &MicState) -> bool {
    *microphone == MicState::Open
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn largest() -> ListenerReport {
        let most = Some(1_000_000_000_000);
        ListenerReport {
            streams: u32::MAX,
            speaking: Speaking::Queue,
            down: Some(Codec::Opus { kbps: Some(u16::MAX) }),
            codecs: StreamCodecs { pcm: u32::MAX, adpcm: u32::MAX, opus: u32::MAX },
            up: Some(Codec::Adpcm),
            hand: true,
            microphone: MicState::Muted,
            weak: true,
            certificate_refused: true,
            certificate_fault: "f".repeat(MAX_FAULT_CHARS),
            certificate_reads: u64::MAX,
            sandbox: "Landlock 10, seccomp".into(),
            traffic: Traffic { sent: u64::MAX, received: u64::MAX, skipped: u64::MAX },
            page: Some(PageReport {
                delay_ms: most,
                underruns: most,
                lost: most,
                depth_ms: most,
                jitter_ms: most,
                bytes: most,
                rate_hz: most,
                codec: "c".repeat(16),
                browser: "b".repeat(40),
                errors: u32::MAX,
                error: "e".repeat(100),
            }),
        }
    }

    #[test]
    fn report_is_parsed_as_it_was_encoded_and_the_largest_has_room() {
        for report in [ListenerReport::default(), largest()] {
            let encoded = report.encode();
            assert!(encoded.len() <= MAX_REPORT_BYTES && !encoded.contains('\n'), "{encoded}");
            assert_eq!(ListenerReport::parse(&encoded).unwrap(), report);
        }
    }

    #[test]
    fn fault_that_makes_the_report_too_long_is_left_out() {
        let report = ListenerReport { certificate_fault: "\"é".repeat(MAX_FAULT_CHARS), ..largest() };
        let without = ListenerReport { certificate_fault: String::new(), ..largest() };
        assert_eq!(ListenerReport::parse(&report.encode()).unwrap(), without);
    }

    #[test]
    fn unknown_fields_are_ignored_and_missing_fields_have_their_defaults() {
        let report = ListenerReport::parse("{\"streams\":2,\"speaking\":\"ws\",\"more\":[1]}").unwrap();
        assert_eq!(report, ListenerReport { streams: 2, speaking: Speaking::Ws, ..ListenerReport::default() });
    }

    #[test]
    fn codec_of_a_later_release_is_unknown() {
        let report = ListenerReport::parse("{\"streams\":1,\"down\":\"Opus 24\",\"up\":\"AAC\"}").unwrap();
        assert_eq!((report.down, report.up), (Some(Codec::Opus { kbps: Some(24) }), None));
    }

    #[test]
    fn words_of_an_earlier_release_tell_presence() {
        let report = ListenerReport::parse("streams=1 speaking=ws hand mic=muted delay=142ms sent=9").unwrap();
        let expected =
            ListenerReport { streams: 1, hand: true, microphone: MicState::Muted, ..ListenerReport::default() };
        assert_eq!(report, expected);
        assert_eq!(ListenerReport::parse("streams=0 speaking=no").unwrap(), ListenerReport::default());
    }

    #[test]
    fn anything_else_and_a_report_that_is_too_long_are_refused() {
        for bad in ["", "exit code 78", "streams=x", "1", "{\"streams\":-1}", "{\"speaking\":\"loudly\"}"] {
            assert!(ListenerReport::parse(bad).is_err(), "{bad}");
        }
        let long = format!("{{\"streams\":1{}}}", " ".repeat(MAX_REPORT_BYTES));
        assert!(ListenerReport::parse(&long).unwrap_err().to_string().contains("the maximum is 1024"), "{long}");
    }

    #[test]
    fn report_is_shown_in_a_few_words() {
        assert_eq!(ListenerReport::default().to_string(), "streams=0 speaking=no");
        let shown = ListenerReport { streams: 1, ..largest() }.to_string();
        assert_eq!(shown, "streams=1 speaking=queue hand mic=muted weak certificate=refused");
    }
}
