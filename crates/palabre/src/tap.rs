//! `palabre tap`: writes what a participant hears to standard output, as a continuous WAV.
//!
//! A pipe has only one reader, and the listener reads the participant's `ear`. So the tap adds another participant, which never talks.
//! That participant has the personal gains of the tapped participant and doesn't hear the tapped participant, so both hear the same mix. The
//! mixer writes nothing while the room is silent; the tap then writes zeros in real time.

use std::collections::VecDeque;
use std::fs::{self, File};
use std::io::{self, ErrorKind, IsTerminal, Seek, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use palabre_host::exit::Failure;
use palabre_host::signals::{SIGHUP, SIGINT, SIGTERM, Signals};
use palabre_room::{FRAME_MS, Format, Name, ParticipantDir, PersonalGain, PipeReader, RoomError, Start};
use palabre_sound::wav;

use crate::cli::Tap;
use crate::guest::{self, Guest, GuestName};

/// Maximum duration of the sound in the buffer, in ms. Older sound is dropped.
const MAX_BUFFER_MS: u64 = 300;
/// Duration of the sound that is buffered after silence before it is written, in ms. A frame that is less late than this makes no gap.
const MARGIN_MS: u64 = 40;
/// Interval between updates of the personal gains, and of the WAV header if standard output is a file.
const UPDATE_INTERVAL: Duration = Duration::from_secs(1);
/// The flag `O_APPEND` of open(2), in the form that proc_pid_fdinfo(5) shows.
const O_APPEND: u32 = 0o2000;

/// Writes the sound until a signal arrives, or until the reader of standard output closes the pipe.
pub(crate) fn run(run: &Path, tap: &Tap) -> Result<(), Failure> {
    if io::stdout().is_terminal() {
        return Err(Failure::usage(
            "unable to write sound to a terminal; redirect standard output, for example '> sound.wav'",
        ));
    }
    let mut signals = Signals::new(&[SIGINT, SIGTERM, SIGHUP]).map_err(Failure::system)?;
    let room = guest::room(run, &tap.room)?;
    let format = room.format().map_err(Failure::system)?;
    let tapped = room.participant(&tap.name);
    if !tapped.path().is_dir() {
        return Err(Failure::refused(format!(
            "unable to tap '{}': no such participant in room '{}'; see 'palabre status', or use --room",
            tap.name, tap.room
        )));
    }
    let mut gains = TapGains { tapped, name: tap.name.clone(), last: Vec::new() };
    let name = GuestName::BasedOn(format!("tap-{}", tap.name));
    let guest = Guest::join(&room, &name, |directory| gains.apply(directory))?;
    let ear = PipeReader::open(&guest.directory().ear(), format, Start::Discard).map_err(Failure::system)?;
    let result = Output::standard_output(format, tap.raw).and_then(|mut out| {
        let mut input = Input { ear, format, filler: SilenceFiller::new(format) };
        copy(&mut input, &mut out, &mut signals, || gains.apply(guest.directory()))
    });
    match result {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            Err(Failure::system(format!("unable to copy the sound to standard output: {error}")))
        }
        _ => Ok(()),
    }
}

/// Writes one frame for every 20 ms of elapsed time, also after a delay, so that the duration of the output equals the elapsed time.
fn copy(
    input: &mut Input,
    out: &mut Output,
    signals: &mut Signals,
    mut update_gains: impl FnMut() -> Result<(), RoomError>,
) -> io::Result<()> {
    let began = Instant::now();
    let (mut frames, mut next_update) = (0, UPDATE_INTERVAL);
    while signals.try_next().is_none() {
        let now = began.elapsed();
        input.read()?;
        while Duration::from_millis(frames * FRAME_MS) <= now {
            out.write(&input.filler.next_frame())?;
            frames += 1;
        }
        if now >= next_update {
            next_update = now + UPDATE_INTERVAL;
            out.update_header()?;
            // If reading or writing the gains fails, the previous gains remain valid.
            let _ = update_gains();
        }
        thread::sleep(Duration::from_millis(frames * FRAME_MS).saturating_sub(began.elapsed()));
    }
    out.update_header()
}

/// The personal gains of the tap: those of the tapped participant, and a mute for the tapped participant.
struct TapGains {
    tapped: ParticipantDir,
    name: Name,
    /// The gains that were last written.
    last: Vec<PersonalGain>,
}

impl TapGains {
    /// Writes the tap's personal gains if they have changed since the last write.
    fn apply(&mut self, tap: &ParticipantDir) -> Result<(), RoomError> {
        let mut gains = self.tapped.gains()?;
        gains.push(PersonalGain::mute(self.name.clone()));
        if gains != self.last {
            tap.set_gains(&gains)?;
            self.last = gains;
        }
        Ok(())
    }
}

/// The `ear` pipe of the tap, and the samples read from it.
struct Input {
    ear: PipeReader,
    format: Format,
    filler: SilenceFiller,
}

impl Input {
    fn read(&mut self) -> io::Result<()> {
        let mut samples = Vec::new();
        self.ear.read(Instant::now(), &mut samples, self.format.samples_in_ms(MAX_BUFFER_MS))?;
        self.filler.push(&samples);
        Ok(())
    }
}

/// Standard output: a stream, or a file whose header can be updated.
struct Output {
    file: File,
    /// Sample rate for the WAV header; `None` if there is no header to update.
    rate_hz: Option<u32>,
    data_bytes: u64,
}

impl Output {
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

    fn update_header(&mut self) -> io::Result<()> {
        let Some(rate_hz) = self.rate_hz else { return Ok(()) };
        self.file.write_all_at(&wav::sized_head(rate_hz, self.data_bytes), 0)
    }
}

/// Returns whether standard output was opened for appending (`>>`).
fn appends() -> bool {
    let info = fs::read_to_string("/proc/self/fdinfo/1").unwrap_or_default();
    let flags = info.lines().find_map(|line| u32::from_str_radix(line.strip_prefix("flags:")?.trim(), 8).ok());
    flags.is_none_or(|flags| flags & O_APPEND != 0)
}

/// Makes a continuous signal from samples with pauses: buffers the samples, and fills pauses with zeros.
struct SilenceFiller {
    format: Format,
    buffer: VecDeque<i16>,
    flowing: bool,
    /// Number of silent frames that were returned while the first sound after silence waited in the buffer.
    held_frames: u64,
}

impl SilenceFiller {
    fn new(format: Format) -> Self {
        Self { format, buffer: VecDeque::new(), flowing: false, held_frames: 0 }
    }

    fn push(&mut self, samples: &[i16]) {
        self.buffer.extend(samples);
        let surplus = self.buffer.len().saturating_sub(self.format.samples_in_ms(MAX_BUFFER_MS));
        self.buffer.drain(..surplus);
    }

    /// Returns the next frame of the continuous signal, as bytes in the room's format.
    fn next_frame(&mut self) -> Vec<u8> {
        let frame = self.format.frame_samples();
        if self.buffer.is_empty() {
            (self.flowing, self.held_frames) = (false, 0);
        } else if !self.flowing {
            self.held_frames += 1;
            let margin = self.format.samples_in_ms(MARGIN_MS);
            self.flowing = self.buffer.len() >= margin || self.held_frames * FRAME_MS > MARGIN_MS;
        }
        let ready = if self.flowing { frame.min(self.buffer.len()) } else { 0 };
        let mut bytes: Vec<u8> = self.buffer.drain(..ready).flat_map(i16::to_le_bytes).collect();
        bytes.resize(frame * 2, 0);
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ticks(filler: &mut SilenceFiller, count: usize) -> Vec<bool> {
        (0..count).map(|_| filler.next_frame().iter().any(|&byte| byte != 0)).collect()
    }

    #[test]
    fn silence_is_filled_and_sound_waits_for_a_margin() {
        let mut filler = SilenceFiller::new(Format::default());
        assert_eq!(filler.next_frame(), vec![0; 960]);
        filler.push(&[1; 480]);
        assert_eq!(ticks(&mut filler, 1), [false]);
        filler.push(&[1; 480]);
        assert_eq!(ticks(&mut filler, 3), [true, true, false]);
    }

    #[test]
    fn single_frame_is_passed_on_after_the_margin() {
        let mut filler = SilenceFiller::new(Format::default());
        filler.push(&[1; 480]);
        assert_eq!(ticks(&mut filler, 4), [false, false, true, false]);
    }

    #[test]
    fn old_sound_is_dropped() {
        let mut filler = SilenceFiller::new(Format::default());
        filler.push(&[1; 24_000]);
        assert_eq!(filler.buffer.len(), 7_200);
    }
}
