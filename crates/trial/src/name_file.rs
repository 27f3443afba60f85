//! The files of a trial that contain secrets in lines `NAME VALUE`: the links and the keys. Only the owner can read them.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write};
use std::path::Path;

/// Maximum size of a file that is read, in bytes.
const MAX_BYTES: u64 = 1024 * 1024;

/// Replaces the file atomically by the lines `NAME VALUE`. The mode of the file is 0600.
pub(crate) fn write<'a>(path: &Path, lines: impl Iterator<Item = (&'a str, &'a str)>) -> io::Result<()> {
    let directory = path.parent().unwrap_or(Path::new("."));
    let mut file = tempfile::NamedTempFile::new_in(directory)?;
    for (name, value) in lines {
        writeln!(file, "{name} {value}")?;
    }
    file.persist(path)?;
    Ok(())
}

/// Reads the file and returns the values by name. Returns an empty map if the file is missing or too large.
pub(crate) fn read(path: &Path) -> BTreeMap<String, String> {
    if fs::metadata(path).is_ok_and(|metadata| metadata.len() > MAX_BYTES) {
        return BTreeMap::new();
    }
    let text = fs::read_to_string(path).unwrap_or_default();
    text.lines()
        .filter_map(|line| line.split_once(' '))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn written_lines_are_read_back_and_only_the_owner_may_read_them() {
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
