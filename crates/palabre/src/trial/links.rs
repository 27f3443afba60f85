//! `NAME REST` a line, in a file that is for its owner alone: the links for whoever automates, the keys for the next time.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write};
use std::path::Path;

/// A longer file is none of ours.
const MAX_BYTES: u64 = 64 * 1024;

/// Writes the file whole, or not at all; mode 0600.
///
/// # Errors
/// Those of the file system.
pub fn write<'a>(path: &Path, lines: impl Iterator<Item = (&'a str, &'a str)>) -> io::Result<()> {
    let directory = path.parent().unwrap_or(Path::new("."));
    let mut file = tempfile::NamedTempFile::new_in(directory)?;
    for (name, rest) in lines {
        writeln!(file, "{name} {rest}")?;
    }
    file.persist(path)?;
    Ok(())
}

/// What stands beside each name; nothing where there is no such file.
#[must_use]
pub fn read(path: &Path) -> BTreeMap<String, String> {
    if fs::metadata(path).is_ok_and(|metadata| metadata.len() > MAX_BYTES) {
        return BTreeMap::new();
    }
    let text = fs::read_to_string(path).unwrap_or_default();
    text.lines()
        .filter_map(|line| line.split_once(' '))
        .map(|(name, rest)| (name.to_owned(), rest.to_owned()))
        .collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn what_is_written_is_read_back_by_its_owner_alone() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("links");
        assert!(read(&path).is_empty());
        write(&path, [("alice", "https://a/"), ("bob", "https://b/")].into_iter()).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "alice https://a/\nbob https://b/\n");
        assert_eq!(read(&path)["bob"], "https://b/");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
    }
}
