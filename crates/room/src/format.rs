//! The format of a room's samples, and sizes that depend on it.

use std::fmt;
use std::str::FromStr;

/// Length of a frame, the unit of the mixer's work, in ms.
pub const FRAME_MS: u64 = 20;
/// Length of the sound that a pipe holds by default, in ms, before rounding up to pages.
pub const PIPE_MS: u64 = 400;

/// A valid sample rate of a room.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Rate(u32);

/// Error: the number or line is not a valid format of a room.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("'{}' is not a room's format; allowed are 's16le 16000 1', 's16le 24000 1' and 's16le 48000 1'", .0.escape_default())]
pub struct FormatError(String);

impl Rate {
    /// The valid rates, in Hz.
    const ALL_HZ: [u32; 3] = [16_000, 24_000, 48_000];

    /// Returns the rate in Hz.
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

/// A room's format: signed 16-bit little-endian mono samples at one of three rates. The default is 24000 Hz.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Format {
    /// The sample rate.
    pub rate: Rate,
}

impl Format {
    /// Returns the number of samples in a frame of 20 ms.
    #[must_use]
    pub fn frame_samples(self) -> usize {
        self.samples_in_ms(FRAME_MS)
    }

    /// Returns the size of a frame of 20 ms in bytes. The size is less than `PIPE_BUF`, so that a frame is written
    /// atomically (pipe(7)).
    pub(crate) fn frame_bytes(self) -> usize {
        self.bytes_in_ms(FRAME_MS)
    }

    /// Returns the number of samples in `ms` milliseconds of sound.
    #[must_use]
    pub fn samples_in_ms(self, ms: u64) -> usize {
        // All rates are multiples of 1000 Hz, and 48 · ms fits for any length of sound.
        (u64::from(self.rate.hz() / 1000) * ms) as usize
    }

    /// Returns the size in bytes of `ms` milliseconds of a sum of 32 bits per sample.
    pub(crate) fn sum_bytes_in_ms(self, ms: u64) -> usize {
        self.samples_in_ms(ms) * 4
    }

    /// Returns the size of `ms` milliseconds of sound in bytes.
    #[must_use]
    pub fn bytes_in_ms(self, ms: u64) -> usize {
        self.samples_in_ms(ms) * 2
    }
}

// The largest frame of a sum must be at most PIPE_BUF, which is 4096 on Linux.
const _: () = assert!(48 * FRAME_MS * 4 <= 4096);

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
    fn a_written_format_is_parsed() {
        for hz in Rate::ALL_HZ {
            let format = Format { rate: Rate::try_from(hz).unwrap() };
            assert_eq!(format.to_string().parse::<Format>().unwrap(), format);
        }
    }

    #[test]
    fn invalid_formats_are_refused() {
        for bad in ["", "s16le", "s16le 44100 1", "s16le 24000 2", "f32le 24000 1", "s16le 24000 1 x", "s16le -1 1"] {
            assert!(bad.parse::<Format>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn the_default_frame_has_480_samples() {
        assert_eq!((Format::default().frame_samples(), Format::default().frame_bytes()), (480, 960));
    }
}
