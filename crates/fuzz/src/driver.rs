//! A driver for stable Rust: runs a target with random changes of the files of its corpus. The sequence of changes is the same in each run.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::Target;

/// Maximum length of an input in bytes.
const LENGTH_MAX: usize = 4096;
/// Maximum number of changes to an input.
const CHANGES_MAX: u64 = 6;
/// Maximum number of times that the driver repeats an execution that took longer than all previous executions.
const REPETITIONS: u32 = 5;
/// Limits of integer types, which the driver writes into inputs as little-endian bytes.
const NUMBERS: [u64; 10] = [0, 1, 0x7f, 0x80, 0xff, 0x7fff, 0xffff, 0x7fff_ffff, 0xffff_ffff, u64::MAX];

/// The result of a run.
#[derive(Clone, Copy, Debug)]
pub struct Outcome {
    /// Number of executions.
    pub executions: u64,
    /// Duration of the run.
    pub time: Duration,
    /// Duration of the slowest execution.
    pub slowest: Duration,
}

/// Returns the directory with the corpus of a target.
#[must_use]
pub fn corpus(target: &Target) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target.name)
}

/// Runs a target with each file of its corpus, and then with `count` changed inputs. Calls `before` with each input before its execution, so that the caller
/// can keep the input that makes the target panic. Calls `slow` with each input that takes longer than all previous inputs.
///
/// # Errors
/// The corpus can't be read or is empty.
pub fn run(
    target: &Target,
    count: u64,
    mut before: impl FnMut(&[u8]),
    mut slow: impl FnMut(&[u8], Duration),
) -> io::Result<Outcome> {
    let mut paths: Vec<PathBuf> =
        fs::read_dir(corpus(target))?.map(|entry| Ok(entry?.path())).collect::<io::Result<_>>()?;
    paths.sort();
    let inputs: Vec<Vec<u8>> = paths.into_iter().map(fs::read).collect::<io::Result<_>>()?;
    if inputs.is_empty() {
        return Err(io::Error::other(format!("the corpus of '{}' is empty", target.name)));
    }
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let mut input = Vec::new();
    let (began, mut slowest) = (Instant::now(), Duration::ZERO);
    for number in 0..inputs.len() as u64 + count {
        match inputs.get(number as usize) {
            Some(unchanged) => input.clone_from(unchanged),
            None => change(&mut input, &inputs, target, &mut random),
        }
        before(&input);
        let start = Instant::now();
        let _ = (target.run)(&input);
        // Another process may have delayed the execution, so only the fastest of several counts.
        let mut took = start.elapsed();
        for _ in 0..REPETITIONS {
            if took <= slowest {
                break;
            }
            let start = Instant::now();
            let _ = (target.run)(&input);
            took = took.min(start.elapsed());
        }
        if took > slowest {
            slowest = took;
            slow(&input, took);
        }
    }
    Ok(Outcome { executions: inputs.len() as u64 + count, time: began.elapsed(), slowest })
}

/// Changes the previous input or, in half of the calls, a file of the corpus.
fn change(input: &mut Vec<u8>, inputs: &[Vec<u8>], target: &Target, random: &mut Random) {
    if random.below(2) == 0 || input.is_empty() {
        input.clone_from(&inputs[random.index(inputs.len())]);
    }
    for _ in 0..=random.below(CHANGES_MAX) {
        let at = random.index(input.len() + 1);
        match random.below(9) {
            0 if at < input.len() => input[at] ^= 1 << random.below(8),
            1 if at < input.len() => input[at] = random.below(256) as u8,
            2 => {
                let end = (at + random.index(16)).min(input.len());
                input.drain(at..end);
            }
            3 => insert(input, at, &[random.below(256) as u8]),
            4 => {
                let end = (at + random.index(64)).min(input.len());
                let copy = input[at..end].to_vec();
                insert(input, at, &copy);
            }
            5 => {
                let other = &inputs[random.index(inputs.len())];
                let from = random.index(other.len() + 1);
                input.truncate(at);
                input.extend_from_slice(&other[from..]);
            }
            6 => insert(input, at, word(target.words[random.index(target.words.len())]).as_slice()),
            7 => {
                let number = NUMBERS[random.index(NUMBERS.len())].wrapping_add(random.below(3)).wrapping_sub(1);
                let bytes = number.to_le_bytes();
                for (old, new) in input[at..].iter_mut().zip(&bytes[..1 << random.below(4)]) {
                    *old = *new;
                }
            }
            _ => insert(input, at, random.next().to_string().as_bytes()),
        }
    }
    input.truncate(LENGTH_MAX);
}

fn insert(input: &mut Vec<u8>, at: usize, bytes: &[u8]) {
    input.splice(at..at, bytes.iter().copied());
}

/// Returns the bytes of a word of the target, to insert them into an input. If all characters are at most U+00FF, each character stands for one byte;
/// otherwise the word is UTF-8.
fn word(word: &str) -> Vec<u8> {
    let bytes = word.chars().map(|char| u8::try_from(u32::from(char)));
    bytes.collect::<Result<_, _>>().unwrap_or_else(|_| word.as_bytes().to_vec())
}

/// A generator of pseudorandom numbers: xorshift64* of Marsaglia and Vigna.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, limit: u64) -> u64 {
        (self.next() >> 16) % limit
    }

    fn index(&mut self, length: usize) -> usize {
        self.below(length as u64) as usize
    }
}
