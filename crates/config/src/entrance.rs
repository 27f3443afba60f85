//! The use of a single-use invitation link.
//!
//! The use of a link is state, not configuration: the supervisor records the use below `/var/lib`, and the
//! participant's file doesn't change. A new link makes the record invalid.

use std::fmt;
use std::path::Path;
use std::str::FromStr;

use palabre_room::Name;
use serde::{Deserialize, Serialize};

use crate::key::NotAHash;
use crate::{ConfigError, KeyHash, record, text};

/// Use of a single-use link: the hash of the link's key, and the hash of the access key that replaced it. As text:
/// `LINK:KEY`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Entrance {
    /// `link-sha256`: hash of the key in the used link.
    #[serde(rename = "link-sha256", deserialize_with = "text::parsed", serialize_with = "text::shown")]
    pub link: KeyHash,
    /// `key-sha256`: hash of the access key of the browser that used the link.
    #[serde(rename = "key-sha256", deserialize_with = "text::parsed", serialize_with = "text::shown")]
    pub key: KeyHash,
}

impl Entrance {
    /// Reads the record of a participant's used link in `dir`; `None` if the participant's link is unused.
    pub fn load(dir: &Path, name: &Name) -> Result<Option<Self>, ConfigError> {
        record::load(dir, name)
    }

    /// Writes the record to the participant's file in `dir`, atomically and durably. Creates the directory if
    /// necessary.
    pub fn write(&self, dir: &Path, name: &Name) -> Result<(), ConfigError> {
        record::write(self, dir, name)
    }

    /// Removes the record of a participant's used link in `dir`, if there is a record.
    pub fn remove(dir: &Path, name: &Name) -> Result<(), ConfigError> {
        record::remove(dir, name)
    }
}

impl fmt::Display for Entrance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.link, self.key)
    }
}

impl FromStr for Entrance {
    type Err = NotAHash;

    fn from_str(text: &str) -> Result<Self, NotAHash> {
        let (link, key) = text.split_once(':').ok_or(NotAHash)?;
        Ok(Self { link: link.parse()?, key: key.parse()? })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::Key;
    use crate::record::path;
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_written_entrance_is_read_back_and_removed() {
        let dir = tempfile::tempdir().unwrap();
        let (links, alice) = (dir.path().join("state/links"), "alice".parse().unwrap());
        assert_eq!(Entrance::load(&links, &alice).unwrap(), None);
        let hash = || Key::generate().unwrap().hash();
        let entrance = Entrance { link: hash(), key: hash() };
        entrance.write(&links, &alice).unwrap();
        assert_eq!(Entrance::load(&links, &alice).unwrap(), Some(entrance));
        assert_eq!(entrance.to_string().parse(), Ok(entrance));
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&links), mode(&path(&links, &alice))), (0o700, 0o600));
        Entrance::remove(&links, &alice).unwrap();
        Entrance::remove(&links, &alice).unwrap();
        assert_eq!(Entrance::load(&links, &alice).unwrap(), None);
    }

    #[test]
    fn an_invalid_file_is_an_error_and_not_an_unused_link() {
        let (dir, alice) = (tempfile::tempdir().unwrap(), "alice".parse().unwrap());
        for bad in ["", "link-sha256 = \"0\"", "key-sha256 = \"\""] {
            fs::write(path(dir.path(), &alice), bad).unwrap();
            assert!(Entrance::load(dir.path(), &alice).is_err(), "{bad}");
        }
        for bad in ["", ":", "0:0"] {
            assert!(bad.parse::<Entrance>().is_err(), "{bad}");
        }
    }
}
