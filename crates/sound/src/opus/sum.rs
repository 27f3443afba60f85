//! Encodes and decodes sums of several talkers. Their samples may be larger than 16 bits.

use opus_pure::{Application, OpusDecoder, OpusEncoder};

use super::decoder::check;
use super::encoder::{COMPLEXITY, MISSING_FRAME};
use super::{MAX_PACKET_BYTES, PacketError, UnsupportedRate, frame_samples, supports};

/// The value of a sample that is full scale for the codec: the sum of four talkers, each with the largest sample of 16 bits.
const FULL_SCALE: f32 = 131_072.0;

/// Encodes sums of talkers to packets of 20 ms and one channel. Sums above four times the largest sample of 16 bits are distorted.
#[derive(Debug)]
pub struct SumEncoder {
    inner: OpusEncoder,
    frame: Vec<f32>,
    length: usize,
    packet: Box<[u8; MAX_PACKET_BYTES]>,
}

impl SumEncoder {
    /// Returns an encoder of sums at `rate_hz`, one of [`super::RATES_HZ`], to `kbps` kbit/s on average.
    pub fn new(rate_hz: u32, kbps: u32) -> Result<Self, UnsupportedRate> {
        let unsupported = UnsupportedRate(rate_hz);
        if !supports(rate_hz) {
            return Err(unsupported);
        }
        // All frequencies of the room's rate are kept, unlike for a single talker: a sum is not only speech.
        let mut inner = OpusEncoder::new(rate_hz as i32, 1, Application::Audio).map_err(|_| unsupported)?;
        inner.bitrate_bps = kbps.clamp(6, 510) as i32 * 1000;
        inner.complexity = COMPLEXITY;
        let length = frame_samples(rate_hz);
        Ok(Self { inner, frame: Vec::new(), length, packet: Box::new([0; MAX_PACKET_BYTES]) })
    }

    /// Encodes a frame of 20 ms, and returns the packet. If `frame` is shorter, zeros are added at its end. If it is longer, the rest is ignored.
    pub fn encode(&mut self, frame: &[i32]) -> &[u8] {
        self.frame.clear();
        self.frame.extend(frame.iter().take(self.length).map(|&sample| sample as f32 / FULL_SCALE));
        self.frame.resize(self.length, 0.0);
        match self.inner.encode(&self.frame, self.length, &mut self.packet[..]) {
            Ok(bytes) if bytes > 0 => self.packet.get(..bytes).unwrap_or(&[MISSING_FRAME]),
            Ok(_) | Err(_) => &[MISSING_FRAME],
        }
    }

    /// Forgets the sound so far. The encoder then works as a new one.
    pub fn reset(&mut self) {
        // `reset_state` fails only for settings that `new` refuses, so its result is ignored.
        let _ = self.inner.reset_state();
    }
}

/// Decodes the packets of a [`SumEncoder`].
#[derive(Debug)]
pub struct SumDecoder {
    inner: OpusDecoder,
    frame: Vec<f32>,
}

impl SumDecoder {
    /// Returns a decoder that makes sums at `rate_hz`, one of [`super::RATES_HZ`].
    pub fn new(rate_hz: u32) -> Result<Self, UnsupportedRate> {
        let inner = supports(rate_hz).then(|| OpusDecoder::new(rate_hz as i32, 1).ok()).flatten();
        Ok(Self { inner: inner.ok_or(UnsupportedRate(rate_hz))?, frame: vec![0.0; frame_samples(rate_hz)] })
    }

    /// Decodes a packet of 20 ms and one channel, and appends the sums to `out`. If the packet is invalid, appends 20 ms of sound that continue the
    /// previous packet.
    ///
    /// # Errors
    /// The packet is invalid.
    pub fn decode(&mut self, packet: &[u8], out: &mut Vec<i32>) -> Result<(), PacketError> {
        let decoded = check(packet).and_then(|()| self.decode_frame(packet));
        if decoded.is_err() && self.decode_frame(&[]).is_err() {
            self.frame.fill(0.0);
        }
        // A cast from a float saturates.
        out.extend(self.frame.iter().map(|&sample| (sample * FULL_SCALE).round() as i32));
        decoded
    }

    /// Forgets the sound so far. The decoder then works as a new one.
    pub fn reset(&mut self) {
        // `reset_state` fails only for settings that `new` refuses, so its result is ignored.
        let _ = self.inner.reset_state();
    }

    fn decode_frame(&mut self, packet: &[u8]) -> Result<(), PacketError> {
        // A packet that `check` accepts, and an empty packet, which conceals, fill the whole frame.
        let length = self.frame.len();
        self.inner.decode(packet, length, &mut self.frame).map(drop).map_err(|_| PacketError::Invalid)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::measure;
    use crate::opus::lookahead;
    use proptest::prelude::*;

    /// Returns two seconds of three tones, of which the sum is up to 2.9 times the largest sample of 16 bits.
    fn tones(rate_hz: u32) -> Vec<i32> {
        let tone = |i: usize, hz: f64| (std::f64::consts::TAU * hz * i as f64 / f64::from(rate_hz)).sin();
        let sum = |i| 31_000.0 * (tone(i, 440.0) + tone(i, 1000.0) + tone(i, 3000.0));
        (0..2 * rate_hz as usize).map(|i| sum(i).round() as i32).collect()
    }

    fn carry(rate_hz: u32, kbps: u32, sums: &[i32]) -> (Vec<i32>, usize) {
        let (mut encoder, mut decoder) = (SumEncoder::new(rate_hz, kbps).unwrap(), SumDecoder::new(rate_hz).unwrap());
        let (mut out, mut bytes) = (Vec::new(), 0);
        for frame in sums.chunks(frame_samples(rate_hz)) {
            let packet = encoder.encode(frame);
            bytes += packet.len();
            decoder.decode(packet, &mut out).unwrap();
        }
        (out, bytes)
    }

    #[test]
    fn sums_above_16_bits_keep_the_level_of_each_tone() {
        for rate_hz in [16_000, 24_000, 48_000] {
            let sums = tones(rate_hz);
            let (out, bytes) = carry(rate_hz, 64, &sums);
            assert_eq!(out.len(), sums.len());
            assert!((14_000..18_000).contains(&bytes), "{rate_hz}: {bytes} bytes in two seconds");
            // The measurement takes samples of 16 bits, so the test divides the sums by 4.
            let quarter = |sums: &[i32]| sums.iter().map(|&sum| (sum / 4) as i16).collect::<Vec<_>>();
            let from = rate_hz as usize / 2;
            let (said, heard) = (quarter(&sums[from..2 * from]), quarter(&out[from..2 * from]));
            for hz in [440.0, 1000.0, 3000.0] {
                let [said, heard] = [&said, &heard].map(|sound| measure::goertzel_dbfs(sound, rate_hz, hz));
                assert!((said - heard).abs() < 0.5, "{rate_hz}, {hz}: {said} and {heard} dBFS");
            }
        }
    }

    #[test]
    fn sound_is_later_by_the_lookahead() {
        let mut sums = vec![0; 24_000];
        sums[12_000..12_240].fill(60_000);
        let (out, _) = carry(24_000, 128, &sums);
        let center = |sums: &[i32]| {
            let weight = |(i, &sum): (usize, &i32)| (i as f64 * f64::from(sum).abs(), f64::from(sum).abs());
            let (weighted, all) = sums.iter().enumerate().map(weight).fold((0.0, 0.0), |a, b| (a.0 + b.0, a.1 + b.1));
            weighted / all
        };
        let later = center(&out) - center(&sums);
        assert!((later - lookahead(24_000) as f64).abs() < 24.0, "{later}");
    }

    #[test]
    fn extreme_sums_are_encoded() {
        let (mut encoder, mut decoder) = (SumEncoder::new(48_000, 64).unwrap(), SumDecoder::new(48_000).unwrap());
        let mut out = Vec::new();
        for round in 0..100 {
            let sum = |i: usize| if (i / (1 + round % 40)).is_multiple_of(2) { i32::MAX } else { i32::MIN };
            let frame: Vec<i32> = (0..960).map(sum).collect();
            decoder.decode(encoder.encode(&frame), &mut out).unwrap();
        }
        assert!(out.len() == 96_000 && out.iter().any(|&sum| sum.abs() > 100_000));
    }

    #[test]
    fn invalid_packets_are_concealed() {
        let (mut encoder, mut decoder) = (SumEncoder::new(24_000, 64).unwrap(), SumDecoder::new(24_000).unwrap());
        let mut out = Vec::new();
        for frame in tones(24_000).chunks(480) {
            decoder.decode(encoder.encode(frame), &mut out).unwrap();
        }
        let length = out.len();
        assert_eq!(decoder.decode(&[], &mut out), Err(PacketError::Length(0)));
        assert!(out.len() == length + 480 && out[length..].iter().any(|&sum| sum.abs() > 10_000));
        assert!(SumDecoder::new(44_100).is_err() && SumEncoder::new(44_100, 64).is_err());
    }

    proptest! {
        #[test]
        fn any_packets_give_frames_of_20_ms(packets in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..400), 1..6)) {
            let (mut decoder, mut out) = (SumDecoder::new(24_000).unwrap(), Vec::new());
            for packet in &packets {
                let _ = decoder.decode(packet, &mut out);
            }
            prop_assert_eq!(out.len(), 480 * packets.len());
        }
    }
}
