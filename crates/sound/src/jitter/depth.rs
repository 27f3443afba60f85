//! Chooses the margin: the smallest that would have been sufficient recently.
//!
//! All candidate margins are simulated side by side, as in Jamulus (`CNetBufWithStats`, V. Fischer, 2020): a candidate
//! fails if a chunk is later than the candidate allows. Failures are forgotten with a time constant of a minute.
//! Lateness is measured against the promptest recent chunk, so that regular chunks of any length are not late. A real
//! underrun counts as a failure too.
//!
//! Failures at the start are forgotten sooner: a page is often late in its first seconds, but not afterwards.

use std::time::Duration;

/// Minimum margin, which is also the initial margin.
pub const MARGIN_MIN: Duration = Duration::from_millis(15);
/// Maximum margin.
const MARGIN_MAX: Duration = Duration::from_millis(200);
/// Difference between two candidate margins.
const STEP_MS: u64 = 5;
const CANDIDATES: usize = ((MARGIN_MAX.as_millis() - MARGIN_MIN.as_millis()) / STEP_MS as u128 + 1) as usize;
/// Time constant with which a candidate's failures are forgotten, in seconds.
const FORGET_S: f64 = 60.0;
/// Time constant for a new talker's failures, as a fraction of the time since the talker's first chunk.
const FORGET_PART: f64 = 0.5;
/// Minimum time constant for a new talker's failures, in seconds.
const FORGET_MIN_S: f64 = 1.0;
/// Maximum number of failures that are remembered for a candidate margin. A candidate that has failed more often can be
/// chosen again after 83 s without a failure, see [`TOLERANCE`].
const FAILURES_MAX: f64 = 2.0;
/// Maximum weight of remembered failures at which a candidate margin is sufficient: a failure is forgotten after 42 s,
/// two failures after 83 s.
const TOLERANCE: f64 = 0.5;
/// Minimum time for which the promptest chunk is remembered; the maximum is twice as long. The chunk must be forgotten
/// because the talker's clock may be slower, and because all chunks are later after lost samples.
const PROMPT_FOR: Duration = Duration::from_secs(5);

#[derive(Clone, Debug)]
pub(super) struct Depth {
    failures: [f64; CANDIDATES],
    /// Number of candidate margins that are failing now. The smallest candidates fail first.
    failing: usize,
    prompt: Prompt,
    first: Option<Duration>,
    last: Duration,
    /// Maximum lateness of the chunks for which the best candidate was sufficient. Decays like the failures.
    worst_s: f64,
}

impl Depth {
    pub(super) fn new() -> Self {
        let prompt = Prompt::default();
        Self { failures: [0.0; CANDIDATES], failing: 0, prompt, first: None, last: Duration::ZERO, worst_s: 0.0 }
    }

    /// Records the arrival of a chunk. By the talker's clock, which is `ppm` faster than the mixer's, the chunk's first
    /// sample is `place` after the first sample of the spurt. Returns the chunk's lateness in seconds.
    pub(super) fn push(&mut self, now: Duration, place: Duration, ppm: f64) -> f64 {
        let known_s = now.saturating_sub(*self.first.get_or_insert(now)).as_secs_f64();
        let forget_s = (known_s * FORGET_PART).clamp(FORGET_MIN_S, FORGET_S);
        let keep = (-now.saturating_sub(self.last).as_secs_f64() / forget_s).exp();
        self.last = now;
        self.failures.iter_mut().for_each(|failures| *failures *= keep);
        let due_s = now.as_secs_f64() - place.as_secs_f64();
        let late_s = due_s - self.prompt.push(now, due_s, ppm);
        self.failing = self.fail(late_s);
        self.worst_s *= keep;
        if late_s <= self.best().as_secs_f64() {
            self.worst_s = self.worst_s.max(late_s);
        }
        late_s
    }

    /// Returns the recent maximum lateness, in seconds, of the chunks for which the margin [`Self::best`] is
    /// sufficient.
    pub(super) fn worst_s(&self) -> f64 {
        self.worst_s.min(self.best().as_secs_f64())
    }

    /// Records an underrun: all candidate margins smaller than `late` have failed.
    pub(super) fn failed(&mut self, late: Duration) {
        self.failing = self.fail(late.as_secs_f64());
    }

    /// Starts a new spurt, whose first chunk counts as prompt until a prompter chunk arrives.
    pub(super) fn begin(&mut self) {
        (self.prompt, self.failing) = (Prompt::default(), 0);
    }

    /// Returns the smallest margin that would have been sufficient. A failure of all candidate margins doesn't count.
    pub(super) fn best(&self) -> Duration {
        let hopeless = self.failures[CANDIDATES - 1];
        let at = self.failures.iter().position(|&failures| failures - hopeless <= TOLERANCE).unwrap_or(CANDIDATES - 1);
        MARGIN_MIN + Duration::from_millis(STEP_MS * at as u64)
    }

    /// Counts a failure of each candidate margin below `late_s` that is not failing yet. Returns how many candidates
    /// are failing now.
    fn fail(&mut self, late_s: f64) -> usize {
        let steps = (late_s - MARGIN_MIN.as_secs_f64()) * 1000.0 / STEP_MS as f64;
        // Tolerate rounding errors.
        let failing = ((steps - 1e-6).ceil().max(0.0) as usize).min(CANDIDATES);
        if failing > self.failing {
            self.failures[self.failing..failing].iter_mut().for_each(|failures| *failures += 1.0);
        }
        let most = self.failures[CANDIDATES - 1] + FAILURES_MAX;
        for (at, failures) in self.failures.iter_mut().enumerate() {
            // While a candidate is failing, its failure is not forgotten.
            *failures = failures.clamp(if at < failing { 1.0 } else { 0.0 }, most);
        }
        failing
    }
}

/// Time at which the first sample of the spurt would have been due if all chunks were as prompt as the promptest recent
/// chunk.
#[derive(Clone, Copy, Debug, Default)]
struct Prompt {
    since: Option<Duration>,
    present: Due,
    before: Option<Due>,
}

/// Time at which the first sample of the spurt was due, computed from a chunk that arrived at `at`.
#[derive(Clone, Copy, Debug, Default)]
struct Due {
    at: Duration,
    due_s: f64,
}

impl Due {
    /// Returns the due time that results from an equally prompt chunk that arrives now. With a slow clock the due time
    /// becomes later.
    fn now_s(self, now: Duration, ppm: f64) -> f64 {
        self.due_s - now.saturating_sub(self.at).as_secs_f64() * ppm * 1e-6
    }
}

impl Prompt {
    fn push(&mut self, now: Duration, due_s: f64, ppm: f64) -> f64 {
        let this = Due { at: now, due_s };
        match self.since {
            Some(since) if now.saturating_sub(since) < PROMPT_FOR => {
                if due_s < self.present.now_s(now, ppm) {
                    self.present = this;
                }
            }
            _ => {
                self.before = self.since.map(|_| self.present);
                (self.since, self.present) = (Some(now), this);
            }
        }
        let present_s = self.present.now_s(now, ppm);
        self.before.map_or(present_s, |before| before.now_s(now, ppm).min(present_s))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    /// Pushes chunks of `chunk_ms`, each late by `late_ms`. A late chunk delays all later chunks, as in a TCP
    /// connection.
    fn feed(depth: &mut Depth, from_ms: u64, chunks: u64, chunk_ms: u64, late_ms: impl Fn(u64) -> u64) {
        let mut last = 0;
        for i in 0..chunks {
            let place = i * chunk_ms;
            last = last.max(place + late_ms(i));
            depth.push(ms(from_ms + last), ms(place), 0.0);
        }
    }

    #[test]
    fn regular_chunks_of_any_length_need_the_minimum() {
        for chunk_ms in [5, 20, 40, 200] {
            let mut depth = Depth::new();
            feed(&mut depth, 7, 500, chunk_ms, |_| 0);
            assert_eq!(depth.best(), MARGIN_MIN, "{chunk_ms} ms");
        }
    }

    #[test]
    fn the_margin_is_the_maximum_lateness() {
        let mut depth = Depth::new();
        feed(&mut depth, 0, 500, 20, |i| i * 7919 % 48);
        assert!((ms(45)..=ms(50)).contains(&depth.best()), "{:?}", depth.best());
    }

    #[test]
    fn a_single_late_chunk_is_forgotten_after_42_s() {
        let mut depth = Depth::new();
        feed(&mut depth, 0, 10_000, 20, |i| if i == 9_950 { 80 } else { 0 });
        assert_eq!(depth.best(), ms(80));
        feed(&mut depth, 202_000, 1_500, 20, |_| 0);
        assert_eq!(depth.best(), ms(80));
        feed(&mut depth, 232_000, 1_500, 20, |_| 0);
        assert_eq!(depth.best(), MARGIN_MIN);
    }

    #[test]
    fn lateness_in_the_first_seconds_is_forgotten_sooner() {
        let mut depth = Depth::new();
        feed(&mut depth, 0, 100, 20, |i| i % 11 * 10);
        assert!(depth.best() >= ms(95), "{:?}", depth.best());
        feed(&mut depth, 2_000, 250, 20, |_| 0);
        assert_eq!(depth.best(), MARGIN_MIN);
    }

    #[test]
    fn a_lasting_bad_network_is_forgotten_after_a_minute_and_a_half() {
        let mut depth = Depth::new();
        feed(&mut depth, 0, 10_000, 20, |i| i % 11 * 10);
        assert!(depth.best() >= ms(70), "{:?}", depth.best());
        depth.begin();
        feed(&mut depth, 200_000, 3_000, 20, |_| 0);
        assert!(depth.best() >= ms(70), "{:?}", depth.best());
        depth.begin();
        feed(&mut depth, 260_000, 1_500, 20, |_| 0);
        assert_eq!(depth.best(), MARGIN_MIN);
    }

    #[test]
    fn a_stall_longer_than_the_maximum_margin_changes_nothing() {
        let mut depth = Depth::new();
        feed(&mut depth, 0, 1_000, 20, |i| if (300..550).contains(&i) { (550 - i) * 20 } else { 0 });
        assert_eq!(depth.best(), MARGIN_MIN);
    }

    #[test]
    fn a_slow_clock_does_not_count_as_lateness() {
        let mut depth = Depth::new();
        for i in 0..30_000u64 {
            depth.push(Duration::from_micros(i * 20_006), ms(i * 20), 0.0);
        }
        assert_eq!(depth.best(), MARGIN_MIN);
    }

    #[test]
    fn a_known_slow_clock_adds_no_lateness_at_all() {
        let mut depth = Depth::new();
        for i in 0..3_000u64 {
            depth.push(Duration::from_micros(i * 20_006 + i * 7_919 % 2_000), ms(i * 20), -300.0);
        }
        assert!((0.001_9..0.002_1).contains(&depth.worst_s()), "{}", depth.worst_s());
    }

    #[test]
    fn lost_samples_count_as_lateness_for_seconds_only() {
        let mut depth = Depth::new();
        // In this test, 100 ms of samples before chunk 500 are lost.
        for i in 0..5_000u64 {
            let place = i * 20 - if i >= 500 { 100 } else { 0 };
            depth.push(ms(i * 20 + i % 2 * 10), ms(place), 0.0);
        }
        assert_eq!(depth.best(), MARGIN_MIN);
    }

    #[test]
    fn an_underrun_raises_the_margin() {
        let mut depth = Depth::new();
        depth.failed(ms(60));
        assert_eq!(depth.best(), ms(60));
        depth.push(ms(100), ms(0), 0.0);
        depth.push(ms(121), ms(20), 0.0);
        assert_eq!(depth.best(), ms(60));
    }
}
