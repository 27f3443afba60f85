//! Writes short WAVs and the heads of longer ones.

use hound::{SampleFormat, WavSpec};

const fn spec(rate_hz: u32) -> WavSpec {
    WavSpec { channels: 1, sample_rate: rate_hz, bits_per_sample: 16, sample_format: SampleFormat::Int }
}

/// Returns a complete WAV of `samples`: s16, one channel, with a head of 44 bytes. The head declares at most [`DATA_BYTES_MAX`].
#[must_use]
pub fn little(rate_hz: u32, samples: &[i16]) -> Vec<u8> {
    let mut wav = sized_head(rate_hz, samples.len() as u64 * 2);
    wav.reserve_exact(samples.len() * 2);
    wav.extend(samples.iter().flat_map(|sample| sample.to_le_bytes()));
    wav
}

/// Returns the head of a live WAV: s16, one channel, both sizes `0xFFFF_FFFF`.
#[must_use]
pub fn endless_head(rate_hz: u32) -> Vec<u8> {
    spec(rate_hz).into_header_for_infinite_file()
}

/// Length of [`sized_head`] in bytes.
pub const HEAD_BYTES: usize = 44;
/// Maximum bytes of samples that a head can declare.
pub const DATA_BYTES_MAX: u64 = u32::MAX as u64 - (HEAD_BYTES as u64 - 8);

/// Returns the head of a WAV with `data_bytes` of samples, at most [`DATA_BYTES_MAX`]: s16, one channel. The writer of
/// a growing file overwrites the old head with this head from time to time.
#[must_use]
pub fn sized_head(rate_hz: u32, data_bytes: u64) -> Vec<u8> {
    let mut head = endless_head(rate_hz);
    // DATA_BYTES_MAX and the 36 bytes between the two sizes are the maximum of a u32.
    let size = data_bytes.min(DATA_BYTES_MAX) as u32;
    head[4..8].copy_from_slice(&(size + (HEAD_BYTES as u32 - 8)).to_le_bytes());
    head[40..44].copy_from_slice(&size.to_le_bytes());
    head
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::wav::{Encoding, Head};

    #[test]
    fn the_head_of_a_growing_file_is_that_of_a_complete_one() {
        for samples in [&[][..], &[1, 2, 3]] {
            let complete = little(24_000, samples);
            assert_eq!(sized_head(24_000, samples.len() as u64 * 2), complete[..HEAD_BYTES]);
        }
        let too_long = sized_head(24_000, u64::MAX);
        assert_eq!((&too_long[4..8], &too_long[40..44]), (&[0xFF; 4][..], &(u32::MAX - 36).to_le_bytes()[..]));
    }

    #[test]
    fn hound_reads_the_samples_of_a_short_wav() {
        let samples = [0, 1, -2, 256, i16::MAX, i16::MIN];
        let wav = little(24_000, &samples);
        assert_eq!(wav.len(), 44 + 12);
        let mut reader = hound::WavReader::new(&wav[..]).unwrap();
        assert_eq!(reader.spec(), spec(24_000));
        let read: Vec<i16> = reader.samples::<i16>().map(Result::unwrap).collect();
        assert_eq!(read, samples);
    }

    #[test]
    fn a_wav_without_samples_is_valid() {
        assert_eq!(hound::WavReader::new(&little(16_000, &[])[..]).unwrap().len(), 0);
    }

    #[test]
    fn an_endless_head_declares_the_maximum_sizes() {
        let bytes = endless_head(48_000);
        assert_eq!(bytes.len(), 44);
        assert_eq!(bytes[4..8], [0xFF; 4]);
        assert_eq!(bytes[40..44], [0xFF; 4]);
        let head = Head::read(&mut &bytes[..]).unwrap();
        assert_eq!(head, Head { rate_hz: 48_000, channels: 1, encoding: Encoding::S16, data_bytes: None });
    }
}
