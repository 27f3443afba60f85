//! Mix-minus: everybody hears the sum of all the others.
//!
//! The sum is made once, in 32 bits, and each talker's own contribution is subtracted from it: O(N) where a mix for each
//! is O(N²). It is exact because nothing is limited before the subtraction (`mix_i + contribution_i == total`): what was
//! added is subtracted, to the bit. An i32 holds the sum of 65 536 contributions of 16 bits. Limiting comes after, in
//! [`crate::limit`].

use crate::limit;

/// The sum of one frame's contributions.
#[derive(Clone, Debug, Default)]
pub struct Sum {
    total: Vec<i32>,
    contributions: usize,
}

impl Sum {
    /// Silence of `frame_samples`, ready for the first contribution.
    #[must_use]
    pub fn new(frame_samples: usize) -> Self {
        Self { total: vec![0; frame_samples], contributions: 0 }
    }

    /// Back to silence, for the next frame.
    pub fn clear(&mut self) {
        self.total.fill(0);
        self.contributions = 0;
    }

    /// Adds one talker's contribution; samples beyond the frame are passed over.
    pub fn add(&mut self, contribution: &[i16]) {
        for (total, &own) in self.total.iter_mut().zip(contribution) {
            *total += i32::from(own);
        }
        self.contributions += 1;
    }

    /// How many contributions it holds.
    #[must_use]
    pub fn contributions(&self) -> usize {
        self.contributions
    }

    /// The exact sum of all.
    #[must_use]
    pub fn total(&self) -> &[i32] {
        &self.total
    }

    /// The exact sum without `own`, which must be what was added; into `out`, as long as the frame.
    pub fn minus(&self, own: &[i16], out: &mut [i32]) {
        for ((out, &total), &own) in out.iter_mut().zip(&self.total).zip(own) {
            *out = total - i32::from(own);
        }
    }

    /// [`Self::minus`] and [`crate::limit::saturate`] in one pass, which saves a third of a tick's work.
    pub fn minus_saturated(&self, own: &[i16], out: &mut [i16]) {
        for ((out, &total), &own) in out.iter_mut().zip(&self.total).zip(own) {
            *out = limit::saturated(total - i32::from(own));
        }
    }
}

/// Takes one more contribution out of a mix, for those who don't hear somebody.
pub fn subtract(mix: &mut [i32], contribution: &[i16]) {
    for (mix, &own) in mix.iter_mut().zip(contribution) {
        *mix -= i32::from(own);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn frames() -> impl Strategy<Value = Vec<Vec<i16>>> {
        let extremes = prop_oneof![3 => any::<i16>(), 1 => Just(i16::MIN), 1 => Just(i16::MAX)];
        (1usize..9).prop_flat_map(move |len| {
            proptest::collection::vec(proptest::collection::vec(extremes.clone(), len), 1..17)
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(10_000))]
        #[test]
        fn each_mix_and_its_own_contribution_are_the_total(frames in frames()) {
            let len = frames[0].len();
            let mut sum = Sum::new(len);
            frames.iter().for_each(|frame| sum.add(frame));
            let (mut mix, mut two_steps, mut one_step) = (vec![0; len], vec![0; len], vec![0; len]);
            for (i, own) in frames.iter().enumerate() {
                sum.minus(own, &mut mix);
                limit::saturate(&mix, &mut two_steps);
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
    fn somebody_unheard_is_subtracted_too() {
        let mut sum = Sum::new(2);
        for frame in [[1, 2], [10, 20], [100, 200]] {
            sum.add(&frame);
        }
        let mut mix = [0; 2];
        sum.minus(&[1, 2], &mut mix);
        subtract(&mut mix, &[100, 200]);
        assert_eq!(mix, [10, 20]);
    }
}
