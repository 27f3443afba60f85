//! Counts times, for percentiles.

/// Lower bound of the last class, in ms. All longer times are in this class.
const MAX_MS: usize = 20_000;
/// Number of classes per ms.
const PER_MS: usize = 10;

/// Counts how many times fall into each class of 0.1 ms.
#[derive(Debug, Clone)]
pub(crate) struct Histogram {
    classes: Vec<u32>,
    count: u64,
    max_ms: f64,
}

impl Histogram {
    pub(crate) fn new() -> Self {
        Self { classes: Vec::new(), count: 0, max_ms: 0.0 }
    }

    pub(crate) fn add(&mut self, ms: f64) {
        let class = ((ms.max(0.0) * PER_MS as f64) as usize).min(MAX_MS * PER_MS);
        if class >= self.classes.len() {
            self.classes.resize(class + 1, 0);
        }
        self.classes[class] += 1;
        self.count += 1;
        self.max_ms = self.max_ms.max(ms);
    }

    pub(crate) fn count(&self) -> u64 {
        self.count
    }

    pub(crate) fn max_ms(&self) -> f64 {
        self.max_ms
    }

    /// Returns a percentile in ms: `percent` of the times are not longer. The result is rounded up to a class. Returns 0 if there are no times.
    pub(crate) fn percentile_ms(&self, percent: f64) -> f64 {
        let wanted = (self.count as f64 * percent / 100.0).ceil() as u64;
        let mut below = 0;
        for (class, &count) in self.classes.iter().enumerate() {
            below += u64::from(count);
            if below >= wanted.max(1) {
                return if class == MAX_MS * PER_MS {
                    self.max_ms
                } else {
                    ((class + 1) as f64 / PER_MS as f64).min(self.max_ms)
                };
            }
        }
        self.max_ms
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_those_of_the_added_times() {
        let mut histogram = Histogram::new();
        assert_eq!((histogram.percentile_ms(50.0), histogram.max_ms()), (0.0, 0.0));
        (1..=1000).for_each(|ms| histogram.add(f64::from(ms)));
        let shown = [50.0, 95.0, 99.9, 100.0].map(|percent| histogram.percentile_ms(percent));
        assert_eq!(shown, [500.1, 950.1, 999.1, 1000.0]);
        histogram.add(1e9);
        assert_eq!((histogram.percentile_ms(100.0), histogram.count()), (1e9, 1001));
    }
}
