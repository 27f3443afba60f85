//! Reads small files up to a maximum size, and replaces them atomically.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

pub(crate) use palabre_room::replace_file as replace;

/// Maximum size of a configuration file in bytes.
pub(crate) const MAX_FILE_BYTES: u64 = 64 * 1024;

/// Reads a file of at most [`MAX_FILE_BYTES`] as UTF-8 text. A larger file is an error.
pub(crate) fn read(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    File::open(path)?.take(MAX_FILE_BYTES + 1).read_to_string(&mut text)?;
    if text.len() as u64 > MAX_FILE_BYTES {
        return Err(io::Error::new(
            io::ErrorKind::FileTooLarge,
            format!("the file is larger than {MAX_FILE_BYTES} bytes"),
        ));
    }
    Ok(text)
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
