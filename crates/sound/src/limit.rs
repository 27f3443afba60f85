//! From an exact sum of 32 bits to samples of 16 bits.

/// What doesn't fit becomes full scale; what fits is unchanged, to the bit.
pub fn saturate(sum: &[i32], out: &mut [i16]) {
    for (out, &sum) in out.iter_mut().zip(sum) {
        *out = saturated(sum);
    }
}

/// One sample of [`saturate`].
#[inline]
#[must_use]
pub fn saturated(sum: i32) -> i16 {
    sum.clamp(i16::MIN.into(), i16::MAX.into()) as i16
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_wraps() {
        let mut out = [0; 6];
        saturate(&[0, 32_767, 32_768, -32_768, -32_769, i32::MAX], &mut out);
        assert_eq!(out, [0, 32_767, 32_767, -32_768, -32_768, 32_767]);
    }
}
