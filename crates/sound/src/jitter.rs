//! The jitter buffer: one talker's samples between their uneven arrival and the even tick of the mixer.
//!
//! Samples are pushed as they come and pulled one frame per tick. A talk spurt begins only when its first frame has been
//! complete for the *margin*, so that sound which comes in time for the first frame, and up to a margin later than that
//! for every other, is never missing. In the undisturbed case what comes out is what went in, bit by bit.
//!
//! ```text
//!          samples             complete for the margin
//!  Empty ───────────▶ Priming ─────────────────────────▶ Playing
//!    ▲                                                      │ less than a frame there
//!    └──────── what remains, then a tail of 5 ms ───────────┘
//! ```
//!
//! - Running dry is not audible as a click: a tail of 5 ms, the last samples mirrored and faded, follows the last sample,
//!   and what comes late is faded in.
//! - Each underrun within a spurt makes the margin 10 ms longer; each good minute makes it 10 ms shorter again.
//! - No sample is played that is older than [`AGE_MAX`]; what is too old is cut.
//! - A surplus that lasts (the sender's clock is faster, or the network's pause is over) is cut, in a quiet moment if there
//!   is one within a second, with a cross-fade of 5 ms.
//!
//! Not here: filling gaps with guessed speech, and conversion between clocks.

mod store;

use std::time::Duration;

use crate::meter;
use store::Store;

/// No sample waits longer than this.
pub const AGE_MAX: Duration = Duration::from_millis(400);
/// The margin to begin with, and the least.
pub const MARGIN_MIN: Duration = Duration::from_millis(15);
/// The margin after many underruns.
pub const MARGIN_MAX: Duration = Duration::from_millis(200);

const FRAME: Duration = Duration::from_millis(20);
const MARGIN_STEP: Duration = Duration::from_millis(10);
/// A minute of ticks without an underrun.
const GOOD_TICKS: u32 = 3_000;
/// A gap shorter than this is the network's doing; nobody pauses so briefly.
const UNDERRUN_GAP: Duration = Duration::from_millis(100);
/// Ticks over which the lowest fill is taken: a second.
const SURPLUS_TICKS: u32 = 50;
/// A cut waits so many ticks longer for a quiet frame: another second.
const PATIENCE_TICKS: u32 = 50;
/// More than this above the margin is a surplus.
const SURPLUS: Duration = Duration::from_millis(30);
/// The most that one cut in the middle of speech removes.
const CUT_MAX: Duration = Duration::from_millis(40);
const QUIET_DBFS: f32 = -50.0;
const FADE_MS: usize = 5;

/// What a pull gave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Pulled {
    /// The frame holds sound.
    Frame,
    /// There is nothing to hear; the frame is zeros.
    Silence,
}

/// What happened so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Samples that were thrown away, being too old or a surplus.
    pub cut_samples: u64,
    /// How often a spurt ran dry and went on.
    pub underruns: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Empty { dry_since: Option<Duration> },
    Priming { first: Duration, complete: Option<Duration>, dry_since: Option<Duration>, fade_in: bool },
    Playing,
}

/// One talker's buffer.
#[derive(Clone, Debug)]
pub struct Jitter {
    store: Store,
    state: State,
    margin: Duration,
    good_ticks: u32,
    lowest_fill: usize,
    lowest_ticks: u32,
    /// The last 5 ms that were given away.
    last: Vec<i16>,
    counters: Counters,
    frame_samples: usize,
    fade_samples: usize,
}

impl Jitter {
    /// An empty buffer for samples of `rate_hz`; a frame has `rate_hz / 50` samples.
    #[must_use]
    pub fn new(rate_hz: u32) -> Self {
        let (frame_samples, fade_samples) = (rate_hz as usize / 50, rate_hz as usize * FADE_MS / 1000);
        Self {
            store: Store::new(rate_hz),
            state: State::Empty { dry_since: None },
            margin: MARGIN_MIN,
            good_ticks: 0,
            lowest_fill: usize::MAX,
            lowest_ticks: 0,
            last: vec![0; fade_samples],
            counters: Counters::default(),
            frame_samples,
            fade_samples,
        }
    }

    /// Takes what arrived at `now`; of more than [`AGE_MAX`] at once the newest stays.
    pub fn push(&mut self, now: Duration, samples: &[i16]) {
        if samples.is_empty() {
            return;
        }
        self.counters.cut_samples += self.store.push(now, samples) as u64;
        if let State::Empty { dry_since } = self.state {
            let short_gap = dry_since.is_some_and(|dry| now.saturating_sub(dry) < UNDERRUN_GAP);
            if short_gap {
                self.underrun();
            }
            let dry_since = if short_gap { None } else { dry_since };
            self.state = State::Priming { first: now, complete: None, dry_since, fade_in: short_gap };
        }
        if let State::Priming { complete: complete @ None, .. } = &mut self.state {
            *complete = (self.store.len() >= self.frame_samples).then_some(now);
        }
    }

    /// Takes the frame of this tick; `frame` has `rate_hz / 50` samples and is always written.
    pub fn pull(&mut self, now: Duration, frame: &mut [i16]) -> Pulled {
        frame.fill(0);
        self.cut_what_is_too_old(now);
        let fade_in = match self.state {
            State::Empty { .. } => return Pulled::Silence,
            State::Priming { first, complete, dry_since, fade_in } => {
                let late = self.was_late(first, dry_since);
                if late {
                    self.underrun();
                    self.state = State::Priming { first, complete, dry_since: None, fade_in: true };
                }
                if now < complete.unwrap_or(first + FRAME) + self.margin {
                    return Pulled::Silence;
                }
                self.state = State::Playing;
                self.forget_fill();
                fade_in || late
            }
            State::Playing => false,
        };
        self.cut_surplus();
        let got = self.store.take(frame);
        if fade_in {
            fade(&mut frame[..got.min(self.fade_samples)], true);
        }
        if got < frame.len() { self.run_dry(now, frame, got) } else { self.go_on(frame) }
    }

    /// Whether there is nothing in it and nothing to come: no tick is needed until the next push.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        matches!(self.state, State::Empty { .. })
    }

    /// Samples that wait.
    #[must_use]
    pub fn fill_samples(&self) -> usize {
        self.store.len()
    }

    /// How long the first frame of the next spurt will wait.
    #[must_use]
    pub fn margin(&self) -> Duration {
        self.margin
    }

    /// What happened so far.
    #[must_use]
    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// A long pause whose sound then came all at once was no pause: the network held it back.
    fn was_late(&self, first: Duration, dry_since: Option<Duration>) -> bool {
        dry_since.is_some_and(|dry| {
            let gap = self.store.samples_in(first.saturating_sub(dry).min(AGE_MAX));
            self.store.len() > self.store.samples_in(self.margin + FRAME * 2) + gap / 2
        })
    }

    fn underrun(&mut self) {
        self.counters.underruns += 1;
        self.good_ticks = 0;
        self.margin = (self.margin + MARGIN_STEP).min(MARGIN_MAX);
    }

    fn cut_what_is_too_old(&mut self, now: Duration) {
        let excess = self.store.too_old(now, AGE_MAX);
        if excess > 0 {
            // Only what follows a frame that has been heard needs the cross-fade.
            let fade = if self.state == State::Playing { self.fade_samples } else { 0 };
            self.cut(excess, fade);
        }
    }

    /// Looks at the fill that remains after each frame: its minimum over a second is time that nothing needed.
    fn cut_surplus(&mut self) {
        self.lowest_fill = self.lowest_fill.min(self.store.len().saturating_sub(self.frame_samples));
        self.lowest_ticks += 1;
        let wanted = self.store.samples_in(self.margin);
        if self.lowest_fill < wanted + self.store.samples_in(SURPLUS) {
            if self.lowest_ticks >= SURPLUS_TICKS {
                self.forget_fill();
            }
            return;
        }
        if self.lowest_ticks < SURPLUS_TICKS {
            return;
        }
        let surplus = self.lowest_fill - wanted;
        if self.store.head_is_quiet(surplus + self.fade_samples, QUIET_DBFS) {
            self.cut(surplus, self.fade_samples);
        } else if self.lowest_ticks >= SURPLUS_TICKS + PATIENCE_TICKS {
            self.cut(surplus.min(self.store.samples_in(CUT_MAX)), self.fade_samples);
        }
    }

    fn cut(&mut self, samples: usize, fade: usize) {
        self.counters.cut_samples += self.store.cut(samples, fade) as u64;
        self.forget_fill();
    }

    fn forget_fill(&mut self) {
        (self.lowest_fill, self.lowest_ticks) = (usize::MAX, 0);
    }

    fn go_on(&mut self, frame: &[i16]) -> Pulled {
        self.last.copy_from_slice(&frame[frame.len() - self.fade_samples..]);
        self.good_ticks += 1;
        if self.good_ticks >= GOOD_TICKS {
            self.good_ticks = 0;
            self.margin = self.margin.saturating_sub(MARGIN_STEP).max(MARGIN_MIN);
        }
        Pulled::Frame
    }

    /// Nothing follows `frame[..got]`: a tail of what was last heard, mirrored and faded, avoids the click.
    fn run_dry(&mut self, now: Duration, frame: &mut [i16], got: usize) -> Pulled {
        self.state = State::Empty { dry_since: Some(now) };
        self.last.extend_from_slice(&frame[..got]);
        let tail = self.fade_samples.min(frame.len() - got);
        for (out, &heard) in frame[got..got + tail].iter_mut().zip(self.last.iter().rev()) {
            *out = heard;
        }
        fade(&mut frame[got..got + tail], false);
        self.last.clear();
        self.last.resize(self.fade_samples, 0);
        if got == 0 && frame.iter().all(|&x| x == 0) { Pulled::Silence } else { Pulled::Frame }
    }
}

/// A straight line from 0 to 1 over the samples, or from 1 to 0.
fn fade(samples: &mut [i16], rising: bool) {
    let n = samples.len() as i32;
    for (i, sample) in (0..n).zip(samples) {
        let part = if rising { i + 1 } else { n - i - 1 };
        *sample = (i32::from(*sample) * part / n.max(1)) as i16;
    }
}

fn is_quiet(samples: &[i16], dbfs: f32) -> bool {
    meter::frame_dbfs(samples) < dbfs
}

#[cfg(test)]
mod tests;
