//! The melody of `palabre try`: plucked chords, quiet and without end, so that one person alone hears that it works.
//!
//! A pure generator: whoever owns it takes frames at its own pace. It reads no clock and writes to no pipe.
//!
//! Each note is a few decaying sinusoids, each a two-pole resonator (`y[n] = 2r·cos ω·y[n−1] − r²·y[n−2]`), which costs two
//! multiplications a sample; a soft attack keeps the beginning from clicking, and a note ends when it can't be heard.

/// An eighth note, in ms: about 66 quarter notes a minute.
const EIGHTH_MS: f64 = 455.0;
/// How long the tune takes to come and to go, in ms.
const FADE_MS: f64 = 500.0;
/// The attack of a note, in ms.
const ATTACK_MS: f64 = 12.0;
/// Peak of the loudest note; with several sounding together the tune stays around −30 dBFS (RMS).
const NOTE_PEAK: f64 = 0.075;
/// A note ends below this part of its peak (−66 dB).
const INAUDIBLE: f64 = 0.0005;
/// Harmonics of a pluck: multiple of the pitch, strength, time constant in ms.
const PARTIALS: [(f64, f64, f64); 3] = [(1.0, 0.78, 850.0), (2.0, 0.16, 420.0), (3.0, 0.06, 210.0)];

/// One bar: six notes of a chord, low to high (MIDI numbers), and what the upper voice plays in it: eighth, note.
struct Bar {
    chord: [u8; 6],
    upper: &'static [(u32, u8)],
}

/// D – B minor – G – A, then D/F♯ – E minor – G – A suspended; the upper voice is pentatonic, so nothing grates.
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
/// Which note of the chord sounds on each eighth of a bar.
const PATTERN: [usize; 8] = [0, 2, 3, 4, 5, 4, 3, 2];

/// The endless tune.
pub struct Tune {
    rate_hz: f64,
    notes: Vec<Note>,
    /// The eighth that comes next, counted from the beginning of the loop.
    eighth: u32,
    samples_to_eighth: f64,
    /// 0 is silence, 1 the full tune.
    fade: f64,
    wanted: bool,
}

impl Tune {
    /// A silent tune at the beginning of its first bar.
    #[must_use]
    pub fn new(rate_hz: u32) -> Self {
        Self {
            rate_hz: f64::from(rate_hz),
            notes: Vec::new(),
            eighth: 0,
            samples_to_eighth: 0.0,
            fade: 0.0,
            wanted: false,
        }
    }

    /// Whether the tune is to be heard from now on; it comes and goes within half a second.
    pub fn want(&mut self, wanted: bool) {
        self.wanted = wanted;
    }

    /// Whether there is nothing to play: not wanted, and faded out.
    #[must_use]
    pub fn is_silent(&self) -> bool {
        !self.wanted && self.fade <= 0.0
    }

    /// The next `samples` samples, into `out`, which is emptied first.
    pub fn next_frame(&mut self, samples: usize, out: &mut Vec<i16>) {
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
        self.fade = (self.fade + if self.wanted { step } else { -step }).clamp(0.0, 1.0);
        let sum: f64 = self.notes.iter_mut().map(Note::next_sample).sum();
        sum * self.fade * self.fade
    }

    fn begin_eighth(&mut self) {
        let (bar, place) = self.place();
        let chord_note = bar.chord[PATTERN[place as usize]];
        let accent = if place == 0 { 1.0 } else { 0.6 };
        self.notes.push(Note::new(chord_note, NOTE_PEAK * accent, self.rate_hz));
        for &(_, upper) in bar.upper.iter().filter(|(at, _)| *at == place) {
            self.notes.push(Note::new(upper, NOTE_PEAK * 0.8, self.rate_hz));
        }
        self.eighth = (self.eighth + 1) % (BARS.len() * PATTERN.len()) as u32;
    }

    fn place(&self) -> (&'static Bar, u32) {
        let eighths = PATTERN.len() as u32;
        (&BARS[(self.eighth / eighths) as usize % BARS.len()], self.eighth % eighths)
    }

    /// A tune that returns begins with a whole bar, not in the middle of one.
    fn rewind_to_next_bar(&mut self) {
        self.notes.clear();
        let eighths = PATTERN.len() as u32;
        self.eighth = self.eighth.div_ceil(eighths) * eighths % (BARS.len() as u32 * eighths);
        self.samples_to_eighth = 0.0;
    }
}

/// One pluck while it sounds.
struct Note {
    partials: [Partial; PARTIALS.len()],
    /// 0 at the beginning, 1 after the attack.
    attack: f64,
    attack_step: f64,
    /// The envelope of the slowest partial, from 1 downwards.
    envelope: f64,
    envelope_factor: f64,
}

/// A decaying sinusoid: its last two samples and the resonator's coefficients.
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
        // Low notes carry further than they are loud, high ones the other way round.
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
    /// A sine from its zero crossing: `y[−1] = −A·sin ω / r`, `y[0] = 0` going backwards in time.
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

/// Full scale is 1.0; the tune stays far below, the clamp is for the type's sake.
fn to_i16(sample: f64) -> i16 {
    (sample * 32768.0).round().clamp(-32768.0, 32767.0) as i16
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const RATE_HZ: u32 = 24_000;
    const FRAME: usize = 480;

    fn samples(tune: &mut Tune, frames: usize) -> Vec<i16> {
        let (mut all, mut frame) = (Vec::new(), Vec::new());
        for _ in 0..frames {
            tune.next_frame(FRAME, &mut frame);
            all.extend_from_slice(&frame);
        }
        all
    }

    fn rms_dbfs(samples: &[i16]) -> f64 {
        let sum: f64 = samples.iter().map(|&s| (f64::from(s) / 32768.0).powi(2)).sum();
        10.0 * (sum / samples.len() as f64).log10()
    }

    #[test]
    fn the_whole_loop_is_quiet_and_even() {
        for rate_hz in [16_000, 24_000, 48_000] {
            let mut tune = Tune::new(rate_hz);
            tune.want(true);
            let all = samples(&mut tune, 2 * 1_456 * rate_hz as usize / RATE_HZ as usize);
            let level = rms_dbfs(&all);
            assert!((-32.0..-28.0).contains(&level), "{rate_hz} Hz: {level:.1} dBFS");
            let loudest = all.iter().map(|s| s.unsigned_abs()).max().unwrap();
            assert!(loudest < 8_000, "{rate_hz} Hz: peak {loudest}");
        }
    }

    #[test]
    fn there_is_no_click_in_it_even_when_it_comes_and_goes() {
        let mut tune = Tune::new(RATE_HZ);
        let mut all = Vec::new();
        for round in 0..60 {
            tune.want(round % 2 == 0);
            all.extend(samples(&mut tune, 61));
        }
        // The third difference of the tune's own frequencies is small; that of a step of only 20 is three times 20.
        let third = all
            .windows(4)
            .map(|w| (i32::from(w[3]) - 3 * i32::from(w[2]) + 3 * i32::from(w[1]) - i32::from(w[0])).abs());
        let roughest = third.max().unwrap();
        assert!(roughest < 40, "third difference {roughest}");
    }

    #[test]
    fn it_is_gone_within_half_a_second_and_stays_gone() {
        let mut tune = Tune::new(RATE_HZ);
        assert!(tune.is_silent());
        tune.want(true);
        assert!(samples(&mut tune, 100).iter().any(|&s| s != 0));
        tune.want(false);
        assert!(!tune.is_silent(), "it fades, it does not stop");
        samples(&mut tune, 26);
        assert!(tune.is_silent());
        assert!(samples(&mut tune, 100).iter().all(|&s| s == 0));
    }

    #[test]
    fn it_returns_with_the_beginning_of_a_bar() {
        let mut tune = Tune::new(RATE_HZ);
        tune.want(true);
        samples(&mut tune, 100);
        tune.want(false);
        samples(&mut tune, 30);
        assert_eq!(tune.eighth % 8, 0);
        assert!(tune.notes.is_empty());
    }

    #[test]
    fn notes_that_have_died_away_are_let_go() {
        let mut tune = Tune::new(RATE_HZ);
        tune.want(true);
        samples(&mut tune, 3_000);
        assert!(tune.notes.len() < 24, "{} notes", tune.notes.len());
    }
}
