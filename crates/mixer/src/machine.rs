//! Another machine: the pipe with the exact sum of its talkers, and the jitter buffer of that sum.

use std::path::PathBuf;
use std::time::Duration;

use palabre_room::{FileId, Format, Name, OpenError, PipeReader, Start, file_id};
use palabre_sound::jitter::{Jitter, Pulled};

use crate::budget::Budget;
use crate::context::{Context, LastWarning};
use crate::poller::{Interest, ParticipantId, Token};

/// Interval between attempts to open a pipe that could not be opened: another process has locked the pipe, or the mixer has no free descriptor.
const RETRY_INTERVAL: Duration = Duration::from_secs(1);

/// Another machine that shares the room.
#[derive(Debug)]
pub(crate) struct Machine {
    pub(crate) machine: Name,
    /// Name of the machine's track in a recording: `from-` and the machine's name.
    pub(crate) track: Option<Name>,
    path: PathBuf,
    id: ParticipantId,
    format: Format,
    pipe: Option<PipeReader>,
    /// The pipe that could not be opened, and the time of the next attempt to open it.
    failed: Option<(FileId, Duration)>,
    budget: Budget,
    is_paused: bool,
    jitter: Jitter<i32>,
    /// This tick's frame, if `has_frame`.
    frame: Vec<i32>,
    has_frame: bool,
    scratch: Vec<i32>,
    last_warning: LastWarning,
}

impl Machine {
    pub(crate) fn new(path: PathBuf, machine: Name, format: Format, id: ParticipantId) -> Self {
        Self {
            machine,
            track: path.file_name().and_then(|name| name.to_str()?.parse().ok()),
            path,
            id,
            format,
            pipe: None,
            failed: None,
            budget: Budget::new(format),
            is_paused: false,
            jitter: Jitter::new(format.rate.hz()),
            frame: vec![0; format.frame_samples()],
            has_frame: false,
            scratch: Vec::new(),
            last_warning: LastWarning::default(),
        }
    }

    /// Opens the pipe at the path, unless it is open already, or an attempt to open this pipe has failed and the next one isn't due.
    pub(crate) fn refresh(&mut self, cx: &mut Context) {
        let at_path = file_id(&self.path).ok();
        let known = [self.pipe.as_ref().map(PipeReader::id), self.failed.map(|(id, _)| id)];
        if at_path.is_some() && known.contains(&at_path) {
            return;
        }
        (self.pipe, self.failed, self.is_paused) = (None, None, false);
        match self.open(cx) {
            Ok(pipe) => {
                self.pipe = Some(pipe);
                self.budget.reset();
                self.last_warning.clear();
            }
            Err(OpenError::Missing(_)) => {}
            Err(error) => {
                self.failed = at_path.map(|id| (id, cx.now.since_boot + RETRY_INTERVAL));
                let machine = &self.machine;
                cx.warn_if_new(&mut self.last_warning, format!("{error}; the machine '{machine}' is not heard"));
            }
        }
    }

    /// Returns the time at which to call [`Self::catch_up`] if no event comes earlier.
    pub(crate) fn deadline(&self, cx: &Context) -> Option<Duration> {
        let stray = self.pipe.as_ref().and_then(PipeReader::stray_deadline).map(|at| cx.since_boot(at));
        stray.into_iter().chain(self.failed.map(|(_, retry_at)| retry_at)).min()
    }

    /// Tries again to open a pipe that could not be opened, and reads the pipe.
    pub(crate) fn catch_up(&mut self, cx: &mut Context) {
        if self.failed.take_if(|(_, retry_at)| *retry_at <= cx.now.since_boot).is_some() {
            self.refresh(cx);
        }
        self.read(cx);
    }

    /// Moves samples from the pipe to the jitter buffer.
    pub(crate) fn read(&mut self, cx: &mut Context) {
        self.budget.update(cx.now.since_boot);
        let Some(pipe) = &mut self.pipe else { return };
        self.scratch.clear();
        match pipe.read_sums(cx.now.instant, &mut self.scratch, self.budget.samples()) {
            Ok(got) => {
                if self.budget.spend(got) && cx.poller.change(&*pipe, Interest::Closed, Token::Mic(self.id)).is_ok() {
                    self.is_paused = true;
                }
                self.jitter.push(cx.now.since_boot, &self.scratch);
            }
            Err(error) => {
                let (path, machine) = (self.path.display(), &self.machine);
                cx.warn_if_new(
                    &mut self.last_warning,
                    format!("unable to read the pipe '{path}' with the sound of the machine '{machine}': {error}; this machine is not heard"),
                );
                (self.pipe, self.is_paused) = (None, false);
            }
        }
    }

    /// Takes the frame that is due at `now` out of the jitter buffer. If reading the pipe was paused, resumes it.
    pub(crate) fn take_frame(&mut self, cx: &Context, now: Duration) {
        self.budget.update(cx.now.since_boot);
        if let Some(pipe) = self.pipe.as_ref().filter(|_| self.is_paused) {
            self.is_paused = cx.poller.change(pipe, Interest::Read, Token::Mic(self.id)).is_err();
        }
        self.has_frame = self.jitter.pull(now, &mut self.frame) == Pulled::Frame;
    }

    /// Returns the frame of the current tick.
    pub(crate) fn frame(&self) -> Option<&[i32]> {
        self.has_frame.then_some(&self.frame[..])
    }

    /// Returns whether the other machine's sound needs no ticks.
    pub(crate) fn is_idle(&self) -> bool {
        self.jitter.is_idle() && !self.is_paused
    }

    fn open(&self, cx: &Context) -> Result<PipeReader, OpenError> {
        let pipe = PipeReader::open_sums(&self.path, self.format, Start::Discard)?;
        cx.keep_reserve(&pipe)
            .and_then(|()| cx.poller.add(&pipe, Interest::Read, Token::Mic(self.id)))
            .map_err(|source| OpenError::Io { path: self.path.clone(), source })?;
        Ok(pipe)
    }
}
