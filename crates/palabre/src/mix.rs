//! `palabre mix`: for each input file, a file with the sum of all other inputs, mixed as in a room.
//!
//! Files are processed in blocks, so memory doesn't depend on their length. Outputs have temporary names until all of them are
//! complete; after an error, existing files are unchanged.

mod frames;
mod sink;

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fmt::Display;
use std::fs;
use std::io::{self, ErrorKind};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use palabre_host::exit::Failure;
use palabre_host::process;
use palabre_host::signals::{SIGHUP, SIGINT, SIGTERM, Signals};
use palabre_sound::limit::Limiter;
use palabre_sound::mix::Sum;
use serde_json::json;

use crate::cli::{Mix, Switch};
use crate::output::print;
use crate::progress::{Progress, clock};
use crate::wav_reader::{ReadBuffer, SampleReader, Wav};
use frames::Frames;
use sink::Sink;

/// Approximate number of samples per block. With this size, the blocks of a typical number of inputs fit into the processor's cache.
const BLOCK_SAMPLES: usize = 8 * 1024;

/// Mixes the files.
pub(crate) fn run(mix: &Mix) -> Result<(), Failure> {
    let began = Instant::now();
    let mut signals = Signals::new(&[SIGINT, SIGTERM, SIGHUP]).map_err(Failure::system)?;
    // Each input needs two descriptors. If the limit can't be raised and is too low, opening a file fails and is reported.
    let _ = process::raise_nofile();
    let wavs = mix.files.iter().map(|path| open(path)).collect::<Result<Vec<Wav>, Failure>>()?;
    let targets = targets(mix, &wavs)?;
    let directory = OutputDir::prepare(&mix.out)?;
    let mut job = Job::begin(mix, wavs, targets)?;
    let mut progress = Progress::new("mixing");
    while job.mix_block()? {
        if signals.try_next().is_some() {
            return Err(Failure::refused("unable to complete the mixes: interrupted by a signal; no file was changed"));
        }
        job.show(&mut progress, began);
    }
    drop(progress);
    let report = job.commit()?;
    directory.keep();
    print(if mix.json { report.json(mix, began) } else { report.line(began) })
}

fn open(path: &Path) -> Result<Wav, Failure> {
    Wav::open(path).map_err(|error| unable_to_read(path, &error))
}

fn unable_to_read(path: &Path, cause: &dyn Display) -> Failure {
    Failure::refused(format!("unable to mix '{}': {cause}", path.display()))
}

fn unable_to_write(path: &Path) -> impl FnOnce(io::Error) -> Failure {
    move |error| Failure::system(format!("unable to write '{}': {error}", path.display()))
}

/// Returns the path of each output. Fails if two outputs have the same name, or if an output would replace an input.
fn targets(mix: &Mix, wavs: &[Wav]) -> Result<Vec<PathBuf>, Failure> {
    let mut names: HashMap<&OsStr, &Path> = HashMap::new();
    let mut targets = Vec::with_capacity(mix.files.len());
    for path in &mix.files {
        let name = path.file_name().ok_or_else(|| unable_to_read(path, &"the path has no file name"))?;
        if let Some(other) = names.insert(name, path) {
            let cause = match other == path {
                true => "the file is given twice; give it once".to_owned(),
                false => format!("'{}' has the same file name; rename one of the two files", other.display()),
            };
            return Err(unable_to_read(path, &cause));
        }
        targets.push(mix.out.join(name));
    }
    for path in &targets {
        let Ok(metadata) = fs::metadata(path) else { continue };
        let refused = |cause: &str| Failure::refused(format!("unable to write '{}': {cause}", path.display()));
        if wavs.iter().any(|wav| wav.id() == Some((metadata.dev(), metadata.ino()))) {
            return Err(refused("the file is one of the inputs; choose another directory with --out"));
        }
        if !metadata.is_file() {
            return Err(refused("the path exists and is not a regular file; choose another directory with --out"));
        }
    }
    Ok(targets)
}

/// The directory of the outputs. If this command created the directory, the directory is removed after an error.
struct OutputDir {
    created: Option<PathBuf>,
}

impl OutputDir {
    fn prepare(path: &Path) -> Result<Self, Failure> {
        match fs::create_dir(path) {
            Ok(()) => Ok(Self { created: Some(path.to_owned()) }),
            Err(error) if error.kind() == ErrorKind::AlreadyExists && path.is_dir() => Ok(Self { created: None }),
            Err(error) => Err(Failure::system(format!(
                "unable to create directory '{}': {error}; choose another directory with --out",
                path.display()
            ))),
        }
    }

    fn keep(mut self) {
        self.created = None;
    }
}

impl Drop for OutputDir {
    fn drop(&mut self) {
        if let Some(path) = &self.created {
            let _ = fs::remove_dir(path);
        }
    }
}

/// An input, and the output that contains the mix of all other inputs.
struct Pair {
    path: PathBuf,
    input: SampleReader,
    output: Sink,
    limiter: Option<Limiter>,
    /// Number of mixed samples. It includes the limiter's delay at the start, which is not written.
    mixed: u64,
    full_scale_samples: u64,
}

/// The state of a running `palabre mix`.
struct Job {
    pairs: Vec<Pair>,
    rate_hz: u32,
    frames: Frames,
    sum: Sum,
    out: Vec<i16>,
    buffer: ReadBuffer,
    /// Number of samples read so far from the longest input.
    samples: u64,
    /// Estimated final value of `samples`, for the progress bar.
    expected: u64,
}

impl Job {
    fn begin(mix: &Mix, wavs: Vec<Wav>, targets: Vec<PathBuf>) -> Result<Self, Failure> {
        let rate_hz = wavs.iter().map(Wav::rate_hz).max().unwrap_or_default();
        let expected = wavs.iter().filter_map(|wav| wav.samples_at(rate_hz)).max().unwrap_or_default();
        let limits = mix.limiter == Switch::On;
        let pair = |((path, wav), target): ((&PathBuf, Wav), PathBuf)| {
            let input = wav.at_rate(rate_hz).map_err(|error| unable_to_read(path, &error))?;
            let output = Sink::new(target.clone(), rate_hz).map_err(unable_to_write(&target))?;
            let limiter = limits.then(|| Limiter::new(rate_hz));
            Ok(Pair { path: path.clone(), input, output, limiter, mixed: 0, full_scale_samples: 0 })
        };
        let pairs = mix.files.iter().zip(wavs).zip(targets).map(pair).collect::<Result<_, Failure>>()?;
        let frames = if limits { Frames::limited(rate_hz, BLOCK_SAMPLES) } else { Frames::exact(BLOCK_SAMPLES) };
        let (sum, out) = (Sum::new(frames.samples), vec![0; frames.samples]);
        Ok(Self { pairs, rate_hz, frames, sum, out, buffer: ReadBuffer::default(), samples: 0, expected })
    }

    /// Mixes one block. Returns false if it was the last block.
    fn mix_block(&mut self) -> Result<bool, Failure> {
        let block = self.frames.per_block * self.frames.samples;
        let mut longest = 0;
        for pair in &mut self.pairs {
            let ready = pair.input.prepare(block, &mut self.buffer);
            longest = longest.max(ready.map_err(|error| unable_to_read(&pair.path, &error))?);
        }
        self.samples += longest as u64;
        let is_last = longest < block;
        // Silence after the end of the inputs moves the last delayed samples out of the limiters.
        let length = if is_last { longest + self.frames.delay_samples } else { block };
        let length = length.next_multiple_of(self.frames.samples);
        self.pairs.iter_mut().for_each(|pair| pair.input.pad(length));
        for from in (0..length).step_by(self.frames.samples) {
            self.mix_frame(from)?;
        }
        self.pairs.iter_mut().for_each(|pair| pair.input.consume(length));
        Ok(!is_last)
    }

    /// Mixes the frame that starts at sample `from` of the block.
    fn mix_frame(&mut self, from: usize) -> Result<(), Failure> {
        let frame = from..from + self.frames.samples;
        self.sum.clear();
        self.pairs.iter().for_each(|pair| self.sum.add(&pair.input.ready()[frame.clone()]));
        self.sum.seal();
        for pair in &mut self.pairs {
            let own = &pair.input.ready()[frame.clone()];
            match &mut pair.limiter {
                Some(limiter) => limiter.process_minus(&self.sum, own, &mut self.out),
                None => self.sum.minus_saturated(own, &mut self.out),
            }
            pair.write(&self.out, self.frames.delay_samples, self.samples)?;
        }
        Ok(())
    }

    fn show(&self, progress: &mut Progress, began: Instant) {
        let done = self.samples as f64 / self.expected.max(1) as f64;
        let left = began.elapsed().as_secs_f64() * (1.0 / done.max(f64::MIN_POSITIVE) - 1.0).max(0.0);
        let left = Duration::try_from_secs_f64(left).unwrap_or_default();
        progress.show(Some(done), format_args!("{} left", clock(left)));
    }

    /// Completes all outputs, and renames them to their final names. After an error, no output has its final name.
    fn commit(self) -> Result<Report, Failure> {
        let (mut outputs, mut sinks) = (Vec::new(), Vec::new());
        for Pair { path, mut output, full_scale_samples, .. } in self.pairs {
            output.finish().map_err(unable_to_write(output.target()))?;
            outputs.push(Output { input: path, path: output.target().to_owned(), full_scale_samples });
            sinks.push(output);
        }
        sink::commit(sinks).map_err(|(path, error)| unable_to_write(&path)(error))?;
        Ok(Report { outputs, rate_hz: self.rate_hz, samples: self.samples })
    }
}

impl Pair {
    /// Writes a frame to the output. Omits the first `delay` samples of the whole mix, and all samples after `length` written ones.
    fn write(&mut self, frame: &[i16], delay: usize, length: u64) -> Result<(), Failure> {
        let (begin, end) = (self.mixed, self.mixed + frame.len() as u64);
        self.mixed = end;
        let in_frame = |sample: u64| sample.clamp(begin, end).saturating_sub(begin) as usize;
        let kept = &frame[in_frame(delay as u64)..in_frame(length + delay as u64)];
        let at_full_scale = |sample: &&i16| matches!(**sample, i16::MIN | i16::MAX);
        self.full_scale_samples += kept.iter().filter(at_full_scale).count() as u64;
        self.output.write(kept).map_err(unable_to_write(self.output.target()))
    }
}

struct Output {
    input: PathBuf,
    path: PathBuf,
    full_scale_samples: u64,
}

/// The result of `palabre mix`, which is printed to standard output.
struct Report {
    outputs: Vec<Output>,
    rate_hz: u32,
    samples: u64,
}

impl Report {
    fn seconds(&self) -> f64 {
        self.samples as f64 / f64::from(self.rate_hz.max(1))
    }

    fn line(&self, began: Instant) -> String {
        let (files, seconds, rate_hz) = (self.outputs.len(), self.seconds(), self.rate_hz);
        let ms = began.elapsed().as_secs_f64() * 1000.0;
        let mixes = if files == 1 { "mix" } else { "mixes" };
        format!("wrote {files} {mixes} of {seconds:.3} s at {rate_hz} Hz in {ms:.1} ms\n")
    }

    fn json(&self, mix: &Mix, began: Instant) -> String {
        let outputs: Vec<_> = self
            .outputs
            .iter()
            .map(|output| {
                json!({
                    "input": output.input.to_string_lossy(),
                    "output": output.path.to_string_lossy(),
                    "full_scale_samples": output.full_scale_samples,
                })
            })
            .collect();
        let summary = json!({
            "rate_hz": self.rate_hz,
            "samples": self.samples,
            "seconds": self.seconds(),
            "limiter": mix.limiter == Switch::On,
            "elapsed_ms": began.elapsed().as_secs_f64() * 1000.0,
            "outputs": outputs,
        });
        format!("{summary}\n")
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use palabre_sound::wav;

    #[test]
    fn failed_rename_leaves_existing_outputs_unchanged() {
        let directory = tempfile::tempdir().unwrap();
        let (inputs, out) = (directory.path().join("in"), directory.path().join("out"));
        fs::create_dir(&inputs).unwrap();
        fs::create_dir(&out).unwrap();
        let files = ["a.wav", "b.wav", "c.wav"].map(|name| inputs.join(name));
        for file in &files {
            fs::write(file, wav::little(48_000, &[1, 2, 3])).unwrap();
        }
        fs::write(out.join("a.wav"), "previous").unwrap();
        let mix = Mix { out: out.clone(), limiter: Switch::Off, json: false, files: files.to_vec() };
        let wavs: Vec<Wav> = files.iter().map(|path| Wav::open(path).unwrap()).collect();
        let targets = targets(&mix, &wavs).unwrap();
        let mut job = Job::begin(&mix, wavs, targets).unwrap();
        while job.mix_block().unwrap() {}
        // The output c.wav can't replace a directory of this name.
        fs::create_dir(out.join("c.wav")).unwrap();
        let error = job.commit().map(drop).unwrap_err().to_string();
        assert!(error.contains("c.wav"), "{error}");
        assert_eq!(fs::read_to_string(out.join("a.wav")).unwrap(), "previous");
        let mut names: Vec<_> = fs::read_dir(&out).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        assert_eq!(names, ["a.wav", "c.wav"]);
    }
}
