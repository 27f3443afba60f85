//! Converts any WAV to the room's format: decodes, mixes down to one channel, resamples and rounds.
//!
//! One [`Converter`] serves a whole stream, so that pieces of any length join without a discontinuity. Samples that already
//! have the room's format (16 bits, one channel, the same rate) pass unchanged, to the bit.

use rubato::audioadapter_buffers::direct::InterleavedSlice;
use rubato::{
    Async, FixedAsync, Indexing, Resampler as _, SincInterpolationParameters, SincInterpolationType, WindowFunction,
};

use crate::wav::{DataEnd, Decoder, Encoding, Head, WavError};

/// Length of the resampling filter, in samples of the lower of the two rates. The delay of the filter is half of its
/// length: 2 to 4 ms.
const FILTER_SAMPLES: u32 = 128;
/// Points of the filter's table per sample of the lower rate.
const FILTER_POINTS: u32 = 128;

/// Converts the bytes after a WAV's head to samples.
pub struct Converter {
    /// Used instead of the other fields if the input already has the output format.
    plain: Option<Plain>,
    decoder: Decoder,
    decoded: Vec<f32>,
    resampler: Option<Resampler>,
}

impl Converter {
    /// Returns a converter from the format of `head` to one channel at `out_rate_hz`. Fails with [`WavError::Unsupported`] if
    /// a rate is not from 8000 to 192 000 Hz.
    pub fn new(head: &Head, out_rate_hz: u32) -> Result<Self, WavError> {
        for rate_hz in [head.rate_hz, out_rate_hz] {
            if !(8_000..=192_000).contains(&rate_hz) {
                return Err(WavError::Unsupported { what: format!("a sample rate of {rate_hz} Hz is not supported") });
            }
        }
        let resampler = (head.rate_hz != out_rate_hz).then(|| Resampler::new(head.rate_hz, out_rate_hz)).transpose()?;
        let as_wanted = resampler.is_none() && head.channels == 1 && head.encoding == Encoding::S16;
        let plain = as_wanted.then(|| Plain { end: DataEnd::new(head.data_bytes), samples: Samples::default() });
        Ok(Self { plain, decoder: Decoder::new(head), decoded: Vec::new(), resampler })
    }

    /// Converts `bytes` and appends the samples to `out`. Up to 7 ms of samples stay in the converter until more bytes
    /// arrive.
    pub fn push(&mut self, bytes: &[u8], out: &mut Vec<i16>) {
        if let Some(plain) = &mut self.plain {
            return plain.push(bytes, out);
        }
        self.decoded.clear();
        self.decoder.push(bytes, &mut self.decoded);
        match &mut self.resampler {
            None => out.extend(self.decoded.iter().map(|&x| to_i16(x))),
            Some(resampler) => resampler.push(&self.decoded, out),
        }
    }

    /// Appends the samples that are still in the converter, so that the output is as long as the input. Drops the bytes of an
    /// incomplete sample.
    pub fn finish(&mut self, out: &mut Vec<i16>) {
        if let Some(resampler) = &mut self.resampler {
            resampler.finish(out);
        }
    }
}

/// Passes the samples of an input that already has the output format.
struct Plain {
    end: DataEnd,
    samples: Samples,
}

impl Plain {
    fn push(&mut self, bytes: &[u8], out: &mut Vec<i16>) {
        self.end.pass(bytes, |sound| self.samples.push(sound, out));
    }
}

/// Assembles 16-bit samples from bytes. The two bytes of a sample may arrive in separate pieces.
#[derive(Default)]
struct Samples {
    half: Option<u8>,
}

impl Samples {
    fn push(&mut self, mut bytes: &[u8], out: &mut Vec<i16>) {
        if let (Some(low), Some((&high, rest))) = (self.half, bytes.split_first()) {
            out.push(i16::from_le_bytes([low, high]));
            (self.half, bytes) = (None, rest);
        }
        let samples = bytes.chunks_exact(2);
        self.half = samples.remainder().first().copied().or(self.half);
        out.extend(samples.map(|sample| i16::from_le_bytes([sample[0], sample[1]])));
    }
}

fn to_i16(value: f32) -> i16 {
    // The cast saturates: +1.0 becomes 32 767.
    (value * 32_768.0).round() as i16
}

/// rubato's sinc resampler in chunks of 2.5 ms. Skips the delay of the filter at the start and flushes it at the end.
struct Resampler {
    inner: Async<f32>,
    ratio: f64,
    pending: Vec<f32>,
    resampled: Vec<f32>,
    /// Output samples to skip: the remaining delay of the filter.
    to_skip: usize,
    taken: u64,
    given: u64,
}

impl Resampler {
    fn new(in_hz: u32, out_hz: u32) -> Result<Self, WavError> {
        // The filter runs at the input's rate, so a lower output rate needs a longer filter. The filter's table keeps
        // its size.
        let stretch = in_hz.div_ceil(out_hz).max(1);
        let filter =
            SincInterpolationParameters::new((FILTER_SAMPLES * stretch) as usize, WindowFunction::BlackmanHarris2)
                .oversampling_factor((FILTER_POINTS / stretch).max(16) as usize)
                .interpolation(SincInterpolationType::Cubic);
        let ratio = f64::from(out_hz) / f64::from(in_hz);
        let chunk = (in_hz / 400) as usize;
        let inner = Async::new_sinc(ratio, 1.0, &filter, chunk, 1, FixedAsync::Input).map_err(|error| {
            WavError::Unsupported {
                what: format!("the conversion from {in_hz} Hz to {out_hz} Hz is not supported ({error})"),
            }
        })?;
        let (resampled, to_skip) = (vec![0.0; inner.output_frames_max()], inner.output_delay());
        Ok(Self { inner, ratio, pending: Vec::new(), resampled, to_skip, taken: 0, given: 0 })
    }

    fn push(&mut self, samples: &[f32], out: &mut Vec<i16>) {
        self.taken += samples.len() as u64;
        self.pending.extend_from_slice(samples);
        let mut at = 0;
        while self.pending.len() - at >= self.inner.input_frames_next() {
            at += self.step(at, None, u64::MAX, out);
        }
        self.pending.drain(..at);
    }

    fn finish(&mut self, out: &mut Vec<i16>) {
        let due = (self.taken as f64 * self.ratio).round() as u64;
        let mut left = self.pending.len();
        self.pending.resize(self.inner.input_frames_max(), 0.0);
        while self.given < due {
            self.step(0, Some(left), due, out);
            left = 0;
        }
        self.pending.clear();
    }

    /// Resamples one chunk from `pending[at..]`. Returns how many samples of the chunk were used.
    #[expect(clippy::expect_used, reason = "the buffers have the lengths that rubato requires")]
    fn step(&mut self, at: usize, partial: Option<usize>, due: u64, out: &mut Vec<i16>) -> usize {
        let (from, room) = (&self.pending[at..], self.resampled.len());
        let input =
            InterleavedSlice::new(from, 1, from.len()).expect("bug: a mono slice is not accepted as one channel");
        let mut output = InterleavedSlice::new_mut(&mut self.resampled, 1, room)
            .expect("bug: a mono slice is not accepted as one channel");
        let indexing = partial.map(|n| Indexing::new().partial_len(n));
        let (used, made) = self
            .inner
            .process_into_buffer(&input, &mut output, indexing.as_ref())
            .expect("bug: a buffer is too short for the resampler");
        let skipped = self.to_skip.min(made);
        self.to_skip -= skipped;
        let wanted = usize::try_from(due - self.given).unwrap_or(usize::MAX).min(made - skipped);
        self.given += wanted as u64;
        out.extend(self.resampled[skipped..skipped + wanted].iter().map(|&x| to_i16(x)));
        used
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::measure;
    use crate::wav::Encoding;
    use proptest::prelude::*;

    fn convert(head: &Head, out_rate_hz: u32, bytes: &[u8], piece: usize) -> Vec<i16> {
        let mut converter = Converter::new(head, out_rate_hz).unwrap();
        let mut out = Vec::new();
        for piece in bytes.chunks(piece) {
            converter.push(piece, &mut out);
        }
        converter.finish(&mut out);
        out
    }

    /// Returns the samples of a float WAV with a sine of −6 dBFS RMS in both channels, as bytes.
    fn stereo_float(rate_hz: u32, freq_hz: f64, n: usize) -> Vec<u8> {
        let step = std::f64::consts::TAU * freq_hz / f64::from(rate_hz);
        let sample = |i: usize| (0.707 * (i as f64 * step).sin()) as f32;
        (0..n).flat_map(|i| [sample(i), sample(i)]).flat_map(f32::to_le_bytes).collect()
    }

    #[test]
    fn a_tone_of_44100_hz_stereo_float_keeps_80_db_at_24000_hz() {
        let head = Head { rate_hz: 44_100, channels: 2, encoding: Encoding::F32, data_bytes: None };
        let out = convert(&head, 24_000, &stereo_float(44_100, 1000.0, 44_100), 777);
        assert_eq!(out.len(), 24_000);
        let snr_db = measure::snr_db(&out[480..23_520], 24_000, 1000.0);
        assert!(snr_db >= 80.0, "{snr_db}");
        assert!((measure::goertzel_dbfs(&out, 24_000, 1000.0) + 6.02).abs() < 0.1);
    }

    #[test]
    fn every_common_rate_is_converted_to_every_room_rate() {
        for in_hz in [8_000, 11_025, 16_000, 22_050, 32_000, 44_100, 48_000, 96_000, 192_000] {
            let head = Head { rate_hz: in_hz, channels: 2, encoding: Encoding::F32, data_bytes: None };
            let bytes = stereo_float(in_hz, 440.0, in_hz as usize);
            for out_hz in [16_000, 24_000, 48_000] {
                let out = convert(&head, out_hz, &bytes, 4096);
                assert_eq!(out.len(), out_hz as usize, "{in_hz} to {out_hz}");
                let margin = out_hz as usize / 50;
                let snr_db = measure::snr_db(&out[margin..out.len() - margin], out_hz, 440.0);
                assert!(snr_db >= 80.0, "{in_hz} to {out_hz}: {snr_db}");
            }
        }
    }

    #[test]
    fn frequencies_above_the_lower_rate_cause_no_aliases() {
        let head = Head { rate_hz: 48_000, channels: 2, encoding: Encoding::F32, data_bytes: None };
        let out = convert(&head, 24_000, &stereo_float(48_000, 15_000.0, 48_000), 4096);
        // Without the filter, the tone of 15 kHz would be aliased to 9 kHz.
        let alias_dbfs = measure::goertzel_dbfs(&out[480..23_520], 24_000, 9_000.0);
        assert!(alias_dbfs < -80.0, "{alias_dbfs}");
    }

    #[test]
    fn the_delay_of_the_filter_is_compensated() {
        let head = Head { rate_hz: 48_000, channels: 1, encoding: Encoding::S16, data_bytes: None };
        let mut samples = vec![0i16; 4800];
        samples[960] = 20_000;
        let bytes: Vec<u8> = samples.iter().flat_map(|x| x.to_le_bytes()).collect();
        let out = convert(&head, 24_000, &bytes, 100);
        let peak = (0..out.len()).max_by_key(|&i| out[i]).unwrap();
        assert!((479..=481).contains(&peak), "{peak}");
    }

    #[test]
    fn at_most_11_ms_stay_in_the_converter() {
        for in_hz in [8_000u32, 44_100, 48_000, 192_000] {
            let head = Head { rate_hz: in_hz, channels: 1, encoding: Encoding::S16, data_bytes: None };
            let mut converter = Converter::new(&head, 24_000).unwrap();
            let mut out = Vec::new();
            let mut taken = 0;
            for _ in 0..50 {
                let n = in_hz as usize / 50;
                converter.push(&vec![0; n * 2], &mut out);
                taken += n;
                let inside_ms = taken as f64 * 1000.0 / f64::from(in_hz) - out.len() as f64 / 24.0;
                assert!(inside_ms <= 11.0, "{in_hz}: {inside_ms}");
            }
        }
    }

    #[test]
    fn a_rate_of_zero_is_refused() {
        let head = Head { rate_hz: 48_000, channels: 1, encoding: Encoding::S16, data_bytes: None };
        assert!(matches!(Converter::new(&head, 0), Err(WavError::Unsupported { .. })));
    }

    #[test]
    fn a_chunk_after_the_samples_is_ignored_at_any_rate() {
        let samples: Vec<u8> = (0..480i16).flat_map(i16::to_le_bytes).collect();
        let tail = b"LIST\x1a\0\0\0INFOISFT\x0e\0\0\0Lavf59.27.100\0";
        for (rate_hz, channels) in [(24_000, 1), (24_000, 2), (48_000, 1)] {
            let data_bytes = Some(samples.len() as u64);
            let head = Head { rate_hz, channels, encoding: Encoding::S16, data_bytes };
            for piece in [1, 7, 4096] {
                let with_tail = convert(&head, 24_000, &[&samples[..], tail].concat(), piece);
                assert_eq!(with_tail, convert(&head, 24_000, &samples, piece), "{rate_hz} Hz, {channels}");
            }
        }
    }

    proptest! {
        #[test]
        fn the_rooms_format_passes_unchanged(
            samples in proptest::collection::vec(any::<i16>(), 0..500),
            piece in 1usize..50,
        ) {
            let head = Head { rate_hz: 24_000, channels: 1, encoding: Encoding::S16, data_bytes: None };
            let bytes: Vec<u8> = samples.iter().flat_map(|x| x.to_le_bytes()).collect();
            prop_assert_eq!(convert(&head, 24_000, &bytes, piece), samples);
        }

        #[test]
        fn pieces_of_any_length_give_the_same_output(
            bytes in proptest::collection::vec(any::<u8>(), 0..3000),
            piece in 1usize..500,
        ) {
            let head = Head { rate_hz: 44_100, channels: 2, encoding: Encoding::F32, data_bytes: None };
            prop_assert_eq!(convert(&head, 24_000, &bytes, piece), convert(&head, 24_000, &bytes, usize::MAX));
        }
    }
}
