//! Benchmarks of mix-minus: one second of a room with 40, 200 or 1000 talkers at 48 kHz: 50 frames of 20 ms each.
//!
//! Mix-minus is measured with all limiters idle and with all limiters active. A separate mix for each talker (O(N²))
//! gives the upper limit of the time, and copying the same number of bytes the lower limit.

use divan::{Bencher, black_box};
use palabre_sound::limit::Limiter;
use palabre_sound::mix::{self, Factor, Sum};

const RATE_HZ: u32 = 48_000;
const FRAME: usize = 960;
const TALKERS: [usize; 3] = [40, 200, 1000];

fn main() {
    divan::main();
}

/// For each talker, one second of what the talker says and one second of the mix that the talker hears.
struct Second {
    said: Vec<Vec<i16>>,
    heard: Vec<Vec<i16>>,
}

impl Second {
    /// Returns noise for each talker. The sum of all talkers' samples has at most the magnitude `magnitude_of_all`.
    fn new(talkers: usize, magnitude_of_all: i32) -> Self {
        let magnitude = (magnitude_of_all / talkers as i32).clamp(1, 32_767);
        let mut state = 1u32;
        let mut noise = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            ((i64::from(state >> 8) * i64::from(2 * magnitude + 1)) >> 24) as i16 - magnitude as i16
        };
        let said = (0..talkers).map(|_| (0..RATE_HZ).map(|_| noise()).collect()).collect();
        Self { said, heard: vec![vec![1; RATE_HZ as usize]; talkers] }
    }

    fn each_frame(&mut self, mut of: impl FnMut(&[&[i16]], &mut [&mut [i16]])) {
        for at in (0..RATE_HZ as usize).step_by(FRAME) {
            let said: Vec<&[i16]> = self.said.iter().map(|said| black_box(&said[at..at + FRAME])).collect();
            let mut heard: Vec<&mut [i16]> =
                self.heard.iter_mut().map(|heard| black_box(&mut heard[at..at + FRAME])).collect();
            of(&said, &mut heard);
        }
    }
}

fn limited(bencher: Bencher<'_, '_>, talkers: usize, magnitude_of_all: i32) {
    let mut second = Second::new(talkers, magnitude_of_all);
    let mut limiters = vec![Limiter::new(RATE_HZ); talkers];
    let mut sum = Sum::new(FRAME);
    bencher.bench_local(|| {
        second.each_frame(|said, heard| {
            sum.clear();
            said.iter().for_each(|said| sum.add(said));
            sum.seal();
            for ((limiter, said), heard) in limiters.iter_mut().zip(said).zip(heard) {
                limiter.process_minus(&sum, said, heard);
            }
        });
    });
    let engaged = limiters.iter().filter(|limiter| limiter.gain() < 1.0).count();
    assert_eq!(engaged, if magnitude_of_all < 20_000 { 0 } else { talkers });
}

/// No mix reaches the limiters' ceiling.
#[divan::bench(args = TALKERS, sample_count = 20)]
fn limiter_idle(bencher: Bencher<'_, '_>, talkers: usize) {
    limited(bencher, talkers, 14_000);
}

/// All talkers talk at full scale, so all limiters are active.
#[divan::bench(args = TALKERS, sample_count = 20)]
fn limiter_engaged(bencher: Bencher<'_, '_>, talkers: usize) {
    limited(bencher, talkers, i32::MAX);
}

/// Mix-minus without limiters: the mixes are clamped to 16 bits.
#[divan::bench(args = TALKERS, sample_count = 20)]
fn sum_minus_self(bencher: Bencher<'_, '_>, talkers: usize) {
    let mut second = Second::new(talkers, 14_000);
    let mut sum = Sum::new(FRAME);
    bencher.bench_local(|| {
        second.each_frame(|said, heard| {
            sum.clear();
            said.iter().for_each(|said| sum.add(said));
            sum.seal();
            said.iter().zip(heard).for_each(|(said, heard)| sum.minus_saturated(said, heard));
        });
    });
}

/// Computes a separate sum of all other talkers for each talker, clamped to 16 bits.
#[divan::bench(args = TALKERS, sample_count = 1, sample_size = 1)]
fn all_pairs(bencher: Bencher<'_, '_>, talkers: usize) {
    let mut second = Second::new(talkers, 14_000);
    let mut mix = vec![0i32; FRAME];
    bencher.bench_local(|| {
        second.each_frame(|said, heard| {
            for (i, heard) in heard.iter_mut().enumerate() {
                mix.fill(0);
                for (_, said) in said.iter().enumerate().filter(|(j, _)| *j != i) {
                    mix.iter_mut().zip(*said).for_each(|(mix, &x)| *mix += i32::from(x));
                }
                let saturated = |x: i32| x.clamp(i16::MIN.into(), i16::MAX.into()) as i16;
                heard.iter_mut().zip(&mix).for_each(|(heard, &x)| *heard = saturated(x));
            }
        });
    });
}

/// Copies every talker's input to the output once.
#[divan::bench(args = TALKERS, sample_count = 20)]
fn memcpy(bencher: Bencher<'_, '_>, talkers: usize) {
    let mut second = Second::new(talkers, 14_000);
    bencher.bench_local(|| {
        second.each_frame(|said, heard| {
            said.iter().zip(heard).for_each(|(said, heard)| heard.copy_from_slice(said));
        });
    });
}

/// Number of other talkers whom each talker hears at half volume.
const GAINS: usize = 3;

/// As `limiter_idle`, but every talker has personal gains, which need a mix in 32 bits.
#[divan::bench(args = TALKERS, sample_count = 20)]
fn personal_gains(bencher: Bencher<'_, '_>, talkers: usize) {
    let mut second = Second::new(talkers, 14_000);
    let mut limiters = vec![Limiter::new(RATE_HZ); talkers];
    let (mut sum, mut mix) = (Sum::new(FRAME), vec![0; FRAME]);
    let half = Factor::nearest(0.5);
    bencher.bench_local(|| {
        second.each_frame(|said, heard| {
            sum.clear();
            said.iter().for_each(|said| sum.add(said));
            sum.seal();
            for (i, (limiter, heard)) in limiters.iter_mut().zip(heard).enumerate() {
                mix.copy_from_slice(sum.total());
                mix::rescale(&mut mix, said[i], Factor::ZERO, Factor::ZERO);
                for other in 1..=GAINS {
                    mix::rescale(&mut mix, said[(i + other) % talkers], half, half);
                }
                limiter.process(&mix, heard);
            }
        });
    });
}
