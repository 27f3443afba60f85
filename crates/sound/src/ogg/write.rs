//! Writes Ogg Opus without an end.

use super::page::{self, FIRST, Head, LAST, MAX_SEGMENTS};
use super::{HEAD_MAGIC, TAGS_MAGIC};
use crate::opus::{LOOKAHEAD, frame_samples};

/// The name of the writer in `OpusTags`.
const VENDOR: &[u8] = b"Palabre";

/// Writes packets of 20 ms and one channel as pages.
#[derive(Debug, Clone)]
pub struct Writer {
    serial: u32,
    number: u32,
    /// Samples at 48 kHz in all pages so far.
    granule: u64,
}

impl Writer {
    /// Returns a writer. `serial` should differ from the serial numbers of other streams.
    #[must_use]
    pub fn new(serial: u32) -> Self {
        Self { serial, number: 0, granule: 0 }
    }

    /// Appends the two pages before the first packet. `rate_hz` is the sample rate of the encoder, which players only show.
    pub fn start(&mut self, rate_hz: u32, out: &mut Vec<u8>) {
        let mut head = HEAD_MAGIC.to_vec();
        // Version 1, one channel, the samples to drop at the start, the rate, no gain, mapping family 0.
        head.extend_from_slice(&[1, 1]);
        head.extend_from_slice(&(LOOKAHEAD as u16).to_le_bytes());
        head.extend_from_slice(&rate_hz.to_le_bytes());
        head.extend_from_slice(&[0, 0, 0]);
        self.write(FIRST, &[&head], out);
        let mut tags = TAGS_MAGIC.to_vec();
        tags.extend_from_slice(&(VENDOR.len() as u32).to_le_bytes());
        tags.extend_from_slice(VENDOR);
        tags.extend_from_slice(&0u32.to_le_bytes());
        self.write(0, &[&tags], out);
    }

    /// Appends pages with these packets. A player can play each packet when its page has arrived.
    pub fn packets(&mut self, packets: &[&[u8]], out: &mut Vec<u8>) {
        let mut rest = packets;
        while !rest.is_empty() {
            let mut segments = 0;
            let fits = |packet: &&&[u8]| {
                segments += page::segments(packet);
                segments <= MAX_SEGMENTS
            };
            let count = rest.iter().take_while(fits).count().max(1);
            let (first, later) = rest.split_at(count);
            self.granule += (count * frame_samples(48_000)) as u64;
            self.write(0, first, out);
            rest = later;
        }
    }

    /// Appends an empty page that ends the stream.
    pub fn end(&mut self, out: &mut Vec<u8>) {
        self.write(LAST, &[], out);
    }

    fn write(&mut self, flags: u8, packets: &[&[u8]], out: &mut Vec<u8>) {
        let head = Head { flags, granule: self.granule, serial: self.serial, number: self.number };
        page::write(out, head, packets);
        self.number = self.number.wrapping_add(1);
    }
}
