//! `palabre mix`: files in, and for each of them a file of all the others, as the room would have mixed them.
//!
//! Everything is streamed in blocks, so that a day needs no more memory than a second. Outputs are written under temporary
//! names and renamed when all of them are complete: whoever looks sees the old files or the new ones.

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
use crate::source::{Piece, Source, Wav};
use frames::Frames;
use sink::Sink;

/// Samples that are read at once, about: few enough that a room's worth of them stays in the processor's cache.
const BLOCK_SAMPLES: usize = 8 * 1024;

/// Mixes the files.
///
/// # Errors
/// A file can't be read or isn't a WAV, two have the same name, one would be overwritten (refused); an output can't be
/// written (system).
pub fn run(mix: &Mix) -> Result<(), Failure> {
    let began = Instant::now();
    let mut signals = Signals::new(&[SIGINT, SIGTERM, SIGHUP]).map_err(Failure::system)?;
    // Two files for each name; a limit that can't be raised will be told by the file that is too many.
    let _ = process::raise_nofile();
    let wavs = mix.files.iter().map(|path| open(path)).collect::<Result<Vec<Wav>, Failure>>()?;
    let targets = targets(mix, &wavs)?;
    let directory = Directory::prepare(&mix.out)?;
    let mut work = Work::begin(mix, wavs, targets)?;
    let mut progress = Progress::new("mixing");
    while work.block()? {
        if signals.try_next().is_some() {
            return Err(Failure::refused("unable to mix: interrupted; nothing was written"));
        }
        work.show(&mut progress, began);
    }
    drop(progress);
    let done = work.commit()?;
    directory.keep();
    print(if mix.json { done.json(mix, began) } else { done.line(began) })
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

/// Where each output goes: no two to one place, and none over an input.
fn targets(mix: &Mix, wavs: &[Wav]) -> Result<Vec<PathBuf>, Failure> {
    let mut names: HashMap<&OsStr, &Path> = HashMap::new();
    let target = |path: &'_ PathBuf| -> Result<PathBuf, Failure> {
        let name = path.file_name().ok_or_else(|| unable_to_read(path, &"it has no file name"))?;
        Ok(mix.out.join(name))
    };
    for path in &mix.files {
        let name = path.file_name().unwrap_or_default();
        if let Some(other) = names.insert(name, path) {
            let cause = format!("'{}' has the same file name; rename one of them", other.display());
            return Err(unable_to_read(path, &cause));
        }
    }
    let targets = mix.files.iter().map(target).collect::<Result<Vec<_>, _>>()?;
    for path in &targets {
        let Ok(metadata) = fs::metadata(path) else { continue };
        let refused = |cause: &str| Failure::refused(format!("unable to write '{}': {cause}", path.display()));
        if wavs.iter().any(|wav| wav.id() == Some((metadata.dev(), metadata.ino()))) {
            return Err(refused("it is one of the inputs; choose another directory with --out"));
        }
        if !metadata.is_file() {
            return Err(refused("it is there and is not a file"));
        }
    }
    Ok(targets)
}

/// The directory of the outputs; if it was made for them it goes when they fail.
struct Directory {
    made: Option<PathBuf>,
}

impl Directory {
    fn prepare(path: &Path) -> Result<Self, Failure> {
        match fs::create_dir(path) {
            Ok(()) => Ok(Self { made: Some(path.to_owned()) }),
            Err(error) if error.kind() == ErrorKind::AlreadyExists && path.is_dir() => Ok(Self { made: None }),
            Err(error) => Err(Failure::system(format!("unable to create directory '{}': {error}", path.display()))),
        }
    }

    fn keep(mut self) {
        self.made = None;
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        if let Some(path) = &self.made {
            let _ = fs::remove_dir(path);
        }
    }
}

/// One input and the output of the same name.
struct Pair {
    path: PathBuf,
    source: Source,
    sink: Sink,
    /// One for each mix, as in a room.
    limiter: Option<Limiter>,
    /// Samples that were mixed, with those that are not written.
    made: u64,
    full_scale_samples: u64,
}

/// The mix while it is made.
struct Work {
    pairs: Vec<Pair>,
    rate_hz: u32,
    frames: Frames,
    sum: Sum,
    out: Vec<i16>,
    piece: Piece,
    /// Read from the longest so far.
    samples: u64,
    /// About how many there will be.
    expected: u64,
}

impl Work {
    fn begin(mix: &Mix, wavs: Vec<Wav>, targets: Vec<PathBuf>) -> Result<Self, Failure> {
        let rate_hz = wavs.iter().map(Wav::rate_hz).max().unwrap_or_default();
        let expected = wavs.iter().filter_map(|wav| wav.samples_at(rate_hz)).max().unwrap_or_default();
        let limits = mix.limiter == Switch::On;
        let pair = |((path, wav), target): ((&PathBuf, Wav), PathBuf)| {
            let source = wav.at_rate(rate_hz).map_err(|error| unable_to_read(path, &error))?;
            let sink = Sink::new(target.clone(), rate_hz).map_err(unable_to_write(&target))?;
            let limiter = limits.then(|| Limiter::new(rate_hz));
            Ok(Pair { path: path.clone(), source, sink, limiter, made: 0, full_scale_samples: 0 })
        };
        let pairs = mix.files.iter().zip(wavs).zip(targets).map(pair).collect::<Result<_, Failure>>()?;
        let frames = if limits { Frames::limited(rate_hz, BLOCK_SAMPLES) } else { Frames::exact(BLOCK_SAMPLES) };
        let (sum, out) = (Sum::new(frames.samples), vec![0; frames.samples]);
        Ok(Self { pairs, rate_hz, frames, sum, out, piece: Piece::default(), samples: 0, expected })
    }

    /// Mixes one block; false when that was the end of the longest.
    fn block(&mut self) -> Result<bool, Failure> {
        let whole = self.frames.per_block * self.frames.samples;
        let mut longest = 0;
        for pair in &mut self.pairs {
            let ready = pair.source.prepare(whole, &mut self.piece);
            longest = longest.max(ready.map_err(|error| unable_to_read(&pair.path, &error))?);
        }
        self.samples += longest as u64;
        let is_last = longest < whole;
        // At the end silence pushes out what the limiters still hold.
        let length = if is_last { longest + self.frames.delay_samples } else { whole };
        let length = length.next_multiple_of(self.frames.samples);
        self.pairs.iter_mut().for_each(|pair| pair.source.pad(length));
        for from in (0..length).step_by(self.frames.samples) {
            self.frame(from)?;
        }
        self.pairs.iter_mut().for_each(|pair| pair.source.consume(length));
        Ok(!is_last)
    }

    /// Mixes the frame of what is ready that begins at `from`.
    fn frame(&mut self, from: usize) -> Result<(), Failure> {
        let frame = from..from + self.frames.samples;
        self.sum.clear();
        self.pairs.iter().for_each(|pair| self.sum.add(&pair.source.ready()[frame.clone()]));
        self.sum.seal();
        for pair in &mut self.pairs {
            let own = &pair.source.ready()[frame.clone()];
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

    /// Gives all outputs their names, or none.
    fn commit(mut self) -> Result<Done, Failure> {
        for pair in &mut self.pairs {
            pair.sink.finish().map_err(unable_to_write(pair.sink.target()))?;
        }
        let mut outputs = Vec::with_capacity(self.pairs.len());
        for pair in self.pairs {
            let target = pair.sink.target().to_owned();
            if let Err(error) = pair.sink.commit() {
                outputs.iter().for_each(|output: &Output| drop(fs::remove_file(&output.path)));
                return Err(unable_to_write(&target)(error));
            }
            outputs.push(Output { input: pair.path, path: target, full_scale_samples: pair.full_scale_samples });
        }
        Ok(Done { outputs, rate_hz: self.rate_hz, samples: self.samples })
    }
}

impl Pair {
    /// Writes a frame of the mix without the first `delay` samples of all, and not beyond `length`.
    fn write(&mut self, frame: &[i16], delay: usize, length: u64) -> Result<(), Failure> {
        let (begin, end) = (self.made, self.made + frame.len() as u64);
        self.made = end;
        let in_frame = |sample: u64| sample.clamp(begin, end).saturating_sub(begin) as usize;
        let kept = &frame[in_frame(delay as u64)..in_frame(length + delay as u64)];
        let at_full_scale = |sample: &&i16| matches!(**sample, i16::MIN | i16::MAX);
        self.full_scale_samples += kept.iter().filter(at_full_scale).count() as u64;
        self.sink.write(kept).map_err(unable_to_write(self.sink.target()))
    }
}

struct Output {
    input: PathBuf,
    path: PathBuf,
    full_scale_samples: u64,
}

/// What was made.
struct Done {
    outputs: Vec<Output>,
    rate_hz: u32,
    samples: u64,
}

impl Done {
    fn seconds(&self) -> f64 {
        self.samples as f64 / f64::from(self.rate_hz.max(1))
    }

    fn line(&self, began: Instant) -> String {
        let (files, seconds, rate_hz) = (self.outputs.len(), self.seconds(), self.rate_hz);
        let ms = began.elapsed().as_secs_f64() * 1000.0;
        format!("{files} mixes of {seconds:.3} s at {rate_hz} Hz, made in {ms:.1} ms\n")
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
