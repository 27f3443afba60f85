//! Limits how fast a pipe is read. A program that writes faster finds the pipe full, and can't keep the mixer busy.

use std::time::Duration;

use palabre_room::Format;

/// Maximum average speed at which a pipe is read, as a multiple of real time.
const SPEED_MAX: u32 = 2;
/// Maximum length of sound that is read at once from a pipe, in ms: more than a pipe holds.
const BURST_MS: u64 = 1_000;

/// The number of samples that may be read from a pipe now.
#[derive(Debug)]
pub(crate) struct Budget {
    format: Format,
    samples: usize,
    updated_at: Duration,
}

impl Budget {
    /// Returns the budget of a pipe that was just opened.
    pub(crate) fn new(format: Format) -> Self {
        Self { format, samples: format.samples_in_ms(BURST_MS), updated_at: Duration::ZERO }
    }

    /// Increases the budget by [`SPEED_MAX`] times the time since the last call, up to [`BURST_MS`]. It counts time and not ticks, because
    /// a room without sound has no ticks, but its pipes are read.
    pub(crate) fn update(&mut self, now: Duration) {
        let elapsed = now.saturating_sub(self.updated_at) * SPEED_MAX;
        let more = self.format.samples_in_ms(u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX).min(BURST_MS));
        if more > 0 {
            self.samples = (self.samples + more).min(self.format.samples_in_ms(BURST_MS));
            self.updated_at = now;
        }
    }

    /// Returns the maximum number of samples to read now.
    pub(crate) fn samples(&self) -> usize {
        self.samples
    }

    /// Subtracts the samples that were read from the budget. Returns whether the budget is used up.
    pub(crate) fn spend(&mut self, samples: usize) -> bool {
        self.samples = self.samples.saturating_sub(samples);
        self.samples == 0
    }

    /// Allows a burst again, for another pipe.
    pub(crate) fn reset(&mut self) {
        self.samples = self.format.samples_in_ms(BURST_MS);
    }
}
