//! The two kinds of samples that a jitter buffer carries.

use std::fmt::Debug;

/// A sample: 16 bits for one talker, 32 bits for the exact sum of several talkers. In both, 32768 is full scale.
pub trait Sample: Copy + Default + Debug + PartialEq + private::Sealed {
    /// Returns the sample as a number. Sums above 2²⁴ are rounded.
    fn to_f32(self) -> f32;
    /// Returns the nearest sample. Numbers out of range become the lowest or highest sample.
    fn nearest(x: f32) -> Self;
    /// Returns the absolute value.
    fn magnitude(self) -> u32;
    /// Returns the sum of the squares of samples.
    fn energy<'a>(samples: impl Iterator<Item = &'a Self>) -> f64
    where
        Self: 'a;
}

impl Sample for i16 {
    fn to_f32(self) -> f32 {
        f32::from(self)
    }

    fn nearest(x: f32) -> Self {
        // The cast saturates.
        x.round() as Self
    }

    fn magnitude(self) -> u32 {
        u32::from(self.unsigned_abs())
    }

    fn energy<'a>(samples: impl Iterator<Item = &'a Self>) -> f64 {
        // The sum is computed in integers, because compilers vectorize that.
        samples.map(|&x| i64::from(i32::from(x) * i32::from(x))).sum::<i64>() as f64
    }
}

impl Sample for i32 {
    fn to_f32(self) -> f32 {
        self as f32
    }

    fn nearest(x: f32) -> Self {
        // The cast saturates.
        x.round() as Self
    }

    fn magnitude(self) -> u32 {
        self.unsigned_abs()
    }

    fn energy<'a>(samples: impl Iterator<Item = &'a Self>) -> f64 {
        samples.map(|&x| f64::from(x).powi(2)).sum()
    }
}

mod private {
    pub trait Sealed {}
    impl Sealed for i16 {}
    impl Sealed for i32 {}
}
