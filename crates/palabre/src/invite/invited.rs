//! The result of an invitation, as `palabre invite` prints it: JSON, CSV or a table.

use palabre_config::Participant;
use palabre_host::exit::Failure;
use serde_json::{Value, json};

use crate::output::{print, print_json, print_table};

/// What the command did for a participant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    /// The participant is new.
    Invited,
    /// The participant has a new key.
    Renewed,
    /// Settings of the existing participant were changed.
    Updated,
    /// The participant exists, with the wanted settings.
    Unchanged,
    /// The file could not be written.
    Failed,
}

impl Outcome {
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Invited => "invited",
            Self::Renewed => "renewed",
            Self::Updated => "updated",
            Self::Unchanged => "unchanged",
            Self::Failed => "failed",
        }
    }
}

/// A participant, and what the command did.
pub(super) struct Invited {
    pub(super) participant: Participant,
    pub(super) outcome: Outcome,
    /// The link, if there is a new key.
    pub(super) link: Option<String>,
    /// Why the file could not be written, or why the change has no effect yet.
    pub(super) failure: Option<Failure>,
}

impl Invited {
    fn json(&self) -> Value {
        let participant = &self.participant;
        json!({
            "name": participant.name.as_str(),
            "outcome": self.outcome.word(),
            "display": participant.display(),
            "room": participant.room.as_str(),
            "port": participant.port,
            "listen_only": participant.listen_only,
            "key_expires": participant.key_expires.map(|expires| expires.to_string()),
            "key_once": participant.key_once,
            "link": self.link,
            "error": self.failure.as_ref().map(ToString::to_string),
        })
    }

    /// Returns name, outcome, room, port and link.
    fn fields(&self) -> [String; 5] {
        let Participant { name, room, port, .. } = &self.participant;
        [
            name.to_string(),
            self.outcome.word().to_owned(),
            room.to_string(),
            port.to_string(),
            self.link.clone().unwrap_or_default(),
        ]
    }
}

/// Prints a JSON object.
pub(super) fn json(all: &[Invited]) -> Result<(), Failure> {
    print_json(&json!({ "participants": all.iter().map(Invited::json).collect::<Vec<_>>() }))
}

/// Prints a CSV with a header.
pub(super) fn csv(all: &[Invited]) -> Result<(), Failure> {
    let mut writer = csv::Writer::from_writer(Vec::new());
    writer.write_record(["name", "outcome", "room", "port", "link"]).map_err(Failure::system)?;
    for one in all {
        writer.write_record(one.fields()).map_err(Failure::system)?;
    }
    print(writer.into_inner().map_err(Failure::system)?)
}

/// Prints a table.
pub(super) fn table(all: &[Invited]) -> Result<(), Failure> {
    let head = ["NAME", "OUTCOME", "ROOM", "PORT", "LINK"].map(str::to_owned);
    let row = |one: &Invited| one.fields().map(|field| if field.is_empty() { "-".to_owned() } else { field });
    print_table(&std::iter::once(head).chain(all.iter().map(row)).collect::<Vec<_>>())
}
