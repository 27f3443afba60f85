//! A participant's microphone: the reading end of a pipe, kept open as long as the pipe is there.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use palabre_room::{Format, OpenError, PipeReader, Start, pipe_id};

use crate::clock::TICK;
use crate::context::{Complaint, Context};
use crate::poller::{Interest, Key, Token};

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
    token: Token,
    reader: Option<PipeReader>,
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
        let (token, complaint) = (Token::Mic(key), Complaint::default());
        Self { path, format, token, reader: None, retry_at: None, complaint, budget, paused: false, stray_bytes: 0 }
    }

    /// Brings what is open in line with what is at the path now.
    pub fn refresh(&mut self, cx: &mut Context) {
        self.retry_at = None;
        let at_path = pipe_id(&self.path).ok();
        if self.reader.is_some() && self.reader.as_ref().map(PipeReader::id) == at_path {
            return;
        }
        self.close();
        if at_path.is_none() {
            self.complaint.clear();
            return;
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

    /// Appends what is in the pipe, within this tick's budget.
    pub fn drain(&mut self, cx: &mut Context, out: &mut Vec<i16>) {
        let Some(reader) = &mut self.reader else { return };
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
                self.close();
            }
        }
    }

    /// A tick has passed: so much more may be read.
    pub fn refill(&mut self, cx: &Context) {
        let per_tick = self.format.frame_samples() * SPEED_MAX as usize;
        self.budget = (self.budget + per_tick).min(self.format.samples_in_ms(BURST_MS));
        if !self.paused {
            return;
        }
        if let Some(reader) = &self.reader {
            self.paused = cx.poller.change(reader, Interest::Read, self.token).is_err();
        }
    }

    /// Whether this microphone needs ticks to be read on.
    pub fn is_paused(&self) -> bool {
        self.paused
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

    fn close(&mut self) {
        self.stray_bytes = self.stray_bytes();
        (self.reader, self.paused) = (None, false);
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
