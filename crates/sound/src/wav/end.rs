//! Finds the end of a WAV's samples.
//!
//! The declared size is wrong if the head was written before the sound. It is believed if the stream ends at the declared
//! end, or if a chunk can begin there. A chunk that is decoded as samples is heard as noise.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use super::Head;

/// Length of a chunk's name in bytes.
const NAME_BYTES: usize = 4;
/// Length of a chunk's name and size in bytes.
const CHUNK_HEAD_BYTES: usize = 8;
/// Maximum size in bytes of a chunk after the samples of a stream. Samples of sound, read as a chunk's name and size, declare a
/// larger size almost always.
const CHUNK_BYTES_MAX: u64 = 16 << 20;
/// Maximum bytes from which to decide whether a chunk begins: a byte of padding, a name and a size.
const DECISIVE_BYTES: usize = 1 + CHUNK_HEAD_BYTES;

/// Returns the offset at which the samples in `file` end. `start` is the offset of the first sample, and `len` the length of
/// the file.
///
/// # Errors
/// The file can't be read.
pub fn samples_end(file: &File, head: &Head, start: u64, len: u64) -> io::Result<u64> {
    let declared = head.data_bytes.map(|bytes| start.saturating_add(bytes)).filter(|declared| *declared < len);
    let Some(declared) = declared else { return Ok(len) };
    let mut after = [0; DECISIVE_BYTES];
    let got = read_at_most(file, &mut after, declared)?;
    let bytes_max = CHUNK_BYTES_MAX.max(len - declared);
    Ok(if begins_chunk(&after[..got], is_odd(head.data_bytes), bytes_max) == Some(false) { len } else { declared })
}

/// Returns whether a chunk of at most `bytes_max` begins in `bytes`, or `None` if more bytes are needed. `is_padded` says whether
/// a byte of padding may precede the chunk.
fn begins_chunk(bytes: &[u8], is_padded: bool, bytes_max: u64) -> Option<bool> {
    // Some programs omit the padding.
    let bytes = if is_padded { bytes.strip_prefix(&[0]).unwrap_or(bytes) } else { bytes };
    let name = &bytes[..bytes.len().min(NAME_BYTES)];
    if name.first() == Some(&b' ') || !name.iter().all(|byte| matches!(byte, b' '..=b'~')) {
        return Some(false);
    }
    let size = bytes.get(NAME_BYTES..CHUNK_HEAD_BYTES)?;
    Some(u64::from(u32::from_le_bytes([size[0], size[1], size[2], size[3]])) <= bytes_max)
}

/// Reads from `offset` until `bytes` is full or the file ends, and returns how many bytes it read.
pub(super) fn read_at_most(file: &File, bytes: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut done = 0;
    while done < bytes.len() {
        match file.read_at(&mut bytes[done..], offset + done as u64) {
            Ok(0) => break,
            Ok(read) => done += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(done)
}

fn is_odd(data_bytes: Option<u64>) -> bool {
    data_bytes.is_some_and(|bytes| bytes % 2 == 1)
}

/// Passes the bytes of samples on, and stops at the end of the samples. The bytes arrive in pieces of any length.
#[derive(Clone, Debug)]
pub(crate) struct DataEnd {
    at: At,
    /// Whether the declared length of the samples is odd, so that a byte of padding may follow.
    is_padded: bool,
    /// The bytes after the declared end, until they show whether a chunk begins.
    held: [u8; DECISIVE_BYTES],
    held_len: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    /// Before the declared end of the samples: this number of bytes is still to come.
    Before(u64),
    /// At the declared end; the next bytes show whether the declared end is correct.
    Declared,
    /// After a wrong declared end, or in a stream without a declared end.
    Unknown,
    /// After the last sample.
    Over,
}

impl DataEnd {
    /// Returns the state before the first sample. `data_bytes` is the declared size of the samples; `None` if it is
    /// unknown.
    pub(crate) fn new(data_bytes: Option<u64>) -> Self {
        let at = data_bytes.map_or(At::Unknown, At::Before);
        Self { at, is_padded: is_odd(data_bytes), held: [0; DECISIVE_BYTES], held_len: 0 }
    }

    /// Calls `consume` for the bytes of samples in `bytes`, up to three times.
    pub(crate) fn pass(&mut self, mut bytes: &[u8], mut consume: impl FnMut(&[u8])) {
        if let At::Before(left) = self.at {
            let (sound, rest) = bytes.split_at(usize::try_from(left).unwrap_or(usize::MAX).min(bytes.len()));
            consume(sound);
            bytes = rest;
            let left = left - sound.len() as u64;
            self.at = if left == 0 { At::Declared } else { At::Before(left) };
        }
        if self.at == At::Declared {
            bytes = self.hold(bytes);
            match begins_chunk(&self.held[..self.held_len], self.is_padded, CHUNK_BYTES_MAX) {
                Some(true) => self.at = At::Over,
                Some(false) => {
                    self.at = At::Unknown;
                    consume(&self.held[..self.held_len]);
                }
                None => {}
            }
        }
        if self.at == At::Unknown {
            consume(bytes);
        }
    }

    /// Holds the first bytes after the declared end back and returns the rest.
    fn hold<'a>(&mut self, bytes: &'a [u8]) -> &'a [u8] {
        let (kept, rest) = bytes.split_at(bytes.len().min(DECISIVE_BYTES - self.held_len));
        self.held[self.held_len..self.held_len + kept.len()].copy_from_slice(kept);
        self.held_len += kept.len();
        rest
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const CHUNK: &[u8] = b"levl\x04\0\0\0tail";

    fn heard(data_bytes: Option<u64>, pieces: &[&[u8]]) -> Vec<u8> {
        let (mut end, mut out) = (DataEnd::new(data_bytes), Vec::new());
        pieces.iter().for_each(|piece| end.pass(piece, |bytes| out.extend_from_slice(bytes)));
        out
    }

    #[test]
    fn a_chunk_of_any_name_at_the_declared_end_ends_the_samples() {
        for name in [b"LIST", b"levl", b"id3 ", b"_PMX", b"r64m", b"ABCD"] {
            let bytes = [&b"abcd"[..], name, b"\x04\0\0\0tail"].concat();
            assert_eq!(heard(Some(4), &[&bytes]), b"abcd");
            // If the declared end is unknown or elsewhere, the name and the bytes after it are played as samples.
            for other in [None, Some(400)] {
                assert_eq!(heard(other, &[&bytes]), bytes, "{other:?}");
            }
        }
    }

    #[test]
    fn samples_of_odd_length_may_be_followed_by_padding() {
        assert_eq!(heard(Some(3), &[b"abc\0LIST\0\0\0\0"]), b"abc");
        assert_eq!(heard(Some(3), &[b"abcLIST\0\0\0\0"]), b"abc");
        assert_eq!(heard(Some(3), &[b"abc\x01LIST\0\0\0\0"]), b"abc\x01LIST\0\0\0\0");
    }

    #[test]
    fn other_bytes_at_the_declared_end_are_samples() {
        for bytes in
            [&b"abcdefgh\0\0\0\x7f"[..], b"abcd\0IST\0\0\0\0", b"abcd IST\0\0\0\0", b"abcdLI\x7fT", b"abcd", b"ab"]
        {
            assert_eq!(heard(Some(4), &[bytes]), bytes);
        }
    }

    #[test]
    fn the_start_of_a_name_at_the_end_of_the_stream_is_not_heard() {
        for length in 0..CHUNK.len() {
            assert_eq!(heard(Some(4), &[b"abcd", &CHUNK[..length]]), b"abcd");
            assert_eq!(heard(Some(0), &[&CHUNK[..length]]), b"");
        }
    }

    #[test]
    fn a_chunk_in_a_file_may_be_as_long_as_the_rest_of_the_file() {
        let file = tempfile::tempfile().unwrap();
        let len = 40 << 20;
        file.set_len(len).unwrap();
        let end_with = |size: u32| {
            file.write_all_at(&[b"axml", &size.to_le_bytes()[..]].concat(), 10).unwrap();
            let head = Head { rate_hz: 24_000, channels: 1, encoding: crate::wav::Encoding::S16, data_bytes: Some(6) };
            samples_end(&file, &head, 4, len).unwrap()
        };
        assert_eq!(end_with(len as u32 - 18), 10);
        assert_eq!(end_with(CHUNK_BYTES_MAX as u32), 10);
        assert_eq!(end_with(len as u32), len);
    }

    proptest! {
        #[test]
        fn pieces_of_any_length_give_the_same_result(
            sound in proptest::collection::vec(any::<u8>(), 0..40),
            has_chunk: bool,
            after in proptest::collection::vec(any::<u8>(), 0..20),
            lie in -3i64..=3,
            cuts in proptest::collection::vec(0usize..8, 0..40),
        ) {
            let data_bytes = u64::try_from(sound.len() as i64 + lie).ok();
            let padding = vec![0; sound.len() % 2];
            let chunk = if has_chunk { CHUNK } else { b"" };
            let all = [&sound[..], &padding, chunk, &after].concat();
            let (mut pieces, mut rest) = (Vec::new(), &all[..]);
            for cut in cuts {
                let (piece, later) = rest.split_at(cut.min(rest.len()));
                pieces.push(piece);
                rest = later;
            }
            pieces.push(rest);
            let whole = heard(data_bytes, &[&all]);
            prop_assert_eq!(heard(data_bytes, &pieces), whole.clone());
            if lie == 0 && has_chunk {
                prop_assert_eq!(whole, sound);
            } else {
                prop_assert!(all.starts_with(&whole));
            }
        }
    }
}
