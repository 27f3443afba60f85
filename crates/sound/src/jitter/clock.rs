//! A talker's clock against ours: measured while they send, followed where it is another one.
//!
//! [`Drift`] tells the difference after half a minute. From then on a resampler ([`Follow`]) uses the samples at the talker's
//! pace, and a slow control holds the buffer at the *slack* that it had in the beginning: for how much longer it would last
//! when the promptest piece of a second arrives. Where there is no difference nothing is resampled.
//!
//! A frame is taken whole. Without a resampler the pieces' ends keep their place among the frames' ends, but with one they
//! wander through a whole tick, so that more slack may be needed than there is. A quiet moment is made longer by what is
//! missing; where there is none before the buffer would run dry, a period of the sound is heard again.

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
/// Who has less than this to spare may run dry before half a minute is over, and can't wait for a quiet moment.
const SHORT_S: f64 = 0.004;
/// Samples more than a resampler needs, as its pace isn't perfect.
const RESERVE: usize = 8;
/// The longest period of a voice.
const PERIOD_S: f64 = 0.01;

/// What the last second told about the buffer.
#[derive(Clone, Copy, Debug)]
struct Reserve {
    /// So much more a resampler needs; less than nothing where there is enough.
    missing_s: f64,
    /// So much later the latest piece could be as long as there is no resampler.
    spare_s: f64,
}

#[derive(Debug)]
pub(super) struct Clock {
    rate_hz: u32,
    drift: Drift,
    ppm: Option<f64>,
    follow: Option<Box<Follow>>,
    ticked: Duration,
    /// The promptest piece's, of the present second.
    slack_s: Option<f64>,
    target_s: Option<f64>,
    reserve: Option<Reserve>,
    repeated_samples: u64,
}

impl Clock {
    pub(super) fn new(rate_hz: u32) -> Self {
        Self {
            rate_hz,
            drift: Drift::default(),
            ppm: None,
            follow: None,
            ticked: Duration::ZERO,
            slack_s: None,
            target_s: None,
            reserve: None,
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
        (self.slack_s, self.target_s, self.reserve) = (None, None, None);
    }

    pub(super) fn is_following(&self) -> bool {
        self.follow.is_some()
    }

    /// How many samples were heard twice so far.
    pub(super) fn repeated_samples(&self) -> u64 {
        self.repeated_samples
    }

    /// A piece arrives, `place` after the spurt's first sample, while `waiting` samples wait; lately none was later than
    /// `late_s`.
    pub(super) fn watch(&mut self, now: Duration, place: Duration, waiting: usize, late_s: f64) {
        let waiting = waiting + self.follow.as_ref().map_or(0, |follow| follow.held());
        let slack_s = waiting as f64 / f64::from(self.rate_hz) - now.saturating_sub(self.ticked).as_secs_f64();
        self.slack_s = Some(self.slack_s.map_or(slack_s, |most| most.max(slack_s)));
        if self.drift.push(now, place)
            && let Some(slack_s) = self.slack_s.take()
        {
            self.control(slack_s, late_s);
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
    fn control(&mut self, slack_s: f64, late_s: f64) {
        let target_s = *self.target_s.get_or_insert(slack_s);
        let needed_s = late_s + (Follow::SPARE + RESERVE) as f64 / f64::from(self.rate_hz);
        let (missing_s, spare_s) = (needed_s - slack_s, slack_s + FRAME.as_secs_f64() - late_s);
        self.reserve = Some(Reserve { missing_s, spare_s });
        self.ppm = self.drift.ppm(spare_s < SHORT_S).or(self.ppm);
        if let (Some(ppm), Some(follow)) = (self.ppm, &mut self.follow) {
            let correction = (slack_s - target_s.max(needed_s)) * CORRECTION_PER_S * 1e6;
            follow.set_ppm(ppm + correction.clamp(-CORRECTION_PPM, CORRECTION_PPM));
        }
    }

    /// From now on the resampler, if there is a reason, and if it is the moment.
    fn switch_in(&mut self, store: &Store, joiner: &mut Joiner, frame: usize) -> Option<()> {
        let (ppm, reserve, heard) = (self.ppm?, self.reserve?, joiner.heard()?);
        let next = store.peek(joiner.fade().max(self.samples_in(PERIOD_S)));
        let again = self.to_repeat(reserve, heard, &next)?;
        if store.len() + again < frame + Follow::SPARE {
            return None;
        }
        let mut follow = Follow::new(self.rate_hz, heard, again)?;
        follow.set_ppm(ppm);
        // Where nothing is heard again it is the same sound at the same place.
        joiner.leave(&next);
        self.follow = Some(Box::new(follow));
        self.repeated_samples += again as u64;
        Some(())
    }

    /// How many samples are to be heard again, so that the buffer holds what the resampler needs; `None` as long as another
    /// moment may be a better one.
    fn to_repeat(&self, reserve: Reserve, heard: &[f32], next: &[i16]) -> Option<usize> {
        if reserve.missing_s <= 0.0 {
            return Some(0);
        }
        let (least, fade) = (self.samples_in(reserve.missing_s), next.len());
        let from = heard.len().checked_sub(least + fade)?;
        let around: Vec<i16> = heard[from..].iter().map(|&x| x as i16).chain(next.iter().copied()).collect();
        if around.chunks(fade).all(|piece| meter::frame_dbfs(piece) < QUIET_DBFS) {
            return Some(least);
        }
        (reserve.spare_s < SHORT_S).then(|| self.likest(least, heard, next))
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
