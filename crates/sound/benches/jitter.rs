//! One second of 40 talkers at 48 kHz through their jitter buffers, in pieces of 40 ms: 50 frames of 20 ms from each.
//!
//! Clocks that are right, clocks that are followed by a resampler, and a network that makes every second piece too late.

use std::time::Duration;

use divan::{Bencher, black_box};
use palabre_sound::jitter::Jitter;

const RATE_HZ: u32 = 48_000;
const FRAME: usize = 960;
const TALKERS: usize = 40;
const PIECE_US: u64 = 40_000;

fn main() {
    divan::main();
}

/// Talkers whose clocks are all `ppm` faster, and who talk on and on.
struct Room {
    talkers: Vec<Jitter>,
    piece: Vec<i16>,
    pieces: u64,
    now_us: u64,
    ppm: f64,
    late_us: u64,
}

impl Room {
    fn new(ppm: f64, late_us: u64) -> Self {
        let piece = (0..2 * FRAME).map(|i| ((i as f64 * 0.2618).sin() * 4_000.0) as i16).collect();
        let talkers = (0..TALKERS).map(|_| Jitter::new(RATE_HZ)).collect();
        Self { talkers, piece, pieces: 0, now_us: 5_000, ppm, late_us }
    }

    fn second(&mut self) {
        let mut frame = [0; FRAME];
        for _ in 0..50 {
            while self.arrival_us() <= self.now_us {
                let at = Duration::from_micros(self.arrival_us());
                self.talkers.iter_mut().for_each(|jitter| jitter.push(at, black_box(&self.piece)));
                self.pieces += 1;
            }
            for jitter in &mut self.talkers {
                let _ = black_box(jitter.pull(Duration::from_micros(self.now_us), &mut frame));
            }
            self.now_us += 20_000;
        }
    }

    fn arrival_us(&self) -> u64 {
        ((self.pieces * PIECE_US) as f64 / (1.0 + self.ppm / 1e6)) as u64 + self.pieces % 2 * self.late_us
    }
}

/// What comes is what goes.
#[divan::bench(sample_count = 50)]
fn clocks_are_right(bencher: Bencher<'_, '_>) {
    let mut room = Room::new(0.0, 0);
    room.second();
    bencher.bench_local(|| room.second());
    assert!(!room.talkers[0].is_following());
}

/// A resampler for each.
#[divan::bench(sample_count = 20)]
fn clocks_are_followed(bencher: Bencher<'_, '_>) {
    let mut room = Room::new(200.0, 0);
    (0..40).for_each(|_| room.second());
    assert!(room.talkers[0].is_following());
    bencher.bench_local(|| room.second());
}

/// 12 fades in a second, until the depth is found.
#[divan::bench(sample_count = 10)]
fn it_runs_dry_all_the_time(bencher: Bencher<'_, '_>) {
    bencher.with_inputs(|| Room::new(0.0, 39_000)).bench_local_values(|mut room| room.second());
}
