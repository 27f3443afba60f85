//! Reads a WAV file that another program is still writing, as tail(1) does with text.
//!
//! The head is read again with every update, because the program that writes the file may correct the sizes, and then append
//! other chunks.

use std::fmt;
use std::fs::File;
use std::io;

use super::end::{read_at_most, samples_end};
use super::{HEAD_BYTES_MAX, Head, WavError};
use crate::convert::Converter;

/// Bytes before the read position that are compared to detect that the file was overwritten.
const COMPARED_BYTES: usize = 64;

/// The read position in a growing WAV, and the conversion to one rate.
pub struct Tail {
    rate_hz: u32,
    state: State,
}

enum State {
    /// The head is incomplete.
    NoHead,
    /// The file begins with bytes that can't become a usable head, whatever is appended.
    Invalid,
    Reading(Box<Reading>),
}

struct Reading {
    head: Head,
    converter: Converter,
    /// Offset of the first sample.
    start: u64,
    /// Offset of the next sample to read.
    position: u64,
    /// Offset of the end of the samples at the last [`Tail::update`].
    end: u64,
    /// The bytes before `position`.
    before: Vec<u8>,
}

impl Tail {
    /// Returns a reader that converts to `rate_hz`.
    #[must_use]
    pub fn new(rate_hz: u32) -> Self {
        Self { rate_hz, state: State::NoHead }
    }

    /// Reads the length of the file and the sizes in its head. Returns whether reading begins with the first sample, because the head has become
    /// complete or because the file was truncated or overwritten.
    ///
    /// # Errors
    /// The file can't be read, or it is not a WAV that can be converted. The second error is returned only once.
    pub fn update(&mut self, file: &File) -> Result<bool, WavError> {
        let len = file.metadata()?.len();
        match &mut self.state {
            State::NoHead => {}
            State::Invalid if len == 0 => self.state = State::NoHead,
            State::Invalid => return Ok(false),
            State::Reading(reading) if reading.is_overwritten(file, len)? => self.state = State::NoHead,
            State::Reading(reading) => {
                reading.update_end(file, len)?;
                return Ok(false);
            }
        }
        self.read_head(file, len)
    }

    /// Returns the number of samples that were not read yet, counted at the rate to which they are converted.
    #[must_use]
    pub fn waiting(&self) -> u64 {
        match &self.state {
            State::Reading(reading) => {
                reading.waiting_blocks() * u64::from(self.rate_hz) / u64::from(reading.head.rate_hz)
            }
            State::NoHead | State::Invalid => 0,
        }
    }

    /// Skips all waiting samples but the last `samples`.
    ///
    /// # Errors
    /// The file can't be read.
    pub fn keep_newest(&mut self, file: &File, samples: u64) -> Result<(), WavError> {
        let State::Reading(reading) = &mut self.state else { return Ok(()) };
        let kept = samples * u64::from(reading.head.rate_hz) / u64::from(self.rate_hz);
        match reading.waiting_blocks().saturating_sub(kept) {
            0 => Ok(()),
            blocks => reading.skip(file, blocks, self.rate_hz),
        }
    }

    /// Reads and converts about `max_samples` of the waiting samples, and returns how many it appended to `out`.
    ///
    /// # Errors
    /// The file can't be read.
    pub fn read(&mut self, file: &File, max_samples: usize, out: &mut Vec<i16>) -> io::Result<usize> {
        let State::Reading(reading) = &mut self.state else { return Ok(0) };
        let blocks = max_samples as u64 * u64::from(reading.head.rate_hz) / u64::from(self.rate_hz);
        let before = out.len();
        reading.read(file, blocks.min(reading.waiting_blocks()), out)?;
        Ok(out.len() - before)
    }

    /// Appends the samples that are still in the converter. Call it when no more samples will be read.
    pub fn finish(&mut self, out: &mut Vec<i16>) {
        if let State::Reading(reading) = &mut self.state {
            reading.converter.finish(out);
        }
    }

    fn read_head(&mut self, file: &File, len: u64) -> Result<bool, WavError> {
        let mut bytes = vec![0; len.min(HEAD_BYTES_MAX as u64) as usize];
        let got = read_at_most(file, &mut bytes, 0)?;
        let mut rest = &bytes[..got];
        let opened = Head::read(&mut rest).and_then(|head| Ok((new_converter(&head, self.rate_hz)?, head)));
        let (converter, head) = match opened {
            Ok(opened) => opened,
            Err(WavError::Empty | WavError::Truncated) if got < HEAD_BYTES_MAX => return Ok(false),
            Err(error) => {
                self.state = State::Invalid;
                return Err(error);
            }
        };
        let start = (got - rest.len()) as u64;
        let end = samples_end(file, &head, start, len)?;
        let reading = Reading { head, converter, start, position: start, end, before: Vec::new() };
        self.state = State::Reading(Box::new(reading));
        Ok(true)
    }
}

impl Reading {
    /// Finds the end of the samples in the file, which has length `len`, by the sizes that the head has now.
    fn update_end(&mut self, file: &File, len: u64) -> io::Result<()> {
        let mut bytes = vec![0; self.start as usize];
        let got = read_at_most(file, &mut bytes, 0)?;
        // If the head can't be parsed now, another program is writing it. Then the previous size stays.
        if let Ok(head) = Head::read(&mut &bytes[..got]) {
            self.head.data_bytes = head.data_bytes;
        }
        self.end = samples_end(file, &self.head, self.start, len)?;
        Ok(())
    }

    /// Returns whether the file was truncated, or truncated and written again to at least the same length.
    fn is_overwritten(&self, file: &File, len: u64) -> io::Result<bool> {
        if self.position == self.start {
            // No sample was read yet, so the file may have a new head, and its head is parsed again.
            return Ok(true);
        }
        let mut now = [0; COMPARED_BYTES];
        let now = &mut now[..self.before.len()];
        read_at_most(file, now, self.position - self.before.len() as u64)?;
        Ok(len < self.position || *now != self.before[..])
    }

    /// Returns the number of blocks (one sample of every channel) that were not read yet.
    fn waiting_blocks(&self) -> u64 {
        self.end.saturating_sub(self.position) / self.head.block_bytes() as u64
    }

    fn skip(&mut self, file: &File, blocks: u64, rate_hz: u32) -> Result<(), WavError> {
        self.position += blocks * self.head.block_bytes() as u64;
        self.converter = new_converter(&self.head, rate_hz)?;
        // The head is not compared, since the program that writes the file may update the sizes in the head.
        let compared = (self.position - self.start).min(COMPARED_BYTES as u64);
        self.before.resize(compared as usize, 0);
        read_at_most(file, &mut self.before, self.position - compared)?;
        Ok(())
    }

    fn read(&mut self, file: &File, blocks: u64, out: &mut Vec<i16>) -> io::Result<()> {
        let block = self.head.block_bytes();
        let mut bytes = vec![0; blocks as usize * block];
        let got = read_at_most(file, &mut bytes, self.position)? / block * block;
        let bytes = &bytes[..got];
        self.converter.push(bytes, out);
        self.position += got as u64;
        self.before.extend(&bytes[got.saturating_sub(COMPARED_BYTES)..]);
        self.before.drain(..self.before.len().saturating_sub(COMPARED_BYTES));
        Ok(())
    }
}

impl fmt::Debug for Tail {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tail").field("waiting", &self.waiting()).finish_non_exhaustive()
    }
}

/// Returns a converter that ignores the declared end of the samples, because [`samples_end`] finds their end.
fn new_converter(head: &Head, rate_hz: u32) -> Result<Converter, WavError> {
    Converter::new(&Head { data_bytes: None, ..*head }, rate_hz)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::wav::{endless_head, little};
    use std::io::Write;
    use std::os::unix::fs::FileExt;

    struct Growing {
        file: File,
        tail: Tail,
    }

    impl Growing {
        fn new(bytes: &[u8]) -> Self {
            let mut growing = Self { file: tempfile::tempfile().unwrap(), tail: Tail::new(24_000) };
            growing.append(bytes);
            growing
        }

        fn append(&mut self, bytes: &[u8]) {
            self.file.write_all(bytes).unwrap();
        }

        fn overwrite(&mut self, bytes: &[u8]) {
            self.file.set_len(0).unwrap();
            std::io::Seek::rewind(&mut self.file).unwrap();
            self.append(bytes);
        }

        fn read(&mut self, max_samples: usize) -> Vec<i16> {
            let mut out = Vec::new();
            self.tail.update(&self.file).unwrap();
            self.tail.read(&self.file, max_samples, &mut out).unwrap();
            out
        }
    }

    fn bytes_of(samples: &[i16]) -> Vec<u8> {
        samples.iter().flat_map(|sample| sample.to_le_bytes()).collect()
    }

    fn ramp(samples: usize) -> Vec<i16> {
        (0..samples).map(|i| (i % 30_000) as i16).collect()
    }

    #[test]
    fn every_sample_is_read_whatever_sizes_the_head_has() {
        for size in [0, 2, u32::MAX] {
            let mut head = endless_head(24_000);
            head[40..44].copy_from_slice(&size.to_le_bytes());
            let mut growing = Growing::new(&[]);
            let mut out = Vec::new();
            // The pieces of 31 bytes end within the head and within samples.
            for piece in [head, bytes_of(&ramp(100))].concat().chunks(31) {
                growing.append(piece);
                out.extend(growing.read(1_000));
            }
            assert_eq!(out, ramp(100), "{size}");
        }
    }

    #[test]
    fn chunks_that_the_writer_appends_after_it_has_corrected_the_sizes_are_not_read() {
        for size in [0, 100, u32::MAX] {
            let mut head = endless_head(24_000);
            head[40..44].copy_from_slice(&size.to_le_bytes());
            let mut growing = Growing::new(&[head, bytes_of(&ramp(100))].concat());
            assert_eq!(growing.read(1_000), ramp(100));
            growing.append(&bytes_of(&ramp(50)));
            growing.file.write_all_at(&300u32.to_le_bytes(), 40).unwrap();
            growing.append(b"levl\x04\0\0\0\x7f\x7f\x7f\x7fcart\x02\0\0\0\x7f\x7f");
            assert_eq!(growing.read(1_000), ramp(50), "{size}");
            assert!(growing.read(1_000).is_empty());
        }
    }

    #[test]
    fn reading_is_limited_and_old_samples_can_be_skipped() {
        let mut growing = Growing::new(&little(24_000, &ramp(1_000)));
        assert_eq!(growing.read(300), ramp(1_000)[..300]);
        assert_eq!(growing.tail.waiting(), 700);
        growing.tail.keep_newest(&growing.file, 800).unwrap();
        assert_eq!(growing.read(1), ramp(1_000)[300..301]);
        growing.tail.keep_newest(&growing.file, 10).unwrap();
        assert_eq!(growing.read(1_000), ramp(1_000)[990..]);
        growing.append(&bytes_of(&[7, 8]));
        assert_eq!(growing.read(1_000), [7, 8]);
    }

    #[test]
    fn reading_begins_again_when_the_file_is_truncated_or_overwritten() {
        let mut growing = Growing::new(&little(24_000, &ramp(500)));
        assert_eq!(growing.read(1_000), ramp(500));
        growing.overwrite(&[]);
        assert!(growing.read(1_000).is_empty());
        growing.append(&little(24_000, &[7; 500]));
        assert_eq!(growing.read(1_000), [7; 500]);
        growing.overwrite(&little(24_000, &[8; 700]));
        assert_eq!(growing.read(1_000), [8; 700]);
        growing.overwrite(&[endless_head(48_000), bytes_of(&[1_000; 1_920])].concat());
        let out = growing.read(1_000);
        assert!((800..=960).contains(&out.len()), "{}", out.len());
        assert!(out[200..].iter().all(|sample| (990..=1010).contains(sample)));
    }

    #[test]
    fn invalid_content_is_reported_once_until_the_file_is_truncated() {
        let mut growing = Growing::new(b"these are words, not sounds");
        assert!(matches!(growing.tail.update(&growing.file), Err(WavError::NotWav)));
        growing.append(b" and more words");
        assert!(growing.read(10).is_empty());
        growing.overwrite(&[]);
        assert!(growing.read(10).is_empty());
        growing.append(&little(24_000, &[1, 2, 3]));
        assert_eq!(growing.read(10), [1, 2, 3]);
    }
}
