//! Cuts the sound of the ear into chunks, and tells when it is silent. Time is an argument: no clock, no threads here.
//!
//! A chunk is cut when its last frame has arrived, so the stream is locked to the mixer's tick and not to a timer of its
//! own. When no frame has come for 60 ms the room is silent: what was begun goes out shorter, and `silence` after it.

use palabre_room::Format;
use std::time::{Duration, Instant};

/// How long frames may stay away before that is silence: two are late and the third is missing.
pub const SILENCE_AFTER: Duration = Duration::from_millis(60);
/// How often silence is confirmed.
pub const SILENCE_EVERY: Duration = Duration::from_secs(2);
/// The most that is kept after an absence of this process.
const NEWEST_MS: u64 = 300;

/// What is to be said to the streams.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cut {
    /// A chunk; `gap`: something is missing before it, or it is the first after a silence.
    Sound {
        /// The samples.
        samples: Vec<i16>,
        /// Whether it follows on the chunk before it.
        gap: bool,
    },
    /// The room is silent.
    Silence,
}

/// The state between two frames.
#[derive(Debug)]
pub struct Chunker {
    chunk_samples: usize,
    newest_samples: usize,
    pending: Vec<i16>,
    gap: bool,
    due: Instant,
    silent: bool,
}

impl Chunker {
    /// Cuts chunks of `chunk_ms`; silent at first, which is said at once.
    pub fn new(format: Format, chunk_ms: u64, now: Instant) -> Self {
        Self {
            chunk_samples: format.samples_in_ms(chunk_ms).max(1),
            newest_samples: format.samples_in_ms(NEWEST_MS),
            pending: Vec::new(),
            gap: true,
            due: now,
            silent: true,
        }
    }

    /// Takes samples that have just arrived.
    pub fn feed(&mut self, now: Instant, samples: &[i16], out: &mut Vec<Cut>) {
        if samples.is_empty() {
            return;
        }
        let mut samples = samples;
        if samples.len() > self.newest_samples {
            samples = &samples[samples.len() - self.newest_samples..];
            self.cut(out);
            self.gap = true;
        }
        self.silent = false;
        self.due = now + SILENCE_AFTER;
        while self.pending.len() + samples.len() >= self.chunk_samples {
            let (now_complete, rest) = samples.split_at(self.chunk_samples - self.pending.len());
            self.pending.extend_from_slice(now_complete);
            self.cut(out);
            samples = rest;
        }
        self.pending.extend_from_slice(samples);
    }

    /// To be called when [`Chunker::due`] has come.
    pub fn tick(&mut self, now: Instant, out: &mut Vec<Cut>) {
        if now < self.due {
            return;
        }
        self.cut(out);
        out.push(Cut::Silence);
        self.silent = true;
        self.gap = true;
        self.due = now + SILENCE_EVERY;
    }

    /// Ends the chunk that was begun.
    pub fn cut(&mut self, out: &mut Vec<Cut>) {
        if !self.pending.is_empty() {
            let samples = std::mem::replace(&mut self.pending, Vec::with_capacity(self.chunk_samples));
            out.push(Cut::Sound { samples, gap: std::mem::take(&mut self.gap) });
        }
    }

    /// When silence must be said, if nothing comes before.
    pub fn due(&self) -> Instant {
        self.due
    }

    /// Whether the room is silent.
    pub fn is_silent(&self) -> bool {
        self.silent
    }

    /// What comes next follows on what another process has cut; silence is to be said at `due`, if nothing comes before.
    pub fn goes_on(&mut self, due: Instant) {
        self.gap = false;
        self.silent = false;
        self.due = due;
    }

    /// Silence was just said for another reason.
    pub fn silence_said(&mut self, now: Instant) {
        self.due = now + SILENCE_EVERY;
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

    /// What comes out when frames of 20 ms at 24 kHz arrive at these times, with a look at the clock at each `ticks`.
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
    fn a_chunk_is_cut_when_its_last_frame_arrives() {
        let cuts = run(40, &[10, 30, 50, 70], &[]);
        assert_eq!(cuts, [(30, sound(960, true)), (70, sound(960, false))]);
    }

    #[test]
    fn the_begun_chunk_goes_out_before_silence_and_the_next_has_a_gap() {
        let cuts = run(40, &[10, 30, 50, 200, 220], &[100, 109, 110]);
        let expected = [(30, sound(960, true)), (110, sound(480, false)), (110, Cut::Silence), (220, sound(960, true))];
        assert_eq!(cuts, expected);
    }

    #[test]
    fn silence_is_said_at_once_and_every_two_seconds() {
        let cuts = run(40, &[], &[0, 1, 1999, 2000, 2001, 4000]);
        assert_eq!(cuts, [(0, Cut::Silence), (2000, Cut::Silence), (4000, Cut::Silence)]);
    }

    #[test]
    fn after_an_absence_only_the_newest_300_ms_are_kept() {
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
