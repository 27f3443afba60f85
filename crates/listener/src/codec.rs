//! The codec of a stream, as the parameters `codec` and `kbps` of its request name it.

use crate::http::{Head, Response};
use palabre_config::{CodecSetting, control};
use palabre_room::Format;

/// The bit rates of Opus that a stream can have, in kbit/s.
pub(crate) const OPUS_KBPS: [u32; 3] = [16, 24, 32];
/// Bit rate of a request without the parameter `kbps`, in kbit/s.
const DEFAULT_KBPS: u32 = 24;

/// The codec of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Codec {
    /// 16-bit samples.
    Pcm,
    /// IMA ADPCM: 4 bits per sample.
    Adpcm,
    /// Opus (RFC 6716). `kbps`: bit rate in kbit/s, one of [`OPUS_KBPS`].
    Opus { kbps: u32 },
}

/// Returns the field `codec` of `GET /me`, which tells the page how to choose the codec; `None` if the operator permits only PCM.
pub(crate) fn choice(setting: CodecSetting) -> Option<&'static str> {
    match setting {
        CodecSetting::Auto => Some("auto"),
        CodecSetting::Opus => Some("opus"),
        CodecSetting::Pcm => None,
    }
}

impl Codec {
    /// Returns the codec that the request asks for, or the response to an invalid request.
    pub(crate) fn of(head: &Head, setting: CodecSetting) -> Result<Self, Response> {
        Self::permitted(Self::parse(head.parameter("codec"), head.parameter("kbps"))?, setting)
    }

    /// Returns the codec Opus with the bit rate that the request asks for, or the response to an invalid request.
    pub(crate) fn opus_of(head: &Head, setting: CodecSetting) -> Result<Self, Response> {
        Self::permitted(Self::parse(Some("opus"), head.parameter("kbps"))?, setting)
    }

    fn permitted(codec: Self, setting: CodecSetting) -> Result<Self, Response> {
        if codec != Self::Pcm && setting == CodecSetting::Pcm {
            return Err(Response::text(404, "this server sends only PCM: its operator has turned off other codecs"));
        }
        Ok(codec)
    }

    /// Returns the codec as the listener reports it to the supervisor.
    pub(crate) fn reported(self) -> control::Codec {
        match self {
            Self::Pcm => control::Codec::Pcm,
            Self::Adpcm => control::Codec::Adpcm,
            Self::Opus { kbps } => control::Codec::Opus { kbps: u16::try_from(kbps).ok() },
        }
    }

    /// Returns the approximate size in bytes of `ms` milliseconds of sound.
    pub(crate) fn bytes_in_ms(self, ms: u64, format: Format) -> usize {
        match self {
            Self::Pcm => format.bytes_in_ms(ms),
            Self::Adpcm => format.bytes_in_ms(ms) / 4,
            Self::Opus { kbps } => (u64::from(kbps) * ms / 8) as usize,
        }
    }

    fn parse(codec: Option<&str>, kbps: Option<&str>) -> Result<Self, Response> {
        match (codec, kbps) {
            (None | Some("pcm"), None) => Ok(Self::Pcm),
            (Some("adpcm"), None) => Ok(Self::Adpcm),
            (Some("opus"), None) => Ok(Self::Opus { kbps: DEFAULT_KBPS }),
            (Some("opus"), Some(kbps)) => opus(kbps),
            (None | Some("pcm" | "adpcm"), Some(_)) => {
                Err(Response::text(400, "the parameter 'kbps' is valid only with 'codec=opus'"))
            }
            (Some(_), _) => Err(Response::text(400, "the parameter 'codec' must be 'pcm', 'adpcm' or 'opus'")),
        }
    }
}

/// Parses the parameter `kbps` of a request for Opus.
fn opus(kbps: &str) -> Result<Codec, Response> {
    let rate = OPUS_KBPS.into_iter().find(|rate| rate.to_string() == kbps);
    let refusal = || Response::text(400, "the parameter 'kbps' must be 16, 24 or 32");
    rate.map(|kbps| Codec::Opus { kbps }).ok_or_else(refusal)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codec_and_bit_rate_are_parsed() {
        let parse = |codec, kbps| Codec::parse(codec, kbps).ok();
        assert_eq!(parse(None, None), Some(Codec::Pcm));
        assert_eq!(parse(Some("adpcm"), None), Some(Codec::Adpcm));
        assert_eq!(parse(Some("opus"), None), Some(Codec::Opus { kbps: 24 }));
        assert_eq!(parse(Some("opus"), Some("16")), Some(Codec::Opus { kbps: 16 }));
        for (codec, kbps) in [
            (Some("mp3"), None),
            (Some(""), None),
            (Some("opus"), Some("17")),
            (Some("opus"), Some("024")),
            (None, Some("24")),
        ] {
            assert_eq!(parse(codec, kbps), None, "{codec:?} {kbps:?}");
        }
    }
}
