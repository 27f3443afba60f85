//! `palabre play`: plays a WAV file into a room in real time, as a participant of its own.

use std::fmt::Display;
use std::path::Path;
use std::time::{Duration, Instant};

use palabre_host::exit::Failure;
use palabre_host::pace::Pace;
use palabre_host::signals::{SIGHUP, SIGINT, SIGTERM, Signals};
use palabre_room::{FRAME_MS, Format, Levelling, OpenError, PipeWriter, Wrote};
use palabre_sound::wav::WavError;

use crate::cli::Play;
use crate::guest::{self, Guest, GuestName};
use crate::progress::{Progress, clock};
use crate::wav_reader::{ReadBuffer, SampleReader, Wav};

/// Maximum time to wait for a mixer to read the `mic` pipe.
const MIXER_TIMEOUT: Duration = Duration::from_secs(10);
/// Interval between attempts to open the `mic` pipe.
const RETRY: Duration = Duration::from_millis(20);
/// Time between the last sample and the removal of the participant. When a participant is removed, the mixer discards the samples in
/// its jitter buffer, at most 400 ms.
const LINGER: Duration = Duration::from_millis(400);

/// Plays the file to its end, or until a signal arrives.
pub(crate) fn run(run: &Path, play: &Play) -> Result<(), Failure> {
    if play.repeat && is_standard_input(play) {
        return Err(Failure::usage("unable to use '--loop' with standard input; play a file instead"));
    }
    // Handle signals from now on, so that the participant is removed before this process ends.
    let mut signals = Signals::new(&[SIGINT, SIGTERM, SIGHUP]).map_err(Failure::system)?;
    let room = guest::room(run, &play.room)?;
    let format = room.format().map_err(Failure::system)?;
    let mut playback = Playback::open(play, format)?;
    let guest = Guest::join(&room, &name(play), |directory| {
        // Turn levelling off, so that the file is played at its own loudness.
        directory.set_levelling(Some(Levelling::Off))?;
        directory.set_gain(play.gain)
    })?;
    let mut mic = Mic { guest: &guest, format, pipe: None };
    let mut progress = Progress::new(format!("playing as participant '{}'", guest.name()));
    let mut pace = Pace::new(Duration::from_millis(FRAME_MS));
    let mut frame = Vec::new();
    while playback.next_frame(&mut frame)? {
        if !mic.write(&frame, &mut signals, &mut pace)? {
            return Ok(());
        }
        playback.show(&mut progress);
        pace.wait();
    }
    signals.wait(Some(LINGER)).map(drop).map_err(Failure::system)
}

fn is_standard_input(play: &Play) -> bool {
    play.file == Path::new("-")
}

fn name(play: &Play) -> GuestName<'_> {
    match &play.name {
        Some(name) => GuestName::Exactly(name),
        None if is_standard_input(play) => GuestName::BasedOn("play".to_owned()),
        None => GuestName::BasedOn(play.file.file_stem().unwrap_or_default().to_string_lossy().into_owned()),
    }
}

fn unable(play: &Play, cause: impl Display) -> String {
    format!("unable to play '{}': {cause}", play.file.display())
}

/// Reads the file once or repeatedly, as frames in the room's format.
struct Playback<'a> {
    play: &'a Play,
    format: Format,
    reader: SampleReader,
    buffer: ReadBuffer,
    /// Length of the file in samples at the room's rate, if it is known.
    samples: Option<u64>,
    /// Number of samples that were read, since the last start of the file.
    position: u64,
}

impl<'a> Playback<'a> {
    fn open(play: &'a Play, format: Format) -> Result<Self, Failure> {
        let opened = Self::open_file(play, format);
        let (reader, samples) = opened.map_err(|error| Failure::refused(unable(play, error)))?;
        Ok(Self { play, format, reader, buffer: ReadBuffer::default(), samples, position: 0 })
    }

    fn open_file(play: &Play, format: Format) -> Result<(SampleReader, Option<u64>), WavError> {
        let wav = if is_standard_input(play) { Wav::standard_input()? } else { Wav::open(&play.file)? };
        let samples = wav.samples_at(format.rate.hz());
        Ok((wav.at_rate(format.rate.hz())?, samples))
    }

    /// Reads the next frame. The last frame is padded with silence. Returns false at the end of the file.
    fn next_frame(&mut self, frame: &mut Vec<i16>) -> Result<bool, Failure> {
        let whole = self.format.frame_samples();
        frame.clear();
        loop {
            let read = self.reader.prepare(whole - frame.len(), &mut self.buffer);
            let read = read.map_err(|error| Failure::system(unable(self.play, error)))?;
            frame.extend_from_slice(&self.reader.ready()[..read]);
            self.reader.consume(read);
            self.position += read as u64;
            if frame.len() == whole || !self.play.repeat || self.position == 0 {
                break;
            }
            // With `--loop`, the repetition starts within this frame, without a gap.
            *self = Self::open(self.play, self.format)?;
        }
        let any = !frame.is_empty();
        frame.resize(whole, 0);
        Ok(any)
    }

    fn show(&self, progress: &mut Progress) {
        let time = |samples: u64| clock(Duration::from_secs(samples / u64::from(self.format.rate.hz())));
        match self.samples {
            Some(samples) => {
                let done = self.position as f64 / samples.max(1) as f64;
                progress.show(Some(done), format_args!("{} of {}", time(self.position), time(samples)));
            }
            None => progress.show(None, time(self.position)),
        }
    }
}

/// The write end of the guest's `mic` pipe. It is opened again when the mixer restarts.
struct Mic<'a> {
    guest: &'a Guest,
    format: Format,
    pipe: Option<PipeWriter>,
}

impl Mic<'_> {
    /// Writes a frame. If the pipe is full, drops the frame. If no mixer has the pipe open, tries to open it again for up to 10 s, and then fails. Returns
    /// false if a signal arrived.
    fn write(&mut self, frame: &[i16], signals: &mut Signals, pace: &mut Pace) -> Result<bool, Failure> {
        let deadline = Instant::now() + MIXER_TIMEOUT;
        loop {
            if signals.try_next().is_some() {
                return Ok(false);
            }
            // A frame that doesn't fit into the pipe is dropped: waiting would delay all later frames.
            match self.pipe.as_mut().map(|pipe| pipe.write(frame)) {
                Some(Wrote::Whole | Wrote::Slow) => return Ok(true),
                Some(Wrote::Gone) | None => {}
            }
            self.pipe = None;
            self.open(deadline)?;
            if self.pipe.is_none() && signals.wait(Some(RETRY)).map_err(Failure::system)?.is_some() {
                return Ok(false);
            }
            pace.restart();
        }
    }

    fn open(&mut self, deadline: Instant) -> Result<(), Failure> {
        let mic = self.guest.directory().mic();
        match PipeWriter::open(&mic, self.format) {
            Ok(pipe) => self.pipe = Some(pipe),
            Err(OpenError::NoReader(_)) if Instant::now() < deadline => {}
            Err(OpenError::NoReader(_)) => {
                let timeout = MIXER_TIMEOUT.as_secs();
                return Err(Failure::system(format!(
                    "unable to play into '{}': no mixer has read the pipe for {timeout} s; start palabre-mixer",
                    mic.display()
                )));
            }
            Err(OpenError::Missing(_)) => {
                let name = self.guest.name();
                return Err(Failure::refused(format!(
                    "unable to play as '{name}': another program has removed the guest's directory from the room; run the command again"
                )));
            }
            Err(error) => return Err(Failure::system(error)),
        }
        Ok(())
    }
}
