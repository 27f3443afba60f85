//! The reader thread: waits for sound, messages and changes of the room, and publishes them as records.

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

/// Time for which the source stays open after the last stream has ended. A page that renews its stream opens the next one within it.
const LINGER: Duration = Duration::from_secs(2);
/// Interval between checks of the file `levels` while no sound arrives. In this time mostly the participant's own voice changes the file.
const LEVELS_INTERVAL: Duration = Duration::from_millis(200);
/// Interval between checks of the file `levels` while sound arrives, which wakes this thread anyway.
const LEVELS_INTERVAL_IN_SOUND: Duration = Duration::from_millis(40);
/// Minimum interval between silence records that contain only a changed level.
const LEVEL_RECORD_INTERVAL: Duration = Duration::from_millis(500);
/// Interval between checks of the file `names`.
const NAMES_INTERVAL: Duration = Duration::from_secs(1);
/// Interval between checks whether the next process requests the pipe's lock. fcntl(2) has no notification of this.
const REQUEST_INTERVAL: Duration = Duration::from_millis(10);

/// The state of the reader thread.
pub(super) struct Reader<'a> {
    ring: &'a Ring,
    view: RoomView,
    /// `None` after this thread has closed the source.
    source: Option<Source>,
    texts: Option<Texts>,
    chunker: Chunker,
    levels_due: Instant,
    names_due: Instant,
    alone_since: Option<Instant>,
    /// The changes of levels that no record contains yet.
    levels: Option<Change>,
    /// A participant has started or stopped talking, so a record with `levels` must be sent at once.
    levels_are_urgent: bool,
    level_record_due: Instant,
}

impl<'a> Reader<'a> {
    pub(super) fn new(ring: &'a Ring, view: RoomView, source: Source, inbox: Option<Inbox>) -> Self {
        let now = Instant::now();
        let mut chunker = Chunker::new(ring.format, ring.chunk_ms, source.writes(), now);
        match source.is_taking_over() {
            // Send no silence record yet: only the previous process knows whether the room is silent.
            true => chunker.continue_from_previous(now + TAKE_TIMEOUT),
            // The first stream's opening already contains a silence record.
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

    /// Returns the phase of the handover, or closes the source and returns `None` if this thread must end.
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
            // Close the source before unlocking the state. A new stream could start another reader, which would take this reader's lock on
            // the pipe for a handover from the previous process.
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
            // poll(2) failed, for example for lack of memory. Wait, then check the source and the files as usual.
            std::thread::sleep(timeout);
        }
    }

    /// Returns the inbox if its messages may be sent now. While the previous process still has the pipe, messages wait, because a page
    /// drops records that are older than the last record from that process.
    fn readable_texts(&self) -> Option<&Texts> {
        self.texts.as_ref().filter(|_| !self.source.as_ref().is_some_and(Source::is_taking_over))
    }

    fn publish(&mut self, cuts: &mut Vec<Cut>, now: Instant) {
        let is_due = self.levels_are_urgent || (self.levels.is_some() && now >= self.level_record_due);
        if cuts.is_empty() && is_due && self.chunker.is_silent() {
            // The participant's own level has changed while the participant hears silence.
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
            // Each mark is four base64 characters without padding, so two changes can be concatenated.
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

    /// Stops reading the ear, because this process is being replaced. Publishes the incomplete chunk and the waiting messages. The last
    /// record is `removed` if the participant was removed, otherwise `moved`, after which a page uses only the next process. Then closes the ear,
    /// so that the next process can open it.
    fn leave(&mut self, cuts: &mut Vec<Cut>, now: Instant) {
        self.chunker.cut(cuts);
        self.publish(cuts, now);
        self.publish_texts(now);
        let mut state = self.ring.lock();
        let is_removed = self.ring.handover.is_removed();
        self.ring.publish(&mut state, if is_removed { Kind::Removed } else { Kind::Moved { last: true } }, None);
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
        let (format, origin) = (Format::default(), Origin::Pipe(alice.clone()));
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
