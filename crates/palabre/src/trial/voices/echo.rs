//! The echo of `palabre try`: it says once, more quietly, what it has just heard, so that one person can hear their own
//! microphone.
//!
//! A pure state machine: what it hears and what it says pass through it, time is an argument. Absence of sound is silence,
//! as in the room's pipes.
//!
//! It listens until somebody is louder than the room for two frames, records until they stop or for three seconds, plays
//! that, and is deaf meanwhile and half a second longer, so that it never answers its own sound from a loudspeaker.

use std::collections::VecDeque;
use std::time::Duration;

/// The longest thing it repeats.
const LONGEST: Duration = Duration::from_secs(3);
/// This much quiet ends what somebody says.
const END_OF_SPEECH: Duration = Duration::from_millis(500);
/// Of that quiet, this much is repeated.
const TAIL_MS: usize = 150;
/// What is repeated begins this much before it was loud, or its first consonant would be missing.
const PRE_ROLL_MS: usize = 200;
/// How long it stays deaf when it has spoken.
const DEAF_AFTER: Duration = Duration::from_millis(500);
/// The ends of what it says are faded, in ms.
const FADE_MS: usize = 10;
/// −6 dB.
const GAIN: f64 = 0.501;
/// Speech is at least this loud, in dBFS (RMS of a frame)…
const LOUD_DBFS: f64 = -45.0;
/// …and this much louder than the quietest of late.
const OVER_FLOOR_DB: f64 = 10.0;
/// How fast the measured floor rises, in dB per frame of 20 ms: a fan that starts is the floor after some seconds.
const FLOOR_RISE_DB: f64 = 0.1;
/// The floor is never taken to be lower than this, in dBFS.
const FLOOR_MIN_DBFS: f64 = -70.0;
/// Loud frames in a row that make it speech and not a click.
const FRAMES_TO_BEGIN: u32 = 2;

/// The state machine.
pub struct Echo {
    samples_per_ms: usize,
    state: State,
    floor_dbfs: f64,
    loud_frames: u32,
    stepped_back: bool,
}

enum State {
    Listening { before: VecDeque<i16> },
    Recording { taken: Vec<i16>, began: Duration, last_loud: Duration, quiet_from: usize },
    Speaking { what: Vec<i16>, said: usize },
    Deaf { until: Duration },
}

impl Echo {
    /// An echo that listens, at this rate.
    #[must_use]
    pub fn new(rate_hz: u32) -> Self {
        Self {
            samples_per_ms: rate_hz as usize / 1000,
            state: State::Listening { before: VecDeque::new() },
            floor_dbfs: FLOOR_MIN_DBFS,
            loud_frames: 0,
            stepped_back: false,
        }
    }

    /// Whether it is to keep out of the conversation from now on: what it recorded is forgotten, what it says ends.
    pub fn step_back(&mut self, now: Duration, back: bool) {
        if back && !self.stepped_back {
            self.fall_silent(now);
        }
        self.stepped_back = back;
    }

    /// Whether time alone can change something: it records or speaks. Otherwise it needs no calls until there is sound.
    #[must_use]
    pub fn is_busy(&self) -> bool {
        matches!(self.state, State::Recording { .. } | State::Speaking { .. })
    }

    /// What it heard: about a frame of samples, at this time. Nothing heard is not announced.
    pub fn hear(&mut self, now: Duration, samples: &[i16]) {
        if samples.is_empty() || self.stepped_back {
            return;
        }
        self.end_deafness(now);
        match &self.state {
            State::Listening { .. } => self.listen(now, samples),
            State::Recording { .. } => self.record(now, samples),
            State::Speaking { .. } | State::Deaf { .. } => {}
        }
    }

    /// What it says in this frame of `samples` samples: `false` and an empty `out` when it is silent. To be called for
    /// every frame, since the end of speech is a matter of time.
    pub fn say(&mut self, now: Duration, samples: usize, out: &mut Vec<i16>) -> bool {
        out.clear();
        self.end_deafness(now);
        self.end_recording(now);
        let State::Speaking { what, said } = &mut self.state else {
            return false;
        };
        let end = (*said + samples).min(what.len());
        out.extend_from_slice(&what[*said..end]);
        out.resize(samples, 0);
        *said = end;
        if end == what.len() {
            self.state = State::Deaf { until: now + DEAF_AFTER };
        }
        true
    }

    fn listen(&mut self, now: Duration, samples: &[i16]) {
        let loud = self.is_loud(samples);
        let pre_roll = PRE_ROLL_MS * self.samples_per_ms;
        self.loud_frames = if loud { self.loud_frames + 1 } else { 0 };
        let State::Listening { before } = &mut self.state else { return };
        before.extend(samples);
        let surplus = before.len().saturating_sub(pre_roll);
        before.drain(..surplus);
        if self.loud_frames >= FRAMES_TO_BEGIN {
            let taken = Vec::from(std::mem::take(before));
            let quiet_from = taken.len();
            self.state = State::Recording { taken, began: now, last_loud: now, quiet_from };
        }
    }

    fn record(&mut self, now: Duration, samples: &[i16]) {
        let loud = self.is_loud(samples);
        let longest = LONGEST.as_millis() as usize * self.samples_per_ms;
        let State::Recording { taken, last_loud, quiet_from, .. } = &mut self.state else { return };
        let room_left = longest.saturating_sub(taken.len());
        taken.extend(&samples[..samples.len().min(room_left)]);
        if loud {
            *last_loud = now;
            *quiet_from = taken.len();
        }
        self.end_recording(now);
    }

    fn end_recording(&mut self, now: Duration) {
        let State::Recording { taken, began, last_loud, quiet_from } = &mut self.state else { return };
        let longest = LONGEST.as_millis() as usize * self.samples_per_ms;
        let full = taken.len() >= longest || now.saturating_sub(*began) >= LONGEST;
        if full || now.saturating_sub(*last_loud) >= END_OF_SPEECH {
            taken.truncate(*quiet_from + TAIL_MS * self.samples_per_ms);
            let what = prepared(taken, FADE_MS * self.samples_per_ms);
            self.loud_frames = 0;
            self.state = State::Speaking { what, said: 0 };
        }
    }

    fn end_deafness(&mut self, now: Duration) {
        if matches!(self.state, State::Deaf { until } if now >= until) {
            self.state = State::Listening { before: VecDeque::new() };
        }
    }

    fn fall_silent(&mut self, now: Duration) {
        self.loud_frames = 0;
        let fade = FADE_MS * self.samples_per_ms;
        match &mut self.state {
            State::Speaking { what, said } => {
                what.truncate(*said + fade);
                fade_out(what, fade);
            }
            state => *state = State::Deaf { until: now },
        }
    }

    fn is_loud(&mut self, samples: &[i16]) -> bool {
        let level = level_dbfs(samples).max(FLOOR_MIN_DBFS);
        self.floor_dbfs = level.min(self.floor_dbfs + FLOOR_RISE_DB);
        level >= LOUD_DBFS && level >= self.floor_dbfs + OVER_FLOOR_DB
    }
}

/// What was recorded, as it is to be said: softer, its ends faded.
fn prepared(taken: &[i16], fade: usize) -> Vec<i16> {
    let mut what: Vec<i16> = taken.iter().map(|&s| scaled(s, GAIN)).collect();
    for (at, sample) in what.iter_mut().take(fade).enumerate() {
        *sample = scaled(*sample, at as f64 / fade as f64);
    }
    fade_out(&mut what, fade);
    what
}

fn fade_out(what: &mut [i16], fade: usize) {
    for (at, sample) in what.iter_mut().rev().take(fade).enumerate() {
        *sample = scaled(*sample, at as f64 / fade as f64);
    }
}

/// A factor of at most 1 keeps it in range.
fn scaled(sample: i16, factor: f64) -> i16 {
    (f64::from(sample) * factor).round() as i16
}

fn level_dbfs(samples: &[i16]) -> f64 {
    let sum: f64 = samples.iter().map(|&s| (f64::from(s) / 32768.0).powi(2)).sum();
    10.0 * (sum / samples.len() as f64).max(1e-12).log10()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const FRAME: usize = 480;

    /// A conversation in steps of 20 ms: `sound(frame)` is what the echo hears, the answer what it says, frame by frame.
    struct Talk {
        echo: Echo,
        frame: u32,
    }

    impl Talk {
        fn new() -> Self {
            Self { echo: Echo::new(24_000), frame: 0 }
        }

        fn now(&self) -> Duration {
            Duration::from_millis(u64::from(self.frame) * 20)
        }

        /// Hears a tone of this amplitude (0: nothing arrives at all) for so many frames; what it said meanwhile.
        fn hears(&mut self, amplitude: i16, frames: u32) -> Vec<Vec<i16>> {
            (0..frames).map(|_| self.step(&tone(amplitude))).collect()
        }

        fn step(&mut self, heard: &[i16]) -> Vec<i16> {
            let mut said = Vec::new();
            self.echo.hear(self.now(), heard);
            self.echo.say(self.now(), FRAME, &mut said);
            self.frame += 1;
            said
        }
    }

    fn tone(amplitude: i16) -> Vec<i16> {
        if amplitude == 0 {
            return Vec::new();
        }
        (0..FRAME).map(|n| scaled(amplitude, (n as f64 * std::f64::consts::TAU / 48.0).sin())).collect()
    }

    fn spoken(said: &[Vec<i16>]) -> usize {
        said.iter().filter(|frame| !frame.is_empty()).count()
    }

    #[test]
    fn what_somebody_said_comes_back_once_and_6_db_softer() {
        let mut talk = Talk::new();
        assert_eq!(spoken(&talk.hears(8_000, 50)), 0, "it never speaks while somebody else does");
        let said = talk.hears(0, 200);
        let frames = spoken(&said);
        assert!((50..=52).contains(&frames), "one second came back as {frames} frames");
        let loudest = said.iter().flatten().map(|s| s.unsigned_abs()).max().unwrap();
        assert!((3_900..=4_100).contains(&loudest), "{loudest}");
        assert!(said[..24].iter().all(Vec::is_empty), "it waits for the end of speech");
    }

    #[test]
    fn three_seconds_are_the_most_it_repeats() {
        let mut talk = Talk::new();
        let said = talk.hears(8_000, 310);
        assert!((149..=151).contains(&spoken(&said)), "{} frames", spoken(&said));
        assert!(said[..140].iter().all(Vec::is_empty));
    }

    #[test]
    fn it_is_deaf_to_its_own_sound_from_a_loudspeaker() {
        let mut talk = Talk::new();
        talk.hears(8_000, 50);
        talk.hears(0, 25);
        // Its own second of sound, and what the room's delay adds to it.
        let said = talk.hears(4_000, 60);
        let rest = talk.hears(0, 300);
        assert!(spoken(&said) + spoken(&rest) <= 52, "it answered itself");
    }

    #[test]
    fn it_is_deaf_for_half_a_second_after_it_has_spoken() {
        for (pause_frames, answers) in [(0, false), (21, false), (24, true)] {
            let mut talk = Talk::new();
            talk.hears(8_000, 50);
            while !matches!(talk.echo.state, State::Deaf { .. }) {
                talk.hears(0, 1);
            }
            talk.hears(0, pause_frames);
            // A word of 60 ms.
            let said = [talk.hears(8_000, 3), talk.hears(0, 100)].concat();
            assert_eq!(spoken(&said) > 0, answers, "a word after {pause_frames} frames");
        }
    }

    #[test]
    fn a_click_and_a_murmur_are_not_speech() {
        let mut talk = Talk::new();
        let mut said = talk.hears(100, 50);
        said.extend(talk.hears(12_000, 1));
        said.extend(talk.hears(100, 100));
        assert_eq!(spoken(&said), 0);
    }

    #[test]
    fn a_steady_noise_becomes_the_floor() {
        let mut talk = Talk::new();
        talk.hears(600, 1_000);
        assert_eq!(spoken(&talk.hears(600, 500)), 0, "a fan is not somebody who speaks");
        talk.hears(9_000, 30);
        assert!(spoken(&talk.hears(600, 200)) > 25, "who speaks over it is");
    }

    #[test]
    fn what_began_before_it_was_loud_is_repeated_too() {
        let mut talk = Talk::new();
        talk.hears(100, 20);
        talk.hears(8_000, 10);
        let said = talk.hears(100, 100).concat();
        assert!(said.iter().take(FRAME * 5).any(|&s| s != 0), "the pre-roll");
        assert!(said.iter().take(FRAME * 5).all(|&s| s.unsigned_abs() < 60));
        assert!(said.iter().any(|&s| s > 3_900));
    }

    #[test]
    fn it_steps_back_without_a_click_and_returns_only_for_what_is_new() {
        let mut talk = Talk::new();
        talk.hears(8_000, 50);
        assert!(spoken(&talk.hears(0, 30)) > 0);
        let now = talk.now();
        talk.echo.step_back(now, true);
        let last = talk.hears(8_000, 200);
        assert_eq!(spoken(&last), 1, "a frame to fade out in");
        assert!(last[0][FADE_MS * 24..].iter().all(|&s| s == 0));
        let now = talk.now();
        talk.echo.step_back(now, false);
        assert_eq!(spoken(&talk.hears(0, 200)), 0, "what was said meanwhile is not its business");
        talk.hears(8_000, 50);
        assert!(spoken(&talk.hears(0, 200)) > 40);
    }
}
