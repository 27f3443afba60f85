//! A chunk of sound in a WebSocket message.

use palabre_config::control::Codec;
use palabre_room::Format;
use palabre_sound::opus;
use tungstenite::protocol::WebSocketConfig;

/// Maximum length of a WebSocket message, and of each of its frames.
const MAX_MESSAGE_BYTES: usize = 64 * 1024;
/// Length of the header before the samples of a chunk.
const CHUNK_HEADER_BYTES: usize = 16;
/// Length of a sample. A chunk has at least one sample.
const SAMPLE_BYTES: usize = 2;
/// Maximum duration of a chunk.
const MAX_CHUNK_MS: u64 = 200;

/// Returns the limits of a WebSocket to `/speak`.
pub(crate) fn limits() -> WebSocketConfig {
    WebSocketConfig::default()
        .read_buffer_size(8 * 1024)
        .write_buffer_size(0)
        .max_write_buffer_size(16 * 1024)
        .max_message_size(Some(MAX_MESSAGE_BYTES))
        .max_frame_size(Some(MAX_MESSAGE_BYTES))
}

/// The value of bytes 4 to 7 of a chunk of samples.
const FORMAT_PCM: u32 = 0;
/// The value of bytes 4 to 7 of a chunk of Opus packets.
const FORMAT_OPUS: u32 = 1;
/// Maximum number of packets in a chunk.
const MAX_PACKETS: usize = (MAX_CHUNK_MS / opus::FRAME_MS as u64) as usize;

#[derive(Debug, PartialEq)]
pub(crate) struct Chunk<'a> {
    pub(crate) number: u32,
    pub(crate) captured_ms: f64,
    pub(crate) sound: Sound<'a>,
}

/// The sound of a chunk.
#[derive(Debug, PartialEq)]
pub(crate) enum Sound<'a> {
    Samples(Vec<i16>),
    /// Opus packets, which have not been decoded.
    Packets(Vec<&'a [u8]>),
}

impl Sound<'_> {
    pub(crate) fn codec(&self) -> Codec {
        match self {
            Self::Samples(_) => Codec::Pcm,
            Self::Packets(_) => Codec::Opus { kbps: None },
        }
    }
}

impl<'a> Chunk<'a> {
    pub(crate) fn parse(bytes: &'a [u8], format: Format) -> Option<Self> {
        let (header, body) = bytes.split_at_checked(CHUNK_HEADER_BYTES)?;
        let number = u32::from_le_bytes(header[..4].try_into().ok()?);
        let sound = match u32::from_le_bytes(header[4..8].try_into().ok()?) {
            FORMAT_PCM => Sound::Samples(samples(body, format)?),
            FORMAT_OPUS => Sound::Packets(packets(body)?),
            _ => return None,
        };
        let captured_ms = f64::from_le_bytes(header[8..].try_into().ok()?);
        captured_ms.is_finite().then_some(Self { number, captured_ms, sound })
    }
}

fn samples(body: &[u8], format: Format) -> Option<Vec<i16>> {
    let sizes = SAMPLE_BYTES..=format.bytes_in_ms(MAX_CHUNK_MS);
    if !body.len().is_multiple_of(SAMPLE_BYTES) || !sizes.contains(&body.len()) {
        return None;
    }
    Some(body.chunks_exact(SAMPLE_BYTES).map(|pair| i16::from_le_bytes([pair[0], pair[1]])).collect())
}

fn packets(list: &[u8]) -> Option<Vec<&[u8]>> {
    let packets: Vec<&[u8]> = opus::packets::iter(list).take(MAX_PACKETS + 1).collect::<Result<_, _>>().ok()?;
    (1..=MAX_PACKETS).contains(&packets.len()).then_some(packets)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::protocol_doc::hex;

    fn chunk(samples: usize) -> Vec<u8> {
        let mut bytes = vec![0; CHUNK_HEADER_BYTES];
        bytes.resize(CHUNK_HEADER_BYTES + samples * 2, 0);
        bytes
    }

    #[test]
    fn documented_chunk_is_parsed() {
        let bytes = hex("hex chunk 7 1000.0 1 -2");
        let chunk = Chunk::parse(&bytes, Format::default()).unwrap();
        assert_eq!(chunk, Chunk { number: 7, captured_ms: 1000.0, sound: Sound::Samples(vec![1, -2]) });
    }

    #[test]
    fn invalid_chunks_are_refused() {
        let format = Format::default();
        assert!(Chunk::parse(&chunk(1), format).is_some());
        assert!(Chunk::parse(&chunk(4800), format).is_some());
        for bytes in [Vec::new(), vec![0; 15], chunk(0), chunk(4801), chunk(480)[..17].to_vec()] {
            assert!(Chunk::parse(&bytes, format).is_none(), "{}", bytes.len());
        }
        let mut odd = chunk(480);
        odd.push(0);
        assert!(Chunk::parse(&odd, format).is_none());
        let mut reserved = chunk(480);
        reserved[4] = 2;
        assert!(Chunk::parse(&reserved, format).is_none());
        let mut timeless = chunk(480);
        timeless[8..16].copy_from_slice(&f64::NAN.to_le_bytes());
        assert!(Chunk::parse(&timeless, format).is_none());
    }

    #[test]
    fn documented_chunk_of_packets_is_parsed() {
        let bytes = hex("hex Opus chunk 8 1040.0");
        let chunk = Chunk::parse(&bytes, Format::default()).unwrap();
        let packets: Vec<&[u8]> = vec![&[0x48], &[0x48, 0xff, 0xfe]];
        assert_eq!(chunk, Chunk { number: 8, captured_ms: 1040.0, sound: Sound::Packets(packets) });
    }

    #[test]
    fn chunks_with_invalid_lists_of_packets_are_refused() {
        let parse = |list: &[u8]| {
            let mut bytes = vec![0; CHUNK_HEADER_BYTES];
            bytes[4] = 1;
            bytes.extend_from_slice(list);
            Chunk::parse(&bytes, Format::default()).is_some()
        };
        assert!(parse(&[1, 0, 0x48].repeat(10)));
        for list in [&[][..], &[1, 0, 0x48].repeat(11), &[0, 0], &[2, 0, 0x48], &[0xfc, 4, 0x48], &[1, 0, 0x48, 1]] {
            assert!(!parse(list), "{list:?}");
        }
    }
}
