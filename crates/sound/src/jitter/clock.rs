//! A talker's clock against ours: measured while they send, followed where it is another one.
//!
//! [`Drift`] tells the difference after half a minute. From then on a resampler ([`Follow`]) uses the samples at the talker's
//! pace, and a slow control holds the buffer at the *slack* that it had in the beginning: for how much longer it would last
//! when the promptest piece of a second arrives. What that is above the margin goes by the same control: a network that was
//! bad once leaves no delay behind. Where there is no difference nothing is resampled.
//!
//! A frame is taken whole. Without a resampler the pieces' ends keep their place among the frames' ends, but with one they
//! wander through a whole tick, so that more slack may be needed than there is. Most of it the resampler gathers itself, by
//! being slower for some seconds, as far as the pieces' place among the frames leaves time for that. A quiet moment is made
//! longer by the rest; where there is none soon, a period of the sound is heard again.

use std::time::Duration;

use super::drift::Drift;
use super::follow::Follow;
use super::join::Joiner;
use super::store::Store;
use super::{FRAME, QUIET_DBFS};
use crate::meter;

/// So much of what the buffer is too full or too empty is corrected in a second,
const CORRECTION_PER_S: f64 = 0.05;
/// but no more than this: a cent of pitch.
const CORRECTION_PPM: f64 = 600.0;
/// While the buffer has less than a resampler needs, so much slower is the sound: less than two cents of pitch.
const RAISE_PPM: f64 = 1_000.0;
/// So old may be what is known of the buffer.
const RAISE_LATE_S: f64 = 1.0;
/// Where the pieces come among the frames is known to this.
const PLACE_S: f64 = 0.001;
/// Who has less than this to spare may run dry before half a minute is over, and can't wait for a quiet moment.
const SHORT_S: f64 = 0.004;
/// Nor can whose delay has become less by this since they could have been followed. (Who is fast gathers what is missing.)
const WAIT_S: f64 = 0.000_4;
/// Samples more than a resampler needs, as its pace isn't perfect.
const RESERVE: usize = 8;
/// The longest period of a voice.
const PERIOD_S: f64 = 0.01;

/// How late pieces were lately.
#[derive(Clone, Copy, Debug)]
pub(super) struct Lateness {
    /// The latest that was in time.
    pub late_s: f64,
    /// What is held back for it.
    pub margin_s: f64,
}

/// What the last second told about the buffer.
#[derive(Clone, Copy, Debug)]
struct Reserve {
    /// So much more a resampler needs; less than nothing where there is enough.
    missing_s: f64,
    /// How long after a tick the latest piece comes, at most.
    after_s: f64,
    /// So much later the latest piece could be as long as there is no resampler.
    spare_s: f64,
}

impl Reserve {
    /// What must be heard again of what is missing: the resampler gathers the rest before the latest pieces, which come
    /// later and later or earlier and earlier after a tick, have wandered to the next one.
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
pub(super) struct Clock {
    rate_hz: u32,
    drift: Drift,
    ppm: Option<f64>,
    /// What it may be before it is certain enough to be followed.
    presumed_ppm: Option<f64>,
    follow: Option<Box<Follow>>,
    ticked: Duration,
    /// The promptest piece's, of the present second, and how long after a tick it came.
    slack_s: Option<(f64, f64)>,
    target_s: Option<f64>,
    reserve: Option<Reserve>,
    /// The resampler began with less than it needs.
    raising: bool,
    /// Since when one could have followed.
    waits_since: Option<Duration>,
    repeated_samples: u64,
}

impl Clock {
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

    /// A new spurt: nothing is known.
    pub(super) fn begin(&mut self) {
        *self = Self { repeated_samples: self.repeated_samples, ..Self::new(self.rate_hz) };
    }

    /// The buffer ran dry: the same clock, but the slack will be another one.
    pub(super) fn pause(&mut self) {
        self.follow = None;
        self.jump();
    }

    /// The buffer was cut.
    pub(super) fn jump(&mut self) {
        (self.slack_s, self.target_s, self.reserve, self.waits_since) = (None, None, None, None);
        self.raising = false;
    }

    pub(super) fn is_following(&self) -> bool {
        self.follow.is_some()
    }

    /// How much faster the talker's clock is, in parts per million, as far as that is known.
    pub(super) fn ppm(&self) -> f64 {
        self.ppm.or(self.presumed_ppm).unwrap_or(0.0)
    }

    /// How many samples were heard twice so far.
    pub(super) fn repeated_samples(&self) -> u64 {
        self.repeated_samples
    }

    /// A piece arrives, `place` after the spurt's first sample, while `waiting` samples wait.
    pub(super) fn watch(&mut self, now: Duration, place: Duration, waiting: usize, late: Lateness) {
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

    /// Takes a tick's samples out of the store, resampled where that is needed.
    pub(super) fn take(&mut self, now: Duration, store: &mut Store, joiner: &mut Joiner, frame: &mut [i16]) -> usize {
        self.ticked = now;
        if self.follow.is_none() {
            self.switch_in(store, joiner, frame.len());
        }
        match &mut self.follow {
            Some(follow) => follow.take(store, frame),
            None => store.take(frame),
        }
    }

    /// Once a second: how fast?
    fn control(&mut self, slack_s: f64, after_s: f64, Lateness { late_s, margin_s }: Lateness) {
        let filter_s = (Follow::SPARE + RESERVE) as f64 / f64::from(self.rate_hz);
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

    /// From now on the resampler, if there is a reason, and if it is the moment.
    fn switch_in(&mut self, store: &Store, joiner: &mut Joiner, frame: usize) -> Option<()> {
        let (ppm, reserve, heard) = (self.ppm?, self.reserve?, joiner.heard()?);
        let waited = self.ticked - *self.waits_since.get_or_insert(self.ticked);
        let can_wait = reserve.spare_s >= SHORT_S && waited.as_secs_f64() * -ppm < WAIT_S * 1e6;
        let next = store.peek(joiner.fade().max(self.samples_in(PERIOD_S)));
        if next.is_empty() {
            // It has run dry at this very tick: there is nothing to go on with.
            return None;
        }
        let again = self.to_repeat(reserve.to_repeat_s(ppm), can_wait, heard, &next)?;
        if store.len() + again < frame + Follow::SPARE {
            return None;
        }
        let mut follow = Follow::new(self.rate_hz, heard, again)?;
        self.raising = reserve.missing_s > again as f64 / f64::from(self.rate_hz);
        follow.set_ppm(if self.raising { ppm - RAISE_PPM } else { ppm });
        // Where nothing is heard again it is the same sound at the same place.
        joiner.leave(&next);
        self.follow = Some(Box::new(follow));
        self.repeated_samples += again as u64;
        Some(())
    }

    /// How many samples are to be heard again where `missing_s` are missing; `None` as long as another moment may be a better
    /// one.
    fn to_repeat(&self, missing_s: f64, can_wait: bool, heard: &[f32], next: &[i16]) -> Option<usize> {
        if missing_s <= 0.0 {
            return Some(0);
        }
        let (least, fade) = (self.samples_in(missing_s), next.len());
        let from = heard.len().checked_sub(least + fade)?;
        let around: Vec<i16> = heard[from..].iter().map(|&x| x as i16).chain(next.iter().copied()).collect();
        if around.chunks(fade).all(|piece| meter::frame_dbfs(piece) < QUIET_DBFS) {
            return Some(least);
        }
        (!can_wait).then(|| self.likest(least, heard, next))
    }

    /// The lag of `least` and up to a period more at which what was heard is most like what comes `next`, as in WSOLA (W. Verhelst
    /// and M. Roelands, 1993).
    fn likest(&self, least: usize, heard: &[f32], next: &[i16]) -> usize {
        let likeness = |lag: usize| {
            let earlier = heard[heard.len() - lag..].iter().copied().chain(next.iter().map(|&x| f32::from(x)));
            let (mut product, mut energy) = (0.0, 1.0);
            for (a, &b) in earlier.zip(next) {
                product += a * f32::from(b);
                energy += a * a;
            }
            product / energy.sqrt()
        };
        let lags = least..=(least + self.samples_in(PERIOD_S)).min(heard.len());
        let best = lags.map(|lag| (lag, likeness(lag))).max_by(|a, b| a.1.total_cmp(&b.1));
        best.map_or(least, |(lag, _)| lag)
    }

    fn samples_in(&self, time_s: f64) -> usize {
        (time_s * f64::from(self.rate_hz)).ceil() as usize
    }
}
