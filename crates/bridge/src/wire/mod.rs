//! The messages between machines, and the names of their subjects.

pub(crate) mod json;
pub(crate) mod mix;

use palabre_room::{Name, machine_name};

/// Version of the messages. Machines with different versions are not connected.
pub(crate) const VERSION: u8 = 1;
/// Subjects of the heartbeats of all machines, with any version.
pub(crate) const HEARTBEATS: &str = "palabre.*.machine.*";

/// The kinds of messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Mix,
    State,
    Text,
    Machine,
}

/// The subject of a message of another machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Subject {
    pub(crate) kind: Kind,
    /// `None` for a heartbeat.
    pub(crate) room: Option<Name>,
    pub(crate) machine: Name,
    /// Whether the subject names [`VERSION`], the version of this program's messages.
    pub(crate) is_same_version: bool,
}

impl Subject {
    /// Parses a subject, or returns `None` if it is no subject of Palabre.
    pub(crate) fn parse(subject: &str) -> Option<Self> {
        let mut parts = subject.split('.');
        let (Some("palabre"), Some(version), Some(kind)) = (parts.next(), parts.next(), parts.next()) else {
            return None;
        };
        let kind = match kind {
            "mix" => Kind::Mix,
            "state" => Kind::State,
            "text" => Kind::Text,
            "machine" => Kind::Machine,
            _ => return None,
        };
        let room = if kind == Kind::Machine { None } else { Some(parts.next()?.parse().ok()?) };
        let machine = machine_name(parts.next()?)?;
        parts.next().is_none().then_some(Self { kind, room, machine, is_same_version: version == "v1" })
    }
}

/// Returns the subject of a message about a room. `machine` is a name, or `*` for all machines.
pub(crate) fn room_subject(kind: Kind, room: &Name, machine: &str) -> String {
    let kind = match kind {
        Kind::Mix => "mix",
        Kind::State => "state",
        Kind::Text => "text",
        Kind::Machine => "machine",
    };
    format!("palabre.v{VERSION}.{kind}.{room}.{machine}")
}

/// Returns the subject of the heartbeats of a machine.
pub(crate) fn heartbeat_subject(machine: &Name) -> String {
    format!("palabre.v{VERSION}.machine.{machine}")
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn subjects_are_parsed() {
        let (room, paris): (Name, Name) = ("main".parse().unwrap(), "paris".parse().unwrap());
        for kind in [Kind::Mix, Kind::State, Kind::Text] {
            let subject = Subject::parse(&room_subject(kind, &room, "paris")).unwrap();
            let room = Some(room.clone());
            assert_eq!(subject, Subject { kind, room, machine: paris.clone(), is_same_version: true });
        }
        let heartbeat = Subject::parse(&heartbeat_subject(&paris)).unwrap();
        assert_eq!((heartbeat.kind, heartbeat.room, heartbeat.machine), (Kind::Machine, None, paris));
        assert!(!Subject::parse("palabre.v2.machine.paris").unwrap().is_same_version);
        for bad in
            ["", "palabre.v1.mix.main", "palabre.v1.mix.Main.paris", "palabre.v1.mix.main.paris.x", "a.v1.mix.m.p"]
        {
            assert_eq!(Subject::parse(bad), None, "{bad}");
        }
    }
}
