//! Pages of Ogg: head, lacing values and checksum.

use super::CAPTURE_PATTERN;

/// Length of a page's head without its lacing values.
pub(super) const HEAD_BYTES: usize = 27;
/// Maximum number of lacing values, each of which stands for at most 255 bytes.
pub(super) const MAX_SEGMENTS: usize = 255;
/// The granule position of a page on which no packet ends.
pub(super) const NO_GRANULE: u64 = u64::MAX;

/// Flag: the first packet of the page began on an earlier page.
pub(super) const CONTINUED: u8 = 1;
/// Flag: the first page of a stream.
pub(super) const FIRST: u8 = 2;
/// Flag: the last page of a stream.
pub(super) const LAST: u8 = 4;

/// Position of the checksum in the head.
const CRC_AT: usize = 22;

/// The fields of a page's head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) flags: u8,
    pub(super) granule: u64,
    pub(super) serial: u32,
    pub(super) number: u32,
}

/// Appends a page with complete packets to `out`. Their lacing values must fit into one page.
pub(super) fn write(out: &mut Vec<u8>, head: Head, packets: &[&[u8]]) {
    let start = out.len();
    out.extend_from_slice(CAPTURE_PATTERN);
    out.extend_from_slice(&[0, head.flags]);
    out.extend_from_slice(&head.granule.to_le_bytes());
    out.extend_from_slice(&head.serial.to_le_bytes());
    out.extend_from_slice(&head.number.to_le_bytes());
    out.extend_from_slice(&[0; 4]);
    let segments: usize = packets.iter().map(|packet| segments(packet)).sum();
    debug_assert!(segments <= MAX_SEGMENTS);
    out.push(segments as u8);
    for packet in packets {
        out.resize(out.len() + packet.len() / 255, 255);
        out.push((packet.len() % 255) as u8);
    }
    packets.iter().for_each(|packet| out.extend_from_slice(packet));
    sign(&mut out[start..]);
}

/// Writes the checksum of a page into its head.
pub(super) fn sign(page: &mut [u8]) {
    let crc = crc(page);
    page[CRC_AT..CRC_AT + 4].copy_from_slice(&crc.to_le_bytes());
}

/// Returns the number of lacing values of a packet.
pub(super) fn segments(packet: &[u8]) -> usize {
    packet.len() / 255 + 1
}

/// The reason why a page could not be read.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// More bytes are needed.
    Incomplete,
    /// The bytes are not the start of a page.
    NotAPage,
    /// The checksum is wrong.
    Damaged,
}

/// Reads the page at the start of `bytes`. Returns its head and its length.
pub(super) fn read(bytes: &[u8]) -> Result<(Head, usize), Fault> {
    let known = bytes.len().min(CAPTURE_PATTERN.len());
    // Byte 4 is the version, 0.
    if bytes[..known] != CAPTURE_PATTERN[..known] || bytes.get(4).is_some_and(|&version| version != 0) {
        return Err(Fault::NotAPage);
    }
    let length = length(bytes).ok_or(Fault::Incomplete)?;
    if crc(&bytes[..length]) != le_u32(bytes, CRC_AT) {
        return Err(Fault::Damaged);
    }
    let granule = u64::from(le_u32(bytes, 6)) | u64::from(le_u32(bytes, 10)) << 32;
    Ok((Head { flags: bytes[5], granule, serial: le_u32(bytes, 14), number: le_u32(bytes, 18) }, length))
}

/// Returns the length of the page at the start of `bytes`, or `None` if the page is incomplete.
pub(super) fn length(bytes: &[u8]) -> Option<usize> {
    let segments = usize::from(*bytes.get(HEAD_BYTES - 1)?);
    let lacing = bytes.get(HEAD_BYTES..HEAD_BYTES + segments)?;
    let length = HEAD_BYTES + segments + lacing.iter().map(|&value| usize::from(value)).sum::<usize>();
    (length <= bytes.len()).then_some(length)
}

fn le_u32(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

/// Writes the right checksum into each page that is complete, for tests.
#[cfg(any(test, feature = "measure"))]
pub fn correct_checksums(stream: &mut [u8]) {
    let mut rest = stream;
    while let Some(length) = length(rest) {
        sign(&mut rest[..length]);
        rest = &mut rest[length..];
    }
}

/// Returns the checksum of a page, whose own checksum counts as zero.
fn crc(page: &[u8]) -> u32 {
    page.iter().enumerate().fold(0, |crc: u32, (i, &byte)| {
        let byte = if (CRC_AT..CRC_AT + 4).contains(&i) { 0 } else { byte };
        crc << 8 ^ CRC_TABLE[usize::from((crc >> 24) as u8 ^ byte)]
    })
}

const CRC_TABLE: [u32; 256] = crc_table();

const fn crc_table() -> [u32; 256] {
    let mut table = [0; 256];
    let mut i = 0;
    while i < 256 {
        let (mut crc, mut bit) = ((i as u32) << 24, 0);
        while bit < 8 {
            crc = if crc >> 31 == 0 { crc << 1 } else { crc << 1 ^ 0x04C1_1DB7 };
            bit += 1;
        }
        table[i] = crc;
        i += 1;
    }
    table
}
