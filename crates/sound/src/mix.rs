//! Mix-minus: everybody hears the sum of all the others.
//!
//! The sum is made once, in 32 bits, and each talker's own contribution is subtracted from it: O(N) where a mix for each
//! is O(N²). It is exact because nothing is limited before the subtraction (`mix_i + contribution_i == total`): what was
//! added is subtracted, to the bit. An i32 holds the sum of 65 536 contributions of 16 bits. Limiting comes after, in
//! [`crate::limit`].

use crate::kernel;

/// The sum of one frame's contributions.
#[derive(Clone, Debug, Default)]
pub struct Sum {
    total: Vec<i32>,
    /// The total in 16 bits, and its largest magnitude, once it is sealed.
    narrow: Vec<i16>,
    peak: Option<i32>,
    contributions: usize,
}

impl Sum {
    /// Silence of `frame_samples`, ready for the first contribution.
    #[must_use]
    pub fn new(frame_samples: usize) -> Self {
        Self { total: vec![0; frame_samples], narrow: vec![0; frame_samples], peak: None, contributions: 0 }
    }

    /// Back to silence, for the next frame.
    pub fn clear(&mut self) {
        self.total.fill(0);
        (self.contributions, self.peak) = (0, None);
    }

    /// Adds one talker's contribution; samples beyond the frame are passed over.
    pub fn add(&mut self, contribution: &[i16]) {
        kernel::add(&mut self.total, contribution);
        self.contributions += 1;
        self.peak = None;
    }

    /// All have been added: looks at how large the sum is, which makes what follows faster.
    pub fn seal(&mut self) {
        if self.peak.is_none() {
            self.peak = Some(kernel::narrow(&self.total, &mut self.narrow));
        }
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

    /// The exact sum in 16 bits, where it is sealed and fits.
    #[must_use]
    pub fn narrow(&self) -> Option<&[i16]> {
        self.peak.filter(|&peak| peak <= i32::from(i16::MAX)).map(|_| &self.narrow[..])
    }

    /// The exact sum without `own`, which must be what was added; into `out`, as long as the frame.
    pub fn minus(&self, own: &[i16], out: &mut [i32]) {
        kernel::minus(&self.total, own, out);
    }

    /// [`Self::minus`] and [`crate::limit::saturate`] in one pass.
    pub fn minus_saturated(&self, own: &[i16], out: &mut [i16]) {
        match self.narrow() {
            Some(narrow) => {
                kernel::minus_narrow(narrow, own, out);
            }
            None => kernel::minus_saturated(&self.total, own, out),
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
        fn each_mix_and_its_own_contribution_are_the_total(frames in frames()) {
            let len = frames[0].len();
            let mut sum = Sum::new(len);
            frames.iter().for_each(|frame| sum.add(frame));
            let (mut mix, mut two_steps, mut one_step) = (vec![0; len], vec![0; len], vec![0; len]);
            for (i, own) in frames.iter().enumerate() {
                sum.minus(own, &mut mix);
                limit::saturate(&mix, &mut two_steps);
                // Every second time in 16 bits, if that is possible.
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
