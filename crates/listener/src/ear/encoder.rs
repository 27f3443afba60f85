//! The sound of the ring as Opus packets. All streams of one bit rate share one encoder, so they get the same packets for the same chunk.
//!
//! The encoder has no thread. The thread of the stream that first needs a chunk encodes it, and the packets are kept for the other streams as long as the chunk is in
//! the ring. A stream that begins in the middle of sound gets earlier packets, with which its decoder reaches the state of the encoder. If the encoder has
//! not encoded the earlier chunks, because it had no stream or its streams were too slow, it begins with these chunks.
//!
//! At [`THIN_KBPS`], a record has several chunks, because the other parts of a record would need more bytes than the packets.

use super::ring::{Kind, Record, Ring, State};
use palabre_room::FRAME_MS;
use palabre_sound::opus::{self, PREROLL_PACKETS, packets};
use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError, Weak};

/// Bit rate in kbit/s at which chunks wait until they have [`THIN_PACKETS`].
const THIN_KBPS: u32 = 16;
/// Number of packets at which the waiting chunks are sent in one record at [`THIN_KBPS`]. A record of another kind sends them earlier.
const THIN_PACKETS: usize = 4;

/// The encoders of a listener, by bit rate. An encoder exists as long as it has streams.
#[derive(Debug, Default)]
pub(super) struct Encoders(Mutex<Vec<(u32, Weak<Mutex<SharedEncoder>>)>>);

impl Encoders {
    /// Returns the encoder at this bit rate in kbit/s, which all streams with this bit rate share. Returns `None` if Opus doesn't support the
    /// sample rate of the ring.
    pub(super) fn get(&self, ring: &Ring, kbps: u32) -> Option<Arc<Mutex<SharedEncoder>>> {
        let mut encoders = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        encoders.retain(|(_, encoder)| encoder.strong_count() > 0);
        let present = encoders.iter().find(|(rate, _)| *rate == kbps);
        if let Some(encoder) = present.and_then(|(_, encoder)| encoder.upgrade()) {
            return Some(encoder);
        }
        let encoder = Arc::new(Mutex::new(SharedEncoder::new(ring, kbps)?));
        encoders.push((kbps, Arc::downgrade(&encoder)));
        Some(encoder)
    }
}

/// An encoder of the sound in the ring, and the packets of the newest chunks.
pub(super) struct SharedEncoder {
    // A separate allocation, which is freed with the last stream of this bit rate. The `Weak` in `Encoders` keeps the
    // memory of the other fields.
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
    /// The [`Piece::group`] of the next piece.
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
            frame_samples: ring.format.frame_samples(),
            lookahead: opus::lookahead(rate_hz),
            min_packets,
            max_packets: kept_ms.div_ceil(FRAME_MS) as usize + PREROLL_PACKETS + min_packets,
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
        let Some(work) =
            Work::find(&ring.lock(), self.next, index, ring.format.samples_in_ms(PREROLL_PACKETS as u64 * FRAME_MS))
        else {
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
            // Send the waiting chunks before this record, which has a higher SEQ: a page that names this SEQ with `from` must have received them.
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

    /// Resets the encoder and drops the incomplete frame. The next packet is the first packet of a new encoder.
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
        // Leave out a packet number, so that the next packet doesn't seem to continue the packets before the missing records.
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

impl fmt::Debug for SharedEncoder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SharedEncoder").field("pieces", &self.pieces).field("next", &self.next).finish_non_exhaustive()
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
                return (begin, state.lead.clone());
            };
            begin = before;
            if let Kind::Sound { samples: chunk, .. } = &state.ring[before].kind {
                samples += chunk.len();
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::opus_stream::{OpusStream, Parcel};
    use super::*;
    use crate::handover::Handover;
    use palabre_room::Format;
    use palabre_sound::opus::Decoder;
    use std::time::Instant;

    /// A ring, to which a test publishes chunks of 40 ms.
    struct Fixture {
        ring: Arc<Ring>,
        encoders: Encoders,
        samples: usize,
    }

    impl Fixture {
        fn new() -> Self {
            let handover = Arc::new(Handover::new(None, Instant::now()));
            Self { ring: Ring::new(Format::default(), 40, handover), encoders: Encoders::default(), samples: 0 }
        }

        /// Publishes a record. Returns it.
        fn publish(&self, kind: Kind) -> Arc<Record> {
            let mut state = self.ring.lock();
            self.ring.publish(&mut state, kind, None);
            Arc::clone(state.ring.back().unwrap())
        }

        /// Publishes a chunk with this number of samples of a tone of 300 Hz.
        fn chunk(&mut self, length: usize, gap: bool) -> Arc<Record> {
            let tone = |at: usize| ((at as f64 * std::f64::consts::TAU * 300.0 / 24_000.0).sin() * 8000.0) as i16;
            let samples = (self.samples..self.samples + length).map(tone).collect();
            self.samples += length;
            self.publish(Kind::Sound { samples, gap })
        }

        /// Returns a stream that begins with the next record.
        fn stream(&self, kbps: u32) -> OpusStream {
            let encoder = self.encoders.get(&self.ring, kbps).unwrap();
            OpusStream::new(Arc::clone(&self.ring), encoder, self.ring.lock().next)
        }
    }

    fn count(list: &[u8]) -> usize {
        packets::iter(list).map(Result::unwrap).count()
    }

    /// Returns gap, pre-roll, and number of packets of each parcel.
    fn shape(parcels: &[Parcel]) -> Vec<(bool, usize, usize)> {
        parcels.iter().map(|it| (it.gap, it.preroll, count(&it.list))).collect()
    }

    #[test]
    fn streams_of_one_rate_get_the_same_packets() {
        let mut fixture = Fixture::new();
        let (mut one, mut two) = (fixture.stream(24), fixture.stream(24));
        for number in 0..5 {
            let record = fixture.chunk(960, number == 0);
            let parcels = one.take(&record, false);
            assert_eq!(parcels, two.take(&record, false));
            assert_eq!(shape(&parcels), [(number == 0, 0, 2)]);
        }
    }

    #[test]
    fn late_stream_gets_the_packets_before_its_first_chunk() {
        let mut fixture = Fixture::new();
        let mut first = fixture.stream(24);
        for number in 0..8 {
            first.take(&fixture.chunk(960, number == 0), false);
        }
        let (mut known, mut other) = (fixture.stream(24), fixture.stream(32));
        let record = fixture.chunk(960, false);
        assert_eq!(shape(&first.take(&record, false)), [(false, 0, 2)]);
        assert_eq!(shape(&known.take(&record, false)), [(false, 12, 14)]);
        // The encoder at this rate was not used before, and begins with the chunks in the ring.
        assert_eq!(shape(&other.take(&record, false)), [(false, 12, 14)]);
        let record = fixture.chunk(960, false);
        assert_eq!(first.take(&record, false), known.take(&record, false));
    }

    #[test]
    fn stream_that_lost_chunks_gets_a_gap_and_packets_before_it() {
        let mut fixture = Fixture::new();
        let mut stream = fixture.stream(24);
        stream.take(&fixture.chunk(960, true), false);
        (0..20).for_each(|_| drop(fixture.chunk(960, false)));
        assert_eq!(shape(&stream.take(&fixture.chunk(960, false), true)), [(true, 12, 14)]);
        assert_eq!(shape(&stream.take(&fixture.chunk(960, false), false)), [(false, 0, 2)]);
    }

    #[test]
    fn end_of_the_sound_is_complete() {
        let mut fixture = Fixture::new();
        let mut stream = fixture.stream(24);
        let (mut list, mut published) = (Vec::new(), 0);
        for (number, length) in [960, 100, 960, 700].into_iter().enumerate() {
            published += length;
            list.extend(stream.take(&fixture.chunk(length, number == 0), false).iter().flat_map(|it| it.list.clone()));
        }
        let silence = fixture.publish(Kind::Silence);
        let parcels = stream.take(&silence, false);
        assert!(parcels.len() == 1 && parcels[0].is_end && !parcels[0].gap, "{parcels:?}");
        list.extend(&parcels[0].list);
        let (mut decoder, mut samples) = (Decoder::new(24_000).unwrap(), Vec::new());
        packets::iter(&list).for_each(|packet| decoder.decode(packet.unwrap(), &mut samples).unwrap());
        assert!(samples.len() >= published + opus::lookahead(24_000), "{} of {published}", samples.len());
        assert_eq!(stream.take(&fixture.publish(Kind::Silence), false), []);
        // A stream that has not received the sound doesn't get the packets of the sound's end.
        let mut late = fixture.stream(24);
        assert_eq!(late.take(&fixture.publish(Kind::Silence), false), []);
        assert_eq!(shape(&stream.take(&fixture.chunk(960, true), false)), [(true, 0, 2)]);
        assert_eq!(shape(&late.take(&fixture.chunk(960, false), false)), [(false, 2, 4)]);
    }

    #[test]
    fn thin_records_have_two_chunks_unless_another_record_comes_between() {
        let mut fixture = Fixture::new();
        let mut stream = fixture.stream(16);
        assert_eq!(stream.take(&fixture.chunk(960, true), false), []);
        assert_eq!(shape(&stream.take(&fixture.chunk(960, false), false)), [(true, 0, 4)]);
        let waiting = fixture.chunk(960, false);
        assert_eq!(stream.take(&waiting, false), []);
        let parcels = stream.take(&fixture.publish(Kind::Room), false);
        assert_eq!((shape(&parcels), parcels[0].seq), (vec![(false, 0, 2)], waiting.seq));
        assert_eq!(stream.take(&fixture.chunk(960, false), false), []);
        // The second stream begins with the second of the two chunks that the first stream gets in one record.
        let mut late = fixture.stream(16);
        let record = fixture.chunk(960, false);
        assert_eq!(shape(&stream.take(&record, false)), [(false, 0, 4)]);
        assert_eq!(shape(&late.take(&record, false)), [(false, 8, 10)]);
    }

    #[test]
    fn samples_of_the_previous_process_prepare_the_decoder() {
        let mut fixture = Fixture::new();
        let mut stream = fixture.stream(24);
        fixture.ring.lock().lead = Some(vec![0; 4 * 480].into());
        assert_eq!(shape(&stream.take(&fixture.chunk(960, false), false)), [(false, 4, 6)]);
    }

    #[test]
    fn encoder_ends_with_its_last_stream() {
        let fixture = Fixture::new();
        let (one, two) = (fixture.stream(24), fixture.stream(24));
        let encoders = || fixture.encoders.0.lock().unwrap().iter().filter(|it| it.1.strong_count() > 0).count();
        assert_eq!(encoders(), 1);
        drop((one, two));
        assert_eq!(encoders(), 0);
    }
}
