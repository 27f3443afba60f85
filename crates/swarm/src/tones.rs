//! The tones of the talkers, and the check of a mix.
//!
//! Each talker sends a sine of its own. Each second its level changes by 6 dB, so that the time of a change in the mix shows the delay.
//! All frequencies are multiples of 100 Hz. So 10 ms contain whole periods of each tone, and a tone does not disturb the measurement of another.

use std::f32::consts::TAU;

/// Frequency of the first talker's tone, in Hz.
const FIRST_HZ: u32 = 300;
/// Distance between two tones, in Hz.
const STEP_HZ: u32 = 100;
/// Maximum sum of the peak levels of all tones. It is below the limiter's ceiling of −1 dBFS.
const SUM: f32 = 0.7;
/// Maximum peak level of a tone.
const PEAK_MAX: f32 = 0.1;
/// Number of blocks per second of sound. Each block of 20 ms is measured separately, because single precision is not exact enough for longer blocks.
const BLOCKS_PER_S: u32 = 50;
/// Number of tones that are measured at the same time, so that the compiler uses vector instructions.
const LANES: usize = 8;

/// A fault of a mix.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The tone of this talker is missing.
    Missing(usize),
    /// The mix contains the participant's own tone. The participant is this talker.
    Own(usize),
    /// The tone of this talker has a wrong level.
    Level(usize),
    /// The mix contains more noise than tones.
    Noise,
}

/// The tones of all talkers.
#[derive(Debug)]
pub(crate) struct Tones {
    rate_hz: u32,
    count: usize,
    /// Amplitude of the higher level of each tone. The lower level has half of this amplitude.
    pub(crate) high: f32,
    /// One second of a sine of 1 Hz.
    sine: Vec<f32>,
    coefficients: Vec<[f32; LANES]>,
}

impl Tones {
    /// Returns the maximum number of talkers in a room with this rate.
    pub(crate) fn max(rate_hz: u32) -> usize {
        ((rate_hz * 9 / 20).saturating_sub(FIRST_HZ) / STEP_HZ) as usize
    }

    pub(crate) fn new(rate_hz: u32, count: usize) -> Self {
        let sine = (0..rate_hz).map(|n| (TAU * n as f32 / rate_hz as f32).sin()).collect();
        let coefficient = |talker: usize| 2.0 * (TAU * freq_hz(talker) as f32 / rate_hz as f32).cos();
        let groups =
            (0..count.div_ceil(LANES)).map(|group| std::array::from_fn(|lane| coefficient(group * LANES + lane)));
        Self { rate_hz, count, high: (SUM / count.max(1) as f32).min(PEAK_MAX), sine, coefficients: groups.collect() }
    }

    pub(crate) fn rate_hz(&self) -> u32 {
        self.rate_hz
    }

    pub(crate) fn count(&self) -> usize {
        self.count
    }

    /// Appends `count` samples of a talker's tone as bytes, from sample `from` on.
    pub(crate) fn write(&self, talker: usize, from: u64, count: usize, out: &mut Vec<u8>) {
        for n in from..from + count as u64 {
            let phase = n % u64::from(self.rate_hz) * u64::from(freq_hz(talker)) % u64::from(self.rate_hz);
            let level = if self.is_high(talker, n) { self.high } else { self.high / 2.0 };
            let sample = (self.sine[phase as usize] * level * 32_768.0).round() as i16;
            out.extend_from_slice(&sample.to_le_bytes());
        }
    }

    /// Returns the sample in `(until − 2 s, until]` at which a talker's level last changed to high or to low.
    pub(crate) fn change_before(&self, talker: usize, until: u64, to_high: bool) -> Option<u64> {
        let rate = u64::from(self.rate_hz);
        let phase = self.phase(talker);
        let seconds = (until + phase) / rate;
        let seconds = if seconds.is_multiple_of(2) == to_high { seconds } else { seconds.checked_sub(1)? };
        (seconds * rate).checked_sub(phase)
    }

    fn is_high(&self, talker: usize, n: u64) -> bool {
        ((n + self.phase(talker)) / u64::from(self.rate_hz)).is_multiple_of(2)
    }

    /// Returns by how many samples the changes of a talker's level are earlier than those of talker 0, so that no two levels change at the same time.
    fn phase(&self, talker: usize) -> u64 {
        u64::from(self.rate_hz) * talker as u64 / self.count.max(1) as u64
    }

    /// Measures the amplitude of each tone, by Goertzel's algorithm.
    pub(crate) fn measure(&self, samples: &[f32], amplitudes: &mut Vec<f32>) {
        amplitudes.clear();
        amplitudes.resize(self.coefficients.len() * LANES, 0.0);
        let block = (self.rate_hz / BLOCKS_PER_S) as usize;
        let blocks = samples.chunks_exact(block);
        let count = blocks.len().max(1) as f32;
        for block in blocks {
            for (coefficients, sums) in self.coefficients.iter().zip(amplitudes.as_chunks_mut::<LANES>().0) {
                let powers = powers(block, coefficients);
                for (sum, power) in sums.iter_mut().zip(powers) {
                    *sum += power.max(0.0).sqrt() * 2.0 / block.len() as f32 / count;
                }
            }
        }
        amplitudes.truncate(self.count);
    }

    /// Checks a mix that contains the tones of all talkers except `own`. `is_levelled`: the mixer may change the levels. Returns the faults
    /// and whether a tone is disturbed, as when a talker's buffer in the mixer ran dry.
    pub(crate) fn check(
        &self,
        samples: &[f32],
        amplitudes: &[f32],
        own: Option<usize>,
        is_levelled: bool,
    ) -> (Vec<Fault>, bool) {
        let low = self.high / 2.0;
        let others = amplitudes.iter().enumerate().filter(|(talker, _)| own != Some(*talker));
        let loudest = others.map(|(_, amplitude)| *amplitude).fold(0.0, f32::max);
        let mut faults = Vec::new();
        for (talker, &amplitude) in amplitudes.iter().enumerate() {
            if own == Some(talker) {
                // If another tone is interrupted, up to a third of the lower level is measured at this tone's frequency.
                let limit = if is_levelled { (loudest / 3.0).max(low * 0.6) } else { low * 0.6 };
                faults.extend((amplitude > limit).then_some(Fault::Own(talker)));
            } else if amplitude < low / 4.0 {
                faults.push(Fault::Missing(talker));
            } else if !is_levelled && amplitude > self.high * 1.4 {
                faults.push(Fault::Level(talker));
            }
        }
        let energy = samples.iter().map(|sample| sample * sample).sum::<f32>() / samples.len().max(1) as f32;
        let tones = amplitudes.iter().map(|amplitude| amplitude * amplitude / 2.0).sum::<f32>();
        let rest = energy - tones;
        if rest > tones.max(low * low / 2.0) {
            faults.push(Fault::Noise);
        }
        // A change of level within the record adds at most a quarter of the energy of a low tone to `rest`.
        let changes = (self.count * samples.len()) as f32 / self.rate_hz as f32;
        (faults, !is_levelled && rest > low * low / 2.0 * (0.5 + 0.3 * changes))
    }
}

fn freq_hz(talker: usize) -> u32 {
    FIRST_HZ + STEP_HZ * u32::try_from(talker).unwrap_or(u32::MAX / STEP_HZ - FIRST_HZ)
}

/// Returns the squared magnitude of each frequency in a block.
fn powers(block: &[f32], coefficients: &[f32; LANES]) -> [f32; LANES] {
    let (mut first, mut second) = ([0.0_f32; LANES], [0.0_f32; LANES]);
    for &sample in block {
        for lane in 0..LANES {
            let next = sample + coefficients[lane] * first[lane] - second[lane];
            second[lane] = first[lane];
            first[lane] = next;
        }
    }
    std::array::from_fn(|lane| {
        let (s1, s2) = (first[lane], second[lane]);
        s1 * s1 + s2 * s2 - coefficients[lane] * s1 * s2
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const TALKERS: usize = 10;
    const CHUNK: usize = 960;

    /// Returns the sum of these talkers' tones from sample `from` on.
    fn mix(tones: &Tones, talkers: impl Iterator<Item = usize>, from: u64, count: usize) -> Vec<f32> {
        let mut sum = vec![0.0; count];
        for talker in talkers {
            let mut bytes = Vec::new();
            tones.write(talker, from, count, &mut bytes);
            for (sum, pair) in sum.iter_mut().zip(bytes.as_chunks::<2>().0) {
                *sum += f32::from(i16::from_le_bytes(*pair)) / 32_768.0;
            }
        }
        sum
    }

    fn check(tones: &Tones, samples: &[f32], own: Option<usize>) -> (Vec<Fault>, bool) {
        let mut amplitudes = Vec::new();
        tones.measure(samples, &mut amplitudes);
        tones.check(samples, &amplitudes, own, false)
    }

    #[test]
    fn right_mix_has_no_fault_at_any_time() {
        for (rate_hz, count) in [(24_000, TALKERS), (48_000, 50), (16_000, 1)] {
            let tones = Tones::new(rate_hz, count);
            let chunk = rate_hz as usize / 25;
            let whole = mix(&tones, 1..count, 0, rate_hz as usize * 2);
            for samples in whole.chunks_exact(chunk) {
                assert_eq!(check(&tones, samples, Some(0)), (vec![], false), "{rate_hz}");
            }
        }
    }

    #[test]
    fn each_fault_of_a_mix_is_named() {
        let tones = Tones::new(24_000, TALKERS);
        // Some records begin at or near a change of level, and one begins half a second after it.
        for from in [0, 100, 12_000, 24_000] {
            let of = |talkers: Vec<usize>| mix(&tones, talkers.into_iter(), from, CHUNK);
            let faults = |samples: &[f32], own| check(&tones, samples, own).0;
            assert_eq!(faults(&of((0..TALKERS).collect()), Some(3)), [Fault::Own(3)]);
            assert_eq!(faults(&of((1..TALKERS).collect()), None), [Fault::Missing(0)]);
            let twice: Vec<f32> = of((1..TALKERS).collect()).iter().map(|sample| sample * 4.0).collect();
            assert!(faults(&twice, Some(0)).contains(&Fault::Level(1)));
            // Samples whose two bytes are in the wrong order sound like noise.
            let torn = |sample: &f32| f32::from(((sample * 32_768.0) as i16).swap_bytes()) / 32_768.0;
            let torn: Vec<f32> = of((1..TALKERS).collect()).iter().map(torn).collect();
            assert!(faults(&torn, Some(0)).contains(&Fault::Noise));
        }
        assert_eq!(check(&tones, &[0.0; CHUNK], Some(0)).0.len(), TALKERS - 1);
    }

    #[test]
    fn tone_that_stops_for_a_frame_counts_as_disturbed() {
        let tones = Tones::new(24_000, 2);
        let mut samples = mix(&tones, 0..1, 0, CHUNK);
        samples[480..].fill(0.0);
        assert_eq!(check(&tones, &samples, Some(1)), (vec![], true));
        for until in 1..CHUNK {
            let mut samples = mix(&tones, 0..1, 0, CHUNK);
            samples[until..].fill(0.0);
            assert!(!check(&tones, &samples, Some(1)).0.contains(&Fault::Own(1)), "{until}");
        }
    }

    #[test]
    fn times_at_which_the_level_changes_are_found() {
        let tones = Tones::new(24_000, TALKERS);
        for talker in 0..TALKERS {
            for until in [100_000, 123_456] {
                for to_high in [true, false] {
                    let change = tones.change_before(talker, until, to_high).unwrap_or_default();
                    assert_eq!((tones.is_high(talker, change - 1), tones.is_high(talker, change)), (!to_high, to_high));
                    assert!(change <= until && until < change + 48_000);
                }
            }
        }
        assert_eq!(tones.change_before(0, 10, false), None);
    }
}
