//! Limits an exact 32-bit sum to 16-bit samples that no converter or codec downstream can clip.
//!
//! [`Limiter`] is a look-ahead true-peak limiter, one for each distinct mix. It delays its input by 5 ms, and during
//! these 5 ms lowers the gain smoothly to what the loudest sample needs, without overshoot.
//!
//! ```text
//! mix i32 ──┬── delay 5 ms ─────────────────────────── × ── round ── i16
//!           └── true peak ── minimum ── release ── Hann ┘
//!               (4 ×, per ½ ms)  5.5 ms   in dB    4.5 ms
//! ```
//!
//! - The ceiling is −1 dBFS *true peak*: the level between the samples, estimated with 4 × oversampling as Rec. ITU-R
//!   BS.1770-5 annex 2 describes. The detector is skipped if the sample peak proves that it can't change
//!   the gain.
//! - A mix below the ceiling passes unchanged, to the bit.
//! - The release is program-dependent: 40 dB/s after short peaks, 10 dB/s after a long reduction, so that the level doesn't
//!   pump between the syllables of a loud talker. The gain never rises by more than 1 dB in 10 ms.
//!
//! The structure (minimum over the look-ahead, then a smoothing kernel of the same length, whose mean can't exceed the
//! minimum) is the usual one; see G. W. McNally, "Dynamic Range Control of Digital Audio Signals", JAES 32 (1984), and
//! D. Giannoulis et al., "Digital Dynamic Range Compressor Design", JAES 60 (2012).

mod envelope;
mod true_peak;

use crate::mix::Sum;
use crate::{gain, kernel};
use envelope::Envelope;

/// Maximum true peak of the output, in dBFS.
const CEILING_DBFS: f32 = -1.0;
/// Delay of the limiter, in ms.
pub const LOOK_AHEAD_MS: usize = 5;
/// Maximum difference in gain between two limiters that may replace one another, in dB.
const AGREEMENT_DB: f32 = 0.1;

/// Ceiling for the gain computation, in dBFS. The margin covers gain changes within the interpolator's twelve samples.
const INNER_CEILING_DBFS: f32 = CEILING_DBFS - 0.1;
/// Maximum samples in a frame: 20 ms at 48 kHz.
const FRAME_MAX: usize = 960;
/// Maximum samples in a block of ½ ms: at 48 kHz.
const BLOCK_MAX: usize = 24;
/// Blocks of look-ahead: 5 ms.
const BLOCKS_AHEAD: usize = 10;
/// Samples before a block that the true-peak interpolator needs.
const HISTORY: usize = true_peak::TAPS - 1;

/// Clamps each sample of `sum` to 16 bits.
pub fn saturate(sum: &[i32], out: &mut [i16]) {
    for (out, &sum) in out.iter_mut().zip(sum) {
        *out = saturated(sum);
    }
}

/// Returns `sum` clamped to 16 bits.
#[inline]
fn saturated(sum: i32) -> i16 {
    sum.clamp(i16::MIN.into(), i16::MAX.into()) as i16
}

/// The limiter of one mix.
#[derive(Clone, Debug)]
pub struct Limiter {
    block: usize,
    ceiling: f32,
    tail: Tail,
    /// Sample peak of the previous frame.
    last_peak: i32,
    envelope: Envelope,
}

/// The last 5 ms of input, not output yet.
#[derive(Clone, Debug)]
enum Tail {
    /// Samples that all fit into 16 bits, which is the usual case.
    Narrow(Vec<i16>),
    Wide(Vec<i32>),
}

impl Limiter {
    /// Returns an idle limiter for frames of 20 ms at `rate_hz`: 16 000, 24 000 or 48 000.
    #[must_use]
    pub fn new(rate_hz: u32) -> Self {
        let block = (rate_hz as usize / 2_000).clamp(1, BLOCK_MAX);
        Self {
            block,
            ceiling: 32_768.0 * gain::factor(INNER_CEILING_DBFS),
            tail: Tail::Narrow(vec![0; block * BLOCKS_AHEAD]),
            last_peak: 0,
            envelope: Envelope::new(),
        }
    }

    /// Limits one frame of the mix into `out`, delayed by 5 ms. Both have `rate_hz / 50` samples.
    pub fn process(&mut self, mix: &[i32], out: &mut [i16]) {
        let (frame, tail) = (&mut out[..mix.len()], self.tail_samples());
        // `narrow` may saturate. Then the frame isn't harmless, and `narrow` isn't used.
        let mut narrow = [0; FRAME_MAX];
        let peak = kernel::narrow(mix, &mut narrow[..mix.len()]);
        if self.is_harmless(peak) {
            frame[tail..].copy_from_slice(&narrow[..mix.len() - tail]);
            self.pass(peak, &narrow[mix.len() - tail..mix.len()], &mut frame[..tail]);
        } else {
            self.limit(mix, frame);
            self.last_peak = peak;
            self.tail = Tail::Wide(mix[mix.len() - tail..].to_vec());
        }
    }

    /// Limits the sum minus `own` into `out`, as [`Self::process`] does. Computes in 16 bits while the gain is 1.
    pub fn process_minus(&mut self, sum: &Sum, own: &[i16], out: &mut [i16]) {
        let (n, tail) = (sum.total().len(), self.tail_samples());
        let frame = &mut out[..n];
        let ahead = n - tail;
        if let (Some(total), true) = (sum.narrow(), self.envelope.is_idle()) {
            let (of_tail, of_frame) = frame.split_at_mut(tail);
            let mut last = [0; BLOCK_MAX * BLOCKS_AHEAD];
            let peak = kernel::minus_narrow(&total[..ahead], &own[..ahead], of_frame).max(kernel::minus_narrow(
                &total[ahead..],
                &own[ahead..],
                &mut last[..tail],
            ));
            if self.is_harmless(peak) {
                return self.pass(peak, &last[..tail], of_tail);
            }
        }
        let mut mix = [0; FRAME_MAX];
        sum.minus(own, &mut mix[..n]);
        self.process(&mix[..n], frame);
    }

    /// Advances the limiter by `frames` frames of silence.
    pub fn rest(&mut self, frames: u64) {
        if frames == 0 {
            return;
        }
        self.tail = Tail::Narrow(vec![0; self.tail_samples()]);
        self.last_peak = 0;
        for _ in 0..frames.saturating_mul(40) {
            if self.envelope.is_idle() {
                break;
            }
            self.envelope.push(1.0);
        }
    }

    /// Returns the gain of the last output sample, at most 1.
    #[must_use]
    pub fn gain(&self) -> f32 {
        self.envelope.gain()
    }

    /// Returns whether the delayed samples are all zero.
    #[must_use]
    pub fn is_silent(&self) -> bool {
        match &self.tail {
            Tail::Narrow(tail) => tail.iter().all(|&x| x == 0),
            Tail::Wide(tail) => tail.iter().all(|&x| x == 0),
        }
    }

    /// Returns whether `other` can continue the output of this limiter without a step: both hold the same samples, and
    /// their gains differ by at most 0.1 dB.
    #[must_use]
    pub fn agrees_with(&self, other: &Self) -> bool {
        let same = |(narrow, wide): (&[i16], &[i32])| narrow.iter().map(|&x| i32::from(x)).eq(wide.iter().copied());
        self.envelope.agrees_with(&other.envelope, AGREEMENT_DB)
            && match (&self.tail, &other.tail) {
                (Tail::Narrow(a), Tail::Narrow(b)) => a == b,
                (Tail::Wide(a), Tail::Wide(b)) => a == b,
                (Tail::Narrow(a), Tail::Wide(b)) | (Tail::Wide(b), Tail::Narrow(a)) => same((a, b)),
            }
    }

    /// Returns whether a frame with this sample peak passes unchanged: the gain is 1, and no true peak can reach the ceiling.
    fn is_harmless(&self, peak: i32) -> bool {
        self.envelope.is_idle() && peak.max(self.last_peak) as f32 * true_peak::bound() <= self.ceiling
    }

    fn tail_samples(&self) -> usize {
        self.block * BLOCKS_AHEAD
    }

    /// Outputs the old tail unchanged and stores the new tail.
    fn pass(&mut self, peak: i32, tail: &[i16], of_tail: &mut [i16]) {
        self.last_peak = peak;
        match &mut self.tail {
            Tail::Narrow(old) => {
                of_tail.copy_from_slice(old);
                old.copy_from_slice(tail);
            }
            Tail::Wide(old) => {
                saturate(old, of_tail);
                self.tail = Tail::Narrow(tail.to_vec());
            }
        }
    }

    fn limit(&mut self, mix: &[i32], out: &mut [i16]) {
        let (block, tail) = (self.block, self.tail_samples());
        let mut samples = [0.0; BLOCK_MAX * BLOCKS_AHEAD + FRAME_MAX];
        let samples = &mut samples[..tail + mix.len()];
        match &self.tail {
            Tail::Narrow(old) => samples.iter_mut().zip(old).for_each(|(sample, &x)| *sample = f32::from(x)),
            Tail::Wide(old) => kernel::to_floats(old, samples),
        }
        kernel::to_floats(mix, &mut samples[tail..]);
        let bound = true_peak::bound();
        for at in (0..mix.len()).step_by(block) {
            let window = &samples[tail + at - HISTORY..tail + at + block];
            let mut peak = kernel::peak(window);
            // The true peak is computed only if this block may need a lower gain than the gain that the release can
            // reach.
            if peak * bound * self.envelope.soon() > self.ceiling {
                peak = peak.max(true_peak::of(window));
            }
            let from = self.envelope.gain();
            self.envelope.push((self.ceiling / peak.max(1.0)).min(1.0));
            kernel::scale(&samples[at..at + block], from, self.envelope.gain(), &mut out[at..at + block]);
        }
    }
}

#[cfg(test)]
mod tests;
