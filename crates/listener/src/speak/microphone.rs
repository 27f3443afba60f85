//! The one ordered writer to `mic`, and who owns it: the newest source does, the older one is told.
//!
//! What can't be written at once waits, for 300 ms at most. Live sound that would have to wait longer than that until it
//! is said is dropped, oldest first, so a stall of the network is heard as a gap and not as a delay for ever after.

use palabre_room::{Format, OpenError, PipeWriter, Wrote};
use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How long sound may wait.
const NEWEST: Duration = Duration::from_millis(300);
/// How soon to try the pipe again when nobody reads it (the mixer is being restarted).
const RETRY: Duration = Duration::from_millis(100);
/// How many pages that have lost the microphone are remembered.
const OLD_PAGES: usize = 16;
/// A capture device may be faster than our clock by this much without being taken for a flood: 1 in 1000.
const TOLERANCE: u32 = 1000;

/// What kind of source speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A page by WebSocket.
    WebSocket,
    /// A page by POST.
    Queue,
    /// A program by POST.
    Program,
}

/// The microphone was lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lost {
    /// A newer page or a program has it.
    ToAnother,
    /// The same page has connected again.
    ToItself,
}

/// The writer of this listener.
#[derive(Debug)]
pub struct Microphone {
    path: PathBuf,
    format: Format,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    generation: u64,
    kind: Option<Kind>,
    page: Option<Box<str>>,
    old_pages: VecDeque<Box<str>>,
    writer: Option<PipeWriter>,
    retry: Instant,
    queue: VecDeque<(Instant, Vec<i16>)>,
    queued: usize,
    said_until: Instant,
    dropped: u64,
    warned: bool,
}

impl Microphone {
    /// The microphone that writes to the pipe at `path`. Nothing is opened before somebody speaks.
    pub fn new(path: PathBuf, format: Format) -> Arc<Self> {
        let now = Instant::now();
        let state = State {
            generation: 0,
            kind: None,
            page: None,
            old_pages: VecDeque::new(),
            writer: None,
            retry: now,
            queue: VecDeque::new(),
            queued: 0,
            said_until: now,
            dropped: 0,
            warned: false,
        };
        Arc::new(Self { path, format, state: Mutex::new(state) })
    }

    /// Takes the microphone for a source that has just come.
    ///
    /// # Errors
    /// [`Lost`] for a page that lost it to a newer one before.
    pub fn claim(self: &Arc<Self>, kind: Kind, page: Option<&str>) -> Result<Arc<Claim>, Lost> {
        let mut state = self.lock();
        if page.is_some_and(|page| state.old_pages.iter().any(|old| **old == *page)) {
            return Err(Lost::ToAnother);
        }
        let same_page = page.is_some() && state.page.as_deref() == page;
        if !same_page && let Some(old) = state.page.take() {
            state.old_pages.push_back(old);
            if state.old_pages.len() > OLD_PAGES {
                state.old_pages.pop_front();
            }
        }
        if !(same_page && kind == Kind::Queue && state.kind.is_none_or(|kind| kind == Kind::Queue)) {
            state.generation += 1;
            state.clear();
        }
        state.kind = Some(kind);
        state.page = page.map(Into::into);
        Ok(Arc::new(Claim { microphone: Arc::clone(self), generation: state.generation, page: page.map(Into::into) }))
    }

    /// What kind of source speaks now.
    pub fn speaking(&self) -> Option<Kind> {
        self.lock().kind
    }

    /// What flows through the pipe.
    pub fn format(&self) -> Format {
        self.format
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn duration(&self, samples: usize) -> Duration {
        Duration::from_micros(samples as u64 * 1_000_000 / u64::from(self.format.rate.hz()))
    }

    /// How many of `samples` that arrive now must go, the oldest, so that none waits longer than [`NEWEST`].
    fn excess(&self, state: &mut State, now: Instant, samples: usize) -> usize {
        let start = state.said_until.max(now);
        let room = NEWEST.saturating_sub(start - now);
        let fits = (room.as_micros() as u64 * u64::from(self.format.rate.hz()) / 1_000_000) as usize;
        let kept = samples.min(fits);
        let lasts = self.duration(kept);
        state.said_until = start + lasts - lasts / TOLERANCE;
        samples - kept
    }

    fn write_queue(&self, state: &mut State, now: Instant) {
        state.forget_the_old(now);
        if state.queue.is_empty() || !self.has_writer(state, now) {
            return;
        }
        while let (Some((_, piece)), Some(writer)) = (state.queue.front(), &mut state.writer) {
            match writer.write(piece) {
                Wrote::Whole => state.pop(),
                Wrote::Slow => return,
                Wrote::Gone => {
                    state.writer = None;
                    state.retry = now + RETRY;
                }
            }
        }
    }

    fn has_writer(&self, state: &mut State, now: Instant) -> bool {
        if state.writer.is_none() && now >= state.retry {
            state.retry = now + RETRY;
            match PipeWriter::open(&self.path, self.format) {
                Ok(writer) => {
                    state.writer = Some(writer);
                    state.warned = false;
                }
                Err(error) => state.complain(&error),
            }
        }
        state.writer.is_some()
    }
}

impl State {
    fn clear(&mut self) {
        self.queue.clear();
        self.queued = 0;
        self.said_until = Instant::now();
    }

    fn pop(&mut self) {
        if let Some((_, piece)) = self.queue.pop_front() {
            self.queued -= piece.len();
        }
    }

    fn forget_the_old(&mut self, now: Instant) {
        while self.queue.front().is_some_and(|(since, _)| now.saturating_duration_since(*since) > NEWEST) {
            let before = self.queued;
            self.pop();
            self.dropped += (before - self.queued) as u64;
        }
    }

    fn complain(&mut self, error: &OpenError) {
        if !self.warned {
            log::warn!("{error}; what is said is lost until the mixer is there");
        }
        self.warned = true;
    }
}

/// The right to speak, until a newer source takes it. Dropping it ends this source.
#[derive(Debug)]
pub struct Claim {
    microphone: Arc<Microphone>,
    generation: u64,
    page: Option<Box<str>>,
}

impl Claim {
    /// Says what is heard live: at once, without what would have to wait too long.
    ///
    /// # Errors
    /// [`Lost`] when a newer source has the microphone.
    pub fn say_live(&self, now: Instant, samples: &[i16]) -> Result<(), Lost> {
        let mut state = self.own()?;
        let excess = self.microphone.excess(&mut state, now, samples.len());
        state.dropped += excess as u64;
        self.push(&mut state, now, &samples[excess..]);
        Ok(())
    }

    /// Says what the caller has paced itself.
    ///
    /// # Errors
    /// [`Lost`] when a newer source has the microphone.
    pub fn say(&self, now: Instant, samples: &[i16]) -> Result<(), Lost> {
        let mut state = self.own()?;
        self.push(&mut state, now, samples);
        Ok(())
    }

    /// Writes what still waits; to be called now and then while nothing is said.
    ///
    /// # Errors
    /// [`Lost`] when a newer source has the microphone.
    pub fn tick(&self, now: Instant) -> Result<(), Lost> {
        let mut state = self.own()?;
        self.microphone.write_queue(&mut state, now);
        Ok(())
    }

    fn push(&self, state: &mut State, now: Instant, samples: &[i16]) {
        for piece in samples.chunks(self.microphone.format.frame_samples()) {
            state.queued += piece.len();
            state.queue.push_back((now, piece.to_vec()));
        }
        let most = self.microphone.format.samples_in_ms(NEWEST.as_millis() as u64);
        self.microphone.write_queue(state, now);
        while state.queued > most {
            let before = state.queued;
            state.pop();
            state.dropped += (before - state.queued) as u64;
        }
    }

    fn own(&self) -> Result<MutexGuard<'_, State>, Lost> {
        let state = self.microphone.lock();
        if state.generation == self.generation {
            return Ok(state);
        }
        let to_itself = self.page.is_some() && state.page == self.page;
        Err(if to_itself { Lost::ToItself } else { Lost::ToAnother })
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        let mut state = self.microphone.lock();
        if state.generation == self.generation {
            state.kind = None;
            let dropped = std::mem::take(&mut state.dropped);
            if dropped > 0 {
                log::debug!("{dropped} samples were dropped because they came too late");
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use palabre_room::{PipeReader, RoomDir, Start};

    const MS: Duration = Duration::from_millis(1);

    fn microphone() -> (tempfile::TempDir, Arc<Microphone>) {
        let dir = tempfile::tempdir().unwrap();
        let alice = RoomDir::new(dir.path()).participant(&"alice".parse().unwrap());
        alice.create().unwrap();
        let microphone = Microphone::new(alice.mic(), Format::default());
        (dir, microphone)
    }

    fn reader(microphone: &Microphone) -> PipeReader {
        PipeReader::open(&microphone.path, microphone.format, Start::Discard).unwrap()
    }

    fn read(reader: &mut PipeReader) -> Vec<i16> {
        let mut out = Vec::new();
        reader.read(Instant::now(), &mut out, 1 << 20).unwrap();
        out
    }

    #[test]
    fn what_is_said_arrives_whole_and_in_order() {
        let (_dir, microphone) = microphone();
        let mut reader = reader(&microphone);
        let claim = microphone.claim(Kind::WebSocket, Some("a")).unwrap();
        let samples: Vec<i16> = (0..2400).map(|i| i as i16).collect();
        claim.say_live(Instant::now(), &samples[..1000]).unwrap();
        claim.say_live(Instant::now(), &samples[1000..]).unwrap();
        assert_eq!(read(&mut reader), samples);
    }

    #[test]
    fn the_newest_source_has_the_microphone_and_an_older_page_stays_told() {
        let (_dir, microphone) = microphone();
        let a = microphone.claim(Kind::WebSocket, Some("a")).unwrap();
        let b = microphone.claim(Kind::WebSocket, Some("b")).unwrap();
        assert_eq!(a.tick(Instant::now()), Err(Lost::ToAnother));
        assert_eq!(microphone.claim(Kind::Queue, Some("a")).unwrap_err(), Lost::ToAnother);
        assert_eq!(b.tick(Instant::now()), Ok(()));
        let program = microphone.claim(Kind::Program, None).unwrap();
        assert_eq!(b.tick(Instant::now()), Err(Lost::ToAnother));
        let second = microphone.claim(Kind::Program, None).unwrap();
        assert_eq!(program.tick(Instant::now()), Err(Lost::ToAnother));
        assert_eq!(microphone.speaking(), Some(Kind::Program));
        drop(second);
        assert_eq!(microphone.speaking(), None);
    }

    #[test]
    fn a_page_that_connects_again_is_no_stranger_to_itself() {
        let (_dir, microphone) = microphone();
        let first = microphone.claim(Kind::WebSocket, Some("a")).unwrap();
        let second = microphone.claim(Kind::WebSocket, Some("a")).unwrap();
        assert_eq!(first.tick(Instant::now()), Err(Lost::ToItself));
        drop(second);
        let queue = microphone.claim(Kind::Queue, Some("a")).unwrap();
        let overlapping = microphone.claim(Kind::Queue, Some("a")).unwrap();
        assert_eq!((queue.tick(Instant::now()), overlapping.tick(Instant::now())), (Ok(()), Ok(())));
    }

    #[test]
    fn a_flood_of_live_sound_is_cut_to_300_ms_and_keeps_its_end() {
        let (_dir, microphone) = microphone();
        let mut reader = reader(&microphone);
        let claim = microphone.claim(Kind::Program, None).unwrap();
        let samples: Vec<i16> = (0..24000).map(|i| i as i16).collect();
        claim.say_live(Instant::now(), &samples).unwrap();
        assert_eq!(read(&mut reader), samples[24000 - 7200..]);
    }

    #[test]
    fn while_nobody_reads_the_newest_300_ms_wait() {
        let (_dir, microphone) = microphone();
        let claim = microphone.claim(Kind::WebSocket, Some("a")).unwrap();
        let start = Instant::now();
        for frame in 0..50u32 {
            claim.say_live(start + MS * 20 * frame, &[frame as i16; 480]).unwrap();
        }
        let mut reader = reader(&microphone);
        claim.tick(start + MS * 1100).unwrap();
        let heard = read(&mut reader);
        // Frame 49 came at 980; 300 ms before 1100 the one of 800 is the oldest.
        assert_eq!((heard.first(), heard.last(), heard.len()), (Some(&40), Some(&49), 4800));
    }

    #[test]
    fn a_mixer_that_is_restarted_is_found_again() {
        let (_dir, microphone) = microphone();
        let mut first = reader(&microphone);
        let claim = microphone.claim(Kind::WebSocket, Some("a")).unwrap();
        let start = Instant::now();
        claim.say_live(start, &[1; 480]).unwrap();
        assert_eq!(read(&mut first), [1; 480]);
        drop(first);
        claim.say_live(start + MS * 20, &[2; 480]).unwrap();
        let mut second = reader(&microphone);
        claim.say_live(start + MS * 140, &[3; 480]).unwrap();
        assert_eq!(read(&mut second), [[2; 480], [3; 480]].concat());
    }
}
