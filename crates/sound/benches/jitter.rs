//! Benchmarks of the jitter buffer: one second of 40 talkers at 48 kHz, pushed in chunks of 40 ms and pulled as 50
//! frames of 20 ms from each buffer.
//!
//! The cases are equal clocks, clocks that a resampler follows, and a network that makes every second chunk too late.

use std::time::Duration;

use divan::{Bencher, black_box};
use palabre_sound::jitter::Jitter;

const RATE_HZ: u32 = 48_000;
const FRAME: usize = 960;
const TALKERS: usize = 40;
const CHUNK_US: u64 = 40_000;

fn main() {
    divan::main();
}

/// Talkers without pauses. Their clocks are `ppm` parts per million faster than the mixer's, and every second chunk is
/// late by `late_us`.
struct Room {
    talkers: Vec<Jitter>,
    chunk: Vec<i16>,
    chunks: u64,
    now_us: u64,
    ppm: f64,
    late_us: u64,
}

impl Room {
    fn new(ppm: f64, late_us: u64) -> Self {
        let chunk = (0..2 * FRAME).map(|i| ((i as f64 * 0.2618).sin() * 4_000.0) as i16).collect();
        let talkers = (0..TALKERS).map(|_| Jitter::new(RATE_HZ)).collect();
        Self { talkers, chunk, chunks: 0, now_us: 5_000, ppm, late_us }
    }

    fn second(&mut self) {
        let mut frame = [0; FRAME];
        for _ in 0..50 {
            while self.arrival_us() <= self.now_us {
                let at = Duration::from_micros(self.arrival_us());
                self.talkers.iter_mut().for_each(|jitter| jitter.push(at, black_box(&self.chunk)));
                self.chunks += 1;
            }
            for jitter in &mut self.talkers {
                let _ = black_box(jitter.pull(Duration::from_micros(self.now_us), &mut frame));
            }
            self.now_us += 20_000;
        }
    }

    fn arrival_us(&self) -> u64 {
        ((self.chunks * CHUNK_US) as f64 / (1.0 + self.ppm / 1e6)) as u64 + self.chunks % 2 * self.late_us
    }
}

/// The clocks are equal, so the jitter buffers pass the samples unchanged.
#[divan::bench(sample_count = 50)]
fn clocks_are_right(bencher: Bencher<'_, '_>) {
    let mut room = Room::new(0.0, 0);
    room.second();
    bencher.bench_local(|| room.second());
    assert!(!room.talkers[0].is_following());
}

/// The clocks differ, so one resampler runs for each talker.
#[divan::bench(sample_count = 20)]
fn clocks_are_followed(bencher: Bencher<'_, '_>) {
    let mut room = Room::new(200.0, 0);
    (0..40).for_each(|_| room.second());
    assert!(room.talkers[0].is_following());
    bencher.bench_local(|| room.second());
}

/// Every second chunk is late: each buffer has 12 underruns in a second until its margin is sufficient.
#[divan::bench(sample_count = 10)]
fn it_runs_dry_all_the_time(bencher: Bencher<'_, '_>) {
    bencher.with_inputs(|| Room::new(0.0, 39_000)).bench_local_values(|mut room| room.second());
}
