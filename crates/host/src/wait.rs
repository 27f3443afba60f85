//! Waiting for several descriptors at once: poll(2) and epoll(7).

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags};

/// Waits until one of `fds` is readable or broken (then a read returns the error), at most for `timeout`; `None` waits
/// for ever.
///
/// Returns for each descriptor whether it is readable or broken. After a timeout or a signal, all values are `false`.
pub fn readable(fds: &[BorrowedFd<'_>], timeout: Option<Duration>) -> io::Result<Vec<bool>> {
    let mut polled: Vec<PollFd<'_>> = fds.iter().map(|fd| PollFd::new(*fd, PollFlags::POLLIN)).collect();
    match poll(&mut polled, poll_timeout(timeout)) {
        Ok(_) => Ok(polled.iter().map(|fd| fd.any().unwrap_or(true)).collect()),
        Err(Errno::EINTR) => Ok(vec![false; fds.len()]),
        Err(errno) => Err(errno.into()),
    }
}

/// Waits until `fd` is readable or broken, at most for `timeout`. Returns whether `fd` is readable or broken.
pub fn is_readable(fd: &impl AsFd, timeout: Duration) -> io::Result<bool> {
    Ok(readable(&[fd.as_fd()], Some(timeout))? == [true])
}

/// Returns whether the other end of a connection sends nothing more: it has shut down or closed the connection, or the connection is broken. Unread
/// data may be left.
#[must_use]
pub fn has_ended(connection: &impl AsFd) -> bool {
    let events = PollFlags::from_bits_retain(nix::libc::POLLRDHUP);
    // poll(2) reports a broken connection also without a flag for it in `events`.
    poll(&mut [PollFd::new(connection.as_fd(), events)], PollTimeout::ZERO).is_ok_and(|count| count > 0)
}

/// Returns `timeout` in whole milliseconds for poll(2) and epoll_wait(2); `None` waits for ever.
///
/// The value is rounded up, so that a wait of less than a millisecond doesn't become a busy loop.
#[must_use]
pub fn poll_timeout(timeout: Option<Duration>) -> PollTimeout {
    timeout.map_or(PollTimeout::NONE, |timeout| {
        PollTimeout::try_from(timeout.as_micros().div_ceil(1000)).unwrap_or(PollTimeout::MAX)
    })
}

/// Maximum number of descriptors that one [`Set::wait`] reports.
const MAX_REPORTED: usize = 64;

/// A set of descriptors to wait for, each with a number: epoll(7). The cost of a wait doesn't depend on the number of descriptors.
#[derive(Debug)]
pub struct Set(Epoll);

impl Set {
    /// Returns a set without descriptors.
    pub fn new() -> io::Result<Self> {
        Ok(Self(Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?))
    }

    /// Adds a descriptor. Call [`Self::remove`] before you close it: if another process has the same socket open, closing doesn't remove it.
    pub fn add(&self, fd: &impl AsFd, number: u64) -> io::Result<()> {
        Ok(self.0.add(fd, EpollEvent::new(EpollFlags::EPOLLIN, number))?)
    }

    /// Removes a descriptor.
    pub fn remove(&self, fd: &impl AsFd) -> io::Result<()> {
        Ok(self.0.delete(fd)?)
    }

    /// Waits until a descriptor is readable or broken, at most for `timeout`; `None` waits for ever. Returns the numbers of these descriptors,
    /// or no numbers after a timeout or a signal. Returns at most 64 numbers; the next calls return the others.
    pub fn wait(&self, timeout: Option<Duration>) -> io::Result<Vec<u64>> {
        let mut events = [EpollEvent::empty(); MAX_REPORTED];
        match self.0.wait(&mut events, poll_timeout(timeout)) {
            Ok(count) => Ok(events[..count].iter().map(EpollEvent::data).collect()),
            Err(Errno::EINTR) => Ok(Vec::new()),
            Err(errno) => Err(errno.into()),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::io::Write as _;
    use std::os::unix::net::UnixStream;

    #[test]
    fn only_the_descriptor_with_data_is_readable() {
        let (mut write, read) = UnixStream::pair().unwrap();
        let (_other_write, other) = UnixStream::pair().unwrap();
        let fds = [read.as_fd(), other.as_fd()];
        assert_eq!(readable(&fds, Some(Duration::from_millis(1))).unwrap(), [false, false]);
        write.write_all(b"x").unwrap();
        assert_eq!(readable(&fds, None).unwrap(), [true, false]);
        assert!(is_readable(&read, Duration::ZERO).unwrap());
        assert!(!is_readable(&other, Duration::ZERO).unwrap());
        assert!(!has_ended(&read));
        drop(write);
        assert!(has_ended(&read), "although data are unread");
    }

    #[test]
    fn set_reports_the_descriptors_with_data_until_they_are_removed() {
        let (mut write, read) = UnixStream::pair().unwrap();
        let (other_write, other) = UnixStream::pair().unwrap();
        let set = Set::new().unwrap();
        set.add(&read, 7).unwrap();
        set.add(&other, 8).unwrap();
        assert!(set.wait(Some(Duration::ZERO)).unwrap().is_empty());
        write.write_all(b"x").unwrap();
        assert_eq!(set.wait(None).unwrap(), [7]);
        set.remove(&read).unwrap();
        drop(other_write);
        assert_eq!(set.wait(None).unwrap(), [8], "a closed connection is reported");
    }

    #[test]
    fn a_timeout_is_rounded_up_to_whole_milliseconds() {
        let ms = |duration| poll_timeout(Some(duration)).as_millis();
        assert_eq!(ms(Duration::ZERO), Some(0));
        assert_eq!(ms(Duration::from_micros(1)), Some(1));
        assert_eq!(ms(Duration::from_millis(2)), Some(2));
        assert_eq!(ms(Duration::from_micros(2001)), Some(3));
        assert_eq!(poll_timeout(Some(Duration::MAX)), PollTimeout::MAX);
        assert_eq!(poll_timeout(None), PollTimeout::NONE);
    }
}
