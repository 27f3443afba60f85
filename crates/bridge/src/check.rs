//! `--check`: whether the NATS server can be used, and which machines share rooms.

use std::collections::BTreeMap;
use std::time::Duration;

use async_nats::Event;
use futures_util::StreamExt;
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

/// Connects, listens for other machines, and prints which ones it found. Publishes nothing.
pub(crate) async fn run(link: &mut Link, own: &Name) -> Result<(), Failure> {
    connected(link).await?;
    println!("the NATS server is connected");
    let machines = machines(link, own).await;
    if machines.is_empty() {
        println!("no other machine is connected now");
    }
    for (machine, Heartbeat { suite, rooms, .. }) in machines {
        let rooms: Vec<String> = rooms.iter().map(|(room, hz)| format!("{room} ({hz} Hz)")).collect();
        let rooms = if rooms.is_empty() { "no room".to_owned() } else { rooms.join(", ") };
        println!("the machine '{machine}' (palabre {suite}) shares {rooms}");
    }
    Ok(())
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

/// Returns the newest heartbeat of each other machine.
async fn machines(link: &mut Link, own: &Name) -> BTreeMap<Name, Heartbeat> {
    let deadline = Instant::now() + LISTEN;
    let mut machines = BTreeMap::new();
    while let Ok(Some(message)) = timeout_at(deadline, link.messages.next()).await {
        let subject =
            Subject::parse(&message.subject).filter(|it| matches!(it.kind, Kind::Machine) && it.machine != *own);
        if let (Some(subject), Some(heartbeat)) = (subject, Heartbeat::decode(&message.payload))
            && (machines.len() < MAX_MACHINES || machines.contains_key(&subject.machine))
        {
            machines.insert(subject.machine, heartbeat);
        }
    }
    machines
}
