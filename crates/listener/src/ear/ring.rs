//! The ring of the newest records, and the streams that read it.

use crate::handover::Handover;
use crate::record;
use palabre_host::clock::boottime_ms;
use palabre_room::Format;
use std::collections::VecDeque;
use std::net::TcpStream;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// Maximum age of the chunks in the ring, in ms. A new stream can get these chunks again with `from`, and a slow stream can lag behind
/// by this time.
pub(super) const RING_MS: u64 = 300;

/// A record in the ring.
#[derive(Debug, Default)]
pub(crate) struct Record {
    pub(crate) seq: u64,
    pub(crate) kind: Kind,
    pub(super) bytes: Vec<u8>,
    /// Number of 20 ms frames published before this record.
    pub(super) frames_before: u64,
    /// The list of people after this record, for streams that missed earlier records, like `states` and `levels`.
    pub(super) people: Arc<str>,
    pub(super) states: Arc<str>,
    pub(super) levels: Arc<str>,
    /// The marks in this record, for streams that received all earlier marks.
    pub(super) change: Option<Change>,
}

/// The marks in a record: changed levels in a sound or silence record, changed states in a states record.
#[derive(Debug, Clone)]
pub(crate) struct Change {
    /// All values before the change, as marks. The change applies only to a stream that has these values.
    pub(super) before: Arc<str>,
    pub(super) marks: Arc<str>,
}

/// The kind of a record and the data for encoding it. `docs/injected-stream.md` describes the kinds.
#[derive(Debug, Default)]
pub(crate) enum Kind {
    /// A sound record with the samples of one chunk. `gap`: samples are missing before this chunk.
    Sound { samples: Vec<i16>, gap: bool },
    /// A silence record: the room is silent.
    #[default]
    Silence,
    /// A room record: the list of people has changed.
    Room,
    /// A states record: a participant has connected or left, or has changed their hand or microphone state.
    States,
    /// A message record: a message from a participant, as base64 of JSON.
    Message(String),
    /// A moved record: another process answers new requests from now on. `last`: the stream ends with this record.
    Moved { last: bool },
    /// A microphone record: a page or a program has the participant's microphone, or none has it any more.
    Microphone { is_used: bool },
    /// A removed record: the participant was removed from the room. The stream ends with this record.
    Removed,
}

/// The ring, shared by the reader thread and the threads of the streams.
#[derive(Debug)]
pub(super) struct Ring {
    pub(super) format: Format,
    pub(super) chunk_ms: u64,
    pub(super) handover: Arc<Handover>,
    pub(super) state: Mutex<State>,
    /// Wakes the threads of the streams when a record was published or a stream was added or removed.
    pub(super) published: Condvar,
}

/// The records in the ring, and the streams that read them.
#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) ring: VecDeque<Arc<Record>>,
    /// Index of the next record to be published, counted from the start of the process.
    pub(super) next: u64,
    pub(super) last_seq: u64,
    /// SEQ of the newest sound record that has left the ring.
    pub(super) gone_seq: u64,
    /// Number of 20 ms frames published so far.
    pub(super) frames: u64,
    pub(super) people: Arc<str>,
    pub(super) states: Arc<str>,
    pub(super) levels: Arc<str>,
    pub(super) silent: bool,
    /// A page or a program had the microphone, and none has it now.
    pub(super) is_microphone_free: bool,
    pub(super) streams: Vec<(u64, TcpStream)>,
    pub(super) next_stream: u64,
    /// The reader thread is running and the source is open.
    pub(super) running: bool,
}

impl State {
    /// Returns the SEQ of the next record.
    pub(super) fn seq(&mut self) -> u64 {
        self.last_seq = boottime_ms().max(self.last_seq + 1);
        self.last_seq
    }

    /// Drops the oldest record. Returns `false` if the ring is empty.
    pub(super) fn drop_oldest(&mut self) -> bool {
        let oldest = self.ring.pop_front();
        if let Some(sound) = oldest.as_ref().filter(|record| matches!(record.kind, Kind::Sound { .. })) {
            self.gone_seq = sound.seq;
        }
        oldest.is_some()
    }
}

impl Ring {
    pub(super) fn new(format: Format, chunk_ms: u64, handover: Arc<Handover>) -> Arc<Self> {
        let state = Mutex::new(State { silent: true, ..State::default() });
        Arc::new(Self { format, chunk_ms, handover, state, published: Condvar::new() })
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Removes the stream with this ID from the list of open streams.
    pub(super) fn remove(&self, state: &mut State, id: u64) {
        let before = state.streams.len();
        state.streams.retain(|(stream, _)| *stream != id);
        if before > 0 && state.streams.is_empty() {
            self.handover.streams_ended(Instant::now());
        }
    }

    /// Encodes a record and adds it to the ring. The caller must notify `published`.
    pub(super) fn publish(&self, state: &mut State, kind: Kind, change: Option<Change>) {
        let seq = state.seq();
        let marks = change.as_ref().map_or("", |change| &*change.marks);
        let bytes = match &kind {
            Kind::Sound { samples, gap } => record::sound(seq, *gap, self.format.rate.hz(), samples, marks),
            Kind::Silence => record::silence(seq, marks),
            Kind::Room => record::room(seq, &state.people, &state.states),
            Kind::States => record::states(seq, marks),
            Kind::Message(text) => record::message(seq, text),
            Kind::Moved { last } => record::moved(seq, *last),
            Kind::Microphone { is_used } => record::microphone(seq, *is_used),
            Kind::Removed => record::removed(seq),
        };
        state.silent = !matches!(kind, Kind::Sound { .. }) && (state.silent || matches!(kind, Kind::Silence));
        let [people, states, levels] = [&state.people, &state.states, &state.levels].map(Arc::clone);
        let frames_before = state.frames;
        if let Kind::Sound { samples, .. } = &kind {
            state.frames += (samples.len() / self.format.frame_samples()) as u64;
        }
        state.ring.push_back(Arc::new(Record { seq, kind, bytes, frames_before, people, states, levels, change }));
        state.next += 1;
        let max = (RING_MS.div_ceil(self.chunk_ms) as usize).max(2);
        let is_sound = |record: &&Arc<Record>| matches!(record.kind, Kind::Sound { .. });
        while state.ring.iter().filter(is_sound).count() > max || state.ring.len() > 4 * max {
            state.drop_oldest();
        }
    }
}
