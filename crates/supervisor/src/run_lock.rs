//! The lock on the run directory, which only one supervisor holds.

use std::fs;
use std::os::unix::fs::DirBuilderExt;

use palabre_host::exit::Failure;
use palabre_host::lock::Lock;

use crate::config::Config;

/// Creates the run directory and locks it.
pub(crate) fn take(config: &Config) -> Result<Lock, Failure> {
    let run = config.run.display();
    fs::DirBuilder::new().recursive(true).mode(0o750).create(&config.run).map_err(|error| {
        Failure::system(format!("unable to create directory '{run}': {error}; choose another directory with --run"))
    })?;
    let path = config.lock_file();
    match Lock::take(&path) {
        Ok(Some(lock)) => Ok(lock),
        // This process gets a shared lock, so no supervisor holds the exclusive lock: only listeners hold shared locks.
        Ok(None) if Lock::share(&path).is_ok_and(|lock| lock.is_some()) => Err(Failure::config(format!(
            "unable to start in '{run}': listeners without a supervisor serve its participants; stop them, for example with \
             'systemctl disable --now palabre-listener@NAME' for each"
        ))),
        Ok(None) => Err(Failure::refused(format!(
            "unable to start in '{run}': another palabre-supervisor runs there; stop that supervisor, or choose another directory with --run"
        ))),
        Err(error) => Err(Failure::system(format!("unable to lock '{}': {error}", path.display()))),
    }
}

/// Takes over the lock on the run directory, which the previous program has left as standard input.
pub(crate) fn inherited(config: &Config) -> Result<Lock, Failure> {
    match Lock::from_stdin() {
        Ok(Some(lock)) => Ok(lock),
        other => {
            let cause =
                other.err().map_or_else(|| "another process holds the lock".to_owned(), |error| error.to_string());
            Err(Failure::system(format!(
                "unable to keep the lock on '{}' during the upgrade: {cause}; the supervisor exits; start it again unless systemd does",
                config.run.display()
            )))
        }
    }
}
