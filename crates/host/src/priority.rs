//! The niceness of single threads: a thread that serves a client without a key gets less processor time than the other threads. The thread of a load generator
//! gets more.

use rustix::process::{Resource, getpriority_process, getrlimit, setpriority_process};
use rustix::thread::{CapabilitySet, capabilities};

/// Amount that is added to the niceness. While both want a processor, the thread gets about a tenth of the time of a usual thread (sched(7)).
const STEP: i32 = 10;
/// Highest niceness.
const MAX: i32 = 19;

/// The usual niceness of this process. The process is permitted to restore it after a thread has raised its own niceness.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Niceness(i32);

impl Niceness {
    /// Returns the niceness of the calling thread, or `None` if this process may not restore it. For the restoration it needs the capability
    /// CAP_SYS_NICE or a sufficient RLIMIT_NICE (setrlimit(2); `LimitNICE=` of systemd.exec(5)).
    #[must_use]
    pub fn restorable() -> Option<Self> {
        // Without a process id, Linux returns the niceness of the calling thread: getpriority(2).
        let usual = getpriority_process(None).ok()?;
        let is_capable = capabilities(None).is_ok_and(|sets| sets.effective.contains(CapabilitySet::SYS_NICE));
        // The limit is 20 minus the lowest niceness; `None` is unlimited.
        let lowest = getrlimit(Resource::Nice).current.map_or(-20, |limit| 20 - i64::try_from(limit).unwrap_or(40));
        (is_capable || lowest <= i64::from(usual)).then_some(Self(usual))
    }

    /// Returns the usual niceness.
    #[must_use]
    pub fn usual(self) -> i32 {
        self.0
    }

    /// Returns the niceness of a thread after [`Self::raise`].
    #[must_use]
    pub fn raised(self) -> i32 {
        (self.0 + STEP).min(MAX)
    }

    /// Raises the niceness of the calling thread.
    pub fn raise(self) {
        // After an error, the thread works with its present niceness.
        let _ = setpriority_process(None, self.raised());
    }

    /// Gives the calling thread the usual niceness.
    pub fn restore(self) {
        if let Err(error) = setpriority_process(None, self.0) {
            log::warn!("unable to restore the niceness {} of a thread: {error}", self.0);
        }
    }
}

/// Gives the calling thread the niceness −10 if it has a higher one, so that it gets a processor before others. Only root may do this; for another user it
/// has no effect.
pub fn prefer_this_thread() {
    if getpriority_process(None).is_ok_and(|niceness| niceness > -STEP) {
        let _ = setpriority_process(None, -STEP);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn niceness_of_one_thread_is_raised_and_restored() {
        let Some(niceness) = Niceness::restorable() else {
            return palabre_testing::not_shown("the niceness of a thread", "this user may not lower it");
        };
        let now = || getpriority_process(None).unwrap();
        std::thread::spawn(move || {
            niceness.raise();
            assert_eq!(now(), niceness.raised());
            niceness.restore();
            assert_eq!(now(), niceness.usual());
            niceness.raise();
        })
        .join()
        .unwrap();
        assert_eq!(now(), niceness.usual());
        let is_capable = capabilities(None).is_ok_and(|sets| sets.effective.contains(CapabilitySet::SYS_NICE));
        std::thread::spawn(move || {
            prefer_this_thread();
            assert_eq!(now(), if is_capable { niceness.usual().min(-STEP) } else { niceness.usual() });
        })
        .join()
        .unwrap();
        assert_eq!(now(), niceness.usual());
    }
}
