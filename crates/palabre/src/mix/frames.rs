//! How much is mixed at a time.

/// Half a millisecond, in which a limiter thinks, has at most so many samples.
const LIMITER_BLOCK_MAX: usize = 24;

/// The sizes of what is read and mixed.
pub struct Frames {
    /// Samples of what is mixed at a time.
    pub samples: usize,
    /// So many frames are read at a time.
    pub per_block: usize,
    /// By so many samples what comes out is behind what goes in.
    pub delay_samples: usize,
}

impl Frames {
    /// Without a limiter: a whole block at a time.
    pub fn exact(block: usize) -> Self {
        Self { samples: block, per_block: 1, delay_samples: 0 }
    }

    /// With one: frames of 20 ms, 40 times half a millisecond, as [`palabre_sound::limit::Limiter`] wants them, and its
    /// look-ahead of a quarter of a frame. Above 48 kHz they are shorter, which it doesn't mind.
    pub fn limited(rate_hz: u32, block: usize) -> Self {
        let of_limiter = (rate_hz as usize / 2_000).clamp(1, LIMITER_BLOCK_MAX);
        let samples = of_limiter * 40;
        Self { samples, per_block: (block / samples).max(1), delay_samples: of_limiter * 10 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use palabre_sound::limit::Limiter;
    use palabre_sound::mix::Sum;

    #[test]
    fn a_limiter_takes_these_frames_at_every_rate_and_is_so_late() {
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
