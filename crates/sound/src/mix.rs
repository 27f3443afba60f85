//! Mix-minus: each participant hears the sum of all others.
//!
//! The sum is computed once, in 32 bits, and each talker's own contribution is subtracted from it. This costs O(N), a
//! separate mix for each participant O(N²). The result is exact, because no sum is limited before the subtraction:
//! `mix_i + contribution_i == total`. An i32 holds the sum of 65 536 contributions of 16 bits. [`crate::limit`] limits
//! the result.

use crate::kernel;

/// Maximum magnitude of the sum of another machine's talkers: a thousand talkers at full scale.
pub const OTHER_SUM_MAX: i32 = 1 << 25;

/// The sum of one frame's contributions.
#[derive(Clone, Debug, Default)]
pub struct Sum {
    total: Vec<i32>,
    /// The total clamped to 16 bits, valid while `peak` is set.
    narrow: Vec<i16>,
    /// Largest magnitude of the total; `None` until [`Self::seal`].
    peak: Option<i32>,
    contributions: usize,
}

impl Sum {
    /// Returns a sum of no contributions, for frames of `frame_samples` samples.
    #[must_use]
    pub fn new(frame_samples: usize) -> Self {
        Self { total: vec![0; frame_samples], narrow: vec![0; frame_samples], peak: None, contributions: 0 }
    }

    /// Resets the sum to silence, for the next frame.
    pub fn clear(&mut self) {
        self.total.fill(0);
        (self.contributions, self.peak) = (0, None);
    }

    /// Adds one talker's contribution. Samples beyond the frame are ignored.
    pub fn add(&mut self, contribution: &[i16]) {
        kernel::add(&mut self.total, contribution);
        self.contributions += 1;
        self.peak = None;
    }

    /// Adds the sum of another machine's talkers as one contribution. Samples beyond the frame are ignored. Samples above
    /// [`OTHER_SUM_MAX`] are limited to it, so that 31 other machines can't make the total overflow.
    pub fn add_sum(&mut self, sum: &[i32]) {
        for (total, &x) in self.total.iter_mut().zip(sum) {
            *total += x.clamp(-OTHER_SUM_MAX, OTHER_SUM_MAX);
        }
        self.contributions += 1;
        self.peak = None;
    }

    /// Measures the sum after the last contribution, so that mixes can be computed in 16 bits if the sum fits.
    pub fn seal(&mut self) {
        if self.peak.is_none() {
            self.peak = Some(kernel::narrow(&self.total, &mut self.narrow));
        }
    }

    /// Returns the number of contributions.
    #[must_use]
    pub fn contributions(&self) -> usize {
        self.contributions
    }

    /// Returns the exact sum of all contributions.
    #[must_use]
    pub fn total(&self) -> &[i32] {
        &self.total
    }

    /// Returns the exact sum in 16 bits, if the sum is sealed and fits.
    #[must_use]
    pub(crate) fn narrow(&self) -> Option<&[i16]> {
        self.peak.filter(|&peak| peak <= i32::from(i16::MAX)).map(|_| &self.narrow[..])
    }

    /// Writes the exact sum minus `own`, one of the contributions, into `out`, which has the length of the frame.
    pub fn minus(&self, own: &[i16], out: &mut [i32]) {
        kernel::minus(&self.total, own, out);
    }

    /// Writes the sum minus `own`, clamped to 16 bits, into `out`.
    pub fn minus_saturated(&self, own: &[i16], out: &mut [i16]) {
        match self.narrow() {
            Some(narrow) => {
                kernel::minus_narrow(narrow, own, out);
            }
            None => kernel::minus_saturated(&self.total, own, out),
        }
    }
}

/// Factor by which one listener hears one talker, in steps of 1/4096, so that 0, 1 and all other integers are exact. The maximum is 10, or +20 dB.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Factor(u16);

impl Factor {
    /// The listener doesn't hear the talker.
    pub const ZERO: Self = Self(0);
    /// The listener hears the talker as all others do.
    pub const ONE: Self = Self(1 << 12);
    const MAX: f32 = 10.0;

    /// Returns the nearest factor. Factors outside 0 to 10 become 0 or 10.
    #[must_use]
    pub fn nearest(factor: f32) -> Self {
        Self((factor.clamp(0.0, Self::MAX) * 4096.0).round() as u16)
    }

    fn excess(self) -> i32 {
        i32::from(self.0) - i32::from(Self::ONE.0)
    }
}

/// Multiplies one contribution in a mix by a factor that changes linearly from `from` (before the frame) to `to` (at its last sample), so that a
/// change doesn't click. The factor 0 subtracts the contribution exactly. The sum of more than 6500
/// contributions with factor 10 could overflow.
pub fn rescale(mix: &mut [i32], contribution: &[i16], from: Factor, to: Factor) {
    if from == to {
        return kernel::add_scaled(mix, contribution, to.excess());
    }
    let (first, change) = (from.excess(), to.excess() - from.excess());
    let samples = contribution.len() as i32;
    for ((i, mix), &x) in (1..).zip(mix).zip(contribution) {
        *mix += kernel::scaled(x, first + change * i / samples);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{limit, speech};
    use proptest::prelude::*;

    fn frames() -> impl Strategy<Value = Vec<Vec<i16>>> {
        let extremes = prop_oneof![3 => any::<i16>(), 1 => Just(i16::MIN), 1 => Just(i16::MAX)];
        (1usize..9).prop_flat_map(move |len| {
            proptest::collection::vec(proptest::collection::vec(extremes.clone(), len), 1..17)
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(speech::cases(10_000)))]
        #[test]
        fn each_mix_plus_its_own_contribution_is_the_total(frames in frames()) {
            let len = frames[0].len();
            let mut sum = Sum::new(len);
            frames.iter().for_each(|frame| sum.add(frame));
            let (mut mix, mut two_steps, mut one_step) = (vec![0; len], vec![0; len], vec![0; len]);
            for (i, own) in frames.iter().enumerate() {
                sum.minus(own, &mut mix);
                limit::saturate(&mix, &mut two_steps);
                // Seal the sum before the second mix, so that 16-bit and 32-bit mixes are tested.
                if i % 2 == 1 {
                    sum.seal();
                }
                sum.minus_saturated(own, &mut one_step);
                prop_assert_eq!(&one_step, &two_steps);
                for at in 0..len {
                    prop_assert_eq!(mix[at] + i32::from(own[at]), sum.total()[at]);
                    let others: i32 =
                        frames.iter().enumerate().filter(|(j, _)| *j != i).map(|(_, f)| i32::from(f[at])).sum();
                    prop_assert_eq!(mix[at], others);
                }
            }
        }
    }

    #[test]
    fn a_thousand_talkers_at_full_scale_do_not_wrap() {
        let mut sum = Sum::new(1);
        (0..1000).for_each(|_| sum.add(&[i16::MIN]));
        assert_eq!((sum.total(), sum.contributions()), (&[-32_768_000][..], 1000));
        sum.clear();
        assert_eq!((sum.total(), sum.contributions()), (&[0][..], 0));
    }

    #[test]
    fn sums_of_31_other_machines_do_not_wrap() {
        let mut sum = Sum::new(2);
        (0..1000).for_each(|_| sum.add(&[i16::MAX, i16::MIN]));
        (0..31).for_each(|_| sum.add_sum(&[i32::MAX, i32::MIN]));
        let most = i32::from(i16::MAX) * 1000 + 31 * OTHER_SUM_MAX;
        assert_eq!((sum.total(), sum.contributions()), (&[most, -32_768_000 - 31 * OTHER_SUM_MAX][..], 1031));
        let mut heard = [0; 2];
        sum.minus(&[i16::MAX, i16::MIN], &mut heard);
        assert_eq!(heard[0], most - 32_767);
    }

    #[test]
    fn the_factors_zero_one_and_two_are_exact() {
        let mut sum = Sum::new(2);
        for frame in [[1, -2], [10, -20], [i16::MIN, i16::MAX]] {
            sum.add(&frame);
        }
        for (factor, expected) in [(0.0, [10, -20]), (1.0, [10 - 32_768, 32_747]), (2.0, [10 - 65_536, 65_514])] {
            let (mut mix, factor) = ([0; 2], Factor::nearest(factor));
            sum.minus(&[1, -2], &mut mix);
            rescale(&mut mix, &[i16::MIN, i16::MAX], factor, factor);
            assert_eq!(mix, expected);
        }
        assert_eq!((Factor::nearest(0.0), Factor::nearest(1.0)), (Factor::ZERO, Factor::ONE));
        assert_eq!((Factor::nearest(f32::INFINITY), Factor::nearest(-1.0)), (Factor::nearest(10.0), Factor::ZERO));
    }

    #[test]
    fn a_change_of_the_factor_is_spread_over_the_frame() {
        let said = [10_000; 100];
        let mut mix = [10_000; 100];
        rescale(&mut mix, &said, Factor::ONE, Factor::ZERO);
        assert!(mix.windows(2).all(|pair| (98..=102).contains(&(pair[0] - pair[1]))), "{mix:?}");
        assert_eq!(mix[99], 0);
        let mut mix = [10_000; 100];
        rescale(&mut mix, &said, Factor::ZERO, Factor::nearest(2.0));
        assert_eq!((mix[0], mix[99]), (200 - 2, 20_000));
    }
}
