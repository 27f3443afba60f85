//! Follows the sound that one participant receives: whether records are missing, and how late they are.
//!
//! All times are ms since the start of the program. The position of a record is the total length of the sound since the last gap, up to the end of
//! this record.

use crate::spans::{Spans, What};

/// Length in ms of a period for [`SmallestDelays`]. The lateness of a record is its delay minus the smallest delay of two periods.
const PERIOD_MS: f64 = 5_000.0;
/// Length in ms of a period before the measurement. While the streams open, the machine can be so busy that the mixer skips ticks. Then all later records
/// have a larger delay than the first ones, which must not count as lateness in the measurement.
const START_PERIOD_MS: f64 = 1_000.0;

/// The time of a measurement. The records of this time are counted.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Window {
    pub(crate) begin_ms: f64,
    pub(crate) end_ms: f64,
}

impl Window {
    fn length_ms(self) -> f64 {
        self.end_ms - self.begin_ms
    }
}

/// The sound of one participant.
#[derive(Debug)]
pub(crate) struct Continuity {
    chunk_ms: f64,
    /// Number of missing records in the window.
    pub(crate) missing: u64,
    /// Number of gaps that the stream announced in the window.
    pub(crate) gaps: u64,
    /// The times of the faults in the window.
    pub(crate) spans: Spans,
    /// SEQ of the last record of sound.
    last_sound: Option<f64>,
    /// SEQ of the last record of any kind.
    last_seq: Option<u64>,
    /// SEQ minus time of arrival, for the record that arrived fastest. Adding it to a time of this program gives a SEQ of the listener's clock.
    offset_ms: f64,
    position_ms: f64,
    delays: SmallestDelays,
    drift: Drift,
}

impl Continuity {
    pub(crate) fn new(chunk_ms: f64) -> Self {
        Self {
            chunk_ms,
            missing: 0,
            gaps: 0,
            spans: Spans::default(),
            last_sound: None,
            last_seq: None,
            offset_ms: f64::NEG_INFINITY,
            position_ms: 0.0,
            delays: SmallestDelays::default(),
            drift: Drift::default(),
        }
    }

    /// Returns the SEQ of the last record.
    pub(crate) fn last_seq(&self) -> Option<u64> {
        self.last_seq
    }

    /// Notes a record. Returns false if another stream has delivered this record before.
    pub(crate) fn seq(&mut self, seq: u64, arrival_ms: f64) -> bool {
        let is_new = self.last_seq.is_none_or(|last| seq > last);
        if is_new {
            self.last_seq = Some(seq);
            self.offset_ms = self.offset_ms.max(seq as f64 - arrival_ms);
        }
        is_new
    }

    /// Notes that the record that was last passed to [`Self::seq`] is a record of sound. Returns the lateness of the record in ms.
    pub(crate) fn sound(&mut self, gap: bool, length_ms: f64, arrival_ms: f64, window: Option<Window>) -> f64 {
        let seq = self.last_seq.unwrap_or(0) as f64;
        if gap && let Some(window) = window {
            let begin = seq - length_ms;
            let lost = self.lost_between(self.last_sound, begin, window);
            // A gap that the record announces counts even if it is shorter than half a record.
            let is_inside = begin > window.begin_ms + self.offset_ms && self.last_sound.is_some();
            self.gaps += u64::from(is_inside);
            let lost = lost.max(u64::from(is_inside));
            self.missing += lost;
            self.note_missing(begin, window, lost);
        }
        if gap || self.last_sound.is_none() {
            self.position_ms = 0.0;
            self.delays = SmallestDelays::default();
            self.drift.restart();
        }
        self.last_sound = Some(seq);
        self.position_ms += length_ms;
        if let Some(window) = window {
            let share = (arrival_ms - window.begin_ms) / window.length_ms();
            self.drift.note(seq - self.position_ms, share);
        }
        let period_ms = if window.is_some() { PERIOD_MS } else { START_PERIOD_MS };
        self.delays.lateness(arrival_ms - self.position_ms, arrival_ms, period_ms)
    }

    /// Returns whether all sound of the window has arrived.
    pub(crate) fn is_complete(&self, window: Window) -> bool {
        self.last_sound.is_some_and(|last| last >= window.end_ms + self.offset_ms)
    }

    /// Counts the records that are missing at the end of the window, and those that are missing without an announced gap.
    pub(crate) fn finish(&mut self, window: Window) {
        if self.last_sound.is_none() && !self.offset_ms.is_finite() {
            let all = (window.length_ms() / self.chunk_ms).round() as u64;
            self.missing += all;
            self.spans.note(What::Missing, window.begin_ms, window.end_ms, all);
            return;
        }
        let end = window.end_ms + self.offset_ms;
        let at_end = self.lost_between(self.last_sound, end - self.chunk_ms, window);
        self.note_missing(end, window, at_end);
        let unannounced = (self.drift.lost_ms().abs() / self.chunk_ms).round() as u64;
        self.spans.note(What::Unannounced, window.begin_ms, window.end_ms, unannounced);
        self.missing += at_end + unannounced;
    }

    /// Notes the time of `records` missing records: from the last record of sound to the SEQ `next`.
    fn note_missing(&mut self, next: f64, window: Window, records: u64) {
        let begin_ms = self.last_sound.map_or(window.begin_ms, |last| last - self.offset_ms).max(window.begin_ms);
        self.spans.note(What::Missing, begin_ms, next - self.offset_ms, records);
    }

    /// Returns how many records fit between two SEQs, counting only those in the window.
    fn lost_between(&self, last: Option<f64>, next: f64, window: Window) -> u64 {
        let (begin, end) = (window.begin_ms + self.offset_ms, window.end_ms + self.offset_ms);
        let from = last.unwrap_or(begin).max(begin);
        ((next.min(end) - from) / self.chunk_ms).round().max(0.0) as u64
    }
}

/// The smallest delay of the previous and of the present period. With [`PERIOD_MS`], this is the smallest delay of the last 5 to 10 s, as the page uses it.
#[derive(Debug, Default)]
struct SmallestDelays {
    /// End of the present period.
    until_ms: f64,
    /// Smallest delays in ms of the previous and of the present period.
    smallest: Option<(f64, f64)>,
}

impl SmallestDelays {
    fn lateness(&mut self, delay_ms: f64, now_ms: f64, period_ms: f64) -> f64 {
        let (previous, present) = self.smallest.unwrap_or((delay_ms, delay_ms));
        let (previous, present) = match now_ms >= self.until_ms {
            true => {
                self.until_ms = now_ms + period_ms;
                (present, delay_ms)
            }
            false => (previous, present.min(delay_ms)),
        };
        self.smallest = Some((previous, present));
        delay_ms - previous.min(present)
    }
}

/// Finds sound that is missing although the stream announced no gap: the SEQs then move away from the positions.
#[derive(Debug, Default)]
struct Drift {
    /// Smallest difference of SEQ and position in the first third of the window, or since the last gap if the gap is later.
    first: Option<f64>,
    /// Smallest difference of SEQ and position in the last third of the window, since the last gap.
    last: Option<f64>,
    /// Length in ms of the sound that was found missing before the last gap.
    lost_ms: f64,
}

impl Drift {
    fn note(&mut self, difference_ms: f64, share: f64) {
        let least = |value: Option<f64>| Some(value.map_or(difference_ms, |value| value.min(difference_ms)));
        if share < 1.0 / 3.0 || self.first.is_none() {
            self.first = least(self.first);
        } else if share > 2.0 / 3.0 {
            self.last = least(self.last);
        }
    }

    fn restart(&mut self) {
        self.lost_ms = self.lost_ms();
        (self.first, self.last) = (None, None);
    }

    fn lost_ms(&self) -> f64 {
        self.lost_ms + self.first.zip(self.last).map_or(0.0, |(first, last)| last - first)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHUNK_MS: f64 = 40.0;
    const WINDOW: Window = Window { begin_ms: 1_000.0, end_ms: 9_000.0 };
    /// In these tests, the listener's clock, which SEQ counts, is ahead of this program's clock by this time.
    const AHEAD_MS: u64 = 5_000_000;

    /// Receives records of 40 ms. Each item of `records` is the number of a record, and whether the record announces a gap. Returns the number of
    /// missing records, the number of gaps and the largest lateness in ms.
    fn received(records: impl Iterator<Item = (u64, bool)>, late_ms: impl Fn(u64) -> f64) -> (u64, u64, f64) {
        let (continuity, largest) = continuity(records, late_ms);
        (continuity.missing, continuity.gaps, largest)
    }

    fn continuity(records: impl Iterator<Item = (u64, bool)>, late_ms: impl Fn(u64) -> f64) -> (Continuity, f64) {
        let mut continuity = Continuity::new(CHUNK_MS);
        let mut largest = 0.0_f64;
        for (number, gap) in records {
            let (end, arrival) = (number * 40, (number * 40) as f64 + 1.0 + late_ms(number));
            let window = (arrival >= WINDOW.begin_ms).then_some(WINDOW);
            if continuity.seq(AHEAD_MS + end, arrival) {
                largest = largest.max(continuity.sound(gap, CHUNK_MS, arrival, window));
            }
        }
        continuity.finish(WINDOW);
        (continuity, largest)
    }

    #[test]
    fn continuous_sound_has_no_missing_record() {
        assert_eq!(received((0..300).map(|n| (n, n == 0)), |_| 0.0), (0, 0, 0.0));
    }

    #[test]
    fn late_records_are_not_missing() {
        let late = |n| if n % 50 == 0 { 30.0 } else { 0.0 };
        assert_eq!(received((0..300).map(|n| (n, n == 0)), late), (0, 0, 30.0));
    }

    #[test]
    fn announced_gap_counts_with_its_length() {
        let records = (0..300).filter(|n| !(100..103).contains(n)).map(|n| (n, n == 0 || n == 103));
        assert_eq!(received(records, |_| 0.0), (3, 1, 0.0));
    }

    #[test]
    fn missing_records_are_reported_with_their_times() {
        // The records 100 to 102 are missing, and the stream ends with the record 200.
        let records = (0..=200).filter(|n| !(100..103).contains(n)).map(|n| (n, n == 0 || n == 103));
        let spans = continuity(records, |_| 0.0).0.spans.take();
        let shown: Vec<_> = spans.iter().map(|span| (span.what, span.begin_ms, span.end_ms, span.records)).collect();
        assert_eq!(shown, [(What::Missing, 3_961.0, 4_081.0, 3), (What::Missing, 8_001.0, 9_000.0, 24)]);
    }

    #[test]
    fn gap_before_the_window_does_not_count() {
        let records = (0..300).filter(|n| !(10..13).contains(n)).map(|n| (n, n == 0 || n == 13));
        assert_eq!(received(records, |_| 0.0), (0, 0, 0.0));
    }

    #[test]
    fn records_that_are_missing_without_an_announcement_are_found() {
        let records = (0..300).filter(|n| !(100..102).contains(n)).map(|n| (n, n == 0));
        assert_eq!(received(records, |_| 0.0).0, 2);
    }

    #[test]
    fn end_of_a_stream_that_stopped_is_missing() {
        assert_eq!(received((0..=200).map(|n| (n, n == 0)), |_| 0.0), (24, 0, 0.0));
        assert_eq!(received((0..5).map(|n| (n, n == 0)), |_| 0.0).0, 199);
        assert_eq!(received(std::iter::empty(), |_| 0.0).0, 200);
    }

    #[test]
    fn records_that_two_streams_deliver_count_once() {
        let records = (0..300).flat_map(|n| [(n, n == 0), (n, n == 0)]);
        assert_eq!(received(records, |_| 0.0), (0, 0, 0.0));
    }

    #[test]
    fn delay_that_grew_before_the_window_is_no_lateness_in_it() {
        let window = Window { begin_ms: 4_000.0, end_ms: 9_000.0 };
        let mut continuity = Continuity::new(CHUNK_MS);
        // From the tenth record on, the delay is 100 ms longer.
        let lateness_ms = (1..200_u64).map(|number| {
            let arrival_ms = (number * 40 + if number < 10 { 0 } else { 100 }) as f64;
            continuity.seq(AHEAD_MS + number * 40, arrival_ms);
            let window = (arrival_ms >= window.begin_ms).then_some(window);
            (window.is_some(), continuity.sound(number == 1, CHUNK_MS, arrival_ms, window))
        });
        let (inside, before): (Vec<_>, Vec<_>) = lateness_ms.partition(|(is_inside, _)| *is_inside);
        let largest_ms = |all: Vec<(bool, f64)>| all.into_iter().map(|(_, late_ms)| late_ms).fold(0.0, f64::max);
        assert_eq!((largest_ms(before), largest_ms(inside)), (100.0, 0.0));
    }
}
