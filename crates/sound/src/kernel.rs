//! The inner loops over samples.
//!
//! The compiler vectorizes these plain loops. `multiversion` compiles each for AVX2 (some with FMA) and for any processor,
//! and selects one at run time with cpuid.

use multiversion::multiversion;
use multiversion::target::target_cfg_f;

/// `total += own`.
#[multiversion(targets("x86_64+avx2"))]
pub(crate) fn add(total: &mut [i32], own: &[i16]) {
    for (total, &own) in total.iter_mut().zip(own) {
        *total += i32::from(own);
    }
}

/// `out = total`, saturated. Returns the largest magnitude of the total.
#[multiversion(targets("x86_64+avx2"))]
pub(crate) fn narrow(total: &[i32], out: &mut [i16]) -> i32 {
    let (mut lowest, mut highest) = (0, 0);
    for (out, &x) in out.iter_mut().zip(total) {
        (lowest, highest) = (x.min(lowest), x.max(highest));
        *out = x.clamp(i32::from(i16::MIN), i32::from(i16::MAX)) as i16;
    }
    highest.max(-lowest)
}

/// `out = total − own`, saturated, for a total that fits into 16 bits. Returns the largest magnitude of `out`.
#[multiversion(targets("x86_64+avx2"))]
pub(crate) fn minus_narrow(total: &[i16], own: &[i16], out: &mut [i16]) -> i32 {
    let (mut lowest, mut highest) = (0i16, 0i16);
    for ((out, &total), &own) in out.iter_mut().zip(total).zip(own) {
        let x = total.saturating_sub(own);
        (lowest, highest) = (x.min(lowest), x.max(highest));
        *out = x;
    }
    i32::from(highest).max(-i32::from(lowest))
}

/// `out = total − own`, saturated.
#[multiversion(targets("x86_64+avx2"))]
pub(crate) fn minus_saturated(total: &[i32], own: &[i16], out: &mut [i16]) {
    for ((out, &total), &own) in out.iter_mut().zip(total).zip(own) {
        *out = (total - i32::from(own)).clamp(i32::from(i16::MIN), i32::from(i16::MAX)) as i16;
    }
}

/// `out = total − own`, exactly.
#[multiversion(targets("x86_64+avx2"))]
pub(crate) fn minus(total: &[i32], own: &[i16], out: &mut [i32]) {
    for ((out, &total), &own) in out.iter_mut().zip(total).zip(own) {
        *out = total - i32::from(own);
    }
}

/// Adds `contribution · excess / 4096`, rounded, to `mix`.
#[multiversion(targets("x86_64+avx2"))]
pub(crate) fn add_scaled(mix: &mut [i32], contribution: &[i16], excess: i32) {
    for (mix, &x) in mix.iter_mut().zip(contribution) {
        *mix += scaled(x, excess);
    }
}

/// Returns `x · excess / 4096`, rounded.
#[inline(always)]
pub(crate) fn scaled(x: i16, excess: i32) -> i32 {
    (i32::from(x) * excess + 2048) >> 12
}

/// `out = samples`, as floats.
#[multiversion(targets("x86_64+avx2"))]
pub(crate) fn to_floats(samples: &[i32], out: &mut [f32]) {
    for (out, &x) in out.iter_mut().zip(samples) {
        *out = x as f32;
    }
}

/// Returns the largest magnitude of `samples`.
#[multiversion(targets("x86_64+avx2"))]
pub(crate) fn peak(samples: &[f32]) -> f32 {
    const LANES: usize = 16;
    let mut lanes = [0f32; LANES];
    let (whole, rest) = samples.as_chunks::<LANES>();
    for chunk in whole {
        for (peak, x) in lanes.iter_mut().zip(chunk) {
            let x = x.abs();
            *peak = if x > *peak { x } else { *peak };
        }
    }
    rest.iter().chain(&lanes).fold(0f32, |peak, x| peak.max(x.abs()))
}

/// Multiplies `source` by a gain that changes linearly from `from` (before the first sample) to `to` (at the last
/// sample). Rounds and saturates the results.
#[multiversion(targets("x86_64+avx2"))]
pub(crate) fn scale(source: &[f32], from: f32, to: f32, out: &mut [i16]) {
    // 1.5 · 2²³: after adding it, the float's last bit is worth 1, which rounds to an integer on any processor.
    const ROUNDING: f32 = 12_582_912.0;
    let step = (to - from) / source.len() as f32;
    for (i, (out, &x)) in out.iter_mut().zip(source).enumerate() {
        let y = x * (from + step * (i as i32 + 1) as f32);
        let y = if y > 32_767.0 { 32_767.0 } else { y };
        let y = if y < -32_768.0 { -32_768.0 } else { y };
        *out = ((y + ROUNDING).to_bits() as i32 - ROUNDING.to_bits() as i32) as i16;
    }
}

/// Returns the dot product of two slices.
#[cfg(any(test, feature = "measure"))]
#[multiversion(targets("x86_64+avx2+fma"))]
pub(crate) fn dot(a: &[f32], b: &[f32]) -> f32 {
    const LANES: usize = 32;
    let fused =
        |a: f32, b: f32, c: f32| if target_cfg_f!(target_feature = "fma") { a.mul_add(b, c) } else { a * b + c };
    let mut lanes = [0f32; LANES];
    let ((a, rest_a), (b, rest_b)) = (a.as_chunks::<LANES>(), b.as_chunks::<LANES>());
    for (a, b) in a.iter().zip(b) {
        for lane in 0..LANES {
            lanes[lane] = fused(a[lane], b[lane], lanes[lane]);
        }
    }
    lanes.iter().sum::<f32>() + rest_a.iter().zip(rest_b).map(|(a, b)| a * b).sum::<f32>()
}

/// Returns the largest magnitude at ¼, ½ and ¾ between samples; `limit::true_peak` explains the coefficients.
#[multiversion(targets("x86_64+avx2+fma"))]
pub(crate) fn between(samples: &[f32], even: &[f32; 6], odd: &[f32; 6], middle: &[f32; 6]) -> f32 {
    const LANES: usize = 8;
    const TAPS: usize = 12;
    const WINDOW: usize = LANES + TAPS - 1;
    // Without FMA in the processor, mul_add would be a function call for each product.
    let fused =
        |a: f32, b: f32, c: f32| if target_cfg_f!(target_feature = "fma") { a.mul_add(b, c) } else { a * b + c };
    let points = (samples.len() + 1).saturating_sub(TAPS);
    let mut padded = [0f32; WINDOW];
    let mut samples = samples;
    if points < LANES {
        padded[..samples.len()].copy_from_slice(samples);
        samples = &padded;
    }
    let mut peaks = [0f32; LANES];
    for at in (0..points).step_by(LANES) {
        // The last window overlaps the previous window, so that the last window is full.
        let window = &samples[at.min(samples.len() - WINDOW)..][..WINDOW];
        let (mut e, mut o, mut m) = ([0f32; LANES], [0f32; LANES], [0f32; LANES]);
        for k in 0..TAPS / 2 {
            for lane in 0..LANES {
                let (a, b) = (window[lane + k], window[lane + TAPS - 1 - k]);
                e[lane] = fused(even[k], a + b, e[lane]);
                o[lane] = fused(odd[k], a - b, o[lane]);
                m[lane] = fused(middle[k], a + b, m[lane]);
            }
        }
        for lane in 0..LANES {
            let (quarters, half) = (e[lane].abs() + o[lane].abs(), m[lane].abs());
            let larger = if quarters > half { quarters } else { half };
            peaks[lane] = if larger > peaks[lane] { larger } else { peaks[lane] };
        }
    }
    peaks.iter().take(points).fold(0f32, |peak, &x| peak.max(x))
}
