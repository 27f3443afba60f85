//! Encodes IMA ADPCM in WAV: 4 bits per sample, which browsers' and others' decoders of WAV understand.
//!
//! The algorithm is in "Recommended Practices for Enhancing Digital Audio Compatibility in Multimedia Systems" (IMA, 1992). The
//! format of the WAV is in Microsoft's "New Multimedia Data Types and Data Techniques" under `WAVE_FORMAT_DVI_ADPCM`.

/// The format tag `WAVE_FORMAT_DVI_ADPCM`.
const TAG: u16 = 0x11;
/// Length of the head before the first block.
const HEAD_BYTES: usize = 60;
/// Length of the head of a block: the first sample, the index of the step, and a zero.
const BLOCK_HEAD_BYTES: usize = 4;
/// Maximum number of samples in a block. A longer sound has several blocks. The length of a block must fit into 16 bits.
const MAX_BLOCK_SAMPLES: usize = 1 + 8 * 8000;
/// Number of samples at the start of a block by which the first step is chosen.
const TRIED_SAMPLES: usize = 32;

const STEPS: [i32; 89] = [
    7, 8, 9, 10, 11, 12, 13, 14, 16, 17, 19, 21, 23, 25, 28, 31, 34, 37, 41, 45, 50, 55, 60, 66, 73, 80, 88, 97, 107,
    118, 130, 143, 157, 173, 190, 209, 230, 253, 279, 307, 337, 371, 408, 449, 494, 544, 598, 658, 724, 796, 876, 963,
    1060, 1166, 1282, 1411, 1552, 1707, 1878, 2066, 2272, 2499, 2749, 3024, 3327, 3660, 4026, 4428, 4871, 5358, 5894,
    6484, 7132, 7845, 8630, 9493, 10442, 11487, 12635, 13899, 15289, 16818, 18500, 20350, 22385, 24623, 27086, 29794,
    32767,
];
const INDEX_CHANGES: [i32; 8] = [-1, -1, -1, -1, 2, 4, 6, 8];

/// Returns a complete WAV of `samples` in IMA ADPCM, one channel. Up to 2.6 s at 24 kHz are one block.
///
/// Each WAV can be decoded by itself, and its `fact` chunk has the number of samples.
#[must_use]
pub fn wav(rate_hz: u32, samples: &[i16]) -> Vec<u8> {
    let block_samples = block_samples(samples.len());
    let block_bytes = BLOCK_HEAD_BYTES + block_samples / 2;
    let data_bytes = samples.len().div_ceil(block_samples) * block_bytes;
    let mut wav = Vec::with_capacity(HEAD_BYTES + data_bytes);
    write_head(&mut wav, rate_hz, samples.len(), block_samples, data_bytes);
    for block in samples.chunks(block_samples) {
        write_block(&mut wav, block, block_bytes);
    }
    wav
}

/// Returns the number of samples in a block: the first one, and a multiple of 8, because the codes are in words of 32 bits.
fn block_samples(samples: usize) -> usize {
    (1 + samples.saturating_sub(1).next_multiple_of(8)).clamp(1 + 8, MAX_BLOCK_SAMPLES)
}

fn write_head(wav: &mut Vec<u8>, rate_hz: u32, samples: usize, block_samples: usize, data_bytes: usize) {
    let block_bytes = BLOCK_HEAD_BYTES + block_samples / 2;
    let bytes_per_s = u64::from(rate_hz) * block_bytes as u64 / block_samples as u64;
    let size = |bytes: usize| u32::try_from(bytes).unwrap_or(u32::MAX).to_le_bytes();
    wav.extend_from_slice(b"RIFF");
    wav.extend_from_slice(&size(HEAD_BYTES - 8 + data_bytes));
    wav.extend_from_slice(b"WAVEfmt ");
    wav.extend_from_slice(&20u32.to_le_bytes());
    // Format, channels, rate, bytes per second, block size, bits per sample, length of the rest, samples per block.
    wav.extend_from_slice(&TAG.to_le_bytes());
    wav.extend_from_slice(&1u16.to_le_bytes());
    wav.extend_from_slice(&rate_hz.to_le_bytes());
    wav.extend_from_slice(&(bytes_per_s as u32).to_le_bytes());
    wav.extend_from_slice(&(block_bytes as u16).to_le_bytes());
    wav.extend_from_slice(&4u16.to_le_bytes());
    wav.extend_from_slice(&2u16.to_le_bytes());
    wav.extend_from_slice(&(block_samples as u16).to_le_bytes());
    wav.extend_from_slice(b"fact");
    wav.extend_from_slice(&4u32.to_le_bytes());
    wav.extend_from_slice(&size(samples));
    wav.extend_from_slice(b"data");
    wav.extend_from_slice(&size(data_bytes));
}

fn write_block(wav: &mut Vec<u8>, samples: &[i16], block_bytes: usize) {
    let Some((&first, rest)) = samples.split_first() else { return };
    let end = wav.len() + block_bytes;
    let mut state = State { sample: i32::from(first), index: best_index(first, rest) };
    wav.extend_from_slice(&first.to_le_bytes());
    wav.extend_from_slice(&[state.index as u8, 0]);
    for pair in rest.chunks(2) {
        let low = state.encode(pair[0]);
        let high = pair.get(1).map_or(0, |&sample| state.encode(sample));
        wav.push(low | high << 4);
    }
    wav.resize(end, 0);
}

/// Returns the index of the first step with which the first samples have the smallest error.
fn best_index(first: i16, rest: &[i16]) -> i32 {
    let error = |index: &i32| -> i64 {
        let mut state = State { sample: i32::from(first), index: *index };
        let tried = rest.iter().take(TRIED_SAMPLES);
        let errors = tried.map(|&sample| {
            state.encode(sample);
            i64::from(state.sample - i32::from(sample)).pow(2)
        });
        errors.sum()
    };
    (0..STEPS.len() as i32).min_by_key(error).unwrap_or(0)
}

/// The state of a decoder, which each code changes: the last sample, and the index of the step.
struct State {
    sample: i32,
    index: i32,
}

impl State {
    /// Returns the code of a sample: a sign and three bits.
    fn encode(&mut self, sample: i16) -> u8 {
        let step = STEPS[self.index as usize];
        let difference = i32::from(sample) - self.sample;
        let (sign, mut rest) = (u8::from(difference < 0) << 3, difference.abs());
        let (mut magnitude, mut change) = (0, step >> 3);
        for bit in 0..3 {
            let part = step >> bit;
            if rest >= part {
                magnitude |= 4 >> bit;
                rest -= part;
                change += part;
            }
        }
        let change = if sign == 0 { change } else { -change };
        self.sample = (self.sample + change).clamp(i32::from(i16::MIN), i32::from(i16::MAX));
        self.index = (self.index + INDEX_CHANGES[magnitude]).clamp(0, STEPS.len() as i32 - 1);
        sign | magnitude as u8
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::measure::{rms_dbfs, tone};
    use crate::speech;
    use std::io::Write as _;
    use std::process::{Command, Stdio};

    /// Decodes a WAV as the specification says, independently of [`State`].
    fn decode(wav: &[u8]) -> Vec<i16> {
        let field = |at: usize| usize::from(u16::from_le_bytes([wav[at], wav[at + 1]]));
        let long = |at: usize| u32::from_le_bytes(wav[at..at + 4].try_into().unwrap()) as usize;
        assert_eq!(
            (&wav[..4], &wav[8..16], &wav[40..44], &wav[52..56]),
            (&b"RIFF"[..], &b"WAVEfmt "[..], &b"fact"[..], &b"data"[..])
        );
        assert_eq!((field(20), field(22), field(34)), (0x11, 1, 4));
        assert_eq!((long(4) + 8, long(56) + 60), (wav.len(), wav.len()));
        assert_eq!(field(38), (field(32) - 4) * 2 + 1);
        let mut samples = Vec::new();
        for block in wav[60..].chunks_exact(field(32)) {
            let (mut value, mut index) = (i32::from(i16::from_le_bytes([block[0], block[1]])), i32::from(block[2]));
            samples.push(value as i16);
            for code in block[4..].iter().flat_map(|byte| [byte & 15, byte >> 4]) {
                let step = STEPS[index as usize];
                let change = (step * 2 * i32::from(code & 7) + step) / 8;
                value += if code & 8 == 0 { change } else { -change };
                value = value.clamp(-32_768, 32_767);
                index = (index + INDEX_CHANGES[usize::from(code & 7)]).clamp(0, 88);
                samples.push(value as i16);
            }
        }
        samples.truncate(long(48));
        samples
    }

    fn snr_db(sent: &[i16], heard: &[i16]) -> f64 {
        assert_eq!(sent.len(), heard.len());
        let error: Vec<i16> = sent.iter().zip(heard).map(|(&a, &b)| a.saturating_sub(b)).collect();
        rms_dbfs(sent) - rms_dbfs(&error)
    }

    #[test]
    fn chunk_is_one_block_with_a_quarter_of_the_bytes() {
        let chunk = tone(24_000, 440.0, -20.0, 960);
        let wav = wav(24_000, &chunk);
        assert_eq!(wav.len(), 60 + 4 + 480);
        let snr = snr_db(&chunk, &decode(&wav));
        assert!(snr > 30.0, "{snr:.1} dB");
    }

    #[test]
    fn speech_in_chunks_keeps_its_quality() {
        for samples in [speech::english(24_000), speech::french(24_000)] {
            let heard: Vec<i16> = samples.chunks(960).flat_map(|chunk| decode(&wav(24_000, chunk))).collect();
            let snr = snr_db(&samples, &heard);
            assert!(snr > 20.0, "{snr:.1} dB");
        }
    }

    #[test]
    fn any_number_of_samples_is_possible() {
        for length in [0, 1, 2, 3, 8, 9, 10, 959, 961, 64_000, 64_001, 64_002, 200_000] {
            let samples = tone(48_000, 440.0, -10.0, length);
            let heard = decode(&wav(48_000, &samples));
            assert_eq!(heard.len(), length);
            assert_eq!(heard.first(), samples.first());
        }
        for extreme in [[i16::MIN, i16::MAX], [i16::MAX, i16::MIN], [0, 0]] {
            assert_eq!(decode(&wav(8_000, &extreme.repeat(500))).len(), 1000);
        }
    }

    #[test]
    fn ffmpeg_decodes_the_same_samples() {
        let sent = speech::english(24_000);
        let ours = wav(24_000, &sent[..9600]);
        let mut ffmpeg = Command::new("ffmpeg");
        ffmpeg.args(["-v", "error", "-i", "-", "-f", "s16le", "-"]);
        let child = ffmpeg.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
        let mut child = match child {
            Ok(child) => child,
            Err(error) => return eprintln!("unable to run 'ffmpeg': {error}"),
        };
        let mut input = child.stdin.take().unwrap();
        let bytes = ours.clone();
        let writer = std::thread::spawn(move || input.write_all(&bytes));
        let output = child.wait_with_output().unwrap();
        writer.join().unwrap().unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stderr), "");
        let heard: Vec<i16> =
            output.stdout.chunks_exact(2).map(|pair| i16::from_le_bytes([pair[0], pair[1]])).collect();
        // ffmpeg also plays the padding at the end of the last block, so the test compares only the samples before the padding.
        assert_eq!(heard[..9600], decode(&ours));
    }
}
