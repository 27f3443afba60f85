//! What `palabre import` did, or would do, for each participant: as text and as JSON.

use std::time::SystemTime;

use palabre_config::Participant;
use palabre_host::exit::Failure;
use serde_json::{Value, json};

use crate::cli::Import;
use crate::output::{print, print_json};

/// A participant of the document, with the settings that the participant has on this machine.
pub(super) struct Imported {
    pub(super) participant: Participant,
    /// Address of the participant's page: the link without the key.
    pub(super) page: String,
    /// The participant's port on the other machine.
    pub(super) exported_port: u16,
    /// Whether this machine already had a participant of this name, whom the import replaces.
    pub(super) replaces: bool,
    /// Whether the one-time link was used on the other machine, so that it is invalid here.
    pub(super) link_used: bool,
    /// How the settings differ from those in the document, and why.
    pub(super) differences: Vec<String>,
    /// Why the participant's file has no effect yet.
    pub(super) failure: Option<Failure>,
}

/// Prints all participants.
pub(super) fn show(all: &[Imported], options: &Import) -> Result<(), Failure> {
    if options.json {
        let participants: Vec<Value> = all.iter().map(Imported::json).collect();
        return print_json(&json!({ "dry_run": options.dry_run, "participants": participants }));
    }
    print(all.iter().map(|one| one.lines(options.dry_run)).collect::<String>())
}

impl Imported {
    fn lines(&self, is_dry_run: bool) -> String {
        let Participant { name, room, port, .. } = &self.participant;
        let done = match (self.replaces, is_dry_run) {
            (false, false) => "imported",
            (false, true) => "would be imported",
            (true, false) => "replaced by the imported participant",
            (true, true) => "would be replaced by the imported participant",
        };
        let first = format!("{done}: room '{room}', port {port}");
        [first].into_iter().chain(self.notes()).map(|text| format!("{name}: {text}\n")).collect()
    }

    /// Returns what the operator should know: differences, and how the participant gets in.
    fn notes(&self) -> Vec<String> {
        let Participant { name, key_expires, suspended, .. } = &self.participant;
        let mut notes = self.differences.clone();
        let expired = key_expires.filter(|expires| expires.has_passed(SystemTime::now()));
        if self.link_used {
            // A new key keeps the time of expiry unless --expires changes it.
            let option = if expired.is_some() { " --expires WHEN" } else { "" };
            notes.push(format!(
                "the one-time link was used on the machine that made the export, so it is invalid here; 'palabre invite {name} --new-key{option}' prints a new link"
            ));
        } else {
            notes.push(format!(
                "the key stays the same: the link is {}?key=KEY, where KEY is the key in the participant's link on the machine that made the export",
                self.page
            ));
            notes.extend(expired.map(|expires| {
                format!("the link has expired on {expires}; 'palabre change {name} --expires WHEN' makes it valid")
            }));
        }
        if *suspended {
            notes.push(format!("suspended; 'palabre resume {name}' lifts the suspension"));
        }
        notes
    }

    fn json(&self) -> Value {
        let participant = &self.participant;
        json!({
            "name": participant.name.as_str(),
            "outcome": if self.replaces { "replaced" } else { "imported" },
            "display": participant.display(),
            "room": participant.room.as_str(),
            "port": participant.port,
            "exported_port": self.exported_port,
            "page": self.page,
            "link_used": self.link_used,
            "notes": self.notes(),
            "error": self.failure.as_ref().map(ToString::to_string),
        })
    }
}
