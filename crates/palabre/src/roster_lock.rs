//! The lock that lets only one command at a time edit the participants' files.
//!
//! A command takes the lock, reads, writes, and releases it. Editors don't take it.

use std::io;
use std::path::Path;
use std::time::Duration;

use palabre_config::PARTICIPANTS_DIR;
use palabre_host::exit::Failure;
use palabre_host::lock::Lock;

use crate::permission;

/// Maximum time to wait for another command, which normally needs milliseconds.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Locks the directory of the participants' files. Returns `None` if it doesn't exist.
pub(crate) fn take(config: &Path) -> Result<Option<Lock>, Failure> {
    let roster = config.join(PARTICIPANTS_DIR);
    match Lock::wait(&roster, TIMEOUT) {
        Ok(Some(lock)) => Ok(Some(lock)),
        Ok(None) => Err(Failure::refused(format!(
            "unable to lock '{0}': another process has held the lock for {1} s; find it with 'fuser {0}'",
            roster.display(),
            TIMEOUT.as_secs()
        ))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => {
            let cause = format!("unable to lock '{}': {error}", roster.display());
            Err(Failure::system(permission::explain(config, cause)))
        }
    }
}
