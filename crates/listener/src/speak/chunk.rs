//! A chunk of sound in a WebSocket message.

use palabre_room::Format;
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

#[derive(Debug, PartialEq)]
pub(crate) struct Chunk {
    pub(crate) number: u32,
    pub(crate) captured_ms: f64,
    pub(crate) samples: Vec<i16>,
}

impl Chunk {
    pub(crate) fn parse(bytes: &[u8], format: Format) -> Option<Self> {
        let (header, body) = bytes.split_at_checked(CHUNK_HEADER_BYTES)?;
        let number = u32::from_le_bytes(header[..4].try_into().ok()?);
        let zero = u32::from_le_bytes(header[4..8].try_into().ok()?);
        let captured_ms = f64::from_le_bytes(header[8..].try_into().ok()?);
        let sizes = SAMPLE_BYTES..=format.bytes_in_ms(MAX_CHUNK_MS);
        if zero != 0 || !captured_ms.is_finite() || body.len() % SAMPLE_BYTES != 0 || !sizes.contains(&body.len()) {
            return None;
        }
        let samples = body.chunks_exact(SAMPLE_BYTES).map(|pair| i16::from_le_bytes([pair[0], pair[1]])).collect();
        Some(Self { number, captured_ms, samples })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::protocol_doc::example;

    fn chunk(samples: usize) -> Vec<u8> {
        let mut bytes = vec![0; CHUNK_HEADER_BYTES];
        bytes.resize(CHUNK_HEADER_BYTES + samples * 2, 0);
        bytes
    }

    #[test]
    fn documented_chunk_is_parsed() {
        let hex = example("hex chunk 7 1000.0 1 -2");
        let bytes: Vec<u8> = hex.split_whitespace().map(|byte| u8::from_str_radix(byte, 16).unwrap()).collect();
        let chunk = Chunk::parse(&bytes, Format::default()).unwrap();
        assert_eq!((chunk.number, chunk.captured_ms, &chunk.samples[..]), (7, 1000.0, &[1, -2][..]));
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
        reserved[4] = 1;
        assert!(Chunk::parse(&reserved, format).is_none());
        let mut timeless = chunk(480);
        timeless[8..16].copy_from_slice(&f64::NAN.to_le_bytes());
        assert!(Chunk::parse(&timeless, format).is_none());
    }
}
