//! Cuts the sound from the pipe `ear` into chunks and detects silence. The functions take the current time as an argument.
//!
//! A chunk is complete when its last frame has arrived, so the mixer's ticks give the times of the chunks, and no timer is needed. If
//! no frame has arrived for 60 ms, the room is silent: the incomplete chunk is sent, then [`Cut::Silence`].

use palabre_room::Format;
use std::time::{Duration, Instant};

/// Time without a frame after which the room counts as silent. This is the duration of three frames.
pub(crate) const SILENCE_AFTER: Duration = Duration::from_millis(60);
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
    max_feed_samples: usize,
    pending: Vec<i16>,
    gap: bool,
    due: Instant,
    silent: bool,
}

impl Chunker {
    /// Creates a chunker for chunks of `chunk_ms`. The room counts as silent at first, and the first [`Cut::Silence`] is due at once.
    pub(crate) fn new(format: Format, chunk_ms: u64, now: Instant) -> Self {
        Self {
            chunk_samples: format.samples_in_ms(chunk_ms).max(1),
            max_feed_samples: format.samples_in_ms(MAX_FEED_MS),
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
        self.silent = false;
        self.due = now + SILENCE_AFTER;
        while self.pending.len() + samples.len() >= self.chunk_samples {
            let (end_of_chunk, rest) = samples.split_at(self.chunk_samples - self.pending.len());
            self.pending.extend_from_slice(end_of_chunk);
            self.cut(out);
            samples = rest;
        }
        self.pending.extend_from_slice(samples);
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
            let samples = std::mem::replace(&mut self.pending, Vec::with_capacity(self.chunk_samples));
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

    /// Notes that the next chunk continues the last chunk of the previous process without a gap. Silence is due at `due`.
    pub(crate) fn continue_from_previous(&mut self, due: Instant) {
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
        let mut chunker = Chunker::new(Format::default(), chunk_ms, start);
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
        let mut chunker = Chunker::new(Format::default(), 100, start);
        let mut out = Vec::new();
        chunker.feed(start, &[0; 480], &mut out);
        let long: Vec<i16> = (0..9600).map(|i| i as i16).collect();
        chunker.feed(start, &long, &mut out);
        assert_eq!(out.len(), 4);
        assert_eq!(out[0], Cut::Sound { samples: vec![0; 480], gap: true });
        assert_eq!(out[1], Cut::Sound { samples: long[2400..4800].to_vec(), gap: true });
        assert_eq!(out[2], Cut::Sound { samples: long[4800..7200].to_vec(), gap: false });
    }
}
