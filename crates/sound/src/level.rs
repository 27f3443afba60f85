//! Everybody equally loud: each talker's speech is brought to −20 LUFS, slowly, and noise between words is left alone.
//!
//! ```text
//! frame ─┬──────────────────────────────────────────────── × ── frame
//!        └─ K-weighting ─┬─ speech? ── gate ───────────────┤
//!                        └─ loudness of speech ── gain ────┘
//!                           (3 s of it, gated)    3 dB/s
//! ```
//!
//! - The loudness is that of Rec. ITU-R BS.1770-5 over the last three seconds *of speech*, however long ago they were, so a
//!   talker who pauses comes back as loud as they were. A gain for it moves while somebody speaks, and only then, by 3 dB/s at
//!   most, and rests where it is good enough.
//! - What raises a voice would raise the noise around it. A gate lets the gain through while there is speech; between words
//!   the noise has at most the level that it came with. It is open within 5 ms of the first sample that tells: the
//!   frame is looked at before it is scaled, so no first syllable is lost and nothing is delayed.
//! - A voice that is to be lowered is lowered in its pauses too; a gate isn't needed.
//! - The gain goes in straight lines from sample to sample: no clicks. A peak that a gain above 1 would clip is bent as
//!   [`crate::gain`] does.
//!
//! Not here: a limiter (each mix has its own), the operator's gain (which comes after this, or it would be undone), and
//! telling a voice from other sounds that come and go.

mod detector;
mod loudness;

use crate::gain;
use detector::Detector;
use loudness::{Loudness, Weighting};

/// Where everybody's speech is brought to.
pub const TARGET_LUFS: f32 = -20.0;
/// The gain moves no faster than this, in dB per second.
pub const SLOPE_MAX_DB_S: f32 = 3.0;
/// The most that a voice is raised, in dB: what −45 dBFS need, and some more for a voice without treble or bass.
pub const GAIN_MAX_DB: f32 = 30.0;
/// The most that a voice is lowered, in dB.
pub const GAIN_MIN_DB: f32 = -20.0;

/// What is measured here is speech without its pauses; of the whole, a meter says about so much less, in LU.
const PAUSES_LU: f32 = 0.8;
/// The gain rests while it is as near as this, in dB: a voice that is right already is not changed at all.
const NEAR_DB: f32 = 0.5;
/// Near the goal, the gain moves by this part of the way in a second.
const APPROACH_PER_S: f32 = 2.0;
const FRAME_S: f32 = 0.02;
/// Blocks of 5 ms in a frame.
const BLOCKS: usize = 4;
/// Frames over which the gate closes.
const RELEASE_FRAMES: u32 = 2;

/// One talker's leveller.
#[derive(Clone, Debug)]
pub struct Leveller {
    weighting: Weighting,
    detector: Detector,
    loudness: Loudness,
    gain_db: f32,
    /// Frames until the gate is closed; `RELEASE_FRAMES` while it is open.
    openness: u32,
    /// What the last sample was multiplied by.
    factor: f32,
}

impl Leveller {
    /// A leveller that has heard nothing and changes nothing, for frames of 20 ms at `rate_hz`, one of 16 000, 24 000 and
    /// 48 000.
    #[must_use]
    pub fn new(rate_hz: u32) -> Self {
        Self {
            weighting: Weighting::new(rate_hz),
            detector: Detector::default(),
            loudness: Loudness::default(),
            gain_db: 0.0,
            openness: 0,
            factor: 1.0,
        }
    }

    /// Levels one frame of 20 ms in place.
    pub fn process(&mut self, frame: &mut [i16]) {
        let powers = self.weighting.powers(frame);
        let heard = self.detector.push(&powers.of_voice);
        if heard.is_open && !heard.is_steady {
            self.loudness.push(powers.of_frame);
            self.follow();
        }
        self.openness = if heard.is_open { RELEASE_FRAMES } else { self.openness.saturating_sub(1) };
        // Between words, the line to the next factor takes the whole frame; a word must not wait for it.
        let line = heard.opens_at.map_or(0..frame.len(), |block| {
            let block_samples = frame.len() / BLOCKS;
            block * block_samples..(block + 1) * block_samples
        });
        self.scale(frame, line);
    }

    /// Goes back to no gain at all within this frame; then the leveller can be thrown away.
    pub fn let_go(&mut self, frame: &mut [i16]) {
        gain::ramp(frame, self.factor, 1.0);
        self.factor = 1.0;
    }

    /// The gain of speech at present, in dB. Between words it is at most 0, whatever this says.
    #[must_use]
    pub fn gain_db(&self) -> f32 {
        self.gain_db
    }

    /// Moves the gain by at most a frame's part of the slope.
    fn follow(&mut self) {
        let Some(lufs) = self.loudness.lufs() else { return };
        let way_db = (TARGET_LUFS + PAUSES_LU - lufs).clamp(GAIN_MIN_DB, GAIN_MAX_DB) - self.gain_db;
        let far_db = (way_db.abs() - NEAR_DB).max(0.0);
        let slope = (far_db * APPROACH_PER_S).min(SLOPE_MAX_DB_S);
        self.gain_db += slope.copysign(way_db) * FRAME_S;
    }

    /// From the last factor to this frame's, in a straight line over the samples of `line`.
    fn scale(&mut self, frame: &mut [i16], line: std::ops::Range<usize>) {
        let part = self.openness as f32 / RELEASE_FRAMES as f32;
        let db = self.gain_db.min(0.0) + self.gain_db.max(0.0) * part;
        let from = std::mem::replace(&mut self.factor, gain::factor(db));
        gain::apply(&mut frame[..line.start], from);
        gain::apply(&mut frame[line.end..], self.factor);
        gain::ramp(&mut frame[line], from, self.factor);
    }
}

#[cfg(test)]
mod tests;
