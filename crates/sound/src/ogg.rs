//! Reads and writes Ogg Opus (RFC 3533, RFC 7845): the format in which other programs send and receive Opus.
//!
//! The reader has limits for streams from the network: it keeps at most one page and one packet, and decodes one packet at a time.

mod page;
mod read;
mod write;

#[cfg(test)]
mod tests;

#[cfg(any(test, feature = "measure"))]
pub use page::correct_checksums;
pub use read::{OggError, Reader};
pub use write::Writer;

/// The first bytes of each page, and so of each Ogg stream.
pub const CAPTURE_PATTERN: &[u8; 4] = b"OggS";

/// First bytes of the first packet of a stream.
const HEAD_MAGIC: &[u8] = b"OpusHead";
/// First bytes of the second packet of a stream.
const TAGS_MAGIC: &[u8] = b"OpusTags";
