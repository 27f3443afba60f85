//! `--check`: whether the NATS server can be used, which machines share rooms, and whether their rooms and clocks match.

use std::collections::BTreeMap;
use std::time::Duration;

use async_nats::Event;
use futures_util::StreamExt;
use palabre_config::{BridgeCheck, CheckedMachine, CheckedRoom};
use palabre_host::clock;
use palabre_host::exit::Failure;
use palabre_room::{MAX_MACHINES, Name};
use tokio::time::{Instant, timeout_at};

use crate::link::Link;
use crate::wire::json::Heartbeat;
use crate::wire::{Kind, Subject};

/// Timeout for the connection to the server.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Time for which `--check` listens for heartbeats of other machines. Each machine sends one a second.
const LISTEN: Duration = Duration::from_millis(1500);

/// Connects, listens for other machines, and prints which ones it found. Publishes nothing. `rates_hz` has the sample rates of this machine's shared
/// rooms.
///
/// # Errors
/// The server can't be used, or a room has another sample rate on another machine. With `as_json`, another sample rate is not an error.
pub(crate) async fn run(
    link: &mut Link,
    own: &Name,
    rates_hz: &BTreeMap<Name, u32>,
    as_json: bool,
) -> Result<(), Failure> {
    connected(link).await?;
    let check = BridgeCheck { machines: machines(link, own, rates_hz).await };
    if as_json {
        let json =
            serde_json::to_string(&check).map_err(|error| Failure::system(format!("unable to print: {error}")))?;
        println!("{json}");
        return Ok(());
    }
    println!("the NATS server is connected");
    if check.machines.is_empty() {
        println!("no other machine is connected now");
    }
    check.machines.iter().for_each(|machine| println!("{machine}"));
    let faults: Vec<String> = check.faults().collect();
    if faults.is_empty() { Ok(()) } else { Err(Failure::refused(faults.join("\n"))) }
}

async fn connected(link: &mut Link) -> Result<(), Failure> {
    let deadline = Instant::now() + CONNECT_TIMEOUT;
    let mut problem = None;
    loop {
        match timeout_at(deadline, link.events.recv()).await {
            Ok(Some(Event::Connected)) => return Ok(()),
            Ok(Some(event)) => problem = Some(event.to_string()),
            Ok(None) | Err(_) => {
                let problem = problem.unwrap_or_else(|| format!("no answer within {} s", CONNECT_TIMEOUT.as_secs()));
                return Err(Failure::refused(format!(
                    "unable to use the NATS server: {problem}; see 'servers', 'nkey', 'credentials' and 'ca' in [bridge] of palabre.toml"
                )));
            }
        }
    }
}

/// Returns the other machines, from their heartbeats.
async fn machines(link: &mut Link, own: &Name, rates_hz: &BTreeMap<Name, u32>) -> Vec<CheckedMachine> {
    let deadline = Instant::now() + LISTEN;
    let mut machines: BTreeMap<Name, CheckedMachine> = BTreeMap::new();
    while let Ok(Some(message)) = timeout_at(deadline, link.messages.next()).await {
        let subject =
            Subject::parse(&message.subject).filter(|it| matches!(it.kind, Kind::Machine) && it.machine != *own);
        let (Some(Subject { machine, .. }), Some(heartbeat)) = (subject, Heartbeat::decode(&message.payload)) else {
            continue;
        };
        if machines.len() < MAX_MACHINES || machines.contains_key(&machine) {
            let earlier = machines.remove(&machine).and_then(|it| it.clock_ahead_ms);
            let now = checked(&machine, heartbeat, earlier, rates_hz);
            machines.insert(machine, now);
        }
    }
    machines.into_values().collect()
}

/// Returns what `--check` shows about a machine after this heartbeat. `clock_ahead_ms` is the sender's time in the heartbeat minus the local time of
/// arrival, so it is too small if the heartbeat was slow. Therefore the result has the larger one of this value and `earlier_ms`, the largest value
/// so far.
fn checked(
    machine: &Name,
    heartbeat: Heartbeat,
    earlier_ms: Option<i64>,
    rates_hz: &BTreeMap<Name, u32>,
) -> CheckedMachine {
    let now_ms = i128::from(clock::unix_ms());
    let ahead_ms = |unix_ms| i64::try_from(i128::from(unix_ms) - now_ms).unwrap_or(i64::MAX);
    let room = |(room, rate_hz): (String, u32)| {
        let own_rate_hz = rates_hz.get(&room.parse().ok()?).copied();
        Some(CheckedRoom { room, rate_hz, own_rate_hz })
    };
    CheckedMachine {
        machine: machine.to_string(),
        suite: heartbeat.suite,
        rooms: heartbeat.rooms.into_iter().filter_map(room).collect(),
        clock_ahead_ms: heartbeat.unix_ms.map(ahead_ms).max(earlier_ms),
    }
}
