//! Decodes packets.

use opus_pure::{OpusDecoder, packet};

use super::{FRAME_MS, MAX_PACKET_BYTES, UnsupportedRate, frame_samples, supports};

/// Maximum duration of the sound in a packet (RFC 6716, section 3.4).
const MAX_PACKET_MS: usize = 120;
/// Maximum length of a packet with several frames. The longest packet has 48 frames of 2.5 ms, each with 1275 bytes and a length field.
pub(crate) const MAX_LONG_PACKET_BYTES: usize = 48 * (MAX_PACKET_BYTES + 2) + 2;

/// Error: a packet can't be decoded. The decoder can go on with the next packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PacketError {
    /// The packet is empty or too long.
    #[error("an Opus packet has {0} bytes; it must have 1 to {MAX_PACKET_BYTES}")]
    Length(usize),
    /// The sound in the packet doesn't last 20 ms.
    #[error("an Opus packet lasts {tenths_ms} tenths of a ms; use packets of {FRAME_MS} ms")]
    Duration {
        /// The duration of the sound in the packet, in tenths of a millisecond.
        tenths_ms: u32,
    },
    /// The packet has two channels.
    #[error("an Opus packet has two channels; use one channel")]
    Stereo,
    /// The packet contradicts RFC 6716.
    #[error("not an Opus packet: its parts don't fit its length")]
    Invalid,
}

/// Returns the duration of the sound in a packet, in samples at 48 kHz, or 0 if the packet is invalid.
pub(crate) fn samples_48k(packet: &[u8]) -> usize {
    packet::samples_48k(packet).unwrap_or(0)
}

/// Decodes one channel of sound.
#[derive(Debug)]
pub struct Decoder {
    inner: OpusDecoder,
    rate_hz: u32,
    samples: Vec<i16>,
}

impl Decoder {
    /// Returns a decoder that makes sound at `rate_hz`, one of [`super::RATES_HZ`], whatever the rate of the encoder was.
    pub fn new(rate_hz: u32) -> Result<Self, UnsupportedRate> {
        let inner = supports(rate_hz).then(|| OpusDecoder::new(rate_hz as i32, 1).ok()).flatten();
        Ok(Self { inner: inner.ok_or(UnsupportedRate(rate_hz))?, rate_hz, samples: Vec::new() })
    }

    /// Decodes a packet of 20 ms and one channel, and appends the samples to `out`.
    ///
    /// # Errors
    /// `out` is unchanged. Call [`Self::conceal`] if the sound must keep its length.
    pub fn decode(&mut self, packet: &[u8], out: &mut Vec<i16>) -> Result<(), PacketError> {
        check(packet)?;
        self.decode_up_to(frame_samples(self.rate_hz), packet, out)
    }

    /// Decodes a packet of 2.5 to 120 ms, and mixes two channels into one. Appends the samples to `out`.
    ///
    /// # Errors
    /// `out` is unchanged.
    pub fn decode_any(&mut self, packet: &[u8], out: &mut Vec<i16>) -> Result<(), PacketError> {
        if !(1..=MAX_LONG_PACKET_BYTES).contains(&packet.len()) {
            return Err(PacketError::Length(packet.len()));
        }
        self.decode_up_to(self.rate_hz as usize * MAX_PACKET_MS / 1000, packet, out)
    }

    /// Appends 20 ms of sound to `out` that continue the previous packet. Use it instead of a missing packet. Several of them fade, by about
    /// 2 dB each; the caller must end a longer gap itself.
    pub fn conceal(&mut self, out: &mut Vec<i16>) {
        let length = frame_samples(self.rate_hz);
        if self.decode_up_to(length, &[], out).is_err() {
            out.resize(out.len() + length, 0);
        }
    }

    /// Multiplies the sound of all later packets by `2^(gain_q8 / 256 / 6.02)`: a gain in dB, in steps of 1/256.
    pub(crate) fn amplify(&mut self, gain_q8: i16) {
        self.inner.gain_q8 = gain_q8.into();
    }

    /// Forgets the sound so far. The decoder then works as a new one.
    pub fn reset(&mut self) {
        // `reset_state` fails only for settings that `new` refuses, so its result is ignored.
        let _ = self.inner.reset_state();
    }

    fn decode_up_to(&mut self, max_samples: usize, packet: &[u8], out: &mut Vec<i16>) -> Result<(), PacketError> {
        self.samples.resize(max_samples, 0);
        let decoded =
            self.inner.decode_s16(packet, max_samples, &mut self.samples).map_err(|_| PacketError::Invalid)?;
        out.extend_from_slice(self.samples.get(..decoded).unwrap_or(&self.samples));
        Ok(())
    }
}

/// Returns an error unless the packet has 20 ms of one channel.
pub(super) fn check(packet: &[u8]) -> Result<(), PacketError> {
    if !(1..=MAX_PACKET_BYTES).contains(&packet.len()) {
        return Err(PacketError::Length(packet.len()));
    }
    let samples_48k = packet::samples_48k(packet).map_err(|_| PacketError::Invalid)?;
    if samples_48k != frame_samples(48_000) {
        return Err(PacketError::Duration { tenths_ms: (samples_48k * 10 / 48) as u32 });
    }
    if packet::channels(packet).map_err(|_| PacketError::Invalid)? != 1 {
        return Err(PacketError::Stereo);
    }
    Ok(())
}
