//! `palabre tap`: what a participant would hear, as a continuous WAV.
//!
//! A room that is silent sends nothing, so the silence is filled in here, by our own clock.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Seek, SeekFrom, Write};
use std::path::Path;
use std::time::Instant;

use palabre_host::exit::Failure;
use palabre_host::signals::{SIGINT, SIGTERM, Signals};
use palabre_room::{Format, OpenError, PipeReader, RoomDir, Start};
use palabre_sound::wav;

use crate::cli::Tap;
use crate::pace::Pace;

/// The most sound that waits here, in ms; what is older is dropped.
const MAX_WAITING_MS: u64 = 300;
/// After silence, this much waits before any of it is passed on, in ms, so that a late frame leaves no hole.
const MARGIN_MS: u64 = 40;
/// Where the size of everything after it stands in the 44-byte head of a WAV…
const RIFF_SIZE_AT: u64 = 4;
/// …and the size of the sound, which is the last thing in it.
const DATA_SIZE_AT: u64 = 40;

/// Writes until a signal ends it, or until nobody reads any more.
///
/// # Errors
/// Somebody else listens already (refused), there is no such participant, or the output can't be written.
pub fn run(run: &Path, tap: &Tap) -> Result<(), Failure> {
    let room = RoomDir::new(run.join("rooms").join(&tap.room));
    let format = room.format().map_err(Failure::system)?;
    let mut ear = open_ear(&room, tap, format)?;
    let mut signals = Signals::new(&[SIGINT, SIGTERM]).map_err(Failure::system)?;
    let unable = |error: io::Error| Failure::system(format!("unable to write '{}': {error}", tap.out.display()));
    if tap.out == Path::new("-") {
        return match copy(&mut ear, format, &mut signals, &mut io::stdout().lock()) {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
            result => result.map(drop).map_err(unable),
        };
    }
    let mut file = File::create(&tap.out).map_err(unable)?;
    let data_bytes = copy(&mut ear, format, &mut signals, &mut file).map_err(unable)?;
    write_sizes(&mut file, data_bytes).map_err(unable)
}

fn open_ear(room: &RoomDir, tap: &Tap, format: Format) -> Result<PipeReader, Failure> {
    let ear = room.participant(&tap.name).ear();
    PipeReader::open(&ear, format, Start::Discard).map_err(|error| match error {
        OpenError::Taken(_) => Failure::refused(format!(
            "unable to tap '{}': somebody listens there already, a pipe has one reader; tap a participant of your own",
            tap.name
        )),
        OpenError::Missing(_) => Failure::refused(format!(
            "unable to tap '{}': no such participant in room '{}'; see 'palabre status' or --room",
            tap.name, tap.room
        )),
        error => Failure::system(error),
    })
}

/// Bytes of sound that were written.
fn copy(ear: &mut PipeReader, format: Format, signals: &mut Signals, out: &mut impl Write) -> io::Result<u64> {
    out.write_all(&wav::endless_head(format.rate.hz()))?;
    let mut filler = Filler::new(format);
    let mut pace = Pace::begin();
    let mut heard = Vec::new();
    let mut written = 0;
    while signals.try_next().is_none() {
        heard.clear();
        ear.read(Instant::now(), &mut heard, format.samples_in_ms(MAX_WAITING_MS))?;
        filler.put(&heard);
        let frame = filler.next_frame();
        out.write_all(&frame)?;
        out.flush()?;
        written += frame.len() as u64;
        pace.wait_for_next_frame();
    }
    Ok(written)
}

/// A file that has ended tells its true length.
fn write_sizes(file: &mut File, data_bytes: u64) -> io::Result<()> {
    for (at, size) in [(RIFF_SIZE_AT, data_bytes + DATA_SIZE_AT - RIFF_SIZE_AT), (DATA_SIZE_AT, data_bytes)] {
        // More than 4 GiB, a day at 24 kHz, can't be told: then the head stays as it was.
        let Ok(size) = u32::try_from(size) else { return Ok(()) };
        file.seek(SeekFrom::Start(at))?;
        file.write_all(&size.to_le_bytes())?;
    }
    Ok(())
}

/// Makes sound that comes and goes continuous: a frame for every tick, of sound if there is any, else of zeros.
struct Filler {
    format: Format,
    waiting: VecDeque<i16>,
    flowing: bool,
    /// Ticks since the first sample came after silence.
    held_ticks: u64,
}

impl Filler {
    fn new(format: Format) -> Self {
        Self { format, waiting: VecDeque::new(), flowing: false, held_ticks: 0 }
    }

    fn put(&mut self, samples: &[i16]) {
        self.waiting.extend(samples);
        let surplus = self.waiting.len().saturating_sub(self.format.samples_in_ms(MAX_WAITING_MS));
        self.waiting.drain(..surplus);
    }

    /// One frame in the room's bytes.
    fn next_frame(&mut self) -> Vec<u8> {
        let frame = self.format.frame_samples();
        if self.waiting.is_empty() {
            (self.flowing, self.held_ticks) = (false, 0);
        } else if !self.flowing {
            self.held_ticks += 1;
            let margin = self.format.samples_in_ms(MARGIN_MS);
            self.flowing = self.waiting.len() >= margin || self.held_ticks * palabre_room::FRAME_MS > MARGIN_MS;
        }
        let ready = if self.flowing { frame.min(self.waiting.len()) } else { 0 };
        let mut bytes: Vec<u8> = self.waiting.drain(..ready).flat_map(i16::to_le_bytes).collect();
        bytes.resize(frame * 2, 0);
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ticks(filler: &mut Filler, count: usize) -> Vec<bool> {
        (0..count).map(|_| filler.next_frame().iter().any(|&byte| byte != 0)).collect()
    }

    #[test]
    fn silence_is_filled_in_and_sound_waits_for_a_margin() {
        let mut filler = Filler::new(Format::default());
        assert_eq!(filler.next_frame(), vec![0; 960]);
        filler.put(&[1; 480]);
        assert_eq!(ticks(&mut filler, 1), [false]);
        filler.put(&[1; 480]);
        assert_eq!(ticks(&mut filler, 3), [true, true, false]);
    }

    #[test]
    fn a_single_frame_is_passed_on_after_the_margin() {
        let mut filler = Filler::new(Format::default());
        filler.put(&[1; 480]);
        assert_eq!(ticks(&mut filler, 4), [false, false, true, false]);
    }

    #[test]
    fn what_is_too_old_is_dropped() {
        let mut filler = Filler::new(Format::default());
        filler.put(&[1; 24_000]);
        assert_eq!(filler.waiting.len(), 7_200);
    }
}
