//! The one place where sound that doesn't continue what was heard is joined to it.
//!
//! Whatever the reason (the buffer ran dry, samples were left out, a resampler takes over): what was heard goes on for 5 ms
//! and fades out, what comes fades in for 5 ms, and both are added, across the frames' borders. Where it goes on with is
//! what would have come, or what linear prediction makes of it. Sound that continues passes bit by bit.

use super::{QUIET_DBFS, predict};
use crate::meter;

/// Whoever stops here has come to an end.
const ALMOST_ZERO: i16 = 8;

/// How far a fade of `n` samples has come at sample `i`: half a cosine, without a corner at either end. Two sounds that are
/// one and the same are not changed by going over from one to the other.
pub(super) fn rise(i: usize, n: usize) -> f32 {
    0.5 - 0.5 * (std::f32::consts::PI * (i + 1) as f32 / (n + 1) as f32).cos()
}

/// Frames of what was heard that are remembered.
const HEARD_FRAMES: usize = 3;

#[derive(Clone, Debug)]
pub(super) struct Joiner {
    frame: usize,
    fade: usize,
    /// The last [`HEARD_FRAMES`] of what sounds now, without what fades out meanwhile.
    heard: Vec<f32>,
    /// What sounds now may go on.
    sounding: bool,
    /// How many samples of the fade-in are done; all of them where there is none.
    risen: usize,
    /// What fades out, from the next frame's first sample on.
    tail: Vec<f32>,
}

impl Joiner {
    pub(super) fn new(frame_samples: usize, fade: usize) -> Self {
        Self {
            frame: frame_samples,
            fade,
            heard: vec![0.0; frame_samples * HEARD_FRAMES],
            sounding: false,
            risen: fade,
            tail: Vec::new(),
        }
    }

    /// What comes next doesn't continue what was heard; `ahead` would have, as far as it is known.
    pub(super) fn leave(&mut self, ahead: &[i16]) {
        if self.sounding {
            let mut said = self.last_frame();
            said.extend(ahead.iter().take(self.fade).map(|&x| f32::from(x)));
            self.fade_out(said, 0);
            self.be_silent();
        }
        self.risen = 0;
    }

    /// `frame` is zeros but for the first `got` samples, which are what comes next; nothing comes after them if they are
    /// fewer than the frame has. Gives whether there is anything to hear.
    pub(super) fn give(&mut self, frame: &mut [i16], got: usize) -> bool {
        for x in &mut frame[..got.min(self.fade - self.risen)] {
            *x = (f32::from(*x) * rise(self.risen, self.fade)).round() as i16;
            self.risen += 1;
        }
        if got == frame.len() {
            self.heard.drain(..got);
            self.heard.extend(frame.iter().map(|&x| f32::from(x)));
            self.sounding = true;
        } else if got > 0 || self.sounding {
            self.end(&frame[..got]);
        }
        let sounds = got > 0 || self.tail.iter().any(|x| x.abs() >= 0.5);
        let n = self.tail.len().min(frame.len());
        frame.iter_mut().zip(self.tail.drain(..n)).for_each(|(x, tail)| *x = (f32::from(*x) + tail).round() as i16);
        sounds
    }

    /// How many samples a fade lasts.
    pub(super) fn fade(&self) -> usize {
        self.fade
    }

    /// The last three frames of what was heard, if it may go on; zeros before its beginning.
    pub(super) fn heard(&self) -> Option<&[f32]> {
        self.sounding.then_some(&self.heard[..])
    }

    /// Nothing is left to fade out.
    pub(super) fn is_done(&self) -> bool {
        self.tail.is_empty()
    }

    /// Nothing comes after `last`. What ends loud, or while it was still fading in, was torn off, and what comes then is torn off
    /// too; an end of the talker's own is quiet, and nothing is added to it.
    fn end(&mut self, last: &[i16]) {
        let mut said = self.last_frame();
        said.extend(last.iter().map(|&x| f32::from(x)));
        let end: Vec<i16> = said[said.len() - self.fade / 5..].iter().map(|&x| x as i16).collect();
        let torn = self.risen < self.fade || meter::frame_dbfs(&end) >= QUIET_DBFS;
        self.risen = if torn { 0 } else { self.fade };
        if torn || end.last().is_some_and(|x| x.abs() > ALMOST_ZERO) {
            self.fade_out(said, last.len());
        }
        self.be_silent();
    }

    /// Fades out what goes on in `said` after the frame and the `at` samples that it begins with, `at` samples from now.
    fn fade_out(&mut self, mut said: Vec<f32>, at: usize) {
        let from = self.frame + at;
        if said.len() < from + self.fade {
            let missing = from + self.fade - said.len();
            predict::go_on(&mut said, missing);
        }
        self.tail.resize(self.tail.len().max(at + self.fade), 0.0);
        for (i, (tail, x)) in self.tail[at..].iter_mut().zip(&said[from..from + self.fade]).enumerate() {
            *tail += x * (1.0 - rise(i, self.fade));
        }
    }

    fn be_silent(&mut self) {
        self.heard.fill(0.0);
        self.sounding = false;
    }

    fn last_frame(&self) -> Vec<f32> {
        self.heard[self.heard.len() - self.frame..].to_vec()
    }
}
