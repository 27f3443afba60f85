//! Makes a key with which a machine proves its name to the NATS server.

use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use nkeys::KeyPair;
use palabre_host::exit::Failure;

/// Writes the secret part of a new key into a new file, which only its owner can read. Prints the public part.
pub(crate) fn create(path: &Path) -> Result<(), Failure> {
    let key = KeyPair::new_user();
    let seed = key.seed().map_err(|error| Failure::system(format!("unable to make an nkey: {error}")))?;
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    let written = file.and_then(|mut file| file.write_all(format!("{seed}\n").as_bytes()));
    written.map_err(|error| Failure::refused(format!("unable to write '{}': {error}", path.display())))?;
    let printed = writeln!(std::io::stdout(), "{}", key.public_key());
    printed.map_err(|error| {
        Failure::system(format!(
            "unable to print the public part of the nkey: {error}; remove '{}' and try again",
            path.display()
        ))
    })
}
