//! The result of `palabre-bridge --check --json`.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Maximum difference between two clocks that is ignored, in ms. A measured difference includes the time that a heartbeat needs to arrive.
const MAX_CLOCK_DIFFERENCE_MS: u64 = 2000;

/// The result of `palabre-bridge --check`, which has connected to the NATS server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BridgeCheck {
    /// The other machines whose heartbeats arrived during the check.
    pub machines: Vec<CheckedMachine>,
}

/// Another machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckedMachine {
    /// Name of the machine.
    pub machine: String,
    /// Version of the machine's programs.
    pub suite: String,
    /// The rooms that the other machine shares.
    pub rooms: Vec<CheckedRoom>,
    /// How many milliseconds the other machine's clock seems ahead of this machine's clock: the time that the heartbeat contains, minus the
    /// time of its arrival. Negative if the clock is behind. `None` if the other machine doesn't send its time.
    pub clock_ahead_ms: Option<i64>,
}

/// A room that another machine shares.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckedRoom {
    /// Name of the room.
    pub room: String,
    /// Sample rate of the room on the other machine, in Hz.
    pub rate_hz: u32,
    /// Sample rate of the room on this machine, in Hz. `None` if this machine doesn't share the room.
    pub own_rate_hz: Option<u32>,
}

impl BridgeCheck {
    /// Returns, for each room that another machine and this machine share with different sample rates, why it is not connected with that machine.
    pub fn faults(&self) -> impl Iterator<Item = String> {
        let rooms = self.machines.iter().flat_map(|it| it.rooms.iter().map(|room| (&it.machine, room)));
        rooms.filter_map(|(machine, CheckedRoom { room, rate_hz, own_rate_hz })| {
            let own = own_rate_hz.filter(|own| own != rate_hz)?;
            Some(format!(
                "the room '{room}' is not connected with the machine '{machine}': it has {rate_hz} Hz there and {own} Hz here; set the same 'rate-hz' on both"
            ))
        })
    }

    /// Returns which clocks differ from this machine's clock, one text for each machine.
    pub fn warnings(&self) -> impl Iterator<Item = String> {
        self.machines.iter().filter_map(|it| {
            let difference = it.clock_difference()?;
            Some(format!("the clock of the machine '{}' is {difference} this machine's clock", it.machine))
        })
    }
}

impl CheckedMachine {
    /// Returns the difference of the clocks in words, or `None` if it is at most [`MAX_CLOCK_DIFFERENCE_MS`] or unknown.
    fn clock_difference(&self) -> Option<String> {
        let ahead_ms = self.clock_ahead_ms.filter(|ms| ms.unsigned_abs() > MAX_CLOCK_DIFFERENCE_MS)?;
        let seconds = ahead_ms.unsigned_abs().div_ceil(1000);
        Some(format!("{seconds} s {}", if ahead_ms > 0 { "ahead of" } else { "behind" }))
    }
}

impl fmt::Display for CheckedMachine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rooms: Vec<String> = self.rooms.iter().map(|it| format!("{} ({} Hz)", it.room, it.rate_hz)).collect();
        let rooms = if rooms.is_empty() { "no room".to_owned() } else { rooms.join(", ") };
        write!(f, "the machine '{}' (palabre {}) shares {rooms}", self.machine, self.suite)?;
        match (self.clock_ahead_ms, self.clock_difference()) {
            (None, _) => f.write_str("; the other machine doesn't send the time of its clock"),
            (_, None) => f.write_str("; the clocks of both machines have the same time"),
            (_, Some(difference)) => write!(f, "; the other machine's clock is {difference} this machine's clock"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(rate_hz: u32, own_rate_hz: Option<u32>, clock_ahead_ms: Option<i64>) -> BridgeCheck {
        let (machine, room) = ("paris".to_owned(), "main".to_owned());
        let rooms = vec![CheckedRoom { room, rate_hz, own_rate_hz }];
        BridgeCheck { machines: vec![CheckedMachine { machine, suite: "0.1.0".to_owned(), rooms, clock_ahead_ms }] }
    }

    #[test]
    fn only_a_room_of_this_machine_with_another_rate_is_a_fault() {
        assert_eq!(check(24_000, Some(24_000), None).faults().count(), 0);
        assert_eq!(check(24_000, None, None).faults().count(), 0);
        let faults: Vec<_> = check(48_000, Some(24_000), None).faults().collect();
        let begin =
            "the room 'main' is not connected with the machine 'paris': it has 48000 Hz there and 24000 Hz here";
        assert!(faults.len() == 1 && faults[0].starts_with(begin), "{faults:?}");
    }

    #[test]
    fn clock_that_differs_by_more_than_two_seconds_is_a_warning() {
        let text = |ahead_ms| check(24_000, None, ahead_ms).machines[0].to_string();
        for ahead_ms in [-2000, -60, 0, 2000] {
            assert_eq!(check(24_000, None, Some(ahead_ms)).warnings().count(), 0);
            assert!(
                text(Some(ahead_ms))
                    .ends_with("shares main (24000 Hz); the clocks of both machines have the same time")
            );
        }
        for (ahead_ms, difference) in [(2001, "3 s ahead of"), (-7000, "7 s behind"), (i64::MIN, "s behind")] {
            let warnings: Vec<_> = check(24_000, None, Some(ahead_ms)).warnings().collect();
            assert!(warnings.len() == 1 && warnings[0].contains(difference), "{warnings:?}");
            assert!(text(Some(ahead_ms)).contains(difference));
        }
        assert_eq!(check(24_000, None, None).warnings().count(), 0);
        assert!(text(None).ends_with("; the other machine doesn't send the time of its clock"));
    }
}
