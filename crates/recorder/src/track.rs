//! One track of a recording: WAVs that are valid at every moment, a new one before the format's 4 GiB.
//!
//! A sample is written where its time is. What nobody said is a hole, which reads as silence and takes no room.

use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::PathBuf;

use palabre_sound::wav::{self, HEAD_BYTES};

const FILE_MODE: u32 = 0o640;
const SAMPLE_BYTES: u64 = 2;

/// Where a track's files are, and how long each is.
#[derive(Clone, Debug)]
pub struct Place {
    /// The directory of the recording.
    pub directory: PathBuf,
    /// Samples a second.
    pub rate_hz: u32,
    /// Samples of each file, at which every track begins its next one.
    pub part_samples: u64,
}

/// A track that is written.
#[derive(Debug)]
pub struct Track {
    place: Place,
    name: String,
    part: Option<Part>,
}

#[derive(Debug)]
struct Part {
    number: u64,
    file: File,
    /// Samples that are in the file.
    samples: u64,
    told: u64,
}

impl Track {
    /// The track `name`; its first file is made with its first sample.
    #[must_use]
    pub fn new(place: Place, name: impl Into<String>) -> Self {
        Self { place, name: name.into(), part: None }
    }

    /// Writes samples of which the first is the one of number `at` since the beginning of the recording.
    ///
    /// # Errors
    /// Those of open(2) and pwrite(2).
    pub fn write(&mut self, mut at: u64, mut samples: &[i16]) -> io::Result<()> {
        while !samples.is_empty() {
            let (number, within) = (at / self.place.part_samples, at % self.place.part_samples);
            let fits = usize::try_from(self.place.part_samples - within).unwrap_or(usize::MAX).min(samples.len());
            let (now, later) = samples.split_at(fits);
            self.part(number)?.write(within, now)?;
            (at, samples) = (at + fits as u64, later);
        }
        Ok(())
    }

    /// Makes the track so many samples long, and says so in the heads of its files.
    ///
    /// # Errors
    /// Those of open(2), ftruncate(2) and pwrite(2).
    pub fn tell(&mut self, samples: u64) -> io::Result<()> {
        let (number, within) = (samples / self.place.part_samples, samples % self.place.part_samples);
        let rate_hz = self.place.rate_hz;
        let is_late = self.part.as_ref().is_some_and(|part| part.number > number);
        let lengthened = if is_late { Ok(()) } else { self.part(number).and_then(|part| part.lengthen(within)) };
        // What is there is told, even when there is no room for more.
        self.part.as_mut().map_or(Ok(()), |part| part.tell(rate_hz)).and(lengthened)
    }

    /// The file of this number: the open one, or, the last one being completed, another.
    fn part(&mut self, number: u64) -> io::Result<&mut Part> {
        if let Some(part) = self.part.take_if(|part| part.number != number) {
            self.complete(part, number)?;
        }
        match &mut self.part {
            Some(part) => Ok(part),
            none => Ok(none.insert(Part::open(&self.place, &self.name, number)?)),
        }
    }

    /// A file that is left for a later one lasts to its end.
    fn complete(&self, mut part: Part, next: u64) -> io::Result<()> {
        if part.number < next {
            part.lengthen(self.place.part_samples)?;
        }
        part.tell(self.place.rate_hz)
    }
}

impl Part {
    /// Makes the file, or goes on with the one of an earlier run.
    fn open(place: &Place, name: &str, number: u64) -> io::Result<Self> {
        let name = match number {
            0 => format!("{name}.wav"),
            _ => format!("{name}.{:03}.wav", number + 1),
        };
        let path = place.directory.join(name);
        let mut options = OpenOptions::new();
        let mut file = options.read(true).write(true).create(true).truncate(false).mode(FILE_MODE).open(path)?;
        let mut head = Vec::new();
        (&mut file).take(HEAD_BYTES as u64).read_to_end(&mut head)?;
        if !head.is_empty() && (head.len() < HEAD_BYTES || head[..4] != *b"RIFF") {
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, "a file of this name is no recording"));
        }
        let samples = file.metadata()?.len().saturating_sub(HEAD_BYTES as u64) / SAMPLE_BYTES;
        file.write_all_at(&wav::sized_head(place.rate_hz, samples * SAMPLE_BYTES), 0)?;
        Ok(Self { number, file, samples, told: samples })
    }

    fn write(&mut self, at: u64, samples: &[i16]) -> io::Result<()> {
        let bytes: Vec<u8> = samples.iter().flat_map(|sample| sample.to_le_bytes()).collect();
        self.file.write_all_at(&bytes, HEAD_BYTES as u64 + at * SAMPLE_BYTES)?;
        self.samples = self.samples.max(at + samples.len() as u64);
        Ok(())
    }

    fn lengthen(&mut self, samples: u64) -> io::Result<()> {
        if self.samples < samples {
            self.file.set_len(HEAD_BYTES as u64 + samples * SAMPLE_BYTES)?;
            self.samples = samples;
        }
        Ok(())
    }

    fn tell(&mut self, rate_hz: u32) -> io::Result<()> {
        if self.told != self.samples {
            self.file.write_all_at(&wav::sized_head(rate_hz, self.samples * SAMPLE_BYTES), 0)?;
            self.told = self.samples;
        }
        Ok(())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn place(part_samples: u64) -> (tempfile::TempDir, Place) {
        let directory = tempfile::tempdir().unwrap();
        let place = Place { directory: directory.path().to_owned(), rate_hz: 24_000, part_samples };
        (directory, place)
    }

    /// The samples of a WAV whose head is true.
    fn samples(place: &Place, name: &str) -> Vec<i16> {
        let bytes = std::fs::read(place.directory.join(name)).unwrap();
        let samples: Vec<i16> = bytes[44..].chunks_exact(2).map(|x| i16::from_le_bytes([x[0], x[1]])).collect();
        assert!(bytes == wav::little(24_000, &samples), "{name}");
        samples
    }

    #[test]
    fn samples_stand_where_their_time_is() {
        let (_directory, place) = place(1_000);
        let mut track = Track::new(place.clone(), "alice");
        track.write(5, &[1, 2]).unwrap();
        track.write(10, &[3]).unwrap();
        track.tell(13).unwrap();
        assert_eq!(samples(&place, "alice.wav"), [0, 0, 0, 0, 0, 1, 2, 0, 0, 0, 3, 0, 0]);
    }

    #[test]
    fn every_track_begins_new_files_at_the_same_sample() {
        let (_directory, place) = place(10);
        let mut track = Track::new(place.clone(), "alice");
        track.write(8, &[1, 2, 3, 4]).unwrap();
        track.tell(12).unwrap();
        // Silent for more than a file.
        track.tell(33).unwrap();
        track.write(34, &[5]).unwrap();
        track.tell(35).unwrap();
        assert_eq!(samples(&place, "alice.wav"), [0, 0, 0, 0, 0, 0, 0, 0, 1, 2]);
        assert_eq!(samples(&place, "alice.002.wav"), [3, 4, 0, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(samples(&place, "alice.004.wav"), [0, 0, 0, 0, 5]);
    }

    #[test]
    fn a_death_costs_what_was_not_told_and_the_next_run_tells_it() {
        let (_directory, place) = place(1_000);
        let mut track = Track::new(place.clone(), "alice");
        track.write(0, &[1, 2]).unwrap();
        track.tell(2).unwrap();
        track.write(2, &[3]).unwrap();
        drop(track);
        let mut track = Track::new(place.clone(), "alice");
        track.write(5, &[6]).unwrap();
        track.tell(6).unwrap();
        assert_eq!(samples(&place, "alice.wav"), [1, 2, 3, 0, 0, 6]);
    }

    #[test]
    fn somebody_elses_file_stays_as_it_is() {
        let (_directory, place) = place(1_000);
        let path = place.directory.join("alice.wav");
        std::fs::write(&path, "a letter").unwrap();
        assert!(Track::new(place, "alice").write(0, &[1]).is_err());
        assert_eq!(std::fs::read_to_string(path).unwrap(), "a letter");
    }
}
