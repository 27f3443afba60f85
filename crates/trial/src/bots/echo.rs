//! The echo of `palabre try`: repeats each utterance once, 6 dB softer, so that a single participant can hear their own
//! microphone.
//!
//! The echo is a state machine without I/O: the caller passes samples and the time. If the caller passes no samples, this is silence, as in
//! a room's pipes.
//!
//! The echo waits until two consecutive frames are louder than the noise floor, records until the speech ends or for three seconds, and
//! plays the recording. While it plays and for half a second afterwards, the echo ignores its input, so that it doesn't repeat its own
//! sound from a loudspeaker.

use std::collections::VecDeque;
use std::time::Duration;

/// Maximum duration of a recorded utterance.
const MAX_RECORDING: Duration = Duration::from_secs(3);
/// Duration of the silence that ends an utterance.
const END_OF_SPEECH: Duration = Duration::from_millis(500);
/// Duration of silence that remains at the end of a recording, in ms.
const TAIL_MS: usize = 150;
/// Duration of the sound before the first loud frame that is part of the recording, in ms. Speech may start with a quiet consonant.
const PRE_ROLL_MS: usize = 200;
/// Time after the end of the repeated sound during which input is ignored.
const DEAF_AFTER: Duration = Duration::from_millis(500);
/// Duration of the fades at both ends of the repeated sound, in ms.
const FADE_MS: usize = 10;
/// Gain of the repeated sound: −6 dB.
const GAIN: f64 = 0.501;
/// Minimum level of a frame (RMS) to count as speech, in dBFS.
const SPEECH_MIN_DBFS: f64 = -45.0;
/// Minimum difference between the level of speech and the noise floor, in dB.
const SPEECH_OVER_FLOOR_DB: f64 = 10.0;
/// Rise of the measured noise floor, in dB per frame of 20 ms. After some seconds, constant noise no longer counts as speech.
const FLOOR_RISE_DB: f64 = 0.1;
/// Minimum value of the measured noise floor, in dBFS.
const FLOOR_MIN_DBFS: f64 = -70.0;
/// Number of consecutive loud frames that start a recording. A click is shorter.
const FRAMES_TO_BEGIN: u32 = 2;

/// The state machine of the echo.
pub(crate) struct Echo {
    samples_per_ms: usize,
    state: State,
    floor_dbfs: f64,
    loud_frames: u32,
    muted: bool,
}

enum State {
    Listening {
        pre_roll: VecDeque<i16>,
    },
    /// The echo records an utterance. `speech_end` is the number of samples up to the end of the last loud frame.
    Recording {
        samples: Vec<i16>,
        began: Duration,
        last_loud: Duration,
        speech_end: usize,
    },
    Playing {
        samples: Vec<i16>,
        position: usize,
    },
    Deaf {
        until: Duration,
    },
}

impl Echo {
    pub(crate) fn new(rate_hz: u32) -> Self {
        Self {
            samples_per_ms: rate_hz as usize / 1000,
            state: State::Listening { pre_roll: VecDeque::new() },
            floor_dbfs: FLOOR_MIN_DBFS,
            loud_frames: 0,
            muted: false,
        }
    }

    /// Mutes or unmutes the echo. Muting discards the recording and fades out the repeated sound.
    pub(crate) fn set_muted(&mut self, now: Duration, muted: bool) {
        if muted && !self.muted {
            self.stop(now);
        }
        self.muted = muted;
    }

    /// Returns whether the echo records or plays. If not, no call is needed until there is input.
    pub(crate) fn is_busy(&self) -> bool {
        matches!(self.state, State::Recording { .. } | State::Playing { .. })
    }

    /// Processes input that arrived at `now`, about one frame. Silence need not be passed.
    pub(crate) fn hear(&mut self, now: Duration, samples: &[i16]) {
        if samples.is_empty() || self.muted {
            return;
        }
        self.end_deafness(now);
        match &self.state {
            State::Listening { .. } => self.listen(now, samples),
            State::Recording { .. } => self.record(now, samples),
            State::Playing { .. } | State::Deaf { .. } => {}
        }
    }

    /// Writes the next `length` samples into `out`. Returns false, with `out` empty, if the echo is silent. Call this for every frame, also
    /// during silence: the end of speech is detected by time.
    pub(crate) fn next_frame(&mut self, now: Duration, length: usize, out: &mut Vec<i16>) -> bool {
        out.clear();
        self.end_deafness(now);
        self.end_recording(now);
        let State::Playing { samples, position } = &mut self.state else {
            return false;
        };
        let end = (*position + length).min(samples.len());
        out.extend_from_slice(&samples[*position..end]);
        out.resize(length, 0);
        *position = end;
        if end == samples.len() {
            self.state = State::Deaf { until: now + DEAF_AFTER };
        }
        true
    }

    fn listen(&mut self, now: Duration, heard: &[i16]) {
        let loud = self.is_loud(heard);
        let pre_roll_max = PRE_ROLL_MS * self.samples_per_ms;
        self.loud_frames = if loud { self.loud_frames + 1 } else { 0 };
        let State::Listening { pre_roll } = &mut self.state else { return };
        pre_roll.extend(heard);
        let surplus = pre_roll.len().saturating_sub(pre_roll_max);
        pre_roll.drain(..surplus);
        if self.loud_frames >= FRAMES_TO_BEGIN {
            let samples = Vec::from(std::mem::take(pre_roll));
            let speech_end = samples.len();
            self.state = State::Recording { samples, began: now, last_loud: now, speech_end };
        }
    }

    fn record(&mut self, now: Duration, heard: &[i16]) {
        let loud = self.is_loud(heard);
        let max = self.max_samples();
        let State::Recording { samples, last_loud, speech_end, .. } = &mut self.state else { return };
        let space = max.saturating_sub(samples.len());
        samples.extend(&heard[..heard.len().min(space)]);
        if loud {
            *last_loud = now;
            *speech_end = samples.len();
        }
        self.end_recording(now);
    }

    fn end_recording(&mut self, now: Duration) {
        let max = self.max_samples();
        let State::Recording { samples, began, last_loud, speech_end } = &mut self.state else { return };
        let full = samples.len() >= max || now.saturating_sub(*began) >= MAX_RECORDING;
        if full || now.saturating_sub(*last_loud) >= END_OF_SPEECH {
            samples.truncate(*speech_end + TAIL_MS * self.samples_per_ms);
            let samples = attenuated(samples, FADE_MS * self.samples_per_ms);
            self.loud_frames = 0;
            self.state = State::Playing { samples, position: 0 };
        }
    }

    fn max_samples(&self) -> usize {
        MAX_RECORDING.as_millis() as usize * self.samples_per_ms
    }

    fn end_deafness(&mut self, now: Duration) {
        if matches!(self.state, State::Deaf { until } if now >= until) {
            self.state = State::Listening { pre_roll: VecDeque::new() };
        }
    }

    fn stop(&mut self, now: Duration) {
        self.loud_frames = 0;
        let fade = FADE_MS * self.samples_per_ms;
        match &mut self.state {
            State::Playing { samples, position } => {
                samples.truncate(*position + fade);
                fade_out(samples, fade);
            }
            state => *state = State::Deaf { until: now },
        }
    }

    fn is_loud(&mut self, samples: &[i16]) -> bool {
        let level = level_dbfs(samples).max(FLOOR_MIN_DBFS);
        self.floor_dbfs = level.min(self.floor_dbfs + FLOOR_RISE_DB);
        level >= SPEECH_MIN_DBFS && level >= self.floor_dbfs + SPEECH_OVER_FLOOR_DB
    }
}

/// Returns the recording at −6 dB, with both ends faded.
fn attenuated(recording: &[i16], fade: usize) -> Vec<i16> {
    let mut samples: Vec<i16> = recording.iter().map(|&s| scaled(s, GAIN)).collect();
    for (at, sample) in samples.iter_mut().take(fade).enumerate() {
        *sample = scaled(*sample, at as f64 / fade as f64);
    }
    fade_out(&mut samples, fade);
    samples
}

fn fade_out(samples: &mut [i16], fade: usize) {
    for (at, sample) in samples.iter_mut().rev().take(fade).enumerate() {
        *sample = scaled(*sample, at as f64 / fade as f64);
    }
}

/// Scales a sample by a factor of at most 1.
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

    /// Runs an echo in steps of 20 ms.
    struct Simulation {
        echo: Echo,
        frame: u32,
    }

    impl Simulation {
        fn new() -> Self {
            Self { echo: Echo::new(24_000), frame: 0 }
        }

        fn now(&self) -> Duration {
            Duration::from_millis(u64::from(self.frame) * 20)
        }

        /// Feeds a tone (amplitude 0: no input) for `frames` frames; returns the output frames.
        fn feed(&mut self, amplitude: i16, frames: u32) -> Vec<Vec<i16>> {
            (0..frames).map(|_| self.step(&tone(amplitude))).collect()
        }

        fn step(&mut self, heard: &[i16]) -> Vec<i16> {
            let mut output = Vec::new();
            self.echo.hear(self.now(), heard);
            self.echo.next_frame(self.now(), FRAME, &mut output);
            self.frame += 1;
            output
        }
    }

    fn tone(amplitude: i16) -> Vec<i16> {
        if amplitude == 0 {
            return Vec::new();
        }
        (0..FRAME).map(|n| scaled(amplitude, (n as f64 * std::f64::consts::TAU / 48.0).sin())).collect()
    }

    fn count_played(output: &[Vec<i16>]) -> usize {
        output.iter().filter(|frame| !frame.is_empty()).count()
    }

    #[test]
    fn utterance_is_repeated_once_and_6_db_softer() {
        let mut simulation = Simulation::new();
        assert_eq!(count_played(&simulation.feed(8_000, 50)), 0, "silent during speech");
        let output = simulation.feed(0, 200);
        let frames = count_played(&output);
        assert!((50..=52).contains(&frames), "one second came back as {frames} frames");
        let loudest = output.iter().flatten().map(|s| s.unsigned_abs()).max().unwrap();
        assert!((3_900..=4_100).contains(&loudest), "{loudest}");
        assert!(output[..24].iter().all(Vec::is_empty), "waits for the end of speech");
    }

    #[test]
    fn recording_is_at_most_three_seconds_long() {
        let mut simulation = Simulation::new();
        let output = simulation.feed(8_000, 310);
        assert!((149..=151).contains(&count_played(&output)), "{} frames", count_played(&output));
        assert!(output[..140].iter().all(Vec::is_empty));
    }

    #[test]
    fn own_sound_from_a_loudspeaker_is_not_repeated() {
        let mut simulation = Simulation::new();
        simulation.feed(8_000, 50);
        simulation.feed(0, 25);
        // The echo plays one second of sound. The microphone picks it up from the loudspeaker, until shortly after its end.
        let output = simulation.feed(4_000, 60);
        let rest = simulation.feed(0, 300);
        assert!(count_played(&output) + count_played(&rest) <= 52, "repeated its own sound");
    }

    #[test]
    fn input_is_ignored_for_half_a_second_after_playing() {
        for (pause_frames, answers) in [(0, false), (21, false), (24, true)] {
            let mut simulation = Simulation::new();
            simulation.feed(8_000, 50);
            while !matches!(simulation.echo.state, State::Deaf { .. }) {
                simulation.feed(0, 1);
            }
            simulation.feed(0, pause_frames);
            // The speech lasts 60 ms: three frames.
            let output = [simulation.feed(8_000, 3), simulation.feed(0, 100)].concat();
            assert_eq!(count_played(&output) > 0, answers, "speech after {pause_frames} frames");
        }
    }

    #[test]
    fn click_and_quiet_sound_are_not_repeated() {
        let mut simulation = Simulation::new();
        let mut output = simulation.feed(100, 50);
        output.extend(simulation.feed(12_000, 1));
        output.extend(simulation.feed(100, 100));
        assert_eq!(count_played(&output), 0);
    }

    #[test]
    fn constant_noise_becomes_the_floor() {
        let mut simulation = Simulation::new();
        simulation.feed(600, 1_000);
        assert_eq!(count_played(&simulation.feed(600, 500)), 0, "constant noise is not speech");
        simulation.feed(9_000, 30);
        assert!(count_played(&simulation.feed(600, 200)) > 25, "louder speech is");
    }

    #[test]
    fn sound_before_the_first_loud_frame_is_repeated() {
        let mut simulation = Simulation::new();
        simulation.feed(100, 20);
        simulation.feed(8_000, 10);
        let output = simulation.feed(100, 100).concat();
        assert!(output.iter().take(FRAME * 5).any(|&s| s != 0), "the pre-roll");
        assert!(output.iter().take(FRAME * 5).all(|&s| s.unsigned_abs() < 60));
        assert!(output.iter().any(|&s| s > 3_900));
    }

    #[test]
    fn muting_fades_out_and_discards_the_recording() {
        let mut simulation = Simulation::new();
        simulation.feed(8_000, 50);
        assert!(count_played(&simulation.feed(0, 30)) > 0);
        let now = simulation.now();
        simulation.echo.set_muted(now, true);
        let last = simulation.feed(8_000, 200);
        assert_eq!(count_played(&last), 1, "one frame of fade-out");
        assert!(last[0][FADE_MS * 24..].iter().all(|&s| s == 0));
        let now = simulation.now();
        simulation.echo.set_muted(now, false);
        assert_eq!(count_played(&simulation.feed(0, 200)), 0, "input while muted is ignored");
        simulation.feed(8_000, 50);
        assert!(count_played(&simulation.feed(0, 200)) > 40);
    }
}
