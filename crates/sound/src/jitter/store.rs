//! The samples that wait in a jitter buffer, and their arrival times.

use std::collections::VecDeque;
use std::time::Duration;

use super::join;
use crate::Sample;

/// Maximum time between arrivals that share a [`Mark`]. This limits the number of marks.
const MARK: Duration = Duration::from_millis(5);

/// Arrival time of a run of samples: from the end of the previous mark to `end`.
#[derive(Clone, Copy, Debug)]
struct Mark {
    /// Arrival of the first sample of this mark.
    at: Duration,
    /// Position after the last sample of this mark, counted from the first sample ever pushed. Samples that were cut out between others don't count.
    end: u64,
}

/// A queue of samples with their arrival times.
#[derive(Clone, Debug)]
pub(super) struct Store<S> {
    rate_hz: u32,
    samples: VecDeque<S>,
    marks: VecDeque<Mark>,
    /// Position of the first waiting sample.
    head: u64,
}

impl<S: Sample> Store<S> {
    pub(super) fn new(rate_hz: u32) -> Self {
        Self { rate_hz, samples: VecDeque::new(), marks: VecDeque::new(), head: 0 }
    }

    pub(super) fn len(&self) -> usize {
        self.samples.len()
    }

    pub(super) fn rate_hz(&self) -> u32 {
        self.rate_hz
    }

    pub(super) fn samples_in(&self, time: Duration) -> usize {
        (time.as_micros() * u128::from(self.rate_hz) / 1_000_000) as usize
    }

    /// Appends samples that arrived at `now`.
    pub(super) fn push(&mut self, now: Duration, samples: &[S]) {
        self.samples.extend(samples);
        let end = self.head + self.samples.len() as u64;
        match self.marks.back_mut() {
            Some(mark) if now.saturating_sub(mark.at) < MARK => mark.end = end,
            _ => self.marks.push_back(Mark { at: now, end }),
        }
    }

    /// Moves waiting samples to the start of `out`. Returns how many samples were moved.
    pub(super) fn take(&mut self, out: &mut [S]) -> usize {
        let n = out.len().min(self.samples.len());
        for (out, sample) in out.iter_mut().zip(self.samples.drain(..n)) {
            *out = sample;
        }
        self.advance(n);
        n
    }

    /// Returns a copy of the first `n` waiting samples, or of all if there are fewer.
    pub(super) fn peek(&self, n: usize) -> Vec<S> {
        self.samples.iter().take(n).copied().collect()
    }

    /// Removes the first `n` samples.
    pub(super) fn cut(&mut self, n: usize) {
        self.samples.drain(..n);
        self.advance(n);
    }

    /// Removes up to `n` of the first `within` samples, with cross-fades, where the level is below `dbfs` for more than twice
    /// `fade` samples. Returns how many were removed.
    pub(super) fn cut_quiet(&mut self, n: usize, within: usize, dbfs: f32, fade: usize) -> usize {
        let (mut at, mut gone) = (0, 0);
        while gone < n {
            let Some((start, len)) = self.quiet_run(at, dbfs, fade) else { break };
            let len = len.min((within - gone).saturating_sub(start));
            if len == 0 {
                break;
            }
            at = start + len;
            if len > 2 * fade {
                let cut = (len - fade).min(n - gone);
                self.cut_at(start, cut, fade);
                (gone, at) = (gone + cut, at - cut);
            }
        }
        gone
    }

    /// Returns how many samples at the start are below `dbfs`, in steps of `step`.
    pub(super) fn quiet_head(&self, dbfs: f32, step: usize) -> usize {
        self.quiet_run(0, dbfs, step).filter(|(start, _)| *start == 0).map_or(0, |(_, len)| len)
    }

    /// Returns how many samples must be removed so that no sample is older than `age` when it is played. The second
    /// value is the number of samples at the start among which they may be chosen.
    pub(super) fn too_old(&self, now: Duration, age: Duration) -> (usize, usize) {
        let excesses = self.marks.iter().map(|mark| (self.excess(mark, now, age), (mark.end - self.head) as usize));
        excesses.max_by_key(|(excess, _)| *excess).unwrap_or((0, 0))
    }

    /// Returns the start and the length of the first run of samples after `from` whose level is below `dbfs`, measured
    /// in steps of `step` samples.
    fn quiet_run(&self, from: usize, dbfs: f32, step: usize) -> Option<(usize, usize)> {
        let quiet = |at: usize| {
            let energy = S::energy(self.samples.range(at..at + step));
            energy == 0.0 || 10.0 * (energy as f32 / step as f32 / 32_768f32.powi(2)).log10() < dbfs
        };
        let mut places = (from..).step_by(step).take_while(|at| at + step <= self.samples.len());
        let start = places.find(|&at| quiet(at))?;
        let end = places.find(|&at| !quiet(at)).unwrap_or_else(|| start + (self.samples.len() - start) / step * step);
        Some((start, end - start))
    }

    /// Removes `n` samples from position `at` on, with a cross-fade of `fade` samples.
    fn cut_at(&mut self, at: usize, n: usize, fade: usize) {
        // A copy, because the two sides of the cross-fade overlap if `n` is less than `fade`.
        let before: Vec<S> = self.samples.range(at..at + fade).copied().collect();
        for (i, &old) in before.iter().enumerate() {
            let new = &mut self.samples[at + n + i];
            *new = S::nearest(old.to_f32() + (new.to_f32() - old.to_f32()) * join::rise(i, fade));
        }
        self.samples.drain(at..at + n);
        if at == 0 {
            return self.advance(n);
        }
        let place = self.head + at as u64;
        for mark in self.marks.iter_mut().filter(|mark| mark.end > place) {
            mark.end -= (mark.end - place).min(n as u64);
        }
    }

    /// Returns how many samples must be removed so that the last sample of `mark` is at most `age` old when it is played.
    fn excess(&self, mark: &Mark, now: Duration, age: Duration) -> usize {
        let before = (mark.end - self.head) as usize;
        let allowed = age.saturating_sub(now.saturating_sub(mark.at));
        before.saturating_sub(self.samples_in(allowed))
    }

    fn advance(&mut self, n: usize) {
        self.head += n as u64;
        while self.marks.front().is_some_and(|mark| mark.end <= self.head) {
            self.marks.pop_front();
        }
    }
}
