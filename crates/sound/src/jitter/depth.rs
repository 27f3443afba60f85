//! How deep the buffer should be: the smallest depth that would have been good lately.
//!
//! Every candidate is simulated beside the others, as Jamulus does (`CNetBufWithStats`, V. Fischer, 2020): each piece that
//! arrives is late by so much, and a candidate has failed when it is less deep than that. Failures are forgotten with a
//! time constant of a minute. A piece's lateness counts from the moment at which the promptest piece lately would have made
//! its first sample due, so chunks of any length are prompt when they come regularly. What really ran dry has failed too.
//!
//! Who has just come is learnt faster: a page that opens is late again and again for its first seconds, and never after.

use std::time::Duration;

use super::{MARGIN_MAX, MARGIN_MIN};

const STEP_MS: u64 = 5;
const CANDIDATES: usize = ((MARGIN_MAX.as_millis() - MARGIN_MIN.as_millis()) / STEP_MS as u128 + 1) as usize;
const FORGET_S: f64 = 60.0;
/// While less is known, failures are forgotten with this share of the time for which the talker has been heard,
const FORGET_SHARE: f64 = 0.5;
/// but never faster than this.
const FORGET_LEAST_S: f64 = 1.0;
/// However often a candidate failed, it has another chance after a minute and a half.
const FAILURES_MAX: f64 = 2.0;
/// A candidate with more failures than this is not good: one is forgotten after 42 s, two after 83 s.
const TOLERANCE: f64 = 0.5;
/// The promptest piece is forgotten after one or two of these: a talker's clock may be slower than ours, and who loses some
/// sound is later than before from then on.
const PROMPT_FOR: Duration = Duration::from_secs(5);

#[derive(Clone, Debug)]
pub(super) struct Depth {
    failures: [f64; CANDIDATES],
    /// The candidates before this one are in the middle of a failure.
    failing: usize,
    prompt: Prompt,
    first: Option<Duration>,
    last: Duration,
    /// The worst lateness that the best candidate copes with, forgotten like the failures.
    worst_s: f64,
}

impl Depth {
    pub(super) fn new() -> Self {
        let prompt = Prompt::default();
        Self { failures: [0.0; CANDIDATES], failing: 0, prompt, first: None, last: Duration::ZERO, worst_s: 0.0 }
    }

    /// A piece has arrived whose first sample is `place` after the first one of the spurt, by a clock that is `ppm` faster than
    /// ours; gives how many seconds it is late.
    pub(super) fn push(&mut self, now: Duration, place: Duration, ppm: f64) -> f64 {
        let known_s = now.saturating_sub(*self.first.get_or_insert(now)).as_secs_f64();
        let forget_s = (known_s * FORGET_SHARE).clamp(FORGET_LEAST_S, FORGET_S);
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

    /// How late the latest piece lately was, of those that are in time with [`Self::best`].
    pub(super) fn worst_s(&self) -> f64 {
        self.worst_s.min(self.best().as_secs_f64())
    }

    /// A piece came too late by so much for candidates of less than that.
    pub(super) fn failed(&mut self, late: Duration) {
        self.failing = self.fail(late.as_secs_f64());
    }

    /// A new spurt begins, whose first piece is prompt until a better one comes.
    pub(super) fn begin(&mut self) {
        (self.prompt, self.failing) = (Prompt::default(), 0);
    }

    /// The smallest depth that would have been good. What no depth can help is not counted.
    pub(super) fn best(&self) -> Duration {
        let hopeless = self.failures[CANDIDATES - 1];
        let at = self.failures.iter().position(|&failures| failures - hopeless <= TOLERANCE).unwrap_or(CANDIDATES - 1);
        MARGIN_MIN + Duration::from_millis(STEP_MS * at as u64)
    }

    /// Counts a failure of those who don't fail already; gives how many are failing now.
    fn fail(&mut self, late_s: f64) -> usize {
        let steps = (late_s - MARGIN_MIN.as_secs_f64()) * 1000.0 / STEP_MS as f64;
        // Some nanoseconds are lost in the reckoning.
        let failing = ((steps - 1e-6).ceil().max(0.0) as usize).min(CANDIDATES);
        if failing > self.failing {
            self.failures[self.failing..failing].iter_mut().for_each(|failures| *failures += 1.0);
        }
        let most = self.failures[CANDIDATES - 1] + FAILURES_MAX;
        for (at, failures) in self.failures.iter_mut().enumerate() {
            // Who goes on failing isn't forgiven meanwhile.
            *failures = failures.clamp(if at < failing { 1.0 } else { 0.0 }, most);
        }
        failing
    }
}

/// When the first sample of the spurt would have been due if all were as prompt as the promptest lately.
#[derive(Clone, Copy, Debug, Default)]
struct Prompt {
    since: Option<Duration>,
    present: Due,
    before: Option<Due>,
}

/// When the first sample was due, by a piece that came at `at`.
#[derive(Clone, Copy, Debug, Default)]
struct Due {
    at: Duration,
    due_s: f64,
}

impl Due {
    /// The same for a piece that is as prompt and comes now: by a slow clock it is later than it was.
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

    /// Pieces of `piece_ms`, each late by what `late_ms` says, in order as a TCP connection gives them.
    fn feed(depth: &mut Depth, from_ms: u64, pieces: u64, piece_ms: u64, late_ms: impl Fn(u64) -> u64) {
        let mut last = 0;
        for i in 0..pieces {
            let place = i * piece_ms;
            last = last.max(place + late_ms(i));
            depth.push(ms(from_ms + last), ms(place), 0.0);
        }
    }

    #[test]
    fn regular_pieces_of_any_length_need_the_least() {
        for piece_ms in [5, 20, 40, 200] {
            let mut depth = Depth::new();
            feed(&mut depth, 7, 500, piece_ms, |_| 0);
            assert_eq!(depth.best(), MARGIN_MIN, "{piece_ms} ms");
        }
    }

    #[test]
    fn the_depth_is_what_the_lateness_was_and_no_more() {
        let mut depth = Depth::new();
        feed(&mut depth, 0, 500, 20, |i| i * 7919 % 48);
        assert!((ms(45)..=ms(50)).contains(&depth.best()), "{:?}", depth.best());
    }

    #[test]
    fn what_was_bad_once_is_forgotten() {
        let mut depth = Depth::new();
        feed(&mut depth, 0, 10_000, 20, |i| if i == 9_950 { 80 } else { 0 });
        assert_eq!(depth.best(), ms(80));
        feed(&mut depth, 202_000, 1_500, 20, |_| 0);
        assert_eq!(depth.best(), ms(80));
        feed(&mut depth, 232_000, 1_500, 20, |_| 0);
        assert_eq!(depth.best(), MARGIN_MIN);
    }

    #[test]
    fn what_was_bad_while_a_page_began_is_forgotten_sooner() {
        let mut depth = Depth::new();
        feed(&mut depth, 0, 100, 20, |i| i % 11 * 10);
        assert!(depth.best() >= ms(95), "{:?}", depth.best());
        feed(&mut depth, 2_000, 250, 20, |_| 0);
        assert_eq!(depth.best(), MARGIN_MIN);
    }

    #[test]
    fn a_bad_line_of_long_standing_stays_known_for_a_minute_and_a_half() {
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
    fn a_stall_that_no_depth_can_bridge_makes_nothing_deeper() {
        let mut depth = Depth::new();
        feed(&mut depth, 0, 1_000, 20, |i| if (300..550).contains(&i) { (550 - i) * 20 } else { 0 });
        assert_eq!(depth.best(), MARGIN_MIN);
    }

    #[test]
    fn a_slower_clock_is_no_lateness() {
        let mut depth = Depth::new();
        for i in 0..30_000u64 {
            depth.push(Duration::from_micros(i * 20_006), ms(i * 20), 0.0);
        }
        assert_eq!(depth.best(), MARGIN_MIN);
    }

    #[test]
    fn a_clock_that_is_known_to_be_slow_is_not_even_a_millisecond() {
        let mut depth = Depth::new();
        for i in 0..3_000u64 {
            depth.push(Duration::from_micros(i * 20_006 + i * 7_919 % 2_000), ms(i * 20), -300.0);
        }
        assert!((0.001_9..0.002_1).contains(&depth.worst_s()), "{}", depth.worst_s());
    }

    #[test]
    fn sound_that_was_lost_is_no_lateness_for_long() {
        let mut depth = Depth::new();
        // From the 500th on each place is 100 ms earlier than it was.
        for i in 0..5_000u64 {
            let place = i * 20 - if i >= 500 { 100 } else { 0 };
            depth.push(ms(i * 20 + i % 2 * 10), ms(place), 0.0);
        }
        assert_eq!(depth.best(), MARGIN_MIN);
    }

    #[test]
    fn what_ran_dry_was_not_deep_enough() {
        let mut depth = Depth::new();
        depth.failed(ms(60));
        assert_eq!(depth.best(), ms(60));
        depth.push(ms(100), ms(0), 0.0);
        depth.push(ms(121), ms(20), 0.0);
        assert_eq!(depth.best(), ms(60));
    }
}
