//! Recognises a complete ClientHello (RFC 8446 §4.1.2) among the first bytes of a connection.

use std::io;

/// Maximum length of the first TLS record.
pub(crate) const MAX_BYTES: usize = RECORD_HEADER_BYTES + MAX_RECORD_BYTES;

/// Length of the header of a TLS record (RFC 8446 §5.1, RFC 5246 §6.2.1).
const RECORD_HEADER_BYTES: usize = 5;
/// Maximum length of the content of a TLS record (RFC 8446 §5.1, RFC 5246 §6.2.1).
const MAX_RECORD_BYTES: usize = 1 << 14;
/// Type of a TLS record that contains a ClientHello.
const HANDSHAKE: u8 = 22;

/// Returns whether the first TLS record is complete. Returns an error if the bytes are not a TLS handshake.
pub(crate) fn is_complete(bytes: &[u8]) -> io::Result<bool> {
    let invalid = |why| Err(io::Error::new(io::ErrorKind::InvalidData, why));
    match *bytes {
        [first, ..] if first != HANDSHAKE => invalid("the client sent no TLS"),
        [_, major, ..] if major != 3 => invalid("the client sent no TLS"),
        [_, _, _, high, low, ref content @ ..] => match usize::from(u16::from_be_bytes([high, low])) {
            length if length > MAX_RECORD_BYTES => invalid("the client sent a TLS record that is too long"),
            length => Ok(content.len() >= length),
        },
        _ => Ok(false),
    }
}
