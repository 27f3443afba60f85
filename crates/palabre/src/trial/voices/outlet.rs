//! A voice's microphone: a pipe that is opened when somebody reads it and written without ever waiting.

use std::time::{Duration, Instant};

use palabre_room::{Format, OpenError, ParticipantDir, PipeWriter, Wrote};

/// Between two tries to open the pipe.
const RETRY: Duration = Duration::from_secs(1);

/// A `mic` that comes back when the mixer does. What can't be written now is dropped: it would be stale later.
pub struct Outlet {
    directory: ParticipantDir,
    format: Format,
    pipe: Option<PipeWriter>,
    last_try: Option<Instant>,
}

impl Outlet {
    /// The microphone of this participant; nothing is opened yet.
    #[must_use]
    pub fn new(directory: ParticipantDir, format: Format) -> Self {
        Self { directory, format, pipe: None, last_try: None }
    }

    /// Writes a frame, if somebody reads.
    pub fn write(&mut self, frame: &[i16]) {
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
            // No reader: the mixer is on its way.
            Err(_) => {}
        }
    }
}
