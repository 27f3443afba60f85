//! The loudness of speech, after Rec. ITU-R BS.1770-5.

/// Blocks of 5 ms in a frame.
pub(super) const BLOCKS: usize = 4;
/// Number of pieces of 100 ms of speech over which the loudness is measured: 3 s.
const WINDOW_PIECES: usize = 30;
/// Frames in a piece of 100 ms.
const PIECE_FRAMES: u32 = 5;
/// Minimum number of pieces for a measurement: 300 ms, longer than a cough.
const PIECES_MIN: usize = 3;
/// Absolute gate: pieces quieter than this level don't count.
const ABSOLUTE_GATE_LUFS: f32 = -60.0;
/// Relative gate: pieces this far below the mean don't count, in LU.
const RELATIVE_GATE_LU: f32 = -10.0;

/// Cut-off frequency of the high-pass filter for speech detection.
const VOICE_HZ: f64 = 150.0;

/// Returns the loudness of a mean square, in LUFS. The mean square of full scale is 1.
pub(super) fn lufs(power: f32) -> f32 {
    -0.691 + 10.0 * power.max(1e-12).log10()
}

/// Measures the loudness of the last three seconds of speech. Pauses between the words of the participant don't count.
#[derive(Clone, Debug, Default)]
pub(super) struct Loudness {
    /// Mean squares of the last pieces, in a ring buffer.
    pieces: Vec<f32>,
    next: usize,
    sum: f32,
    frames: u32,
}

impl Loudness {
    /// Adds the K-weighted mean square of a frame of speech.
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

    /// Returns the gated loudness; `None` until 300 ms of speech were added.
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

/// The filters through which samples pass before the measurement. K-weighting is a high shelf and a high-pass filter;
/// the coefficients for any rate come from the analogue filters behind the Recommendation's coefficients for 48 kHz.
/// For speech detection a second high-pass filter removes the rumble of rooms.
#[derive(Clone, Debug)]
pub(super) struct Weighting {
    shelf: Biquad,
    high_pass: Biquad,
    voice: Biquad,
}

/// Mean squares of a frame; full scale is 1.
#[derive(Clone, Copy, Debug)]
pub(super) struct Powers {
    /// Mean square of the whole frame, K-weighted.
    pub of_frame: f32,
    /// Mean square of each block of 5 ms, K-weighted and high-pass filtered.
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

    /// Filters a frame and returns its mean squares.
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

/// A second-order filter section, transposed direct form II.
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

/// The high shelf of K-weighting.
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

/// A high-pass filter whose numerator is 1, −2, 1, as in the Recommendation.
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
    fn the_weighting_agrees_with_ebur128_at_every_rate() {
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
    fn quiet_pieces_are_gated() {
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
        assert_eq!(loudness.lufs().unwrap(), loud, "60 dB quieter");
        feed(&mut loudness, 10);
        assert!((loudness.lufs().unwrap() - (loud - 20.0)).abs() < 1.5);
    }
}
