//! The reader thread: waits for sound, texts and changes of the room, and publishes records.

use super::ring::{Change, Kind, Ring};
use super::texts::Texts;
use crate::chunker::{Chunker, Cut, SILENCE_AFTER};
use crate::handover::{Phase, Streams};
use crate::marks::Urgency;
use crate::record;
use crate::room_view::RoomView;
use crate::source::{Source, TAKE_TIMEOUT};
use palabre_host::wait;
use palabre_room::Inbox;
use std::time::{Duration, Instant};

/// Time for which the source stays open after the last stream, for a page that opens its next one.
const LINGER: Duration = Duration::from_secs(2);
/// Interval between two looks at `levels` in silence, in which only the participant's own voice can change them.
const LEVELS_INTERVAL: Duration = Duration::from_millis(200);
/// The same while sound flows, which wakes this thread anyway.
const LEVELS_INTERVAL_IN_SOUND: Duration = Duration::from_millis(40);
/// Minimum interval between silence records that contain only a changed level.
const LEVEL_RECORD_INTERVAL: Duration = Duration::from_millis(500);
/// Interval between two looks at `names`.
const NAMES_INTERVAL: Duration = Duration::from_secs(1);
/// Interval between two looks whether the next process requests the pipe: fcntl(2) has no notification.
const REQUEST_INTERVAL: Duration = Duration::from_millis(10);

/// The reader thread.
pub(super) struct Reader<'a> {
    ring: &'a Ring,
    view: RoomView,
    /// `None` after it was closed.
    source: Option<Source>,
    texts: Option<Texts>,
    chunker: Chunker,
    levels_due: Instant,
    names_due: Instant,
    alone_since: Option<Instant>,
    /// Changed levels that no record contains yet.
    levels: Option<Change>,
    /// Somebody began or ended to talk, so `levels` must not wait for the next record.
    levels_are_urgent: bool,
    level_record_due: Instant,
}

impl<'a> Reader<'a> {
    pub(super) fn new(ring: &'a Ring, view: RoomView, source: Source, inbox: Option<Inbox>) -> Self {
        let now = Instant::now();
        let mut chunker = Chunker::new(ring.format, ring.chunk_ms, now);
        match source.is_taking_over() {
            // The previous process knows whether the room is silent.
            true => chunker.continue_from_previous(now + TAKE_TIMEOUT),
            // The opening of the first stream contains a silence record.
            false => chunker.silence_was_sent(now),
        }
        Self {
            ring,
            view,
            source: Some(source),
            texts: inbox.map(|inbox| Texts::new(inbox, now)),
            chunker,
            levels_due: now + LEVELS_INTERVAL,
            names_due: now + NAMES_INTERVAL,
            alone_since: None,
            levels: None,
            levels_are_urgent: false,
            level_record_due: now,
        }
    }

    pub(super) fn run(mut self) {
        let (mut samples, mut cuts) = (Vec::new(), Vec::new());
        while let Some(phase) = self.advance(&mut cuts) {
            self.wait(phase);
            let now = Instant::now();
            samples.clear();
            if self.source.as_mut().is_some_and(|source| source.read(now, &mut samples)) {
                self.ring.handover.pipe_taken();
                self.chunker.continue_from_previous(now + SILENCE_AFTER);
            }
            self.chunker.feed(now, &samples, &mut cuts);
            self.chunker.tick(now, &mut cuts);
            self.look_at_files(now);
            self.publish(&mut cuts, now);
            self.publish_texts(now);
        }
    }

    /// Returns the phase of the handover if this thread goes on; otherwise it has closed the source.
    fn advance(&mut self, cuts: &mut Vec<Cut>) -> Option<Phase> {
        let now = Instant::now();
        let mut state = self.ring.lock();
        let are_open = !state.streams.is_empty();
        let mut phase = self.ring.handover.phase();
        if phase != Phase::Serving {
            let pipe_is_requested = self.source.as_ref().is_some_and(Source::is_requested);
            phase = self.ring.handover.advance(Streams { are_open, pipe_is_requested }, now);
        }
        if let Phase::Left { .. } = phase {
            drop(state);
            self.leave(cuts, now);
            return None;
        }
        if are_open {
            self.alone_since = None;
        } else if now >= *self.alone_since.get_or_insert(now) + LINGER {
            // Closed before a stream can start the next reader, which would take its lock for the previous process's.
            self.source = None;
            state.running = false;
            return None;
        }
        Some(phase)
    }

    fn wait(&self, phase: Phase) {
        let now = Instant::now();
        let mut until = self.chunker.due().min(self.levels_due);
        if phase != Phase::Serving {
            until = until.min(now + REQUEST_INTERVAL);
        }
        let mut fds = Vec::new();
        if let Some(source) = &self.source {
            until = until.min(source.due());
            fds.extend(source.fd());
        }
        match self.readable_texts().map(|texts| texts.poll(now)) {
            Some(Ok(fd)) => fds.push(fd),
            Some(Err(next)) => until = until.min(next),
            None => {}
        }
        let timeout = until.saturating_duration_since(now);
        if wait::readable(&fds, Some(timeout)).is_err() {
            // No memory, for example. Sound and files are looked at anyway.
            std::thread::sleep(timeout);
        }
    }

    /// Texts wait while the previous process still serves: a page drops records that are older than the last that it has heard.
    fn readable_texts(&self) -> Option<&Texts> {
        self.texts.as_ref().filter(|_| !self.source.as_ref().is_some_and(Source::is_taking_over))
    }

    fn publish(&mut self, cuts: &mut Vec<Cut>, now: Instant) {
        let is_due = self.levels_are_urgent || (self.levels.is_some() && now >= self.level_record_due);
        if cuts.is_empty() && is_due && self.chunker.is_silent() {
            // The participant's own voice: its level has changed, though there is nothing to hear.
            cuts.push(Cut::Silence);
            self.chunker.silence_was_sent(now);
        }
        if cuts.is_empty() {
            return;
        }
        let mut state = self.ring.lock();
        for cut in cuts.drain(..) {
            let levels = self.levels.take();
            self.levels_are_urgent = false;
            self.level_record_due = now + LEVEL_RECORD_INTERVAL;
            let kind = match cut {
                Cut::Sound { samples, gap } => Kind::Sound { samples, gap },
                Cut::Silence => Kind::Silence,
            };
            self.ring.publish(&mut state, kind, levels);
        }
        drop(state);
        self.ring.published.notify_all();
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
        drop(state);
        self.ring.published.notify_all();
    }

    fn look_at_files(&mut self, now: Instant) {
        if now < self.levels_due {
            return;
        }
        self.levels_due = now + if self.chunker.is_silent() { LEVELS_INTERVAL } else { LEVELS_INTERVAL_IN_SOUND };
        if now >= self.names_due {
            self.names_due = now + NAMES_INTERVAL;
            self.look_at_names();
        }
        match self.view.look_at_levels() {
            Urgency::None => return,
            Urgency::CanWait => {}
            Urgency::Urgent | Urgency::Everything => self.levels_are_urgent = true,
        }
        let (marks, before) = (self.view.levels.change(), self.view.levels.before());
        self.levels = Some(match self.levels.take() {
            // A mark is four letters without padding, so two changes can be joined.
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
        drop(state);
        self.ring.published.notify_all();
    }

    /// Publishes the incomplete chunk and `moved`. Then closes the source, for which the next process waits.
    fn leave(&mut self, cuts: &mut Vec<Cut>, now: Instant) {
        self.chunker.cut(cuts);
        self.publish(cuts, now);
        self.publish_texts(now);
        let mut state = self.ring.lock();
        self.ring.publish(&mut state, Kind::Moved { last: true }, None);
        self.source = None;
        state.running = false;
        drop(state);
        self.ring.published.notify_all();
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::handover::Handover;
    use crate::source::Origin;
    use palabre_room::{Format, PipeReader, RoomDir, Start};
    use std::sync::Arc;

    #[test]
    fn pipe_is_closed_before_the_next_stream_can_start_a_reader() {
        let dir = tempfile::tempdir().unwrap();
        let alice = RoomDir::new(dir.path()).participant(&"alice".parse().unwrap());
        alice.create().unwrap();
        let (format, origin) = (Format::default(), Origin::Pipe(alice.ear()));
        let handover = Arc::new(Handover::new(Some(alice.clone()), Instant::now()));
        let ring = Ring::new(format, 40, handover);
        ring.lock().running = true;
        let mut reader = Reader::new(&ring, RoomView::new(None), Source::new(&origin, format, 40), None);
        let open = || PipeReader::open(&alice.ear(), format, Start::Keep);
        assert!(open().is_err(), "the reader has the lock");
        reader.alone_since = Instant::now().checked_sub(LINGER);
        assert_eq!(reader.advance(&mut Vec::new()), None);
        assert!(!ring.lock().running && open().is_ok());
    }
}
