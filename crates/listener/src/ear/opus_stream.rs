//! The Opus packets of one stream: which packets each of its records has.

use super::encoder::{Piece, SharedEncoder};
use super::ring::{Record, Ring};
use palabre_sound::opus::PREROLL_PACKETS;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

/// The position of one stream in the packets of a shared encoder.
#[derive(Debug)]
pub(crate) struct OpusStream {
    ring: Arc<Ring>,
    encoder: Arc<Mutex<SharedEncoder>>,
    /// Index in the ring of the stream's first record.
    start: u64,
    /// Number of the packet that follows the last packet that was sent; `None` if the client's decoder has no state yet.
    next: Option<u64>,
    /// The stream has missed sound since the last parcel.
    has_missed: bool,
}

/// The packets for one record of a stream.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Parcel {
    pub(super) seq: u64,
    /// Sound is missing before the packets.
    pub(super) gap: bool,
    /// Number of packets at the beginning that only give the decoder its state.
    pub(super) preroll: usize,
    /// The packets are the end of the sound before a silence.
    pub(super) is_end: bool,
    /// A list of packets, see [`palabre_sound::opus::packets`].
    pub(super) list: Vec<u8>,
}

impl OpusStream {
    /// Creates the position of a stream whose first record has the index `start` in the ring.
    pub(super) fn new(ring: Arc<Ring>, encoder: Arc<Mutex<SharedEncoder>>, start: u64) -> Self {
        Self { ring, encoder, start, next: None, has_missed: false }
    }

    /// Returns the packets that the stream sends with `record`: before it, if their SEQ is lower. `skipped`: the stream has missed records before
    /// this record.
    pub(super) fn take(&mut self, record: &Record, skipped: bool) -> Vec<Parcel> {
        self.has_missed |= skipped;
        let encoder = Arc::clone(&self.encoder);
        let mut encoder = encoder.lock().unwrap_or_else(PoisonError::into_inner);
        encoder.encode_until(&self.ring, record.index);
        let pieces = encoder.pieces();
        let sent: Vec<usize> = (0..pieces.len()).filter(|&place| self.is_sent(&pieces[place], record.index)).collect();
        sent.chunk_by(|a, b| pieces[*a].group == pieces[*b].group)
            .filter_map(|places| self.parcel(pieces, places))
            .collect()
    }

    fn is_sent(&self, piece: &Piece, index: u64) -> bool {
        piece.sent_with == Some(index) && piece.index.is_some_and(|index| index >= self.start)
    }

    fn parcel(&mut self, pieces: &VecDeque<Piece>, places: &[usize]) -> Option<Parcel> {
        let (from, to) = (*places.first()?, *places.last()?);
        let (first, last) = (&pieces[from], &pieces[to]);
        let follows = self.next == Some(first.first);
        if last.is_end && !follows {
            return None;
        }
        let lost = self.next.is_some() && !follows;
        let begin = if follows { from } else { preroll(pieces, from) };
        let preroll = pieces.range(begin..from).map(|piece| piece.count).sum();
        let list = pieces.range(begin..=to).flat_map(|piece| &piece.list).copied().collect();
        // If the packets neither follow the last ones nor have a pre-roll, the decoder's output continues no earlier sound. So set GAP to 1.
        let begins = !follows && preroll == 0;
        let gap = first.gap || lost || begins || std::mem::take(&mut self.has_missed);
        self.has_missed = false;
        self.next = Some(last.first + last.count as u64);
        Some(Parcel { seq: last.seq, gap, preroll, is_end: last.is_end, list })
    }
}

/// Returns the place of the first piece that a decoder without a state needs to decode the piece at `from`.
fn preroll(pieces: &VecDeque<Piece>, from: usize) -> usize {
    let (mut begin, mut count) = (from, 0);
    while count < PREROLL_PACKETS && begin > 0 && !pieces[begin].is_new {
        begin -= 1;
        count += pieces[begin].count;
    }
    begin
}
