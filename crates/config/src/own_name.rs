//! The display name that a participant has chosen on the page.
//!
//! The choice is state, not configuration: the supervisor records it below `/var/lib`, and the participant's file doesn't change.

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
    /// `instead-of`: the name of the participant's file at the time of the choice. If the file has another name now, the choice is
    /// invalid: the operator has renamed the participant.
    pub instead_of: String,
}

impl OwnName {
    /// Reads the choice of a participant whose file has the name `display` from `dir`; `None` if there is no valid choice.
    pub fn load(dir: &Path, name: &Name, display: &str) -> Result<Option<String>, ConfigError> {
        let record: Option<Self> = record::load(dir, name)?;
        let is_valid = |own: &Self| own.instead_of == display && own_display_name_is_valid(&own.display_name);
        Ok(record.filter(is_valid).map(|own| own.display_name))
    }

    /// Writes the choice to the participant's file in `dir`, atomically and durably. Creates the directory if necessary.
    pub fn write(&self, dir: &Path, name: &Name) -> Result<(), ConfigError> {
        record::write(self, dir, name)
    }

    /// Removes the choice of a participant in `dir`, if there is one.
    pub fn remove(dir: &Path, name: &Name) -> Result<(), ConfigError> {
        record::remove(dir, name)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_choice_is_valid_until_the_operator_renames_the_participant() {
        let (dir, alice) = (tempfile::tempdir().unwrap(), "alice".parse().unwrap());
        let load = |display| OwnName::load(dir.path(), &alice, display).unwrap();
        assert_eq!(load("Alice"), None);
        OwnName { display_name: "Ali".into(), instead_of: "Alice".into() }.write(dir.path(), &alice).unwrap();
        assert_eq!((load("Alice"), load("Alice B.")), (Some("Ali".into()), None));
        OwnName::remove(dir.path(), &alice).unwrap();
        assert_eq!(load("Alice"), None);
    }

    #[test]
    fn a_record_with_an_invalid_name_is_no_choice() {
        let (dir, alice) = (tempfile::tempdir().unwrap(), "alice".parse().unwrap());
        OwnName { display_name: "\u{202e}".into(), instead_of: "Alice".into() }.write(dir.path(), &alice).unwrap();
        assert_eq!(OwnName::load(dir.path(), &alice, "Alice").unwrap(), None);
    }
}
