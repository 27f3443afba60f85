//! The samples that wait, and since when.

use std::collections::VecDeque;
use std::time::Duration;

use super::{AGE_MAX, is_quiet};

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

    pub(super) fn samples_in(&self, time: Duration) -> usize {
        (time.as_micros() * u128::from(self.rate_hz) / 1_000_000) as usize
    }

    /// Appends; gives how many old samples had to go so that no more than `AGE_MAX` wait.
    pub(super) fn push(&mut self, now: Duration, samples: &[i16]) -> usize {
        let most = self.samples_in(AGE_MAX);
        let skipped = samples.len().saturating_sub(most);
        let dropped = (self.samples.len() + samples.len() - skipped).saturating_sub(most);
        self.cut(dropped, 0);
        self.samples.extend(&samples[skipped..]);
        let end = self.head + self.samples.len() as u64;
        match self.marks.back_mut() {
            Some(mark) if now.saturating_sub(mark.at) < MARK => mark.end = end,
            _ => self.marks.push_back(Mark { at: now, end }),
        }
        skipped + dropped
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

    /// Removes `n` samples; the `fade` before the gap and the `fade` behind it are cross-faded. Gives how many went.
    pub(super) fn cut(&mut self, n: usize, fade: usize) -> usize {
        let n = n.min(self.samples.len());
        let fade = fade.min(self.samples.len() - n);
        for i in 0..fade {
            let (old, new) = (i32::from(self.samples[i]), i32::from(self.samples[n + i]));
            let mixed = old + (new - old) * (i as i32 + 1) / (fade as i32 + 1);
            self.samples[n + i] = mixed as i16;
        }
        self.samples.drain(..n);
        self.advance(n);
        n
    }

    /// How many must go now so that none will be older than `age` when its tick comes.
    pub(super) fn too_old(&self, now: Duration, age: Duration) -> usize {
        self.marks.iter().map(|mark| self.excess(mark, now, age)).max().unwrap_or(0)
    }

    /// Whether the next `n` samples are there and below `dbfs`.
    pub(super) fn head_is_quiet(&self, n: usize, dbfs: f32) -> bool {
        let head: Vec<i16> = self.samples.iter().take(n).copied().collect();
        head.len() == n && is_quiet(&head, dbfs)
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
