//! One edit of the participants' files at a time: whoever edits takes the lock of their directory, reads, and writes.
//!
//! It binds the commands of this program; who edits by hand or by rename is not stopped, and needn't be.

use std::io;
use std::path::Path;
use std::time::Duration;

use palabre_config::PARTICIPANTS_DIR;
use palabre_host::exit::Failure;
use palabre_host::lock::Lock;

use crate::permission;

/// An edit takes milliseconds.
const PATIENCE: Duration = Duration::from_secs(10);

/// The right to edit, until this is dropped; none where there is no directory yet.
///
/// # Errors
/// Somebody has been editing for very long (refused), or the directory can't be opened (system).
pub fn begin(config: &Path) -> Result<Option<Lock>, Failure> {
    let roster = config.join(PARTICIPANTS_DIR);
    match Lock::wait(&roster, PATIENCE) {
        Ok(Some(lock)) => Ok(Some(lock)),
        Ok(None) => Err(Failure::refused(format!(
            "unable to edit '{}': another command has been doing so for {} s; see 'fuser {}'",
            roster.display(),
            PATIENCE.as_secs(),
            roster.display()
        ))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => {
            let cause = format!("unable to lock '{}': {error}", roster.display());
            Err(Failure::system(permission::explain(config, cause)))
        }
    }
}
