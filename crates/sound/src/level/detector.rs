//! Whether somebody speaks: what stands out from the noise of the last two seconds, of fans and traffic less their rumble.

use super::BLOCKS;
use super::loudness::lufs;

/// Frames of which the noise is taken: 2 s.
const FRAMES: usize = 100;
/// The noise is the level that a tenth of them stays below: all but the loudest talkers pause for that long, and a few
/// frames of digital silence, which the network leaves behind, are not taken for it.
const NOISE_PART: usize = 10;
/// The noise is taken for no less and no more than this.
const NOISE_LUFS: (f32, f32) = (-80.0, -20.0);
/// What stands out so far from the noise is speech, in LU.
const OPEN_LU: f32 = 8.0;
/// And remains speech until it is nearer than this.
const CLOSE_LU: f32 = 5.0;
/// So many frames the gate stays open between two words: 80 ms, the stop in a `p`.
const HOLD_FRAMES: u32 = 4;
/// What changes by less than [`STEADY_LU`] in so many frames (500 ms) is a machine.
const STEADY_FRAMES: usize = 25;
const STEADY_LU: f32 = 10.0;

/// What a frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Heard {
    /// There is speech in it, or there was just now.
    pub is_open: bool,
    /// The block from which on there is, if there was none just before.
    pub opens_at: Option<usize>,
    /// It has hardly changed for a while, as no voice does.
    pub is_steady: bool,
}

/// The detector of one talker.
#[derive(Clone, Debug, Default)]
pub(super) struct Detector {
    /// Loudness of the last frames, the oldest overwritten.
    levels: Vec<f32>,
    next: usize,
    is_open: bool,
    quiet_frames: u32,
}

impl Detector {
    /// Takes in the mean squares of a frame's blocks, as [`super::loudness::Powers::of_voice`].
    pub(super) fn push(&mut self, powers: &[f32; BLOCKS]) -> Heard {
        self.keep(lufs(powers.iter().sum::<f32>() / BLOCKS as f32));
        let noise = self.noise();
        // Over two blocks: one has less than a period of a deep voice.
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
