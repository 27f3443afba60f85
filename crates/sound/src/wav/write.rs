//! Little WAVs and endless heads, written by hound.

use std::io::Cursor;

use hound::{SampleFormat, WavSpec, WavWriter};

const fn spec(rate_hz: u32) -> WavSpec {
    WavSpec { channels: 1, sample_rate: rate_hz, bits_per_sample: 16, sample_format: SampleFormat::Int }
}

/// A complete WAV of `samples`: s16, one channel, true sizes in its 44-byte head.
#[must_use]
pub fn little(rate_hz: u32, samples: &[i16]) -> Vec<u8> {
    let mut wav = Vec::with_capacity(44 + samples.len() * 2);
    little_into(rate_hz, samples, &mut wav);
    wav
}

/// The same as [`little`] into `wav`, whose old content is replaced and whose allocation is used again.
///
/// # Panics
/// With 4 GiB of samples and more, which no WAV can hold.
#[expect(clippy::expect_used, reason = "writing to memory fails only beyond the 4 GiB of the format")]
pub fn little_into(rate_hz: u32, samples: &[i16], wav: &mut Vec<u8>) {
    wav.clear();
    let count = u32::try_from(samples.len()).expect("samples of one little WAV");
    let mut writer = WavWriter::new(Cursor::new(wav), spec(rate_hz)).expect("a WAV in memory");
    let mut block = writer.get_i16_writer(count);
    for &sample in samples {
        block.write_sample(sample);
    }
    block.flush().expect("samples in memory");
    writer.finalize().expect("sizes in memory");
}

/// The head of a WAV that never ends: s16, one channel, both sizes `0xFFFF_FFFF`.
#[must_use]
pub fn endless_head(rate_hz: u32) -> Vec<u8> {
    spec(rate_hz).into_header_for_infinite_file()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::wav::{Encoding, Head};

    #[test]
    fn a_little_wav_is_read_back_by_hound_sample_by_sample() {
        let samples = [0, 1, -2, 256, i16::MAX, i16::MIN];
        let mut wav = vec![9; 1000];
        little_into(24_000, &samples, &mut wav);
        assert_eq!(wav.len(), 44 + 12);
        assert_eq!(wav, little(24_000, &samples));
        let mut reader = hound::WavReader::new(&wav[..]).unwrap();
        assert_eq!(reader.spec(), spec(24_000));
        let read: Vec<i16> = reader.samples::<i16>().map(Result::unwrap).collect();
        assert_eq!(read, samples);
    }

    #[test]
    fn an_empty_wav_is_a_wav() {
        assert_eq!(hound::WavReader::new(&little(16_000, &[])[..]).unwrap().len(), 0);
    }

    #[test]
    fn an_endless_head_announces_no_end() {
        let bytes = endless_head(48_000);
        assert_eq!(bytes.len(), 44);
        assert_eq!(bytes[4..8], [0xFF; 4]);
        assert_eq!(bytes[40..44], [0xFF; 4]);
        let head = Head::read(&mut &bytes[..]).unwrap();
        assert_eq!(head, Head { rate_hz: 48_000, channels: 1, encoding: Encoding::S16 });
    }
}
