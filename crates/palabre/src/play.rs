//! `palabre play`: a WAV into a room, as a participant of its own, at the pace of real time.

use std::path::Path;
use std::time::{Duration, Instant};

use palabre_host::exit::Failure;
use palabre_host::signals::{SIGHUP, SIGINT, SIGTERM, Signals};
use palabre_room::{FRAME_MS, Format, Levelling, OpenError, PipeWriter, Wrote};
use palabre_sound::wav::WavError;

use crate::cli::Play;
use crate::guest::{self, Called, Guest};
use crate::pace::Pace;
use crate::progress::{Progress, clock};
use crate::source::{Piece, Source, Wav};

/// How long the mixer may take to read a microphone that has just been made, or to come back.
const MIXER: Duration = Duration::from_secs(10);
/// How often we look whether it does.
const LOOK: Duration = Duration::from_millis(20);
/// The longest that the mixer keeps a sample: who leaves earlier takes it back.
const LINGER: Duration = Duration::from_millis(400);

/// Plays the file to its end, or until a signal comes.
///
/// # Errors
/// The file is no WAV that can be played, the room or the name can't be had (refused); the mixer isn't there (system).
pub fn run(run: &Path, play: &Play) -> Result<(), Failure> {
    if play.again && is_standard_input(play) {
        return Err(Failure::usage("unable to play '-' again and again: standard input comes only once"));
    }
    // From here on a signal ends us in order.
    let mut signals = Signals::new(&[SIGINT, SIGTERM, SIGHUP]).map_err(Failure::system)?;
    let room = guest::room(run, &play.room)?;
    let format = room.format().map_err(Failure::system)?;
    let mut tape = Tape::open(play, format)?;
    let guest = Guest::come(&room, &called(play), |directory| {
        // A file is meant to be as loud as it is.
        directory.set_levelling(Some(Levelling::Off))?;
        directory.set_gain(play.gain)
    })?;
    let mut mic = Mic { guest: &guest, format, pipe: None };
    let mut progress = Progress::new(format!("playing as '{}'", guest.name()));
    let mut pace = Pace::begin();
    let mut frame = Vec::new();
    while tape.next_frame(&mut frame)? {
        if !mic.say(&frame, &mut signals, &mut pace)? {
            return Ok(());
        }
        tape.show(&mut progress);
        pace.wait_for_next_frame();
    }
    signals.wait(Some(LINGER)).map(drop).map_err(Failure::system)
}

fn is_standard_input(play: &Play) -> bool {
    play.file == Path::new("-")
}

fn called(play: &Play) -> Called<'_> {
    match &play.name {
        Some(name) => Called::Exactly(name),
        None if is_standard_input(play) => Called::Like("play".to_owned()),
        None => Called::Like(play.file.file_stem().unwrap_or_default().to_string_lossy().into_owned()),
    }
}

fn unable(play: &Play, cause: impl std::fmt::Display) -> String {
    format!("unable to play '{}': {cause}", play.file.display())
}

/// The file as frames, once or again and again.
struct Tape<'a> {
    play: &'a Play,
    format: Format,
    source: Source,
    piece: Piece,
    /// All there are, if that is known.
    samples: Option<u64>,
    /// Given since the file began.
    given: u64,
}

impl<'a> Tape<'a> {
    fn open(play: &'a Play, format: Format) -> Result<Self, Failure> {
        let opened = Self::begin(play, format);
        let (source, samples) = opened.map_err(|error| Failure::refused(unable(play, error)))?;
        Ok(Self { play, format, source, piece: Piece::default(), samples, given: 0 })
    }

    fn begin(play: &Play, format: Format) -> Result<(Source, Option<u64>), WavError> {
        let wav = if is_standard_input(play) { Wav::standard_input()? } else { Wav::open(&play.file)? };
        let samples = wav.samples_at(format.rate.hz());
        Ok((wav.at_rate(format.rate.hz())?, samples))
    }

    /// The next 20 ms, the last of them filled up with silence; false when there is no more.
    fn next_frame(&mut self, frame: &mut Vec<i16>) -> Result<bool, Failure> {
        let whole = self.format.frame_samples();
        frame.clear();
        loop {
            let got = self.source.prepare(whole - frame.len(), &mut self.piece);
            let got = got.map_err(|error| Failure::system(unable(self.play, error)))?;
            frame.extend_from_slice(&self.source.ready()[..got]);
            self.source.consume(got);
            self.given += got as u64;
            if frame.len() == whole || !self.play.again || self.given == 0 {
                break;
            }
            // The file goes on where it ended: no frame has a hole.
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
                let done = self.given as f64 / samples.max(1) as f64;
                progress.show(Some(done), format_args!("{} of {}", time(self.given), time(samples)));
            }
            None => progress.show(None, time(self.given)),
        }
    }
}

/// Our microphone, which the mixer reads when it has noticed us, and again after it was restarted.
struct Mic<'a> {
    guest: &'a Guest,
    format: Format,
    pipe: Option<PipeWriter>,
}

impl Mic<'_> {
    /// Says a frame, if need be when the mixer is there again; false when a signal came.
    fn say(&mut self, frame: &[i16], signals: &mut Signals, pace: &mut Pace) -> Result<bool, Failure> {
        let deadline = Instant::now() + MIXER;
        loop {
            if signals.try_next().is_some() {
                return Ok(false);
            }
            // What doesn't fit is lost: waiting would only make it late.
            match self.pipe.as_mut().map(|pipe| pipe.write(frame)) {
                Some(Wrote::Whole | Wrote::Slow) => return Ok(true),
                Some(Wrote::Gone) | None => {}
            }
            self.pipe = None;
            self.open(deadline)?;
            if self.pipe.is_none() && signals.wait(Some(LOOK)).map_err(Failure::system)?.is_some() {
                return Ok(false);
            }
            *pace = Pace::begin();
        }
    }

    fn open(&mut self, deadline: Instant) -> Result<(), Failure> {
        let mic = self.guest.directory().mic();
        match PipeWriter::open(&mic, self.format) {
            Ok(pipe) => self.pipe = Some(pipe),
            Err(OpenError::NoReader(_)) if Instant::now() < deadline => {}
            Err(OpenError::NoReader(_)) => {
                let waited = MIXER.as_secs();
                return Err(Failure::system(format!(
                    "unable to play into '{}': nobody has read it for {waited} s; is palabre-mixer running?",
                    mic.display()
                )));
            }
            Err(OpenError::Missing(_)) => {
                let name = self.guest.name();
                return Err(Failure::refused(format!("unable to play as '{name}': somebody removed it from the room")));
            }
            Err(error) => return Err(Failure::system(error)),
        }
        Ok(())
    }
}

const _: () = assert!(FRAME_MS == 20, "a frame of the tape is one of the room");
