//! WAV as it comes from strangers and as we hand it out.
//!
//! In: a head that is read byte by byte from a stream and a decoder for what follows. A WAV that is still being spoken
//! can't know its length, so the sizes in the head are not believed: 0, `0xFFFF_FFFF` and lies are all the same, the sound
//! lasts as long as the stream, unless a chunk that is no sound begins where the head says that the samples end. (A complete
//! file may ask what the head said.) hound's own reader believes the sizes and wants to own the stream, so the head is parsed
//! here ("Multimedia Programming Interface and Data Specifications 1.0", `mmreg.h` for `WAVE_FORMAT_EXTENSIBLE`).
//!
//! Out: little complete files and the head of an endless one, both by hound.
//!
//! Not here: other sample rates than the stream's own; see [`crate::convert`].

mod decode;
mod end;
mod head;
mod write;

pub use decode::Decoder;
pub(crate) use end::DataEnd;
pub use head::{Encoding, HEAD_BYTES_MAX, Head, WavError};
pub use write::{DATA_BYTES_MAX, HEAD_BYTES, endless_head, little, little_into, sized_head};
