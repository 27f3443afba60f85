//! What flows through a room's pipes: one line of text, and the sizes that follow from it.

use std::fmt;
use std::str::FromStr;

/// Length of a frame, the unit in which the mixer works, in ms.
pub const FRAME_MS: u64 = 20;
/// How much sound a pipe may hold, in ms: its capacity is this, rounded up to pages.
pub const PIPE_MS: u64 = 400;

/// A sample rate that a room may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Rate(u32);

/// The number or the line is not a format that a room may have.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("'{}' is not a room's format; allowed are 's16le 16000 1', 's16le 24000 1' and 's16le 48000 1'", .0.escape_default())]
pub struct FormatError(String);

impl Rate {
    /// The rates that exist, in Hz.
    pub const ALL_HZ: [u32; 3] = [16_000, 24_000, 48_000];

    /// Samples a second.
    #[must_use]
    pub fn hz(self) -> u32 {
        self.0
    }
}

impl TryFrom<u32> for Rate {
    type Error = FormatError;

    fn try_from(hz: u32) -> Result<Self, FormatError> {
        if Self::ALL_HZ.contains(&hz) { Ok(Self(hz)) } else { Err(FormatError(hz.to_string())) }
    }
}

/// A room's format: signed 16-bit little-endian samples, mono, at one of three rates. The default is 24000 Hz.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Format {
    /// The sample rate.
    pub rate: Rate,
}

impl Format {
    /// Samples of one frame of 20 ms.
    #[must_use]
    pub fn frame_samples(self) -> usize {
        self.samples_in_ms(FRAME_MS)
    }

    /// Bytes of one frame of 20 ms. Smaller than `PIPE_BUF`, so that a write of a frame is all or nothing (pipe(7)).
    #[must_use]
    pub fn frame_bytes(self) -> usize {
        self.bytes_in_ms(FRAME_MS)
    }

    /// Samples of `ms` milliseconds.
    #[must_use]
    pub fn samples_in_ms(self, ms: u64) -> usize {
        // All rates are whole numbers of samples per ms; 48 · ms fits for any ms that is a length of sound.
        (u64::from(self.rate.hz() / 1000) * ms) as usize
    }

    /// Bytes of `ms` milliseconds.
    #[must_use]
    pub fn bytes_in_ms(self, ms: u64) -> usize {
        self.samples_in_ms(ms) * 2
    }
}

// The largest frame must be atomic in a pipe: PIPE_BUF is 4096 on Linux.
const _: () = assert!(48 * FRAME_MS * 2 <= 4096);

impl Default for Format {
    fn default() -> Self {
        Self { rate: Rate(24_000) }
    }
}

impl FromStr for Format {
    type Err = FormatError;

    fn from_str(line: &str) -> Result<Self, FormatError> {
        let wrong = || FormatError(line.chars().take(64).collect());
        let mut words = line.split_ascii_whitespace();
        match (words.next(), words.next(), words.next(), words.next()) {
            (Some("s16le"), Some(hz), Some("1"), None) => {
                let hz = hz.parse::<u32>().map_err(|_| wrong())?;
                Ok(Self { rate: Rate::try_from(hz).map_err(|_| wrong())? })
            }
            _ => Err(wrong()),
        }
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "s16le {} 1", self.rate.hz())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_format_is_read_back_as_it_was_written() {
        for hz in Rate::ALL_HZ {
            let format = Format { rate: Rate::try_from(hz).unwrap() };
            assert_eq!(format.to_string().parse::<Format>().unwrap(), format);
        }
    }

    #[test]
    fn other_formats_are_refused() {
        for bad in ["", "s16le", "s16le 44100 1", "s16le 24000 2", "f32le 24000 1", "s16le 24000 1 x", "s16le -1 1"] {
            assert!(bad.parse::<Format>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_frame_of_the_default_format_has_480_samples() {
        assert_eq!((Format::default().frame_samples(), Format::default().frame_bytes()), (480, 960));
    }
}
