//! Signals as bytes in a self-pipe, read where a program waits anyhow: signal-hook's delivery, with a time-out.
//!
//! A handler runs nothing but the write of one byte. Signals of the same kind that come close together may be
//! delivered as one, as signal(7) does itself: after SIGCHLD look at every child.

use std::fmt;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use signal_hook::iterator::backend::SignalDelivery;
use signal_hook::iterator::exfiltrator::SignalOnly;

use crate::program;

pub use signal_hook::consts::{SIGCHLD, SIGHUP, SIGINT, SIGTERM, SIGUSR1, SIGUSR2};

/// A set of signals that this process now receives here instead of dying of them.
pub struct Signals {
    delivery: SignalDelivery<UnixStream, SignalOnly>,
}

impl Signals {
    /// Takes over `signals` (numbers, of this module's constants) for the whole process. What came while one program was
    /// replaced by another ([`crate::program::Program::replace`]) comes now.
    ///
    /// # Errors
    /// Those of socketpair(2) and sigaction(2).
    ///
    /// # Panics
    /// For a signal that can't be handled: SIGKILL, SIGSTOP, SIGILL, SIGFPE, SIGSEGV.
    pub fn new(signals: &[i32]) -> io::Result<Self> {
        let (read, write) = UnixStream::pair()?;
        let delivery = SignalDelivery::with_pipe(read, write, SignalOnly, signals)?;
        program::let_signals_come()?;
        Ok(Self { delivery })
    }

    /// A signal that has already come, without waiting.
    pub fn try_next(&mut self) -> Option<i32> {
        self.delivery.pending().next()
    }

    /// Waits for a signal, at most for `timeout`; for ever if there is none. `Ok(None)` when the time is over.
    ///
    /// # Errors
    /// Those of poll(2).
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

    /// False when the deadline has passed.
    fn wait_for_a_byte(&self, deadline: Option<Instant>) -> io::Result<bool> {
        let timeout = match deadline.map(|deadline| deadline.saturating_duration_since(Instant::now())) {
            None => PollTimeout::NONE,
            Some(Duration::ZERO) => return Ok(false),
            // Rounded up, or the last millisecond would be spent spinning.
            Some(left) => PollTimeout::try_from(left + Duration::from_millis(1)).unwrap_or(PollTimeout::MAX),
        };
        match poll(&mut [PollFd::new(self.as_fd(), PollFlags::POLLIN)], timeout) {
            Ok(_) | Err(Errno::EINTR) => Ok(true),
            Err(errno) => Err(errno.into()),
        }
    }
}

/// For a program's own poll(2): readable when [`Signals::try_next`] has something to say.
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
    fn waiting_ends_when_the_time_is_over() {
        let mut signals = Signals::new(&[SIGUSR2]).unwrap();
        assert_eq!(signals.wait(Some(Duration::from_millis(5))).unwrap(), None);
    }
}
