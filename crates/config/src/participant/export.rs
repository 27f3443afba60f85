//! The document of `palabre export`: everything that another machine needs to make the same participants.
//!
//! The document is TOML, so the settings of a participant have the syntax and the parser of a participant's file:
//!
//! ```text
//! palabre-export = 1            version of the format
//! [participants.alice]          what the participant's file doesn't contain
//! [participants.alice.file]     the participant's file
//! [end]                         the last lines, so that a truncated document is noticed
//! participants = 1
//! ```

use std::collections::BTreeMap;
use std::path::Path;

use palabre_room::{Name, own_display_name_is_valid};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};

use super::{Participant, Written, is_false};
use crate::{ConfigError, text};

/// Maximum size of a document in bytes: about 10,000 participants with the usual settings.
pub const MAX_EXPORT_BYTES: usize = 4 << 20;

/// Maximum number of participants in a document.
const MAX_PARTICIPANTS: usize = super::MAX_ENTRIES;

/// Version of the format. Raise it when the meaning of a field changes.
const VERSION: u32 = 1;

/// The first lines of each document that `palabre export` writes.
const COMMENT: &str = "\
# Participants of Palabre, written by 'palabre export', for 'palabre import'.
# Keep this as secret as the participants' files: it has the hashes of access keys.
";

/// A participant in a document of `palabre export`.
#[derive(Debug, Clone, PartialEq)]
pub struct Exported {
    /// The participant's file.
    pub participant: Participant,
    /// The display name that the participant has chosen on the page, if it differs from the name in the file.
    pub chosen_display_name: Option<String>,
    /// Whether the one-time link was used. Then it must not open on another machine.
    pub link_used: bool,
}

impl Exported {
    /// Returns the document with these participants. The error is the cause: the document would be too large.
    pub fn document(all: Vec<Self>) -> Result<String, String> {
        let end = End { participants: all.len() };
        let participants = all.into_iter().map(Self::into_entry).collect();
        let text = toml::to_string(&Document { palabre_export: VERSION, participants, end });
        let text = COMMENT.to_owned() + &text.map_err(|error| error.to_string())?;
        match text.len() > MAX_EXPORT_BYTES {
            true => Err(format!(
                "the document would be larger than {MAX_EXPORT_BYTES} bytes; export fewer participants at once"
            )),
            false => Ok(text),
        }
    }

    /// Parses a document. Returns the participants in the order of their names. `source` is named in errors.
    pub fn parse(source: &Path, bytes: &[u8]) -> Result<Vec<Self>, ConfigError> {
        let invalid = |cause: String| ConfigError::new(source, cause);
        if bytes.len() > MAX_EXPORT_BYTES {
            return Err(invalid(format!(
                "the document is larger than {MAX_EXPORT_BYTES} bytes; export fewer participants at once"
            )));
        }
        let text = std::str::from_utf8(bytes).map_err(|_| invalid("the document is not UTF-8 text".to_owned()))?;
        if text.trim().is_empty() {
            return Err(invalid("the document is empty; see the message of 'palabre export'".to_owned()));
        }
        let unparsed = |error: toml::de::Error| ConfigError::toml(source, text, &error);
        let Versioned { palabre_export } = toml::from_str(text).map_err(unparsed)?;
        check_version(palabre_export.as_ref()).map_err(invalid)?;
        let Document { participants, end, .. } = toml::from_str(text).map_err(unparsed)?;
        let (count, expected) = (participants.len(), end.participants);
        if count != expected {
            return Err(invalid(format!(
                "the document has {count} participants instead of {expected}; it is truncated or was changed; export it again"
            )));
        }
        if count == 0 || count > MAX_PARTICIPANTS {
            return Err(invalid(format!(
                "the document has {count} participants; it must have 1 to {MAX_PARTICIPANTS}"
            )));
        }
        participants.into_iter().map(|(Login(name), entry)| entry.into_exported(source, &name)).collect()
    }

    fn into_entry(self) -> (Login, Entry) {
        let Self { participant, chosen_display_name, link_used } = self;
        let file = Written::from(&participant);
        (Login(participant.name), Entry { chosen_display_name, link_used, file })
    }
}

fn check_version(version: Option<&toml::Value>) -> Result<(), String> {
    let release = "use the same release of Palabre on both machines";
    match version {
        None => Err("the input is not a document of 'palabre export'".to_owned()),
        Some(toml::Value::Integer(version)) if *version == i64::from(VERSION) => Ok(()),
        Some(toml::Value::Integer(version)) => {
            Err(format!("the document has version {version}, and this program reads version {VERSION}; {release}"))
        }
        Some(_) => Err(format!("'palabre-export' must be the version of the format, a number; {release}")),
    }
}

/// The version of the format, which is the only field that the documents of all versions have.
#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Versioned {
    palabre_export: Option<toml::Value>,
}

/// The TOML structure of a document.
#[derive(Deserialize, Serialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct Document {
    palabre_export: u32,
    participants: BTreeMap<Login, Entry>,
    end: End,
}

/// A login name as the key of a table.
#[derive(Deserialize, Serialize, PartialEq, Eq, PartialOrd, Ord)]
#[serde(transparent)]
struct Login(#[serde(with = "text::name")] Name);

#[derive(Deserialize, Serialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct Entry {
    #[serde(deserialize_with = "chosen_display_name", default, skip_serializing_if = "Option::is_none")]
    chosen_display_name: Option<String>,
    #[serde(default, skip_serializing_if = "is_false")]
    link_used: bool,
    file: Written,
}

/// The last lines of a document.
#[derive(Deserialize, Serialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct End {
    participants: usize,
}

impl Entry {
    fn into_exported(self, source: &Path, name: &Name) -> Result<Exported, ConfigError> {
        let Self { chosen_display_name, link_used, file } = self;
        let participant = Participant::from_written(source, name, file).map_err(|_| {
            ConfigError::new(source, format!("participant '{name}' has no 'key-sha256'; export the participant again"))
        })?;
        Ok(Exported { participant, chosen_display_name, link_used })
    }
}

fn chosen_display_name<'de, D: Deserializer<'de>>(from: D) -> Result<Option<String>, D::Error> {
    let text = String::deserialize(from)?;
    match own_display_name_is_valid(&text) {
        true => Ok(Some(text)),
        false => Err(D::Error::custom(
            "the text in 'chosen-display-name' is not allowed as a display name; remove 'chosen-display-name'",
        )),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::Key;

    /// Returns a participant in whom no setting has its default. Names all fields, so that a new field must be added here.
    fn alice() -> Participant {
        Participant {
            name: "alice".parse().unwrap(),
            port: 9001,
            room: "den".parse().unwrap(),
            display_name: Some("李小龍 \"Bruce\" <b>".into()),
            gain_db: Some(-6.1),
            muted: true,
            key_sha256: Key::parse("000102030405060708090a0b0c0d0e0f").unwrap().hash(),
            key_once: true,
            key_expires: Some("2026-12-31T18:00:00Z".parse().unwrap()),
            join_muted: true,
            listen_only: true,
            suspended: true,
            signed_out: Some("2026-11-01T18:00:00+01:00".parse().unwrap()),
        }
    }

    fn exported() -> Vec<Exported> {
        let bob = Participant::new("bob".parse().unwrap(), 9002, alice().key_sha256);
        vec![
            Exported { participant: alice(), chosen_display_name: Some("Ali".into()), link_used: true },
            Exported { participant: bob, chosen_display_name: None, link_used: false },
        ]
    }

    fn parse(text: impl AsRef<[u8]>) -> Result<Vec<Exported>, String> {
        Exported::parse(Path::new("standard input"), text.as_ref()).map_err(|error| error.to_string())
    }

    #[test]
    fn document_is_read_back() {
        let text = Exported::document(exported()).unwrap();
        assert_eq!(parse(&text), Ok(exported()), "{text}");
    }

    #[test]
    fn document_has_every_field_of_a_participants_file() {
        let unknown = Participant::from_toml(&alice().name, "zzz = 1").unwrap_err().to_string();
        let (_, fields) = unknown.split_once("expected one of ").unwrap();
        let fields: Vec<&str> = fields.split('`').skip(1).step_by(2).collect();
        assert!(fields.len() > 10, "{unknown}");
        let text = Exported::document(exported()).unwrap();
        for field in fields {
            assert!(text.contains(&format!("\n{field} = ")), "no {field}: {text}");
        }
    }

    /// A document that was cut off at any place is refused.
    #[test]
    fn truncated_document_is_refused() {
        let text = Exported::document(exported()).unwrap();
        for (end, _) in text.char_indices().take_while(|(end, _)| *end < text.len() - 1) {
            assert!(parse(&text[..end]).is_err(), "{}", &text[..end]);
        }
        let entries = text.replace("participants = 2", "participants = 3");
        assert_eq!(
            parse(entries).unwrap_err(),
            "unable to use 'standard input': the document has 2 participants instead of 3; it is truncated or was changed; export it again"
        );
    }

    #[test]
    fn invalid_document_is_refused_with_its_cause() {
        let good = Exported::document(exported()).unwrap();
        for (bad, cause) in [
            (String::new(), "the document is empty"),
            (" \n".into(), "the document is empty"),
            ("# nothing\n".into(), "the input is not a document of 'palabre export'"),
            ("port = 9001\n".into(), "the input is not a document of 'palabre export'"),
            ("{\"version\": 1}".into(), "line 1: "),
            (good.replace("palabre-export = 1", "palabre-export = 2"), "version 2, and this program reads version 1"),
            (good.replace("palabre-export = 1", "palabre-export = \"1\""), "must be the version of the format"),
            (good.replace("[participants.alice", "[participants.\"../alice\""), "'../alice' is not a valid name"),
            (good.replace("[participants.alice", "[participants.\"a/b\""), "line 5: 'a/b' is not a valid name"),
            (good.replace("participants.bob", "participants.recording"), "is not a valid name"),
            (good.replace("participants.bob", "participants.alice"), "duplicate key"),
            (good.replace("room = \"den\"", "room = \"../etc\""), "'../etc' is not a valid name"),
            (good.replace("port = 9001", "port = 70000"), "70000 is not a port"),
            (good.replace("port = 9001", "port = 9001\nprot = 1"), "unknown field `prot`"),
            (good.replace("link-used", "link-use"), "unknown field `link-use`"),
            (good.replace("key-sha256 = \"", "key-sha256 = \"x"), "is not the hash of an access key"),
            (
                good.replace("\"Ali\"", "\"\\u202e\""),
                "the text in 'chosen-display-name' is not allowed as a display name",
            ),
            (good.replace("Bruce", "Br\0uce"), "line "),
            (good.replace("Bruce", &"x".repeat(MAX_EXPORT_BYTES)), "is larger than 4194304 bytes"),
            (good.replace("[end]", "[end]\nmore = 1"), "unknown field `more`"),
            (good.replace("[end]\nparticipants = 2", ""), "missing field `end`"),
            (
                "palabre-export = 1\n[participants]\n[end]\nparticipants = 0\n".into(),
                "the document has 0 participants; it must have 1 to 10000",
            ),
        ] {
            let error = parse(&bad).unwrap_err();
            assert!(error.contains(cause), "{cause}: {error}");
            assert!(error.len() < 400 && !error.contains('\n'), "{error}");
        }
        assert!(parse(b"\xff").unwrap_err().ends_with("the document is not UTF-8 text"));
    }

    #[test]
    fn participant_without_a_key_is_refused() {
        let text = Exported::document(exported()).unwrap();
        let without: String =
            text.lines().filter(|line| !line.starts_with("key-sha256")).fold(String::new(), |a, b| a + b + "\n");
        assert!(
            parse(without)
                .unwrap_err()
                .ends_with("participant 'alice' has no 'key-sha256'; export the participant again")
        );
    }

    #[test]
    fn document_above_the_maximum_size_is_not_written() {
        let one = exported().remove(1);
        let named = |number: usize| {
            let mut participant = one.participant.clone();
            (participant.name, participant.display_name) =
                (format!("p{number}").parse().unwrap(), Some("é".repeat(64)));
            Exported { participant, ..one.clone() }
        };
        let refused = Exported::document((0..20_000).map(named).collect()).unwrap_err();
        assert_eq!(refused, "the document would be larger than 4194304 bytes; export fewer participants at once");
    }
}
