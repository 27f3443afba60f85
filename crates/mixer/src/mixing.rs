//! The mixes of one room in one tick: one sum of all talkers, and the listeners' mixes, which may differ from that sum. Each mix has a limiter.
//!
//! Listeners whose mixes differ from the sum in the same way share a mix and its limiter. The loudness that a listener hears must not jump: a listener
//! who starts to talk takes a copy of the limiter's state into a new mix. A listener who stops talking rejoins the shared mix when
//! both limiters hold the same sound at the same gain.

use std::collections::HashMap;

use palabre_sound::limit::Limiter;
use palabre_sound::mix::{self, Factor, Sum};

/// The factors by which a mix multiplies the sound of one talker, before a frame and at its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Fade {
    pub(crate) from: Factor,
    pub(crate) to: Factor,
}

impl Fade {
    /// The mix leaves the talker out.
    pub(crate) const LEFT_OUT: Self = Self { from: Factor::ZERO, to: Factor::ZERO };
}

/// How a mix differs from the sum of all talkers.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Difference {
    None,
    /// The mix leaves out the participant with this number.
    Without(u32),
    /// The mix contains these talkers with these factors, and all other talkers unchanged. The list has at least one pair of participant
    /// number and factors. It is sorted by number, and has no duplicates.
    Factors(Vec<(u32, Fade)>),
}

impl Difference {
    /// Makes the difference from pairs of participant number and factors, without duplicates.
    pub(crate) fn new(mut factors: Vec<(u32, Fade)>) -> Self {
        factors.sort_unstable_by_key(|(number, _)| *number);
        match factors[..] {
            [] => Self::None,
            [(number, Fade::LEFT_OUT)] => Self::Without(number),
            _ => Self::Factors(factors),
        }
    }
}

/// A mix for one or more listeners.
#[derive(Debug)]
struct Mix {
    difference: Difference,
    limiter: Limiter,
    frame: Vec<i16>,
    /// Number of the last tick in which this mix had a listener.
    tick: u64,
}

/// The mixes of a room. The memory of a mix without listeners is reused for the next new mix.
#[derive(Debug)]
pub(crate) struct Mixing {
    sum: Sum,
    exact: Vec<i32>,
    mixes: Vec<Mix>,
    free: Vec<usize>,
    /// Index in `mixes` by listener: `assigned` for this tick, `previous` for the previous tick.
    assigned: HashMap<u32, usize>,
    previous: HashMap<u32, usize>,
    newcomers: Vec<(u32, Difference)>,
    /// The mixes that were split from another mix in this tick. The key is the index of the other mix and the new mix's difference; the value is the
    /// index of the new mix.
    splits: HashMap<(usize, Difference), usize>,
    tick: u64,
    rate_hz: u32,
}

impl Mixing {
    pub(crate) fn new(rate_hz: u32) -> Self {
        let frame_samples = rate_hz as usize / 50;
        Self {
            sum: Sum::new(frame_samples),
            exact: vec![0; frame_samples],
            mixes: Vec::new(),
            free: Vec::new(),
            assigned: HashMap::new(),
            previous: HashMap::new(),
            newcomers: Vec::new(),
            splits: HashMap::new(),
            tick: 0,
            rate_hz,
        }
    }

    /// Removes all frames that were added in the previous tick.
    pub(crate) fn clear(&mut self) {
        self.sum.clear();
    }

    /// Adds a talker's frame to the sum of this tick.
    pub(crate) fn add(&mut self, contribution: &[i16]) {
        self.sum.add(contribution);
    }

    /// Adds the sum of another machine's talkers to the sum of this tick.
    pub(crate) fn add_sum(&mut self, contribution: &[i32]) {
        self.sum.add_sum(contribution);
    }

    /// Returns the exact sum of the frames that were added in this tick; `None` if none was added.
    pub(crate) fn sum(&self) -> Option<&[i32]> {
        (self.sum.contributions() > 0).then(|| self.sum.total())
    }

    /// Returns whether the mix is silent: no frame was added in this tick, and no limiter delays sound.
    pub(crate) fn is_silent(&self) -> bool {
        self.sum.contributions() == 0 && !self.has_tail()
    }

    /// Returns whether a limiter still delays sound, so that one more tick is needed to output it.
    pub(crate) fn has_tail(&self) -> bool {
        self.assigned.values().any(|&at| !self.mixes[at].limiter.is_silent())
    }

    /// Advances all limiters by `frames` frames of silence.
    pub(crate) fn rest(&mut self, frames: u64) {
        self.assigned.values().for_each(|&at| self.mixes[at].limiter.rest(frames));
    }

    /// Assigns each listener of this tick to a mix. Listeners that are not in `listeners` are removed. Call [`Self::mix`] afterwards.
    pub(crate) fn begin(&mut self, listeners: impl Iterator<Item = (u32, Difference)>) {
        self.tick += 1;
        self.splits.clear();
        std::mem::swap(&mut self.assigned, &mut self.previous);
        self.assigned.clear();
        for (listener, difference) in listeners {
            match self.previous.get(&listener) {
                Some(&from) => {
                    let at = self.follow(from, difference);
                    self.assigned.insert(listener, at);
                }
                None => self.newcomers.push((listener, difference)),
            }
        }
        self.merge_equal();
        self.assign_newcomers();
        let (mixes, tick) = (&self.mixes, self.tick);
        self.free.clear();
        self.free.extend((0..mixes.len()).filter(|&at| mixes[at].tick != tick));
    }

    /// Computes every mix of this tick. `of` returns the frame that was added for a participant number.
    pub(crate) fn mix<'a>(&mut self, of: impl Fn(u32) -> Option<&'a [i16]>) {
        self.sum.seal();
        for mix in self.mixes.iter_mut().filter(|mix| mix.tick == self.tick) {
            match &mix.difference {
                Difference::None => mix.limiter.process(self.sum.total(), &mut mix.frame),
                Difference::Without(number) => match of(*number) {
                    Some(own) => mix.limiter.process_minus(&self.sum, own, &mut mix.frame),
                    None => mix.limiter.process(self.sum.total(), &mut mix.frame),
                },
                Difference::Factors(factors) => {
                    self.exact.copy_from_slice(self.sum.total());
                    for (number, Fade { from, to }) in factors {
                        of(*number).into_iter().for_each(|frame| mix::rescale(&mut self.exact, frame, *from, *to));
                    }
                    mix.limiter.process(&self.exact, &mut mix.frame);
                }
            }
        }
    }

    /// Returns the mixed frame that `listener` hears in this tick.
    pub(crate) fn frame(&self, listener: u32) -> Option<&[i16]> {
        Some(&self.mixes[*self.assigned.get(&listener)?].frame)
    }

    /// Removes a listener.
    pub(crate) fn forget(&mut self, listener: u32) {
        self.assigned.remove(&listener);
    }

    /// Returns the index of this tick's mix for a listener who had the mix `from` in the previous tick.
    fn follow(&mut self, from: usize, difference: Difference) -> usize {
        let mix = &mut self.mixes[from];
        if mix.tick != self.tick {
            (mix.tick, mix.difference) = (self.tick, difference);
            return from;
        }
        if mix.difference == difference {
            return from;
        }
        let key = (from, difference);
        if let Some(&at) = self.splits.get(&key) {
            return at;
        }
        let limiter = mix.limiter.clone();
        let at = self.grow(key.1.clone(), limiter);
        self.splits.insert(key, at);
        at
    }

    /// Merges mixes that differ from the sum in the same way and whose limiters agree.
    fn merge_equal(&mut self) {
        let mut first: HashMap<&Difference, usize> = HashMap::new();
        let mut merged: HashMap<usize, usize> = HashMap::new();
        for (at, mix) in self.mixes.iter().enumerate().filter(|(_, mix)| mix.tick == self.tick) {
            let to = *first.entry(&mix.difference).or_insert(at);
            if to != at && mix.limiter.agrees_with(&self.mixes[to].limiter) {
                merged.insert(at, to);
            }
        }
        if merged.is_empty() {
            return;
        }
        for assigned in self.assigned.values_mut() {
            *assigned = merged.get(assigned).copied().unwrap_or(*assigned);
        }
        merged.keys().for_each(|&at| self.mixes[at].tick = 0);
    }

    fn assign_newcomers(&mut self) {
        for (listener, difference) in std::mem::take(&mut self.newcomers) {
            let known = self.mixes.iter().position(|b| b.tick == self.tick && b.difference == difference);
            let at = known.unwrap_or_else(|| self.grow(difference, Limiter::new(self.rate_hz)));
            self.assigned.insert(listener, at);
        }
    }

    fn grow(&mut self, difference: Difference, limiter: Limiter) -> usize {
        let tick = self.tick;
        if let Some(at) = self.free.pop() {
            let mix = &mut self.mixes[at];
            (mix.difference, mix.limiter, mix.tick) = (difference, limiter, tick);
            return at;
        }
        let frame = vec![0; self.rate_hz as usize / 50];
        self.mixes.push(Mix { difference, limiter, frame, tick });
        self.mixes.len() - 1
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
