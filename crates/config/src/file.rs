//! Reads small files up to a maximum size, and replaces them atomically.

use std::io::{self, Read};
use std::path::Path;

pub(crate) use palabre_room::replace_file as replace;

/// Maximum size of a configuration file in bytes.
pub(crate) const MAX_FILE_BYTES: u64 = 64 * 1024;

/// Reads a file of at most [`MAX_FILE_BYTES`] as UTF-8 text. A larger file is an error.
pub(crate) fn read(path: &Path) -> io::Result<String> {
    let utf_8 = |_| io::Error::new(io::ErrorKind::InvalidData, "the file is not UTF-8 text");
    String::from_utf8(read_bytes(path, MAX_FILE_BYTES)?).map_err(utf_8)
}

/// Reads a regular file of at most `max` bytes.
pub(crate) fn read_bytes(path: &Path, max: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    palabre_room::open_regular(path)?.take(max + 1).read_to_end(&mut bytes)?;
    match bytes.len() as u64 > max {
        true => Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("the file is larger than {max} bytes"))),
        false => Ok(bytes),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_file_above_the_maximum_size_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a");
        std::fs::write(&path, vec![b' '; 64 * 1024 + 1]).unwrap();
        assert_eq!(read(&path).unwrap_err().kind(), io::ErrorKind::FileTooLarge);
    }
}
