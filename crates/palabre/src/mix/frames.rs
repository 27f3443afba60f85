//! Block and frame sizes of `palabre mix`.

/// Maximum number of samples in the limiter's unit of 0.5 ms: at 48 kHz.
const LIMITER_UNIT_MAX: usize = 24;

/// Number of samples that `palabre mix` reads at once (a block) and mixes at once (a frame).
pub(crate) struct Frames {
    /// Samples per frame.
    pub(crate) samples: usize,
    /// Frames per block.
    pub(crate) per_block: usize,
    /// Delay of the mix relative to the inputs, in samples. The limiter's look-ahead causes it.
    pub(crate) delay_samples: usize,
}

impl Frames {
    /// Returns the sizes without a limiter. A frame is as long as a block.
    pub(crate) fn exact(block: usize) -> Self {
        Self { samples: block, per_block: 1, delay_samples: 0 }
    }

    /// Returns the sizes with a limiter. A frame has 40 units of [`palabre_sound::limit::Limiter`]: 20 ms at rates up to 48 kHz, less above.
    /// The delay is the limiter's look-ahead, a quarter of a frame.
    pub(crate) fn limited(rate_hz: u32, block: usize) -> Self {
        let unit = (rate_hz as usize / 2_000).clamp(1, LIMITER_UNIT_MAX);
        let samples = unit * 40;
        Self { samples, per_block: (block / samples).max(1), delay_samples: unit * 10 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use palabre_sound::limit::Limiter;
    use palabre_sound::mix::Sum;

    #[test]
    fn limiter_accepts_the_frames_and_has_the_delay_at_every_rate() {
        for rate_hz in [8_000, 11_025, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000, 88_200, 96_000, 192_000] {
            let frames = Frames::limited(rate_hz, 16_384);
            let (mut limiter, mut out) = (Limiter::new(rate_hz), Vec::new());
            for loudness in [100, 30_000] {
                let mut frame = vec![0; frames.samples];
                let mut sum = Sum::new(frames.samples);
                let silence = frame.clone();
                let mut click = silence.clone();
                click[frames.samples - 1] = loudness;
                for contribution in [click, silence] {
                    sum.clear();
                    sum.add(&contribution);
                    sum.add(&contribution);
                    limiter.process_minus(&sum, &vec![0; frames.samples], &mut frame);
                    out.extend_from_slice(&frame);
                }
                let loudest = (0..out.len()).max_by_key(|&at| out[at].unsigned_abs());
                assert_eq!(loudest, Some(frames.samples - 1 + frames.delay_samples), "{rate_hz} Hz, {loudness}");
                out.clear();
            }
        }
    }
}
