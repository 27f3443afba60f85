//! Measures a talker's clock and follows it with a resampler if it differs from the mixer's.
//!
//! [`Drift`] measures the difference of the clocks within half a minute. From then on a resampler ([`Follow`]) plays
//! the samples at the talker's speed, and a slow control loop keeps the *slack* of the buffer constant: the time for
//! which the buffer would still last when the promptest chunk of a second arrives. Slack above the margin is reduced by
//! the same loop, so that a bad network leaves no permanent delay. Equal clocks need no resampler.
//!
//! Each tick takes a whole frame. Without a resampler, the ends of chunks stay at the same place relative to the ticks.
//! With a resampler, the ends of chunks drift through a whole tick, which may need more slack than the buffer has. The
//! resampler gains most of the missing slack by playing slower for some seconds, until the ends of chunks reach the
//! next tick. To gain the rest, it extends a quiet moment or, if there is no quiet moment soon, repeats a period of the
//! sound.

use std::time::Duration;

use super::drift::Drift;
use super::follow::{Follow, SPARE};
use super::join::{Joiner, QUIET_DBFS};
use super::store::Store;
use crate::{Sample, meter};

/// Interval between ticks, and length of a frame.
pub(super) const FRAME: Duration = Duration::from_millis(20);
/// Fraction of the deviation from the wanted slack that is corrected per second.
const CORRECTION_PER_S: f64 = 0.05;
/// Maximum change of speed to correct the slack, in ppm: a cent of pitch.
const CORRECTION_PPM: f64 = 600.0;
/// Reduction of speed while the slack is too small for a resampler, in ppm: less than two cents of pitch.
const RAISE_PPM: f64 = 1_000.0;
/// Maximum age of the measured slack, in seconds.
const RAISE_LATE_S: f64 = 1.0;
/// Uncertainty of the measured time from a tick to the arrival of a chunk, in seconds.
const PLACE_S: f64 = 0.001;
/// Spare time, in seconds, below which the talker's clock is estimated early and the resampler doesn't wait for a quiet
/// moment.
const SHORT_S: f64 = 0.004;
/// Maximum loss of slack by a slow clock, in seconds, while the resampler waits for a quiet moment. (A fast clock gains
/// slack.)
const WAIT_S: f64 = 0.000_4;
/// Number of samples that the buffer must hold in addition to those that a resampler needs, since the resampler's speed
/// isn't exact.
const RESERVE: usize = 8;
/// Maximum period of a voice, in seconds: a pitch of 100 Hz.
const PERIOD_S: f64 = 0.01;

/// The recent lateness of chunks.
#[derive(Clone, Copy, Debug)]
pub(super) struct Lateness {
    /// Maximum lateness of the recent chunks that the margin tolerated.
    pub late_s: f64,
    /// Margin of the jitter buffer.
    pub margin_s: f64,
}

/// Measurements of the last second that tell whether a resampler can start: the slack that it would lack, and when the
/// most delayed chunk arrives.
#[derive(Clone, Copy, Debug)]
struct Reserve {
    /// Slack that is missing to start a resampler; negative if there is enough slack.
    missing_s: f64,
    /// Maximum time from a tick to the arrival of the most delayed chunk.
    after_s: f64,
    /// Maximum additional lateness of the most delayed chunk that would cause no underrun without a resampler.
    spare_s: f64,
}

impl Reserve {
    /// Returns how much of the missing slack must be gained by repeating sound. The resampler can gain the rest before the
    /// arrival of the most delayed chunks has drifted to the next tick.
    fn to_repeat_s(self, ppm: f64) -> f64 {
        let now_s = self.missing_s - (self.after_s - 2.0 * PLACE_S).max(0.0);
        if ppm > 0.0 {
            return now_s;
        }
        let time_s = (FRAME.as_secs_f64() - self.after_s) / (-ppm * 1e-6) - RAISE_LATE_S;
        now_s.max(self.missing_s - (time_s * RAISE_PPM * 1e-6).max(0.0))
    }
}

#[derive(Debug)]
pub(super) struct Clock<S> {
    rate_hz: u32,
    drift: Drift,
    ppm: Option<f64>,
    /// Early estimate of the clock's difference in ppm. The resampler doesn't follow this estimate.
    presumed_ppm: Option<f64>,
    follow: Option<Box<Follow<S>>>,
    ticked: Duration,
    /// Slack at the arrival of the promptest chunk of the current second, and the time from the last tick to that
    /// arrival.
    slack_s: Option<(f64, f64)>,
    target_s: Option<f64>,
    reserve: Option<Reserve>,
    /// Whether the resampler started with too little slack and plays slower to gain slack.
    raising: bool,
    /// Time of the first attempt to start the resampler. It may have to wait for a quiet moment. `None` before that attempt.
    waits_since: Option<Duration>,
    repeated_samples: u64,
}

impl<S: Sample> Clock<S> {
    pub(super) fn new(rate_hz: u32) -> Self {
        Self {
            rate_hz,
            drift: Drift::default(),
            ppm: None,
            presumed_ppm: None,
            follow: None,
            ticked: Duration::ZERO,
            slack_s: None,
            target_s: None,
            reserve: None,
            raising: false,
            waits_since: None,
            repeated_samples: 0,
        }
    }

    /// Starts a new spurt: resets the measurement.
    pub(super) fn begin(&mut self) {
        *self = Self { repeated_samples: self.repeated_samples, ..Self::new(self.rate_hz) };
    }

    /// Handles an underrun or another interruption of the sound: stops the resampler and measures the slack again. Keeps the measurement of the clock.
    pub(super) fn pause(&mut self) {
        self.follow = None;
        self.jump();
    }

    /// Handles a drop of samples: measures the slack again.
    pub(super) fn jump(&mut self) {
        (self.slack_s, self.target_s, self.reserve, self.waits_since) = (None, None, None, None);
        self.raising = false;
    }

    pub(super) fn is_following(&self) -> bool {
        self.follow.is_some()
    }

    /// Returns how much faster the talker's clock is, in parts per million; 0 if unknown.
    pub(super) fn ppm(&self) -> f64 {
        self.ppm.or(self.presumed_ppm).unwrap_or(0.0)
    }

    /// Returns how many samples were repeated so far.
    pub(super) fn repeated_samples(&self) -> u64 {
        self.repeated_samples
    }

    /// Records the arrival of a chunk. The chunk's first sample is `place` after the first sample of the spurt, and
    /// `waiting` samples are in the store.
    pub(super) fn arrive(&mut self, now: Duration, place: Duration, waiting: usize, late: Lateness) {
        let waiting = waiting + self.follow.as_ref().map_or(0, |follow| follow.held());
        let after_s = now.saturating_sub(self.ticked).as_secs_f64();
        let slack_s = waiting as f64 / f64::from(self.rate_hz) - after_s;
        if self.slack_s.is_none_or(|(most, _)| slack_s > most) {
            self.slack_s = Some((slack_s, after_s));
        }
        if self.drift.push(now, place)
            && let Some((slack_s, after_s)) = self.slack_s.take()
        {
            self.control(slack_s, after_s, late);
        }
    }

    /// Takes a frame from the store, resampled if necessary. Returns how many samples were available.
    pub(super) fn take(&mut self, now: Duration, store: &mut Store<S>, joiner: &mut Joiner, frame: &mut [S]) -> usize {
        self.ticked = now;
        if self.follow.is_none() {
            self.start_resampler(store, joiner, frame.len());
        }
        match &mut self.follow {
            Some(follow) => follow.take(store, frame),
            None => store.take(frame),
        }
    }

    /// Runs the control loop: sets the speed of the resampler, once a second.
    fn control(&mut self, slack_s: f64, after_s: f64, Lateness { late_s, margin_s }: Lateness) {
        let filter_s = (SPARE + RESERVE) as f64 / f64::from(self.rate_hz);
        let needed_s = late_s + filter_s;
        let target_s = self.target_s.get_or_insert(slack_s).min(margin_s + filter_s).max(needed_s);
        let (missing_s, spare_s) = (needed_s - slack_s, slack_s + FRAME.as_secs_f64() - late_s);
        let after_s = (after_s + late_s + PLACE_S) % FRAME.as_secs_f64();
        self.reserve = Some(Reserve { missing_s, after_s, spare_s });
        self.ppm = self.drift.ppm(spare_s < SHORT_S).or(self.ppm);
        self.presumed_ppm = self.drift.ppm(true).or(self.presumed_ppm);
        self.raising &= missing_s > 0.0;
        if let (Some(ppm), Some(follow)) = (self.ppm, &mut self.follow) {
            let correction = (slack_s - target_s) * CORRECTION_PER_S * 1e6;
            let gentle = correction.clamp(-CORRECTION_PPM, CORRECTION_PPM);
            follow.set_ppm(ppm + if self.raising { -RAISE_PPM } else { gentle });
        }
    }

    /// Starts the resampler if the clocks differ and the moment is good.
    fn start_resampler(&mut self, store: &Store<S>, joiner: &mut Joiner, frame: usize) -> Option<()> {
        let (ppm, reserve, heard) = (self.ppm?, self.reserve?, joiner.heard()?);
        let waited = self.ticked - *self.waits_since.get_or_insert(self.ticked);
        let can_wait = reserve.spare_s >= SHORT_S && waited.as_secs_f64() * -ppm < WAIT_S * 1e6;
        let next = store.peek(joiner.fade().max(self.samples_in(PERIOD_S)));
        if next.is_empty() {
            // This tick is an underrun, so the resampler can't start now.
            return None;
        }
        let repeated = self.to_repeat(reserve.to_repeat_s(ppm), can_wait, heard, &next)?;
        if store.len() + repeated < frame + SPARE {
            return None;
        }
        let mut follow = Follow::new(self.rate_hz, heard, repeated)?;
        self.raising = reserve.missing_s > repeated as f64 / f64::from(self.rate_hz);
        follow.set_ppm(if self.raising { ppm - RAISE_PPM } else { ppm });
        // If no sample is repeated, the cross-fade is between identical samples.
        joiner.interrupt(&next);
        self.follow = Some(Box::new(follow));
        self.repeated_samples += repeated as u64;
        Some(())
    }

    /// Returns how many samples to repeat if `missing_s` seconds of slack are missing, or `None` to wait for a better
    /// moment.
    fn to_repeat(&self, missing_s: f64, can_wait: bool, heard: &[f32], next: &[S]) -> Option<usize> {
        if missing_s <= 0.0 {
            return Some(0);
        }
        let (least, fade) = (self.samples_in(missing_s), next.len());
        let from = heard.len().checked_sub(least + fade)?;
        let around: Vec<S> = heard[from..].iter().map(|&x| S::nearest(x)).chain(next.iter().copied()).collect();
        if around.chunks(fade).all(|part| meter::frame_dbfs(part) < QUIET_DBFS) {
            return Some(least);
        }
        (!can_wait).then(|| self.best_lag(least, heard, next))
    }

    /// Returns the lag, from `least` to one period above `least`, at which the recent output is most similar to `next`,
    /// as in WSOLA (W. Verhelst and M. Roelands, 1993).
    fn best_lag(&self, least: usize, heard: &[f32], next: &[S]) -> usize {
        let similarity = |lag: usize| {
            let earlier = heard[heard.len() - lag..].iter().copied().chain(next.iter().map(|x| x.to_f32()));
            let (mut product, mut energy) = (0.0, 1.0);
            for (a, b) in earlier.zip(next) {
                product += a * b.to_f32();
                energy += a * a;
            }
            product / energy.sqrt()
        };
        let lags = least..=(least + self.samples_in(PERIOD_S)).min(heard.len());
        let best = lags.map(|lag| (lag, similarity(lag))).max_by(|a, b| a.1.total_cmp(&b.1));
        best.map_or(least, |(lag, _)| lag)
    }

    fn samples_in(&self, time_s: f64) -> usize {
        (time_s * f64::from(self.rate_hz)).ceil() as usize
    }
}
