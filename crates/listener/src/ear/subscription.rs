//! A stream's place in the ring of an [`Ear`].

use super::told::Opening;
use super::{Ear, Kind, Record, State};
use crate::traffic;
use std::sync::{Arc, PoisonError};
use std::time::Instant;

/// A stream's place in the ring. Dropping it ends the subscription.
#[derive(Debug)]
pub struct Subscription {
    ear: Arc<Ear>,
    id: u64,
    opening: Option<Opening>,
    at: u64,
    /// The first record doesn't follow on what the page has heard.
    begins_with_gap: bool,
    /// Said before anything else.
    first: Option<Arc<Record>>,
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
    /// Begins after `from`, as far back as the ring has sound that is not older than `oldest_ms`; else now.
    pub(super) fn begin(ear: Arc<Ear>, id: u64, state: &mut State, from: Option<u64>, oldest_ms: u64) -> Self {
        let first = state.next - state.ring.len() as u64;
        let (sound, begins_with_gap) = from.map_or((None, true), |from| find(state, from, oldest_ms));
        let kept = from.and_then(|from| message(state, from, oldest_ms)).into_iter().chain(sound).min();
        let opening = match kept {
            Some(index) => Opening::before(state, state.ring[index].seq),
            None => Opening::now(state),
        };
        let at = kept.map_or(state.next, |index| first + index as u64);
        Self { ear, id, opening: Some(opening), at, begins_with_gap, first: None }
    }

    /// This process is leaving: the page has come to the wrong one, on a connection that the browser had kept.
    pub(super) fn send_away(&mut self, state: &mut State) {
        let seq = state.seq();
        let (kind, bytes) = (Kind::Moved { last: true }, crate::record::moved(seq, true));
        let [people, states, levels] = [&state.people, &state.states, &state.levels].map(Arc::clone);
        self.first = Some(Arc::new(Record { seq, kind, bytes, people, states, levels, change: None }));
    }

    /// What the stream begins with; the second time nothing.
    pub fn opening(&mut self) -> Option<Opening> {
        self.opening.take()
    }

    /// Waits for the next record, at most until `until`.
    pub fn next(&mut self, until: Instant) -> Next {
        if let Some(record) = self.first.take() {
            return Next::Record(record, false);
        }
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
            let newest = state.next.saturating_sub(1);
            traffic::skipped((newest - self.at) * self.ear.chunk_frames());
            self.at = newest;
        }
        let index = usize::try_from(self.at.checked_sub(first)?).ok()?;
        let record = Arc::clone(state.ring.get(index)?);
        self.at += 1;
        let is_sound = matches!(record.kind, Kind::Sound { .. });
        let skipped = skipped || (is_sound && std::mem::take(&mut self.begins_with_gap));
        Some(Next::Record(record, skipped))
    }
}

/// The place in the ring of the first sound after `from`, and whether something is missing between.
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

/// The place in the ring of the first message after `from`: a page that renews its stream misses none.
fn message(state: &State, from: u64, oldest_ms: u64) -> Option<usize> {
    let is_after = |record: &Arc<Record>| record.seq > from && record.seq >= oldest_ms;
    state.ring.iter().position(|record| is_after(record) && matches!(record.kind, Kind::Message(_)))
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.ear.lock().streams.retain(|(id, _)| *id != self.id);
        self.ear.news.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::Origin;
    use palabre_room::Format;

    /// A ring that has held sounds of these numbers, of which the first `gone` have left it.
    fn state(seqs: &[u64], gone: usize) -> State {
        let mut state = State { last_seq: seqs.last().copied().unwrap_or_default(), ..State::default() };
        for &seq in seqs {
            let kind = Kind::Sound { samples: vec![0; 960], gap: false };
            state.ring.push_back(Arc::new(Record { seq, kind, ..Record::default() }));
            state.next += 1;
        }
        (0..gone).for_each(|_| assert!(state.drop_oldest()));
        state
    }

    fn begin(state: &mut State, from: Option<u64>, oldest_ms: u64) -> Subscription {
        let ear = Ear::new(Origin::Pipe("/nonexistent".into()), None, Format::default(), 40, 8);
        Subscription::begin(ear, 0, state, from, oldest_ms)
    }

    /// Number of the first record, whether it has a gap before it.
    fn first(state: &mut State, from: Option<u64>, oldest_ms: u64) -> Option<(u64, bool)> {
        match begin(state, from, oldest_ms).take(state) {
            Some(Next::Record(record, skipped)) => Some((record.seq, skipped)),
            _ => None,
        }
    }

    #[test]
    fn a_stream_goes_on_after_what_its_page_has_heard() {
        let mut state = state(&[100, 140, 180, 220], 1);
        assert_eq!(first(&mut state, Some(140), 0), Some((180, false)));
        assert_eq!(first(&mut state, Some(150), 0), Some((180, false)));
        assert_eq!(first(&mut state, Some(100), 0), Some((140, false)));
    }

    #[test]
    fn what_has_left_the_ring_or_is_too_old_is_a_gap() {
        let mut state = state(&[100, 140, 180, 220], 1);
        assert_eq!(first(&mut state, Some(99), 0), Some((140, true)));
        assert_eq!(first(&mut state, Some(100), 150), Some((180, true)));
        assert_eq!(first(&mut state, Some(180), 300), None);
        assert!(begin(&mut state, Some(180), 300).begins_with_gap);
    }

    #[test]
    fn who_has_heard_all_goes_on_without_a_gap_and_who_has_heard_nothing_begins_with_one() {
        let mut state = state(&[100, 140, 180, 220], 0);
        assert!(!begin(&mut state, Some(220), 0).begins_with_gap);
        assert!(begin(&mut state, None, 0).begins_with_gap);
        assert!(begin(&mut state, Some(u64::MAX), 0).begins_with_gap);
    }

    #[test]
    fn whoever_comes_to_a_process_that_leaves_is_sent_on() {
        let mut state = state(&[100, 140], 0);
        let mut subscription = begin(&mut state, Some(100), 0);
        subscription.send_away(&mut state);
        let Next::Record(record, false) = subscription.next(Instant::now()) else { panic!("nothing was said") };
        assert!(matches!(record.kind, Kind::Moved { last: true }));
    }

    #[test]
    fn a_message_that_came_while_a_page_renewed_its_stream_is_not_missed() {
        let mut state = state(&[100, 140, 180, 220], 0);
        let kind = Kind::Message("eA==".into());
        state.ring.insert(2, Arc::new(Record { seq: 150, kind, ..Record::default() }));
        state.next += 1;
        assert_eq!(first(&mut state, Some(140), 0), Some((150, false)));
        assert_eq!(first(&mut state, Some(140), 160), Some((180, false)));
        assert_eq!(first(&mut state, Some(150), 0), Some((180, false)));
    }

    #[test]
    fn a_stream_that_is_behind_skips_to_the_newest() {
        let mut state = state(&[100, 140, 180, 220], 0);
        let mut subscription = begin(&mut state, Some(100), 0);
        (0..3).for_each(|_| assert!(state.drop_oldest()));
        assert!(matches!(subscription.take(&state), Some(Next::Record(record, true)) if record.seq == 220));
        assert!(subscription.take(&state).is_none());
    }
}
