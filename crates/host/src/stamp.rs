//! Detects that a file was replaced or written, without reading the file.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use serde::{Deserialize, Serialize};

/// Device, inode, size in bytes, and time of the last status change in seconds and nanoseconds: stat(2). This time also changes with the
/// file's content, owner and mode, so a file that was unreadable is noticed when it becomes readable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileStamp(u64, u64, u64, i64, i64);

impl FileStamp {
    /// Returns the stamp of the file at `path`, or `None` if stat(2) fails.
    #[must_use]
    pub fn of(path: &Path) -> Option<Self> {
        let file = fs::metadata(path).ok()?;
        Some(Self(file.dev(), file.ino(), file.size(), file.ctime(), file.ctime_nsec()))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_stamp_changes_when_the_file_is_written_or_replaced_or_its_mode_changes() {
        let dir = tempfile::tempdir().unwrap();
        let (path, other) = (dir.path().join("file"), dir.path().join("other"));
        assert_eq!(FileStamp::of(&path), None);
        fs::write(&path, "a").unwrap();
        let first = FileStamp::of(&path).unwrap();
        assert_eq!(FileStamp::of(&path), Some(first));
        fs::write(&path, "ab").unwrap();
        let written = FileStamp::of(&path).unwrap();
        assert_ne!(written, first);
        fs::write(&other, "ab").unwrap();
        fs::rename(&other, &path).unwrap();
        let replaced = FileStamp::of(&path).unwrap();
        assert_ne!(replaced, written);
        fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
        assert_ne!(FileStamp::of(&path), Some(replaced), "the mode has changed");
    }
}
