//! The state of the connections with other machines, as the control socket reports them.

use palabre_room::{BridgeReport, MachineLink};
use serde::{Deserialize, Serialize};

/// The state of `palabre-bridge`, from `palabre_room::BridgeReport`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bridging {
    /// Name of this machine.
    pub machine: String,
    /// Whether this machine is connected to a NATS server.
    pub connected: bool,
    /// Number of own messages that were not sent, because the server was not connected or too slow.
    pub unsent: u64,
    /// Each room that another machine shares, in order of machines and rooms.
    pub machines: Vec<SharedRoom>,
}

/// A room that another machine shares.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SharedRoom {
    /// The other machine.
    pub machine: String,
    /// The room.
    pub room: String,
    /// Whether the connection to the machine is lost.
    pub cut_off: bool,
    /// How much longer the newest message from the machine took than the fastest message of the last minute, in ms.
    pub delay_ms: u64,
    /// Duration of the other machine's sound that was lost on the way or refused by the mixer's pipe, since the connection began, in ms.
    pub lost_ms: u64,
    /// Number of the other machine's messages whose sound was not played, because they arrived too late.
    pub late_messages: u64,
}

impl From<BridgeReport> for Bridging {
    fn from(report: BridgeReport) -> Self {
        let mut machines: Vec<SharedRoom> = report.links.into_iter().map(SharedRoom::from).collect();
        machines.sort_by(|a, b| (&a.machine, &a.room).cmp(&(&b.machine, &b.room)));
        Self { machine: report.machine.to_string(), connected: report.is_connected, unsent: report.unsent, machines }
    }
}

impl From<MachineLink> for SharedRoom {
    fn from(link: MachineLink) -> Self {
        Self {
            machine: link.machine.to_string(),
            room: link.room.to_string(),
            cut_off: link.is_cut_off,
            delay_ms: link.delay_ms,
            lost_ms: link.lost_ms,
            late_messages: link.late_messages,
        }
    }
}
