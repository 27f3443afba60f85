//! Reads a list or a document from a file or from standard input.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

/// The path that stands for standard input.
pub(crate) const STANDARD_INPUT: &str = "-";

/// Returns how an error message names the input.
pub(crate) fn named(path: &Path) -> String {
    if path == Path::new(STANDARD_INPUT) { "standard input".to_owned() } else { format!("'{}'", path.display()) }
}

/// Reads a file, or standard input if the path is `-`. Fails if the content is longer than `max` bytes. `what` names the content in the error.
pub(crate) fn read(path: &Path, max: usize, what: &str) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    let limit = max as u64 + 1;
    let read = match path == Path::new(STANDARD_INPUT) {
        true => io::stdin().take(limit).read_to_end(&mut bytes),
        false => File::open(path).and_then(|file| file.take(limit).read_to_end(&mut bytes)),
    };
    match read {
        Err(error) => Err(error.to_string()),
        Ok(_) if bytes.len() > max => Err(format!("the {what} is longer than {max} bytes")),
        Ok(_) => Ok(bytes),
    }
}
