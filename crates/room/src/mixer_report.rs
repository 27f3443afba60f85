//! The file `.mixer-counts` beside the rooms: what the mixer counts, for those who watch over it.
//!
//! Written by the mixer every few seconds while sound flows, read by the supervisor when somebody asks. No decision about
//! sound hangs on it. A name that begins with a dot is no room's.
//!
//! ```text
//! ticks 90000
//! skipped 0
//! late 41000 48000 900 90 10 0 0 0        how many ticks were late by up to 0.25, 0.5, 1, 2.5, 5, 10, 20 ms, and more
//! late_us 12345678                        all lateness together
//! of main alice 3 1 65000                 frames that their ear has lost, how often their voice ran dry, ms of talk
//! ```

use std::fmt::Write as _;
use std::path::Path;
use std::str::FromStr;

use crate::dir::{read_small, write_whole};
use crate::{Name, RoomError};

/// The file's name, in the directory of the rooms.
const FILE: &str = ".mixer-counts";
/// Some thousands of participants.
const MAX_BYTES: u64 = 1 << 20;

/// Upper bounds of lateness, in µs; what is later has a place of its own.
pub const LATE_US: [u64; 7] = [250, 500, 1_000, 2_500, 5_000, 10_000, 20_000];

/// What the mixer has counted since it began.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MixerReport {
    /// Ticks of 20 ms at which something was mixed.
    pub ticks: u64,
    /// Ticks that were left out because the process was kept from running.
    pub skipped: u64,
    /// How many ticks were so late: up to each of [`LATE_US`], and later.
    pub late: [u64; LATE_US.len() + 1],
    /// The lateness of all of them, in µs.
    pub late_us: u64,
    /// In the order of rooms and names.
    pub participants: Vec<Losses>,
}

/// What was lost on one participant's ways, as far as the mixer sees.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Losses {
    /// The room.
    pub room: Name,
    /// Who.
    pub name: Name,
    /// Frames that their ear's reader was too slow for.
    pub lost_frames: u64,
    /// How often what they say ran dry in the jitter buffer and went on.
    pub underruns: u64,
    /// For how many milliseconds they have talked.
    pub talked_ms: u64,
}

impl MixerReport {
    /// A tick was handled so late.
    pub fn tick(&mut self, late_us: u64) {
        let place = LATE_US.iter().position(|&most| late_us <= most).unwrap_or(LATE_US.len());
        self.late[place] += 1;
        self.late_us += late_us;
        self.ticks += 1;
    }

    /// The same without those who come after so many.
    #[must_use]
    pub fn at_most(mut self, participants: usize) -> Self {
        self.participants.truncate(participants);
        self
    }

    /// Writes the file into `rooms`, in one go.
    ///
    /// # Errors
    /// What the file system says.
    pub fn write(&self, rooms: &Path) -> Result<(), RoomError> {
        let late = self.late.map(|count| count.to_string()).join(" ");
        let mut text =
            format!("ticks {}\nskipped {}\nlate {late}\nlate_us {}\n", self.ticks, self.skipped, self.late_us);
        for Losses { room, name, lost_frames, underruns, talked_ms } in &self.participants {
            // Writing to a string can't fail.
            let _ = writeln!(text, "of {room} {name} {lost_frames} {underruns} {talked_ms}");
        }
        write_whole(&rooms.join(FILE), &text)
    }

    /// What the mixer of `rooms` wrote last; none where there was never one.
    ///
    /// # Errors
    /// What the file system says, and a file that no mixer wrote.
    pub fn read(rooms: &Path) -> Result<Option<Self>, RoomError> {
        let path = rooms.join(FILE);
        let Some(text) = read_small(&path, MAX_BYTES)? else { return Ok(None) };
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
                ["ticks", count] => report.ticks = number(count)?,
                ["skipped", count] => report.skipped = number(count)?,
                ["late_us", sum] => report.late_us = number(sum)?,
                ["late", ref counts @ ..] if counts.len() == report.late.len() => {
                    for (place, count) in report.late.iter_mut().zip(counts) {
                        *place = number(count)?;
                    }
                }
                ["of", room, name, lost, underruns, talked] => report.participants.push(Losses {
                    room: room.parse().map_err(|error| format!("{error}"))?,
                    name: name.parse().map_err(|error| format!("{error}"))?,
                    lost_frames: number(lost)?,
                    underruns: number(underruns)?,
                    talked_ms: number(talked)?,
                }),
                _ => return Err(format!("'{line}' is no line of a mixer's report")),
            }
        }
        Ok(report)
    }
}

fn number(text: &str) -> Result<u64, String> {
    text.parse().map_err(|_| format!("'{text}' is no number"))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(MixerReport::read(dir.path()).unwrap(), None);
        let of = |name: &str| Losses {
            room: "main".parse().unwrap(),
            name: name.parse().unwrap(),
            lost_frames: 3,
            underruns: 1,
            talked_ms: 65_000,
        };
        let mut report = MixerReport { skipped: 2, participants: vec![of("alice"), of("bob")], ..Default::default() };
        [0, 250, 251, 20_001, 1_000_000].into_iter().for_each(|late_us| report.tick(late_us));
        assert_eq!((report.ticks, report.late), (5, [2, 1, 0, 0, 0, 0, 0, 2]));
        report.write(dir.path()).unwrap();
        assert_eq!(MixerReport::read(dir.path()).unwrap(), Some(report));
    }

    #[test]
    fn what_no_mixer_wrote_is_refused() {
        for bad in ["ticks -1", "late 1 2", "of main ../x 1 1 1", "of main alice 1 1", "hello"] {
            assert!(bad.parse::<MixerReport>().is_err(), "{bad}");
        }
    }
}
