//! Writes one participant's sound into the pipe `mic`.
//!
//! A source is a page or program that sends sound. Only one source at a time has the microphone. A newer source takes the microphone, and
//! the next call of the older source fails. Samples that the pipe doesn't accept wait in a queue for at most 300 ms, then the oldest
//! samples are dropped. So a network stall is audible as a gap and adds no lasting delay.

use crate::opus_in::{OpusError, OpusIn};
use crate::waker::Waker;
use palabre_config::control::Codec;
use palabre_host::log_limit::LastWarning;
use palabre_room::{Format, OpenError, PipeWriter, Wrote};
use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Maximum time that samples wait in the queue before they are written to the pipe. Older samples are dropped.
const MAX_WAIT: Duration = Duration::from_millis(300);
/// Interval between attempts to open a pipe that has no reader, for example while the mixer restarts.
const OPEN_INTERVAL: Duration = Duration::from_millis(100);
/// Maximum number of remembered IDs of pages that have lost the microphone.
const MAX_SUPERSEDED_PAGES: usize = 16;
/// A capture device may deliver samples faster than real time by 1 part in this number. If a source is faster, samples are dropped.
const CLOCK_TOLERANCE: u32 = 1000;

/// How a source, a page or a program, sends its sound to `/speak`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Uplink {
    /// A page, by WebSocket.
    WebSocket,
    /// A page, by consecutive POST requests.
    PageQueue,
    /// A program, by one POST request.
    Program,
}

/// Error: the source no longer has the microphone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Superseded {
    /// Another page or a program has taken the microphone.
    ByOther,
    /// The same page has connected again.
    BySamePage,
}

/// The writer of this listener's pipe `mic`, shared by all connections.
#[derive(Debug)]
pub(crate) struct MicWriter {
    path: PathBuf,
    format: Format,
    main_thread: Arc<Waker>,
    state: Mutex<State>,
    opus: Mutex<OpusIn>,
}

#[derive(Debug)]
struct State {
    /// Number of the current lease. A lease with another number has lost the microphone.
    generation: u64,
    uplink: Option<Uplink>,
    codec: Codec,
    page: Option<Box<str>>,
    superseded_pages: VecDeque<Box<str>>,
    pipe: Option<PipeWriter>,
    next_open: Instant,
    /// Frames that wait for the pipe, each with the time of its arrival.
    queue: VecDeque<(Instant, Vec<i16>)>,
    queued_samples: usize,
    /// The time at which the last received sample ends if all samples are played in real time.
    lasts_until: Instant,
    dropped_samples: u64,
    last_warning: LastWarning,
}

impl MicWriter {
    /// Creates a writer for the pipe at `path`. The pipe is opened with the first samples. `main_thread` is woken whenever a
    /// source begins or ends.
    pub(crate) fn new(path: PathBuf, format: Format, main_thread: Arc<Waker>) -> Arc<Self> {
        let now = Instant::now();
        let state = State {
            generation: 0,
            uplink: None,
            codec: Codec::Pcm,
            page: None,
            superseded_pages: VecDeque::new(),
            pipe: None,
            next_open: now,
            queue: VecDeque::new(),
            queued_samples: 0,
            lasts_until: now,
            dropped_samples: 0,
            last_warning: LastWarning::default(),
        };
        let opus = Mutex::new(OpusIn::new(format.rate.hz()));
        Arc::new(Self { path, format, main_thread, state: Mutex::new(state), opus })
    }

    /// Takes the microphone from any older source. Fails if `page` has lost the microphone to a newer source before. Otherwise two pages
    /// that reconnect automatically would take the microphone from each other forever.
    pub(crate) fn acquire(self: &Arc<Self>, uplink: Uplink, page: Option<&str>) -> Result<Arc<MicLease>, Superseded> {
        let mut state = self.lock();
        if page.is_some_and(|page| state.superseded_pages.iter().any(|old| **old == *page)) {
            return Err(Superseded::ByOther);
        }
        let same_page = page.is_some() && state.page.as_deref() == page;
        if !same_page && let Some(old) = state.page.take() {
            state.superseded_pages.push_back(old);
            if state.superseded_pages.len() > MAX_SUPERSEDED_PAGES {
                state.superseded_pages.pop_front();
            }
        }
        // Consecutive POST requests of one page may overlap, so they share a lease number and a queue.
        let continues = uplink == Uplink::PageQueue && state.uplink.is_none_or(|uplink| uplink == Uplink::PageQueue);
        if !(same_page && continues) {
            state.generation += 1;
            state.clear_queue();
        }
        state.uplink = Some(uplink);
        state.page = page.map(Into::into);
        let generation = state.generation;
        drop(state);
        self.main_thread.wake();
        Ok(Arc::new(MicLease { mic: Arc::clone(self), generation, page: page.map(Into::into) }))
    }

    /// Returns the way in which the current source sends its sound, or `None` if no source has the microphone.
    pub(crate) fn uplink(&self) -> Option<Uplink> {
        self.lock().uplink
    }

    /// Returns the codec of the current source, or `None` if no source has the microphone.
    pub(crate) fn codec(&self) -> Option<Codec> {
        let state = self.lock();
        state.uplink.map(|_| state.codec)
    }

    /// Returns the format of the pipe.
    pub(crate) fn format(&self) -> Format {
        self.format
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn duration(&self, samples: usize) -> Duration {
        Duration::from_micros(samples as u64 * 1_000_000 / u64::from(self.format.rate.hz()))
    }

    /// Returns the number of oldest samples to drop, of the `samples` that arrive now, so that no sample waits longer than [`MAX_WAIT`].
    fn excess(&self, state: &mut State, now: Instant, samples: usize) -> usize {
        let start = state.lasts_until.max(now);
        let available = MAX_WAIT.saturating_sub(start - now);
        let fits = (available.as_micros() as u64 * u64::from(self.format.rate.hz()) / 1_000_000) as usize;
        let kept = samples.min(fits);
        let duration = self.duration(kept);
        state.lasts_until = start + duration - duration / CLOCK_TOLERANCE;
        samples - kept
    }

    fn write_queue(&self, state: &mut State, now: Instant) {
        state.drop_expired(now);
        if state.queue.is_empty() || !self.open_pipe(state, now) {
            return;
        }
        while let (Some((_, frame)), Some(pipe)) = (state.queue.front(), &mut state.pipe) {
            match pipe.write(frame) {
                Wrote::Whole => _ = state.pop(),
                Wrote::Slow => return,
                Wrote::Gone => {
                    state.pipe = None;
                    state.next_open = now + OPEN_INTERVAL;
                }
            }
        }
    }

    /// Opens the pipe if necessary and possible. Returns whether the pipe is open.
    fn open_pipe(&self, state: &mut State, now: Instant) -> bool {
        if state.pipe.is_none() && now >= state.next_open {
            state.next_open = now + OPEN_INTERVAL;
            match PipeWriter::open(&self.path, self.format) {
                Ok(pipe) => {
                    state.pipe = Some(pipe);
                    state.last_warning.clear();
                }
                Err(error) => state.log_failure(&error),
            }
        }
        state.pipe.is_some()
    }
}

impl State {
    fn clear_queue(&mut self) {
        self.queue.clear();
        self.queued_samples = 0;
        self.lasts_until = Instant::now();
    }

    /// Removes the oldest frame from the queue. Returns the number of samples in the frame.
    fn pop(&mut self) -> usize {
        let samples = self.queue.pop_front().map_or(0, |(_, frame)| frame.len());
        self.queued_samples -= samples;
        samples
    }

    fn drop_oldest(&mut self) {
        self.dropped_samples += self.pop() as u64;
    }

    fn drop_expired(&mut self, now: Instant) {
        while self.queue.front().is_some_and(|(since, _)| now.saturating_duration_since(*since) > MAX_WAIT) {
            self.drop_oldest();
        }
    }

    fn log_failure(&mut self, error: &OpenError) {
        if let Some(error) = self.last_warning.unless_repeated(error.to_string()) {
            log::warn!(
                "{error}; this participant isn't heard until the mixer reads the pipe and the listener can open it"
            );
        }
    }
}

/// The right to write to the microphone until a newer source takes it. Dropping the last reference ends the source.
#[derive(Debug)]
pub(crate) struct MicLease {
    mic: Arc<MicWriter>,
    generation: u64,
    page: Option<Box<str>>,
}

impl MicLease {
    /// Notes the codec in which the sound arrives, for the listener's report.
    pub(crate) fn note_codec(&self, codec: Codec) {
        let Ok(mut state) = self.lock() else { return };
        if state.codec != codec {
            state.codec = codec;
            drop(state);
            self.mic.main_thread.wake();
        }
    }

    /// Writes live sound. Drops the oldest of these samples if they would have to wait longer than [`MAX_WAIT`].
    pub(crate) fn write_live(&self, now: Instant, samples: &[i16]) -> Result<(), Superseded> {
        let mut state = self.lock()?;
        let excess = self.mic.excess(&mut state, now, samples.len());
        state.dropped_samples += excess as u64;
        self.push(&mut state, now, &samples[excess..]);
        Ok(())
    }

    /// Writes samples of a recording. The client may send a recording faster than real time, but the caller must wait and call this function
    /// at the speed of playing. Therefore this function doesn't drop samples as [`Self::write_live`] does.
    pub(crate) fn write_paced(&self, now: Instant, samples: &[i16]) -> Result<(), Superseded> {
        let mut state = self.lock()?;
        self.push(&mut state, now, samples);
        Ok(())
    }

    /// Decodes the packets of a page. They continue the packets that were decoded with this lease before. Refuses packets that arrive much
    /// faster than real time.
    pub(crate) fn decode(&self, now: Instant, packets: &[&[u8]]) -> Result<Vec<i16>, OpusError> {
        self.opus().decode(now, self.generation, packets)
    }

    /// Notes that the caller has decoded this number of samples. Returns the time to wait before the caller decodes more.
    pub(crate) fn decoded(&self, now: Instant, samples: usize) -> Duration {
        self.opus().note(now, self.mic.duration(samples))
    }

    fn opus(&self) -> MutexGuard<'_, OpusIn> {
        self.mic.opus.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes samples from the queue to the pipe. Call this function regularly while no samples arrive.
    pub(crate) fn flush(&self, now: Instant) -> Result<(), Superseded> {
        let mut state = self.lock()?;
        self.mic.write_queue(&mut state, now);
        Ok(())
    }

    fn push(&self, state: &mut State, now: Instant, samples: &[i16]) {
        for frame in samples.chunks(self.mic.format.frame_samples()) {
            state.queued_samples += frame.len();
            state.queue.push_back((now, frame.to_vec()));
        }
        let max_samples = self.mic.format.samples_in_ms(MAX_WAIT.as_millis() as u64);
        self.mic.write_queue(state, now);
        while state.queued_samples > max_samples {
            state.drop_oldest();
        }
    }

    /// Locks the state, or fails if a newer lease has the microphone.
    fn lock(&self) -> Result<MutexGuard<'_, State>, Superseded> {
        let state = self.mic.lock();
        if state.generation == self.generation {
            return Ok(state);
        }
        let same_page = self.page.is_some() && state.page == self.page;
        Err(if same_page { Superseded::BySamePage } else { Superseded::ByOther })
    }
}

impl Drop for MicLease {
    fn drop(&mut self) {
        if let Ok(mut state) = self.lock() {
            state.uplink = None;
            let dropped = std::mem::take(&mut state.dropped_samples);
            if dropped > 0 {
                log::debug!("dropped {dropped} samples of the participant's sound to limit its delay");
            }
        }
        self.mic.main_thread.wake();
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use palabre_room::{PipeReader, RoomDir, Start};

    const MS: Duration = Duration::from_millis(1);

    fn mic() -> (tempfile::TempDir, Arc<MicWriter>) {
        let dir = tempfile::tempdir().unwrap();
        let alice = RoomDir::new(dir.path()).participant(&"alice".parse().unwrap());
        alice.create().unwrap();
        let main_thread = Arc::new(Waker::new().unwrap());
        let mic = MicWriter::new(alice.mic(), Format::default(), main_thread);
        (dir, mic)
    }

    fn reader(mic: &MicWriter) -> PipeReader {
        PipeReader::open(&mic.path, mic.format, Start::Discard).unwrap()
    }

    fn read(reader: &mut PipeReader) -> Vec<i16> {
        let mut out = Vec::new();
        reader.read(Instant::now(), &mut out, 1 << 20).unwrap();
        out
    }

    #[test]
    fn samples_arrive_complete_and_in_order() {
        let (_dir, mic) = mic();
        let mut reader = reader(&mic);
        let lease = mic.acquire(Uplink::WebSocket, Some("a")).unwrap();
        let samples: Vec<i16> = (0..2400).map(|i| i as i16).collect();
        lease.write_live(Instant::now(), &samples[..1000]).unwrap();
        lease.write_live(Instant::now(), &samples[1000..]).unwrap();
        assert_eq!(read(&mut reader), samples);
    }

    #[test]
    fn newest_source_holds_microphone_and_superseded_page_stays_refused() {
        let (_dir, mic) = mic();
        let a = mic.acquire(Uplink::WebSocket, Some("a")).unwrap();
        let b = mic.acquire(Uplink::WebSocket, Some("b")).unwrap();
        assert_eq!(a.flush(Instant::now()), Err(Superseded::ByOther));
        assert_eq!(mic.acquire(Uplink::PageQueue, Some("a")).unwrap_err(), Superseded::ByOther);
        assert_eq!(b.flush(Instant::now()), Ok(()));
        let program = mic.acquire(Uplink::Program, None).unwrap();
        assert_eq!(b.flush(Instant::now()), Err(Superseded::ByOther));
        let second = mic.acquire(Uplink::Program, None).unwrap();
        assert_eq!(program.flush(Instant::now()), Err(Superseded::ByOther));
        assert_eq!(mic.uplink(), Some(Uplink::Program));
        drop(second);
        assert_eq!(mic.uplink(), None);
    }

    #[test]
    fn page_that_reconnects_is_superseded_by_itself() {
        let (_dir, mic) = mic();
        let first = mic.acquire(Uplink::WebSocket, Some("a")).unwrap();
        let second = mic.acquire(Uplink::WebSocket, Some("a")).unwrap();
        assert_eq!(first.flush(Instant::now()), Err(Superseded::BySamePage));
        drop(second);
        let queue = mic.acquire(Uplink::PageQueue, Some("a")).unwrap();
        let overlapping = mic.acquire(Uplink::PageQueue, Some("a")).unwrap();
        assert_eq!((queue.flush(Instant::now()), overlapping.flush(Instant::now())), (Ok(()), Ok(())));
    }

    #[test]
    fn live_burst_is_cut_to_its_last_300_ms() {
        let (_dir, mic) = mic();
        let mut reader = reader(&mic);
        let lease = mic.acquire(Uplink::Program, None).unwrap();
        let samples: Vec<i16> = (0..24000).map(|i| i as i16).collect();
        lease.write_live(Instant::now(), &samples).unwrap();
        assert_eq!(read(&mut reader), samples[24000 - 7200..]);
    }

    #[test]
    fn last_300_ms_are_kept_while_pipe_has_no_reader() {
        let (_dir, mic) = mic();
        let lease = mic.acquire(Uplink::WebSocket, Some("a")).unwrap();
        let start = Instant::now();
        for frame in 0..50u32 {
            lease.write_live(start + MS * 20 * frame, &[frame as i16; 480]).unwrap();
        }
        let mut reader = reader(&mic);
        lease.flush(start + MS * 1100).unwrap();
        let heard = read(&mut reader);
        // The pipe had no reader until the flush at 1100 ms. Frame 40 arrived at 800 ms, so it has waited for the maximum of 300 ms.
        assert_eq!((heard.first(), heard.last(), heard.len()), (Some(&40), Some(&49), 4800));
    }

    #[test]
    fn pipe_is_reopened_after_reader_returns() {
        let (_dir, mic) = mic();
        let mut first = reader(&mic);
        let lease = mic.acquire(Uplink::WebSocket, Some("a")).unwrap();
        let start = Instant::now();
        lease.write_live(start, &[1; 480]).unwrap();
        assert_eq!(read(&mut first), [1; 480]);
        drop(first);
        lease.write_live(start + MS * 20, &[2; 480]).unwrap();
        let mut second = reader(&mic);
        lease.write_live(start + MS * 140, &[3; 480]).unwrap();
        assert_eq!(read(&mut second), [[2; 480], [3; 480]].concat());
    }
}
