//! The faults of one participant's sound, with their times.

use crate::tones::Fault;

/// Maximum time in ms between two equal faults that are joined into one span.
const JOIN_MS: f64 = 500.0;
/// Maximum number of spans of one participant. Further spans are not kept.
const MAX: usize = 1_000;

/// What was wrong with a participant's sound.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum What {
    /// Records are missing.
    Missing,
    /// Records are missing at an unknown time in the measurement, and the stream announced no gap.
    Unannounced,
    /// A tone was interrupted for about a frame.
    Disturbed,
    /// A mix was wrong.
    Mix(Fault),
}

/// A period in which records had the same fault, with at most [`JOIN_MS`] between two faults.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Span {
    pub(crate) what: What,
    pub(crate) begin_ms: f64,
    pub(crate) end_ms: f64,
    pub(crate) records: u64,
}

/// All spans of one participant, in the order of their beginnings.
#[derive(Debug, Default)]
pub(crate) struct Spans(Vec<Span>);

impl Spans {
    /// Adds `records` records with a fault between two times. Extends the last span of this fault if it is near.
    pub(crate) fn note(&mut self, what: What, begin_ms: f64, end_ms: f64, records: u64) {
        if records == 0 {
            return;
        }
        let last = self.0.iter_mut().rfind(|span| span.what == what);
        if let Some(span) = last.filter(|span| begin_ms <= span.end_ms + JOIN_MS) {
            span.end_ms = span.end_ms.max(end_ms);
            span.records += records;
        } else if self.0.len() < MAX {
            self.0.push(Span { what, begin_ms, end_ms, records });
        }
    }

    pub(crate) fn take(&mut self) -> Vec<Span> {
        std::mem::take(&mut self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_faults_close_to_each_other_are_one_span() {
        let mut spans = Spans::default();
        for (what, at) in [
            (What::Missing, 0.0),
            (What::Missing, 540.0),
            (What::Disturbed, 560.0),
            (What::Missing, 1_000.0),
            (What::Missing, 1_600.0),
        ] {
            spans.note(what, at, at + 40.0, 1);
        }
        spans.note(What::Missing, 9_000.0, 9_000.0, 0);
        let shown: Vec<_> =
            spans.take().into_iter().map(|span| (span.what, span.begin_ms, span.end_ms, span.records)).collect();
        let expected = [
            (What::Missing, 0.0, 1_040.0, 3),
            (What::Disturbed, 560.0, 600.0, 1),
            (What::Missing, 1_600.0, 1_640.0, 1),
        ];
        assert_eq!(shown, expected);
    }
}
