//! The jitter buffer: turns the irregular arrival of one talker's samples into one frame per tick.
//!
//! Samples are pushed as they arrive, and one frame is pulled per tick. A talk spurt starts when its first frame has been
//! complete for the *margin*, so that every later frame may arrive later than the first by up to the margin. Undisturbed
//! sound passes unchanged, to the bit.
//!
//! ```text
//!          samples             complete for the margin
//!  Empty ───────────▶ Priming ─────────────────────────▶ Playing
//!    ▲                                                      │ less than a frame left
//!    └────────── the rest, then a fade of 5 ms ─────────────┘
//! ```
//!
//! - Many margins are simulated, and the smallest margin that would have been sufficient recently is used (`depth`).
//!   Samples that arrive within 4 ms are one chunk.
//! - Every discontinuity is smoothed in the same way (`join`): the old sound is extrapolated for 5 ms and faded out
//!   while the new sound is faded in.
//! - No sample older than 400 ms is played. Older samples are dropped: silence first, then sound. Silence at the start
//!   of a spurt that would only add delay is dropped too.
//! - A lasting surplus, such as after a network stall, is dropped, in quiet moments if possible.
//! - The clock of a talker who sends for half a minute without a pause is measured. If it differs from the mixer's, a
//!   resampler follows it (`clock`). Shorter spurts don't need this, since each spurt starts with an empty buffer.
//! - A talker who sends digital silence for a second is treated as if nothing arrived, until sound arrives.
//!
//! The jitter buffer does not conceal gaps in the sound.

mod clock;
mod depth;
mod drift;
mod follow;
mod join;
mod predict;
mod store;

use std::collections::VecDeque;
use std::time::Duration;

use clock::{Clock, FRAME, Lateness};
use depth::Depth;
pub use depth::MARGIN_MIN;
use join::{Joiner, QUIET_DBFS};
use store::Store;

use crate::Sample;

/// Maximum time that a sample waits in the buffer.
const AGE_MAX: Duration = Duration::from_millis(400);
/// Maximum gap between samples that counts as an underrun. Longer gaps are pauses in speech.
const UNDERRUN_GAP: Duration = Duration::from_millis(100);
/// Maximum lateness beyond the margin that one underrun adds to the history of lateness, even if its gap was longer.
const UNDERRUN_STEP: Duration = Duration::from_millis(10);
/// Number of ticks over which the smallest surplus of waiting samples is measured: 1 s.
const SURPLUS_TICKS: u32 = 50;
/// Maximum number of ticks for which the drop of a measured surplus waits for a quiet moment: 1 s.
const QUIET_WAIT_TICKS: u32 = 50;
/// Minimum surplus above the margin that is dropped. A smaller surplus is normal, since spurts start at ticks and a
/// talker's clock may drift.
const SURPLUS: Duration = Duration::from_millis(30);
/// Maximum surplus that is dropped only in quiet moments. Without a quiet moment, a larger surplus is dropped within
/// sound.
const SURPLUS_AUDIBLE: Duration = Duration::from_millis(40);
/// Surplus above which half of the surplus is dropped at once, even within sound.
const SURPLUS_LARGE: Duration = Duration::from_millis(80);
/// Level below which sound at the start of a spurt is inaudible and dropped, in dBFS.
const SILENT_DBFS: f32 = -65.0;
/// Duration of digital silence after which the talker is treated as absent.
const ABSENT: Duration = Duration::from_secs(1);
/// Maximum time between the first and the last part of a chunk. A part that arrives later is a chunk of its own. Otherwise the first part would count as
/// late compared with the last one, and a talker whose sound arrives in bursts would be delayed by up to the length of a burst.
const TOGETHER: Duration = Duration::from_millis(4);
/// Maximum magnitude of a sample of digital silence: zeros with dither.
const DIGITAL_SILENCE: u32 = 1;
const FADE_MS: usize = 5;
/// Number of recent chunks from which the usual chunk length is computed.
const CHUNKS: usize = 8;
/// Assumed chunk length until [`CHUNKS`] chunks have arrived.
const CHUNK_MAX: Duration = Duration::from_millis(200);

/// The content of a pulled frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Pulled {
    /// The frame contains sound.
    Frame,
    /// The buffer had no sound for this tick: the frame contains only zeros.
    Silence,
}

/// Counters since the buffer was created.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Number of samples that were dropped because they were too old or surplus.
    pub cut_samples: u64,
    /// Number of underruns: how often the buffer ran empty within a spurt.
    pub underruns: u64,
    /// Number of samples that were played twice, so that the resampler for a slow talker's clock has enough input.
    pub repeated_samples: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// The buffer is empty. `dry_since` is the time at which the buffer ran empty; `None` before the first sample.
    Empty { dry_since: Option<Duration> },
    /// Samples have waited since `first`, and a whole frame since `complete`. `dry_since` is the time at which the
    /// buffer ran empty before this spurt.
    Priming { first: Duration, complete: Option<Duration>, dry_since: Option<Duration> },
    /// Each tick takes a frame from the buffer.
    Playing,
}

/// The jitter buffer of one talker.
#[derive(Debug)]
pub struct Jitter<S = i16> {
    store: Store<S>,
    state: State,
    depth: Depth,
    clock: Clock<S>,
    joiner: Joiner,
    margin: Duration,
    /// Number of samples that arrived in this spurt.
    spurt_samples: u64,
    /// Number of samples of digital silence that arrived since the last sample of sound.
    silent_samples: usize,
    /// Lengths of the latest chunks.
    chunks: VecDeque<usize>,
    /// Time at which the first samples of the latest chunk arrived.
    chunk_at: Duration,
    /// Time at which the last frame was pulled.
    pulled: Duration,
    /// Minimum time, in this second, between the punctual arrival of a chunk and the tick that needs its samples.
    in_time_s: Option<f64>,
    in_time_ticks: u32,
    counters: Counters,
    frame_samples: usize,
    fade_samples: usize,
}

impl<S: Sample> Jitter<S> {
    /// Returns an empty buffer for samples at `rate_hz`. A frame has `rate_hz / 50` samples.
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
            silent_samples: 0,
            chunks: VecDeque::with_capacity(CHUNKS),
            chunk_at: Duration::ZERO,
            pulled: Duration::ZERO,
            in_time_s: None,
            in_time_ticks: 0,
            counters: Counters::default(),
            frame_samples,
            fade_samples,
        }
    }

    /// Adds samples that arrived at `now`. Keeps at most the newest 800 ms; the next tick drops samples older than 400 ms. Drops
    /// digital silence while the talker is absent.
    pub fn push(&mut self, now: Duration, samples: &[S]) {
        let is_silence = self.count_silence(samples);
        if samples.is_empty() || (is_silence && self.is_absent() && matches!(self.state, State::Empty { .. })) {
            return;
        }
        let is_start = if let State::Empty { dry_since } = self.state {
            self.prime(now, dry_since);
            true
        } else {
            false
        };
        match self.chunks.back_mut() {
            Some(chunk) if !is_start && now < self.chunk_at + TOGETHER => *chunk += samples.len(),
            _ => self.begin_chunk(now, samples.len()),
        }
        self.spurt_samples += samples.len() as u64;
        self.store.push(now, samples);
        self.cut(self.store.len().saturating_sub(self.store.samples_in(AGE_MAX * 2)));
        if let State::Priming { complete: complete @ None, .. } = &mut self.state {
            *complete = (self.store.len() >= self.frame_samples).then_some(now);
        }
    }

    /// Takes the frame of this tick. `frame` has `rate_hz / 50` samples and is always overwritten.
    pub fn pull(&mut self, now: Duration, frame: &mut [S]) -> Pulled {
        frame.fill(S::default());
        self.drop_old(now);
        if self.is_absent() && !matches!(self.state, State::Empty { .. }) {
            self.leave();
        }
        if let State::Priming { first, complete, dry_since } = self.state
            && now >= complete.unwrap_or(first + FRAME) + self.margin
        {
            self.begin_to_play(first, dry_since);
        }
        let got = if self.state == State::Playing { self.take(now, frame) } else { 0 };
        if self.joiner.process(frame, got) { Pulled::Frame } else { Pulled::Silence }
    }

    /// Returns whether the buffer is empty and nothing fades out, so that no tick is needed until the next push.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        matches!(self.state, State::Empty { .. }) && self.joiner.is_done()
    }

    /// Returns how long the first frame of the next spurt will wait.
    #[must_use]
    pub fn margin(&self) -> Duration {
        self.margin
    }

    /// Returns whether a resampler follows the talker's clock.
    #[must_use]
    pub fn is_following(&self) -> bool {
        self.clock.is_following()
    }

    /// Returns the counters.
    #[must_use]
    pub fn counters(&self) -> Counters {
        Counters { repeated_samples: self.clock.repeated_samples(), ..self.counters }
    }

    /// Counts the digital silence at the end of the samples. Returns whether all `samples` are digital silence.
    fn count_silence(&mut self, samples: &[S]) -> bool {
        let last_sound = samples.iter().rposition(|sample| sample.magnitude() > DIGITAL_SILENCE);
        self.silent_samples = match last_sound {
            Some(at) => samples.len() - 1 - at,
            None => self.silent_samples.saturating_add(samples.len()),
        };
        last_sound.is_none()
    }

    /// Returns whether the talker has sent only digital silence for at least [`ABSENT`], and the buffer contains nothing else.
    fn is_absent(&self) -> bool {
        self.silent_samples >= self.store.samples_in(ABSENT).max(self.store.len())
    }

    /// Empties the buffer, which contains only digital silence. The next sound begins a new spurt.
    fn leave(&mut self) {
        self.store.cut(self.store.len());
        self.clock.pause();
        self.state = State::Empty { dry_since: None };
    }

    /// Handles the first samples after the buffer was empty: a new spurt, or an underrun.
    fn prime(&mut self, now: Duration, dry_since: Option<Duration>) {
        let gap = dry_since.map(|dry| now.saturating_sub(dry));
        let dry_since = match gap {
            Some(gap) if gap < UNDERRUN_GAP => {
                // The gap may be a very short pause in speech, so only a part of the gap counts. The simulation in
                // `depth` measures the real lateness anyway.
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

    /// Measures the arrival of a chunk, whose first `length` samples have arrived.
    fn begin_chunk(&mut self, now: Duration, length: usize) {
        self.measure_arrival(now);
        self.chunk_at = now;
        if self.chunks.len() == CHUNKS {
            self.chunks.pop_front();
        }
        self.chunks.push_back(length);
    }

    /// Updates the margin and the measurement of the talker's clock when a chunk arrives.
    fn measure_arrival(&mut self, now: Duration) {
        let place = Duration::from_secs_f64(self.spurt_samples as f64 / f64::from(self.store.rate_hz()));
        let late_s = self.depth.push(now, place, self.clock.ppm());
        self.margin = self.depth.best();
        if self.state == State::Playing {
            self.note_in_time(now, late_s);
            let late = Lateness { late_s: self.depth.worst_s(), margin_s: self.margin.as_secs_f64() };
            self.clock.arrive(now, place, self.store.len(), late);
        }
    }

    /// Counts an underrun: samples arrived `gap` after they were needed.
    fn underrun(&mut self, gap: Duration) {
        self.counters.underruns += 1;
        self.depth.failed(gap + self.margin);
    }

    fn begin_to_play(&mut self, first: Duration, dry_since: Option<Duration>) {
        let gap = dry_since.map_or(Duration::MAX, |dry| first.saturating_sub(dry));
        let held_back = self.store.samples_in(gap.min(AGE_MAX)) / 2;
        // If the sound after a long gap arrives all at once, the network delayed it.
        if dry_since.is_some() && self.store.len() > self.store.samples_in(self.margin + FRAME * 2) + held_back {
            self.underrun(gap);
        }
        self.state = State::Playing;
        self.forget_in_time();
        self.trim();
    }

    /// Drops silence at the start of a spurt that would only add delay, except the last 5 ms.
    fn trim(&mut self) {
        let wanted = self.usual_chunk().max(self.frame_samples) + self.store.samples_in(self.margin);
        let silent = self.store.quiet_head(SILENT_DBFS, self.fade_samples).saturating_sub(self.fade_samples);
        let n = self.store.len().saturating_sub(wanted).min(silent);
        self.store.cut(n);
        self.note_cut(n);
    }

    /// Returns the usual length of this talker's chunks: the second longest of the recent chunks, since the longest may
    /// be a delayed burst.
    fn usual_chunk(&self) -> usize {
        let mut chunks: Vec<usize> = self.chunks.iter().copied().collect();
        chunks.sort_unstable();
        if chunks.len() < CHUNKS { self.store.samples_in(CHUNK_MAX) } else { chunks[CHUNKS - 2] }
    }

    /// Moves the samples of one frame into `frame`. Returns how many samples were available.
    fn take(&mut self, now: Duration, frame: &mut [S]) -> usize {
        self.cut_surplus();
        self.pulled = now;
        let got = self.clock.take(now, &mut self.store, &mut self.joiner, frame);
        if got < frame.len() {
            self.clock.pause();
            self.state = State::Empty { dry_since: Some(now) };
        }
        got
    }

    fn drop_old(&mut self, now: Duration) {
        let (excess, within) = self.store.too_old(now, AGE_MAX);
        if excess > 0 {
            self.cut_quiet(excess, within);
            self.cut(self.store.too_old(now, AGE_MAX).0);
        }
    }

    /// Records the time between the punctual arrival of the chunk that arrives now, `late_s` ago, and the tick that
    /// needs the chunk's samples.
    fn note_in_time(&mut self, now: Duration, late_s: f64) {
        let waiting_s = self.store.len() as f64 / f64::from(self.store.rate_hz());
        let in_time_s = waiting_s + (self.pulled + FRAME).as_secs_f64() - now.as_secs_f64() + late_s;
        self.in_time_s = Some(self.in_time_s.map_or(in_time_s, |least| least.min(in_time_s)));
    }

    /// Drops surplus samples: the time by which all punctual chunks of the last second were earlier than the margin
    /// requires.
    fn cut_surplus(&mut self) {
        self.in_time_ticks += 1;
        let Some(in_time_s) = self.in_time_s.filter(|_| self.in_time_ticks >= SURPLUS_TICKS) else { return };
        // One more frame is needed if chunks are shorter than a frame, since several chunks fill the first frame, and
        // if a resampler moves the chunks relative to the ticks.
        let wander = self.usual_chunk() < self.frame_samples || self.clock.is_following();
        let needed = self.margin + if wander { FRAME } else { Duration::ZERO };
        let surplus_s = (in_time_s - needed.as_secs_f64()).max(0.0);
        let surplus = ((surplus_s * f64::from(self.store.rate_hz())) as usize).min(self.store.len());
        if surplus < self.store.samples_in(SURPLUS) {
            return self.forget_in_time();
        }
        let may_wait = self.in_time_ticks < SURPLUS_TICKS + QUIET_WAIT_TICKS;
        let quiet = self.cut_quiet(surplus, self.store.len());
        if surplus - quiet > self.store.samples_in(SURPLUS_LARGE) {
            self.cut((surplus - quiet) / 2);
        } else if quiet == 0 && !may_wait {
            self.cut(if surplus > self.store.samples_in(SURPLUS_AUDIBLE) { surplus } else { 0 });
            self.forget_in_time();
        }
    }

    /// Drops up to `n` quiet samples among the first `within` samples. Returns how many samples were dropped.
    fn cut_quiet(&mut self, n: usize, within: usize) -> usize {
        let cut = self.store.cut_quiet(n, within, QUIET_DBFS, self.fade_samples);
        self.note_cut(cut);
        cut
    }

    /// Drops the first `n` samples.
    fn cut(&mut self, n: usize) {
        if n > 0 {
            if self.clock.is_following() {
                // The resampler holds the next samples and is reset, so the joiner predicts the continuation.
                self.joiner.interrupt::<S>(&[]);
                self.clock.pause();
            } else {
                self.joiner.interrupt(&self.store.peek(self.fade_samples.min(n)));
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
