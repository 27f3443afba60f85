//! Reads and writes WAV.
//!
//! Reading: a parser for the head of a stream, and a decoder for the samples. The head of a live WAV can't contain its
//! length, so the size in a head is believed only if the stream ends at the declared end, or if a chunk can begin there;
//! otherwise the sound lasts until the stream ends. hound's reader trusts the sizes and must own the stream, so the head is
//! parsed here (see "Multimedia Programming Interface and Data Specifications 1.0", `mmreg.h` for `WAVE_FORMAT_EXTENSIBLE`,
//! and ITU-R BS.2088 for RF64 and BW64).
//!
//! Writing: short complete files, and heads of streams and growing files. hound makes the heads.
//!
//! [`crate::convert`] converts sample rates.

mod decode;
mod end;
mod growing;
mod head;
mod tail;
mod write;

#[cfg(test)]
mod tests;

pub(crate) use decode::Decoder;
pub(crate) use end::DataEnd;
pub use end::samples_end;
pub use growing::GrowingWav;
pub use head::{Encoding, HEAD_BYTES_MAX, Head, WavError};
pub use tail::Tail;
pub use write::{DATA_BYTES_MAX, HEAD_BYTES, endless_head, little, sized_head};
