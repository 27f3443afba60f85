//! The position of one stream in the ring.

use super::delivered::{Encoding, Opening};
use super::ring::{Kind, Read, Record, Ring, State};
use crate::traffic;
use std::sync::Arc;
use std::time::Instant;

/// The position of one stream in the ring. Dropping it ends the subscription.
#[derive(Debug)]
pub(crate) struct Subscription {
    ring: Arc<Ring>,
    /// ID of the stream in the list of open streams; `None` for a stream that only tells the page to connect to the next process.
    id: Option<u64>,
    opening: Option<Opening>,
    encoding: Encoding,
    /// Index of the next record for this stream.
    at: u64,
    /// Number of 20 ms frames before this stream's next record, as [`Record::frames_before`].
    frames: u64,
    /// The stream has missed records since the last call of [`Self::was_behind`]. Some of these records may be messages.
    was_behind: bool,
    /// The first chunk doesn't continue the last chunk that the page received, so its record needs GAP 1.
    begins_with_gap: bool,
    /// A record to send before the records from the ring.
    first: Option<Arc<Record>>,
    /// The reader of the source, if this stream's thread reads the source while it waits for a record.
    reader: Option<Box<dyn Read>>,
}

/// The result of waiting for a stream's next record.
#[derive(Debug)]
pub(crate) enum Next {
    /// A record. The flag says whether the stream has missed records before this record.
    Record(Arc<Record>, bool),
    /// No record was published in the given time.
    Nothing,
    /// This stream must end, because too many newer streams were opened.
    Ended,
}

impl Subscription {
    /// Creates the subscription of a stream. The stream continues after the SEQ `from` if the ring has sound or messages after it whose SEQ
    /// is at least `oldest_ms`. Otherwise the stream starts with the next record.
    pub(super) fn new(ring: Arc<Ring>, id: u64, state: &mut State, from: Option<u64>, oldest_ms: u64) -> Self {
        let first = state.next - state.ring.len() as u64;
        let (sound, begins_with_gap) = from.map_or((None, true), |from| find(state, from, oldest_ms));
        let kept = from.and_then(|from| message(state, from, oldest_ms)).into_iter().chain(sound).min();
        let opening = match kept {
            Some(index) => Opening::before(state, state.ring[index].seq),
            None => Opening::now(state),
        };
        let at = kept.map_or(state.next, |index| first + index as u64);
        let frames = kept.map_or(state.frames, |index| state.ring[index].frames_before);
        if kept.is_some() && state.is_microphone_free {
            // The page may have missed the record that said that the microphone is free.
            ring.publish(state, Kind::Microphone { is_used: false }, None);
        }
        let (id, opening, was_behind, first, reader) = (Some(id), Some(opening), false, None, None);
        let encoding = Encoding::Pcm;
        Self { ring, id, opening, encoding, at, frames, was_behind, begins_with_gap, first, reader }
    }

    /// Creates the subscription of a stream that gets only its opening and the last `moved` record.
    pub(super) fn sent_away(ring: Arc<Ring>, state: &mut State) -> Self {
        let opening = Opening::now(state);
        let seq = state.seq();
        let kind = Kind::Moved { last: true };
        let [people, states, levels] = [&state.people, &state.states, &state.levels].map(Arc::clone);
        let (at, frames) = (state.next, state.frames);
        let record = Record { seq, kind, frames_before: frames, people, states, levels, ..Record::default() };
        let first = Some(Arc::new(record));
        let (opening, was_behind, begins_with_gap) = (Some(opening), false, true);
        let encoding = Encoding::Pcm;
        Self { ring, id: None, opening, encoding, at, frames, was_behind, begins_with_gap, first, reader: None }
    }

    /// Sets the encoding of the stream's sound, which is PCM otherwise.
    pub(super) fn encode_by(&mut self, encoding: Encoding) {
        self.encoding = encoding;
    }

    /// Returns the index in the ring of the stream's first record.
    pub(super) fn start(&self) -> u64 {
        self.at
    }

    /// Returns the encoding of the stream's sound, on the first call.
    pub(crate) fn encoding(&mut self) -> Encoding {
        std::mem::take(&mut self.encoding)
    }

    /// Returns the first records of the stream on the first call, then `None`. If no other thread reads the source, this stream's thread reads it
    /// from now on.
    pub(crate) fn opening(&mut self) -> Option<Opening> {
        if self.id.is_some() && self.reader.is_none() {
            self.reader = self.ring.lock().reader.take();
        }
        self.opening.take()
    }

    /// Returns whether the stream has missed records since the last call.
    pub(crate) fn was_behind(&mut self) -> bool {
        std::mem::take(&mut self.was_behind)
    }

    /// Waits for this stream's next record. Returns [`Next::Nothing`] if there is none at the time `until`.
    pub(crate) fn next(&mut self, until: Instant) -> Next {
        if let Some(record) = self.first.take() {
            return Next::Record(record, false);
        }
        let ring = Arc::clone(&self.ring);
        let mut state = ring.lock();
        loop {
            self.reader = self.reader.take().or_else(|| state.reader.take());
            if !state.streams.iter().any(|stream| Some(stream.id) == self.id) {
                return Next::Ended;
            }
            if let Some((record, has_missed, frames)) = self.take(&state) {
                traffic::skipped(frames);
                return Next::Record(record, has_missed);
            }
            let Some(left) = until.checked_duration_since(Instant::now()).filter(|left| !left.is_zero()) else {
                return Next::Nothing;
            };
            state = match self.reader.take() {
                None => ring.wait(state, left),
                Some(mut reader) => {
                    drop(state);
                    self.reader = reader.step(until).then_some(reader);
                    ring.lock()
                }
            };
        }
    }

    /// Returns whether this stream's thread reads the source. That thread must not block for long in a write.
    pub(crate) fn is_reading(&self) -> bool {
        self.reader.is_some()
    }

    /// Lets another thread read the source, because this stream's thread blocks in a write. Returns whether this stream's thread was the reader.
    pub(crate) fn stop_reading(&mut self) -> bool {
        let Some(reader) = self.reader.take() else { return false };
        self.ring.hand_on(self.ring.lock(), reader);
        true
    }

    /// Returns this stream's next record, whether the stream missed records before this record, and the number of frames in the missed
    /// records.
    fn take(&mut self, state: &State) -> Option<(Arc<Record>, bool, u64)> {
        let first = state.next - state.ring.len() as u64;
        let is_behind = self.at < first;
        if is_behind {
            // Continue with the newest record: it may be the last `moved`, which the stream must not miss.
            self.at = state.next.saturating_sub(1);
            self.was_behind = true;
        }
        let index = usize::try_from(self.at.checked_sub(first)?).ok()?;
        let record = Arc::clone(state.ring.get(index)?);
        let skipped = record.frames_before.saturating_sub(self.frames);
        self.at += 1;
        self.frames = state.ring.get(index + 1).map_or(state.frames, |next| next.frames_before);
        let is_sound = matches!(record.kind, Kind::Sound { .. });
        let has_missed = is_behind || (is_sound && std::mem::take(&mut self.begins_with_gap));
        Some((record, has_missed, skipped))
    }
}

/// Returns the index in the ring of the first sound record after the SEQ `from`, and whether sound between `from` and this record is
/// missing.
fn find(state: &State, from: u64, oldest_ms: u64) -> (Option<usize>, bool) {
    let is_after = |record: &Arc<Record>| record.seq > from && matches!(record.kind, Kind::Sound { .. });
    let index = state.ring.iter().position(|record| is_after(record) && record.seq >= oldest_ms);
    let is_sound = |record: &&Arc<Record>| matches!(record.kind, Kind::Sound { .. });
    let before = match index {
        Some(index) => state.ring.range(..index).rfind(is_sound),
        None => state.ring.iter().rfind(|record| is_after(record)),
    };
    let before = before.map_or(state.gone_seq, |record| record.seq);
    (index, !(before..=state.last_seq).contains(&from))
}

/// Returns the index in the ring of the first message after the SEQ `from`, so that a page that renews its stream misses no messages.
fn message(state: &State, from: u64, oldest_ms: u64) -> Option<usize> {
    let is_after = |record: &Arc<Record>| record.seq > from && record.seq >= oldest_ms;
    state.ring.iter().position(|record| is_after(record) && matches!(record.kind, Kind::Message(_)))
}

impl Drop for Subscription {
    fn drop(&mut self) {
        let mut state = self.ring.lock();
        if let Some(id) = self.id {
            self.ring.remove(&mut state, id);
        }
        match self.reader.take().or_else(|| state.reader.take()) {
            Some(reader) => self.ring.hand_on(state, reader),
            None => self.ring.notify_all(state),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::handover::Handover;
    use palabre_room::Format;

    /// Returns the state of a ring in which sound records with these SEQ were published, and which the first `gone` of them have left.
    fn state(seqs: &[u64], gone: usize) -> State {
        let mut state = State { last_seq: seqs.last().copied().unwrap_or_default(), ..State::default() };
        for &seq in seqs {
            let kind = Kind::Sound { samples: vec![0; 960], gap: false };
            let frames_before = state.frames;
            state.ring.push_back(Arc::new(Record { seq, kind, frames_before, ..Record::default() }));
            (state.next, state.frames) = (state.next + 1, state.frames + 2);
        }
        (0..gone).for_each(|_| assert!(state.drop_oldest()));
        state
    }

    fn ring() -> Arc<Ring> {
        Ring::new(Format::default(), 40, Arc::new(Handover::new(None, Instant::now())))
    }

    fn begin(state: &mut State, from: Option<u64>, oldest_ms: u64) -> Subscription {
        Subscription::new(ring(), 0, state, from, oldest_ms)
    }

    /// Opens a stream with the arguments of [`Subscription::new`]. Returns the SEQ of its first record, and whether sound before this record
    /// is missing. Returns `None` if the ring has no record for the stream yet.
    fn first(state: &mut State, from: Option<u64>, oldest_ms: u64) -> Option<(u64, bool)> {
        begin(state, from, oldest_ms).take(state).map(|(record, has_missed, _)| (record.seq, has_missed))
    }

    #[test]
    fn stream_resumes_after_last_heard_seq() {
        let mut state = state(&[100, 140, 180, 220], 1);
        assert_eq!(first(&mut state, Some(140), 0), Some((180, false)));
        assert_eq!(first(&mut state, Some(150), 0), Some((180, false)));
        assert_eq!(first(&mut state, Some(100), 0), Some((140, false)));
    }

    #[test]
    fn sound_that_left_the_ring_or_is_too_old_is_a_gap() {
        let mut state = state(&[100, 140, 180, 220], 1);
        assert_eq!(first(&mut state, Some(99), 0), Some((140, true)));
        assert_eq!(first(&mut state, Some(100), 150), Some((180, true)));
        assert_eq!(first(&mut state, Some(180), 300), None);
        assert!(begin(&mut state, Some(180), 300).begins_with_gap);
    }

    #[test]
    fn only_a_page_that_heard_the_newest_sound_begins_without_a_gap() {
        let mut state = state(&[100, 140, 180, 220], 0);
        assert!(!begin(&mut state, Some(220), 0).begins_with_gap);
        assert!(begin(&mut state, None, 0).begins_with_gap);
        assert!(begin(&mut state, Some(u64::MAX), 0).begins_with_gap);
    }

    #[test]
    fn stream_that_resumes_learns_that_the_microphone_is_free() {
        let mut state = state(&[100, 140], 0);
        state.is_microphone_free = true;
        let mut resumed = begin(&mut state, Some(100), 0);
        assert_eq!(resumed.take(&state).map(|(record, ..)| record.seq), Some(140));
        let (record, ..) = resumed.take(&state).unwrap();
        assert!(matches!(record.kind, Kind::Microphone { is_used: false }), "{record:?}");
    }

    #[test]
    fn stream_that_is_sent_away_gets_moved_and_ends() {
        let mut subscription = Subscription::sent_away(ring(), &mut state(&[100, 140], 0));
        let Next::Record(record, false) = subscription.next(Instant::now()) else { panic!("no record") };
        assert!(subscription.opening().is_some() && matches!(record.kind, Kind::Moved { last: true }));
        assert!(matches!(subscription.next(Instant::now()), Next::Ended));
    }

    #[test]
    fn text_that_came_while_a_page_renewed_its_stream_is_delivered() {
        let mut state = state(&[100, 140, 180, 220], 0);
        let kind = Kind::Message("eA==".into());
        state.ring.insert(2, Arc::new(Record { seq: 150, kind, frames_before: 4, ..Record::default() }));
        state.next += 1;
        assert_eq!(first(&mut state, Some(140), 0), Some((150, false)));
        assert_eq!(first(&mut state, Some(140), 160), Some((180, false)));
        assert_eq!(first(&mut state, Some(150), 0), Some((180, false)));
    }

    #[test]
    fn stream_that_is_behind_continues_with_the_newest_record() {
        let mut state = state(&[100, 140, 180, 220], 0);
        let mut subscription = begin(&mut state, Some(100), 0);
        (0..3).for_each(|_| assert!(state.drop_oldest()));
        assert!(matches!(subscription.take(&state), Some((record, true, 4)) if record.seq == 220));
        assert!(subscription.take(&state).is_none());
    }
    #[test]
    fn only_frames_of_sound_count_as_skipped() {
        let mut state = state(&[100, 140, 180], 0);
        let mut subscription = begin(&mut state, Some(100), 0);
        for seq in [190, 200, 210] {
            state.ring.push_back(Arc::new(Record { seq, kind: Kind::States, frames_before: 6, ..Record::default() }));
            state.next += 1;
        }
        (0..4).for_each(|_| assert!(state.drop_oldest()));
        let (record, has_missed, frames) = subscription.take(&state).unwrap();
        assert_eq!((record.seq, has_missed, frames), (210, true, 4), "the sounds 140 and 180 have two frames each");
    }
}
