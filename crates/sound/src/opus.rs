//! Encodes and decodes Opus (RFC 6716): one channel, frames of 20 ms.
//!
//! The rest of Palabre sees only this module, so the library behind it can be exchanged. The decoder reads packets from the network:
//! every length is checked, and a packet that can't be decoded is an error, never a panic.

mod decoder;
mod encoder;
pub mod packets;
mod sum;

#[cfg(test)]
mod tests;

pub use decoder::{Decoder, PacketError};
pub(crate) use decoder::{MAX_LONG_PACKET_BYTES, samples_48k};
pub use encoder::Encoder;
pub use sum::{SumDecoder, SumEncoder};

/// Duration of a frame, and of the sound in each packet that an [`Encoder`] makes.
pub const FRAME_MS: u32 = 20;
/// Maximum length of a packet of 20 ms. Lower by one byte than RFC 6716 (section 3.4) permits: a frame has at most 1275 bytes, and one byte precedes it.
pub const MAX_PACKET_BYTES: usize = 1275;
/// Delay of encoder and decoder together, in samples at 48 kHz: 6.5 ms.
pub const LOOKAHEAD: usize = 312;
/// Number of packets that a new [`Decoder`] needs in the middle of speech until it makes the same sound as the decoder that has decoded
/// all packets, with an error 20 dB below the sound. After 4 packets (80 ms, RFC 7845, section 4.2) the two can differ as much as two sounds.
pub const PREROLL_PACKETS: usize = 12;
/// Sample rates of an [`Encoder`] and a [`Decoder`].
pub const RATES_HZ: [u32; 5] = [8_000, 12_000, 16_000, 24_000, 48_000];

/// Error: the sample rate is none of [`RATES_HZ`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("Opus does not support a sample rate of {0} Hz; use 8000, 12000, 16000, 24000 or 48000 Hz")]
pub struct UnsupportedRate(pub u32);

/// Returns whether Opus supports a sample rate.
#[must_use]
pub fn supports(rate_hz: u32) -> bool {
    RATES_HZ.contains(&rate_hz)
}

/// Returns the number of samples in a frame.
#[must_use]
pub const fn frame_samples(rate_hz: u32) -> usize {
    (rate_hz * FRAME_MS / 1000) as usize
}

/// Returns [`LOOKAHEAD`] in samples at `rate_hz`.
#[must_use]
pub const fn lookahead(rate_hz: u32) -> usize {
    LOOKAHEAD * rate_hz as usize / 48_000
}
