//! The melody of `palabre try`: quiet plucked chords that repeat without end.
//!
//! The melody is generated without I/O: the caller requests each frame and decides when. No clock and no files are used.
//!
//! Each note is a sum of decaying sinusoids, each a two-pole resonator (`y[n] = 2r·cos ω·y[n−1] − r²·y[n−2]`), which costs two
//! multiplications per sample. A soft attack avoids a click at the start; a note ends when it is inaudible.

/// Duration of an eighth note, in ms: 66 quarter notes per minute.
const EIGHTH_MS: f64 = 455.0;
/// Duration of the fade-in and the fade-out of the melody, in ms.
const FADE_MS: f64 = 500.0;
/// Duration of the attack of a note, in ms.
const ATTACK_MS: f64 = 12.0;
/// Peak of the loudest note; full scale is 1. The level of the melody, with several notes at once, is about −30 dBFS (RMS).
const NOTE_PEAK: f64 = 0.075;
/// Envelope below which a note ends (−66 dB).
const INAUDIBLE: f64 = 0.0005;
/// Harmonics of a note: multiple of the pitch, strength, time constant in ms.
const PARTIALS: [(f64, f64, f64); 3] = [(1.0, 0.78, 850.0), (2.0, 0.16, 420.0), (3.0, 0.06, 210.0)];

/// A bar of the melody: a chord of six MIDI notes, low to high, and the notes of the upper part as (eighth, MIDI note).
struct Bar {
    chord: [u8; 6],
    upper: &'static [(u32, u8)],
}

/// The bars of the melody. Chords: D, B minor, G, A, D/F♯, E minor, G, A suspended. The upper part is pentatonic, so that no dissonance
/// occurs.
const BARS: [Bar; 8] = [
    Bar { chord: [38, 50, 57, 62, 66, 69], upper: &[(0, 78), (5, 81)] },
    Bar { chord: [35, 47, 54, 59, 62, 66], upper: &[(2, 74)] },
    Bar { chord: [43, 50, 55, 59, 62, 66], upper: &[(0, 71), (4, 74), (6, 76)] },
    Bar { chord: [45, 52, 57, 61, 64, 69], upper: &[(2, 73)] },
    Bar { chord: [42, 50, 57, 62, 66, 69], upper: &[(0, 74), (3, 78), (6, 76)] },
    Bar { chord: [40, 47, 55, 59, 64, 67], upper: &[(2, 71)] },
    Bar { chord: [43, 50, 57, 59, 62, 66], upper: &[(0, 69), (4, 71), (5, 74)] },
    Bar { chord: [45, 52, 57, 62, 64, 69], upper: &[(3, 76)] },
];
/// For each eighth of a bar: the index of the chord note that starts there.
const PATTERN: [usize; 8] = [0, 2, 3, 4, 5, 4, 3, 2];

/// Generates the samples of the melody.
pub(crate) struct Melody {
    rate_hz: f64,
    notes: Vec<Note>,
    /// Number of the next eighth, counted from the start of the melody.
    eighth: u32,
    samples_to_eighth: f64,
    /// Progress of the fade-in or fade-out: 0 is silent, 1 is full volume. Each sample is multiplied by the square of
    /// this value.
    fade: f64,
    playing: bool,
}

impl Melody {
    /// Returns a silent melody at the start of its first bar.
    pub(crate) fn new(rate_hz: u32) -> Self {
        Self {
            rate_hz: f64::from(rate_hz),
            notes: Vec::new(),
            eighth: 0,
            samples_to_eighth: 0.0,
            fade: 0.0,
            playing: false,
        }
    }

    /// Starts the melody with a fade-in, or stops it with a fade-out.
    pub(crate) fn set_playing(&mut self, playing: bool) {
        self.playing = playing;
    }

    /// Returns whether the melody was stopped and the fade-out is complete.
    pub(crate) fn is_silent(&self) -> bool {
        !self.playing && self.fade <= 0.0
    }

    /// Replaces the content of `out` by the next `samples` samples.
    pub(crate) fn next_frame(&mut self, samples: usize, out: &mut Vec<i16>) {
        out.clear();
        out.extend((0..samples).map(|_| to_i16(self.next_sample())));
        self.notes.retain(Note::is_audible);
        if self.is_silent() {
            self.rewind_to_next_bar();
        }
    }

    fn next_sample(&mut self) -> f64 {
        if self.samples_to_eighth <= 0.0 {
            self.begin_eighth();
            self.samples_to_eighth += EIGHTH_MS / 1000.0 * self.rate_hz;
        }
        self.samples_to_eighth -= 1.0;
        let step = 1000.0 / (FADE_MS * self.rate_hz);
        self.fade = (self.fade + if self.playing { step } else { -step }).clamp(0.0, 1.0);
        let sum: f64 = self.notes.iter_mut().map(Note::next_sample).sum();
        sum * self.fade * self.fade
    }

    fn begin_eighth(&mut self) {
        let (bar, position) = self.position();
        let chord_note = bar.chord[PATTERN[position as usize]];
        let accent = if position == 0 { 1.0 } else { 0.6 };
        self.notes.push(Note::new(chord_note, NOTE_PEAK * accent, self.rate_hz));
        for &(_, upper) in bar.upper.iter().filter(|(at, _)| *at == position) {
            self.notes.push(Note::new(upper, NOTE_PEAK * 0.8, self.rate_hz));
        }
        self.eighth = (self.eighth + 1) % (BARS.len() * PATTERN.len()) as u32;
    }

    fn position(&self) -> (&'static Bar, u32) {
        let eighths = PATTERN.len() as u32;
        (&BARS[(self.eighth / eighths) as usize % BARS.len()], self.eighth % eighths)
    }

    /// Moves the position to the start of the next bar, so that the melody continues with a whole bar.
    fn rewind_to_next_bar(&mut self) {
        self.notes.clear();
        let eighths = PATTERN.len() as u32;
        self.eighth = self.eighth.div_ceil(eighths) * eighths % (BARS.len() as u32 * eighths);
        self.samples_to_eighth = 0.0;
    }
}

/// A note that is being played.
struct Note {
    partials: [Partial; PARTIALS.len()],
    /// Progress of the attack: 0 at the start of the note, 1 after the attack.
    attack: f64,
    attack_step: f64,
    /// Envelope of the partial that decays most slowly. It starts at 1.
    envelope: f64,
    envelope_factor: f64,
}

/// A decaying sinusoid: the last two samples and the coefficients of the resonator.
#[derive(Clone, Copy)]
struct Partial {
    last: f64,
    before: f64,
    feedback: f64,
    damping: f64,
}

impl Note {
    fn new(midi: u8, peak: f64, rate_hz: f64) -> Self {
        let pitch_hz = 440.0 * ((f64::from(midi) - 69.0) / 12.0).exp2();
        // Attenuates high notes, which sound louder than low notes of the same peak.
        let peak = peak * (1.0 + (f64::from(midi) - 60.0) / 60.0 * -0.5);
        let slowest_ms = PARTIALS[0].2;
        Self {
            partials: PARTIALS.map(|(multiple, strength, decay_ms)| {
                Partial::new(pitch_hz * multiple, peak * strength, decay_ms, rate_hz)
            }),
            attack: 0.0,
            attack_step: 1000.0 / (ATTACK_MS * rate_hz),
            envelope: 1.0,
            envelope_factor: (-1000.0 / (slowest_ms * rate_hz)).exp(),
        }
    }

    fn is_audible(&self) -> bool {
        self.envelope > INAUDIBLE
    }

    fn next_sample(&mut self) -> f64 {
        self.envelope *= self.envelope_factor;
        self.attack = (self.attack + self.attack_step).min(1.0);
        let shape = self.attack * self.attack * (3.0 - 2.0 * self.attack);
        shape * self.partials.iter_mut().map(Partial::next_sample).sum::<f64>()
    }
}

impl Partial {
    /// Returns a decaying sine that starts at a zero crossing: `y[−1] = −A·sin ω / r`, `y[0] = 0`.
    fn new(hz: f64, peak: f64, decay_ms: f64, rate_hz: f64) -> Self {
        let omega = std::f64::consts::TAU * hz / rate_hz;
        let radius = (-1000.0 / (decay_ms * rate_hz)).exp();
        Self {
            last: 0.0,
            before: -peak * omega.sin() / radius,
            feedback: 2.0 * radius * omega.cos(),
            damping: radius * radius,
        }
    }

    fn next_sample(&mut self) -> f64 {
        let next = self.feedback * self.last - self.damping * self.before;
        self.before = self.last;
        self.last = next;
        next
    }
}

/// Converts a sample with full scale 1.0 to 16 bits.
fn to_i16(sample: f64) -> i16 {
    (sample * 32768.0).round().clamp(-32768.0, 32767.0) as i16
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const RATE_HZ: u32 = 24_000;
    const FRAME: usize = 480;

    fn samples(melody: &mut Melody, frames: usize) -> Vec<i16> {
        let (mut all, mut frame) = (Vec::new(), Vec::new());
        for _ in 0..frames {
            melody.next_frame(FRAME, &mut frame);
            all.extend_from_slice(&frame);
        }
        all
    }

    fn rms_dbfs(samples: &[i16]) -> f64 {
        let sum: f64 = samples.iter().map(|&s| (f64::from(s) / 32768.0).powi(2)).sum();
        10.0 * (sum / samples.len() as f64).log10()
    }

    #[test]
    fn loop_is_quiet_and_even() {
        for rate_hz in [16_000, 24_000, 48_000] {
            let mut melody = Melody::new(rate_hz);
            melody.set_playing(true);
            let all = samples(&mut melody, 2 * 1_456 * rate_hz as usize / RATE_HZ as usize);
            let level = rms_dbfs(&all);
            assert!((-32.0..-28.0).contains(&level), "{rate_hz} Hz: {level:.1} dBFS");
            let loudest = all.iter().map(|s| s.unsigned_abs()).max().unwrap();
            assert!(loudest < 8_000, "{rate_hz} Hz: peak {loudest}");
        }
    }

    #[test]
    fn starting_and_stopping_makes_no_click() {
        let mut melody = Melody::new(RATE_HZ);
        let mut all = Vec::new();
        for round in 0..60 {
            melody.set_playing(round % 2 == 0);
            all.extend(samples(&mut melody, 61));
        }
        // A click is a step in the samples. The melody's frequencies have a small third difference; a step of 20 would have one of 60.
        let third = all
            .windows(4)
            .map(|w| (i32::from(w[3]) - 3 * i32::from(w[2]) + 3 * i32::from(w[1]) - i32::from(w[0])).abs());
        let roughest = third.max().unwrap();
        assert!(roughest < 40, "third difference {roughest}");
    }

    #[test]
    fn melody_is_silent_half_a_second_after_stopping() {
        let mut melody = Melody::new(RATE_HZ);
        assert!(melody.is_silent());
        melody.set_playing(true);
        assert!(samples(&mut melody, 100).iter().any(|&s| s != 0));
        melody.set_playing(false);
        assert!(!melody.is_silent(), "it fades out");
        samples(&mut melody, 26);
        assert!(melody.is_silent());
        assert!(samples(&mut melody, 100).iter().all(|&s| s == 0));
    }

    #[test]
    fn melody_resumes_at_the_start_of_a_bar() {
        let mut melody = Melody::new(RATE_HZ);
        melody.set_playing(true);
        samples(&mut melody, 100);
        melody.set_playing(false);
        samples(&mut melody, 30);
        assert_eq!(melody.eighth % 8, 0);
        assert!(melody.notes.is_empty());
    }

    #[test]
    fn inaudible_notes_are_dropped() {
        let mut melody = Melody::new(RATE_HZ);
        melody.set_playing(true);
        samples(&mut melody, 3_000);
        assert!(melody.notes.len() < 24, "{} notes", melody.notes.len());
    }
}
