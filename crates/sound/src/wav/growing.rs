//! Writes a WAV file that is valid at every moment while it grows: 16 bits, one channel.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use super::{DATA_BYTES_MAX, HEAD_BYTES, sized_head};

const SAMPLE_BYTES: u64 = 2;

/// A WAV file to which samples are added at any position; skipped positions are silence and take no disk space.
///
/// [`GrowingWav::update_head`] updates the sizes in the head, after the samples were written.
#[derive(Debug)]
pub struct GrowingWav {
    file: File,
    rate_hz: u32,
    samples: u64,
    /// Number of samples that the head declares.
    head_samples: u64,
}

impl GrowingWav {
    /// Continues the WAV in `file`, which must be open for reading and writing.
    ///
    /// # Errors
    /// [`io::ErrorKind::InvalidData`] if the file is neither empty nor a WAV as this type writes it at this rate. Then
    /// the file is left unchanged.
    pub fn open(file: File, rate_hz: u32) -> io::Result<Self> {
        let bytes = file.metadata()?.len();
        if bytes > 0 {
            check_head(&file, rate_hz)?;
        }
        let samples = bytes.saturating_sub(HEAD_BYTES as u64) / SAMPLE_BYTES;
        let mut wav = Self { file, rate_hz, samples, head_samples: samples };
        // A previous writer may have been killed before it updated the head.
        wav.write_head()?;
        Ok(wav)
    }

    /// Returns the file.
    #[must_use]
    pub fn file(&self) -> &File {
        &self.file
    }

    /// Returns the number of samples in the file.
    #[must_use]
    pub fn samples(&self) -> u64 {
        self.samples
    }

    /// Writes `samples` at position `at`, counted in samples from the start of the sound.
    ///
    /// # Errors
    /// [`io::ErrorKind::FileTooLarge`] if a WAV can't hold that many samples, or the error of pwrite(2).
    pub fn write(&mut self, at: u64, samples: &[i16]) -> io::Result<()> {
        let end = at + samples.len() as u64;
        if end * SAMPLE_BYTES > DATA_BYTES_MAX {
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, "a WAV can't be larger than 4 GiB"));
        }
        let bytes: Vec<u8> = samples.iter().flat_map(|sample| sample.to_le_bytes()).collect();
        self.file.write_all_at(&bytes, HEAD_BYTES as u64 + at * SAMPLE_BYTES)?;
        self.samples = self.samples.max(end);
        Ok(())
    }

    /// Appends silence until the file holds `samples`, or as many as a WAV can hold.
    pub fn extend_to(&mut self, samples: u64) -> io::Result<()> {
        let samples = samples.min(DATA_BYTES_MAX / SAMPLE_BYTES);
        if self.samples < samples {
            self.file.set_len(HEAD_BYTES as u64 + samples * SAMPLE_BYTES)?;
            self.samples = samples;
        }
        Ok(())
    }

    /// Updates the sizes in the head.
    pub fn update_head(&mut self) -> io::Result<()> {
        if self.head_samples == self.samples { Ok(()) } else { self.write_head() }
    }

    fn write_head(&mut self) -> io::Result<()> {
        self.file.write_all_at(&sized_head(self.rate_hz, self.samples * SAMPLE_BYTES), 0)?;
        self.head_samples = self.samples;
        Ok(())
    }
}

/// Checks that the head of the file is the head that this type writes, except for its two sizes.
fn check_head(file: &File, rate_hz: u32) -> io::Result<()> {
    let invalid = |_| {
        let what = "the file is neither empty nor a WAV in the room's format; empty or remove the file";
        io::Error::new(io::ErrorKind::InvalidData, what)
    };
    let mut head = [0; HEAD_BYTES];
    file.read_exact_at(&mut head, 0).map_err(|error| match error.kind() {
        io::ErrorKind::UnexpectedEof => invalid(()),
        _ => error,
    })?;
    let mut expected = sized_head(rate_hz, 0);
    for size in [4..8, 40..44] {
        expected[size.clone()].copy_from_slice(&head[size]);
    }
    if head[..] == expected { Ok(()) } else { Err(invalid(())) }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::wav::{Head, little};

    const RATE_HZ: u32 = 24_000;

    fn holding(bytes: &[u8]) -> File {
        let file = tempfile::tempfile().unwrap();
        file.write_all_at(bytes, 0).unwrap();
        file
    }

    fn content(file: &File) -> Vec<u8> {
        let mut bytes = vec![0; file.metadata().unwrap().len() as usize];
        file.read_exact_at(&mut bytes, 0).unwrap();
        bytes
    }

    #[test]
    fn skipped_positions_are_silence() {
        let mut wav = GrowingWav::open(holding(&[]), RATE_HZ).unwrap();
        assert_eq!(content(wav.file()), little(RATE_HZ, &[]));
        wav.write(2, &[1, 2]).unwrap();
        wav.write(5, &[3]).unwrap();
        wav.extend_to(7).unwrap();
        wav.extend_to(6).unwrap();
        wav.update_head().unwrap();
        assert_eq!(content(wav.file()), little(RATE_HZ, &[0, 0, 1, 2, 0, 3, 0]));
    }

    #[test]
    fn head_counts_only_samples_that_are_in_the_file() {
        let mut wav = GrowingWav::open(holding(&[]), RATE_HZ).unwrap();
        wav.write(0, &[1; 480]).unwrap();
        let bytes = content(wav.file());
        let head = Head::read(&mut &bytes[..]).unwrap();
        assert_eq!((head.data_bytes, bytes.len()), (Some(0), 44 + 960));
    }

    #[test]
    fn writing_continues_after_a_writer_that_was_killed() {
        // As a killed writer leaves it: the head declares fewer samples than the file contains, and the last sample is incomplete.
        let mut bytes = little(RATE_HZ, &[1, 2, 3]);
        bytes[40..44].copy_from_slice(&2u32.to_le_bytes());
        bytes.push(9);
        let mut wav = GrowingWav::open(holding(&bytes), RATE_HZ).unwrap();
        assert_eq!(wav.samples(), 3);
        wav.write(3, &[4]).unwrap();
        wav.update_head().unwrap();
        assert_eq!(content(wav.file()), little(RATE_HZ, &[1, 2, 3, 4]));
    }

    #[test]
    fn other_files_are_left_unchanged() {
        for bytes in [little(48_000, &[1]), b"these are words".to_vec(), vec![0; 100]] {
            let file = holding(&bytes);
            let opened = GrowingWav::open(file.try_clone().unwrap(), RATE_HZ);
            assert_eq!(opened.unwrap_err().kind(), io::ErrorKind::InvalidData);
            assert_eq!(content(&file), bytes);
        }
    }

    #[test]
    fn samples_beyond_the_size_of_a_wav_are_refused() {
        let mut wav = GrowingWav::open(holding(&[]), RATE_HZ).unwrap();
        let refused = wav.write(DATA_BYTES_MAX / SAMPLE_BYTES, &[1]).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::FileTooLarge);
    }
}
