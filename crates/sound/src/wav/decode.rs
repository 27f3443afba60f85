//! Decodes the bytes after a head to samples of one channel.

use super::head::CHANNELS_MAX;
use super::{DataEnd, Encoding, Head};

/// Maximum bytes of a sample of every channel.
const BLOCK_BYTES_MAX: usize = 4 * CHANNELS_MAX as usize;

/// Decodes pieces of any length, and stores an incomplete block until the next piece.
///
/// The sound ends at the declared end if a chunk can begin there. Otherwise the declared size was wrong, and the sound
/// continues.
#[derive(Clone, Debug)]
pub(crate) struct Decoder {
    end: DataEnd,
    blocks: Blocks,
}

impl Decoder {
    pub(crate) fn new(head: &Head) -> Self {
        let blocks = Blocks { head: *head, partial: [0; BLOCK_BYTES_MAX], partial_len: 0 };
        Self { end: DataEnd::new(head.data_bytes), blocks }
    }

    /// Appends the samples of `bytes` to `out`: one channel, finite, in [−1, 1]. Several channels are averaged; NaN and
    /// infinity become 0. At the declared end, up to nine bytes wait for the rest of a chunk's name and size.
    pub(crate) fn push(&mut self, bytes: &[u8], out: &mut Vec<f32>) {
        self.end.pass(bytes, |sound| self.blocks.push(sound, out));
    }
}

#[derive(Clone, Debug)]
struct Blocks {
    head: Head,
    partial: [u8; BLOCK_BYTES_MAX],
    partial_len: usize,
}

impl Blocks {
    fn push(&mut self, mut bytes: &[u8], out: &mut Vec<f32>) {
        let block = self.head.block_bytes();
        if self.partial_len > 0 {
            let n = bytes.len().min(block - self.partial_len);
            self.partial[self.partial_len..self.partial_len + n].copy_from_slice(&bytes[..n]);
            self.partial_len += n;
            bytes = &bytes[n..];
            if self.partial_len < block {
                return;
            }
            out.push(fold(&self.partial[..block], &self.head));
            self.partial_len = 0;
        }
        let blocks = bytes.chunks_exact(block);
        let rest = blocks.remainder();
        out.extend(blocks.map(|block| fold(block, &self.head)));
        self.partial[..rest.len()].copy_from_slice(rest);
        self.partial_len = rest.len();
    }
}

fn fold(block: &[u8], head: &Head) -> f32 {
    let bytes = head.encoding.bytes();
    let sum: f32 = block.chunks_exact(bytes).map(|sample| sample_of(sample, head.encoding)).sum();
    if head.channels == 1 { sum } else { sum / f32::from(head.channels) }
}

fn sample_of(bytes: &[u8], encoding: Encoding) -> f32 {
    const S24_SCALE: f32 = 1.0 / 8_388_608.0;
    const S32_SCALE: f32 = 1.0 / 2_147_483_648.0;
    match (encoding, bytes) {
        (Encoding::S16, &[a, b]) => f32::from(i16::from_le_bytes([a, b])) / 32_768.0,
        // The three bytes become the upper bytes of an i32, so that the shift extends the sign.
        (Encoding::S24, &[a, b, c]) => (i32::from_le_bytes([0, a, b, c]) >> 8) as f32 * S24_SCALE,
        (Encoding::S32, &[a, b, c, d]) => i32::from_le_bytes([a, b, c, d]) as f32 * S32_SCALE,
        (Encoding::F32, &[a, b, c, d]) => finite(f32::from_le_bytes([a, b, c, d])),
        _ => 0.0,
    }
}

fn finite(value: f32) -> f32 {
    if value.is_finite() { value.clamp(-1.0, 1.0) } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn head(channels: u16, encoding: Encoding) -> Head {
        Head { rate_hz: 48_000, channels, encoding, data_bytes: None }
    }

    fn decode(head: &Head, bytes: &[u8]) -> Vec<f32> {
        let mut out = Vec::new();
        let mut decoder = Decoder::new(head);
        decoder.push(bytes, &mut out);
        out
    }

    #[test]
    fn each_encoding_has_its_full_scale() {
        assert_eq!(decode(&head(1, Encoding::S16), &[0, 0x80, 0, 0x40]), [-1.0, 0.5]);
        assert_eq!(decode(&head(1, Encoding::S24), &[0, 0, 0x80, 0, 0, 0x40]), [-1.0, 0.5]);
        assert_eq!(decode(&head(1, Encoding::S32), &[0, 0, 0, 0x80, 0, 0, 0, 0x40]), [-1.0, 0.5]);
        let floats: Vec<u8> = [-1.0f32, 0.5].iter().flat_map(|x| x.to_le_bytes()).collect();
        assert_eq!(decode(&head(1, Encoding::F32), &floats), [-1.0, 0.5]);
    }

    #[test]
    fn non_finite_floats_become_0_and_loud_ones_full_scale() {
        let odd = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 7.0, -1e30];
        let bytes: Vec<u8> = odd.iter().flat_map(|x| x.to_le_bytes()).collect();
        assert_eq!(decode(&head(1, Encoding::F32), &bytes), [0.0, 0.0, 0.0, 1.0, -1.0]);
    }

    #[test]
    fn several_channels_are_averaged() {
        assert_eq!(decode(&head(2, Encoding::S16), &[0, 0x40, 0, 0, 0, 0x80, 0, 0x80]), [0.25, -1.0]);
        assert_eq!(decode(&head(4, Encoding::S16), &[0, 0x40, 0, 0x40, 0, 0, 0, 0]), [0.25]);
    }

    #[test]
    fn a_chunk_after_the_samples_is_ignored() {
        let head = Head { data_bytes: Some(4), ..head(1, Encoding::S16) };
        assert_eq!(decode(&head, b"\0\x40\0\x80LIST\x04\0\0\0soft"), [0.5, -1.0]);
        assert_eq!(decode(&head, b"\0\x40\0\x80\0\x40\0\x40"), [0.5, -1.0, 0.5, 0.5]);
        // The byte after the declared end can't begin a chunk's name, so the sound continues.
        assert_eq!(decode(&head, b"\0\x40\0\x80\0\x40"), [0.5, -1.0, 0.5]);
    }

    proptest! {
        #[test]
        fn pieces_of_any_length_decode_as_one(
            bytes in proptest::collection::vec(any::<u8>(), 0..200),
            cuts in proptest::collection::vec(0usize..20, 0..40),
            channels in 1u16..=8,
            which in 0usize..4,
            data_bytes in proptest::option::of(0u64..250),
            list: bool,
        ) {
            let encoding = [Encoding::S16, Encoding::S24, Encoding::S32, Encoding::F32][which];
            let head = Head { data_bytes, ..head(channels, encoding) };
            let mut bytes = bytes;
            let at = data_bytes.map_or(usize::MAX, |declared| declared as usize);
            let ends = at <= bytes.len();
            if ends {
                // With `list`, a chunk follows the samples, after a byte of padding if their declared size is odd. Without `list`, two bytes follow
                // that can't begin a chunk.
                let after: &[u8] = if list { b"\0LIST\x04\0\0\0" } else { b"\x01\x01" };
                bytes.splice(at..at, after[usize::from(list && at % 2 == 0)..].iter().copied());
            }
            let mut decoder = Decoder::new(&head);
            let (mut out, mut rest) = (Vec::new(), &bytes[..]);
            for cut in cuts {
                let (piece, after) = rest.split_at(cut.min(rest.len()));
                decoder.push(piece, &mut out);
                rest = after;
            }
            decoder.push(rest, &mut out);
            prop_assert_eq!(&out, &decode(&head, &bytes));
            let heard = data_bytes.filter(|_| ends && list).map_or(bytes.len(), |declared| declared as usize);
            prop_assert_eq!(out.len(), heard / head.block_bytes());
            prop_assert_eq!(decoder.blocks.partial_len, heard % head.block_bytes());
        }
    }
}
