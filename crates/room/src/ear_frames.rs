//! The number of frames that the reader of an `ear` wants in each write.

use std::fmt;
use std::str::FromStr;

use crate::{FRAME_MS, PIPE_MS};

/// Content of the file `ear-frames`: number of frames of 20 ms in each write of the mixer into the `ear`. The default is 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EarFrames(u64);

/// Error: the text is not a valid number of frames.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("'{}' is not a number of frames per write; allowed are 1 to {MAX}", .0.escape_default())]
pub struct EarFramesError(String);

/// Maximum number of frames in a write: a second, the longest chunk of a stream.
const MAX: u64 = 1000 / FRAME_MS;

impl EarFrames {
    /// Returns the largest number of frames per write with which a chunk of `chunk_ms` consists of whole writes.
    #[must_use]
    pub fn of_chunk(chunk_ms: u64) -> Self {
        let frames = (chunk_ms / FRAME_MS).max(1);
        Self((1..=MAX).rev().find(|count| frames.is_multiple_of(*count)).unwrap_or(1))
    }

    /// Returns the largest divisor of this number of frames with which two writes fit into a pipe that holds `pipe_ms` of sound; at least 1.
    #[must_use]
    pub fn within(self, pipe_ms: u64) -> Self {
        let max = self.0.min(pipe_ms / FRAME_MS / 2);
        Self((1..=max).rev().find(|count| self.0.is_multiple_of(*count)).unwrap_or(1))
    }

    /// Returns the duration in ms of the sound that the pipe must hold: two writes, and at least [`PIPE_MS`].
    #[must_use]
    pub fn pipe_ms(self) -> u64 {
        PIPE_MS.max(2 * FRAME_MS * self.0)
    }

    /// Returns the number of frames.
    #[must_use]
    pub fn count(self) -> u64 {
        self.0
    }
}

impl Default for EarFrames {
    fn default() -> Self {
        Self(1)
    }
}

impl FromStr for EarFrames {
    type Err = EarFramesError;

    fn from_str(text: &str) -> Result<Self, EarFramesError> {
        let count = text.trim().parse().ok().filter(|count| (1..=MAX).contains(count));
        count.map(Self).ok_or_else(|| EarFramesError(text.chars().take(64).collect()))
    }
}

impl fmt::Display for EarFrames {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_writes_make_a_chunk() {
        let frames = |chunk_ms| EarFrames::of_chunk(chunk_ms).count();
        assert_eq!([20, 40, 100, 200, 240, 1000].map(frames), [1, 2, 5, 10, 12, 50]);
        assert_eq!([220, 1].map(frames), [11, 1]);
    }

    #[test]
    fn two_writes_fit_into_the_pipe() {
        let frames = |chunk_ms| EarFrames::of_chunk(chunk_ms).within(PIPE_MS).count();
        assert_eq!([20, 40, 200, 220, 240, 1000].map(frames), [1, 2, 10, 1, 6, 10]);
        assert_eq!(EarFrames::of_chunk(1000).within(10).count(), 1);
        assert_eq!([40, 200, 1000].map(|chunk_ms| EarFrames::of_chunk(chunk_ms).pipe_ms()), [400, 400, 2000]);
    }

    #[test]
    fn only_numbers_from_1_to_50_are_parsed() {
        for frames in [EarFrames::default(), EarFrames::of_chunk(1000)] {
            assert_eq!(format!("{frames}\n").parse(), Ok(frames));
        }
        for wrong in ["0", "51", "-1", "two", ""] {
            assert!(wrong.parse::<EarFrames>().is_err(), "{wrong}");
        }
    }
}
