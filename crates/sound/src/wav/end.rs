//! Where the samples of a WAV end before the stream does.
//!
//! The size in a head isn't believed by itself: it lies wherever the head was written before the sound. But where it says
//! that the samples end and a chunk begins there that programs are known to put after them, it told the truth, and that
//! chunk would be heard as a click.

/// What programs put after the samples.
const CHUNKS: [&[u8; 4]; 13] = [
    b"LIST", b"id3 ", b"ID3 ", b"JUNK", b"junk", b"fact", b"cue ", b"smpl", b"bext", b"PEAK", b"afsp", b"_PMX", b"iXML",
];
/// Length of a chunk's name.
const NAME_BYTES: usize = 4;
/// A name, and the byte of padding before it when the samples have an odd length.
const HELD_BYTES_MAX: usize = NAME_BYTES + 1;

/// Lets through what is sound, in pieces of any length.
#[derive(Clone, Debug)]
pub(crate) struct DataEnd {
    at: At,
    /// Bytes of padding that may stand before a name.
    padding: usize,
    held: [u8; HELD_BYTES_MAX],
    held_len: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    /// So many bytes before the end that was declared.
    Before(u64),
    /// At that end: what comes now tells whether it is one.
    Declared,
    /// After an end that was none, or without one.
    Lasting,
    /// After the last sample.
    Over,
}

impl DataEnd {
    /// Before the first of `data_bytes`, or where nobody knows how many there are.
    pub(crate) fn new(data_bytes: Option<u64>) -> Self {
        let at = data_bytes.map_or(At::Lasting, At::Before);
        let padding = usize::from(data_bytes.is_some_and(|bytes| bytes % 2 == 1));
        Self { at, padding, held: [0; HELD_BYTES_MAX], held_len: 0 }
    }

    /// Gives what is sound in `bytes` to `hear`, in one to three pieces.
    pub(crate) fn pass(&mut self, mut bytes: &[u8], mut hear: impl FnMut(&[u8])) {
        if let At::Before(left) = self.at {
            let (sound, rest) = bytes.split_at(usize::try_from(left).unwrap_or(usize::MAX).min(bytes.len()));
            hear(sound);
            bytes = rest;
            let left = left - sound.len() as u64;
            self.at = if left == 0 { At::Declared } else { At::Before(left) };
        }
        if self.at == At::Declared {
            bytes = self.hold(bytes);
            if self.held_len == self.padding + NAME_BYTES {
                self.decide(&mut hear);
            }
        }
        if self.at == At::Lasting {
            hear(bytes);
        }
    }

    /// The stream has ended. Bytes that were held because a name might have come are sound.
    pub(crate) fn finish(&mut self, hear: impl FnOnce(&[u8])) {
        if self.at == At::Declared {
            hear(&self.held[..self.held_len]);
        }
        self.at = At::Over;
    }

    /// Keeps what is missing of a name and gives the rest.
    fn hold<'a>(&mut self, bytes: &'a [u8]) -> &'a [u8] {
        let missing = self.padding + NAME_BYTES - self.held_len;
        let (kept, rest) = bytes.split_at(missing.min(bytes.len()));
        self.held[self.held_len..self.held_len + kept.len()].copy_from_slice(kept);
        self.held_len += kept.len();
        rest
    }

    fn decide(&mut self, hear: impl FnOnce(&[u8])) {
        let held = &self.held[..self.held_len];
        let is_name = |bytes: &[u8]| CHUNKS.iter().any(|name| bytes.starts_with(&name[..]));
        // Some programs leave the padding out.
        if is_name(held) || (self.padding == 1 && held[0] == 0 && is_name(&held[1..])) {
            self.at = At::Over;
        } else {
            self.at = At::Lasting;
            hear(held);
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
    fn a_known_chunk_at_the_declared_end_ends_the_sound() {
        for name in CHUNKS {
            let bytes = [&b"abcd"[..], name, b"\x04\0\0\0tail"].concat();
            assert_eq!(heard(Some(4), &[&bytes]), b"abcd");
            // Nowhere else.
            for other in [None, Some(3), Some(5), Some(400)] {
                assert_eq!(heard(other, &[&bytes]), bytes, "{other:?}");
            }
        }
    }

    #[test]
    fn after_an_odd_length_a_byte_of_padding_may_come_first() {
        assert_eq!(heard(Some(3), &[b"abc\0LIST\0\0\0\0"]), b"abc");
        assert_eq!(heard(Some(3), &[b"abcLIST\0\0\0\0"]), b"abc");
        assert_eq!(heard(Some(3), &[b"abc\x01LIST\0\0\0\0"]), b"abc\x01LIST\0\0\0\0");
    }

    #[test]
    fn anything_else_means_that_the_size_lied() {
        assert_eq!(heard(Some(4), &[b"abcdefghLIST"]), b"abcdefghLIST");
        assert_eq!(heard(Some(4), &[b"abcdLIS"]), b"abcdLIS");
        assert_eq!(heard(Some(4), &[b"abcdlist"]), b"abcdlist");
        assert_eq!(heard(Some(4), &[b"abcd"]), b"abcd");
        assert_eq!(heard(Some(4), &[b"ab"]), b"ab");
        assert_eq!(heard(Some(0), &[b"LIST"]), b"");
    }

    proptest! {
        #[test]
        fn pieces_of_any_length_are_heard_as_one(
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
