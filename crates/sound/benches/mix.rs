//! Mix-minus against what it must beat: a mix for each talker made from all the others (O(N²)), and against what nothing
//! can beat: copying as many bytes. One frame of 20 ms at 48 kHz, all talking.

use divan::{Bencher, black_box};
use palabre_sound::{limit, mix::Sum};

const FRAME_SAMPLES: usize = 960;
const TALKERS: [usize; 2] = [40, 200];

fn main() {
    divan::main();
}

fn frames(talkers: usize) -> Vec<Vec<i16>> {
    (0..talkers)
        .map(|i| (0..FRAME_SAMPLES).map(|j| ((i * 7919 + j * 104_729) % 2000) as i16 - 1000).collect())
        .collect()
}

#[divan::bench(args = TALKERS)]
fn sum_minus_self(bencher: Bencher<'_, '_>, talkers: usize) {
    let frames = frames(talkers);
    let mut outs = frames.clone();
    let mut sum = Sum::new(FRAME_SAMPLES);
    bencher.bench_local(|| {
        sum.clear();
        frames.iter().for_each(|frame| sum.add(black_box(frame)));
        for (frame, out) in frames.iter().zip(&mut outs) {
            sum.minus_saturated(black_box(frame), black_box(out));
        }
    });
}

#[divan::bench(args = TALKERS)]
fn all_pairs(bencher: Bencher<'_, '_>, talkers: usize) {
    let frames = frames(talkers);
    let mut outs = frames.clone();
    let mut mix = vec![0i32; FRAME_SAMPLES];
    bencher.bench_local(|| {
        for (i, out) in outs.iter_mut().enumerate() {
            mix.fill(0);
            for (_, frame) in frames.iter().enumerate().filter(|(j, _)| *j != i) {
                mix.iter_mut().zip(black_box(frame)).for_each(|(mix, &x)| *mix += i32::from(x));
            }
            limit::saturate(&mix, black_box(out));
        }
    });
}

#[divan::bench(args = TALKERS)]
fn memcpy(bencher: Bencher<'_, '_>, talkers: usize) {
    let frames = frames(talkers);
    let mut outs = frames.clone();
    bencher.bench_local(|| {
        for (frame, out) in frames.iter().zip(&mut outs) {
            out.copy_from_slice(black_box(frame));
            black_box(out);
        }
    });
}
