//! Receives signals through a self-pipe (signal-hook), so that a program can wait for them together with other descriptors.
//!
//! The signal handler only writes a byte to the pipe. Several signals of the same kind may be delivered as one, as in
//! signal(7): after SIGCHLD, check every child.

use std::fmt;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use signal_hook::iterator::backend::SignalDelivery;
use signal_hook::iterator::exfiltrator::SignalOnly;

use crate::{program, wait};

pub use signal_hook::consts::{SIGCHLD, SIGHUP, SIGINT, SIGTERM, SIGUSR1, SIGUSR2};

/// Receives signals, whose default action then doesn't happen.
pub struct Signals {
    delivery: SignalDelivery<UnixStream, SignalOnly>,
}

impl Signals {
    /// Installs handlers for `signals` (this module's constants). Unblocks signals that arrived during
    /// [`crate::program::Program::replace`].
    ///
    /// # Panics
    /// For a signal that can't be handled: SIGKILL, SIGSTOP, SIGILL, SIGFPE, SIGSEGV.
    pub fn new(signals: &[i32]) -> io::Result<Self> {
        let (read, write) = UnixStream::pair()?;
        let delivery = SignalDelivery::with_pipe(read, write, SignalOnly, signals)?;
        program::unblock_signals()?;
        Ok(Self { delivery })
    }

    /// Returns a signal that has already arrived, or `None`, without waiting.
    pub fn try_next(&mut self) -> Option<i32> {
        self.delivery.pending().next()
    }

    /// Waits for a signal, at most for `timeout`; `None` waits for ever. Returns `None` after the timeout.
    pub fn wait(&mut self, timeout: Option<Duration>) -> io::Result<Option<i32>> {
        let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        loop {
            if let Some(signal) = self.try_next() {
                return Ok(Some(signal));
            }
            if !self.wait_for_a_byte(deadline)? {
                return Ok(None);
            }
        }
    }

    /// Waits until the self-pipe contains a byte, the deadline passes, or a signal arrives. Returns `false` if the deadline had passed already.
    fn wait_for_a_byte(&self, deadline: Option<Instant>) -> io::Result<bool> {
        let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        if left == Some(Duration::ZERO) {
            return Ok(false);
        }
        wait::readable(&[self.as_fd()], left).map(|_| true)
    }
}

/// Readable when [`Signals::try_next`] returns a signal.
impl AsFd for Signals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.delivery.get_read().as_fd()
    }
}

impl fmt::Debug for Signals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Signals").finish_non_exhaustive()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use nix::sys::signal::{Signal, raise};

    #[test]
    fn a_raised_signal_is_received_once() {
        let mut signals = Signals::new(&[SIGUSR1]).unwrap();
        raise(Signal::SIGUSR1).unwrap();
        assert_eq!(signals.wait(Some(Duration::from_secs(10))).unwrap(), Some(SIGUSR1));
        assert_eq!(signals.try_next(), None);
    }

    #[test]
    fn waiting_ends_after_the_timeout() {
        let mut signals = Signals::new(&[SIGUSR2]).unwrap();
        assert_eq!(signals.wait(Some(Duration::from_millis(5))).unwrap(), None);
    }
}
