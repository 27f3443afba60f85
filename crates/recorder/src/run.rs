//! The main loop: reads frames from the pipe, writes them to the WAV files, and updates the headers of the files about every second.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::DirBuilderExt;
use std::time::Duration;

use palabre_host::exit::Failure;
use palabre_host::sandbox::{Access, Sandbox, Strictness};
use palabre_host::signals::{SIGINT, SIGTERM, Signals};
use palabre_host::{clock, logging, notify, process, wait};
use palabre_room::{RecordingReader, RoomDir};

use crate::cli::{Args, PROGRAM};
use crate::session::Session;

/// Interval between updates of the headers of the WAV files. If the recorder dies, at most the sound since the last update is lost.
const UPDATE_INTERVAL: Duration = Duration::from_millis(900);
/// Interval between reads of the pipe. Between two reads, frames wait in the pipe.
const READ_INTERVAL: Duration = Duration::from_millis(50);

/// Records the room until a signal arrives.
pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    if let Some(parent) = args.parent_pid {
        process::die_with_parent(parent).map_err(Failure::system)?;
    }
    logging::init(PROGRAM, Some(args.room.as_str()), args.verbose);
    process::protect();
    // Send the error message to the supervisor too, which shows it in its status.
    record_room(args).inspect_err(|failure| notify::status(&failure.to_string()))
}

fn record_room(args: &Args) -> Result<(), Failure> {
    if let Err(error) = process::raise_nofile() {
        log::warn!("unable to raise the limit of open files: {error}");
    }
    let mut signals = Signals::new(&[SIGTERM, SIGINT]).map_err(Failure::system)?;
    let room = RoomDir::new(args.run.join("rooms").join(&args.room));
    let cause = match fs::metadata(room.path()) {
        Ok(metadata) if metadata.is_dir() => None,
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            Some("no permission to see this directory; run palabre-recorder as the supervisor's user")
        }
        _ => Some("there is no such room; choose another room, or another directory with --run"),
    };
    if let Some(cause) = cause {
        return Err(Failure::refused(format!("unable to record '{}': {cause}", room.path().display())));
    }
    let format = room.format().map_err(Failure::system)?;
    let out = args.out.display();
    let created = DirBuilder::new().recursive(true).mode(0o750).create(&args.out);
    created.map_err(|error| Failure::refused(format!("unable to create directory '{out}': {error}")))?;
    let began = args.began_ms.map_or_else(clock::monotonic, Duration::from_millis);
    let mut session = Session::new(args.out.clone(), format, began, args.part_minutes);
    let mut reader = RecordingReader::create(&room.recording(), format).map_err(Failure::refused)?;
    // The sandbox must permit removing the pipe from the room's directory, because dropping the reader removes it.
    let sandbox = Sandbox::default().permit(Access::Write, &args.out).permit(Access::Remove, room.path());
    sandbox.enter(Strictness::BestEffort).map_err(Failure::system)?;
    log::info!("recording the room into directory '{out}'");
    notify::ready();
    let recorded = record(&mut reader, &mut session, &mut signals, &room);
    notify::stopping();
    // Dropping the reader removes the pipe, so that the pages stop showing that the room is recorded.
    drop(reader);
    let ended = session.end(clock::monotonic());
    let unable = |verb: &str, error: io::Error| {
        Failure::refused(format!("unable to {verb} the recording in '{out}': {error}; the recording has ended"))
    };
    recorded.map_err(|error| unable("continue", error))?;
    ended.map_err(|error| unable("complete", error))
}

fn record(
    reader: &mut RecordingReader,
    session: &mut Session,
    signals: &mut Signals,
    room: &RoomDir,
) -> io::Result<()> {
    let (mut takes, mut speakers) = (Vec::new(), 0);
    let mut update_at = clock::monotonic() + UPDATE_INTERVAL;
    loop {
        let timeout = update_at.saturating_sub(clock::monotonic());
        wait::readable(&[signals.as_fd(), reader.as_fd()], Some(timeout))?;
        let is_over = signals.wait(Some(READ_INTERVAL))?.is_some();
        takes.clear();
        while reader.read(&mut takes)? > 0 {}
        takes.iter().try_for_each(|take| session.take(take))?;
        let now = clock::monotonic();
        if is_over {
            return Ok(());
        }
        if now >= update_at {
            update_at = now + UPDATE_INTERVAL;
            session.update(now)?;
            if !room.recording().exists() {
                return Err(io::Error::new(io::ErrorKind::NotFound, "the room's pipe 'recording' was removed"));
            }
        }
        if session.speakers() != speakers {
            speakers = session.speakers();
            notify::status(&format!("speakers={speakers}"));
        }
    }
}
