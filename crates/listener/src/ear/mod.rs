//! The sound and events of the room for all streams of this listener: one reader and a ring of the newest records.
//!
//! The reader begins with the first stream and ends 2 s after the last stream. It cuts chunks, encodes each record once, and puts
//! the record into the ring. Each stream takes records from the ring at its own pace. A stream that is too slow loses the records that
//! have left the ring, and continues with the newest record. Other streams are not affected.
//!
//! The reader has no thread while a stream waits for a record: the thread of one stream reads the source, and then writes the record to
//! its client, so one chunk wakes one thread. If the write blocks, or after the last stream, another thread reads the source.

mod delivered;
mod encoder;
mod opus_stream;
mod reader;
mod ring;
mod subscription;
mod texts;

pub(crate) use delivered::Delivered;
pub(crate) use ring::Kind;
pub(crate) use subscription::{Next, Subscription};

use crate::codec::Codec;
use crate::handover::{Handover, Phase};
use crate::room_view::RoomView;
use crate::source::{Origin, Source};
use crate::waker::Waker;
use delivered::Encoding;
use encoder::Encoders;
use opus_stream::OpusStream;
use palabre_config::control;
use palabre_host::clock::boottime_ms;
use palabre_room::{Format, RoomDir};
use reader::Reader;
use ring::{OpenStream, RING_MS, Ring, State};
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;
use std::time::Instant;

/// Maximum age in ms of the previous process's last chunk that a page can name with `from` to continue without a gap after a handover.
/// On a slow line, a request arrives long after the page has sent it.
const HANDOVER_FROM_MS: u64 = 2000;

/// The streams of one participant and the source of their sound.
#[derive(Debug)]
pub(crate) struct Ear {
    max_streams: usize,
    origin: Origin,
    room: Option<RoomDir>,
    ring: Arc<Ring>,
    encoders: Encoders,
}

impl Ear {
    /// Creates the `Ear` without opening the source. `room`: the directory with the files `names` and `levels`.
    pub(crate) fn new(
        origin: Origin,
        room: Option<RoomDir>,
        (format, chunk_ms): (Format, u64),
        max_streams: usize,
        handover: Arc<Handover>,
    ) -> Arc<Self> {
        let max_streams = max_streams.max(1);
        Arc::new(Self {
            max_streams,
            origin,
            room,
            ring: Ring::new(format, chunk_ms, handover),
            encoders: Encoders::default(),
        })
    }

    /// Adds a stream of the page with this ID. At the maximum number of streams, ends the oldest stream of this page, so that a page can
    /// reconnect while its previous connections have not timed out. Returns `None` at the maximum if this page has no stream.
    ///
    /// Fails if there are no more file descriptors.
    pub(crate) fn subscribe(
        &self,
        tcp: &TcpStream,
        from: Option<u64>,
        page: Option<&str>,
        codec: Codec,
    ) -> std::io::Result<Option<Subscription>> {
        let tcp = tcp.try_clone()?;
        let mut state = self.ring.lock();
        if !self.ring.handover.is_serving() {
            // During a handover, a browser can still send this request on an open connection to this process. This stream only says `moved`.
            return Ok(Some(self.send_away(&mut state)));
        }
        let Ok(replaced) = self.place(&state, page) else { return Ok(None) };
        let is_first = state.streams.is_empty();
        if let Some(index) = replaced {
            // The thread of the replaced stream may be blocked in a write; closing the connection ends the write.
            let _ = state.streams.remove(index).tcp.shutdown(Shutdown::Both);
        }
        if is_first {
            self.ring.handover.streams_began(Instant::now());
        }
        let id = state.next_stream;
        state.next_stream += 1;
        state.streams.push(OpenStream { id, page: page.map(str::to_owned), codec, tcp });
        if !state.running
            && let Err(error) = self.start(&mut state)
        {
            self.ring.remove(&mut state, id);
            return Err(error);
        }
        let oldest_ms = boottime_ms().saturating_sub(RING_MS + self.ring.chunk_ms);
        let mut subscription = Subscription::new(Arc::clone(&self.ring), id, &mut state, from, oldest_ms);
        subscription.encode_by(self.encoding(codec, subscription.start()));
        self.ring.notify_all(state);
        Ok(Some(subscription))
    }

    /// Returns the encoding of a stream with this codec, whose first record has the index `start`.
    fn encoding(&self, codec: Codec, start: u64) -> Encoding {
        match codec {
            Codec::Pcm => Encoding::Pcm,
            Codec::Adpcm => Encoding::Adpcm,
            Codec::Opus { kbps } => self.encoders.get(&self.ring, kbps).map_or(Encoding::Pcm, |encoder| {
                Encoding::Opus(OpusStream::new(Arc::clone(&self.ring), encoder, start))
            }),
        }
    }

    /// Returns whether [`Self::subscribe`] would refuse a further stream of this page.
    pub(crate) fn is_full(&self, page: Option<&str>) -> bool {
        self.ring.handover.is_serving() && self.place(&self.ring.lock(), page).is_err()
    }

    /// Returns the index of the stream that a further stream of this page replaces, or `None` if a stream is free. Returns an error at the maximum
    /// number of streams if this page has no stream, because a page or program must not end the stream of another page.
    fn place(&self, state: &State, page: Option<&str>) -> Result<Option<usize>, ()> {
        if state.streams.len() < self.max_streams {
            return Ok(None);
        }
        let own = page.and_then(|_| state.streams.iter().position(|stream| stream.page.as_deref() == page));
        own.map(Some).ok_or(())
    }

    /// Returns the codec of each open stream, the oldest stream first.
    pub(crate) fn codecs(&self) -> Vec<control::Codec> {
        self.ring.lock().streams.iter().map(|stream| stream.codec.reported()).collect()
    }

    /// Returns the page IDs of the open streams.
    pub(crate) fn pages(&self) -> Vec<Option<String>> {
        self.ring.lock().streams.iter().map(|stream| stream.page.clone()).collect()
    }

    /// Tells all open streams, and each stream that is opened later, whether a page or a program has the microphone, if that has changed.
    pub(crate) fn show_microphone(&self, is_used: bool) {
        let mut state = self.ring.lock();
        if state.is_microphone_free != is_used {
            return;
        }
        state.is_microphone_free = !is_used;
        if state.running {
            self.ring.publish(&mut state, Kind::Microphone { is_used }, None);
        }
        self.ring.notify_all(state);
    }

    /// Sends every stream a `moved` record: another process answers new requests from now on. For how long the streams continue, see
    /// [`crate::handover`].
    pub(crate) fn announce_handover(&self) {
        let mut state = self.ring.lock();
        if state.running && matches!(self.ring.handover.phase(), Phase::HandingOver { .. }) {
            self.ring.publish(&mut state, Kind::Moved { last: false }, None);
        }
        self.ring.notify_all(state);
    }

    fn send_away(&self, state: &mut State) -> Subscription {
        if !state.running {
            self.look_at_room(state);
        }
        Subscription::sent_away(Arc::clone(&self.ring), state)
    }

    fn look_at_room(&self, state: &mut State) -> RoomView {
        let view = RoomView::new(self.room.clone());
        (state.people, state.states, state.levels) = (view.people(), view.states.all(), view.levels.all());
        view
    }

    /// Creates the reader. Old samples in the pipe are discarded, except in a handover, where they continue the samples that the
    /// previous process has read.
    fn start(&self, state: &mut State) -> std::io::Result<()> {
        let waker = Arc::new(Waker::new()?);
        let view = self.look_at_room(state);
        while state.drop_oldest() {}
        state.lead = None;
        // Take the inbox before requesting the pipe: the request ends the previous process, and messages sent to it would be lost.
        let inbox = self.ring.handover.take_inbox();
        let source = Source::new(&self.origin, self.ring.format, self.ring.chunk_ms);
        state.silent = !source.is_taking_over();
        if source.is_taking_over() {
            // A page may continue after a chunk that it got from the previous process. The SEQs of these chunks are not higher
            // than the current time.
            state.last_seq = boottime_ms().max(state.last_seq);
            state.gone_seq = state.last_seq.saturating_sub(HANDOVER_FROM_MS);
        }
        state.reader = Some(Box::new(Reader::new(Arc::clone(&self.ring), view, source, inbox, Arc::clone(&waker))));
        state.waker = Some(waker);
        state.running = true;
        Ok(())
    }
}
