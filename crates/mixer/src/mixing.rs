//! One room's mixes of one tick: the sum once, and from it a mix for each kind of listener.
//!
//! All who are silent and hear everybody share one frame, and so do those who don't hear the same talkers.

use palabre_sound::{limit, mix};

/// A talker's number and contribution.
pub type Talker<'a> = (u32, &'a [i16]);

/// The mixes of one tick; its memory is used again in the next.
#[derive(Debug)]
pub struct Mixing {
    sum: mix::Sum,
    exact: Vec<i32>,
    frames: Vec<Vec<i16>>,
    used: usize,
    /// Who is left out of which frame, for what more than one may want.
    shared: Vec<(Vec<u32>, usize)>,
    frame_samples: usize,
}

impl Mixing {
    pub fn new(frame_samples: usize) -> Self {
        Self {
            sum: mix::Sum::new(frame_samples),
            exact: vec![0; frame_samples],
            frames: Vec::new(),
            used: 0,
            shared: Vec::new(),
            frame_samples,
        }
    }

    /// Begins the next tick.
    pub fn clear(&mut self) {
        self.sum.clear();
        self.shared.clear();
        self.used = 0;
    }

    /// Adds a contribution.
    pub fn add(&mut self, contribution: &[i16]) {
        self.sum.add(contribution);
    }

    /// Whether nobody speaks.
    pub fn is_silent(&self) -> bool {
        self.sum.contributions() == 0
    }

    /// The number of the frame with everybody but `left_out`, who have all been added; in any order, each once.
    pub fn without(&mut self, left_out: &[Talker<'_>]) -> usize {
        let mut key: Vec<u32> = left_out.iter().map(|(number, _)| *number).collect();
        key.sort_unstable();
        if let Some((_, at)) = self.shared.iter().find(|(shared, _)| *shared == key) {
            return *at;
        }
        let at = self.make(left_out);
        self.shared.push((key, at));
        at
    }

    /// The number of a frame for one talker who hears all the others; nobody shares it.
    pub fn minus(&mut self, own: &[i16]) -> usize {
        self.make(&[(0, own)])
    }

    /// A frame by its number.
    pub fn frame(&self, at: usize) -> &[i16] {
        &self.frames[at]
    }

    fn make(&mut self, left_out: &[Talker<'_>]) -> usize {
        let at = self.used;
        if at == self.frames.len() {
            self.frames.push(vec![0; self.frame_samples]);
        }
        self.used += 1;
        let Some(((_, first), others)) = left_out.split_first() else {
            limit::saturate(self.sum.total(), &mut self.frames[at]);
            return at;
        };
        if others.is_empty() {
            self.sum.minus_saturated(first, &mut self.frames[at]);
            return at;
        }
        self.sum.minus(first, &mut self.exact);
        others.iter().for_each(|(_, other)| mix::subtract(&mut self.exact, other));
        limit::saturate(&self.exact, &mut self.frames[at]);
        at
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everybody_gets_what_is_left_and_equals_share() {
        let (a, b, c): ([i16; 2], [i16; 2], [i16; 2]) = ([1, 2], [10, 20], [100, 200]);
        let mut mixing = Mixing::new(2);
        for _ in 0..2 {
            mixing.clear();
            assert!(mixing.is_silent());
            [a, b, c].iter().for_each(|frame| mixing.add(frame));
            let all = mixing.without(&[]);
            let minus_a = mixing.minus(&a);
            let minus_bc = mixing.without(&[(2, &b), (3, &c)]);
            assert_eq!(mixing.frame(all), [111, 222]);
            assert_eq!(mixing.frame(minus_a), [110, 220]);
            assert_eq!(mixing.frame(minus_bc), [1, 2]);
            assert_eq!(mixing.without(&[(3, &c), (2, &b)]), minus_bc);
            assert_eq!(mixing.without(&[]), all);
        }
    }
}
