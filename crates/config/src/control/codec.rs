//! The codec of a participant's sound, as listeners report it.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The codec of sound between a listener and a page or program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Codec {
    /// 16-bit samples.
    Pcm,
    /// IMA ADPCM.
    Adpcm,
    /// Opus.
    Opus {
        /// Bit rate in kbit/s, if it is known.
        kbps: Option<u16>,
    },
}

/// Number of streams of each codec.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct StreamCodecs {
    /// Number of streams with PCM, which has 16-bit samples.
    #[serde(skip_serializing_if = "is_zero")]
    pub pcm: u32,
    /// Number of streams with ADPCM.
    #[serde(skip_serializing_if = "is_zero")]
    pub adpcm: u32,
    /// Number of streams with Opus.
    #[serde(skip_serializing_if = "is_zero")]
    pub opus: u32,
}

impl StreamCodecs {
    /// Returns whether no stream was counted.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// Counts streams by codec.
impl FromIterator<Codec> for StreamCodecs {
    fn from_iter<I: IntoIterator<Item = Codec>>(codecs: I) -> Self {
        let mut counts = Self::default();
        for codec in codecs {
            match codec {
                Codec::Pcm => counts.pcm += 1,
                Codec::Adpcm => counts.adpcm += 1,
                Codec::Opus { .. } => counts.opus += 1,
            }
        }
        counts
    }
}

/// `PCM 16`, `ADPCM`, `Opus 24`, or `Opus` if the bit rate is unknown.
impl fmt::Display for Codec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pcm => f.write_str("PCM 16"),
            Self::Adpcm => f.write_str("ADPCM"),
            Self::Opus { kbps: Some(kbps) } => write!(f, "Opus {kbps}"),
            Self::Opus { kbps: None } => f.write_str("Opus"),
        }
    }
}

/// Error: the text is not a codec.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the text is not a codec; codecs are 'PCM 16', 'ADPCM', 'Opus' and 'Opus KBPS'")]
pub struct NotACodec;

impl FromStr for Codec {
    type Err = NotACodec;

    fn from_str(text: &str) -> Result<Self, NotACodec> {
        match text {
            "PCM 16" => Ok(Self::Pcm),
            "ADPCM" => Ok(Self::Adpcm),
            "Opus" => Ok(Self::Opus { kbps: None }),
            _ => {
                let kbps = text.strip_prefix("Opus ").and_then(|kbps| kbps.parse().ok());
                kbps.map(|kbps| Self::Opus { kbps: Some(kbps) }).ok_or(NotACodec)
            }
        }
    }
}

impl Serialize for Codec {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

/// Parses an optional codec. A codec of a later release is read as `None`.
pub(crate) fn some<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Codec>, D::Error> {
    Ok(Option::<String>::deserialize(from)?.and_then(|text| text.parse().ok()))
}

fn is_zero(count: &u32) -> bool {
    *count == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codec_is_parsed_as_it_is_shown() {
        for text in ["PCM 16", "ADPCM", "Opus", "Opus 24"] {
            assert_eq!(text.parse::<Codec>().map(|codec| codec.to_string()), Ok(text.to_owned()));
        }
        for text in ["", "PCM", "Opus x", "Opus 65536", "Opus  24"] {
            assert_eq!(text.parse::<Codec>(), Err(NotACodec), "{text}");
        }
    }
}
