//! Finds the end of a WAV's samples.
//!
//! The declared size alone isn't trusted: it is wrong if the head was written before the sound. It is correct if a
//! chunk that programs are known to write after the samples begins at the declared end. If that chunk were decoded as
//! samples, it would be heard as a click.

/// Names of chunks that programs write after the samples.
const CHUNKS: [&[u8; 4]; 13] = [
    b"LIST", b"id3 ", b"ID3 ", b"JUNK", b"junk", b"fact", b"cue ", b"smpl", b"bext", b"PEAK", b"afsp", b"_PMX", b"iXML",
];
/// Length of a chunk's name in bytes.
const NAME_BYTES: usize = 4;
/// Maximum bytes held back: a name, and a byte of padding if the samples have an odd length.
const HELD_BYTES_MAX: usize = NAME_BYTES + 1;

/// Passes the bytes of samples on, and stops at the end of the samples. The bytes arrive in pieces of any length.
#[derive(Clone, Debug)]
pub(crate) struct DataEnd {
    at: At,
    /// Maximum bytes of padding before a name.
    padding: usize,
    held: [u8; HELD_BYTES_MAX],
    held_len: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    /// Before the declared end, by this number of bytes.
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
        let padding = usize::from(data_bytes.is_some_and(|bytes| bytes % 2 == 1));
        Self { at, padding, held: [0; HELD_BYTES_MAX], held_len: 0 }
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
            if self.held_len == self.padding + NAME_BYTES {
                self.decide(&mut consume);
            }
        }
        if self.at == At::Unknown {
            consume(bytes);
        }
    }

    /// Ends the stream. Bytes that were held back are samples.
    pub(crate) fn finish(&mut self, consume: impl FnOnce(&[u8])) {
        if self.at == At::Declared {
            consume(&self.held[..self.held_len]);
        }
        self.at = At::Over;
    }

    /// Holds the bytes of a possible name back and returns the rest.
    fn hold<'a>(&mut self, bytes: &'a [u8]) -> &'a [u8] {
        let missing = self.padding + NAME_BYTES - self.held_len;
        let (kept, rest) = bytes.split_at(missing.min(bytes.len()));
        self.held[self.held_len..self.held_len + kept.len()].copy_from_slice(kept);
        self.held_len += kept.len();
        rest
    }

    fn decide(&mut self, consume: impl FnOnce(&[u8])) {
        let held = &self.held[..self.held_len];
        let is_name = |bytes: &[u8]| CHUNKS.iter().any(|name| bytes.starts_with(&name[..]));
        // Some programs omit the padding.
        if is_name(held) || (self.padding == 1 && held[0] == 0 && is_name(&held[1..])) {
            self.at = At::Over;
        } else {
            self.at = At::Unknown;
            consume(held);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn heard(data_bytes: Option<u64>, pieces: &[&[u8]]) -> Vec<u8> {
        let (mut end, mut out) = (DataEnd::new(data_bytes), Vec::new());
        pieces.iter().for_each(|piece| end.pass(piece, |bytes| out.extend_from_slice(bytes)));
        end.finish(|bytes| out.extend_from_slice(bytes));
        out
    }

    #[test]
    fn a_known_chunk_at_the_declared_end_ends_the_samples() {
        for name in CHUNKS {
            let bytes = [&b"abcd"[..], name, b"\x04\0\0\0tail"].concat();
            assert_eq!(heard(Some(4), &[&bytes]), b"abcd");
            // At any other place, the name is a part of the samples.
            for other in [None, Some(3), Some(5), Some(400)] {
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
        assert_eq!(heard(Some(4), &[b"abcdefghLIST"]), b"abcdefghLIST");
        assert_eq!(heard(Some(4), &[b"abcdLIS"]), b"abcdLIS");
        assert_eq!(heard(Some(4), &[b"abcdlist"]), b"abcdlist");
        assert_eq!(heard(Some(4), &[b"abcd"]), b"abcd");
        assert_eq!(heard(Some(4), &[b"ab"]), b"ab");
        assert_eq!(heard(Some(0), &[b"LIST"]), b"");
    }

    proptest! {
        #[test]
        fn pieces_of_any_length_give_the_same_result(
            sound in proptest::collection::vec(any::<u8>(), 0..40),
            which in proptest::option::of(0..CHUNKS.len()),
            after in proptest::collection::vec(any::<u8>(), 0..20),
            lie in -3i64..=3,
            cuts in proptest::collection::vec(0usize..8, 0..40),
        ) {
            let data_bytes = u64::try_from(sound.len() as i64 + lie).ok();
            let padding = vec![0; sound.len() % 2];
            let name = which.map_or(&b""[..], |which| CHUNKS[which]);
            let all = [&sound[..], &padding, name, &after].concat();
            let (mut pieces, mut rest) = (Vec::new(), &all[..]);
            for cut in cuts {
                let (piece, later) = rest.split_at(cut.min(rest.len()));
                pieces.push(piece);
                rest = later;
            }
            pieces.push(rest);
            let whole = heard(data_bytes, &[&all]);
            prop_assert_eq!(heard(data_bytes, &pieces), whole.clone());
            if lie == 0 && which.is_some() {
                prop_assert_eq!(whole, sound);
            } else {
                prop_assert!(all.starts_with(&whole));
            }
        }
    }
}
