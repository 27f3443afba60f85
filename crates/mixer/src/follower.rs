//! A microphone that is a file: a WAV that another program writes, read as it grows.
//!
//! What comes out is paced by the mixer's tick, since programs write in bursts, up to seconds apart. Nothing that the
//! head says about lengths is believed; what is in the file is what is to be heard.

use std::fmt;
use std::io;
use std::path::Path;
use std::time::{Duration, SystemTime};

use palabre_room::{Format, OpenError, PipeId, SoundFile};
use palabre_sound::convert::Converter;
use palabre_sound::wav::{HEAD_BYTES_MAX, Head, WavError};

/// What is further behind the end than this is stale: reading goes on at the newest.
const BEHIND_MAX: Duration = Duration::from_secs(5);
/// How much of it is the newest.
const NEWEST: Duration = Duration::from_secs(1);
/// What is always left over at the end of this many ticks is a surplus: it is handed over, and the jitter buffer will cut
/// it where nobody hears it.
const SURPLUS_TICKS: u32 = 250;
/// At most so many frames of a surplus are handed over at once.
const SURPLUS_FRAMES: usize = 10;
/// Frames that may be read at once after a pause.
const BURST_FRAMES: usize = 2;

/// By so many bytes before our place in it a file is known again.
const REMEMBERED_BYTES: usize = 64;
/// As long as nobody has looked, something may wait.
const NOT_LOOKED: usize = 1;

/// Why nothing comes out of a file.
#[derive(Debug, thiserror::Error)]
pub enum FollowError {
    /// It is no WAV that can be heard.
    #[error(transparent)]
    Wav(#[from] WavError),
    /// It can't be read.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Reads a growing WAV as samples of the room.
pub struct Follower {
    file: SoundFile,
    format: Format,
    state: State,
    /// Whether what is there from the beginning may be heard.
    fresh: bool,
    /// Samples that may be read now.
    budget: usize,
    /// Samples, at the room's rate, that wait in the file.
    behind: usize,
    lowest: usize,
    ticks: u32,
}

enum State {
    /// The head is not all there yet.
    NoHead,
    /// What is there is no head, and won't become one by growing.
    NoWav,
    Sound(Box<Sound>),
}

struct Sound {
    head: Head,
    converter: Converter,
    /// Where the first sample of all is.
    start: u64,
    /// Where the next sample of every channel begins.
    position: u64,
    /// What stood before it: if something else does, the file was written anew.
    before: Vec<u8>,
}

impl Follower {
    /// Opens the file at `path`. What was written more than a few seconds ago is passed over.
    ///
    /// # Errors
    /// As [`SoundFile::read`].
    pub fn open(path: &Path, format: Format) -> Result<Self, OpenError> {
        let file = SoundFile::read(path)?;
        let written = file.modified().map_err(|source| OpenError::Io { path: path.to_owned(), source })?;
        // A clock that was set back makes the file one of the future: as fresh as can be.
        let fresh =
            SystemTime::now().duration_since(written).is_ok_and(|age| age < BEHIND_MAX) || written > SystemTime::now();
        let budget = BURST_FRAMES * format.frame_samples();
        Ok(Self { file, format, state: State::NoHead, fresh, budget, behind: NOT_LOOKED, lowest: usize::MAX, ticks: 0 })
    }

    /// Which file this is.
    pub fn id(&self) -> PipeId {
        self.file.id()
    }

    /// Whether something waits that a later tick may read.
    pub fn is_behind(&self) -> bool {
        self.behind > 0
    }

    /// A tick has passed: so much more may be read.
    pub fn refill(&mut self) {
        let frame = self.format.frame_samples();
        self.budget = (self.budget + frame).min(BURST_FRAMES * frame);
        self.lowest = self.lowest.min(self.behind);
        self.ticks += 1;
        if self.ticks == SURPLUS_TICKS {
            if self.lowest > BURST_FRAMES * frame {
                self.budget += self.lowest.min(SURPLUS_FRAMES * frame);
            }
            (self.lowest, self.ticks) = (usize::MAX, 0);
        }
    }

    /// Appends what may be read now.
    ///
    /// # Errors
    /// The file can't be read, or isn't a WAV that can be heard (said once).
    pub fn read(&mut self, out: &mut Vec<i16>) -> Result<(), FollowError> {
        let end = self.file.bytes()?;
        let begins_anew = match &self.state {
            State::NoHead => false,
            State::NoWav => end == 0,
            State::Sound(sound) => sound.is_another(&self.file, end)?,
        };
        if begins_anew {
            (self.state, self.fresh) = (State::NoHead, true);
        }
        if matches!(self.state, State::NoHead) {
            self.read_head(end)?;
        }
        match &mut self.state {
            State::Sound(sound) => {
                sound.skip_what_is_stale(end, self.format)?;
                let got = sound.read(&self.file, end, self.budget, self.format, out)?;
                self.budget -= got.min(self.budget);
                self.behind = sound.behind(end, self.format);
            }
            State::NoHead | State::NoWav => self.behind = 0,
        }
        Ok(())
    }

    /// Appends what the conversion still holds; nothing more will be read.
    pub fn finish(&mut self, out: &mut Vec<i16>) {
        if let State::Sound(sound) = &mut self.state {
            sound.converter.finish(out);
        }
    }

    fn read_head(&mut self, end: u64) -> Result<(), FollowError> {
        let mut bytes = vec![0; end.min(HEAD_BYTES_MAX as u64) as usize];
        let got = self.file.read_at(&mut bytes, 0)?;
        let mut rest = &bytes[..got];
        let head = match Head::read(&mut rest) {
            Ok(head) => head,
            Err(WavError::Empty | WavError::Truncated) if got < HEAD_BYTES_MAX => return Ok(()),
            Err(error) => {
                self.state = State::NoWav;
                return Err(error.into());
            }
        };
        let converter = Converter::new(&head, self.format.rate.hz())?;
        let start = (got - rest.len()) as u64;
        let mut sound = Sound { head, converter, start, position: start, before: Vec::new() };
        if !self.fresh {
            sound.skip(sound.whole_blocks(end), self.format)?;
        }
        sound.remember(&self.file)?;
        self.state = State::Sound(Box::new(sound));
        Ok(())
    }
}

impl Sound {
    /// Whether this is no longer the WAV that we read: somebody truncated it, or truncated it and has written as much again.
    fn is_another(&self, file: &SoundFile, end: u64) -> io::Result<bool> {
        if self.position == self.start {
            // Nothing was heard yet: the head may be another by now.
            return Ok(true);
        }
        let mut now = [0; REMEMBERED_BYTES];
        let now = &mut now[..self.before.len()];
        file.read_at(now, self.position - self.before.len() as u64)?;
        Ok(end < self.position || *now != self.before[..])
    }

    fn remember(&mut self, file: &SoundFile) -> io::Result<()> {
        // Not of the head, whose sizes its writer keeps changing.
        self.before.resize((self.position - self.start).min(REMEMBERED_BYTES as u64) as usize, 0);
        let at = self.position - self.before.len() as u64;
        file.read_at(&mut self.before, at).map(drop)
    }

    /// Bytes of whole blocks that wait.
    fn whole_blocks(&self, end: u64) -> u64 {
        let block = self.head.block_bytes() as u64;
        end.saturating_sub(self.position) / block * block
    }

    fn bytes_in(&self, time: Duration) -> u64 {
        let blocks = time.as_millis() as u64 * u64::from(self.head.rate_hz) / 1000;
        blocks * self.head.block_bytes() as u64
    }

    /// Samples at the room's rate that wait.
    fn behind(&self, end: u64, format: Format) -> usize {
        let blocks = self.whole_blocks(end) / self.head.block_bytes() as u64;
        usize::try_from(blocks * u64::from(format.rate.hz()) / u64::from(self.head.rate_hz)).unwrap_or(usize::MAX)
    }

    fn skip_what_is_stale(&mut self, end: u64, format: Format) -> Result<(), WavError> {
        let waits = self.whole_blocks(end);
        if waits > self.bytes_in(BEHIND_MAX) {
            self.skip(waits - self.bytes_in(NEWEST), format)?;
        }
        Ok(())
    }

    /// Goes on so many bytes later. The end that the head declares is as much nearer.
    fn skip(&mut self, bytes: u64, format: Format) -> Result<(), WavError> {
        self.position += bytes;
        self.converter = Converter::new(&self.head.after(self.position - self.start), format.rate.hz())?;
        Ok(())
    }

    /// Reads about `samples` at the room's rate, which bounds the work of a tick; says how many came out.
    fn read(
        &mut self,
        file: &SoundFile,
        end: u64,
        samples: usize,
        format: Format,
        out: &mut Vec<i16>,
    ) -> io::Result<usize> {
        let blocks = samples as u64 * u64::from(self.head.rate_hz) / u64::from(format.rate.hz());
        let wanted = (blocks * self.head.block_bytes() as u64).min(self.whole_blocks(end));
        let mut bytes = vec![0; wanted as usize];
        let got = file.read_at(&mut bytes, self.position)?;
        let whole = got / self.head.block_bytes() * self.head.block_bytes();
        let before = out.len();
        self.converter.push(&bytes[..whole], out);
        self.position += whole as u64;
        if whole > 0 {
            self.remember(file)?;
        }
        Ok(out.len() - before)
    }
}

impl fmt::Debug for Follower {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Follower").field("file", &self.file).field("behind", &self.behind).finish_non_exhaustive()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use palabre_sound::wav;
    use std::fs::{File, FileTimes, OpenOptions};
    use std::io::Write;
    use std::path::PathBuf;

    struct Desk {
        _directory: tempfile::TempDir,
        path: PathBuf,
    }

    impl Desk {
        fn new(bytes: &[u8]) -> Self {
            let directory = tempfile::tempdir().unwrap();
            let path = directory.path().join("mic");
            std::fs::write(&path, bytes).unwrap();
            Self { _directory: directory, path }
        }

        fn append(&self, bytes: &[u8]) {
            OpenOptions::new().append(true).open(&self.path).unwrap().write_all(bytes).unwrap();
        }

        fn follow(&self) -> Follower {
            Follower::open(&self.path, Format::default()).unwrap()
        }
    }

    /// What comes out in so many ticks.
    fn heard(follower: &mut Follower, ticks: usize) -> Vec<i16> {
        let mut out = Vec::new();
        for _ in 0..ticks {
            follower.read(&mut out).unwrap();
            follower.refill();
        }
        out
    }

    fn bytes_of(samples: &[i16]) -> Vec<u8> {
        samples.iter().flat_map(|sample| sample.to_le_bytes()).collect()
    }

    fn ramp(samples: usize) -> Vec<i16> {
        (0..samples).map(|i| (i % 30_000) as i16).collect()
    }

    #[test]
    fn a_burst_comes_out_in_real_time_and_complete() {
        let desk = Desk::new(&[wav::endless_head(24_000), bytes_of(&ramp(4_900))].concat());
        let mut follower = desk.follow();
        assert_eq!(heard(&mut follower, 1).len(), 960);
        assert!(follower.is_behind());
        assert_eq!(heard(&mut follower, 10), ramp(4_900)[960..]);
        assert!(!follower.is_behind());
    }

    #[test]
    fn whatever_the_head_says_of_its_length_all_is_heard_as_it_comes() {
        for told in [0, 2, u32::MAX] {
            let mut head = wav::endless_head(24_000);
            head[40..44].copy_from_slice(&told.to_le_bytes());
            let desk = Desk::new(&[]);
            let mut follower = desk.follow();
            // A piece at a time: a half of the head, half a sample.
            let all = [head, bytes_of(&ramp(100))].concat();
            let mut out = Vec::new();
            for piece in all.chunks(31) {
                desk.append(piece);
                out.extend(heard(&mut follower, 1));
            }
            assert_eq!(out, ramp(100), "{told}");
        }
    }

    #[test]
    fn what_was_written_long_ago_is_passed_over() {
        let desk = Desk::new(&wav::little(24_000, &ramp(1_000)));
        let long_ago = SystemTime::now() - Duration::from_secs(60);
        File::options()
            .write(true)
            .open(&desk.path)
            .unwrap()
            .set_times(FileTimes::new().set_modified(long_ago))
            .unwrap();
        let mut follower = desk.follow();
        assert!(heard(&mut follower, 3).is_empty());
        desk.append(&bytes_of(&[7, 8, 9]));
        assert_eq!(heard(&mut follower, 1), [7, 8, 9]);
    }

    #[test]
    fn who_falls_far_behind_goes_on_with_the_newest() {
        let desk = Desk::new(&wav::little(24_000, &ramp(10 * 24_000)));
        let mut follower = desk.follow();
        let out = heard(&mut follower, 60);
        assert_eq!(out, ramp(10 * 24_000)[9 * 24_000..]);
    }

    #[test]
    fn a_truncated_file_begins_anew() {
        let desk = Desk::new(&wav::little(24_000, &ramp(500)));
        let mut follower = desk.follow();
        assert_eq!(heard(&mut follower, 2), ramp(500));
        let file = File::options().write(true).open(&desk.path).unwrap();
        file.set_len(0).unwrap();
        assert!(heard(&mut follower, 1).is_empty());
        // Another rate and two channels, this time.
        let head = wav::endless_head(48_000);
        desk.append(&head);
        desk.append(&bytes_of(&[1000; 960]));
        let out = heard(&mut follower, 2);
        assert!((400..=480).contains(&out.len()), "{}", out.len());
        assert!(out[200..].iter().all(|sample| (990..=1010).contains(sample)));
    }

    #[test]
    fn a_file_that_was_written_anew_behind_our_back_begins_anew() {
        let desk = Desk::new(&wav::little(24_000, &ramp(500)));
        let mut follower = desk.follow();
        assert_eq!(heard(&mut follower, 2), ramp(500));
        std::fs::write(&desk.path, wav::little(24_000, &[7; 500])).unwrap();
        assert_eq!(heard(&mut follower, 2), [7; 500]);
        std::fs::write(&desk.path, wav::little(24_000, &[8; 700])).unwrap();
        assert_eq!(heard(&mut follower, 2), [8; 700]);
    }

    #[test]
    fn what_is_no_wav_is_said_once_and_again_when_another_begins() {
        let desk = Desk::new(b"these are words, not sounds");
        let mut follower = desk.follow();
        let mut out = Vec::new();
        assert!(matches!(follower.read(&mut out), Err(FollowError::Wav(WavError::NotWav))));
        follower.read(&mut out).unwrap();
        desk.append(b" and more words");
        follower.read(&mut out).unwrap();
        File::options().write(true).open(&desk.path).unwrap().set_len(0).unwrap();
        follower.read(&mut out).unwrap();
        desk.append(&wav::little(24_000, &[1, 2, 3]));
        follower.read(&mut out).unwrap();
        assert_eq!(out, [1, 2, 3]);
    }

    #[test]
    fn a_surplus_that_stays_is_handed_over() {
        let desk = Desk::new(&wav::little(24_000, &ramp(2 * 24_000)));
        let mut follower = desk.follow();
        for tick in 0..600 {
            // A writer whose clock is as fast as ours never lets it shrink.
            desk.append(&bytes_of(&[5; 480]));
            let out = heard(&mut follower, 1);
            assert!(out.len() <= 12 * 480, "{tick}");
        }
        assert!(follower.behind < 2 * 24_000 - 15 * 480, "{}", follower.behind);
    }
}
