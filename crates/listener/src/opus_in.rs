//! Decodes the Opus that a participant sends, not much faster than real time.
//!
//! A packet of one byte may stand for 120 ms of sound, so a client could otherwise occupy a processor with a few kilobytes per second.

use palabre_sound::opus::{Decoder, FRAME_MS, PacketError, UnsupportedRate};
use std::time::{Duration, Instant};

/// Maximum duration of sound ahead of real time. A page may send this much at once after an interruption.
pub(crate) const BURST: Duration = Duration::from_secs(10);
/// Sound that arrives faster than real time by less than 1 part in this number uses no part of [`BURST`]. So a clock that is fast doesn't matter.
const TOLERANCE: u32 = 4;

/// Duration of the sound in a packet of a page.
const FRAME: Duration = Duration::from_millis(FRAME_MS as u64);

/// Error: packets can't be decoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum OpusError {
    /// Opus doesn't support the room's sample rate.
    #[error("{0}; send PCM in this room")]
    Rate(#[from] UnsupportedRate),
    /// A packet has a duration or a number of channels that is not supported.
    #[error(transparent)]
    Packet(PacketError),
    /// The sound arrived faster than real time.
    #[error("the participant's Opus packets arrive faster than real time")]
    TooFast,
}

/// The decoder of a participant's sound.
#[derive(Debug)]
pub(crate) struct OpusIn {
    rate_hz: u32,
    /// The decoder, and the number of the source whose packets it has decoded.
    decoder: Option<(u64, Decoder)>,
    /// The time at which the decoded sound would end if it were played in real time from its arrival on.
    lasts_until: Option<Instant>,
}

impl OpusIn {
    /// Returns a decoder for a room's sample rate.
    pub(crate) fn new(rate_hz: u32) -> Self {
        Self { rate_hz, decoder: None, lasts_until: None }
    }

    /// Decodes packets of 20 ms. They continue the earlier packets of the same source. Invalid packets are concealed.
    pub(crate) fn decode(&mut self, now: Instant, source: u64, packets: &[&[u8]]) -> Result<Vec<i16>, OpusError> {
        let decoder = match &mut self.decoder {
            Some((last, decoder)) if *last == source => decoder,
            decoder => &mut decoder.insert((source, Decoder::new(self.rate_hz)?)).1,
        };
        let mut samples = Vec::new();
        for packet in packets {
            if !wait(self.lasts_until, now).is_zero() {
                return Err(OpusError::TooFast);
            }
            match decoder.decode(packet, &mut samples) {
                Err(error @ (PacketError::Duration { .. } | PacketError::Stereo)) => {
                    return Err(OpusError::Packet(error));
                }
                Err(PacketError::Length(_) | PacketError::Invalid) => decoder.conceal(&mut samples),
                Ok(()) => {}
            }
            self.lasts_until = Some(after(self.lasts_until, now, FRAME));
        }
        Ok(samples)
    }

    /// Notes that the caller has decoded sound of this duration with another decoder. Returns the time to wait before the caller decodes more.
    pub(crate) fn note(&mut self, now: Instant, duration: Duration) -> Duration {
        self.lasts_until = Some(after(self.lasts_until, now, duration));
        wait(self.lasts_until, now)
    }
}

fn after(lasts_until: Option<Instant>, now: Instant, duration: Duration) -> Instant {
    lasts_until.map_or(now, |until| until.max(now)) + (duration - duration / TOLERANCE)
}

fn wait(lasts_until: Option<Instant>, now: Instant) -> Duration {
    lasts_until.map_or(Duration::ZERO, |until| until.saturating_duration_since(now + BURST))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use palabre_sound::measure::{goertzel_dbfs, tone};
    use palabre_sound::opus::Encoder;

    const RATE_HZ: u32 = 24_000;

    fn packets(samples: &[i16]) -> Vec<Vec<u8>> {
        let mut encoder = Encoder::new(RATE_HZ, 24).unwrap();
        let encode = |frame: &[i16]| {
            let mut packet = Vec::new();
            encoder.encode(frame, &mut packet);
            packet
        };
        samples.chunks(480).map(encode).collect()
    }

    fn refs(packets: &[Vec<u8>]) -> Vec<&[u8]> {
        packets.iter().map(Vec::as_slice).collect()
    }

    #[test]
    fn messages_of_a_source_are_one_sound() {
        let packets = packets(&tone(RATE_HZ, 1000.0, -20.0, 24_000));
        let (mut whole, mut parts, now) = (OpusIn::new(RATE_HZ), OpusIn::new(RATE_HZ), Instant::now());
        let expected = whole.decode(now, 1, &refs(&packets)).unwrap();
        let heard: Vec<i16> = packets.chunks(3).flat_map(|part| parts.decode(now, 1, &refs(part)).unwrap()).collect();
        assert!(heard == expected);
        assert!((goertzel_dbfs(&heard[12_000..], RATE_HZ, 1000.0) + 20.0).abs() < 1.0);
        // For another source, the decoder starts again without the state of the previous source.
        assert!(whole.decode(now, 2, &refs(&packets)).unwrap() == expected);
    }

    #[test]
    fn unsupported_rates_and_packets_are_refused_and_invalid_ones_concealed() {
        let now = Instant::now();
        assert_eq!(OpusIn::new(44_100).decode(now, 1, &[&[72]]), Err(OpusError::Rate(UnsupportedRate(44_100))));
        let mut opus = OpusIn::new(RATE_HZ);
        assert_eq!(opus.decode(now, 1, &[&[72, 0], &[76, 0, 0]]), Err(OpusError::Packet(PacketError::Stereo)));
        assert!(matches!(opus.decode(now, 1, &[&[80]]), Err(OpusError::Packet(PacketError::Duration { .. }))));
        assert_eq!(opus.decode(now, 1, &[&[], &[67, 13, 0], &[72]]).unwrap().len(), 3 * 480);
    }

    #[test]
    fn ten_seconds_may_arrive_at_once_and_then_real_time() {
        let (mut opus, start) = (OpusIn::new(RATE_HZ), Instant::now());
        let packet: &[u8] = &[72];
        // A quarter more is tolerated.
        let decoded = (0..10_000).take_while(|_| opus.decode(start, 1, &[packet]).is_ok()).count();
        assert_eq!(decoded, 10 * 50 * 4 / 3 + 1);
        assert_eq!(
            opus.decode(start, 2, &[packet]),
            Err(OpusError::TooFast),
            "another source has no budget of its own"
        );
        let later = (1..1000).filter(|i| opus.decode(start + FRAME * *i, 1, &[packet]).is_ok()).count();
        assert_eq!(later, 999, "real time is always possible");
        let mut decoded = 0;
        for i in 1000..2000 {
            decoded += (0..10).filter(|_| opus.decode(start + FRAME * i, 1, &[packet]).is_ok()).count();
        }
        assert!(decoded < 2000, "{decoded} packets in the time of 1000");
    }

    #[test]
    fn sound_that_other_code_decodes_counts() {
        let (mut opus, start) = (OpusIn::new(RATE_HZ), Instant::now());
        assert_eq!(opus.note(start, Duration::from_secs(8)), Duration::ZERO);
        assert_eq!(opus.note(start, Duration::from_secs(8)), Duration::from_secs(2));
        assert_eq!(opus.note(start + Duration::from_secs(2), Duration::ZERO), Duration::ZERO);
    }
}
