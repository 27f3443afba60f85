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
    /// The last 5 ms that came in, which have not gone out yet.
    tail: Vec<i32>,
    /// Peak of the last frame's samples.
    last_peak: i32,
    envelope: Envelope,
}

impl Limiter {
    /// A limiter at rest, for frames of 20 ms at `rate_hz`, one of 16 000, 24 000 and 48 000.
    #[must_use]
    pub fn new(rate_hz: u32) -> Self {
        let block = (rate_hz as usize / 2_000).clamp(1, BLOCK_MAX);
        Self {
            block,
            ceiling: 32_768.0 * 10f32.powf(INNER_CEILING_DBFS / 20.0),
            tail: vec![0; block * BLOCKS_AHEAD],
            last_peak: 0,
            envelope: Envelope::new(),
        }
    }

    /// Takes one frame of the mix and gives one frame, which is 5 ms behind. Both have `rate_hz / 50` samples.
    pub fn process(&mut self, mix: &[i32], out: &mut [i16]) {
        let frame = &mut out[..mix.len()];
        let (tail, ahead) = (self.tail.len(), mix.len() - self.tail.len());
        let peak = peak(mix);
        if self.is_harmless(peak) {
            saturate(&self.tail, &mut frame[..tail]);
            saturate(&mix[..ahead], &mut frame[tail..]);
        } else {
            self.limit(mix, frame);
        }
        self.last_peak = peak;
        self.tail.copy_from_slice(&mix[ahead..]);
    }

    /// [`Self::process`] of `total − own` for a mix that [`crate::mix::Sum`] holds, in one pass while nothing is limited.
    pub fn process_minus(&mut self, total: &[i32], own: &[i16], out: &mut [i16]) {
        let frame = &mut out[..total.len()];
        let (tail, ahead) = (self.tail.len(), total.len() - self.tail.len());
        let (of_tail, of_frame) = frame.split_at_mut(tail);
        let peak =
            subtract(&total[..ahead], &own[..ahead], of_frame).max(peak_of_difference(&total[ahead..], &own[ahead..]));
        if self.is_harmless(peak) {
            saturate(&self.tail, of_tail);
            for ((tail, &total), &own) in self.tail.iter_mut().zip(&total[ahead..]).zip(&own[ahead..]) {
                *tail = total - i32::from(own);
            }
            self.last_peak = peak;
            return;
        }
        let mut mix = [0; FRAME_MAX];
        let mix = &mut mix[..total.len()];
        for ((mix, &total), &own) in mix.iter_mut().zip(total).zip(own) {
            *mix = total - i32::from(own);
        }
        self.process(mix, frame);
    }

    /// Lets `frames` of silence pass in which nobody asked for a mix.
    pub fn rest(&mut self, frames: u64) {
        if frames == 0 {
            return;
        }
        self.tail.fill(0);
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
        self.tail.iter().all(|&x| x == 0)
    }

    /// Whether what comes out of this one can be continued by the other without a step: they hold the same sound, and
    /// their gains are within [`AGREEMENT_DB`].
    #[must_use]
    pub fn agrees_with(&self, other: &Self) -> bool {
        self.envelope.agrees_with(&other.envelope, AGREEMENT_DB) && self.tail == other.tail
    }

    /// Whether a frame with this sample peak passes unchanged: gain 1, and no true peak can reach the ceiling.
    fn is_harmless(&self, peak: i32) -> bool {
        self.envelope.is_idle() && peak.max(self.last_peak) as f32 * true_peak::bound() <= self.ceiling
    }

    fn limit(&mut self, mix: &[i32], out: &mut [i16]) {
        let (block, tail) = (self.block, self.tail.len());
        let mut samples = [0.0; HISTORY + FRAME_MAX];
        let samples = &mut samples[..HISTORY + mix.len()];
        let history = &self.tail[tail - HISTORY..];
        samples.iter_mut().zip(history.iter().chain(mix)).for_each(|(sample, &x)| *sample = x as f32);
        let bound = true_peak::bound();
        for at in (0..mix.len()).step_by(block) {
            let window = &samples[at..at + HISTORY + block];
            let mut peak = window.iter().fold(0f32, |peak, x| peak.max(x.abs()));
            // A lower gain than this could not even be noticed before it is released.
            if peak * bound * self.envelope.soon() > self.ceiling {
                peak = peak.max(true_peak::of(window));
            }
            let from = self.envelope.gain();
            self.envelope.push((self.ceiling / peak.max(1.0)).min(1.0));
            let source = if at < tail { &self.tail[at..at + block] } else { &mix[at - tail..at - tail + block] };
            apply(source, from, self.envelope.gain(), &mut out[at..at + block]);
        }
    }
}

/// The largest magnitude.
fn peak(samples: &[i32]) -> i32 {
    samples.iter().fold(0, |peak, &x| peak.max(x.abs()))
}

/// `total − own`, saturated; gives the largest magnitude.
fn subtract(total: &[i32], own: &[i16], out: &mut [i16]) -> i32 {
    let mut peak = 0;
    for ((out, &total), &own) in out.iter_mut().zip(total).zip(own) {
        let mix = total - i32::from(own);
        peak = peak.max(mix.abs());
        *out = saturated(mix);
    }
    peak
}

fn peak_of_difference(total: &[i32], own: &[i16]) -> i32 {
    total.iter().zip(own).fold(0, |peak, (&total, &own)| peak.max((total - i32::from(own)).abs()))
}

/// Multiplies with a gain that goes in a straight line; 1 changes no bit.
fn apply(source: &[i32], from: f32, to: f32, out: &mut [i16]) {
    if from == 1.0 && to == 1.0 {
        return saturate(source, out);
    }
    // Adding this makes a float's last bit a unit: the way to round that every processor knows.
    const ROUNDING: f32 = 12_582_912.0;
    let step = (to - from) / source.len() as f32;
    for (i, (out, &x)) in out.iter_mut().zip(source).enumerate() {
        let y = x as f32 * (from + step * (i + 1) as f32);
        let rounded = y.clamp(-32_768.0, 32_767.0) + ROUNDING;
        *out = (rounded.to_bits() as i32 - ROUNDING.to_bits() as i32) as i16;
    }
}

#[cfg(test)]
mod tests;
