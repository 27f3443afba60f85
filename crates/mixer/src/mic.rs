//! A participant's `mic`: the read end of a pipe, or a WAV file that another program is writing.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::time::Duration;

use palabre_room::{FileId, FileKind, Format, OpenError, PipeReader, Start, lookup};
use palabre_sound::wav::WavError;

use crate::budget::Budget;
use crate::context::{Context, LastWarning};
use crate::mic_file::MicFile;
use crate::poller::{Interest, ParticipantId, Token};
use crate::watcher::{Target, Watch};

/// Interval between attempts to open a pipe that could not be opened: another process has locked the pipe, or the mixer has no free descriptor.
const RETRY_INTERVAL: Duration = Duration::from_secs(1);
/// Maximum number of open files of one `mic`: the file at the path, and a replaced file that is not yet read to its end.
const FILES_MAX: usize = 2;

/// The microphone of one participant.
#[derive(Debug)]
pub(crate) struct Mic {
    path: PathBuf,
    format: Format,
    participant: ParticipantId,
    pipe: Option<PipeReader>,
    /// The open files, oldest first. The last one is at the path; the others were replaced and are not yet read to their end.
    files: VecDeque<(MicFile, Watch)>,
    /// A pipe that could not be opened, and the time of the next attempt to open it.
    failed: Option<(FileId, Duration)>,
    last_warning: LastWarning,
    budget: Budget,
    is_paused: bool,
    /// Number of stray bytes (half samples) that were discarded from pipes that are closed now.
    stray_bytes: u64,
}

impl Mic {
    pub(crate) fn new(path: PathBuf, format: Format, participant: ParticipantId) -> Self {
        Self {
            path,
            format,
            participant,
            pipe: None,
            files: VecDeque::new(),
            failed: None,
            last_warning: LastWarning::default(),
            budget: Budget::new(format),
            is_paused: false,
            stray_bytes: 0,
        }
    }

    /// Opens the pipe or file at the path, unless it is open already, or an attempt to open this pipe has failed and the next one isn't due.
    pub(crate) fn refresh(&mut self, cx: &mut Context) {
        let at_path = lookup(&cx.resolve(&self.path));
        let id = at_path.map(|(_, id)| id);
        if id.is_some() && (id == self.id() || id == self.failed.map(|(id, _)| id)) {
            return;
        }
        self.failed = None;
        let is_file = matches!(at_path, Some((FileKind::Regular, _)));
        if !is_file || self.files.is_empty() {
            self.close(cx);
        }
        match at_path {
            None => drop(self.last_warning.clear()),
            Some((FileKind::Regular, _)) => self.open_file(cx),
            Some((FileKind::Pipe | FileKind::Other, id)) => self.open_pipe(cx, id),
        }
    }

    /// Returns the time at which to call [`Self::retry`] and [`Self::read`] if no event comes earlier.
    pub(crate) fn deadline(&self, cx: &Context) -> Option<Duration> {
        if self.is_behind() {
            return Some(Duration::ZERO);
        }
        let stray = self.pipe.as_ref().and_then(PipeReader::stray_deadline).map(|at| cx.since_boot(at));
        stray.into_iter().chain(self.failed.map(|(_, retry_at)| retry_at)).min()
    }

    /// Tries again to open a pipe that could not be opened, if the retry interval has passed.
    pub(crate) fn retry(&mut self, cx: &mut Context) {
        if self.failed.take_if(|(_, retry_at)| *retry_at <= cx.now.since_boot).is_some() {
            self.refresh(cx);
        }
    }

    /// Reads the pipe or the file, and appends the samples to `out`. The budget limits their number.
    pub(crate) fn read(&mut self, cx: &mut Context, out: &mut Vec<i16>) {
        self.budget.update(cx.now.since_boot);
        let Some(pipe) = &mut self.pipe else { return self.read_files(cx, out) };
        match pipe.read(cx.now.instant, out, self.budget.samples()) {
            Ok(got) => {
                let token = Token::Mic(self.participant);
                if self.budget.spend(got) && cx.poller.change(&*pipe, Interest::Closed, token).is_ok() {
                    self.is_paused = true;
                }
                self.warn_of_stray_bytes(cx);
            }
            Err(error) => {
                cx.warn_if_new(
                    &mut self.last_warning,
                    format!("unable to read '{}': {error}; the participant is not heard", self.path.display()),
                );
                self.close(cx);
            }
        }
    }

    /// Increases the read budgets, and ends a pause. Call it once per tick.
    pub(crate) fn refill(&mut self, cx: &Context) {
        self.budget.update(cx.now.since_boot);
        if let Some((file, _)) = self.files.front_mut() {
            file.refill();
        }
        if let Some(pipe) = self.pipe.as_ref().filter(|_| self.is_paused) {
            self.is_paused = cx.poller.change(pipe, Interest::Read, Token::Mic(self.participant)).is_err();
        }
    }

    /// Returns whether reading is paused until the next ticks have increased the budget.
    pub(crate) fn needs_ticks(&self) -> bool {
        self.is_paused || self.is_behind()
    }

    /// Returns whether a `mic` file still has samples, or was replaced, so that the next tick must read it.
    pub(crate) fn is_behind(&self) -> bool {
        self.files.len() > 1 || self.files.front().is_some_and(|(file, _)| file.is_behind())
    }

    /// Returns the total number of stray bytes (half samples) that were discarded.
    pub(crate) fn stray_bytes(&self) -> u64 {
        self.stray_bytes + self.pipe.as_ref().map_or(0, PipeReader::stray_bytes)
    }

    fn id(&self) -> Option<FileId> {
        self.pipe.as_ref().map(PipeReader::id).or_else(|| self.files.back().map(|(file, _)| file.id()))
    }

    fn open_pipe(&mut self, cx: &mut Context, id: FileId) {
        match self.try_to_open_pipe(cx) {
            Ok(()) if self.last_warning.clear() => {
                log::info!("opened '{}' after earlier failures", self.path.display());
            }
            Ok(()) => log::debug!("opened '{}' for reading", self.path.display()),
            Err(OpenError::Missing(_)) => {}
            Err(error) => {
                if matches!(error, OpenError::Taken(_) | OpenError::Io { .. }) {
                    self.failed = Some((id, cx.now.since_boot + RETRY_INTERVAL));
                }
                cx.warn_if_new(&mut self.last_warning, format!("{error}; the participant is not heard"));
            }
        }
    }

    fn try_to_open_pipe(&mut self, cx: &Context) -> Result<(), OpenError> {
        let pipe = PipeReader::open(&self.path, self.format, Start::Discard)?;
        cx.keep_reserve(&pipe)
            .and_then(|()| cx.poller.add(&pipe, Interest::Read, Token::Mic(self.participant)))
            .map_err(|source| OpenError::Io { path: self.path.clone(), source })?;
        if pipe.size_refused() {
            log::debug!("unable to set the size of the pipe '{}'", self.path.display());
        }
        (self.pipe, self.is_paused) = (Some(pipe), false);
        self.budget.reset();
        Ok(())
    }

    fn open_file(&mut self, cx: &mut Context) {
        let path = cx.resolve(&self.path);
        let opened = MicFile::open(&path, self.format).and_then(|file| {
            let watch = cx.watcher.add(&path, Target::MicFile(self.participant));
            Ok((file, watch.map_err(|source| OpenError::Io { path: self.path.clone(), source })?))
        });
        match opened {
            Ok(file) => {
                self.files.push_back(file);
                if self.files.len() > FILES_MAX
                    && let Some((_, watch)) = self.files.pop_front()
                {
                    cx.watcher.remove(watch);
                }
                self.last_warning.clear();
                log::debug!("opened '{}' for reading: a growing WAV file, not a pipe", self.path.display());
            }
            Err(OpenError::Missing(_)) => {}
            Err(error) => cx.warn_if_new(&mut self.last_warning, format!("{error}; the participant is not heard")),
        }
    }

    fn read_files(&mut self, cx: &mut Context, out: &mut Vec<i16>) {
        loop {
            let is_last = self.files.len() == 1;
            let Some((file, watch)) = self.files.front_mut() else { return };
            match file.read(out) {
                Ok(()) if file.is_behind() => return,
                Ok(()) => {}
                Err(WavError::Io(error)) => {
                    cx.warn_if_new(
                        &mut self.last_warning,
                        format!("unable to read '{}': {error}; the participant is not heard", self.path.display()),
                    );
                    return self.close(cx);
                }
                Err(error) => {
                    let path = self.path.display();
                    cx.warn_if_new(
                        &mut self.last_warning,
                        format!("unable to decode '{path}': {error}; the participant is not heard"),
                    );
                }
            }
            if is_last {
                return;
            }
            file.finish(out);
            cx.watcher.remove(*watch);
            self.files.pop_front();
        }
    }

    fn close(&mut self, cx: &mut Context) {
        self.stray_bytes = self.stray_bytes();
        (self.pipe, self.is_paused) = (None, false);
        self.files.drain(..).for_each(|(_, watch)| cx.watcher.remove(watch));
    }

    fn warn_of_stray_bytes(&mut self, cx: &mut Context) {
        if self.stray_bytes() > 0 {
            let path = self.path.display();
            cx.warn_if_new(
                &mut self.last_warning,
                format!("'{path}': half a sample was discarded; write whole samples of two bytes"),
            );
        }
    }
}
