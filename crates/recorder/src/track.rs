//! One track of a recording: one or more WAV files, which are valid at all times. A new file starts before a file reaches 4 GiB, the limit
//! of the WAV format.
//!
//! Each sample is written at the position in the file that corresponds to its time. Silence is a hole in the file, which takes no disk
//! space.

use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;

use palabre_sound::wav::GrowingWav;

const FILE_MODE: u32 = 0o640;

/// The directory, sample rate and maximum length of the files of all tracks.
#[derive(Clone, Debug)]
pub(crate) struct Layout {
    pub(crate) directory: PathBuf,
    pub(crate) rate_hz: u32,
    /// Number of samples in each file of a track.
    pub(crate) part_samples: u64,
}

/// A track of a recording, with the file that is being written.
#[derive(Debug)]
pub(crate) struct Track {
    layout: Layout,
    name: String,
    part: Option<Part>,
}

#[derive(Debug)]
struct Part {
    number: u64,
    wav: GrowingWav,
}

impl Track {
    /// Creates the track `name`. The track's first file is created when its first sample is written.
    pub(crate) fn new(layout: Layout, name: impl Into<String>) -> Self {
        Self { layout, name: name.into(), part: None }
    }

    /// Writes samples. `at` is the number of the first sample, counted from the start of the recording.
    pub(crate) fn write(&mut self, mut at: u64, mut samples: &[i16]) -> io::Result<()> {
        while !samples.is_empty() {
            let (number, within) = (at / self.layout.part_samples, at % self.layout.part_samples);
            let fits = usize::try_from(self.layout.part_samples - within).unwrap_or(usize::MAX).min(samples.len());
            let (now, later) = samples.split_at(fits);
            self.part(number)?.write(within, now)?;
            (at, samples) = (at + fits as u64, later);
        }
        Ok(())
    }

    /// Extends the track to this number of samples and updates the header of the open file.
    pub(crate) fn update(&mut self, samples: u64) -> io::Result<()> {
        let (number, within) = (samples / self.layout.part_samples, samples % self.layout.part_samples);
        let is_past = self.part.as_ref().is_some_and(|part| part.number > number);
        let extended = if is_past { Ok(()) } else { self.part(number).and_then(|wav| wav.extend_to(within)) };
        // If extending fails because the disk is full, still update the header for the samples that were written.
        self.part.as_mut().map_or(Ok(()), |part| part.wav.update_head()).and(extended)
    }

    /// Returns the track's file with this number. If another file is open, completes that file first.
    fn part(&mut self, number: u64) -> io::Result<&mut GrowingWav> {
        if let Some(part) = self.part.take_if(|part| part.number != number) {
            self.complete(part, number)?;
        }
        let part = match &mut self.part {
            Some(part) => part,
            none => none.insert(Part { number, wav: open(&self.layout, &self.name, number)? }),
        };
        Ok(&mut part.wav)
    }

    /// Completes the file `part` before the file `next` is opened. If `part` has a lower number, it is extended to its full length.
    fn complete(&self, mut part: Part, next: u64) -> io::Result<()> {
        if part.number < next {
            part.wav.extend_to(self.layout.part_samples)?;
        }
        part.wav.update_head()
    }
}

/// Creates the track's file with this number, or opens the file that an earlier run of the recorder has created.
fn open(layout: &Layout, name: &str, number: u64) -> io::Result<GrowingWav> {
    let name = match number {
        0 => format!("{name}.wav"),
        _ => format!("{name}.{:03}.wav", number + 1),
    };
    let path = layout.directory.join(name);
    let mut options = OpenOptions::new();
    let file = options.read(true).write(true).create(true).truncate(false).mode(FILE_MODE).open(path)?;
    GrowingWav::open(file, layout.rate_hz)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use palabre_sound::wav;

    fn layout(part_samples: u64) -> (tempfile::TempDir, Layout) {
        let directory = tempfile::tempdir().unwrap();
        let layout = Layout { directory: directory.path().to_owned(), rate_hz: 24_000, part_samples };
        (directory, layout)
    }

    /// Checks the header of a WAV file. Returns the samples in the file.
    fn samples(layout: &Layout, name: &str) -> Vec<i16> {
        let bytes = std::fs::read(layout.directory.join(name)).unwrap();
        let samples: Vec<i16> = bytes[44..].chunks_exact(2).map(|x| i16::from_le_bytes([x[0], x[1]])).collect();
        assert!(bytes == wav::little(24_000, &samples), "{name}");
        samples
    }

    #[test]
    fn samples_are_at_the_position_of_their_time() {
        let (_directory, layout) = layout(1_000);
        let mut track = Track::new(layout.clone(), "alice");
        track.write(5, &[1, 2]).unwrap();
        track.write(10, &[3]).unwrap();
        track.update(13).unwrap();
        assert_eq!(samples(&layout, "alice.wav"), [0, 0, 0, 0, 0, 1, 2, 0, 0, 0, 3, 0, 0]);
    }

    #[test]
    fn every_track_starts_new_files_at_the_same_sample() {
        let (_directory, layout) = layout(10);
        let mut track = Track::new(layout.clone(), "alice");
        track.write(8, &[1, 2, 3, 4]).unwrap();
        track.update(12).unwrap();
        // The track is silent for longer than the length of a file.
        track.update(33).unwrap();
        track.write(34, &[5]).unwrap();
        track.update(35).unwrap();
        assert_eq!(samples(&layout, "alice.wav"), [0, 0, 0, 0, 0, 0, 0, 0, 1, 2]);
        assert_eq!(samples(&layout, "alice.002.wav"), [3, 4, 0, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(samples(&layout, "alice.004.wav"), [0, 0, 0, 0, 5]);
    }

    #[test]
    fn next_run_completes_the_header_after_a_crash() {
        let (_directory, layout) = layout(1_000);
        let mut track = Track::new(layout.clone(), "alice");
        track.write(0, &[1, 2]).unwrap();
        track.update(2).unwrap();
        track.write(2, &[3]).unwrap();
        drop(track);
        let mut track = Track::new(layout.clone(), "alice");
        track.write(5, &[6]).unwrap();
        track.update(6).unwrap();
        assert_eq!(samples(&layout, "alice.wav"), [1, 2, 3, 0, 0, 6]);
    }

    #[test]
    fn foreign_file_is_not_overwritten() {
        let (_directory, layout) = layout(1_000);
        let path = layout.directory.join("alice.wav");
        std::fs::write(&path, "a letter").unwrap();
        assert!(Track::new(layout, "alice").write(0, &[1]).is_err());
        assert_eq!(std::fs::read_to_string(path).unwrap(), "a letter");
    }
}
