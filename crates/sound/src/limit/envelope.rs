//! The limiter's gain: one value for each half millisecond, between which it goes in straight lines.

/// Every value that may be needed for a block stays in the minimum for as many blocks: it is seen with its own block or
/// the next one (the detector's delay), and the two ends of the line over that block must both be low enough.
const MINIMUM: usize = 11;
/// Weights of the smoothing kernel, a Hann window; they sum to one.
const KERNEL: usize = 9;
const BLOCKS_PER_SECOND: f32 = 2_000.0;

/// How short peaks are let go. A rise of 1 dB takes 25 ms.
const FAST_DB_PER_S: f32 = 40.0;
/// How what has lasted is let go.
const SLOW_DB_PER_S: f32 = 10.0;
/// After this time a reduction counts as lasting.
const LASTING_S: f32 = 0.12;

#[derive(Clone, Debug)]
pub(super) struct Envelope {
    /// What the last blocks need, the newest last. Moved up for each block, which for so few costs less than a ring.
    needed: [f32; MINIMUM],
    /// The minimum of what is needed, released; the newest last.
    released: [f32; KERNEL],
    /// The gain that is lasting.
    lasting: f32,
    gain: f32,
    /// Blocks since anything was below one.
    idle_blocks: usize,
    rise: Rise,
}

/// Factors per block.
#[derive(Clone, Copy, Debug)]
struct Rise {
    fast: f32,
    slow: f32,
    /// [`Self::fast`] over the whole look-ahead.
    soon: f32,
    lasting: f32,
}

impl Envelope {
    pub(super) fn new() -> Self {
        let per_block = |db_per_s: f32| 10f32.powf(db_per_s / BLOCKS_PER_SECOND / 20.0);
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

    /// Takes the gain that the newest block needs, at most 1.
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

    /// The gain is one, and nothing that came in asks for less.
    pub(super) fn is_idle(&self) -> bool {
        self.idle_blocks >= MINIMUM + KERNEL
    }

    /// The gain can't be above this while a block that comes now is still looked at.
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
        // cos²: the window's ends, which are nought, lie just outside.
        const WEIGHTS: [f32; KERNEL] =
            [0.019_098, 0.069_098, 0.130_902, 0.180_902, 0.2, 0.180_902, 0.130_902, 0.069_098, 0.019_098];
        WEIGHTS.iter().zip(&self.released).map(|(weight, x)| weight * x).sum::<f32>().min(1.0)
    }
}

fn append<const N: usize>(last: &mut [f32; N], newest: f32) {
    last.copy_within(1.., 0);
    last[N - 1] = newest;
}
