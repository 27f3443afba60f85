//! `palabre mix` against a reference that is as simple as can be.
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

/// A directory with WAVs in `in`, for mixes in `out`.
struct Desk {
    directory: tempfile::TempDir,
}

impl Desk {
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

    /// The samples of a mix, whose head must be that of a complete WAV.
    fn mixed(&self, name: &str, rate_hz: u32) -> Vec<i16> {
        let bytes = fs::read(self.out().join(name)).unwrap();
        let samples: Vec<i16> = samples_of(&bytes[44..]);
        assert!(bytes == wav::little(rate_hz, &samples), "{name} has another head");
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

/// Noise that is different for each `seed`, as loud as it gets.
fn noise(seed: u32, samples: usize) -> Vec<i16> {
    let mut state = seed.wrapping_mul(2_654_435_761).wrapping_add(1);
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 16) as i16
    };
    (0..samples).map(|_| next()).collect()
}

/// For each the sum of all the others, one sample at a time.
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
fn every_mix_is_the_exact_sum_of_the_others() {
    let desk = Desk::new();
    // Shorter and longer than a block, and no whole number of them.
    let inputs: Vec<Vec<i16>> =
        [(1, 48_000), (2, 16_384), (3, 1), (4, 50_001), (5, 0)].map(|(seed, samples)| noise(seed, samples)).to_vec();
    let write = |(i, samples): (usize, &Vec<i16>)| desk.write(&format!("{i}.wav"), &wav::little(48_000, samples));
    let paths: Vec<PathBuf> = inputs.iter().enumerate().map(write).collect();
    let said = stdout(&desk.mix(&["--limiter", "off"], &paths));
    assert!(said.starts_with("5 mixes of 1.042 s at 48000 Hz"), "{said}");
    for (i, expected) in reference(&inputs).into_iter().enumerate() {
        assert!(desk.mixed(&format!("{i}.wav"), 48_000) == expected, "{i}");
    }
    assert_eq!(desk.names_in_out().len(), 5);
}

#[test]
fn one_file_alone_hears_nobody() {
    let desk = Desk::new();
    let path = desk.write("a.wav", &wav::little(24_000, &noise(1, 100)));
    stdout(&desk.mix(&["--limiter", "off"], &[path]));
    assert_eq!(desk.mixed("a.wav", 24_000), [0; 100]);
}

#[test]
fn rates_and_channels_are_brought_together() {
    let desk = Desk::new();
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
        paths.push(desk.write(&format!("{i}.wav"), &[riff(&head, data.len() as u32), data].concat()));
    }
    stdout(&desk.mix(&["--limiter", "off"], &paths));
    for (i, expected) in reference(&converted).into_iter().enumerate() {
        assert!(desk.mixed(&format!("{i}.wav"), 48_000) == expected, "{i}");
    }
}

/// A head by hand, for what the suite itself never writes.
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
fn what_can_go_wrong_is_said_before_anything_is_written() {
    let desk = Desk::new();
    let good = desk.write("good.wav", &wav::little(48_000, &[1, 2, 3]));
    let text = desk.write("text.wav", b"these are words");
    fs::create_dir(desk.input("other")).unwrap();
    let twin = desk.write("other/good.wav", &wav::little(48_000, &[1, 2, 3]));
    for (inputs, why) in [
        (vec![good.clone(), text], "text.wav': this is not a WAV"),
        (vec![good.clone(), twin], "has the same file name"),
        (vec![good.clone(), desk.input("missing.wav")], "missing.wav': No such file"),
        (vec![good.clone(), desk.input("other")], "it is not a regular file"),
        (vec![good, PathBuf::from("/dev/zero")], "it is not a regular file"),
    ] {
        let said = stderr(&desk.mix(&[], &inputs), 1);
        assert!(said.starts_with("palabre: unable to mix '") && said.contains(why), "{said}");
        assert!(!desk.out().exists(), "{why}");
    }
    assert!(stderr(&desk.mix(&[], &[]), 2).contains("IN.wav"));
}

#[test]
fn an_input_is_never_overwritten() {
    let desk = Desk::new();
    let (a, b) = (wav::little(48_000, &[1]), wav::little(48_000, &[2]));
    let paths = [desk.write("a.wav", &a), desk.write("b.wav", &b)];
    let mix_into = |out: &Path| palabre().arg("mix").arg("--out").arg(out).args(&paths).output().unwrap();
    let said = stderr(&mix_into(&desk.directory.path().join("in")), 1);
    assert!(said.contains("it is one of the inputs"), "{said}");
    // Under another name of the directory, and of a file.
    symlink(desk.directory.path().join("in"), desk.out()).unwrap();
    assert!(stderr(&mix_into(&desk.out()), 1).contains("it is one of the inputs"));
    fs::remove_file(desk.out()).unwrap();
    fs::create_dir(desk.out()).unwrap();
    fs::hard_link(&paths[1], desk.out().join("b.wav")).unwrap();
    assert!(stderr(&mix_into(&desk.out()), 1).contains("it is one of the inputs"));
    assert_eq!(desk.names_in_out(), ["b.wav"]);
    assert_eq!((fs::read(&paths[0]).unwrap(), fs::read(&paths[1]).unwrap()), (a, b));
}

#[test]
fn mixes_replace_what_was_there() {
    let desk = Desk::new();
    fs::create_dir(desk.out()).unwrap();
    fs::write(desk.out().join("a.wav"), "old").unwrap();
    let paths =
        [desk.write("a.wav", &wav::little(48_000, &[1, 2])), desk.write("b.wav", &wav::little(48_000, &[10, 20, 30]))];
    stdout(&desk.mix(&["--limiter", "off"], &paths));
    assert_eq!(desk.mixed("a.wav", 48_000), [10, 20, 30]);
    assert_eq!(desk.mixed("b.wav", 48_000), [1, 2, 0]);
}

#[test]
fn the_summary_is_json() {
    let desk = Desk::new();
    let loud = vec![30_000i16; 1_000];
    let paths = ["a.wav", "b.wav", "c.wav"].map(|name| desk.write(name, &wav::little(16_000, &loud)));
    let said = stdout(&desk.mix(&["--limiter", "off", "--json"], &paths));
    let summary: serde_json::Value = serde_json::from_str(&said).unwrap();
    assert_eq!(
        (&summary["rate_hz"], &summary["samples"], &summary["limiter"]),
        (&16_000.into(), &1_000.into(), &false.into())
    );
    assert_eq!(summary["outputs"][2]["output"].as_str().unwrap(), desk.out().join("c.wav").to_str().unwrap());
    assert_eq!(summary["outputs"][2]["full_scale_samples"], 1_000);
}

#[test]
fn what_needs_no_limiter_is_exact_with_it() {
    for rate_hz in [16_000, 44_100, 48_000, 96_000] {
        let desk = Desk::new();
        let soft = |(seed, samples)| noise(seed, samples).into_iter().map(|sample| sample / 20).collect();
        let inputs: Vec<Vec<i16>> = [(1, 16_319), (2, 40_000), (3, 33_333)].map(soft).to_vec();
        let write = |(i, samples): (usize, &Vec<i16>)| desk.write(&format!("{i}.wav"), &wav::little(rate_hz, samples));
        let paths: Vec<PathBuf> = inputs.iter().enumerate().map(write).collect();
        stdout(&desk.mix(&[], &paths));
        for (i, expected) in reference(&inputs).into_iter().enumerate() {
            assert!(desk.mixed(&format!("{i}.wav"), rate_hz) == expected, "{i} at {rate_hz} Hz");
        }
    }
}

#[test]
fn what_is_too_loud_is_turned_down_and_stays_where_it_was() {
    for rate_hz in [24_000, 44_100, 96_000] {
        let desk = Desk::new();
        let voices = [1, 2, 3, 4].map(|seed| noise(seed, 50_000).into_iter().map(|x| x / 2).collect::<Vec<i16>>());
        let write = |(i, samples): (usize, &Vec<i16>)| desk.write(&format!("{i}.wav"), &wav::little(rate_hz, samples));
        let paths: Vec<PathBuf> = voices.iter().enumerate().map(write).collect();
        stdout(&desk.mix(&[], &paths));
        let mixed = desk.mixed("0.wav", rate_hz);
        assert_eq!(mixed.len(), 50_000);
        let peak = mixed.iter().map(|sample| sample.unsigned_abs()).max().unwrap();
        // The ceiling is a true peak of -1 dBFS.
        assert!((20_000..=29_205).contains(&peak), "{peak} at {rate_hz} Hz");
        let sum: Vec<i16> = (0..50_000).map(|at| voices[1..].iter().map(|voice| voice[at] / 3).sum()).collect();
        let (lag, likeness) = measure::align(&sum[10_000..14_000], &mixed, 9_900..10_100);
        assert!(lag == 10_000 && likeness > 0.95, "{lag}, {likeness} at {rate_hz} Hz");
    }
}

/// A WAV of zeros that takes no room on the disk.
fn long(desk: &Desk, name: &str, bytes: u64) -> PathBuf {
    let path = desk.write(name, &wav::sized_head(48_000, bytes));
    File::options().write(true).open(&path).unwrap().set_len(bytes + 44).unwrap();
    path
}

#[test]
fn memory_does_not_depend_on_length() {
    let desk = Desk::new();
    let paths = ["a.wav", "b.wav"].map(|name| long(&desk, name, 80 << 20));
    let program = palabre().get_program().to_owned();
    let output = Command::new("sh")
        .args(["-c", "ulimit -v 65536; exec \"$@\"", "sh"])
        .arg(program)
        .args(["mix", "--out"])
        .arg(desk.out())
        .args(&paths)
        .output()
        .unwrap();
    stdout(&output);
    assert_eq!(fs::metadata(desk.out().join("a.wav")).unwrap().len(), (80 << 20) + 44);
}

#[test]
fn an_interrupt_leaves_nothing() {
    let desk = Desk::new();
    let paths = ["a.wav", "b.wav"].map(|name| long(&desk, name, 4_000_000_000));
    let mut child = palabre().arg("mix").arg("--out").arg(desk.out()).args(&paths).spawn().unwrap();
    wait_for("the first bytes", || desk.names_in_out().first().map(drop));
    signal(child.id(), "INT");
    assert_eq!(wait_for("the end", || child.try_wait().unwrap()).code(), Some(1));
    assert!(!desk.out().exists());
}
