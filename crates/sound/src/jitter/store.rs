//! The samples that wait, and since when.

use std::collections::VecDeque;
use std::time::Duration;

use super::join;

/// Arrivals closer than this share a mark, which bounds their number.
const MARK: Duration = Duration::from_millis(5);

/// "All samples before `end` had arrived at `at`."
#[derive(Clone, Copy, Debug)]
struct Mark {
    /// When the first of them arrived.
    at: Duration,
    /// Counted from the first sample ever pushed.
    end: u64,
}

/// A queue of samples with their arrival times.
#[derive(Clone, Debug)]
pub(super) struct Store {
    rate_hz: u32,
    samples: VecDeque<i16>,
    marks: VecDeque<Mark>,
    /// The position of the first sample that waits.
    head: u64,
}

impl Store {
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

    /// Appends what arrived at `now`.
    pub(super) fn push(&mut self, now: Duration, samples: &[i16]) {
        self.samples.extend(samples);
        let end = self.head + self.samples.len() as u64;
        match self.marks.back_mut() {
            Some(mark) if now.saturating_sub(mark.at) < MARK => mark.end = end,
            _ => self.marks.push_back(Mark { at: now, end }),
        }
    }

    /// Moves samples to the start of `out`; gives how many there were.
    pub(super) fn take(&mut self, out: &mut [i16]) -> usize {
        let n = out.len().min(self.samples.len());
        for (out, sample) in out.iter_mut().zip(self.samples.drain(..n)) {
            *out = sample;
        }
        self.advance(n);
        n
    }

    /// The first samples, up to so many; they stay.
    pub(super) fn peek(&self, n: usize) -> Vec<i16> {
        self.samples.iter().take(n).copied().collect()
    }

    /// Removes the first `n` samples.
    pub(super) fn cut(&mut self, n: usize) {
        self.samples.drain(..n);
        self.advance(n);
    }

    /// Removes up to `n` of the first `within` samples where it is below `dbfs` for more than twice `fade`, cross-faded;
    /// gives how many went.
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

    /// How many samples at the beginning are below `dbfs`, in steps of `piece`.
    pub(super) fn quiet_head(&self, dbfs: f32, piece: usize) -> usize {
        self.quiet_run(0, dbfs, piece).filter(|(start, _)| *start == 0).map_or(0, |(_, len)| len)
    }

    /// How many must go now so that none will be older than `age` when its tick comes, and out of how many.
    pub(super) fn too_old(&self, now: Duration, age: Duration) -> (usize, usize) {
        let excesses = self.marks.iter().map(|mark| (self.excess(mark, now, age), (mark.end - self.head) as usize));
        excesses.max_by_key(|(excess, _)| *excess).unwrap_or((0, 0))
    }

    /// The first stretch from `from` on that is below `dbfs`, in whole pieces: where it begins, and how long it is.
    fn quiet_run(&self, from: usize, dbfs: f32, piece: usize) -> Option<(usize, usize)> {
        let quiet = |at: usize| {
            let energy: i64 = self.samples.range(at..at + piece).map(|&x| i64::from(x) * i64::from(x)).sum();
            energy == 0 || 10.0 * (energy as f32 / piece as f32 / 32_768f32.powi(2)).log10() < dbfs
        };
        let mut places = (from..).step_by(piece).take_while(|at| at + piece <= self.samples.len());
        let start = places.find(|&at| quiet(at))?;
        let end = places.find(|&at| !quiet(at)).unwrap_or_else(|| start + (self.samples.len() - start) / piece * piece);
        Some((start, end - start))
    }

    /// Removes `n` samples from `at` on; those before the gap go over into those behind it within `fade`.
    fn cut_at(&mut self, at: usize, n: usize, fade: usize) {
        // A copy: where less is cut than a fade lasts, what is faded from is what is faded to.
        let before: Vec<i16> = self.samples.range(at..at + fade).copied().collect();
        for (i, &old) in before.iter().enumerate() {
            let new = &mut self.samples[at + n + i];
            *new = (f32::from(old) + (f32::from(*new) - f32::from(old)) * join::rise(i, fade)).round() as i16;
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

    /// The last sample of a mark is played after those before it, and may be `age` old then.
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
