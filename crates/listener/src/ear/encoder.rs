//! The sound of the ring as Opus packets. All streams of one bit rate share one encoder, so they get the same packets for the same chunk.
//!
//! The encoder has no thread. The thread of the stream that first needs a chunk encodes it, and the packets are kept for the other streams as long as the chunk is in
//! the ring. A stream that begins in the middle of sound gets earlier packets, with which its decoder reaches the state of the encoder. If the encoder has
//! not encoded the earlier chunks, because it had no stream or its streams were too slow, it begins with these chunks.
//!
//! At [`THIN_KBPS`], a record has several chunks, because the other parts of a record would need more bytes than the packets.

use super::ring::{Kind, Record, Ring, State};
use palabre_sound::opus::{self, packets};
use std::collections::VecDeque;
use std::sync::Arc;

/// Number of packets after which a decoder that began without a state has the state of the encoder: 80 ms (RFC 7845 §4.6).
pub(super) const PREROLL_PACKETS: usize = 4;
/// Bit rate in kbit/s at which a record has at least [`THIN_PACKETS`].
const THIN_KBPS: u32 = 16;
/// Minimum number of packets in a record at [`THIN_KBPS`].
const THIN_PACKETS: usize = 4;

/// An encoder of the sound in the ring, and the packets of the newest chunks.
#[derive(Debug)]
pub(super) struct SharedEncoder {
    // In memory of its own, which is freed with the last stream of this bit rate.
    encoder: Box<opus::Encoder>,
    frame_samples: usize,
    /// Number of samples by which the decoder's output is delayed.
    lookahead: usize,
    min_packets: usize,
    max_packets: usize,
    /// Samples of the incomplete frame.
    rest: Vec<i16>,
    /// The encoded chunks, oldest first.
    pieces: VecDeque<Piece>,
    /// Index in the ring of the next record to encode.
    next: Option<u64>,
    /// Number of the next packet.
    packet: u64,
    /// Number of the record to which the next piece belongs.
    group: u64,
    /// The next packet is the first packet of a new encoder.
    is_new: bool,
    /// Samples are missing before the next packet.
    has_gap: bool,
    /// The encoder has sound whose end has not been flushed by zeros.
    has_sound: bool,
}

/// The packets of one chunk, or the end of the sound before a silence.
#[derive(Debug)]
pub(super) struct Piece {
    /// Index in the ring of the chunk's record; `None` for samples before the first record.
    pub(super) index: Option<u64>,
    /// Index of the record in the ring with which the packets are sent; `None` while the packets wait for further chunks.
    pub(super) sent_with: Option<u64>,
    /// Pieces with the same number are sent in one record.
    pub(super) group: u64,
    pub(super) seq: u64,
    /// Samples are missing before the first packet.
    pub(super) gap: bool,
    /// Number of the first packet.
    pub(super) first: u64,
    pub(super) count: usize,
    /// The first packet is the first packet of a new encoder.
    pub(super) is_new: bool,
    /// The packets are the end of the sound before a silence.
    pub(super) is_end: bool,
    pub(super) list: Vec<u8>,
}

impl SharedEncoder {
    /// Creates an encoder for the ring's format. Returns `None` if Opus doesn't support the sample rate.
    pub(super) fn new(ring: &Ring, kbps: u32) -> Option<Self> {
        let rate_hz = ring.format.rate.hz();
        let encoder = Box::new(opus::Encoder::new(rate_hz, kbps).ok()?);
        let min_packets = if kbps == THIN_KBPS { THIN_PACKETS } else { 1 };
        let kept_ms = ring.max_sounds() as u64 * ring.chunk_ms;
        Some(Self {
            encoder,
            frame_samples: ring.format.samples_in_ms(opus::FRAME_MS),
            lookahead: (opus::LOOKAHEAD as u64 * u64::from(rate_hz)).div_ceil(48_000) as usize,
            min_packets,
            max_packets: kept_ms.div_ceil(opus::FRAME_MS) as usize + PREROLL_PACKETS + min_packets,
            rest: Vec::new(),
            pieces: VecDeque::new(),
            next: None,
            packet: 0,
            group: 0,
            is_new: true,
            has_gap: false,
            has_sound: false,
        })
    }

    /// Returns the encoded chunks, oldest first.
    pub(super) fn pieces(&self) -> &VecDeque<Piece> {
        &self.pieces
    }

    /// Encodes the records of the ring up to the record with this index, if they were not encoded before.
    pub(super) fn encode_until(&mut self, ring: &Ring, index: u64) {
        if self.next.is_some_and(|next| index < next) {
            return;
        }
        let Some(work) = Work::find(
            &ring.lock(),
            self.next,
            index,
            ring.format.samples_in_ms(PREROLL_PACKETS as u64 * opus::FRAME_MS),
        ) else {
            return;
        };
        if work.is_restart {
            self.restart();
        }
        if let Some(lead) = &work.lead {
            self.encode(None, 0, lead);
        }
        work.records.iter().for_each(|record| self.add(record));
        self.next = Some(index + 1);
        self.trim();
    }

    fn add(&mut self, record: &Record) {
        match &record.kind {
            Kind::Sound { samples, gap } => {
                if *gap || !(self.has_sound || self.is_new) {
                    self.close(record.index);
                    self.reset();
                    self.has_gap = true;
                }
                self.encode(Some(record.index), record.seq, samples);
                if self.open().map(|piece| piece.count).sum::<usize>() >= self.min_packets {
                    self.close(record.index);
                }
            }
            Kind::Silence => {
                self.close(record.index);
                self.end(record);
            }
            // The SEQ of this record is higher than the SEQ of the waiting chunks. A page that names it with `from` must have these chunks.
            _ => self.close(record.index),
        }
    }

    /// Encodes all complete frames. Keeps the rest for the next call.
    fn encode(&mut self, index: Option<u64>, seq: u64, samples: &[i16]) {
        self.has_sound = true;
        self.rest.extend_from_slice(samples);
        let samples = std::mem::take(&mut self.rest);
        let frames = samples.chunks_exact(self.frame_samples);
        self.rest = frames.remainder().to_vec();
        let (mut list, mut packet, count) = (Vec::new(), Vec::new(), frames.len());
        for frame in frames {
            packet.clear();
            self.encoder.encode(frame, &mut packet);
            packets::push(&mut list, &packet);
        }
        if count == 0 {
            return;
        }
        let (is_new, gap) = (std::mem::take(&mut self.is_new), std::mem::take(&mut self.has_gap));
        let (group, first, sent_with) = (self.group, self.packet, None);
        self.packet += count as u64;
        self.pieces.push_back(Piece { index, sent_with, group, seq, gap, first, count, is_new, is_end: false, list });
    }

    /// Encodes the rest of the sound and zeros, so that the decoder's output has all samples in spite of its delay.
    fn end(&mut self, record: &Record) {
        if !std::mem::take(&mut self.has_sound) {
            return;
        }
        let length = (self.rest.len() + self.lookahead).next_multiple_of(self.frame_samples);
        let zeros = vec![0; length - self.rest.len()];
        self.encode(Some(record.index), record.seq, &zeros);
        self.has_sound = false;
        if let Some(piece) = self.pieces.back_mut() {
            piece.is_end = true;
        }
        self.close(record.index);
    }

    /// Returns the pieces that wait for further chunks.
    fn open(&self) -> impl Iterator<Item = &Piece> {
        self.pieces.iter().filter(|piece| piece.sent_with.is_none() && piece.index.is_some())
    }

    /// Sends the waiting pieces with the record that has this index.
    fn close(&mut self, index: u64) {
        for piece in self.pieces.iter_mut().filter(|piece| piece.sent_with.is_none() && piece.index.is_some()) {
            piece.sent_with = Some(index);
        }
        self.group += 1;
    }

    /// Begins with an encoder that has no state.
    fn reset(&mut self) {
        self.encoder.reset();
        self.rest.clear();
        self.is_new = true;
    }

    /// Forgets the packets, because records that have left the ring were not encoded.
    fn restart(&mut self) {
        self.reset();
        self.pieces.clear();
        (self.has_gap, self.has_sound) = (false, false);
        self.group += 1;
        // So that no packet seems to follow a packet before the missing ones.
        self.packet += 1;
    }

    fn trim(&mut self) {
        let mut count: usize = self.pieces.iter().map(|piece| piece.count).sum();
        while count > self.max_packets
            && let Some(oldest) = self.pieces.pop_front()
        {
            count -= oldest.count;
        }
    }
}

/// The records that must be encoded.
#[derive(Debug)]
struct Work {
    /// The records don't continue those that were encoded before.
    is_restart: bool,
    /// Samples before the first record.
    lead: Option<Arc<[i16]>>,
    records: Vec<Arc<Record>>,
}

impl Work {
    /// Finds the records from `next` to `index`. If some of them have left the ring, finds the records with at least `preroll` samples before
    /// `index`. Returns `None` if the record with this index has left the ring.
    fn find(state: &State, next: Option<u64>, index: u64, preroll: usize) -> Option<Self> {
        let first = state.next - state.ring.len() as u64;
        let last = usize::try_from(index.checked_sub(first)?).ok().filter(|last| *last < state.ring.len())?;
        let begin = next.and_then(|next| usize::try_from(next.checked_sub(first)?).ok()).filter(|begin| *begin <= last);
        let (begin, lead) = match begin {
            Some(begin) => (begin, None),
            None => Self::begin(state, last, preroll),
        };
        let records = state.ring.range(begin..=last).map(Arc::clone).collect();
        Some(Self { is_restart: next != Some(first + begin as u64), lead, records })
    }

    /// Returns the place in the ring of the record with which a new encoder begins, and the samples before this record if there are too few samples in the
    /// ring.
    fn begin(state: &State, last: usize, preroll: usize) -> (usize, Option<Arc<[i16]>>) {
        let (mut begin, mut samples) = (last, 0);
        loop {
            match &state.ring[begin].kind {
                Kind::Sound { gap: false, .. } if samples < preroll => {}
                _ => return (begin, None),
            }
            let is_sound = |record: &Arc<Record>| matches!(record.kind, Kind::Sound { .. });
            let Some(before) = state.ring.range(..begin).rposition(is_sound) else {
                let lead = state.lead.as_ref().filter(|(index, _)| *index == state.ring[begin].index);
                return (begin, lead.map(|(_, samples)| Arc::clone(samples)));
            };
            begin = before;
            if let Kind::Sound { samples: chunk, .. } = &state.ring[before].kind {
                samples += chunk.len();
            }
        }
    }
}
