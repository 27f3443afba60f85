//! The file `ear-end` of a participant: the last samples that a listener process has read from the pipe `ear` before the next process takes over. An encoder of the
//! next process needs them, because the output of a decoder depends on earlier sound.

use crate::small_file::{read_bytes, write_bytes, write_or_remove};
use crate::{ParticipantDir, RoomError};

/// Length of the field `at_ms` at the beginning of the file, in bytes.
const TIME_BYTES: usize = 8;
/// Maximum length of the file, in bytes: 1 s at 48 kHz.
const MAX_BYTES: usize = TIME_BYTES + 2 * 48_000;

/// The last samples that a listener process has read from the `ear`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EarEnd {
    /// When the process stopped reading: CLOCK_BOOTTIME in milliseconds.
    pub at_ms: u64,
    /// The samples, oldest first.
    pub samples: Vec<i16>,
}

impl ParticipantDir {
    /// Writes the file `ear-end`.
    ///
    /// # Errors
    /// The file can't be written.
    pub fn write_ear_end(&self, end: &EarEnd) -> Result<(), RoomError> {
        let mut bytes = end.at_ms.to_le_bytes().to_vec();
        bytes.extend(end.samples.iter().flat_map(|sample| sample.to_le_bytes()));
        write_bytes(&self.path().join("ear-end"), &bytes)
    }

    /// Reads and removes the file `ear-end`. Returns `None` if there is no such file.
    ///
    /// # Errors
    /// The file can't be read or removed, or is invalid.
    pub fn take_ear_end(&self) -> Result<Option<EarEnd>, RoomError> {
        let path = self.path().join("ear-end");
        let Some(bytes) = read_bytes(&path, MAX_BYTES as u64)? else { return Ok(None) };
        write_or_remove(&path, None)?;
        let Some((time, samples)) = bytes.split_first_chunk::<TIME_BYTES>() else {
            return Err(RoomError::content(
                &path,
                "the file with the last samples of the previous process is too short: it must begin with a time of 8 bytes",
            ));
        };
        let samples = samples.chunks_exact(2).map(|pair| i16::from_le_bytes([pair[0], pair[1]])).collect();
        Ok(Some(EarEnd { at_ms: u64::from_le_bytes(*time), samples }))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::{Format, RoomDir};

    #[test]
    fn samples_are_read_once_and_an_invalid_file_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let room = RoomDir::new(dir.path().join("main"));
        room.create(Format::default()).unwrap();
        let alice = room.participant(&"alice".parse().unwrap());
        alice.create().unwrap();
        assert_eq!(alice.take_ear_end().unwrap(), None);
        let end = EarEnd { at_ms: 1_700_000_000_123, samples: vec![1, -2, i16::MIN] };
        alice.write_ear_end(&end).unwrap();
        assert_eq!(alice.take_ear_end().unwrap(), Some(end));
        assert_eq!(alice.take_ear_end().unwrap(), None);
        for invalid in [vec![0; 7], vec![0; MAX_BYTES + 1]] {
            std::fs::write(alice.path().join("ear-end"), invalid).unwrap();
            assert!(alice.take_ear_end().is_err());
        }
    }
}
