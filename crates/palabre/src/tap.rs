//! `palabre tap`: what a participant hears, as a continuous WAV on standard output.
//!
//! A pipe has one reader, and theirs is their listener's. So the tap is a participant of its own, who says nothing and
//! doesn't hear the tapped one, nor whom they don't hear: what is left is what they hear. A room that is silent sends
//! nothing, so the silence is filled in here, by our own clock.

use std::collections::VecDeque;
use std::fs::{self, File};
use std::io::{self, ErrorKind, Seek, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use palabre_host::exit::Failure;
use palabre_host::signals::{SIGHUP, SIGINT, SIGTERM, Signals};
use palabre_room::{FRAME_MS, Format, Name, ParticipantDir, PipeReader, RoomError, Start};
use palabre_sound::wav;

use crate::cli::Tap;
use crate::guest::{self, Called, Guest};

/// The most sound that waits here, in ms; what is older is dropped.
const MAX_WAITING_MS: u64 = 300;
/// After silence, this much waits before any of it is passed on, in ms, so that a late frame leaves no hole.
const MARGIN_MS: u64 = 40;
/// How often we look whom they don't hear now, and how often the head of a file is brought up to date.
const LOOK: Duration = Duration::from_secs(1);
/// `O_APPEND` of open(2), as proc_pid_fdinfo(5) shows it.
const O_APPEND: u32 = 0o2000;

/// Writes until a signal ends it, or until nobody reads any more.
///
/// # Errors
/// There is no such room or participant (refused), or the output can't be written (system).
pub fn run(run: &Path, tap: &Tap) -> Result<(), Failure> {
    let mut signals = Signals::new(&[SIGINT, SIGTERM, SIGHUP]).map_err(Failure::system)?;
    let room = guest::room(run, &tap.room)?;
    let format = room.format().map_err(Failure::system)?;
    let tapped = room.participant(&tap.name);
    if !tapped.path().is_dir() {
        return Err(Failure::refused(format!(
            "unable to tap '{}': no such participant in room '{}'; see 'palabre status' or --room",
            tap.name, tap.room
        )));
    }
    let mut unheard = Unheard { tapped, name: tap.name.clone(), last: Vec::new() };
    let called = Called::Like(format!("tap-{}", tap.name));
    let guest = Guest::come(&room, &called, |directory| unheard.follow(directory))?;
    let ear = PipeReader::open(&guest.directory().ear(), format, Start::Discard).map_err(Failure::system)?;
    let result = Out::standard_output(format, tap.raw).and_then(|mut out| {
        let mut heard = Heard { ear, format, filler: Filler::new(format) };
        copy(&mut heard, &mut out, &mut signals, || unheard.follow(guest.directory()))
    });
    match result {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            Err(Failure::system(format!("unable to write to standard output: {error}")))
        }
        _ => Ok(()),
    }
}

/// A frame for every 20 ms that pass, however late we are: a minute lasts a minute.
fn copy(
    heard: &mut Heard,
    out: &mut Out,
    signals: &mut Signals,
    mut look: impl FnMut() -> Result<(), RoomError>,
) -> io::Result<()> {
    let began = Instant::now();
    let (mut frames, mut look_at) = (0, LOOK);
    while signals.try_next().is_none() {
        let now = began.elapsed();
        heard.listen()?;
        while Duration::from_millis(frames * FRAME_MS) <= now {
            out.write(&heard.filler.next_frame())?;
            frames += 1;
        }
        if now >= look_at {
            look_at = now + LOOK;
            out.tell_length()?;
            // Their list can't be read just now: the old one stays.
            let _ = look();
        }
        thread::sleep(Duration::from_millis(frames * FRAME_MS).saturating_sub(began.elapsed()));
    }
    out.tell_length()
}

/// Whom the tap doesn't hear, as it changes.
struct Unheard {
    tapped: ParticipantDir,
    name: Name,
    last: Vec<Name>,
}

impl Unheard {
    fn follow(&mut self, tap: &ParticipantDir) -> Result<(), RoomError> {
        let mut names = self.tapped.without()?;
        names.push(self.name.clone());
        if names != self.last {
            tap.set_without(&names)?;
            self.last = names;
        }
        Ok(())
    }
}

/// What comes out of the room.
struct Heard {
    ear: PipeReader,
    format: Format,
    filler: Filler,
}

impl Heard {
    fn listen(&mut self) -> io::Result<()> {
        let mut samples = Vec::new();
        self.ear.read(Instant::now(), &mut samples, self.format.samples_in_ms(MAX_WAITING_MS))?;
        self.filler.put(&samples);
        Ok(())
    }
}

/// Standard output: a stream, or a file whose head can be brought up to date.
struct Out {
    file: File,
    /// The rate for its head, where it can be.
    rate_hz: Option<u32>,
    data_bytes: u64,
}

impl Out {
    fn standard_output(format: Format, raw: bool) -> io::Result<Self> {
        let mut file = File::from(io::stdout().as_fd().try_clone_to_owned()?);
        let rate_hz = format.rate.hz();
        let is_new_file = !raw && file.metadata()?.is_file() && file.stream_position()? == 0 && !appends();
        if !raw {
            file.write_all(&if is_new_file { wav::sized_head(rate_hz, 0) } else { wav::endless_head(rate_hz) })?;
        }
        Ok(Self { file, rate_hz: is_new_file.then_some(rate_hz), data_bytes: 0 })
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.data_bytes += bytes.len() as u64;
        self.file.write_all(bytes)
    }

    fn tell_length(&mut self) -> io::Result<()> {
        let Some(rate_hz) = self.rate_hz else { return Ok(()) };
        self.file.write_all_at(&wav::sized_head(rate_hz, self.data_bytes), 0)
    }
}

/// Whether whatever is written to standard output goes to its end (`>>`).
fn appends() -> bool {
    let info = fs::read_to_string("/proc/self/fdinfo/1").unwrap_or_default();
    let flags = info.lines().find_map(|line| u32::from_str_radix(line.strip_prefix("flags:")?.trim(), 8).ok());
    flags.is_none_or(|flags| flags & O_APPEND != 0)
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
