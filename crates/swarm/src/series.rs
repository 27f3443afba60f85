//! The figures of a measurement, for each interval of 10 s.

use crate::histogram::Histogram;

/// Length of an interval in ms.
const INTERVAL_MS: f64 = 10_000.0;

/// The figures of one interval.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Interval {
    /// Time in ms from the beginning of the measurement to the end of the interval.
    pub(crate) until_ms: f64,
    /// Number of records of sound of all participants.
    pub(crate) records: u64,
    pub(crate) missing: u64,
    pub(crate) wrong: u64,
    /// Median, 99th percentile and maximum of the records' lateness.
    pub(crate) lateness_ms: [f64; 3],
    /// Median of all talkers' delays in the interval; `None` if none was measured.
    pub(crate) delay_ms: Option<f64>,
}

/// Collects the figures of the present interval, and keeps those of the previous intervals.
#[derive(Debug)]
pub(crate) struct Series {
    lateness: Histogram,
    delays: Histogram,
    /// Numbers of missing records and wrong mixes from the beginning of the measurement to the end of the last interval.
    before: (u64, u64),
    intervals: Vec<Interval>,
}

impl Series {
    pub(crate) fn new() -> Self {
        Self { lateness: Histogram::new(), delays: Histogram::new(), before: (0, 0), intervals: Vec::new() }
    }

    pub(crate) fn lateness(&mut self, ms: f64) {
        self.lateness.add(ms);
    }

    pub(crate) fn delay(&mut self, ms: f64) {
        self.delays.add(ms);
    }

    /// Returns whether the present interval has its full length at `until_ms`, in ms from the beginning of the measurement.
    pub(crate) fn is_due(&self, until_ms: f64) -> bool {
        until_ms >= self.intervals.last().map_or(0.0, |last| last.until_ms) + INTERVAL_MS
    }

    /// Ends the present interval. `missing` and `wrong` count from the beginning of the measurement.
    pub(crate) fn end(&mut self, until_ms: f64, missing: u64, wrong: u64) {
        let at = |percent| self.lateness.percentile_ms(percent);
        self.intervals.push(Interval {
            until_ms,
            records: self.lateness.count(),
            missing: missing.saturating_sub(self.before.0),
            wrong: wrong.saturating_sub(self.before.1),
            lateness_ms: [at(50.0), at(99.0), self.lateness.max_ms()],
            delay_ms: (self.delays.count() > 0).then(|| self.delays.percentile_ms(50.0)),
        });
        self.before = (missing, wrong);
        (self.lateness, self.delays) = (Histogram::new(), Histogram::new());
    }

    pub(crate) fn take(&mut self) -> Vec<Interval> {
        std::mem::take(&mut self.intervals)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn each_interval_has_the_figures_of_its_own_time() {
        let mut series = Series::new();
        series.lateness(5.0);
        series.lateness(7.0);
        series.delay(90.0);
        assert_eq!([9_999.0, 10_000.0].map(|ms| series.is_due(ms)), [false, true]);
        series.end(10_500.0, 3, 1);
        assert_eq!([20_000.0, 20_500.0].map(|ms| series.is_due(ms)), [false, true]);
        series.end(20_500.0, 4, 1);
        let intervals = series.take();
        let shown: Vec<_> = intervals.iter().map(|one| (one.records, one.missing, one.wrong)).collect();
        assert_eq!(shown, [(2, 3, 1), (0, 1, 0)]);
        assert_eq!((intervals[0].lateness_ms[2], intervals[0].delay_ms), (7.0, Some(90.0)));
        assert_eq!(intervals[1].delay_ms, None);
    }
}
