//! The mixer's counters, in the file `.mixer-counts` in the directory of the rooms.
//!
//! The mixer writes the file while sound flows, and the supervisor reads it for status and metrics.

use std::fmt::Write as _;
use std::path::Path;
use std::str::FromStr;

use crate::lines::number;
use crate::{Name, RoomError, small_file};

/// Name of the file with the mixer's counters. A name that begins with a dot is not a room.
const FILE: &str = ".mixer-counts";
/// Maximum size of the file in bytes: some thousands of participants.
const MAX_BYTES: u64 = 1 << 20;

/// Upper bounds of the lateness classes of ticks, in µs. One more class counts the later ticks.
pub const LATE_US: [u64; 7] = [250, 500, 1_000, 2_500, 5_000, 10_000, 20_000];

/// The mixer's counters since it started.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MixerReport {
    /// The parts of the mixer's sandbox that the kernel enforces. Empty in the report of an older mixer.
    pub sandbox: String,
    /// Number of ticks of 20 ms in which sound was mixed.
    pub ticks: u64,
    /// Number of ticks that were skipped because the process was not scheduled in time.
    pub skipped: u64,
    /// Number of ticks in each lateness class: one class for each upper bound in [`LATE_US`], and one for later ticks.
    pub late: [u64; LATE_US.len() + 1],
    /// Sum of the lateness of all ticks, in µs.
    pub late_us: u64,
    /// The participants' counters, sorted by room and name.
    pub participants: Vec<ParticipantCounters>,
}

/// The counters of one participant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParticipantCounters {
    /// The room.
    pub room: Name,
    /// The participant.
    pub name: Name,
    /// Number of frames that were lost because the reader of the participant's ear, or the disk of an ear that is a file, was too slow.
    pub lost_frames: u64,
    /// Number of underruns of the jitter buffer.
    pub underruns: u64,
    /// Talking time in ms since the mixer opened the participant's directory.
    pub talked_ms: u64,
}

impl MixerReport {
    /// Counts a tick that was late by `late_us`.
    pub fn count_tick(&mut self, late_us: u64) {
        let class = LATE_US.iter().position(|&bound| late_us <= bound).unwrap_or(LATE_US.len());
        self.late[class] += 1;
        self.late_us += late_us;
        self.ticks += 1;
    }

    /// Returns the report with only the first `participants` participants.
    #[must_use]
    pub fn at_most(mut self, participants: usize) -> Self {
        self.participants.truncate(participants);
        self
    }

    /// Replaces the file `.mixer-counts` in the directory `rooms`.
    ///
    /// # Errors
    /// The file can't be written.
    pub fn write(&self, rooms: &Path) -> Result<(), RoomError> {
        let late = self.late.map(|count| count.to_string()).join(" ");
        let mut text =
            format!("ticks {}\nskipped {}\nlate {late}\nlate_us {}\n", self.ticks, self.skipped, self.late_us);
        if !self.sandbox.is_empty() {
            // Writing to a string can't fail.
            let _ = writeln!(text, "sandbox {}", self.sandbox);
        }
        for ParticipantCounters { room, name, lost_frames, underruns, talked_ms } in &self.participants {
            let _ = writeln!(text, "of {room} {name} {lost_frames} {underruns} {talked_ms}");
        }
        small_file::write(&rooms.join(FILE), &text)
    }

    /// Reads the file `.mixer-counts` in the directory `rooms`, or returns `None` if there is no such file.
    ///
    /// # Errors
    /// The file can't be read, or is invalid.
    pub fn read(rooms: &Path) -> Result<Option<Self>, RoomError> {
        let path = rooms.join(FILE);
        let Some(text) = small_file::read(&path, MAX_BYTES)? else { return Ok(None) };
        text.parse().map(Some).map_err(|why: String| RoomError::content(&path, why))
    }
}

impl FromStr for MixerReport {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut report = Self::default();
        for line in text.lines() {
            let fields: Vec<&str> = line.split(' ').collect();
            match fields[..] {
                ["sandbox", ref parts @ ..] => report.sandbox = parts.join(" "),
                ["ticks", count] => report.ticks = number(count)?,
                ["skipped", count] => report.skipped = number(count)?,
                ["late_us", sum] => report.late_us = number(sum)?,
                ["late", ref counts @ ..] if counts.len() == report.late.len() => {
                    for (late, count) in report.late.iter_mut().zip(counts) {
                        *late = number(count)?;
                    }
                }
                ["of", room, name, lost, underruns, talked] => report.participants.push(ParticipantCounters {
                    room: room.parse().map_err(|error| format!("{error}"))?,
                    name: name.parse().map_err(|error| format!("{error}"))?,
                    lost_frames: number(lost)?,
                    underruns: number(underruns)?,
                    talked_ms: number(talked)?,
                }),
                _ => return Err(format!("'{line}' is not a line of a mixer's report")),
            }
        }
        Ok(report)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_written_report_is_read() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(MixerReport::read(dir.path()).unwrap(), None);
        let of = |name: &str| ParticipantCounters {
            room: "main".parse().unwrap(),
            name: name.parse().unwrap(),
            lost_frames: 3,
            underruns: 1,
            talked_ms: 65_000,
        };
        let (sandbox, participants) = ("Landlock 6, seccomp".to_owned(), vec![of("alice"), of("bob")]);
        let mut report = MixerReport { sandbox, skipped: 2, participants, ..Default::default() };
        [0, 250, 251, 20_001, 1_000_000].into_iter().for_each(|late_us| report.count_tick(late_us));
        assert_eq!((report.ticks, report.late), (5, [2, 1, 0, 0, 0, 0, 0, 2]));
        report.write(dir.path()).unwrap();
        assert_eq!(MixerReport::read(dir.path()).unwrap(), Some(report));
    }

    #[test]
    fn invalid_reports_are_refused() {
        for bad in ["ticks -1", "late 1 2", "of main ../x 1 1 1", "of main alice 1 1", "hello"] {
            assert!(bad.parse::<MixerReport>().is_err(), "{bad}");
        }
    }
}
