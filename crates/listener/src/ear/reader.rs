//! The reader: waits for sound, messages and changes of the room, and publishes them as records.

use super::ring::{Change, Kind, Read, Ring};
use super::texts::Texts;
use crate::chunker::{Chunker, Cut};
use crate::handover::{Phase, Streams};
use crate::marks::Urgency;
use crate::record;
use crate::room_view::RoomView;
use crate::source::{Source, TAKE_TIMEOUT};
use crate::waker::Waker;
use palabre_host::wait;
use palabre_room::{FRAME_MS, Inbox};
use palabre_sound::opus::PREROLL_PACKETS;
use std::os::fd::AsFd as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Time for which the source stays open after the last stream has ended. A page that renews its stream opens the next one within it.
const LINGER: Duration = Duration::from_secs(2);
/// Interval between checks of the file `levels` after the end of the sound.
const LEVELS_INTERVAL: Duration = Duration::from_millis(200);
/// Time after the end of the sound for which the file `levels` is checked at [`LEVELS_INTERVAL`]. The mixer changes the file until 0.2 s after
/// the last sound in the room. Later the file is checked only when another event wakes the reader's thread, at least every 2 s.
const LEVELS_TIME: Duration = Duration::from_millis(700);
/// Minimum interval between checks of the file `levels` while sound arrives. Arriving sound wakes the reader's thread for these checks.
const LEVELS_INTERVAL_IN_SOUND: Duration = Duration::from_millis(30);
/// Minimum interval between silence records that contain only a changed level.
const LEVEL_RECORD_INTERVAL: Duration = Duration::from_millis(500);
/// Minimum interval between checks of the directory with the files of other machines.
const OTHERS_INTERVAL: Duration = Duration::from_millis(100);
/// Interval between checks of the file `names`.
const NAMES_INTERVAL: Duration = Duration::from_secs(1);
/// Length of the sound that this process leaves to the next process, in ms. An encoder or decoder that begins with this sound has,
/// at its end, practically the same state as one that has processed all earlier sound.
const LEFT_MS: u64 = PREROLL_PACKETS as u64 * FRAME_MS;
/// Interval between checks whether the next process requests the pipe's lock. fcntl(2) has no notification of this.
const REQUEST_INTERVAL: Duration = Duration::from_millis(10);

/// The state of the reader.
#[derive(Debug)]
pub(super) struct Reader {
    ring: Arc<Ring>,
    /// Other threads wake the reader's thread with it, so that [`Self::wait`] ends early.
    waker: Arc<Waker>,
    view: RoomView,
    /// `None` after the reader has closed the source.
    source: Option<Source>,
    texts: Option<Texts>,
    chunker: Chunker,
    levels_due: Instant,
    /// Time until which `levels` is checked at [`LEVELS_INTERVAL`].
    levels_until: Instant,
    others_due: Instant,
    names_due: Instant,
    alone_since: Option<Instant>,
    /// The changes of levels that no record contains yet.
    levels: Option<Change>,
    /// A participant has started or stopped talking, so a record with `levels` must be sent at once.
    levels_are_urgent: bool,
    level_record_due: Instant,
    /// Memory for the samples and cuts of each step, which is reused.
    samples: Vec<i16>,
    cuts: Vec<Cut>,
}

impl Reader {
    pub(super) fn new(
        ring: Arc<Ring>,
        view: RoomView,
        source: Source,
        inbox: Option<Inbox>,
        waker: Arc<Waker>,
    ) -> Self {
        let now = Instant::now();
        let mut chunker = Chunker::new(ring.format, ring.chunk_ms, source.writes(), now);
        match source.is_taking_over() {
            // Send no silence record yet: only the previous process knows whether the room is silent.
            true => chunker.await_previous(now + TAKE_TIMEOUT),
            // The first stream's opening already contains a silence record.
            false => chunker.silence_was_sent(now),
        }
        Self {
            ring,
            waker,
            view,
            source: Some(source),
            texts: inbox.map(|inbox| Texts::new(inbox, now)),
            chunker,
            levels_due: now + LEVELS_INTERVAL,
            levels_until: now,
            others_due: now + OTHERS_INTERVAL,
            names_due: now + NAMES_INTERVAL,
            alone_since: None,
            levels: None,
            levels_are_urgent: false,
            level_record_due: now,
            samples: Vec::new(),
            cuts: Vec::new(),
        }
    }

    fn read_source(&mut self, now: Instant) {
        self.samples.clear();
        if self.source.as_mut().is_some_and(|source| source.read(now, &mut self.samples)) {
            self.ring.handover.pipe_taken();
            self.ring.lock().lead = self.ring.handover.take_sound().map(Into::into);
            self.chunker.continue_from_previous(now);
        }
        self.chunker.feed(now, &self.samples, &mut self.cuts);
        self.chunker.tick(now, &mut self.cuts);
        if !self.samples.is_empty() {
            self.levels_until = now + LEVELS_TIME;
        }
    }

    /// Returns the phase of the handover, or closes the source and returns `None` if the reader must end.
    fn advance(&mut self) -> Option<Phase> {
        let (now, ring) = (Instant::now(), Arc::clone(&self.ring));
        let mut state = ring.lock();
        let are_open = !state.streams.is_empty();
        let mut phase = self.ring.handover.phase();
        if phase != Phase::Serving {
            let pipe_is_requested = self.source.as_ref().is_some_and(Source::is_requested);
            phase = self.ring.handover.advance(Streams { are_open, pipe_is_requested }, now);
        }
        if let Phase::Left { .. } = phase {
            drop(state);
            self.leave(now);
            return None;
        }
        if are_open {
            self.alone_since = None;
        } else if now >= *self.alone_since.get_or_insert(now) + LINGER {
            // Close the source before unlocking the state. A new stream could start another reader, which would mistake this reader's
            // lock on the pipe for the lock of a previous process.
            self.source = None;
            (state.running, state.waker) = (false, None);
            return None;
        }
        Some(phase)
    }

    /// Waits for sound, a message, a wake-up or a deadline. Returns whether a message may have arrived.
    fn wait(&self, phase: Phase, until: Instant) -> bool {
        let now = Instant::now();
        let mut until = until.min(self.chunker.due());
        if self.chunker.is_silent() && now < self.levels_until {
            until = until.min(self.levels_due);
        }
        if let Some(alone_since) = self.alone_since {
            until = until.min(alone_since + LINGER);
        }
        if phase != Phase::Serving {
            until = until.min(now + REQUEST_INTERVAL);
        }
        let mut fds = vec![self.waker.as_fd()];
        if let Some(source) = &self.source {
            until = until.min(source.due());
            fds.extend(source.fd());
        }
        let fds_without_texts = fds.len();
        match self.readable_texts().map(|texts| texts.poll(now)) {
            Some(Ok(fd)) => fds.push(fd),
            Some(Err(next)) => until = until.min(next),
            None => {}
        }
        let timeout = until.saturating_duration_since(now);
        match wait::readable(&fds, Some(timeout)) {
            Ok(ready) => {
                if ready[0] {
                    self.waker.clear();
                }
                ready.get(fds_without_texts) == Some(&true)
            }
            // poll(2) failed, for example for lack of memory. Wait, then check everything.
            Err(_) => {
                std::thread::sleep(timeout);
                true
            }
        }
    }

    /// Returns the inbox if its messages may be sent now. While the previous process still has the pipe, messages wait, because a page
    /// drops records that are older than the last record from that process.
    fn readable_texts(&self) -> Option<&Texts> {
        self.texts.as_ref().filter(|_| !self.source.as_ref().is_some_and(Source::is_taking_over))
    }

    fn publish(&mut self, now: Instant) {
        let is_due = self.levels_are_urgent || (self.levels.is_some() && now >= self.level_record_due);
        if self.cuts.is_empty() && is_due && self.chunker.is_silent() {
            // A level has changed while the participant hears silence. Send it in a silence record.
            self.cuts.push(Cut::Silence);
            self.chunker.silence_was_sent(now);
        }
        if self.cuts.is_empty() {
            return;
        }
        let mut state = self.ring.lock();
        for cut in self.cuts.drain(..) {
            let levels = self.levels.take();
            self.levels_are_urgent = false;
            self.level_record_due = now + LEVEL_RECORD_INTERVAL;
            let kind = match cut {
                Cut::Sound { samples, gap } => Kind::Sound { samples, gap },
                Cut::Silence => Kind::Silence,
            };
            self.ring.publish(&mut state, kind, levels);
        }
        self.ring.notify(state);
    }

    fn publish_texts(&mut self, now: Instant) {
        if self.readable_texts().is_none() {
            return;
        }
        let texts = self.texts.as_mut().map(|texts| texts.read(now)).unwrap_or_default();
        if texts.is_empty() {
            return;
        }
        let mut state = self.ring.lock();
        for text in texts {
            self.ring.publish(&mut state, Kind::Message(record::encode(&text)), None);
        }
        self.ring.notify(state);
    }

    fn look_at_files(&mut self, now: Instant) {
        if now < self.levels_due {
            return;
        }
        self.levels_due = now + if self.chunker.is_silent() { LEVELS_INTERVAL } else { LEVELS_INTERVAL_IN_SOUND };
        let names_are_due = now >= self.names_due;
        let others_have_changed = (names_are_due || now >= self.others_due) && self.view.look_at_others(names_are_due);
        if now >= self.others_due {
            self.others_due = now + OTHERS_INTERVAL.max(self.view.interval());
        }
        if names_are_due {
            self.names_due = now + NAMES_INTERVAL.max(self.view.interval());
        }
        if names_are_due || others_have_changed {
            self.look_at_names();
        }
        match self.view.look_at_levels() {
            Urgency::None => return,
            Urgency::CanWait => {}
            Urgency::Urgent | Urgency::Everything => self.levels_are_urgent = true,
        }
        let (marks, before) = (self.view.levels.change(), self.view.levels.before());
        self.levels = Some(match self.levels.take() {
            // A mark, which is the new level of one person, has four base64 characters without padding, so two changes can be concatenated.
            Some(earlier) => Change { before: earlier.before, marks: format!("{}{marks}", earlier.marks).into() },
            None => Change { before, marks },
        });
        self.ring.lock().levels = self.view.levels.all();
    }

    fn look_at_names(&mut self) {
        let urgency = self.view.look_at_names();
        if urgency == Urgency::None {
            return;
        }
        let mut state = self.ring.lock();
        state.states = self.view.states.all();
        if urgency == Urgency::Everything {
            state.people = self.view.people();
            state.levels = self.view.levels.all();
            (self.levels, self.levels_are_urgent) = (None, true);
            self.ring.publish(&mut state, Kind::Room, None);
        } else {
            let change = Change { before: self.view.states.before(), marks: self.view.states.change() };
            self.ring.publish(&mut state, Kind::States, Some(change));
        }
        self.ring.notify(state);
    }

    /// Stops reading the ear, because this process is being replaced or is ending. Publishes the incomplete chunk and the waiting messages. The last
    /// record is `removed` if the participant was removed, otherwise `moved`, after which a page uses only the next process. Then closes the ear,
    /// so that a next process can open it.
    fn leave(&mut self, now: Instant) {
        self.chunker.cut(&mut self.cuts);
        self.publish(now);
        self.publish_texts(now);
        if self.source.as_ref().is_some_and(Source::is_requested) {
            let samples = self.ring.lock().newest_samples(self.ring.format.samples_in_ms(LEFT_MS));
            self.ring.handover.leave_sound(samples);
        }
        let mut state = self.ring.lock();
        let is_removed = self.ring.handover.is_removed();
        self.ring.publish(&mut state, if is_removed { Kind::Removed } else { Kind::Moved { last: true } }, None);
        self.source = None;
        (state.running, state.waker) = (false, None);
        self.ring.notify(state);
    }
}

impl Read for Reader {
    fn step(&mut self, until: Instant) -> bool {
        let Some(phase) = self.advance() else { return false };
        let has_texts = self.wait(phase, until);
        let now = Instant::now();
        self.read_source(now);
        self.look_at_files(now);
        self.publish(now);
        if has_texts {
            self.publish_texts(now);
        }
        true
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::handover::Handover;
    use crate::source::Origin;
    use palabre_room::{Format, PipeReader, RoomDir, Start};

    #[test]
    fn pipe_is_closed_before_the_next_stream_can_start_a_reader() {
        let dir = tempfile::tempdir().unwrap();
        let alice = RoomDir::new(dir.path()).participant(&"alice".parse().unwrap());
        alice.create().unwrap();
        let (format, origin) = (Format::default(), Origin::Pipe(alice.clone()));
        let handover = Arc::new(Handover::new(Some(alice.clone()), Instant::now()));
        let ring = Ring::new(format, 40, handover);
        ring.lock().running = true;
        let source = Source::new(&origin, format, 40);
        let mut reader =
            Reader::new(Arc::clone(&ring), RoomView::new(None), source, None, Arc::new(Waker::new().unwrap()));
        let open = || PipeReader::open(&alice.ear(), format, Start::Keep);
        assert!(open().is_err(), "the reader has the lock");
        reader.alone_since = Instant::now().checked_sub(LINGER);
        assert_eq!(reader.advance(), None);
        assert!(!ring.lock().running && open().is_ok());
    }
}
