//! Cuts the sound from the pipe `ear` into chunks and detects silence. The functions take the current time as an argument.
//!
//! A chunk is complete when its last frame has arrived, so the mixer's writes give the times of the chunks, and no timer is needed. The
//! first write after a silence can have fewer frames than the following ones, and is then a chunk of its own. If a write is more than 40 ms
//! late, the room is silent: the incomplete chunk is sent, then [`Cut::Silence`].

use crate::spare;
use palabre_room::{EarFrames, FRAME_MS, Format};
use std::time::{Duration, Instant};

/// Lateness of a write after which the room counts as silent.
const LATE: Duration = Duration::from_millis(40);
/// Time without a frame after which the room counts as silent, if the mixer writes single frames.
const SILENCE_AFTER: Duration = LATE.saturating_add(Duration::from_millis(FRAME_MS));
/// If short writes outnumber whole writes by this number, the chunker assumes that the mixer writes single frames, as older mixers do. The first
/// write after a silence isn't counted.
const SHORT_WRITES: u8 = 4;
/// Interval between silence records.
const SILENCE_INTERVAL: Duration = Duration::from_secs(2);
/// Maximum length in ms of the samples that [`Chunker::feed`] keeps. More arrive only if this process was not scheduled for some time.
const MAX_FEED_MS: u64 = 300;

/// The content of a sound or silence record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Cut {
    /// A chunk. `gap`: samples are missing before this chunk, or this chunk is the first after a silence.
    Sound {
        samples: Vec<i16>,
        gap: bool,
    },
    Silence,
}

/// The samples of the incomplete chunk, and the time when the next silence record is due.
#[derive(Debug)]
pub(crate) struct Chunker {
    chunk_samples: usize,
    /// Number of samples in a whole write, as requested from the mixer.
    write_samples: usize,
    frame_samples: usize,
    /// Duration of the sound in a whole write.
    write_time: Duration,
    /// Number of short writes minus number of whole writes, limited to the range from 0 to 2 · [`SHORT_WRITES`].
    short_writes: u8,
    /// Whether the last write was whole.
    was_whole: bool,
    max_feed_samples: usize,
    pending: Vec<i16>,
    gap: bool,
    due: Instant,
    silent: bool,
}

impl Chunker {
    /// Creates a chunker for chunks of `chunk_ms`. `writes` is the number of frames that the mixer was asked to write at once. The room counts
    /// as silent at first, and the first [`Cut::Silence`] is due at once.
    pub(crate) fn new(format: Format, chunk_ms: u64, writes: EarFrames, now: Instant) -> Self {
        let write_ms = writes.count() * FRAME_MS;
        Self {
            chunk_samples: format.samples_in_ms(chunk_ms).max(1),
            write_samples: format.samples_in_ms(write_ms),
            frame_samples: format.frame_samples(),
            write_time: Duration::from_millis(write_ms),
            short_writes: 0,
            was_whole: false,
            // If this process was not scheduled for the time of one write, two writes arrive at once.
            max_feed_samples: format.samples_in_ms(MAX_FEED_MS.max(2 * write_ms)),
            pending: Vec::new(),
            gap: true,
            due: now,
            silent: true,
        }
    }

    /// Adds samples that have just arrived. Appends the complete chunks to `out`.
    pub(crate) fn feed(&mut self, now: Instant, samples: &[i16], out: &mut Vec<Cut>) {
        if samples.is_empty() {
            return;
        }
        let mut samples = samples;
        if samples.len() > self.max_feed_samples {
            samples = &samples[samples.len() - self.max_feed_samples..];
            self.cut(out);
            self.gap = true;
        }
        self.due = now + self.patience(samples.len());
        self.silent = false;
        while self.pending.len() + samples.len() >= self.chunk_samples {
            let (end_of_chunk, rest) = samples.split_at(self.chunk_samples - self.pending.len());
            self.pending.extend_from_slice(end_of_chunk);
            self.cut(out);
            samples = rest;
        }
        self.pending.extend_from_slice(samples);
        if !self.writes_single_frames() && !self.has_room() {
            self.cut(out);
        }
    }

    fn writes_single_frames(&self) -> bool {
        self.write_samples == self.frame_samples || self.short_writes >= SHORT_WRITES
    }

    /// Returns whether another write fits into the incomplete chunk.
    fn has_room(&self) -> bool {
        self.pending.len() + self.write_samples <= self.chunk_samples
    }

    /// Notes a write of `samples`. Returns the time after which the room counts as silent if no write follows.
    fn patience(&mut self, samples: usize) -> Duration {
        let (is_first, is_whole) = (self.silent, samples >= self.write_samples);
        let was_whole = std::mem::replace(&mut self.was_whole, is_whole);
        let is_end = !is_first && was_whole && !is_whole && self.short_writes == 0;
        self.short_writes = match is_whole {
            _ if is_first => self.short_writes,
            true => self.short_writes.saturating_sub(1),
            false => (self.short_writes + 1).min(2 * SHORT_WRITES),
        };
        match self.writes_single_frames() {
            // The mixer writes a short write after a whole one if the next tick had no frame. So the silence has already lasted for one frame.
            false if is_end => LATE,
            true => SILENCE_AFTER,
            false => self.write_time + LATE,
        }
    }

    /// Appends the incomplete chunk and [`Cut::Silence`] to `out` if silence is [due](Self::due).
    pub(crate) fn tick(&mut self, now: Instant, out: &mut Vec<Cut>) {
        if now < self.due {
            return;
        }
        self.cut(out);
        out.push(Cut::Silence);
        self.silent = true;
        self.gap = true;
        self.due = now + SILENCE_INTERVAL;
    }

    /// Appends the incomplete chunk to `out`, if it has samples.
    pub(crate) fn cut(&mut self, out: &mut Vec<Cut>) {
        if !self.pending.is_empty() {
            let samples = std::mem::replace(&mut self.pending, spare::samples(self.chunk_samples));
            out.push(Cut::Sound { samples, gap: std::mem::take(&mut self.gap) });
        }
    }

    /// Returns the time of the next [`Cut::Silence`] if no samples arrive before.
    pub(crate) fn due(&self) -> Instant {
        self.due
    }

    pub(crate) fn is_silent(&self) -> bool {
        self.silent
    }

    /// Notes that the next chunk continues the last chunk of the previous process without a gap. The next write has the usual time to arrive.
    pub(crate) fn continue_from_previous(&mut self, now: Instant) {
        self.await_previous(now + self.write_time + LATE);
    }

    /// Notes that the previous process still reads the source. The next chunk of this process continues the last chunk of the previous process.
    /// Silence is due at `due`.
    pub(crate) fn await_previous(&mut self, due: Instant) {
        self.gap = false;
        self.silent = false;
        self.due = due;
    }

    /// Notes that a silence record was sent before it was due. The next one is due after the full interval.
    pub(crate) fn silence_was_sent(&mut self, now: Instant) {
        self.due = now + SILENCE_INTERVAL;
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn sound(samples: usize, gap: bool) -> Cut {
        Cut::Sound { samples: vec![1; samples], gap }
    }

    /// Feeds frames of 20 ms at 24 kHz at the times `frames` and calls `tick` at the times `ticks`, in ms. Returns the time and content of
    /// each cut.
    fn run(chunk_ms: u64, frames: &[u32], ticks: &[u32]) -> Vec<(u32, Cut)> {
        let start = Instant::now();
        let mut chunker = Chunker::new(Format::default(), chunk_ms, EarFrames::default(), start);
        let mut times: Vec<(u32, bool)> = frames.iter().map(|&t| (t, true)).collect();
        times.extend(ticks.iter().map(|&t| (t, false)));
        times.sort_unstable();
        let mut all = Vec::new();
        for (time, is_frame) in times {
            let mut out = Vec::new();
            match is_frame {
                true => chunker.feed(start + MS * time, &[1; 480], &mut out),
                false => chunker.tick(start + MS * time, &mut out),
            }
            all.extend(out.into_iter().map(|cut| (time, cut)));
        }
        all
    }

    #[test]
    fn chunk_is_cut_when_its_last_frame_arrives() {
        let cuts = run(40, &[10, 30, 50, 70], &[]);
        assert_eq!(cuts, [(30, sound(960, true)), (70, sound(960, false))]);
    }

    #[test]
    fn sound_of_the_next_process_is_no_silence_until_a_whole_write_is_late() {
        let (start, mut out) = (Instant::now(), Vec::new());
        let mut chunker = Chunker::new(Format::default(), 200, EarFrames::of_chunk(200), start);
        chunker.continue_from_previous(start);
        chunker.tick(start + MS * 239, &mut out);
        chunker.feed(start + MS * 239, &[1; 4800], &mut out);
        assert_eq!(out, [sound(4800, false)]);
        chunker.tick(start + MS * 479, &mut out);
        assert_eq!(out[1..], [Cut::Silence]);
    }

    #[test]
    fn begun_chunk_is_cut_before_silence_and_the_next_has_a_gap() {
        let cuts = run(40, &[10, 30, 50, 200, 220], &[100, 109, 110]);
        let expected = [(30, sound(960, true)), (110, sound(480, false)), (110, Cut::Silence), (220, sound(960, true))];
        assert_eq!(cuts, expected);
    }

    #[test]
    fn silence_is_due_at_once_and_every_two_seconds() {
        let cuts = run(40, &[], &[0, 1, 1999, 2000, 2001, 4000]);
        assert_eq!(cuts, [(0, Cut::Silence), (2000, Cut::Silence), (4000, Cut::Silence)]);
    }

    #[test]
    fn only_the_newest_300_ms_are_kept_after_a_stall() {
        let start = Instant::now();
        let mut chunker = Chunker::new(Format::default(), 100, EarFrames::default(), start);
        let mut out = Vec::new();
        chunker.feed(start, &[0; 480], &mut out);
        let long: Vec<i16> = (0..9600).map(|i| i as i16).collect();
        chunker.feed(start, &long, &mut out);
        assert_eq!(out.len(), 4);
        assert_eq!(out[0], Cut::Sound { samples: vec![0; 480], gap: true });
        assert_eq!(out[1], Cut::Sound { samples: long[2400..4800].to_vec(), gap: true });
        assert_eq!(out[2], Cut::Sound { samples: long[4800..7200].to_vec(), gap: false });
    }

    /// Feeds writes of these numbers of frames at these times in ms, and calls `tick` every 10 ms. Returns the time of each cut, and its
    /// number of frames: 0 for silence.
    fn run_writes(chunk_ms: u64, writes: &[(u32, usize)]) -> Vec<(u32, usize)> {
        let start = Instant::now();
        let writes_of_mixer = EarFrames::of_chunk(chunk_ms).within(palabre_room::PIPE_MS);
        let mut chunker = Chunker::new(Format::default(), chunk_ms, writes_of_mixer, start);
        chunker.silence_was_sent(start);
        let mut cuts = Vec::new();
        for time in (0..1500).step_by(10) {
            let mut out = Vec::new();
            let now = start + MS * time;
            for (_, frames) in writes.iter().filter(|(at, _)| *at == time) {
                chunker.feed(now, &vec![1; 480 * frames], &mut out);
            }
            chunker.tick(now, &mut out);
            cuts.extend(out.into_iter().map(|cut| match cut {
                Cut::Sound { samples, .. } => (time, samples.len() / 480),
                Cut::Silence => (time, 0),
            }));
        }
        cuts
    }

    #[test]
    fn each_write_is_a_chunk_even_if_the_first_one_is_short() {
        let expected = [(20, 1), (60, 2), (100, 2), (120, 1), (160, 0)];
        assert_eq!(run_writes(40, &[(20, 1), (60, 2), (100, 2), (120, 1)]), expected);
        assert_eq!(run_writes(40, &[(20, 2), (60, 2)]), [(20, 2), (60, 2), (140, 0)]);
        // A write that came late is read together with the next write: 8 frames at once.
        assert_eq!(run_writes(100, &[(20, 8), (120, 5)]), [(20, 5), (20, 3), (120, 5), (260, 0)]);
    }

    #[test]
    fn chunk_longer_than_a_write_contains_several_writes() {
        let mut writes: Vec<(u32, usize)> = (0..6).map(|write| (60 + 200 * write, 10)).collect();
        writes[0].1 = 3;
        assert_eq!(run_writes(1000, &writes), [(860, 43), (1300, 10), (1300, 0)]);
    }

    #[test]
    fn single_frames_are_joined_into_whole_chunks_after_four_short_writes() {
        let writes: Vec<(u32, usize)> = (1..9).map(|frame| (20 * frame, 1)).collect();
        let expected = [(20, 1), (40, 1), (60, 1), (80, 1), (120, 2), (160, 2), (220, 0)];
        assert_eq!(run_writes(40, &writes)[..7], expected);
        // After a silence, the chunker still assumes single frames, and joins them from the first one on.
        let again: Vec<(u32, usize)> = (1..5).map(|frame| (500 + 20 * frame, 1)).collect();
        assert_eq!(run_writes(40, &[writes, again].concat())[7..], [(540, 2), (580, 2), (640, 0)]);
    }

    #[test]
    fn pause_of_one_frame_between_writes_is_no_silence() {
        assert_eq!(run_writes(40, &[(20, 2), (40, 1), (60, 1), (100, 2)])[..4], [(20, 2), (40, 1), (60, 1), (100, 2)]);
    }
}
