//! Detects speech: sound that is louder than the background noise of the last two seconds.

use super::loudness::{BLOCKS, lufs};

/// Number of frames from which the noise level is measured: 2 s.
const FRAMES: usize = 100;
/// Divisor for the quantile of the noise level: the quietest tenth of the frames counts as noise. Talkers pause for at
/// least a tenth of the time, and a few frames of digital silence after lost samples don't lower the noise level.
const NOISE_PART: usize = 10;
/// Minimum and maximum noise level.
const NOISE_LUFS: (f32, f32) = (-80.0, -20.0);
/// Level above the noise at which speech begins, in LU.
const OPEN_LU: f32 = 8.0;
/// Level above the noise below which speech ends, in LU.
const CLOSE_LU: f32 = 5.0;
/// Number of frames for which the gate stays open after speech: 80 ms, the length of the silence in the consonant `p`.
const HOLD_FRAMES: u32 = 4;
/// Number of frames in which the level of a voice changes by at least [`STEADY_LU`]: 500 ms.
const STEADY_FRAMES: usize = 25;
/// Minimum change of a voice's level within [`STEADY_FRAMES`] frames, in LU. Sounds with a smaller change come from
/// machines.
const STEADY_LU: f32 = 10.0;

/// Result of the speech detection for one frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Heard {
    /// Whether the frame contains speech, or speech ended at most 80 ms ago.
    pub is_open: bool,
    /// The block in which speech begins, if it begins in this frame.
    pub opens_at: Option<usize>,
    /// Whether the level has been steady, unlike that of a voice.
    pub is_steady: bool,
}

/// The speech detector of one talker.
#[derive(Clone, Debug, Default)]
pub(super) struct Detector {
    /// Loudness of the last frames, in a ring buffer.
    levels: Vec<f32>,
    next: usize,
    is_open: bool,
    quiet_frames: u32,
}

impl Detector {
    /// Adds a frame, given as the mean squares of its blocks ([`super::loudness::Powers::of_voice`]). Returns the
    /// result for the frame.
    pub(super) fn push(&mut self, powers: &[f32; BLOCKS]) -> Heard {
        self.keep(lufs(powers.iter().sum::<f32>() / BLOCKS as f32));
        let noise = self.noise();
        // Pairs of blocks, since one block is shorter than a period of a deep voice.
        let pairs = powers.windows(2).map(|pair| lufs((pair[0] + pair[1]) / 2.0));
        let loudest = pairs.clone().fold(f32::NEG_INFINITY, f32::max);
        let is_speech = loudest > noise + if self.is_open { CLOSE_LU } else { OPEN_LU };
        let first = pairs.enumerate().find(|(_, level)| *level > noise + CLOSE_LU).map(|(block, _)| block);
        let opens_at = first.filter(|_| is_speech && !self.is_open);
        self.quiet_frames = if is_speech { 0 } else { self.quiet_frames + 1 };
        self.is_open = is_speech || (self.is_open && self.quiet_frames <= HOLD_FRAMES);
        Heard { is_open: self.is_open, opens_at, is_steady: self.is_steady() }
    }

    fn keep(&mut self, level: f32) {
        match self.levels.get_mut(self.next) {
            Some(oldest) => *oldest = level,
            None => self.levels.push(level),
        }
        self.next = (self.next + 1) % FRAMES;
    }

    fn noise(&self) -> f32 {
        let mut sorted = [0.0; FRAMES];
        let sorted = &mut sorted[..self.levels.len()];
        sorted.copy_from_slice(&self.levels);
        let at = sorted.len() / NOISE_PART;
        let (_, &mut noise, _) = sorted.select_nth_unstable_by(at.min(sorted.len() - 1), f32::total_cmp);
        noise.clamp(NOISE_LUFS.0, NOISE_LUFS.1)
    }

    fn is_steady(&self) -> bool {
        let newest =
            (1..=STEADY_FRAMES.min(self.levels.len())).map(|ago| self.levels[(self.next + FRAMES - ago) % FRAMES]);
        let (lowest, highest) = newest.fold((f32::MAX, f32::MIN), |(low, high), x| (x.min(low), x.max(high)));
        highest - lowest < STEADY_LU
    }
}
