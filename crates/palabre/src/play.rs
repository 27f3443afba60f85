//! `palabre play`: a WAV into a participant's microphone, at the pace of real time.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::Path;

use palabre_host::exit::Failure;
use palabre_room::{Format, OpenError, PipeWriter, RoomDir, Wrote};
use palabre_sound::convert::Converter;
use palabre_sound::wav::Head;

use crate::cli::Play;
use crate::pace::Pace;

/// Read from the file at once.
const PIECE_BYTES: usize = 4096;

/// Plays the file to its end.
///
/// # Errors
/// The file is no WAV that can be played (refused); the participant, or the mixer, isn't there.
pub fn run(run: &Path, play: &Play) -> Result<(), Failure> {
    let file = play.file.display();
    let unable = |cause: &dyn std::fmt::Display| format!("unable to play '{file}': {cause}");
    let mut source = open(&play.file).map_err(|error| Failure::refused(unable(&error)))?;
    let head = Head::read(&mut source).map_err(|error| Failure::refused(unable(&error)))?;
    let room = RoomDir::new(run.join("rooms").join(&play.room));
    let format = room.format().map_err(Failure::system)?;
    let mut samples = Converter::new(&head, format.rate.hz()).map_err(|error| Failure::refused(unable(&error)))?;
    let mut mic = open_mic(&room, play, format)?;
    let mut ready = Vec::new();
    let mut piece = vec![0; PIECE_BYTES];
    let mut pace = Pace::begin();
    loop {
        let read = source.read(&mut piece).map_err(|error| Failure::system(unable(&error)))?;
        if read == 0 {
            samples.finish(&mut ready);
        } else {
            samples.push(&piece[..read], &mut ready);
        }
        say(&mut mic, &mut ready, format, read == 0, &mut pace)
            .map_err(|()| Failure::system(unable(&"palabre-mixer has left; is it running again?")))?;
        if read == 0 {
            return Ok(());
        }
    }
}

fn open(path: &Path) -> io::Result<Box<dyn Read>> {
    if path == Path::new("-") {
        return Ok(Box::new(io::stdin().lock()));
    }
    Ok(Box::new(BufReader::new(File::open(path)?)))
}

fn open_mic(room: &RoomDir, play: &Play, format: Format) -> Result<PipeWriter, Failure> {
    let mic = room.participant(&play.name).mic();
    PipeWriter::open(&mic, format).map_err(|error| match error {
        OpenError::NoReader(_) => Failure::system(format!(
            "unable to play into '{}': nobody reads it; is palabre-mixer running?",
            mic.display()
        )),
        OpenError::Missing(_) => Failure::refused(format!(
            "unable to play as '{}': no such participant in room '{}'; see 'palabre status' or --room",
            play.name, play.room
        )),
        error => Failure::system(error),
    })
}

/// Writes the whole frames of `ready`, one every 20 ms, and leaves the rest; the last one is filled up with silence.
fn say(mic: &mut PipeWriter, ready: &mut Vec<i16>, format: Format, last: bool, pace: &mut Pace) -> Result<(), ()> {
    let frame = format.frame_samples();
    if last {
        ready.resize(ready.len().next_multiple_of(frame), 0);
    }
    let whole = ready.len() / frame * frame;
    for samples in ready[..whole].chunks_exact(frame) {
        // What doesn't fit is lost: waiting would only make it late.
        if mic.write(samples) == Wrote::Gone {
            return Err(());
        }
        pace.wait_for_next_frame();
    }
    ready.drain(..whole);
    Ok(())
}
