//! Standard output, where whoever reads it may leave early: `palabre status --json | head -1` is no failure.

use std::io::{self, Write};

use palabre_host::exit::Failure;

/// Writes all of it.
///
/// # Errors
/// It can't be written (system), except that nobody reads any more.
pub fn print(bytes: impl AsRef<[u8]>) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    match out.write_all(bytes.as_ref()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Failure::system(format!("unable to write to standard output: {error}")))
        }
        _ => Ok(()),
    }
}
