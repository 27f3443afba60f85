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
//!    └───────── what remains, then a fade of 5 ms ──────────┘
//! ```
//!
//! - The margin is the smallest that would have been good lately, of many that are simulated (`depth`).
//! - Where the sound that comes doesn't continue what was heard, whatever the reason, there is one way to join them
//!   (`join`): what was heard goes on for 5 ms and fades out, what comes fades in. So nothing clicks.
//! - No sample is played that is older than [`AGE_MAX`]; what is too old is caught up with, by leaving out silence, and
//!   by a cut where there is none. Silence at the head of a spurt that would only be delay is left out too.
//! - A surplus that lasts (the network's pause is over) is cut, in quiet moments where there are any.
//! - The clock of whoever sends for half a minute without a pause is measured, and where it differs from ours a resampler
//!   follows it (`clock`). Shorter spurts need none: each begins anew.
//!
//! Not here: filling gaps with guessed speech.

mod clock;
mod depth;
mod drift;
mod follow;
mod join;
mod predict;
mod store;

use std::collections::VecDeque;
use std::time::Duration;

use clock::{Clock, Lateness};
use depth::Depth;
use join::Joiner;
use store::Store;

/// No sample waits longer than this.
pub const AGE_MAX: Duration = Duration::from_millis(400);
/// The margin to begin with, and the least.
pub const MARGIN_MIN: Duration = Duration::from_millis(15);
/// The margin at most.
pub const MARGIN_MAX: Duration = Duration::from_millis(200);

const FRAME: Duration = Duration::from_millis(20);
/// A gap shorter than this is the network's doing; nobody pauses so briefly.
const UNDERRUN_GAP: Duration = Duration::from_millis(100);
/// And it proves so much more depth to be needed, at most.
const UNDERRUN_STEP: Duration = Duration::from_millis(10);
/// Ticks over which the least surplus is taken: a second.
const SURPLUS_TICKS: u32 = 50;
/// A cut waits so many ticks longer for a quiet moment: another second.
const PATIENCE_TICKS: u32 = 50;
/// More than this above the margin is a surplus: spurts begin at ticks, and a clock may differ from ours.
const SURPLUS: Duration = Duration::from_millis(30);
/// One that isn't larger than this is only cut in quiet moments.
const SURPLUS_AUDIBLE: Duration = Duration::from_millis(40);
/// Of a surplus larger than this, half is cut at once.
const SURPLUS_LARGE: Duration = Duration::from_millis(80);
const QUIET_DBFS: f32 = -50.0;
/// At the head of a spurt only what nobody can hear is left out.
const SILENT_DBFS: f32 = -65.0;
const FADE_MS: usize = 5;
/// From so many pieces it is told how long they usually are,
const PIECES: usize = 8;
/// and of somebody who has sent fewer it isn't expected that they are longer than this.
const PIECE_MAX: Duration = Duration::from_millis(200);

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
    /// Samples that were heard again, so that a slow talker's clock can be followed.
    pub repeated_samples: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Nothing is there.
    Empty { dry_since: Option<Duration> },
    /// Samples wait since `first`, a whole frame since `complete`.
    Priming { first: Duration, complete: Option<Duration>, dry_since: Option<Duration> },
    /// A frame is taken at each tick.
    Playing,
}

/// One talker's buffer.
#[derive(Debug)]
pub struct Jitter {
    store: Store,
    state: State,
    depth: Depth,
    clock: Clock,
    joiner: Joiner,
    margin: Duration,
    /// Samples that came in this spurt.
    spurt_samples: u64,
    /// The lengths of the latest pieces.
    pieces: VecDeque<usize>,
    /// When the last frame was taken.
    pulled: Duration,
    /// How long before they were needed punctual pieces came in this second, at the least; none until a piece came.
    in_time_s: Option<f64>,
    in_time_ticks: u32,
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
            depth: Depth::new(),
            clock: Clock::new(rate_hz),
            joiner: Joiner::new(frame_samples, fade_samples),
            margin: MARGIN_MIN,
            spurt_samples: 0,
            pieces: VecDeque::with_capacity(PIECES),
            pulled: Duration::ZERO,
            in_time_s: None,
            in_time_ticks: 0,
            counters: Counters::default(),
            frame_samples,
            fade_samples,
        }
    }

    /// Takes what arrived at `now`. What is more than [`AGE_MAX`] is caught up with at the next tick; of more than twice as
    /// much only the newest stays.
    pub fn push(&mut self, now: Duration, samples: &[i16]) {
        if samples.is_empty() {
            return;
        }
        if let State::Empty { dry_since } = self.state {
            self.prime(now, dry_since);
        }
        self.watch(now);
        self.spurt_samples += samples.len() as u64;
        if self.pieces.len() == PIECES {
            self.pieces.pop_front();
        }
        self.pieces.push_back(samples.len());
        self.store.push(now, samples);
        self.cut(self.store.len().saturating_sub(self.store.samples_in(AGE_MAX * 2)));
        if let State::Priming { complete: complete @ None, .. } = &mut self.state {
            *complete = (self.store.len() >= self.frame_samples).then_some(now);
        }
    }

    /// Takes the frame of this tick; `frame` has `rate_hz / 50` samples and is always written.
    pub fn pull(&mut self, now: Duration, frame: &mut [i16]) -> Pulled {
        frame.fill(0);
        self.cut_what_is_too_old(now);
        if let State::Priming { first, complete, dry_since } = self.state
            && now >= complete.unwrap_or(first + FRAME) + self.margin
        {
            self.begin_to_play(first, dry_since);
        }
        let got = if self.state == State::Playing { self.take(now, frame) } else { 0 };
        if self.joiner.give(frame, got) { Pulled::Frame } else { Pulled::Silence }
    }

    /// Whether there is nothing in it and nothing to come: no tick is needed until the next push.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        matches!(self.state, State::Empty { .. }) && self.joiner.is_done()
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

    /// Whether a resampler follows the talker's clock.
    #[must_use]
    pub fn is_following(&self) -> bool {
        self.clock.is_following()
    }

    /// What happened so far.
    #[must_use]
    pub fn counters(&self) -> Counters {
        Counters { repeated_samples: self.clock.repeated_samples(), ..self.counters }
    }

    /// The first samples after nothing: a new spurt, or the one that ran dry.
    fn prime(&mut self, now: Duration, dry_since: Option<Duration>) {
        let gap = dry_since.map(|dry| now.saturating_sub(dry));
        let dry_since = match gap {
            Some(gap) if gap < UNDERRUN_GAP => {
                // By how much it was late is the simulation's to say; and it may have been a very short pause.
                self.underrun(gap.min(UNDERRUN_STEP));
                None
            }
            _ => {
                self.spurt_samples = 0;
                self.depth.begin();
                self.clock.begin();
                dry_since
            }
        };
        self.state = State::Priming { first: now, complete: None, dry_since };
    }

    /// Something arrives: what does it say about the network, and about the talker's clock?
    fn watch(&mut self, now: Duration) {
        let place = Duration::from_secs_f64(self.spurt_samples as f64 / f64::from(self.store.rate_hz()));
        let late_s = self.depth.push(now, place, self.clock.ppm());
        self.margin = self.depth.best();
        if self.state == State::Playing {
            self.note_in_time(now, late_s);
            let late = Lateness { late_s: self.depth.worst_s(), margin_s: self.margin.as_secs_f64() };
            self.clock.watch(now, place, self.store.len(), late);
        }
    }

    /// Sound that was needed came later, by `gap`.
    fn underrun(&mut self, gap: Duration) {
        self.counters.underruns += 1;
        self.depth.failed(gap + self.margin);
    }

    fn begin_to_play(&mut self, first: Duration, dry_since: Option<Duration>) {
        let gap = dry_since.map_or(Duration::MAX, |dry| first.saturating_sub(dry));
        let held_back = self.store.samples_in(gap.min(AGE_MAX)) / 2;
        // A long pause whose sound then came all at once was no pause: the network held it back.
        if dry_since.is_some() && self.store.len() > self.store.samples_in(self.margin + FRAME * 2) + held_back {
            self.underrun(gap);
        }
        self.state = State::Playing;
        self.forget_in_time();
        self.trim();
    }

    /// Silence at the head that would only be delay is left out, but for 5 ms.
    fn trim(&mut self) {
        let wanted = self.usual_piece().max(self.frame_samples) + self.store.samples_in(self.margin);
        let silent = self.store.quiet_head(SILENT_DBFS, self.fade_samples).saturating_sub(self.fade_samples);
        let n = self.store.len().saturating_sub(wanted).min(silent);
        self.store.cut(n);
        self.note_cut(n);
    }

    /// How long the pieces are that this talker sends: the longest lately, but for one, which may have been held back.
    fn usual_piece(&self) -> usize {
        let mut pieces: Vec<usize> = self.pieces.iter().copied().collect();
        pieces.sort_unstable();
        if pieces.len() < PIECES { self.store.samples_in(PIECE_MAX) } else { pieces[PIECES - 2] }
    }

    /// Takes a frame's samples; gives how many there were.
    fn take(&mut self, now: Duration, frame: &mut [i16]) -> usize {
        self.cut_surplus();
        self.pulled = now;
        let got = self.clock.take(now, &mut self.store, &mut self.joiner, frame);
        if got < frame.len() {
            self.clock.pause();
            self.state = State::Empty { dry_since: Some(now) };
        }
        got
    }

    fn cut_what_is_too_old(&mut self, now: Duration) {
        let (excess, within) = self.store.too_old(now, AGE_MAX);
        if excess > 0 {
            self.cut_quiet(excess, within);
            self.cut(self.store.too_old(now, AGE_MAX).0);
        }
    }

    /// A piece arrives: how long before it was needed would it have come, had it been punctual?
    fn note_in_time(&mut self, now: Duration, late_s: f64) {
        let waiting_s = self.store.len() as f64 / f64::from(self.store.rate_hz());
        let in_time_s = waiting_s + (self.pulled + FRAME).as_secs_f64() - now.as_secs_f64() + late_s;
        self.in_time_s = Some(self.in_time_s.map_or(in_time_s, |least| least.min(in_time_s)));
    }

    /// What punctual pieces had too much for a whole second, compared with the margin, nothing needs.
    fn cut_surplus(&mut self) {
        self.in_time_ticks += 1;
        let Some(in_time_s) = self.in_time_s.filter(|_| self.in_time_ticks >= SURPLUS_TICKS) else { return };
        // Of pieces shorter than a frame one is waited for that fills the first frame; and where a resampler makes their place
        // among the ticks wander, they must be in time at the worst of places.
        let wander = self.usual_piece() < self.frame_samples || self.clock.is_following();
        let needed = self.margin + if wander { FRAME } else { Duration::ZERO };
        let surplus_s = (in_time_s - needed.as_secs_f64()).max(0.0);
        let surplus = ((surplus_s * f64::from(self.store.rate_hz())) as usize).min(self.store.len());
        if surplus < self.store.samples_in(SURPLUS) {
            return self.forget_in_time();
        }
        let patient = self.in_time_ticks < SURPLUS_TICKS + PATIENCE_TICKS;
        let quiet = self.cut_quiet(surplus, self.store.len());
        if surplus - quiet > self.store.samples_in(SURPLUS_LARGE) {
            self.cut((surplus - quiet) / 2);
        } else if quiet == 0 && !patient {
            self.cut(if surplus > self.store.samples_in(SURPLUS_AUDIBLE) { surplus } else { 0 });
            self.forget_in_time();
        }
    }

    /// Removes up to `n` of the first `within` samples, but only quiet ones; gives how many.
    fn cut_quiet(&mut self, n: usize, within: usize) -> usize {
        let cut = self.store.cut_quiet(n, within, QUIET_DBFS, self.fade_samples);
        self.note_cut(cut);
        cut
    }

    /// Removes the first `n` samples, whatever they are.
    fn cut(&mut self, n: usize) {
        if n > 0 {
            if self.clock.is_following() {
                // What would have come is inside the resampler, which begins anew.
                self.joiner.leave(&[]);
                self.clock.pause();
            } else {
                self.joiner.leave(&self.store.peek(self.fade_samples.min(n)));
            }
            self.store.cut(n);
            self.note_cut(n);
        }
    }

    fn note_cut(&mut self, samples: usize) {
        if samples > 0 {
            self.counters.cut_samples += samples as u64;
            self.clock.jump();
            self.forget_in_time();
        }
    }

    fn forget_in_time(&mut self) {
        (self.in_time_s, self.in_time_ticks) = (None, 0);
    }
}

#[cfg(test)]
mod tests;
