//! From an exact sum of 32 bits to samples of 16 bits that no converter and no codec after us can clip.
//!
//! [`Limiter`] is a look-ahead true-peak limiter, one for each distinct mix. What comes in goes out 5 ms later, and in
//! these 5 ms the gain has come down to what the loudest of it needs: nothing overshoots and no step is heard.
//!
//! ```text
//! mix i32 ──┬── delay 5 ms ─────────────────────────── × ── round ── i16
//!           └── true peak ── minimum ── release ── Hann ┘
//!               (4 ×, per ½ ms)  5.5 ms   in dB    4.5 ms
//! ```
//!
//! - The ceiling is −1 dBFS *true peak*: the level between the samples, estimated with 4 × oversampling as Rec. ITU-R
//!   BS.1770-5 annex 2 describes ([`true_peak`]). The detector doesn't run where the sample peak proves that its answer
//!   could change nothing.
//! - What stays below the ceiling is unchanged, to the bit.
//! - The release is program-dependent: short peaks are let go at 40 dB/s, what has lasted at 10 dB/s, so that the level
//!   doesn't pump between the syllables of somebody who is too loud. It never rises by more than 1 dB in 10 ms.
//!
//! The structure (minimum over the look-ahead, then a smoothing kernel of the same length, whose mean can't exceed the
//! minimum) is the usual one; see G. W. McNally, "Dynamic Range Control of Digital Audio Signals", JAES 32 (1984), and
//! D. Giannoulis et al., "Digital Dynamic Range Compressor Design", JAES 60 (2012).
//!
//! Not here: levelling, which is slow and belongs to each talker.

mod envelope;
pub mod true_peak;

use crate::kernel;
use crate::mix::Sum;
use envelope::Envelope;

/// No mix exceeds this true peak, in dBFS.
pub const CEILING_DBFS: f32 = -1.0;
/// What comes in goes out so much later, in ms.
pub const LOOK_AHEAD_MS: usize = 5;
/// Two limiters whose gains are nearer than this may be taken for one another, in dB.
pub const AGREEMENT_DB: f32 = 0.1;

/// The gain changes while the interpolator looks at twelve samples; a tenth of a dB is more than that can cost.
const INNER_CEILING_DBFS: f32 = CEILING_DBFS - 0.1;
const FRAME_MAX: usize = 960;
const BLOCK_MAX: usize = 24;
const BLOCKS_AHEAD: usize = 10;
const HISTORY: usize = true_peak::TAPS - 1;

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

/// The limiter of one mix.
#[derive(Clone, Debug)]
pub struct Limiter {
    block: usize,
    ceiling: f32,
    tail: Tail,
    /// Peak of the last frame's samples.
    last_peak: i32,
    envelope: Envelope,
}

/// The last 5 ms that came in, which have not gone out yet.
#[derive(Clone, Debug)]
enum Tail {
    /// What fits, which is nearly always all.
    Narrow(Vec<i16>),
    Wide(Vec<i32>),
}

impl Limiter {
    /// A limiter at rest, for frames of 20 ms at `rate_hz`, one of 16 000, 24 000 and 48 000.
    #[must_use]
    pub fn new(rate_hz: u32) -> Self {
        let block = (rate_hz as usize / 2_000).clamp(1, BLOCK_MAX);
        Self {
            block,
            ceiling: 32_768.0 * 10f32.powf(INNER_CEILING_DBFS / 20.0),
            tail: Tail::Narrow(vec![0; block * BLOCKS_AHEAD]),
            last_peak: 0,
            envelope: Envelope::new(),
        }
    }

    /// Takes one frame of the mix and gives one frame, which is 5 ms behind. Both have `rate_hz / 50` samples.
    pub fn process(&mut self, mix: &[i32], out: &mut [i16]) {
        let (frame, tail) = (&mut out[..mix.len()], self.tail_samples());
        // Saturated, which doesn't matter: what doesn't fit isn't harmless.
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

    /// [`Self::process`] of the whole sum without `own`, in 16 bits while nothing is limited.
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

    /// Lets `frames` of silence pass in which nobody asked for a mix.
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

    /// The gain that the last sample was given with, at most 1.
    #[must_use]
    pub fn gain(&self) -> f32 {
        self.envelope.gain()
    }

    /// Whether nothing is left to be heard.
    #[must_use]
    pub fn is_silent(&self) -> bool {
        match &self.tail {
            Tail::Narrow(tail) => tail.iter().all(|&x| x == 0),
            Tail::Wide(tail) => tail.iter().all(|&x| x == 0),
        }
    }

    /// Whether what comes out of this one can be continued by the other without a step: they hold the same sound, and
    /// their gains are within [`AGREEMENT_DB`].
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

    /// Whether a frame with this sample peak passes unchanged: gain 1, and no true peak can reach the ceiling.
    fn is_harmless(&self, peak: i32) -> bool {
        self.envelope.is_idle() && peak.max(self.last_peak) as f32 * true_peak::bound() <= self.ceiling
    }

    fn tail_samples(&self) -> usize {
        self.block * BLOCKS_AHEAD
    }

    /// Gives the tail unchanged, and keeps the new one.
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
            // A lower gain than this could not even be noticed before it is released.
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
