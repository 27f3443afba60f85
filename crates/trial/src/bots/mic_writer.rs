//! The write end of a bot's `mic` pipe. Writing never blocks. The pipe is opened again after the mixer has restarted.

use std::time::{Duration, Instant};

use palabre_room::{Format, OpenError, ParticipantDir, PipeWriter, Wrote};

/// Interval between attempts to open the `mic` pipe.
const RETRY: Duration = Duration::from_secs(1);

/// Writes frames to a `mic` pipe. Drops frames while the mixer doesn't read the pipe, since they would be late.
pub(crate) struct MicWriter {
    directory: ParticipantDir,
    format: Format,
    pipe: Option<PipeWriter>,
    last_try: Option<Instant>,
}

impl MicWriter {
    /// Creates the writer. The first write opens the pipe.
    pub(crate) fn new(directory: ParticipantDir, format: Format) -> Self {
        Self { directory, format, pipe: None, last_try: None }
    }

    pub(crate) fn write(&mut self, frame: &[i16]) {
        if self.pipe.is_none() {
            self.try_to_open();
        }
        let Some(pipe) = &mut self.pipe else { return };
        match pipe.write(frame) {
            Wrote::Whole | Wrote::Slow => {}
            _ => self.pipe = None,
        }
    }

    fn try_to_open(&mut self) {
        if self.last_try.is_some_and(|last| last.elapsed() < RETRY) {
            return;
        }
        self.last_try = Some(Instant::now());
        match PipeWriter::open(&self.directory.mic(), self.format) {
            Ok(pipe) => self.pipe = Some(pipe),
            Err(OpenError::Missing(_)) => drop(self.directory.create()),
            // The pipe can't be opened, for example because the mixer is starting. Try again later.
            Err(_) => {}
        }
    }
}
