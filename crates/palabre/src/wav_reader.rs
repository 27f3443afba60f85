//! Reads a WAV of any supported format in blocks, and converts it to one channel at a wanted rate.

use std::fs::File;
use std::io::{self, BufReader, Read, Seek};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use palabre_sound::convert::Converter;
use palabre_sound::wav::{Head, WavError, samples_end};

/// Maximum number of bytes per read.
const READ_BYTES: usize = 64 * 1024;

/// A WAV whose header has been read.
pub(crate) struct Wav {
    stream: BufReader<Box<dyn Read>>,
    head: Head,
    /// Number of sample bytes that are still to be read; `None` for a stream of unknown length.
    left: Option<u64>,
    /// Device and inode of the file; `None` for standard input.
    id: Option<(u64, u64)>,
}

impl Wav {
    /// Opens a regular file and reads its header.
    pub(crate) fn open(path: &Path) -> Result<Self, WavError> {
        let metadata = std::fs::metadata(path)?;
        if !metadata.is_file() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "the file is not a regular file").into());
        }
        let mut file = File::open(path)?;
        let head = Head::read(&mut file)?;
        let start = file.stream_position()?;
        let end = samples_end(&file, &head, start, metadata.len())?;
        let stream: BufReader<Box<dyn Read>> = BufReader::with_capacity(4096, Box::new(file));
        Ok(Self { stream, head, left: Some(end.saturating_sub(start)), id: Some((metadata.dev(), metadata.ino())) })
    }

    /// Reads the header of a WAV from standard input. The number of samples counts as unknown.
    pub(crate) fn standard_input() -> Result<Self, WavError> {
        let mut stream: BufReader<Box<dyn Read>> = BufReader::with_capacity(4096, Box::new(io::stdin().lock()));
        let head = Head::read(&mut stream)?;
        Ok(Self { stream, head, left: None, id: None })
    }

    pub(crate) fn rate_hz(&self) -> u32 {
        self.head.rate_hz
    }

    /// Returns device and inode of the file; `None` for standard input.
    pub(crate) fn id(&self) -> Option<(u64, u64)> {
        self.id
    }

    /// Returns the number of samples after conversion to `rate_hz`; `None` if the length of the WAV is unknown.
    pub(crate) fn samples_at(&self, rate_hz: u32) -> Option<u64> {
        let samples = self.left? / self.head.block_bytes() as u64;
        Some((samples as f64 * f64::from(rate_hz) / f64::from(self.head.rate_hz)).round() as u64)
    }

    /// Returns a reader that converts the samples of this WAV to `rate_hz`.
    pub(crate) fn at_rate(self, rate_hz: u32) -> Result<SampleReader, WavError> {
        let converter = Converter::new(&self.head, rate_hz)?;
        Ok(SampleReader { wav: self, rate_hz, converter, ready: Vec::new(), ended: false })
    }
}

/// Reads a WAV as samples at the wanted rate. The memory use doesn't depend on the length of the WAV.
pub(crate) struct SampleReader {
    wav: Wav,
    rate_hz: u32,
    converter: Converter,
    /// Converted samples that are not consumed yet.
    ready: Vec<i16>,
    /// The WAV was read to its end.
    ended: bool,
}

/// Memory that is reused for each read, by all readers of a command.
pub(crate) struct ReadBuffer(Vec<u8>);

impl Default for ReadBuffer {
    fn default() -> Self {
        Self(vec![0; READ_BYTES])
    }
}

impl SampleReader {
    /// Reads and converts until `samples` converted samples are ready or the WAV ends. Returns the number of ready samples, at most
    /// `samples`.
    pub(crate) fn prepare(&mut self, samples: usize, buffer: &mut ReadBuffer) -> io::Result<usize> {
        while self.ready.len() < samples && !self.ended {
            let max = self.bytes_for(samples - self.ready.len());
            let max = self.wav.left.map_or(max, |left| left.min(max as u64) as usize);
            let read = self.wav.stream.read(&mut buffer.0[..max])?;
            if let Some(left) = &mut self.wav.left {
                *left -= read as u64;
            }
            if read == 0 {
                self.ended = true;
                self.converter.finish(&mut self.ready);
            } else {
                self.converter.push(&buffer.0[..read], &mut self.ready);
            }
        }
        Ok(self.ready.len().min(samples))
    }

    /// Returns the number of bytes to read for about `samples` converted samples. Reading more would move ready samples out of the
    /// processor's cache.
    fn bytes_for(&self, samples: usize) -> usize {
        let head = &self.wav.head;
        let samples = samples.min(READ_BYTES) as u64;
        let blocks = samples * u64::from(head.rate_hz) / u64::from(self.rate_hz) + 1;
        (blocks as usize * head.block_bytes()).min(READ_BYTES)
    }

    /// Appends zeros to the ready samples until there are at least `samples` of them.
    pub(crate) fn pad(&mut self, samples: usize) {
        if self.ready.len() < samples {
            self.ready.resize(samples, 0);
        }
    }

    pub(crate) fn ready(&self) -> &[i16] {
        &self.ready
    }

    /// Removes the first `samples` ready samples.
    pub(crate) fn consume(&mut self, samples: usize) {
        self.ready.drain(..samples.min(self.ready.len()));
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use palabre_sound::wav;
    use palabre_sound::wav_examples::wavs;

    fn samples_of(bytes: &[u8]) -> Vec<i16> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), bytes).unwrap();
        let mut reader = Wav::open(file.path()).unwrap().at_rate(24_000).unwrap();
        reader.prepare(1_000_000, &mut ReadBuffer::default()).unwrap();
        reader.ready().to_vec()
    }

    #[test]
    fn file_longer_than_its_header_can_say_is_read_to_its_end() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let length = 5 << 30;
        for head in [wav::endless_head(48_000), wav::sized_head(48_000, length)] {
            // A sparse file: only the header uses disk space.
            std::fs::write(file.path(), head).unwrap();
            file.as_file().set_len(wav::HEAD_BYTES as u64 + length).unwrap();
            assert_eq!(Wav::open(file.path()).unwrap().samples_at(48_000), Some(length / 2));
        }
    }

    #[test]
    fn only_samples_are_read_whatever_chunks_the_file_has() {
        for (order, bytes) in wavs(24_000, &[1, 2, 3]) {
            assert_eq!(samples_of(&bytes), [1, 2, 3], "{order}");
        }
    }

    #[test]
    fn unfinished_header_is_followed_by_samples_to_the_end() {
        for size in [0, 1 << 20, u32::MAX] {
            let mut bytes = wav::little(24_000, &[1, 2, 3]);
            bytes[40..44].copy_from_slice(&size.to_le_bytes());
            assert_eq!(samples_of(&bytes), [1, 2, 3], "{size}");
        }
    }

    #[test]
    fn non_regular_file_is_refused() {
        assert!(Wav::open(Path::new("/dev/null")).is_err());
        assert!(Wav::open(Path::new("/nowhere")).is_err());
    }
}
