//! `palabre mix`, compared with a simple reference.
#![allow(clippy::unwrap_used, missing_docs)]

mod common;

use std::fs::{self, File};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use common::{palabre, signal, stderr, stdout, wait_for};
use palabre_sound::convert::Converter;
use palabre_sound::measure;
use palabre_sound::wav::{self, Encoding, Head};
use palabre_sound::wav_examples::wavs;

/// A directory with WAV files in `in` and mixes in `out`.
struct TestDir {
    directory: tempfile::TempDir,
}

impl TestDir {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        fs::create_dir(directory.path().join("in")).unwrap();
        Self { directory }
    }

    fn input(&self, name: &str) -> PathBuf {
        self.directory.path().join("in").join(name)
    }

    fn out(&self) -> PathBuf {
        self.directory.path().join("out")
    }

    fn write(&self, name: &str, bytes: &[u8]) -> PathBuf {
        fs::write(self.input(name), bytes).unwrap();
        self.input(name)
    }

    fn mix(&self, arguments: &[&str], inputs: &[PathBuf]) -> Output {
        palabre().arg("mix").arg("--out").arg(self.out()).args(arguments).args(inputs).output().unwrap()
    }

    /// Returns the samples of a mix, whose header must be that of a complete WAV.
    fn mixed(&self, name: &str, rate_hz: u32) -> Vec<i16> {
        let bytes = fs::read(self.out().join(name)).unwrap();
        let samples: Vec<i16> = samples_of(&bytes[44..]);
        assert!(bytes == wav::little(rate_hz, &samples), "{name}: wrong header");
        samples
    }

    fn names_in_out(&self) -> Vec<String> {
        let Ok(entries) = fs::read_dir(self.out()) else { return Vec::new() };
        let mut names: Vec<String> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }
}

fn samples_of(bytes: &[u8]) -> Vec<i16> {
    bytes.chunks_exact(2).map(|sample| i16::from_le_bytes([sample[0], sample[1]])).collect()
}

/// Returns noise at full scale, different for each `seed`.
fn noise(seed: u32, samples: usize) -> Vec<i16> {
    let mut state = seed.wrapping_mul(2_654_435_761).wrapping_add(1);
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 16) as i16
    };
    (0..samples).map(|_| next()).collect()
}

/// Returns for each input the sum of all others.
fn reference(inputs: &[Vec<i16>]) -> Vec<Vec<i16>> {
    let longest = inputs.iter().map(Vec::len).max().unwrap();
    let sample = |who: usize, at: usize| i64::from(inputs[who].get(at).copied().unwrap_or(0));
    let mix_of = |who: usize| {
        let sum = |at| (0..inputs.len()).filter(|other| *other != who).map(|other| sample(other, at)).sum::<i64>();
        (0..longest).map(|at| sum(at).clamp(-32_768, 32_767) as i16).collect()
    };
    (0..inputs.len()).map(mix_of).collect()
}

#[test]
fn mix_is_the_exact_sum_of_the_others() {
    let dir = TestDir::new();
    // Use lengths that are shorter and longer than a block, and that are not multiples of a block.
    let inputs: Vec<Vec<i16>> =
        [(1, 48_000), (2, 16_384), (3, 1), (4, 50_001), (5, 0)].map(|(seed, samples)| noise(seed, samples)).to_vec();
    let write = |(i, samples): (usize, &Vec<i16>)| dir.write(&format!("{i}.wav"), &wav::little(48_000, samples));
    let paths: Vec<PathBuf> = inputs.iter().enumerate().map(write).collect();
    let printed = stdout(&dir.mix(&["--limiter", "off"], &paths));
    assert!(printed.starts_with("wrote 5 mixes of 1.042 s at 48000 Hz"), "{printed}");
    for (i, expected) in reference(&inputs).into_iter().enumerate() {
        assert!(dir.mixed(&format!("{i}.wav"), 48_000) == expected, "{i}");
    }
    assert_eq!(dir.names_in_out().len(), 5);
}

#[test]
fn only_samples_are_mixed_whatever_chunks_the_inputs_have() {
    let dir = TestDir::new();
    let loud = noise(1, 1_001);
    let inputs = [loud.clone(), loud.iter().map(|sample| sample / 64).collect()];
    for (order, bytes) in wavs(24_000, &inputs[1]) {
        let paths = [dir.write("loud.wav", &wav::little(24_000, &inputs[0])), dir.write("other.wav", &bytes)];
        stdout(&dir.mix(&["--limiter", "off"], &paths));
        assert!(dir.mixed("loud.wav", 24_000) == inputs[1], "{order}");
        assert!(dir.mixed("other.wav", 24_000) == inputs[0], "{order}");
    }
}

#[test]
fn mix_of_a_single_input_is_silent() {
    let dir = TestDir::new();
    let path = dir.write("a.wav", &wav::little(24_000, &noise(1, 100)));
    stdout(&dir.mix(&["--limiter", "off"], &[path]));
    assert_eq!(dir.mixed("a.wav", 24_000), [0; 100]);
}

#[test]
fn rates_and_channels_are_converted() {
    let dir = TestDir::new();
    let quiet = |seed, samples| noise(seed, samples).into_iter().map(|sample| sample / 8).collect::<Vec<i16>>();
    let cases =
        [(24_000, 1, Encoding::S16, 12_000), (44_100, 2, Encoding::F32, 30_000), (48_000, 6, Encoding::S16, 9_000)];
    let (mut paths, mut converted) = (Vec::new(), Vec::new());
    for (i, (rate_hz, channels, encoding, blocks)) in cases.into_iter().enumerate() {
        let head = Head { rate_hz, channels, encoding, data_bytes: None };
        let values = quiet(i as u32, blocks * usize::from(channels));
        let data: Vec<u8> = match encoding {
            Encoding::F32 => values.iter().flat_map(|&value| (f32::from(value) / 32_768.0).to_le_bytes()).collect(),
            _ => values.iter().flat_map(|value| value.to_le_bytes()).collect(),
        };
        let mut converter = Converter::new(&head, 48_000).unwrap();
        let mut samples = Vec::new();
        converter.push(&data, &mut samples);
        converter.finish(&mut samples);
        converted.push(samples);
        paths.push(dir.write(&format!("{i}.wav"), &[riff(&head, data.len() as u32), data].concat()));
    }
    stdout(&dir.mix(&["--limiter", "off"], &paths));
    for (i, expected) in reference(&converted).into_iter().enumerate() {
        assert!(dir.mixed(&format!("{i}.wav"), 48_000) == expected, "{i}");
    }
}

/// Returns a WAV header for any format of `head`, including those that Palabre's programs never write.
fn riff(head: &Head, data_bytes: u32) -> Vec<u8> {
    let (tag, bytes) = if head.encoding == Encoding::F32 { (3u16, 4u16) } else { (1, 2) };
    let block = head.channels * bytes;
    let mut out = b"RIFF".to_vec();
    out.extend((data_bytes + 36).to_le_bytes());
    out.extend(b"WAVEfmt \x10\0\0\0");
    out.extend(tag.to_le_bytes());
    out.extend(head.channels.to_le_bytes());
    out.extend(head.rate_hz.to_le_bytes());
    out.extend((head.rate_hz * u32::from(block)).to_le_bytes());
    out.extend(block.to_le_bytes());
    out.extend((bytes * 8).to_le_bytes());
    out.extend(b"data");
    out.extend(data_bytes.to_le_bytes());
    out
}

#[test]
fn errors_are_reported_before_anything_is_written() {
    let dir = TestDir::new();
    let good = dir.write("good.wav", &wav::little(48_000, &[1, 2, 3]));
    let text = dir.write("text.wav", b"these are words");
    fs::create_dir(dir.input("other")).unwrap();
    let twin = dir.write("other/good.wav", &wav::little(48_000, &[1, 2, 3]));
    for (inputs, why) in [
        (vec![good.clone(), text], "text.wav': the file or stream is not a WAV"),
        (vec![good.clone(), twin], "has the same file name"),
        (vec![good.clone(), good.clone()], "the file is given twice"),
        (vec![good.clone(), dir.input("missing.wav")], "missing.wav': No such file"),
        (vec![good.clone(), dir.input("other")], "not a regular file"),
        (vec![good, PathBuf::from("/dev/zero")], "not a regular file"),
    ] {
        let printed = stderr(&dir.mix(&[], &inputs), 1);
        assert!(printed.starts_with("palabre: unable to mix '") && printed.contains(why), "{printed}");
        assert!(!dir.out().exists(), "{why}");
    }
    assert!(stderr(&dir.mix(&[], &[]), 2).contains("IN.wav"));
}

#[test]
fn input_is_never_overwritten() {
    let dir = TestDir::new();
    let (a, b) = (wav::little(48_000, &[1]), wav::little(48_000, &[2]));
    let paths = [dir.write("a.wav", &a), dir.write("b.wav", &b)];
    let mix_into = |out: &Path| palabre().arg("mix").arg("--out").arg(out).args(&paths).output().unwrap();
    let printed = stderr(&mix_into(&dir.directory.path().join("in")), 1);
    assert!(printed.contains("the file is one of the inputs"), "{printed}");
    // `palabre mix` must also refuse an output directory that is a symbolic link to the directory of the inputs, and an output file that is
    // a hard link to an input.
    symlink(dir.directory.path().join("in"), dir.out()).unwrap();
    assert!(stderr(&mix_into(&dir.out()), 1).contains("the file is one of the inputs"));
    fs::remove_file(dir.out()).unwrap();
    fs::create_dir(dir.out()).unwrap();
    fs::hard_link(&paths[1], dir.out().join("b.wav")).unwrap();
    assert!(stderr(&mix_into(&dir.out()), 1).contains("the file is one of the inputs"));
    assert_eq!(dir.names_in_out(), ["b.wav"]);
    assert_eq!((fs::read(&paths[0]).unwrap(), fs::read(&paths[1]).unwrap()), (a, b));
}

#[test]
fn mixes_replace_existing_files() {
    let dir = TestDir::new();
    fs::create_dir(dir.out()).unwrap();
    fs::write(dir.out().join("a.wav"), "old").unwrap();
    let paths =
        [dir.write("a.wav", &wav::little(48_000, &[1, 2])), dir.write("b.wav", &wav::little(48_000, &[10, 20, 30]))];
    stdout(&dir.mix(&["--limiter", "off"], &paths));
    assert_eq!(dir.mixed("a.wav", 48_000), [10, 20, 30]);
    assert_eq!(dir.mixed("b.wav", 48_000), [1, 2, 0]);
}

#[test]
fn summary_is_json() {
    let dir = TestDir::new();
    let loud = vec![30_000i16; 1_000];
    let paths = ["a.wav", "b.wav", "c.wav"].map(|name| dir.write(name, &wav::little(16_000, &loud)));
    let printed = stdout(&dir.mix(&["--limiter", "off", "--json"], &paths));
    let summary: serde_json::Value = serde_json::from_str(&printed).unwrap();
    assert_eq!(
        (&summary["rate_hz"], &summary["samples"], &summary["limiter"]),
        (&16_000.into(), &1_000.into(), &false.into())
    );
    assert_eq!(summary["outputs"][2]["output"].as_str().unwrap(), dir.out().join("c.wav").to_str().unwrap());
    assert_eq!(summary["outputs"][2]["full_scale_samples"], 1_000);
}

#[test]
fn mix_below_full_scale_is_exact_with_the_limiter() {
    for rate_hz in [16_000, 44_100, 48_000, 96_000] {
        let dir = TestDir::new();
        let soft = |(seed, samples)| noise(seed, samples).into_iter().map(|sample| sample / 20).collect();
        let inputs: Vec<Vec<i16>> = [(1, 16_319), (2, 40_000), (3, 33_333)].map(soft).to_vec();
        let write = |(i, samples): (usize, &Vec<i16>)| dir.write(&format!("{i}.wav"), &wav::little(rate_hz, samples));
        let paths: Vec<PathBuf> = inputs.iter().enumerate().map(write).collect();
        stdout(&dir.mix(&[], &paths));
        for (i, expected) in reference(&inputs).into_iter().enumerate() {
            assert!(dir.mixed(&format!("{i}.wav"), rate_hz) == expected, "{i} at {rate_hz} Hz");
        }
    }
}

#[test]
fn loud_mix_is_limited_without_a_delay() {
    for rate_hz in [24_000, 44_100, 96_000] {
        let dir = TestDir::new();
        let inputs = [1, 2, 3, 4].map(|seed| noise(seed, 50_000).into_iter().map(|x| x / 2).collect::<Vec<i16>>());
        let write = |(i, samples): (usize, &Vec<i16>)| dir.write(&format!("{i}.wav"), &wav::little(rate_hz, samples));
        let paths: Vec<PathBuf> = inputs.iter().enumerate().map(write).collect();
        stdout(&dir.mix(&[], &paths));
        let mixed = dir.mixed("0.wav", rate_hz);
        assert_eq!(mixed.len(), 50_000);
        let peak = mixed.iter().map(|sample| sample.unsigned_abs()).max().unwrap();
        // The limiter's ceiling is a true peak of -1 dBFS.
        assert!((20_000..=29_205).contains(&peak), "{peak} at {rate_hz} Hz");
        let sum: Vec<i16> = (0..50_000).map(|at| inputs[1..].iter().map(|input| input[at] / 3).sum()).collect();
        let (lag, likeness) = measure::align(&sum[10_000..14_000], &mixed, 9_900..10_100);
        assert!(lag == 10_000 && likeness > 0.95, "{lag}, {likeness} at {rate_hz} Hz");
    }
}

/// Writes a sparse WAV of zeros.
fn sparse(dir: &TestDir, name: &str, bytes: u64) -> PathBuf {
    let path = dir.write(name, &wav::sized_head(48_000, bytes));
    File::options().write(true).open(&path).unwrap().set_len(bytes + 44).unwrap();
    path
}

#[test]
fn memory_does_not_depend_on_the_length() {
    let dir = TestDir::new();
    let paths = ["a.wav", "b.wav"].map(|name| sparse(&dir, name, 80 << 20));
    let program = palabre().get_program().to_owned();
    let output = Command::new("sh")
        .args(["-c", "ulimit -v 65536; exec \"$@\"", "sh"])
        .arg(program)
        .args(["mix", "--out"])
        .arg(dir.out())
        .args(&paths)
        .output()
        .unwrap();
    stdout(&output);
    assert_eq!(fs::metadata(dir.out().join("a.wav")).unwrap().len(), (80 << 20) + 44);
}

#[test]
fn interrupt_leaves_no_files() {
    let dir = TestDir::new();
    let paths = ["a.wav", "b.wav"].map(|name| sparse(&dir, name, 4_000_000_000));
    let mut child = palabre().arg("mix").arg("--out").arg(dir.out()).args(&paths).spawn().unwrap();
    wait_for("the first bytes", || dir.names_in_out().first().map(drop));
    signal(child.id(), "INT");
    assert_eq!(wait_for("the end", || child.try_wait().unwrap()).code(), Some(1));
    assert!(!dir.out().exists());
}
