//! Packet lists: several packets in one message.
//!
//! For each packet a list has its length, 1 to [`MAX_PACKET_BYTES`], as u16 little-endian, and then the packet.

use super::MAX_PACKET_BYTES;

/// Length in bytes of the length field before each packet.
const LENGTH_BYTES: usize = 2;

/// Error: a packet list is invalid.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ListError {
    /// The list ends within a packet or its length.
    #[error("the list of Opus packets is truncated: it ends within a packet or its length")]
    Truncated,
    /// A packet has a length that is impossible.
    #[error("the list of Opus packets contains a packet of {0} bytes; a packet must have 1 to {MAX_PACKET_BYTES}")]
    Length(usize),
}

/// Appends a packet with its length to a list.
///
/// # Panics
/// If the packet is empty or longer than [`MAX_PACKET_BYTES`]. [`super::Encoder`] makes no such packets.
pub fn push(list: &mut Vec<u8>, packet: &[u8]) {
    assert!((1..=MAX_PACKET_BYTES).contains(&packet.len()), "a packet of {} bytes", packet.len());
    list.extend_from_slice(&(packet.len() as u16).to_le_bytes());
    list.extend_from_slice(packet);
}

/// Returns the packets of a list. After an error the iterator ends.
#[must_use]
pub fn iter(list: &[u8]) -> Packets<'_> {
    Packets { rest: list }
}

/// Iterates over the packets of a list.
#[derive(Debug, Clone)]
pub struct Packets<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for Packets<'a> {
    type Item = Result<&'a [u8], ListError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let first = first(self.rest);
        self.rest = first.map_or(&[], |(_, rest)| rest);
        Some(first.map(|(packet, _)| packet))
    }
}

fn first(list: &[u8]) -> Result<(&[u8], &[u8]), ListError> {
    let (length, rest) = list.split_first_chunk::<LENGTH_BYTES>().ok_or(ListError::Truncated)?;
    let length = usize::from(u16::from_le_bytes(*length));
    if !(1..=MAX_PACKET_BYTES).contains(&length) {
        return Err(ListError::Length(length));
    }
    rest.split_at_checked(length).ok_or(ListError::Truncated)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn collect(list: &[u8]) -> Result<Vec<&[u8]>, ListError> {
        iter(list).collect()
    }

    #[test]
    fn list_contains_its_packets() {
        let mut list = Vec::new();
        assert_eq!(collect(&list), Ok(vec![]));
        push(&mut list, &[7]);
        push(&mut list, &[8; MAX_PACKET_BYTES]);
        push(&mut list, &[9, 9]);
        assert_eq!(list[..3], [1, 0, 7]);
        assert_eq!(collect(&list), Ok(vec![&[7][..], &[8; MAX_PACKET_BYTES], &[9, 9]]));
    }

    #[test]
    fn false_lengths_are_refused() {
        assert_eq!(collect(&[0, 0]), Err(ListError::Length(0)));
        assert_eq!(collect(&[0xFC, 4, 1]), Err(ListError::Length(1276)));
        assert_eq!(collect(&[0xFF; 70_000]), Err(ListError::Length(0xFFFF)));
        for truncated in [&[1][..], &[1, 0], &[2, 0, 1], &[1, 0, 7, 1], &[1, 0, 7, 3, 0, 1, 2]] {
            assert_eq!(collect(truncated), Err(ListError::Truncated), "{truncated:?}");
        }
    }

    #[test]
    fn iterator_ends_after_an_error() {
        let mut packets = iter(&[1, 0, 7, 9, 0, 1, 1, 0, 7]);
        assert_eq!(packets.next(), Some(Ok(&[7][..])));
        assert_eq!(packets.next(), Some(Err(ListError::Truncated)));
        assert_eq!(packets.next(), None);
    }

    proptest! {
        #[test]
        fn any_bytes_are_packets_or_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..4000)) {
            if let Ok(packets) = collect(&bytes) {
                let mut list = Vec::new();
                packets.iter().for_each(|packet| push(&mut list, packet));
                prop_assert_eq!(list, bytes);
            }
        }
    }
}
