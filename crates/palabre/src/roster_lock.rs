//! The lock that prevents two `palabre` commands from editing the participants' files at the same time.
//!
//! A command takes the lock, reads and writes the files, and releases the lock. Text editors don't take the lock.

use std::io;
use std::path::Path;
use std::time::Duration;

use palabre_config::PARTICIPANTS_DIR;
use palabre_host::exit::Failure;
use palabre_host::lock::Lock;

use crate::permission;

/// Maximum time to wait for the lock. Another command normally holds it for some milliseconds.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Locks the directory of the participants' files. Returns `None` if the directory doesn't exist.
pub(crate) fn take(config: &Path) -> Result<Option<Lock>, Failure> {
    let roster = config.join(PARTICIPANTS_DIR);
    match Lock::wait(&roster, TIMEOUT) {
        Ok(Some(lock)) => Ok(Some(lock)),
        Ok(None) => Err(Failure::refused(format!(
            "unable to lock directory '{0}': another process has held the lock for {1} s; find it with 'fuser {0}'",
            roster.display(),
            TIMEOUT.as_secs()
        ))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => {
            let cause = format!("unable to lock directory '{}': {error}", roster.display());
            Err(Failure::system(permission::explain(config, cause)))
        }
    }
}
