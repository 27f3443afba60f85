//! The ring of the newest records, and the streams that read it.

use crate::codec::Codec;
use crate::handover::Handover;
use crate::record;
use crate::spare;
use crate::waker::Waker;
use palabre_host::clock::boottime_ms;
use palabre_room::Format;
use std::collections::VecDeque;
use std::net::TcpStream;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

/// Length of the sound that the ring keeps, in ms, rounded up to whole chunks, and at least two chunks. A new stream can get these chunks
/// again with `from`, and a slow stream can lag behind by this time.
pub(super) const RING_MS: u64 = 300;

/// Stack size of a thread that reads the source. The largest object on the stack is the buffer for reading the pipe.
const STACK_BYTES: usize = 128 * 1024;
/// Minimum time for which a thread that only reads the source keeps this task, before the thread of a stream may read the source again. A client
/// that was slow once is often slow again.
const THREAD_TIME: Duration = Duration::from_secs(2);
/// Maximum time for which a thread that only reads the source waits for sound or a change.
const THREAD_WAIT: Duration = Duration::from_secs(10);

/// The reader of the source. [`Self::step`] is called by the thread of a stream while that thread waits for a record, or by a thread that only reads
/// the source.
pub(super) trait Read: std::fmt::Debug + Send {
    /// Waits for sound or a change, at most until `until`, and publishes records. Returns `false` after the source was closed.
    fn step(&mut self, until: Instant) -> bool;
}

/// A record in the ring.
#[derive(Debug, Default)]
pub(crate) struct Record {
    pub(crate) seq: u64,
    pub(crate) kind: Kind,
    /// Index of this record, counted from the start of the process.
    pub(super) index: u64,
    /// The encoded record, with the samples as PCM.
    pub(super) pcm: OnceLock<Vec<u8>>,
    /// The encoded record with the samples as ADPCM.
    pub(super) adpcm: OnceLock<Vec<u8>>,
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

/// The ring, shared by the reader and the threads of the streams.
#[derive(Debug)]
pub(super) struct Ring {
    pub(super) format: Format,
    pub(super) chunk_ms: u64,
    pub(super) handover: Arc<Handover>,
    pub(super) state: Mutex<State>,
    /// Wakes the waiting threads of streams after a record was published, a stream was removed, or the reader was passed to another thread.
    published: Condvar,
}

/// An open stream.
#[derive(Debug)]
pub(super) struct OpenStream {
    pub(super) id: u64,
    /// ID that the page sent in the parameter `page`; `None` if the request had no ID.
    pub(super) page: Option<String>,
    pub(super) codec: Codec,
    pub(super) tcp: TcpStream,
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
    /// Whether a page or a program had the microphone, and none has it now.
    pub(super) is_microphone_free: bool,
    /// Open streams, the oldest first.
    pub(super) streams: Vec<OpenStream>,
    pub(super) next_stream: u64,
    /// The last samples that the previous process has published. They precede the first sound record in the ring.
    pub(super) lead: Option<Arc<[i16]>>,
    /// Whether there is a reader, and the source is open.
    pub(super) running: bool,
    /// The reader. `None` while a thread reads the source.
    pub(super) reader: Option<Box<dyn Read>>,
    /// Wakes the thread that reads the source.
    pub(super) waker: Option<Arc<Waker>>,
    /// Number of streams whose threads wait for `published`.
    pub(super) waiting: usize,
}

impl Record {
    /// Returns the encoded record, with the samples as PCM. It is encoded once, by the thread of the first stream that needs it.
    pub(super) fn bytes(&self, rate_hz: u32) -> &[u8] {
        self.pcm.get_or_init(|| {
            let (seq, marks) = (self.seq, self.marks());
            match &self.kind {
                Kind::Sound { samples, gap } => record::sound(seq, *gap, rate_hz, samples, marks),
                Kind::Silence => record::silence(seq, marks, None),
                Kind::Room => record::room(seq, &self.people, &self.states),
                Kind::States => record::states(seq, marks),
                Kind::Message(text) => record::message(seq, text),
                Kind::Moved { last } => record::moved(seq, *last),
                Kind::Microphone { is_used } => record::microphone(seq, *is_used),
                Kind::Removed => record::removed(seq),
            }
        })
    }

    /// Returns the marks in this record; empty if nothing has changed.
    pub(super) fn marks(&self) -> &str {
        self.change.as_ref().map_or("", |change| &*change.marks)
    }
}

impl State {
    /// Returns the SEQ of the next record.
    pub(super) fn seq(&mut self) -> u64 {
        self.last_seq = boottime_ms().max(self.last_seq + 1);
        self.last_seq
    }

    /// Returns the newest samples of the present sound, at most about `max`; no samples during silence.
    pub(super) fn newest_samples(&self, max: usize) -> Vec<i16> {
        let (mut chunks, mut count) = (Vec::new(), 0);
        for record in self.ring.iter().rev() {
            match &record.kind {
                Kind::Silence => break,
                Kind::Sound { samples, gap } => {
                    chunks.push(samples);
                    count += samples.len();
                    if *gap || count >= max {
                        break;
                    }
                }
                _ => {}
            }
        }
        chunks.into_iter().rev().flatten().copied().collect()
    }

    /// Drops the oldest record. Returns `false` if the ring is empty.
    pub(super) fn drop_oldest(&mut self) -> bool {
        let oldest = self.ring.pop_front();
        if let Some(sound) = oldest.as_ref().filter(|record| matches!(record.kind, Kind::Sound { .. })) {
            self.gone_seq = sound.seq;
            self.lead = None;
        }
        let has_dropped = oldest.is_some();
        // If no stream uses the record any more, the next record gets its memory.
        if let Some(Record { kind: Kind::Sound { samples, .. }, pcm, .. }) = oldest.and_then(Arc::into_inner) {
            spare::keep_samples(samples);
            pcm.into_inner().into_iter().for_each(spare::keep_bytes);
        }
        has_dropped
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
        state.streams.retain(|stream| stream.id != id);
        if before > 0 && state.streams.is_empty() {
            self.handover.streams_ended(Instant::now());
        }
    }

    /// Unlocks the state, and wakes the threads of the streams that wait.
    pub(super) fn notify(&self, state: MutexGuard<'_, State>) {
        let is_awaited = state.waiting > 0;
        drop(state);
        // notify_all is a system call even if no thread waits.
        if is_awaited {
            self.published.notify_all();
        }
    }

    /// Unlocks the state, and wakes the threads of all streams, including the thread that reads the source.
    pub(super) fn notify_all(&self, state: MutexGuard<'_, State>) {
        if let Some(waker) = &state.waker {
            waker.wake();
        }
        self.notify(state);
    }

    /// Unlocks the state and waits until another thread notifies this one, at most for `timeout`.
    pub(super) fn wait<'a>(&self, mut state: MutexGuard<'a, State>, timeout: Duration) -> MutexGuard<'a, State> {
        state.waiting += 1;
        let mut state = self.published.wait_timeout(state, timeout).unwrap_or_else(PoisonError::into_inner).0;
        state.waiting -= 1;
        state
    }

    /// Passes the reader to the thread of a stream that waits for a record. If no such thread waits, starts a thread that reads the source.
    pub(super) fn hand_on(self: &Arc<Self>, mut state: MutexGuard<'_, State>, reader: Box<dyn Read>) {
        state.reader = Some(reader);
        if state.waiting > 0 {
            return self.notify(state);
        }
        let ring = Arc::clone(self);
        let work = move || ring.read();
        if let Err(error) = std::thread::Builder::new().name("ear".into()).stack_size(STACK_BYTES).spawn(work) {
            log::warn!(
                "unable to start a thread that reads the sound for the streams: {error}; the streams may have gaps"
            );
            // If there is no stream either, no thread would ever close the source. So close it now.
            if state.streams.is_empty() {
                (state.reader, state.running) = (None, false);
            }
        }
    }

    /// Reads the source until it is closed, or until the thread of a stream can read it.
    fn read(&self) {
        let Some(mut reader) = self.lock().reader.take() else { return };
        let until = Instant::now() + THREAD_TIME;
        while reader.step(Instant::now() + THREAD_WAIT) {
            let mut state = self.lock();
            if state.waiting > 0 && Instant::now() >= until {
                state.reader = Some(reader);
                return self.notify(state);
            }
        }
    }

    /// Returns the maximum number of sound records in the ring.
    pub(super) fn max_sounds(&self) -> usize {
        (RING_MS.div_ceil(self.chunk_ms) as usize).max(2)
    }

    /// Adds a record to the ring. The caller must notify the streams.
    pub(super) fn publish(&self, state: &mut State, kind: Kind, change: Option<Change>) {
        let seq = state.seq();
        state.silent = !matches!(kind, Kind::Sound { .. }) && (state.silent || matches!(kind, Kind::Silence));
        let [people, states, levels] = [&state.people, &state.states, &state.levels].map(Arc::clone);
        let frames_before = state.frames;
        if let Kind::Sound { samples, .. } = &kind {
            state.frames += (samples.len() / self.format.frame_samples()) as u64;
        }
        let index = state.next;
        let record = Record { seq, kind, index, frames_before, people, states, levels, change, ..Record::default() };
        state.ring.push_back(Arc::new(record));
        state.next += 1;
        let max = self.max_sounds();
        let is_sound = |record: &&Arc<Record>| matches!(record.kind, Kind::Sound { .. });
        while state.ring.iter().filter(is_sound).count() > max || state.ring.len() > 4 * max {
            state.drop_oldest();
        }
    }
}
