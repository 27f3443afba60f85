//! A participant's microphone: the reading end of a pipe, kept open as long as the pipe is there, or a WAV that grows.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use palabre_room::{Format, Kind, OpenError, PipeId, PipeReader, Start, kind, pipe_id};

use crate::clock::TICK;
use crate::context::{Complaint, Context};
use crate::follower::{FollowError, Follower};
use crate::poller::{Interest, Key, Token};
use crate::watcher::{Place, Watch};

/// How often a pipe that another process reads is tried again.
const RETRY: Duration = Duration::from_secs(1);
/// Nobody is read faster than this times real time in the long run; a writer that floods waits in its own pipe.
const SPEED_MAX: u32 = 2;
/// But so much may come at once: more than a pipe holds.
const BURST_MS: u64 = 1_000;

/// The microphone of one participant.
#[derive(Debug)]
pub struct Mic {
    path: PathBuf,
    format: Format,
    key: Key,
    token: Token,
    reader: Option<PipeReader>,
    /// A file, and the one that has taken its place while the end of the first is still to be read.
    files: VecDeque<(Follower, Watch)>,
    retry_at: Option<Duration>,
    complaint: Complaint,
    /// Samples that may be read before the next tick.
    budget: usize,
    paused: bool,
    stray_bytes: u64,
}

impl Mic {
    pub fn new(path: PathBuf, format: Format, key: Key) -> Self {
        let budget = format.samples_in_ms(BURST_MS);
        Self {
            path,
            format,
            key,
            token: Token::Mic(key),
            reader: None,
            files: VecDeque::new(),
            retry_at: None,
            complaint: Complaint::default(),
            budget,
            paused: false,
            stray_bytes: 0,
        }
    }

    /// Brings what is open in line with what is at the path now.
    pub fn refresh(&mut self, cx: &mut Context) {
        self.retry_at = None;
        let at_path = pipe_id(&self.path).ok();
        if at_path.is_some() && self.id() == at_path {
            return;
        }
        let is_file = kind(&self.path) == Some(Kind::File);
        if !is_file || self.files.is_empty() {
            self.close(cx);
        }
        if at_path.is_none() {
            self.complaint.clear();
            return;
        }
        if is_file {
            return self.follow(cx);
        }
        match self.open(cx) {
            Ok(()) if self.complaint.clear() => log::info!("'{}' is read again", self.path.display()),
            Ok(()) => log::debug!("'{}' is read", self.path.display()),
            Err(OpenError::Missing(_)) => {}
            Err(error) => {
                if matches!(error, OpenError::Taken(_)) {
                    self.retry_at = Some(cx.now.since_boot + RETRY);
                }
                self.complaint.say(cx, format!("{error}; nobody hears what is written there"));
            }
        }
    }

    /// Appends what is in the pipe or the file, within this tick's budget.
    pub fn drain(&mut self, cx: &mut Context, out: &mut Vec<i16>) {
        let Some(reader) = &mut self.reader else { return self.drain_files(cx, out) };
        match reader.read(cx.now.instant, out, self.budget) {
            Ok(got) => {
                self.budget -= got.min(self.budget);
                if self.budget == 0 && cx.poller.change(&*reader, Interest::Gone, self.token).is_ok() {
                    self.paused = true;
                }
                self.warn_of_strays(cx);
            }
            Err(error) => {
                self.complaint.say(cx, format!("unable to read '{}': {error}", self.path.display()));
                self.close(cx);
            }
        }
    }

    fn drain_files(&mut self, cx: &mut Context, out: &mut Vec<i16>) {
        loop {
            let is_last = self.files.len() == 1;
            let Some((file, watch)) = self.files.front_mut() else { return };
            match file.read(out) {
                Ok(()) if file.is_behind() => return,
                Ok(()) => {}
                Err(FollowError::Wav(error)) => {
                    let path = self.path.display();
                    self.complaint
                        .say(cx, format!("unable to hear '{path}': {error}; nobody hears what is written there"));
                }
                Err(FollowError::Io(error)) => {
                    self.complaint.say(cx, format!("unable to read '{}': {error}", self.path.display()));
                    return self.close(cx);
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

    /// A tick has passed: so much more may be read.
    pub fn refill(&mut self, cx: &Context) {
        let per_tick = self.format.frame_samples() * SPEED_MAX as usize;
        self.budget = (self.budget + per_tick).min(self.format.samples_in_ms(BURST_MS));
        if let Some((file, _)) = self.files.front_mut() {
            file.refill();
        }
        if !self.paused {
            return;
        }
        if let Some(reader) = &self.reader {
            self.paused = cx.poller.change(reader, Interest::Read, self.token).is_err();
        }
    }

    /// Whether this microphone needs ticks to be read on.
    pub fn is_paused(&self) -> bool {
        self.paused || self.is_behind()
    }

    /// Whether something waits in a file, to be read at the next tick.
    pub fn is_behind(&self) -> bool {
        self.files.len() > 1 || self.files.front().is_some_and(|(file, _)| file.is_behind())
    }

    /// When half a sample must be given up.
    pub fn stray_deadline(&self) -> Option<Instant> {
        self.reader.as_ref().and_then(PipeReader::stray_deadline)
    }

    /// When to try again to open it.
    pub fn retry_at(&self) -> Option<Duration> {
        self.retry_at
    }

    /// Bytes of half samples that were thrown away, all in all.
    pub fn stray_bytes(&self) -> u64 {
        self.stray_bytes + self.reader.as_ref().map_or(0, PipeReader::stray_bytes)
    }

    fn open(&mut self, cx: &mut Context) -> Result<(), OpenError> {
        let reader = PipeReader::open(&self.path, self.format, Start::Discard)?;
        cx.poller
            .add(&reader, Interest::Read, self.token)
            .map_err(|source| OpenError::Io { path: self.path.clone(), source })?;
        if reader.size_refused() {
            log::debug!("'{}' keeps the size it has", self.path.display());
        }
        (self.reader, self.paused, self.budget) = (Some(reader), false, self.format.samples_in_ms(BURST_MS));
        Ok(())
    }

    /// A file is at the path, and we don't read it yet.
    fn follow(&mut self, cx: &mut Context) {
        let opened = Follower::open(&self.path, self.format).and_then(|file| {
            let watch = cx.watcher.add(&self.path, Place::Mic(self.key));
            Ok((file, watch.map_err(|source| OpenError::Io { path: self.path.clone(), source })?))
        });
        match opened {
            Ok(file) => {
                self.files.push_back(file);
                if self.files.len() > 2
                    && let Some((_, watch)) = self.files.pop_front()
                {
                    cx.watcher.remove(watch);
                }
                self.complaint.clear();
                log::debug!("'{}' is followed", self.path.display());
            }
            Err(OpenError::Missing(_)) => {}
            Err(error) => self.complaint.say(cx, format!("{error}; nobody hears what is written there")),
        }
    }

    /// Which pipe or file is open.
    fn id(&self) -> Option<PipeId> {
        self.reader.as_ref().map(PipeReader::id).or_else(|| self.files.back().map(|(file, _)| file.id()))
    }

    fn close(&mut self, cx: &mut Context) {
        self.stray_bytes = self.stray_bytes();
        (self.reader, self.paused) = (None, false);
        self.files.drain(..).for_each(|(_, watch)| cx.watcher.remove(watch));
    }

    fn warn_of_strays(&mut self, cx: &mut Context) {
        if self.stray_bytes() > 0 {
            let text =
                format!("'{}': half a sample was thrown away; write whole samples of two bytes", self.path.display());
            self.complaint.say(cx, text);
        }
    }
}

const _: () = assert!(TICK.as_millis() == 20, "the budget is counted in frames");
