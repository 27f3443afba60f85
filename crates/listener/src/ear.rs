//! What the participant hears, for all streams of this listener: one reader thread, one ring of the newest records.
//!
//! The thread starts with the first stream and ends 2 s after the last. It cuts chunks, builds the bytes of each record
//! once, and puts them into the ring; a stream takes them from there at its own pace. A stream that is too slow loses what
//! left the ring meanwhile and goes on with the newest; nobody else notices.

use crate::chunker::{Chunker, Cut};
use crate::record;
use crate::room_view::RoomView;
use crate::source::{Origin, Source};
use palabre_host::clock::boottime_ms;
use palabre_room::{Format, RoomDir};
use std::collections::VecDeque;
use std::net::{Shutdown, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How much sound a stream may ask back with `from`, and the most that a slow one may lag behind.
const RING_MS: u64 = 300;
/// How long the source stays open after the last stream: a page that renews its stream finds it as it was.
const LINGER: Duration = Duration::from_secs(2);
/// How often `levels` is looked at.
const LEVELS_EVERY: Duration = Duration::from_millis(200);
/// How often `names` is looked at.
const NAMES_EVERY: Duration = Duration::from_secs(1);
/// Stack of the reader thread; it holds the pipe's buffer and little else.
const STACK_BYTES: usize = 128 * 1024;

/// A record in the ring.
#[derive(Debug)]
pub struct Record {
    /// Its number on the wire.
    pub seq: u64,
    /// What it is.
    pub kind: Kind,
    bytes: Vec<u8>,
    /// The state of the room after this record, for streams that have missed some.
    people: Arc<str>,
    levels: Arc<str>,
    carries_levels: bool,
}

/// What a record is.
#[derive(Debug)]
pub enum Kind {
    /// A chunk.
    Sound {
        /// Its samples.
        samples: Vec<i16>,
        /// Something is missing before it.
        gap: bool,
    },
    /// The room is silent.
    Silence,
    /// Who is here has changed.
    Room,
    /// A new process serves from now on.
    Moved,
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
    people: Arc<str>,
    levels: Arc<str>,
    silent: bool,
    streams: Vec<(u64, TcpStream)>,
    next_stream: u64,
    running: bool,
    leaving: bool,
}

impl State {
    fn seq(&mut self) -> u64 {
        self.last_seq = boottime_ms().max(self.last_seq + 1);
        self.last_seq
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
            let view = RoomView::new(self.room.clone());
            state.people = view.people();
            state.levels = view.levels();
            state.ring.clear();
            state.silent = true;
            let ear = Arc::clone(self);
            std::thread::Builder::new().name("ear".into()).stack_size(STACK_BYTES).spawn(move || ear.run(view))?;
            state.running = true;
        }
        let id = state.next_stream;
        state.next_stream += 1;
        state.streams.push((id, tcp));
        while state.streams.len() > self.max_streams {
            let (_, oldest) = state.streams.remove(0);
            // It may be stuck in a write.
            let _ = oldest.shutdown(Shutdown::Both);
        }
        let opening = opening(&mut state, from, RING_MS + self.chunk_ms);
        drop(state);
        self.news.notify_all();
        Ok(Subscription { ear: Arc::clone(self), id, opening: Some(opening.0), at: opening.1 })
    }

    /// How many streams there are.
    pub fn streams(&self) -> usize {
        self.lock().streams.len()
    }

    /// Stops reading at a frame's end, gives the pipe back, and tells all streams that they have moved.
    pub fn leave(&self) {
        let mut state = self.lock();
        state.leaving = true;
        if !state.running {
            self.publish(&mut state, Kind::Moved, false);
        }
        drop(state);
        self.news.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn run(self: Arc<Self>, view: RoomView) {
        Reader::new(&self, view).run();
    }

    fn publish(&self, state: &mut State, kind: Kind, carries_levels: bool) {
        let seq = state.seq();
        let levels = if carries_levels { &*state.levels } else { "" };
        let bytes = render(&kind, seq, self.format.rate.hz(), levels, &state.people);
        state.silent = !matches!(kind, Kind::Sound { .. }) && (state.silent || matches!(kind, Kind::Silence));
        let (people, levels) = (Arc::clone(&state.people), Arc::clone(&state.levels));
        state.ring.push_back(Arc::new(Record { seq, kind, bytes, people, levels, carries_levels }));
        state.next += 1;
        let most = (RING_MS.div_ceil(self.chunk_ms) as usize).max(2);
        let is_sound = |record: &&Arc<Record>| matches!(record.kind, Kind::Sound { .. });
        while state.ring.iter().filter(is_sound).count() > most || state.ring.len() > 4 * most {
            state.ring.pop_front();
        }
    }
}

fn render(kind: &Kind, seq: u64, rate_hz: u32, levels: &str, people: &str) -> Vec<u8> {
    match kind {
        Kind::Sound { samples, gap } => record::sound(seq, *gap, rate_hz, samples, levels),
        Kind::Silence => record::silence(seq, levels),
        Kind::Room => record::room(seq, people),
        Kind::Moved => record::moved(seq),
    }
}

/// What a stream begins with, and the number of the record at which it goes on.
fn opening(state: &mut State, from: Option<u64>, most_ms: u64) -> (Opening, u64) {
    let first_number = state.next - state.ring.len() as u64;
    let oldest = boottime_ms().saturating_sub(most_ms);
    let kept = from.and_then(|from| {
        let fits = |record: &Arc<Record>| {
            record.seq > from && record.seq >= oldest && matches!(record.kind, Kind::Sound { .. })
        };
        state.ring.iter().position(fits)
    });
    let (people, levels) = (Arc::clone(&state.people), Arc::clone(&state.levels));
    if let Some(index) = kept {
        let seq = state.ring[index].seq;
        let opening = Opening {
            hello: seq.saturating_sub(2),
            room: seq.saturating_sub(1),
            silence: None,
            people,
            levels: "".into(),
        };
        return (opening, first_number + index as u64);
    }
    let (hello, room) = (state.seq(), state.seq());
    let silence = state.silent.then(|| state.seq());
    let levels = if silence.is_some() { levels } else { "".into() };
    (Opening { hello, room, silence, people, levels }, state.next)
}

/// The records that only one stream gets: its first.
#[derive(Debug)]
pub struct Opening {
    hello: u64,
    room: u64,
    silence: Option<u64>,
    people: Arc<str>,
    levels: Arc<str>,
}

impl Opening {
    /// Their bytes; `me` is the JSON of `GET /me`.
    pub fn bytes(&self, me: &str) -> Vec<u8> {
        let mut bytes = record::hello(self.hello, me);
        bytes.extend(record::room(self.room, &self.people));
        if let Some(seq) = self.silence {
            bytes.extend(record::silence(seq, &self.levels));
        }
        bytes
    }
}

/// A stream's place in the ring. Dropping it ends the subscription.
#[derive(Debug)]
pub struct Subscription {
    ear: Arc<Ear>,
    id: u64,
    opening: Option<Opening>,
    at: u64,
}

/// What a stream gets next.
#[derive(Debug)]
pub enum Next {
    /// This record; `skipped`: others before it were missed.
    Record(Arc<Record>, bool),
    /// Nothing in the given time.
    Nothing,
    /// This stream was ended in favour of a newer one.
    Ended,
}

impl Subscription {
    /// What the stream begins with; the second time nothing.
    pub fn opening(&mut self) -> Option<Opening> {
        self.opening.take()
    }

    /// Waits for the next record, at most until `until`.
    pub fn next(&mut self, until: Instant) -> Next {
        let ear = Arc::clone(&self.ear);
        let mut state = ear.lock();
        loop {
            if !state.streams.iter().any(|(id, _)| *id == self.id) {
                return Next::Ended;
            }
            if let Some(next) = self.take(&state) {
                return next;
            }
            let Some(left) = until.checked_duration_since(Instant::now()).filter(|left| !left.is_zero()) else {
                return Next::Nothing;
            };
            state = ear.news.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn take(&mut self, state: &State) -> Option<Next> {
        let first = state.next - state.ring.len() as u64;
        let skipped = self.at < first;
        if skipped {
            // The newest is what a stream that is behind should hear; but whoever was told to move must know.
            self.at = state.next.saturating_sub(1);
        }
        let index = usize::try_from(self.at.checked_sub(first)?).ok()?;
        let record = Arc::clone(state.ring.get(index)?);
        self.at += 1;
        Some(Next::Record(record, skipped))
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.ear.lock().streams.retain(|(id, _)| *id != self.id);
        self.ear.news.notify_all();
    }
}

/// What one stream has been told, so that each record can be completed by what it missed.
#[derive(Debug, Default)]
pub struct Told {
    people: Option<Arc<str>>,
    levels: Option<Arc<str>>,
}

impl Told {
    /// After these records of the beginning.
    pub fn new(opening: &Opening) -> Self {
        Self { people: Some(Arc::clone(&opening.people)), levels: Some(Arc::clone(&opening.levels)) }
    }

    /// Calls `write` with the bytes of this record: the shared ones, or its own where it missed something before.
    ///
    /// # Errors
    /// Those of `write`.
    pub fn tell<E>(
        &mut self,
        record: &Record,
        skipped: bool,
        rate_hz: u32,
        mut write: impl FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        let knows = |told: &Option<Arc<str>>, now: &Arc<str>| told.as_ref().is_some_and(|told| told == now);
        if !matches!(record.kind, Kind::Room) && !knows(&self.people, &record.people) {
            write(&record::room(record.seq.saturating_sub(1), &record.people))?;
        }
        let knows_levels = record.carries_levels || knows(&self.levels, &record.levels);
        let takes_levels = matches!(record.kind, Kind::Sound { .. } | Kind::Silence);
        match &record.kind {
            Kind::Sound { samples, gap } if skipped || !knows_levels => {
                let levels = if knows_levels && !record.carries_levels { "" } else { &record.levels };
                write(&record::sound(record.seq, *gap || skipped, rate_hz, samples, levels))?;
            }
            Kind::Silence if !knows_levels => write(&record::silence(record.seq, &record.levels))?,
            _ => write(&record.bytes)?,
        }
        self.people = Some(Arc::clone(&record.people));
        if takes_levels {
            self.levels = Some(Arc::clone(&record.levels));
        }
        Ok(())
    }
}

/// The reader thread.
struct Reader<'a> {
    ear: &'a Ear,
    view: RoomView,
    source: Source,
    chunker: Chunker,
    levels_due: Instant,
    names_due: Instant,
    alone_since: Option<Instant>,
    levels_changed: bool,
}

impl<'a> Reader<'a> {
    fn new(ear: &'a Ear, view: RoomView) -> Self {
        let now = Instant::now();
        Self {
            ear,
            view,
            source: Source::new(&ear.origin, ear.format, ear.chunk_ms),
            chunker: Chunker::new(ear.format, ear.chunk_ms, now),
            levels_due: now + LEVELS_EVERY,
            names_due: now + NAMES_EVERY,
            alone_since: None,
            levels_changed: false,
        }
    }

    fn run(mut self) {
        // The opening of the first stream has said it already.
        self.chunker.silence_said(Instant::now());
        let (mut samples, mut cuts) = (Vec::new(), Vec::new());
        while self.goes_on(&mut cuts) {
            samples.clear();
            self.source.read(self.chunker.due().min(self.levels_due), &mut samples);
            let now = Instant::now();
            self.chunker.feed(now, &samples, &mut cuts);
            self.chunker.tick(now, &mut cuts);
            self.look_at_files(now);
            self.publish(&mut cuts, now);
        }
    }

    fn publish(&mut self, cuts: &mut Vec<Cut>, now: Instant) {
        if cuts.is_empty() && self.levels_changed && self.chunker.is_silent() {
            // One's own voice is silence to oneself, but its level is news.
            cuts.push(Cut::Silence);
            self.chunker.silence_said(now);
        }
        if cuts.is_empty() {
            return;
        }
        let mut state = self.ear.lock();
        for cut in cuts.drain(..) {
            let carries = std::mem::take(&mut self.levels_changed);
            let kind = match cut {
                Cut::Sound { samples, gap } => Kind::Sound { samples, gap },
                Cut::Silence => Kind::Silence,
            };
            self.ear.publish(&mut state, kind, carries);
        }
        drop(state);
        self.ear.news.notify_all();
    }

    fn look_at_files(&mut self, now: Instant) {
        if now < self.levels_due {
            return;
        }
        self.levels_due = now + LEVELS_EVERY;
        if self.view.look_at_levels() {
            self.levels_changed = true;
            self.ear.lock().levels = self.view.levels();
        }
        if now < self.names_due {
            return;
        }
        self.names_due = now + NAMES_EVERY;
        if self.view.look_at_names() {
            let mut state = self.ear.lock();
            state.people = self.view.people();
            self.ear.publish(&mut state, Kind::Room, false);
            drop(state);
            self.ear.news.notify_all();
        }
    }

    /// False when there is nobody to read for any more; then the source is closed by dropping this.
    fn goes_on(&mut self, cuts: &mut Vec<Cut>) -> bool {
        let mut state = self.ear.lock();
        let now = Instant::now();
        if state.leaving {
            drop(state);
            self.chunker.cut(cuts);
            self.publish(cuts, now);
            let mut state = self.ear.lock();
            self.ear.publish(&mut state, Kind::Moved, false);
            state.running = false;
            drop(state);
            self.ear.news.notify_all();
            return false;
        }
        if !state.streams.is_empty() {
            self.alone_since = None;
            return true;
        }
        let since = *self.alone_since.get_or_insert(now);
        state.running = now < since + LINGER;
        state.running
    }
}
