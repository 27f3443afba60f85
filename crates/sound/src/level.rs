//! Levelling: brings each talker's speech slowly to −20 LUFS, and doesn't raise the noise between words.
//!
//! ```text
//! frame ─┬──────────────────────────────────────────────── × ── frame
//!        └─ K-weighting ─┬─ speech? ── gate ───────────────┤
//!                        └─ loudness of speech ── gain ────┘
//!                           (3 s of it, gated)    3 dB/s
//! ```
//!
//! - The loudness is that of Rec. ITU-R BS.1770-5 over the last three seconds *of speech*, without pauses of any length, so
//!   that a talker has the same level after a pause. The gain changes only during speech, by at most 3 dB/s, and not at all
//!   if the loudness is within ½ dB of the target.
//! - Gain above 1 would raise background noise too. A gate applies it only during speech, so the noise between words keeps
//!   its level. The frame is analysed before it is scaled, so the gate opens within 5 ms of the first sample of a word, and
//!   levelling adds no delay.
//! - Gain below 1 is applied in pauses too, without a gate.
//! - The gain is interpolated linearly between samples, so that it doesn't click. [`crate::gain`] compresses peaks that
//!   would clip.
//!
//! The operator's gain is applied after levelling, which would otherwise undo it.

mod detector;
mod loudness;

use crate::gain;
use detector::Detector;
use loudness::{BLOCKS, Loudness, Weighting};

/// Target loudness of speech.
const TARGET_LUFS: f32 = -20.0;
/// Maximum rate of change of the gain, in dB per second.
const SLOPE_MAX_DB_S: f32 = 3.0;
/// Maximum gain, in dB: what speech at −45 dBFS needs, and some more for a voice without treble or bass.
const GAIN_MAX_DB: f32 = 30.0;
/// Minimum gain, in dB.
const GAIN_MIN_DB: f32 = -20.0;

/// Difference in LU between the loudness of speech without its pauses, as measured here, and with its pauses.
const PAUSES_LU: f32 = 0.8;
/// Maximum deviation from the target at which the gain doesn't change, in dB.
const NEAR_DB: f32 = 0.5;
/// Rate of change of the gain per dB of remaining difference to the target, in dB per second, up to the maximum rate.
const APPROACH_PER_S: f32 = 2.0;
const FRAME_S: f32 = 0.02;
/// Number of frames over which the gate closes.
const RELEASE_FRAMES: u32 = 2;

/// One talker's leveller.
#[derive(Clone, Debug)]
pub struct Leveller {
    weighting: Weighting,
    detector: Detector,
    loudness: Loudness,
    gain_db: f32,
    /// Number of frames until the gate is closed: `RELEASE_FRAMES` while the talker speaks, and 0 when it is closed.
    openness: u32,
    /// Factor by which the last sample was multiplied.
    factor: f32,
}

impl Leveller {
    /// Returns a leveller with gain 1, for frames of 20 ms at `rate_hz`: 16 000, 24 000 or 48 000.
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
            self.adjust_gain();
        }
        self.openness = if heard.is_open { RELEASE_FRAMES } else { self.openness.saturating_sub(1) };
        // The factor changes over the whole frame. If a word begins in the frame, the factor changes within one block.
        let ramp = heard.opens_at.map_or(0..frame.len(), |block| {
            let block_samples = frame.len() / BLOCKS;
            block * block_samples..(block + 1) * block_samples
        });
        self.scale(frame, ramp);
    }

    /// Moves the gain to 1 within this frame. Then the leveller can be dropped.
    pub fn release(&mut self, frame: &mut [i16]) {
        gain::ramp(frame, self.factor, 1.0);
        self.factor = 1.0;
    }

    /// Returns the current gain of speech, in dB. Between words, the applied gain is at most 0 dB.
    #[must_use]
    pub fn gain_db(&self) -> f32 {
        self.gain_db
    }

    /// Moves the gain towards the target, as far as one frame allows.
    fn adjust_gain(&mut self) {
        let Some(lufs) = self.loudness.lufs() else { return };
        let error_db = (TARGET_LUFS + PAUSES_LU - lufs).clamp(GAIN_MIN_DB, GAIN_MAX_DB) - self.gain_db;
        let excess_db = (error_db.abs() - NEAR_DB).max(0.0);
        let slope = (excess_db * APPROACH_PER_S).min(SLOPE_MAX_DB_S);
        self.gain_db += slope.copysign(error_db) * FRAME_S;
    }

    /// Scales the frame. The factor changes linearly from the last frame's to this frame's over the samples of `ramp`.
    fn scale(&mut self, frame: &mut [i16], ramp: std::ops::Range<usize>) {
        let part = self.openness as f32 / RELEASE_FRAMES as f32;
        let db = self.gain_db.min(0.0) + self.gain_db.max(0.0) * part;
        let from = std::mem::replace(&mut self.factor, gain::factor(db));
        gain::apply(&mut frame[..ramp.start], from);
        gain::apply(&mut frame[ramp.end..], self.factor);
        gain::ramp(&mut frame[ramp], from, self.factor);
    }
}

#[cfg(test)]
mod tests;
