//! Measures the run time of `palabre mix` with 40 files of one second at 48 kHz, each run into a new directory.
//!
//! `cargo build --release -p palabre && cargo run --release -p palabre --example measure-mix [DIR]`. The files are in DIR, by
//! default /dev/shm.
#![allow(clippy::unwrap_used)]

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use palabre_sound::{measure, wav};

const FILES: u32 = 40;
const RUNS: usize = 60;
const RATE_HZ: u32 = 48_000;

fn main() {
    let parent = std::env::args().nth(1).unwrap_or_else(|| "/dev/shm".into());
    let directory = tempfile::tempdir_in(parent).unwrap();
    let palabre = std::env::current_exe().unwrap().parent().unwrap().with_file_name("palabre");
    for (what, dbfs) in [("limiter idle", -60.0), ("limiter engaged on every mix", -20.0)] {
        let files = write(directory.path(), what, dbfs);
        report(what, &time(&palabre, directory.path(), &files, &[]));
        report("  --limiter off", &time(&palabre, directory.path(), &files, &["--limiter", "off"]));
    }
}

fn write(directory: &Path, what: &str, dbfs: f64) -> Vec<PathBuf> {
    let directory = directory.join(what);
    std::fs::create_dir(&directory).unwrap();
    let write = |i: u32| {
        let path = directory.join(format!("p{i:02}.wav"));
        let samples = measure::tone(RATE_HZ, 100.0 + 37.0 * f64::from(i), dbfs, RATE_HZ as usize);
        std::fs::write(&path, wav::little(RATE_HZ, &samples)).unwrap();
        path
    };
    (0..FILES).map(write).collect()
}

fn time(palabre: &Path, directory: &Path, files: &[PathBuf], flags: &[&str]) -> Vec<Duration> {
    let out = directory.join("out");
    let run = || {
        let began = Instant::now();
        let mut command = Command::new(palabre);
        command.args(["mix", "--out"]).arg(&out).args(flags).args(files).stdout(Stdio::null());
        assert!(command.status().unwrap().success());
        let time = began.elapsed();
        std::fs::remove_dir_all(&out).unwrap();
        time
    };
    let mut times: Vec<Duration> = (0..RUNS).map(|_| run()).collect();
    times.sort();
    times
}

fn report(what: &str, times: &[Duration]) {
    let [least, median, p90] = [0, RUNS / 2, RUNS * 9 / 10].map(|at| times[at].as_secs_f64() * 1000.0);
    println!("{what}: minimum {least:.1} ms, median {median:.1} ms, 90th percentile {p90:.1} ms");
}
