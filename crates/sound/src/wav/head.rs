//! Parses the head of a WAV, up to and including the size of its `data` chunk.

use std::io::{self, Read};

/// Maximum length of a head in bytes, including unknown chunks.
pub const HEAD_BYTES_MAX: usize = 64 * 1024;

/// Maximum number of channels: 7.1.
pub(super) const CHANNELS_MAX: u16 = 8;
/// Minimum declared size of the samples that means "unknown": `0xFFFF_FFFF`, less the head, or rounded down to a block.
const UNKNOWN_BYTES: u32 = 0xFFFF_FF00;
/// Supported sample rates.
const RATE_HZ: std::ops::RangeInclusive<u32> = 8_000..=192_000;
/// Maximum length of a `fmt ` chunk.
const FMT_BYTES_MAX: usize = 1024;
/// Minimum length of a `ds64` chunk: the 64-bit sizes of the file and of the samples.
const DS64_BYTES_MIN: usize = 16;

const TAG_PCM: u16 = 1;
const TAG_FLOAT: u16 = 3;
const TAG_EXTENSIBLE: u16 = 0xFFFE;
/// The bytes after the format tag in every `KSDATAFORMAT_SUBTYPE` of `mmreg.h`.
const SUBTYPE_TAIL: [u8; 14] = [0, 0, 0, 0, 0x10, 0, 0x80, 0, 0, 0xAA, 0, 0x38, 0x9B, 0x71];

/// The encoding of a sample, little-endian.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Encoding {
    /// Signed integers of 16 bits.
    S16,
    /// Signed integers of 24 bits in three bytes.
    S24,
    /// Signed integers of 32 bits. Samples with 24 valid bits in four bytes use the upper bits, and are read in the
    /// same way.
    S32,
    /// IEEE 754 binary32, full scale ±1.0.
    F32,
}

impl Encoding {
    /// Returns the bytes of a sample of one channel.
    #[must_use]
    pub const fn bytes(self) -> usize {
        match self {
            Self::S16 => 2,
            Self::S24 => 3,
            Self::S32 | Self::F32 => 4,
        }
    }
}

/// The format of the samples that follow a WAV's head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// Samples per second of each channel, 8000 to 192 000.
    pub rate_hz: u32,
    /// Number of interleaved channels, 1 to 8.
    pub channels: u16,
    /// Encoding of each sample.
    pub encoding: Encoding,
    /// Declared size of the samples in bytes, which may be wrong; `None` if the head says that the size was unknown.
    pub data_bytes: Option<u64>,
}

/// Error: a WAV can't be read.
#[derive(Debug, thiserror::Error)]
pub enum WavError {
    /// The stream doesn't start with a RIFF/WAVE head, or its `fmt ` chunk is missing, invalid, or preceded by too many bytes.
    #[error("the file or stream is not a WAV")]
    NotWav,
    /// The format is not supported.
    #[error("{what}; use 1 to 8 channels at 8000 to 192000 Hz, s16, s24, s32 or f32")]
    Unsupported {
        /// Which property is not supported.
        what: String,
    },
    /// The block size doesn't fit the number of channels and the encoding.
    #[error("the head of the WAV is invalid: its block size {block} doesn't fit {channels} channels of {bits} bits")]
    InvalidBlock {
        /// The block size in bytes.
        block: u16,
        /// The number of channels.
        channels: u16,
        /// The bits of a sample.
        bits: u16,
    },
    /// The stream ended within the head.
    #[error("the head of the WAV is incomplete")]
    Truncated,
    /// The stream ended before its first byte.
    #[error("the file or stream contains no bytes; give a WAV")]
    Empty,
    /// The stream can't be read.
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl Head {
    /// Reads a head, and no byte beyond it: the stream continues with the first sample.
    pub fn read(stream: &mut impl Read) -> Result<Self, WavError> {
        let mut bounded = Bounded { stream, left: HEAD_BYTES_MAX };
        let has_long_sizes = bounded.riff()?;
        let (mut head, mut long_size) = (None, None);
        loop {
            let (kind, size) = bounded.chunk()?;
            let len = usize::try_from(size).map_err(|_| WavError::NotWav)?;
            match &kind {
                b"data" => {
                    // RF64 and BW64: the size in `ds64` is valid if the size of this chunk is the maximum (ITU-R BS.2088, EBU Tech 3306).
                    let long_size = long_size.filter(|_| size == u32::MAX);
                    let data_bytes = long_size.or((size < UNKNOWN_BYTES).then_some(u64::from(size)));
                    return head.map(|head| Self { data_bytes, ..head }).ok_or(WavError::NotWav);
                }
                b"fmt " => {
                    let fmt = bounded.fmt(len)?;
                    head = Some(parse_fmt(&fmt)?);
                }
                b"ds64" if has_long_sizes => long_size = Some(bounded.ds64(len)?).filter(|size| *size < u64::MAX),
                _ => bounded.skip(padded(len))?,
            }
        }
    }

    /// Returns the bytes of one sample of every channel.
    #[must_use]
    pub const fn block_bytes(&self) -> usize {
        self.encoding.bytes() * self.channels as usize
    }
}

/// A stream from which at most `left` bytes may be read.
struct Bounded<'a, R> {
    stream: &'a mut R,
    left: usize,
}

impl<R: Read> Bounded<'_, R> {
    fn take(&mut self, out: &mut [u8]) -> Result<(), WavError> {
        self.left = self.left.checked_sub(out.len()).ok_or(WavError::NotWav)?;
        match self.stream.read_exact(out) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Err(WavError::Truncated),
            result => Ok(result?),
        }
    }

    /// Reads the form of the file: RIFF, RF64 or BW64. Returns whether a `ds64` chunk may follow, with 64-bit sizes.
    fn riff(&mut self) -> Result<bool, WavError> {
        let mut tag = [0; 4];
        // The first byte alone tells an empty stream from a truncated one.
        match self.take(&mut tag[..1]) {
            Err(WavError::Truncated) => return Err(WavError::Empty),
            result => result?,
        }
        self.take(&mut tag[1..])?;
        let has_long_sizes = match &tag {
            b"RIFF" => false,
            b"RF64" | b"BW64" => true,
            _ => return Err(WavError::NotWav),
        };
        let mut size_and_form = [0; 8];
        self.take(&mut size_and_form)?;
        if &size_and_form[4..] == b"WAVE" { Ok(has_long_sizes) } else { Err(WavError::NotWav) }
    }

    fn chunk(&mut self) -> Result<([u8; 4], u32), WavError> {
        let (mut kind, mut size) = ([0; 4], [0; 4]);
        self.take(&mut kind)?;
        self.take(&mut size)?;
        Ok((kind, u32::from_le_bytes(size)))
    }

    fn fmt(&mut self, len: usize) -> Result<Vec<u8>, WavError> {
        if !(16..=FMT_BYTES_MAX).contains(&len) {
            return Err(WavError::NotWav);
        }
        let mut fmt = vec![0; padded(len)];
        self.take(&mut fmt)?;
        Ok(fmt)
    }

    /// Reads a `ds64` chunk, and returns the size of the samples.
    fn ds64(&mut self, len: usize) -> Result<u64, WavError> {
        let rest = padded(len).checked_sub(DS64_BYTES_MIN).ok_or(WavError::NotWav)?;
        let (mut file_size, mut data_size) = ([0; 8], [0; 8]);
        self.take(&mut file_size)?;
        self.take(&mut data_size)?;
        self.skip(rest)?;
        Ok(u64::from_le_bytes(data_size))
    }

    fn skip(&mut self, mut len: usize) -> Result<(), WavError> {
        if len > self.left {
            return Err(WavError::NotWav);
        }
        let mut bin = [0; 256];
        while len > 0 {
            let n = len.min(bin.len());
            self.take(&mut bin[..n])?;
            len -= n;
        }
        Ok(())
    }
}

/// Returns the length of a chunk with its padding: a chunk of odd length is followed by a byte.
const fn padded(len: usize) -> usize {
    len.saturating_add(len & 1)
}

/// Parses a `fmt ` chunk of at least 16 bytes.
fn parse_fmt(fmt: &[u8]) -> Result<Head, WavError> {
    let u16_at = |at: usize| u16::from_le_bytes([fmt[at], fmt[at + 1]]);
    let (mut tag, channels, block, bits) = (u16_at(0), u16_at(2), u16_at(12), u16_at(14));
    let rate_hz = u32::from_le_bytes([fmt[4], fmt[5], fmt[6], fmt[7]]);
    if tag == TAG_EXTENSIBLE {
        if fmt.len() < 40 {
            return Err(WavError::NotWav);
        }
        if fmt[26..40] != SUBTYPE_TAIL {
            return unsupported("the sub-format of the WAV is not supported");
        }
        tag = u16_at(24);
    }
    if !(1..=CHANNELS_MAX).contains(&channels) {
        return unsupported(format!("a WAV of {channels} channels is not supported"));
    }
    if !RATE_HZ.contains(&rate_hz) {
        return unsupported(format!("a sample rate of {rate_hz} Hz is not supported"));
    }
    let encoding = match (tag, bits) {
        (TAG_PCM, 16) => Encoding::S16,
        (TAG_PCM, 24) if block == channels * 4 => Encoding::S32,
        (TAG_PCM, 24) => Encoding::S24,
        (TAG_PCM, 32) => Encoding::S32,
        (TAG_FLOAT, 32) => Encoding::F32,
        _ => return unsupported(format!("a WAV with format tag {tag} and {bits} bits per sample is not supported")),
    };
    let head = Head { rate_hz, channels, encoding, data_bytes: None };
    // Some writers set the block size to zero. A wrong block size would turn the sound into noise.
    if block != 0 && usize::from(block) != head.block_bytes() {
        return Err(WavError::InvalidBlock { block, channels, bits });
    }
    Ok(head)
}

fn unsupported<T>(what: impl Into<String>) -> Result<T, WavError> {
    Err(WavError::Unsupported { what: what.into() })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn riff(chunks: &[(&[u8; 4], u32, &[u8])]) -> Vec<u8> {
        let mut bytes = b"RIFF\0\0\0\0WAVE".to_vec();
        for (kind, len, body) in chunks {
            bytes.extend_from_slice(*kind);
            bytes.extend_from_slice(&len.to_le_bytes());
            bytes.extend_from_slice(body);
        }
        bytes
    }

    fn fmt(tag: u16, channels: u16, rate_hz: u32, bits: u16) -> Vec<u8> {
        let block = channels * bits.div_ceil(8);
        let mut body = Vec::new();
        body.extend_from_slice(&tag.to_le_bytes());
        body.extend_from_slice(&channels.to_le_bytes());
        body.extend_from_slice(&rate_hz.to_le_bytes());
        body.extend_from_slice(&(rate_hz * u32::from(block)).to_le_bytes());
        body.extend_from_slice(&block.to_le_bytes());
        body.extend_from_slice(&bits.to_le_bytes());
        body
    }

    fn extensible(tag: u16, channels: u16, rate_hz: u32, bits: u16) -> Vec<u8> {
        let mut body = fmt(TAG_EXTENSIBLE, channels, rate_hz, bits);
        body.extend_from_slice(&22u16.to_le_bytes());
        body.extend_from_slice(&bits.to_le_bytes());
        body.extend_from_slice(&4u32.to_le_bytes());
        body.extend_from_slice(&tag.to_le_bytes());
        body.extend_from_slice(&SUBTYPE_TAIL);
        body
    }

    fn read(bytes: &[u8]) -> Result<Head, WavError> {
        Head::read(&mut &bytes[..])
    }

    #[test]
    fn the_declared_size_is_read_and_the_stream_continues_with_the_first_sample() {
        for (size, data_bytes) in [
            (0, Some(0)),
            (1, Some(1)),
            (0x7FFF_FFFF, Some(0x7FFF_FFFF)),
            (0xFFFF_FEFF, Some(0xFFFF_FEFF)),
            (0xFFFF_FF00, None),
            (u32::MAX, None),
        ] {
            let bytes = riff(&[(b"fmt ", 16, &fmt(1, 1, 24_000, 16)), (b"data", size, &[7, 8, 9])]);
            let mut rest = &bytes[..];
            let head = Head::read(&mut rest).unwrap();
            assert_eq!(head, Head { rate_hz: 24_000, channels: 1, encoding: Encoding::S16, data_bytes });
            assert_eq!(rest, [7, 8, 9]);
        }
    }

    #[test]
    fn the_size_in_ds64_is_valid_in_rf64_and_bw64_if_the_short_size_is_the_maximum() {
        let long = 5u64 << 30;
        let wav = |form: &[u8; 4], long: u64, short: u32| {
            let ds64 = [&[0; 8], &long.to_le_bytes()[..], &[0; 12]].concat();
            let mut bytes = riff(&[(b"ds64", 28, &ds64), (b"fmt ", 16, &fmt(1, 1, 24_000, 16)), (b"data", short, &[])]);
            bytes[..4].copy_from_slice(form);
            read(&bytes).unwrap().data_bytes
        };
        for form in [b"RF64", b"BW64"] {
            assert_eq!(wav(form, long, u32::MAX), Some(long));
            assert_eq!(wav(form, long, 100), Some(100));
            assert_eq!(wav(form, u64::MAX, u32::MAX), None);
        }
        assert_eq!(wav(b"RIFF", long, u32::MAX), None);
        let mut short = riff(&[(b"ds64", 8, &[0; 8])]);
        short[..4].copy_from_slice(b"RF64");
        assert!(matches!(read(&short), Err(WavError::NotWav)));
    }

    #[test]
    fn unknown_chunks_are_skipped_with_their_padding() {
        let bytes = riff(&[
            (b"LIST", 3, &[1, 2, 3, 0]),
            (b"fmt ", 16, &fmt(3, 2, 48_000, 32)),
            (b"junk", 4, &[0; 4]),
            (b"data", 0, &[]),
        ]);
        assert_eq!(read(&bytes).unwrap().encoding, Encoding::F32);
    }

    #[test]
    fn a_chunk_that_never_ends_is_not_a_wav() {
        let bytes = riff(&[(b"LIST", u32::MAX, &[0; 100])]);
        assert!(matches!(read(&bytes), Err(WavError::NotWav)));
        let many = riff(&vec![(b"junk", 1000, &[0u8; 1000][..]); 70]);
        assert!(matches!(read(&many), Err(WavError::NotWav)));
    }

    #[test]
    fn every_supported_encoding_is_known() {
        for (tag, bits, encoding) in
            [(1, 16, Encoding::S16), (1, 24, Encoding::S24), (1, 32, Encoding::S32), (3, 32, Encoding::F32)]
        {
            for (len, body) in [(16, fmt(tag, 2, 44_100, bits)), (40, extensible(tag, 2, 44_100, bits))] {
                let head = read(&riff(&[(b"fmt ", len, &body), (b"data", 0, &[])])).unwrap();
                assert_eq!(head, Head { rate_hz: 44_100, channels: 2, encoding, data_bytes: Some(0) });
            }
        }
    }

    #[test]
    fn unsupported_formats_are_refused() {
        for body in [
            fmt(1, 0, 24_000, 16),
            fmt(1, 9, 24_000, 16),
            fmt(1, 1, 7_999, 16),
            fmt(1, 1, 192_001, 16),
            fmt(1, 1, 24_000, 8),
            fmt(7, 1, 8_000, 8),
        ] {
            let result = read(&riff(&[(b"fmt ", 16, &body), (b"data", 0, &[])]));
            assert!(matches!(result, Err(WavError::Unsupported { .. })), "{result:?}");
        }
    }

    #[test]
    fn block_size_that_does_not_fit_the_channels_is_refused() {
        let mut body = fmt(1, 2, 24_000, 16);
        body[12] = 2;
        let result = read(&riff(&[(b"fmt ", 16, &body), (b"data", 0, &[])]));
        assert!(matches!(result, Err(WavError::InvalidBlock { block: 2, channels: 2, bits: 16 })), "{result:?}");
    }

    #[test]
    fn a_truncated_head_and_an_empty_stream_are_different_errors() {
        let bytes = riff(&[(b"fmt ", 16, &fmt(1, 1, 24_000, 16)), (b"data", 0, &[])]);
        assert!(matches!(read(&[]), Err(WavError::Empty)));
        for len in 1..bytes.len() {
            assert!(matches!(read(&bytes[..len]), Err(WavError::Truncated)), "{len}");
        }
        assert!(matches!(read(b"ID3\x03 an MP3 file, not a WAV"), Err(WavError::NotWav)));
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_parser_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = read(&bytes);
            let mut wav = b"RIFF\0\0\0\0WAVEfmt ".to_vec();
            wav.extend_from_slice(&bytes);
            let _ = read(&wav);
        }
    }
}
