//! Opus for the sound between machines: an encoder for the messages of this machine, and a decoder for those of another one.

use std::time::{Duration, Instant};

use palabre_host::rate_limit::RateLimit;
use palabre_room::{Format, Rate};
use palabre_sound::opus::{SumDecoder, SumEncoder, packets};

use crate::wire::mix::{Mix, Sound};

/// Time without a message after which the encoder begins anew: the room was silent. Otherwise the last 6.5 ms before the silence, which are still in the
/// encoder, would be heard after it.
const PAUSE: Duration = Duration::from_millis(250);
/// Rate limit for the Opus frames of one machine in one room that are decoded: 60 a second, 60 at once. A machine sends 50 a second, and the frames
/// of a short stall arrive at once.
const FRAME_LIMIT: RateLimit = RateLimit::new(60.0, 60.0);

/// Encodes the sound of a room.
pub(crate) struct Encoder {
    inner: SumEncoder,
    rate: Rate,
    /// Expected `counter` of the next message, the number of its first sample.
    next: u64,
    /// Time at which the last message was made, in µs.
    time_us: u64,
}

impl Encoder {
    /// Returns an encoder, or `None` if Opus doesn't support the sample rate.
    pub(crate) fn new(rate: Rate, kbps: u32) -> Option<Self> {
        let inner = SumEncoder::new(rate.hz(), kbps).ok()?;
        Some(Self { inner, rate, next: 0, time_us: 0 })
    }

    /// Replaces exact samples by Opus.
    pub(crate) fn encode(&mut self, mix: Mix) -> Mix {
        let Sound::Exact(samples) = &mix.sound else { return mix };
        let pause_us = mix.time_us.saturating_sub(self.time_us);
        let is_start = self.next != mix.counter || u128::from(pause_us) > PAUSE.as_micros();
        (self.next, self.time_us) = (mix.counter + samples.len() as u64, mix.time_us);
        if is_start {
            self.inner.reset();
        }
        let mut list = Vec::new();
        for frame in samples.chunks(Format { rate: self.rate }.frame_samples()) {
            packets::push(&mut list, self.inner.encode(frame));
        }
        Mix { sound: Sound::Opus { packets: list, is_start }, ..mix }
    }
}

/// Decodes the sound of another machine in a room.
#[derive(Debug)]
pub(crate) struct Decoder {
    inner: SumDecoder,
    limit: RateLimit,
}

impl Decoder {
    /// Returns a decoder, or `None` if Opus doesn't support the sample rate.
    pub(crate) fn new(rate: Rate) -> Option<Self> {
        Some(Self { inner: SumDecoder::new(rate.hz()).ok()?, limit: FRAME_LIMIT })
    }

    /// Returns the samples of a packet list. An invalid packet becomes sound that continues the previous packet. Returns `None` if the list exceeds
    /// [`FRAME_LIMIT`], because no room makes that much sound.
    pub(crate) fn decode(&mut self, list: &[u8], is_start: bool, now: Instant) -> Option<Vec<i32>> {
        if !packets::iter(list).all(|_| self.limit.admit(now)) {
            return None;
        }
        if is_start {
            self.inner.reset();
        }
        let mut samples = Vec::new();
        for packet in packets::iter(list).flatten() {
            if let Err(error) = self.inner.decode(packet, &mut samples) {
                log::debug!("{error}");
            }
        }
        Some(samples)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn mix(counter: u64, time_ms: u64) -> Mix {
        let rate = Format::default().rate;
        let samples = (0..480).map(|i| 10_000 * (i % 48 - 24)).collect();
        Mix { rate, epoch: 1, counter, time_us: time_ms * 1000, talkers: Vec::new(), sound: Sound::Exact(samples) }
    }

    fn parts(mix: &Mix) -> (&[u8], bool) {
        match &mix.sound {
            Sound::Opus { packets, is_start } => (packets, *is_start),
            Sound::Exact(_) => panic!("the sound is not encoded"),
        }
    }

    #[test]
    fn encoder_begins_anew_after_a_pause_and_after_dropped_samples() {
        let mut encoder = Encoder::new(Format::default().rate, 64).unwrap();
        let messages = [(0, 5000), (480, 5020), (960, 5290), (1440, 5541), (1920, 5561), (2880, 5581), (3360, 5601)];
        let starts = messages.map(|(counter, time_ms)| parts(&encoder.encode(mix(counter, time_ms))).1);
        assert_eq!(starts, [true, false, true, true, false, true, false]);
    }

    #[test]
    fn decoder_makes_no_more_sound_than_there_can_be() {
        let mut encoder = Encoder::new(Format::default().rate, 64).unwrap();
        let (mut decoder, now) = (Decoder::new(Format::default().rate).unwrap(), Instant::now());
        let mut decoded = 0;
        for number in 0..1000 {
            let message = encoder.encode(mix(480 * number, 5000 + 20 * number));
            let (packets, is_start) = parts(&message);
            decoded += decoder.decode(packets, is_start, now).map_or(0, |samples| samples.len() / 480);
        }
        assert_eq!(decoded, 60);
    }
}
