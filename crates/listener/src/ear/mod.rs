//! What the participant hears, for all streams of this listener: one reader thread, one ring of the newest records.
//!
//! The thread starts with the first stream and ends 2 s after the last. It cuts chunks, builds the bytes of each record
//! once, and puts them into the ring; a stream takes them from there at its own pace. A stream that is too slow loses what
//! left the ring meanwhile and goes on with the newest; nobody else notices.

mod reader;
mod subscription;
mod told;

pub use subscription::{Next, Subscription};
pub use told::Told;

use crate::record;
use crate::room_view::RoomView;
use crate::source::{Origin, Source};
use palabre_host::clock::boottime_ms;
use palabre_room::{FRAME_MS, Format, RoomDir};
use std::collections::VecDeque;
use std::net::{Shutdown, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How much sound a stream may ask back with `from`, and the most that a slow one may lag behind.
const RING_MS: u64 = 300;
/// How long this process goes on at most while a page opens the stream of the next: three round trips of a far line and a slow
/// machine's handshake.
pub const HAND_OVER: Duration = Duration::from_secs(1);
/// Stack of the reader thread; it holds the pipe's buffer and little else.
const STACK_BYTES: usize = 128 * 1024;

/// A record in the ring.
#[derive(Debug, Default)]
pub struct Record {
    /// Its number on the wire.
    pub seq: u64,
    /// What it is.
    pub kind: Kind,
    bytes: Vec<u8>,
    /// The state of the room after this record, for streams that have missed some.
    people: Arc<str>,
    states: Arc<str>,
    levels: Arc<str>,
    /// The marks in it, for streams that have missed nothing.
    change: Option<Change>,
}

/// Marks in a record: of levels in a sound or silence, of states in a record of these.
#[derive(Debug, Clone)]
pub struct Change {
    /// What a stream must have been told before, to understand them.
    before: Arc<str>,
    marks: Arc<str>,
}

/// What a record is.
#[derive(Debug, Default)]
pub enum Kind {
    /// A chunk.
    Sound {
        /// Its samples.
        samples: Vec<i16>,
        /// Something is missing before it.
        gap: bool,
    },
    /// The room is silent.
    #[default]
    Silence,
    /// Who belongs to the room has changed.
    Room,
    /// Who is here, or what they show of themselves, has changed.
    States,
    /// Somebody wrote: base64 of JSON.
    Message(String),
    /// A new process serves from now on; `last`: and this one says nothing more.
    Moved {
        /// Whether nothing follows.
        last: bool,
    },
}

/// The ear of this listener.
#[derive(Debug)]
pub struct Ear {
    format: Format,
    chunk_ms: u64,
    max_streams: usize,
    origin: Origin,
    room: Option<RoomDir>,
    state: Mutex<State>,
    news: Condvar,
}

#[derive(Debug, Default)]
struct State {
    ring: VecDeque<Arc<Record>>,
    /// The number of the next record that goes into the ring.
    next: u64,
    last_seq: u64,
    /// The number on the wire of the newest sound that has left the ring.
    gone_seq: u64,
    people: Arc<str>,
    states: Arc<str>,
    levels: Arc<str>,
    silent: bool,
    streams: Vec<(u64, TcpStream)>,
    next_stream: u64,
    running: bool,
    /// When the reading ends, once this process is to leave.
    leaving: Option<Instant>,
}

impl State {
    fn seq(&mut self) -> u64 {
        self.last_seq = boottime_ms().max(self.last_seq + 1);
        self.last_seq
    }

    /// False when the ring is empty.
    fn drop_oldest(&mut self) -> bool {
        let oldest = self.ring.pop_front();
        if let Some(sound) = oldest.as_ref().filter(|record| matches!(record.kind, Kind::Sound { .. })) {
            self.gone_seq = sound.seq;
        }
        oldest.is_some()
    }
}

impl Ear {
    /// An ear on `origin`; `room` is where `names` and `levels` are.
    pub fn new(origin: Origin, room: Option<RoomDir>, format: Format, chunk_ms: u64, max_streams: usize) -> Arc<Self> {
        let state = Mutex::new(State { silent: true, ..State::default() });
        let max_streams = max_streams.max(1);
        Arc::new(Self { format, chunk_ms, max_streams, origin, room, state, news: Condvar::new() })
    }

    /// One more stream. When there are too many the oldest is ended: a page that connects again must never be locked out by
    /// its own dead streams.
    ///
    /// # Errors
    /// When there are no more file descriptors or threads.
    pub fn subscribe(self: &Arc<Self>, tcp: &TcpStream, from: Option<u64>) -> std::io::Result<Subscription> {
        let tcp = tcp.try_clone()?;
        let mut state = self.lock();
        if !state.running {
            self.begin(&mut state)?;
        }
        let id = state.next_stream;
        state.next_stream += 1;
        state.streams.push((id, tcp));
        while state.streams.len() > self.max_streams {
            let (_, oldest) = state.streams.remove(0);
            // It may be stuck in a write.
            let _ = oldest.shutdown(Shutdown::Both);
        }
        let oldest_ms = boottime_ms().saturating_sub(RING_MS + self.chunk_ms);
        let mut subscription = Subscription::begin(Arc::clone(self), id, &mut state, from, oldest_ms);
        if state.leaving.is_some() {
            subscription.send_away(&mut state);
        }
        drop(state);
        self.news.notify_all();
        Ok(subscription)
    }

    /// Frames of 20 ms in a chunk.
    pub(super) fn chunk_frames(&self) -> u64 {
        self.chunk_ms / FRAME_MS
    }

    /// How many streams there are.
    pub fn streams(&self) -> usize {
        self.lock().streams.len()
    }

    /// Passes a message on to whoever listens now; it is JSON.
    pub fn pass_on(&self, message: &str) {
        let mut state = self.lock();
        if state.running && !state.streams.is_empty() {
            self.publish(&mut state, Kind::Message(record::encode(message)), None);
        }
        drop(state);
        self.news.notify_all();
    }

    /// Stops reading at a frame's end, gives the pipe back, and tells all streams that they have moved.
    pub fn leave(&self) {
        self.leave_at(Instant::now());
    }

    /// Tells all streams that they have moved, and goes on until the next process asks for the pipe, which it does as soon as
    /// a page has come to it; for [`HAND_OVER`] at most. A file is no pipe: both may read it.
    pub fn hand_over(&self) {
        match self.origin {
            Origin::Pipe(_) => self.leave_at(Instant::now() + HAND_OVER),
            Origin::File(_) => self.leave(),
        }
    }

    fn leave_at(&self, end: Instant) {
        let mut state = self.lock();
        state.leaving = Some(end);
        if !state.running {
            self.publish(&mut state, Kind::Moved { last: true }, None);
        } else if end > Instant::now() {
            self.publish(&mut state, Kind::Moved { last: false }, None);
        }
        drop(state);
        self.news.notify_all();
    }

    /// Starts to read, what is there from now on or, in a planned restart, what follows on what another process has read.
    fn begin(self: &Arc<Self>, state: &mut State) -> std::io::Result<()> {
        let view = RoomView::new(self.room.clone());
        state.people = view.people();
        state.states = view.states.all();
        state.levels = view.levels.all();
        while state.drop_oldest() {}
        let source = Source::new(&self.origin, self.format, self.chunk_ms);
        state.silent = !source.is_taking_over();
        if source.is_taking_over() {
            // A page that hears the other process until it has come here misses nothing, and on a far line it has asked long ago.
            state.last_seq = boottime_ms().max(state.last_seq);
            state.gone_seq = state.last_seq.saturating_sub(2 * HAND_OVER.as_millis() as u64);
        }
        let ear = Arc::clone(self);
        let work = move || reader::Reader::new(&ear, view, source).run();
        std::thread::Builder::new().name("ear".into()).stack_size(STACK_BYTES).spawn(work)?;
        state.running = true;
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn publish(&self, state: &mut State, kind: Kind, change: Option<Change>) {
        let seq = state.seq();
        let marks = change.as_ref().map_or("", |change| &*change.marks);
        let bytes = match &kind {
            Kind::Sound { samples, gap } => record::sound(seq, *gap, self.format.rate.hz(), samples, marks),
            Kind::Silence => record::silence(seq, marks),
            Kind::Room => record::room(seq, &state.people, &state.states),
            Kind::States => record::states(seq, marks),
            Kind::Message(said) => record::message(seq, said),
            Kind::Moved { last } => record::moved(seq, *last),
        };
        state.silent = !matches!(kind, Kind::Sound { .. }) && (state.silent || matches!(kind, Kind::Silence));
        let [people, states, levels] = [&state.people, &state.states, &state.levels].map(Arc::clone);
        state.ring.push_back(Arc::new(Record { seq, kind, bytes, people, states, levels, change }));
        state.next += 1;
        let most = (RING_MS.div_ceil(self.chunk_ms) as usize).max(2);
        let is_sound = |record: &&Arc<Record>| matches!(record.kind, Kind::Sound { .. });
        while state.ring.iter().filter(is_sound).count() > most || state.ring.len() > 4 * most {
            state.drop_oldest();
        }
    }
}
