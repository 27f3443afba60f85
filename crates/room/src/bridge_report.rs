//! The state of the connections with other machines, in the file `.bridge` in the directory of the rooms.
//!
//! `palabre-bridge` writes the file, and the supervisor reads it for status and metrics.

use std::fmt::Write as _;
use std::path::Path;
use std::str::FromStr;
use std::time::Duration;

use crate::lines::number;
use crate::machines_dir::machine_name;
use crate::{Name, RoomError, small_file};

/// Name of the file. A name that begins with a dot is not a room.
const FILE: &str = ".bridge";
/// Age from which on the file `.bridge` counts as missing. The bridge writes the file each second.
const MAX_AGE: Duration = Duration::from_secs(10);
/// Maximum size of the file in bytes.
const MAX_BYTES: u64 = 1 << 20;
/// Maximum number of lines about other machines.
const MAX_LINKS: usize = 4096;

/// The state of a running `palabre-bridge`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BridgeReport {
    /// Name of this machine.
    pub machine: Name,
    /// Whether the NATS server is connected.
    pub is_connected: bool,
    /// Number of messages that this machine's bridge did not send, because the server was not connected or too slow.
    pub unsent: u64,
    /// One entry for each other machine and each room that it shares.
    pub links: Vec<MachineLink>,
}

/// The state of one room on one other machine that shares it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MachineLink {
    /// The other machine.
    pub machine: Name,
    /// The room.
    pub room: Name,
    /// Whether the connection to the machine is lost.
    pub is_cut_off: bool,
    /// How much longer the newest message from the machine took than the fastest message of the last minute, in ms.
    pub delay_ms: u64,
    /// Sound that is missing since the connection began, in ms: lost on the way, or refused by the mixer's pipe.
    pub lost_ms: u64,
    /// Number of messages with sound from the machine that arrived too late, so that their sound was not played.
    pub late_messages: u64,
}

impl BridgeReport {
    /// Replaces the file `.bridge` in the directory `rooms`.
    ///
    /// # Errors
    /// The file can't be written.
    pub fn write(&self, rooms: &Path) -> Result<(), RoomError> {
        small_file::write(&rooms.join(FILE), &self.to_string())
    }

    /// Reads the file `.bridge` in the directory `rooms`. Returns `None` if there is no such file, or if it is older than 10 s: then no
    /// bridge works.
    ///
    /// # Errors
    /// The file can't be read, or is invalid.
    pub fn read(rooms: &Path) -> Result<Option<Self>, RoomError> {
        let path = rooms.join(FILE);
        let Some(text) = small_file::read(&path, MAX_BYTES)?.filter(|_| !is_old(&path)) else { return Ok(None) };
        text.parse().map(Some).map_err(|why: String| RoomError::content(&path, why))
    }

    /// Removes the file `.bridge` from the directory `rooms`.
    ///
    /// # Errors
    /// The file can't be removed.
    pub fn remove(rooms: &Path) -> Result<(), RoomError> {
        let path = rooms.join(FILE);
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(RoomError::io("remove", &path)(error)),
            _ => Ok(()),
        }
    }
}

fn is_old(path: &Path) -> bool {
    let modified = std::fs::metadata(path).and_then(|file| file.modified());
    modified.is_ok_and(|time| time.elapsed().is_ok_and(|age| age > MAX_AGE))
}

impl std::fmt::Display for BridgeReport {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let state = if self.is_connected { "connected" } else { "disconnected" };
        let mut text = format!("machine {} {state}\nunsent {}\n", self.machine, self.unsent);
        for MachineLink { machine, room, is_cut_off, delay_ms, lost_ms, late_messages } in &self.links {
            let state = if *is_cut_off { "cut-off" } else { "connected" };
            // Writing to a string can't fail.
            let _ = writeln!(text, "with {machine} {room} {state} {delay_ms} {lost_ms} {late_messages}");
        }
        f.write_str(&text)
    }
}

impl FromStr for BridgeReport {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut lines = text.lines();
        let (machine, is_connected) = match words(lines.next())[..] {
            ["machine", machine, "connected"] => (machine, true),
            ["machine", machine, "disconnected"] => (machine, false),
            _ => {
                return Err(
                    "the first line of palabre-bridge's report is not 'machine MACHINE connected' or 'machine MACHINE disconnected'".to_owned()
                );
            }
        };
        let ["unsent", unsent] = words(lines.next())[..] else {
            return Err("the second line of palabre-bridge's report is not 'unsent NUMBER'".to_owned());
        };
        let links = lines.take(MAX_LINKS).map(link).collect::<Result<_, _>>()?;
        Ok(Self { machine: machine_of(machine)?, is_connected, unsent: number(unsent)?, links })
    }
}

fn link(line: &str) -> Result<MachineLink, String> {
    let ["with", machine, room, state, delay, lost, late] = words(Some(line))[..] else {
        return Err(format!(
            "the line '{line}' of palabre-bridge's report doesn't have the form 'with MACHINE ROOM STATE DELAY LOST LATE'"
        ));
    };
    let is_cut_off = match state {
        "cut-off" => true,
        "connected" => false,
        _ => return Err(format!("the state '{state}' of a machine is neither 'connected' nor 'cut-off'")),
    };
    Ok(MachineLink {
        machine: machine_of(machine)?,
        room: room.parse().map_err(|error| format!("{error}"))?,
        is_cut_off,
        delay_ms: number(delay)?,
        lost_ms: number(lost)?,
        late_messages: number(late)?,
    })
}

fn words(line: Option<&str>) -> Vec<&str> {
    line.unwrap_or_default().split(' ').collect()
}

fn machine_of(text: &str) -> Result<Name, String> {
    machine_name(text).ok_or_else(|| format!("'{text}' is not the name of a machine"))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_written_report_is_read_and_removed() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(BridgeReport::read(dir.path()).unwrap(), None);
        let link = |machine: &str, is_cut_off| MachineLink {
            machine: machine.parse().unwrap(),
            room: "main".parse().unwrap(),
            is_cut_off,
            delay_ms: 12,
            lost_ms: 40,
            late_messages: 3,
        };
        let links = vec![link("paris", false), link("lille", true)];
        let report = BridgeReport { machine: "lyon".parse().unwrap(), is_connected: true, unsent: 7, links };
        report.write(dir.path()).unwrap();
        assert_eq!(BridgeReport::read(dir.path()).unwrap(), Some(report));
        BridgeReport::remove(dir.path()).unwrap();
        BridgeReport::remove(dir.path()).unwrap();
        assert_eq!(BridgeReport::read(dir.path()).unwrap(), None);
    }

    #[test]
    fn invalid_reports_are_refused() {
        for bad in [
            "",
            "machine lyon\nunsent 0\n",
            "machine ../x connected\nunsent 0\n",
            "machine lyon connected\nunsent -1\n",
            "machine lyon connected\n",
            "machine lyon connected\nunsent 0\nwith paris main away 0 0 0\n",
            "machine lyon connected\nunsent 0\nwith paris main connected 0 0\n",
            "machine lyon connected\nunsent 0\nhello\n",
        ] {
            assert!(bad.parse::<BridgeReport>().is_err(), "{bad}");
        }
    }
}
