//! How loud somebody speaks: Rec. ITU-R BS.1770-5, over what is speech.

use super::BLOCKS;

/// Speech over which the loudness is taken: 3 s.
const WINDOW_PIECES: usize = 30;
/// Frames in a piece: 100 ms.
const PIECE_FRAMES: u32 = 5;
/// Before there is so much of it, a cough could be taken for a voice: 300 ms.
const PIECES_MIN: usize = 3;
/// Nothing below this is speech that is meant for the room.
const ABSOLUTE_GATE_LUFS: f32 = -60.0;
/// What is so much below the rest isn't counted, in LU.
const RELATIVE_GATE_LU: f32 = -10.0;

/// Where the second high-pass begins.
const VOICE_HZ: f64 = 150.0;

/// The loudness of a mean square, where full scale is 1.
pub(super) fn lufs(power: f32) -> f32 {
    -0.691 + 10.0 * power.max(1e-12).log10()
}

/// The loudness of the last three seconds of speech.
#[derive(Clone, Debug, Default)]
pub(super) struct Loudness {
    /// Mean squares of 100 ms each, the oldest overwritten.
    pieces: Vec<f32>,
    next: usize,
    sum: f32,
    frames: u32,
}

impl Loudness {
    /// Takes in the K-weighted mean square of a frame of speech.
    pub(super) fn push(&mut self, power: f32) {
        self.sum += power;
        self.frames += 1;
        if self.frames < PIECE_FRAMES {
            return;
        }
        let piece = self.sum / PIECE_FRAMES as f32;
        (self.sum, self.frames) = (0.0, 0);
        if lufs(piece) < ABSOLUTE_GATE_LUFS {
            return;
        }
        match self.pieces.get_mut(self.next) {
            Some(oldest) => *oldest = piece,
            None => self.pieces.push(piece),
        }
        self.next = (self.next + 1) % WINDOW_PIECES;
    }

    /// The gated loudness; `None` while there is too little of it.
    pub(super) fn lufs(&self) -> Option<f32> {
        if self.pieces.len() < PIECES_MIN {
            return None;
        }
        let gate = lufs(mean(self.pieces.iter().copied())) + RELATIVE_GATE_LU;
        Some(lufs(mean(self.pieces.iter().copied().filter(|&piece| lufs(piece) >= gate))))
    }
}

fn mean(powers: impl Iterator<Item = f32>) -> f32 {
    let (sum, count) = powers.fold((0.0, 0.0), |(sum, count), power| (sum + power, count + 1.0f32));
    sum / count.max(1.0)
}

/// The filters before the measures. For the loudness: the head's shelf, then a high-pass; the coefficients for any rate are
/// those of the analogue filters that the Recommendation's own, for 48 kHz, were made from. For the voice a second
/// high-pass: below it is more of rooms than of voices.
#[derive(Clone, Debug)]
pub(super) struct Weighting {
    shelf: Biquad,
    high_pass: Biquad,
    voice: Biquad,
}

/// Mean squares of a frame, where full scale is 1.
#[derive(Clone, Copy, Debug)]
pub(super) struct Powers {
    /// K-weighted, of the whole frame.
    pub of_frame: f32,
    /// The voice's part of each block of 5 ms.
    pub of_voice: [f32; BLOCKS],
}

impl Weighting {
    pub(super) fn new(rate_hz: u32) -> Self {
        let rate_hz = f64::from(rate_hz);
        Self {
            shelf: shelf(rate_hz),
            high_pass: high_pass(38.135_470_876_024_44, 0.500_327_037_323_877_3, rate_hz),
            voice: high_pass(VOICE_HZ, std::f64::consts::FRAC_1_SQRT_2, rate_hz),
        }
    }

    /// Takes in a frame.
    pub(super) fn powers(&mut self, frame: &[i16]) -> Powers {
        let block = (frame.len() / BLOCKS).max(1);
        let (mut of_frame, mut of_voice) = (0.0, [0.0; BLOCKS]);
        for (samples, of_voice) in frame.chunks_exact(block).zip(&mut of_voice) {
            for &x in samples {
                let weighted = self.high_pass.next(self.shelf.next(f64::from(x) / 32_768.0));
                of_frame += weighted.powi(2);
                *of_voice += self.voice.next(weighted).powi(2);
            }
        }
        Powers {
            of_frame: (of_frame / frame.len().max(1) as f64) as f32,
            of_voice: of_voice.map(|square| (square / block as f64) as f32),
        }
    }
}

/// One second-order section, transposed direct form II.
#[derive(Clone, Debug)]
struct Biquad {
    b: [f64; 3],
    a: [f64; 2],
    state: [f64; 2],
}

impl Biquad {
    fn next(&mut self, x: f64) -> f64 {
        let y = self.b[0] * x + self.state[0];
        self.state = [self.b[1] * x - self.a[0] * y + self.state[1], self.b[2] * x - self.a[1] * y];
        y
    }
}

fn shelf(rate_hz: f64) -> Biquad {
    const HZ: f64 = 1_681.974_450_955_533;
    const Q: f64 = 0.707_175_236_955_419_6;
    const DB: f64 = 3.999_843_853_973_347;
    let k = (std::f64::consts::PI * HZ / rate_hz).tan();
    let high = 10f64.powf(DB / 20.0);
    let band = high.powf(0.499_666_774_154_541_6);
    let a0 = 1.0 + k / Q + k * k;
    Biquad {
        b: [(high + band * k / Q + k * k) / a0, 2.0 * (k * k - high) / a0, (high - band * k / Q + k * k) / a0],
        a: [2.0 * (k * k - 1.0) / a0, (1.0 - k / Q + k * k) / a0],
        state: [0.0; 2],
    }
}

/// Of gain 1 at high frequencies but for the numerator's scale, as the Recommendation has it.
fn high_pass(hz: f64, q: f64, rate_hz: f64) -> Biquad {
    let k = (std::f64::consts::PI * hz / rate_hz).tan();
    let a0 = 1.0 + k / q + k * k;
    Biquad { b: [1.0, -2.0, 1.0], a: [2.0 * (k * k - 1.0) / a0, (1.0 - k / q + k * k) / a0], state: [0.0; 2] }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::{measure, speech};
    use ebur128::{EbuR128, Mode};

    fn of_all(rate_hz: u32, samples: &[i16]) -> f32 {
        let mut weighting = Weighting::new(rate_hz);
        lufs(mean(samples.chunks_exact(rate_hz as usize / 50).map(|frame| weighting.powers(frame).of_frame)))
    }

    #[test]
    fn the_weighting_is_that_of_another_implementation_at_every_rate() {
        for rate_hz in [16_000, 24_000, 48_000] {
            for freq_hz in [50.0, 100.0, 997.0, 3_000.0, 7_000.0] {
                let tone = measure::tone(rate_hz, freq_hz, -23.0, rate_hz as usize * 2);
                let mut theirs = EbuR128::new(1, rate_hz, Mode::I).unwrap();
                theirs.add_frames_i16(&tone).unwrap();
                let (ours, theirs) = (of_all(rate_hz, &tone), theirs.loudness_global().unwrap() as f32);
                assert!((ours - theirs).abs() < 0.1, "{freq_hz} Hz at {rate_hz} Hz: {ours} and {theirs}");
            }
        }
    }

    #[test]
    fn pauses_and_whispers_are_not_counted() {
        let mut loudness = Loudness::default();
        let mut weighting = Weighting::new(24_000);
        let voice = speech::english(24_000);
        let mut feed = |loudness: &mut Loudness, divisor: i16| {
            for frame in voice.chunks_exact(480) {
                let quieter: Vec<i16> = frame.iter().map(|x| x / divisor).collect();
                loudness.push(weighting.powers(&quieter).of_frame);
            }
        };
        assert!(loudness.lufs().is_none());
        feed(&mut loudness, 1);
        let loud = loudness.lufs().unwrap();
        feed(&mut loudness, 1_000);
        assert_eq!(loudness.lufs().unwrap(), loud, "what nobody can mean for the room");
        feed(&mut loudness, 10);
        assert!((loudness.lufs().unwrap() - (loud - 20.0)).abs() < 1.5);
    }
}
