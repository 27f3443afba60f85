//! A resampler that follows a talker's clock: rubato's asynchronous sinc resampler, at a ratio within 0.2 % of 1.
//!
//! The resampler is filled with the last output samples first, so that its first new sample is exactly the sample that
//! would have followed without a resampler. The filter's delay of a millisecond or two is taken from the buffer.

use std::collections::VecDeque;

use rubato::audioadapter_buffers::direct::InterleavedSlice;
use rubato::{
    Adjustable as _, Async, FixedAsync, Resampler as _, SincInterpolationParameters, SincInterpolationType,
    WindowFunction,
};

use super::store::Store;
use crate::Sample;

/// Length of the filter in samples.
const FILTER_SAMPLES: usize = 64;
/// Points of the filter's table per sample.
const FILTER_POINTS: usize = 128;
/// Maximum ratio of the output rate to the input rate, and of the input rate to the output rate.
const RATIO_MAX: f64 = 1.002;

/// Number of samples that the buffer needs in addition to a frame when a resampler starts.
pub(super) const SPARE: usize = FILTER_SAMPLES / 2 + 4;

/// The resampler of one spurt.
pub(super) struct Follow<S> {
    inner: Async<f32>,
    input: Vec<f32>,
    output: Vec<f32>,
    ready: VecDeque<S>,
    to_skip: usize,
    taken: Vec<S>,
}

impl<S: Sample> Follow<S> {
    /// Returns a resampler whose output begins by repeating the last `again` samples of `heard`. `heard` is the recent
    /// output and contains at least 3 ms before those samples.
    pub(super) fn new(rate_hz: u32, heard: &[f32], again: usize) -> Option<Self> {
        let filter = SincInterpolationParameters::new(FILTER_SAMPLES, WindowFunction::BlackmanHarris2)
            .oversampling_factor(FILTER_POINTS)
            .interpolation(SincInterpolationType::Linear);
        // The resampler works in chunks of 1 ms. A frame is a whole number of chunks, so no sample is taken from the
        // buffer too early. The first output sample is the first sample of a chunk.
        let chunk = rate_hz as usize / 1000;
        let inner = Async::new_sinc(1.0, RATIO_MAX, &filter, chunk, 1, FixedAsync::Output).ok()?;
        // The filter's centre is one sample earlier than the reported delay.
        let to_skip = (inner.output_delay() + heard.len()).saturating_sub(again + 1);
        let heard = heard.get(to_skip % chunk..)?;
        let output = vec![0.0; inner.output_frames_max()];
        Some(Self {
            inner,
            input: heard.to_vec(),
            output,
            ready: VecDeque::new(),
            to_skip: to_skip - to_skip % chunk,
            taken: Vec::new(),
        })
    }

    /// Sets the speed: `ppm` parts per million more of the talker's samples are used per second.
    pub(super) fn set_ppm(&mut self, ppm: f64) {
        let ratio = (1.0 / (1.0 + ppm / 1e6)).clamp(1.0 / RATIO_MAX, RATIO_MAX);
        // The call fails only for a ratio out of bounds.
        let _ = self.inner.set_resample_ratio_relative(ratio, true);
    }

    /// Returns how many samples were taken from the store and not output yet.
    pub(super) fn held(&self) -> usize {
        (self.ready.len() + self.input.len() + self.inner.output_delay()).saturating_sub(1 + self.to_skip)
    }

    /// Fills `out` with resampled samples from the store. Returns how many samples were available. If the store runs
    /// empty, the last one or two milliseconds of the sound stay in the filter.
    pub(super) fn take(&mut self, store: &mut Store<S>, out: &mut [S]) -> usize {
        while self.ready.len() < out.len() {
            let wanted = self.inner.input_frames_next().saturating_sub(self.input.len());
            self.taken.resize(wanted, S::default());
            let got = store.take(&mut self.taken);
            self.input.extend(self.taken[..got].iter().map(|x| x.to_f32()));
            if got < wanted {
                break;
            }
            self.step();
        }
        let n = out.len().min(self.ready.len());
        out.iter_mut().zip(self.ready.drain(..n)).for_each(|(out, x)| *out = x);
        n
    }

    #[expect(clippy::expect_used, reason = "the buffers have the lengths that rubato requires")]
    fn step(&mut self) {
        let (given, room) = (self.input.len(), self.output.len());
        let input =
            InterleavedSlice::new(&self.input, 1, given).expect("bug: a mono slice is not accepted as one channel");
        let mut output = InterleavedSlice::new_mut(&mut self.output, 1, room)
            .expect("bug: a mono slice is not accepted as one channel");
        let (used, made) = self
            .inner
            .process_into_buffer(&input, &mut output, None)
            .expect("bug: a buffer is too short for the resampler");
        self.input.drain(..used);
        let skipped = self.to_skip.min(made);
        self.to_skip -= skipped;
        self.ready.extend(self.output[skipped..made].iter().map(|&x| S::nearest(x)));
    }
}

impl<S> std::fmt::Debug for Follow<S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Follow").field("ready", &self.ready.len()).finish_non_exhaustive()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::{measure, speech};
    use std::time::Duration;

    /// Returns the frames that follow `sound[..480]` in the output of a resampler for a clock that is `ppm` faster.
    fn follow(sound: &[i16], ppm: f64) -> Vec<i16> {
        let heard: Vec<f32> = sound[..480].iter().map(|&x| f32::from(x)).collect();
        let (mut follow, mut store) = (Follow::new(24_000, &heard, 0).unwrap(), Store::new(24_000));
        follow.set_ppm(ppm);
        store.push(Duration::ZERO, &sound[480..]);
        let (mut out, mut frame) = (Vec::new(), [0; 480]);
        while store.len() >= 480 + SPARE {
            let before = store.len() + follow.held();
            assert_eq!(follow.take(&mut store, &mut frame), 480);
            let used = before - store.len() - follow.held();
            assert!(used.abs_diff(480) <= 4, "{used} samples for a frame of 480");
            out.extend_from_slice(&frame);
            let ahead = (sound.len() - 480 - store.len()) as f64 - out.len() as f64 * (1.0 + ppm / 1e6);
            assert!(ahead < SPARE as f64, "{ahead} samples ahead");
        }
        out
    }

    #[test]
    fn the_first_sample_lies_where_the_next_one_would_have_been() {
        let speech = speech::english(24_000);
        let heard = follow(&speech[24_000..72_000], 0.0);
        let (mut off, mut level) = (0.0, 0.0);
        for (&a, &b) in heard.iter().zip(&speech[24_480..]) {
            off += (f64::from(a) - f64::from(b)).powi(2);
            level += f64::from(b).powi(2);
        }
        let snr_db = 10.0 * (level / off).log10();
        assert!(snr_db > 45.0, "{snr_db} dB");
    }

    #[test]
    fn a_tone_keeps_80_db() {
        for (freq_hz, ppm) in [(440.0, 300.0), (1_000.0, -300.0), (6_000.0, 150.0)] {
            let heard = follow(&measure::tone(24_000, freq_hz, -10.0, 48_000), ppm);
            let snr_db = measure::snr_db(&heard[480..], 24_000, freq_hz * (1.0 + ppm / 1e6));
            println!("{freq_hz} Hz at {ppm} ppm: {snr_db:.1} dB");
            assert!(snr_db > 80.0, "{freq_hz} Hz at {ppm} ppm: {snr_db} dB");
        }
    }
}
