//! Smooths discontinuities: underruns, dropped samples, and the start of a resampler.
//!
//! The old sound continues for 5 ms and fades out while the new sound fades in, across frame borders. The old sound
//! continues with the samples that would have followed, if known, otherwise with a linear prediction. Continuous sound
//! passes unchanged, to the bit.

use super::predict;
use crate::{Sample, meter};

/// Level below which a frame is quiet, in dBFS.
pub(super) const QUIET_DBFS: f32 = -50.0;
/// Maximum magnitude of the last sample of a sound that needs no fade-out.
const ALMOST_ZERO: u32 = 8;

/// Returns the weight of the new sound at sample `i` of a cross-fade of `n` samples: half a cosine, smooth at both ends. The
/// weights of old and new sound add up to 1.
pub(super) fn rise(i: usize, n: usize) -> f32 {
    0.5 - 0.5 * (std::f32::consts::PI * (i + 1) as f32 / (n + 1) as f32).cos()
}

/// Number of recent output frames that are kept.
const HEARD_FRAMES: usize = 3;

#[derive(Clone, Debug)]
pub(super) struct Joiner {
    frame: usize,
    fade: usize,
    /// The last [`HEARD_FRAMES`] frames of the current sound, without older sound that fades out.
    heard: Vec<f32>,
    /// Whether the current sound may continue in the next frame.
    sounding: bool,
    /// Number of samples of the fade-in that are done; equal to `fade` if there is no fade-in.
    risen: usize,
    /// Sound that fades out, from the first sample of the next frame on.
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

    /// Marks a discontinuity before the next sample. `ahead` are the samples that would have continued the sound, if known.
    pub(super) fn interrupt<S: Sample>(&mut self, ahead: &[S]) {
        if self.sounding {
            let mut said = self.last_frame();
            said.extend(ahead.iter().take(self.fade).map(|x| x.to_f32()));
            self.fade_out(said, 0);
            self.be_silent();
        }
        self.risen = 0;
    }

    /// Applies the fades to a frame. The first `got` samples of the frame continue the sound, the other samples are
    /// zero. If `got` is less than the length of the frame, the sound ends after `got` samples. Returns whether the
    /// frame holds sound.
    pub(super) fn process<S: Sample>(&mut self, frame: &mut [S], got: usize) -> bool {
        for x in &mut frame[..got.min(self.fade - self.risen)] {
            *x = S::nearest(x.to_f32() * rise(self.risen, self.fade));
            self.risen += 1;
        }
        if got == frame.len() {
            self.heard.drain(..got);
            self.heard.extend(frame.iter().map(|x| x.to_f32()));
            self.sounding = true;
        } else if got > 0 || self.sounding {
            self.end(&frame[..got]);
        }
        let sounds = got > 0 || self.tail.iter().any(|x| x.abs() >= 0.5);
        let n = self.tail.len().min(frame.len());
        frame.iter_mut().zip(self.tail.drain(..n)).for_each(|(x, tail)| *x = S::nearest(x.to_f32() + tail));
        sounds
    }

    /// Returns the length of a fade in samples.
    pub(super) fn fade(&self) -> usize {
        self.fade
    }

    /// Returns the last three frames of output, or `None` if the sound has ended. Contains zeros for the time before the start of the sound.
    pub(super) fn heard(&self) -> Option<&[f32]> {
        self.sounding.then_some(&self.heard[..])
    }

    /// Returns whether nothing fades out.
    pub(super) fn is_done(&self) -> bool {
        self.tail.is_empty()
    }

    /// Ends the sound after `last`. A sound that ends loud, or during its fade-in, was interrupted: it fades out, and the next sound fades in. After
    /// any other sound, the next one needs no fade-in, and a fade-out is needed only if the last sample is not almost zero.
    fn end<S: Sample>(&mut self, last: &[S]) {
        let mut said = self.last_frame();
        said.extend(last.iter().map(|x| x.to_f32()));
        let end: Vec<S> = said[said.len() - self.fade / 5..].iter().map(|&x| S::nearest(x)).collect();
        let interrupted = self.risen < self.fade || meter::frame_dbfs(&end) >= QUIET_DBFS;
        self.risen = if interrupted { 0 } else { self.fade };
        if interrupted || end.last().is_some_and(|x| x.magnitude() > ALMOST_ZERO) {
            self.fade_out(said, last.len());
        }
        self.be_silent();
    }

    /// Mixes a fade-out into `tail`, from position `at` on. `said` is one frame of past output, followed by at least `at`
    /// samples of the sound to fade out; the missing samples are predicted.
    fn fade_out(&mut self, mut said: Vec<f32>, at: usize) {
        let from = self.frame + at;
        if said.len() < from + self.fade {
            let missing = from + self.fade - said.len();
            predict::extend(&mut said, missing);
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
