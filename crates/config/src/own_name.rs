//! The display name that a participant has chosen on the page.
//!
//! The chosen name is state, not configuration: the supervisor records it below `/var/lib`, and the participant's file doesn't change.

use std::path::Path;

use palabre_room::{Name, own_display_name_is_valid};
use serde::{Deserialize, Serialize};

use crate::{ConfigError, record};

/// A display name that a participant has chosen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct OwnName {
    /// `display-name`: the chosen name.
    pub display_name: String,
    /// `instead-of`: the display name in the participant's file when the participant chose. If the file has another name now, the operator has
    /// renamed the participant, and the chosen name is invalid.
    pub instead_of: String,
}

impl OwnName {
    /// Reads the chosen name of a participant from `dir`. `display` is the name in the participant's file. Returns `None` if there is no valid
    /// chosen name.
    pub fn load(dir: &Path, name: &Name, display: &str) -> Result<Option<String>, ConfigError> {
        let record: Option<Self> = record::load(dir, name)?;
        let is_valid = |own: &Self| own.instead_of == display && own_display_name_is_valid(&own.display_name);
        Ok(record.filter(is_valid).map(|own| own.display_name))
    }

    /// Writes the chosen name to the participant's record in `dir`, atomically and durably. Creates the directory if necessary.
    pub fn write(&self, dir: &Path, name: &Name) -> Result<(), ConfigError> {
        record::write(self, dir, name)
    }

    /// Removes the chosen name of a participant from `dir`, if there is one.
    pub fn remove(dir: &Path, name: &Name) -> Result<(), ConfigError> {
        record::remove(dir, name)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn chosen_name_is_valid_until_the_operator_renames_the_participant() {
        let (dir, alice) = (tempfile::tempdir().unwrap(), "alice".parse().unwrap());
        let load = |display| OwnName::load(dir.path(), &alice, display).unwrap();
        assert_eq!(load("Alice"), None);
        OwnName { display_name: "Ali".into(), instead_of: "Alice".into() }.write(dir.path(), &alice).unwrap();
        assert_eq!((load("Alice"), load("Alice B.")), (Some("Ali".into()), None));
        OwnName::remove(dir.path(), &alice).unwrap();
        assert_eq!(load("Alice"), None);
    }

    #[test]
    fn record_with_an_invalid_name_is_ignored() {
        let (dir, alice) = (tempfile::tempdir().unwrap(), "alice".parse().unwrap());
        OwnName { display_name: "\u{202e}".into(), instead_of: "Alice".into() }.write(dir.path(), &alice).unwrap();
        assert_eq!(OwnName::load(dir.path(), &alice, "Alice").unwrap(), None);
    }
}
