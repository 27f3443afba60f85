//! One room's mixes of one tick: the sum once, and from it a limited mix for each kind of listener.
//!
//! All who are silent and hear everybody share one mix with one limiter, and so do those who don't hear the same
//! talkers. A listener keeps the limiter they have: whoever starts to talk takes a copy of the shared one's state along,
//! and whoever stops rejoins the shared mix when both limiters hold the same sound at the same gain. So nobody's loudness
//! jumps when somebody begins or ends.

use std::collections::HashMap;

use palabre_sound::limit::Limiter;
use palabre_sound::mix::{self, Sum};

/// Who is missing in a mix, by their numbers.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum LeftOut {
    Nobody,
    One(u32),
    /// Sorted, each once, more than one.
    Several(Vec<u32>),
}

impl LeftOut {
    /// From numbers in any order, of which some may stand there twice.
    pub fn new(mut numbers: Vec<u32>) -> Self {
        numbers.sort_unstable();
        numbers.dedup();
        match numbers[..] {
            [] => Self::Nobody,
            [one] => Self::One(one),
            _ => Self::Several(numbers),
        }
    }

    fn numbers(&self) -> &[u32] {
        match self {
            Self::Nobody => &[],
            Self::One(one) => std::slice::from_ref(one),
            Self::Several(numbers) => numbers,
        }
    }
}

/// A mix that one or more listeners hear.
#[derive(Debug)]
struct Branch {
    left_out: LeftOut,
    limiter: Limiter,
    frame: Vec<i16>,
    /// The tick in which somebody last listened to it.
    tick: u64,
}

/// The mixes of a room; its memory is used again from tick to tick.
#[derive(Debug)]
pub struct Mixing {
    sum: Sum,
    exact: Vec<i32>,
    branches: Vec<Branch>,
    free: Vec<usize>,
    /// Which branch each listener hears, and heard in the tick before.
    places: HashMap<u32, usize>,
    previous: HashMap<u32, usize>,
    newcomers: Vec<(u32, LeftOut)>,
    /// Branches that left another one in this tick, by where they came from.
    splits: HashMap<(usize, LeftOut), usize>,
    tick: u64,
    rate_hz: u32,
}

impl Mixing {
    pub fn new(rate_hz: u32) -> Self {
        let frame_samples = rate_hz as usize / 50;
        Self {
            sum: Sum::new(frame_samples),
            exact: vec![0; frame_samples],
            branches: Vec::new(),
            free: Vec::new(),
            places: HashMap::new(),
            previous: HashMap::new(),
            newcomers: Vec::new(),
            splits: HashMap::new(),
            tick: 0,
            rate_hz,
        }
    }

    /// Begins the next tick.
    pub fn clear(&mut self) {
        self.sum.clear();
    }

    /// Adds a contribution.
    pub fn add(&mut self, contribution: &[i16]) {
        self.sum.add(contribution);
    }

    /// Whether there is nothing to give: nobody speaks, and nothing of what was said is still in a limiter.
    pub fn is_silent(&self) -> bool {
        self.sum.contributions() == 0 && !self.has_tail()
    }

    /// Whether a limiter still holds sound: one more tick is needed.
    pub fn has_tail(&self) -> bool {
        self.places.values().any(|&at| !self.branches[at].limiter.is_silent())
    }

    /// Lets `frames` pass in which all were silent and nothing was mixed.
    pub fn rest(&mut self, frames: u64) {
        self.places.values().for_each(|&at| self.branches[at].limiter.rest(frames));
    }

    /// Says who hears in this tick, and what not, before [`Self::mix`]. Whoever isn't named has left.
    pub fn begin(&mut self, listeners: impl Iterator<Item = (u32, LeftOut)>) {
        self.tick += 1;
        self.splits.clear();
        std::mem::swap(&mut self.places, &mut self.previous);
        self.places.clear();
        for (listener, left_out) in listeners {
            match self.previous.get(&listener) {
                Some(&from) => {
                    let at = self.follow(from, left_out);
                    self.places.insert(listener, at);
                }
                None => self.newcomers.push((listener, left_out)),
            }
        }
        self.join_those_who_agree();
        self.seat_newcomers();
        let (branches, tick) = (&self.branches, self.tick);
        self.free.clear();
        self.free.extend((0..branches.len()).filter(|&at| branches[at].tick != tick));
    }

    /// Makes every mix of this tick; `of` gives the contribution that was added for a number.
    pub fn mix<'a>(&mut self, of: impl Fn(u32) -> Option<&'a [i16]>) {
        self.sum.seal();
        for branch in self.branches.iter_mut().filter(|branch| branch.tick == self.tick) {
            let mut left_out = branch.left_out.numbers().iter().filter_map(|number| of(*number));
            match (left_out.next(), left_out.next()) {
                (None, _) => branch.limiter.process(self.sum.total(), &mut branch.frame),
                (Some(own), None) => branch.limiter.process_minus(&self.sum, own, &mut branch.frame),
                (Some(first), Some(second)) => {
                    self.sum.minus(first, &mut self.exact);
                    mix::subtract(&mut self.exact, second);
                    left_out.for_each(|other| mix::subtract(&mut self.exact, other));
                    branch.limiter.process(&self.exact, &mut branch.frame);
                }
            }
        }
    }

    /// What a listener hears in this tick.
    pub fn frame(&self, listener: u32) -> Option<&[i16]> {
        Some(&self.branches[*self.places.get(&listener)?].frame)
    }

    /// This listener hears nothing any more.
    pub fn forget(&mut self, listener: u32) {
        self.places.remove(&listener);
    }

    /// The branch of somebody who heard the branch `from` until now.
    fn follow(&mut self, from: usize, left_out: LeftOut) -> usize {
        let branch = &mut self.branches[from];
        if branch.tick != self.tick {
            (branch.tick, branch.left_out) = (self.tick, left_out);
            return from;
        }
        if branch.left_out == left_out {
            return from;
        }
        let key = (from, left_out);
        if let Some(&at) = self.splits.get(&key) {
            return at;
        }
        let limiter = branch.limiter.clone();
        let at = self.grow(key.1.clone(), limiter);
        self.splits.insert(key, at);
        at
    }

    /// Mixes that are the same by now become one.
    fn join_those_who_agree(&mut self) {
        let mut first: HashMap<&LeftOut, usize> = HashMap::new();
        let mut joined: HashMap<usize, usize> = HashMap::new();
        for (at, branch) in self.branches.iter().enumerate().filter(|(_, branch)| branch.tick == self.tick) {
            let to = *first.entry(&branch.left_out).or_insert(at);
            if to != at && branch.limiter.agrees_with(&self.branches[to].limiter) {
                joined.insert(at, to);
            }
        }
        if joined.is_empty() {
            return;
        }
        for place in self.places.values_mut() {
            *place = joined.get(place).copied().unwrap_or(*place);
        }
        joined.keys().for_each(|&at| self.branches[at].tick = 0);
    }

    fn seat_newcomers(&mut self) {
        for (listener, left_out) in std::mem::take(&mut self.newcomers) {
            let known = self.branches.iter().position(|b| b.tick == self.tick && b.left_out == left_out);
            let at = known.unwrap_or_else(|| self.grow(left_out, Limiter::new(self.rate_hz)));
            self.places.insert(listener, at);
        }
    }

    fn grow(&mut self, left_out: LeftOut, limiter: Limiter) -> usize {
        let tick = self.tick;
        if let Some(at) = self.free.pop() {
            let branch = &mut self.branches[at];
            (branch.left_out, branch.limiter, branch.tick) = (left_out, limiter, tick);
            return at;
        }
        let frame = vec![0; self.rate_hz as usize / 50];
        self.branches.push(Branch { left_out, limiter, frame, tick });
        self.branches.len() - 1
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
