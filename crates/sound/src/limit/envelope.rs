//! The limiter's gain: one value per block of ½ ms, linear in between.

use crate::gain;

/// Length of the minimum filter, in blocks. One more than the look-ahead: a peak is detected with its own block or the
/// next block, and the gain must be low enough at both ends of its block.
const MINIMUM: usize = 11;
/// Length of the smoothing kernel, in blocks.
const KERNEL: usize = 9;
const BLOCKS_PER_SECOND: f32 = 2_000.0;

/// Rate of the release after short peaks.
const FAST_DB_PER_S: f32 = 40.0;
/// Rate of the release after a long reduction of the gain.
const SLOW_DB_PER_S: f32 = 10.0;
/// Time constant, in seconds, after which a reduction of the gain counts as long.
const LASTING_S: f32 = 0.12;

#[derive(Clone, Debug)]
pub(super) struct Envelope {
    /// Gains that the last blocks need, the newest last. The array is shifted for each block, which is faster than a
    /// ring buffer of this length.
    needed: [f32; MINIMUM],
    /// Minimum of `needed` after the release, the newest last.
    released: [f32; KERNEL],
    /// Running mean of the reduced gain. The fast release ends at this mean.
    lasting: f32,
    gain: f32,
    /// Blocks since a gain below 1 was needed.
    idle_blocks: usize,
    rise: Rise,
}

/// Constants of the release: factors by which the gain rises in one block, and the smoothing factor of
/// `Envelope::lasting`.
#[derive(Clone, Copy, Debug)]
struct Rise {
    fast: f32,
    slow: f32,
    /// Factor by which the fast release raises the gain over the whole look-ahead.
    soon: f32,
    lasting: f32,
}

impl Envelope {
    pub(super) fn new() -> Self {
        let per_block = |db_per_s: f32| gain::factor(db_per_s / BLOCKS_PER_SECOND);
        let fast = per_block(FAST_DB_PER_S);
        let rise = Rise {
            fast,
            slow: per_block(SLOW_DB_PER_S),
            soon: fast.powi(MINIMUM as i32 + 1),
            lasting: 1.0 - (-1.0 / (LASTING_S * BLOCKS_PER_SECOND)).exp(),
        };
        Self {
            needed: [1.0; MINIMUM],
            released: [1.0; KERNEL],
            lasting: 1.0,
            gain: 1.0,
            idle_blocks: MINIMUM + KERNEL,
            rise,
        }
    }

    /// Appends the gain that the newest block needs to the look-ahead, and computes the output gain. `needed` is a factor
    /// of at most 1; 1 means that the block needs no reduction.
    pub(super) fn push(&mut self, needed: f32) {
        let previous = self.newest();
        append(&mut self.needed, needed);
        let lowest = self.needed.iter().fold(1f32, |lowest, &x| if x < lowest { x } else { lowest });
        let raised = (previous * self.rise.fast).min(self.lasting.max(previous));
        let released = raised.min(lowest);
        self.lasting = if released < self.lasting {
            self.lasting + (released - self.lasting) * self.rise.lasting
        } else {
            (self.lasting * self.rise.slow).min(1.0)
        };
        append(&mut self.released, released);
        let idle = needed >= 1.0 && released >= 1.0 && self.lasting >= 1.0;
        self.idle_blocks = if idle { (self.idle_blocks + 1).min(MINIMUM + KERNEL) } else { 0 };
        self.gain = if self.is_idle() { 1.0 } else { self.smoothed() };
    }

    pub(super) fn gain(&self) -> f32 {
        self.gain
    }

    /// Returns whether the gain is 1 and no delayed block needs less.
    pub(super) fn is_idle(&self) -> bool {
        self.idle_blocks >= MINIMUM + KERNEL
    }

    /// Returns the maximum that the gain can reach while the newest block is in the look-ahead.
    pub(super) fn soon(&self) -> f32 {
        (self.newest() * self.rise.soon).min(1.0)
    }

    pub(super) fn agrees_with(&self, other: &Self, within_db: f32) -> bool {
        let near = |a: f32, b: f32| (20.0 * (a / b).log10()).abs() <= within_db;
        near(self.gain, other.gain) && near(self.newest(), other.newest())
    }

    fn newest(&self) -> f32 {
        self.released[KERNEL - 1]
    }

    fn smoothed(&self) -> f32 {
        // A Hann window without its two zero ends. The weights sum to 1.
        const WEIGHTS: [f32; KERNEL] =
            [0.019_098, 0.069_098, 0.130_902, 0.180_902, 0.2, 0.180_902, 0.130_902, 0.069_098, 0.019_098];
        WEIGHTS.iter().zip(&self.released).map(|(weight, x)| weight * x).sum::<f32>().min(1.0)
    }
}

fn append<const N: usize>(last: &mut [f32; N], newest: f32) {
    last.copy_within(1.., 0);
    last[N - 1] = newest;
}
