//! A WAV that is read in pieces: samples of one channel at the rate that is wanted, from a file of any.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use palabre_sound::convert::Converter;
use palabre_sound::wav::{DATA_BYTES_MAX, Head, WavError};

/// The most that is read at once.
const PIECE_BYTES: usize = 64 * 1024;

/// A WAV whose head has been read.
pub struct Wav {
    stream: BufReader<Box<dyn Read>>,
    head: Head,
    /// Bytes of samples to come; `None` where only the end will tell.
    left: Option<u64>,
    /// Device and inode of a file.
    id: Option<(u64, u64)>,
}

impl Wav {
    /// Opens a file and reads its head. A size in the head that the file has room for is believed, since other chunks may
    /// follow the samples; else the samples last to the end of the file.
    ///
    /// # Errors
    /// The file can't be read, is no regular file, or is no WAV that can be heard.
    pub fn open(path: &Path) -> Result<Self, WavError> {
        let metadata = std::fs::metadata(path)?;
        if !metadata.is_file() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is not a regular file").into());
        }
        let mut stream: BufReader<Box<dyn Read>> = BufReader::with_capacity(4096, Box::new(File::open(path)?));
        let mut counted = Counted { stream: &mut stream, bytes: 0 };
        let (head, told) = Head::read_with_size(&mut counted)?;
        let there = metadata.len().saturating_sub(counted.bytes);
        let told = u64::from(told);
        // What is as long as a size can tell is longer, or was never told.
        let is_told = (1..DATA_BYTES_MAX).contains(&told) && told <= there;
        let left = if is_told { told } else { there };
        Ok(Self { stream, head, left: Some(left), id: Some((metadata.dev(), metadata.ino())) })
    }

    /// Standard input, to its end.
    ///
    /// # Errors
    /// It can't be read, or is no WAV that can be heard.
    pub fn standard_input() -> Result<Self, WavError> {
        let mut stream: BufReader<Box<dyn Read>> = BufReader::with_capacity(4096, Box::new(io::stdin().lock()));
        let head = Head::read(&mut stream)?;
        Ok(Self { stream, head, left: None, id: None })
    }

    /// Samples a second.
    #[must_use]
    pub fn rate_hz(&self) -> u32 {
        self.head.rate_hz
    }

    /// Device and inode, if it is a file.
    #[must_use]
    pub fn id(&self) -> Option<(u64, u64)> {
        self.id
    }

    /// How many samples it will give at `rate_hz`, if that is known.
    #[must_use]
    pub fn samples_at(&self, rate_hz: u32) -> Option<u64> {
        let samples = self.left? / self.head.block_bytes() as u64;
        Some((samples as f64 * f64::from(rate_hz) / f64::from(self.head.rate_hz)).round() as u64)
    }

    /// Its samples at `rate_hz`.
    ///
    /// # Errors
    /// [`WavError::Unsupported`] for a rate that can't be made.
    pub fn at_rate(self, rate_hz: u32) -> Result<Source, WavError> {
        let converter = Converter::new(&self.head, rate_hz)?;
        Ok(Source { wav: self, rate_hz, converter, ready: Vec::new(), ended: false })
    }
}

/// Samples at the rate that is wanted. Holds a piece, however long the file is.
pub struct Source {
    wav: Wav,
    rate_hz: u32,
    converter: Converter,
    ready: Vec<i16>,
    ended: bool,
}

/// Memory to read into, which any number of sources may share.
pub struct Piece(Vec<u8>);

impl Default for Piece {
    fn default() -> Self {
        Self(vec![0; PIECE_BYTES])
    }
}

impl Source {
    /// Reads until `samples` are ready, or all there are; says how many of them are.
    ///
    /// # Errors
    /// Those of read(2).
    pub fn prepare(&mut self, samples: usize, piece: &mut Piece) -> io::Result<usize> {
        while self.ready.len() < samples && !self.ended {
            let most = self.bytes_for(samples - self.ready.len());
            let most = self.wav.left.map_or(most, |left| left.min(most as u64) as usize);
            let read = self.wav.stream.read(&mut piece.0[..most])?;
            if let Some(left) = &mut self.wav.left {
                *left -= read as u64;
            }
            if read == 0 {
                self.ended = true;
                self.converter.finish(&mut self.ready);
            } else {
                self.converter.push(&piece.0[..read], &mut self.ready);
            }
        }
        Ok(self.ready.len().min(samples))
    }

    /// Bytes that give about so many samples: what is ready should stay in the processor's cache.
    fn bytes_for(&self, samples: usize) -> usize {
        let head = &self.wav.head;
        let samples = samples.min(PIECE_BYTES) as u64;
        let blocks = samples * u64::from(head.rate_hz) / u64::from(self.rate_hz) + 1;
        (blocks as usize * head.block_bytes()).min(PIECE_BYTES)
    }

    /// Fills what is ready up to `samples` with silence.
    pub fn pad(&mut self, samples: usize) {
        if self.ready.len() < samples {
            self.ready.resize(samples, 0);
        }
    }

    /// What is ready.
    #[must_use]
    pub fn ready(&self) -> &[i16] {
        &self.ready
    }

    /// Lets go of the first `samples` of what is ready.
    pub fn consume(&mut self, samples: usize) {
        self.ready.drain(..samples.min(self.ready.len()));
    }
}

struct Counted<'a, R> {
    stream: &'a mut R,
    bytes: u64,
}

impl<R: Read> Read for Counted<'_, R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let read = self.stream.read(out)?;
        self.bytes += read as u64;
        Ok(read)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use palabre_sound::wav;

    fn samples_of(bytes: &[u8]) -> Vec<i16> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), bytes).unwrap();
        let mut source = Wav::open(file.path()).unwrap().at_rate(24_000).unwrap();
        source.prepare(1_000_000, &mut Piece::default()).unwrap();
        source.ready().to_vec()
    }

    #[test]
    fn a_file_that_is_longer_than_its_head_can_tell_is_read_to_its_end() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let length = 5 << 30;
        for head in [wav::endless_head(48_000), wav::sized_head(48_000, length)] {
            // With a hole in it: it takes no room.
            std::fs::write(file.path(), head).unwrap();
            file.as_file().set_len(wav::HEAD_BYTES as u64 + length).unwrap();
            assert_eq!(Wav::open(file.path()).unwrap().samples_at(48_000), Some(length / 2));
        }
    }

    #[test]
    fn chunks_after_the_samples_are_not_heard() {
        let mut bytes = wav::little(24_000, &[1, 2, 3]);
        bytes.extend_from_slice(b"LIST\x04\0\0\0abcd");
        assert_eq!(samples_of(&bytes), [1, 2, 3]);
    }

    #[test]
    fn a_head_that_was_never_finished_is_followed_by_samples_to_the_end() {
        for told in [0, 1 << 20, u32::MAX] {
            let mut bytes = wav::little(24_000, &[1, 2, 3]);
            bytes[40..44].copy_from_slice(&told.to_le_bytes());
            assert_eq!(samples_of(&bytes), [1, 2, 3], "{told}");
        }
    }

    #[test]
    fn what_is_no_file_is_refused() {
        assert!(Wav::open(Path::new("/dev/null")).is_err());
        assert!(Wav::open(Path::new("/nowhere")).is_err());
    }
}
