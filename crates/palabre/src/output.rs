//! Writes to standard output. If the reader closes the pipe early, as in `palabre status --json | head -1`, this is not an error.

use std::io::{self, Write};

use palabre_host::exit::Failure;

/// Writes `bytes` to standard output.
pub(crate) fn print(bytes: impl AsRef<[u8]>) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    match out.write_all(bytes.as_ref()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Failure::system(format!("unable to write to standard output: {error}")))
        }
        _ => Ok(()),
    }
}
