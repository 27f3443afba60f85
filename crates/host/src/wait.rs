//! Waiting for one of several descriptors, as a program with one loop does: poll(2).

use std::io;
use std::os::fd::BorrowedFd;
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

/// Waits until one of `fds` has something to read (or is broken, which a read will tell), at most for `timeout`; for
/// ever if there is none. Says for each whether it has; none has when the time is over or a signal came.
///
/// # Errors
/// Those of poll(2) but EINTR.
pub fn readable(fds: &[BorrowedFd<'_>], timeout: Option<Duration>) -> io::Result<Vec<bool>> {
    let mut polled: Vec<PollFd<'_>> = fds.iter().map(|fd| PollFd::new(*fd, PollFlags::POLLIN)).collect();
    let timeout = match timeout {
        None => PollTimeout::NONE,
        // Rounded up, or the last millisecond would be spent spinning.
        Some(timeout) => PollTimeout::try_from(timeout.as_micros().div_ceil(1000)).unwrap_or(PollTimeout::MAX),
    };
    match poll(&mut polled, timeout) {
        Ok(_) => Ok(polled.iter().map(|fd| fd.any().unwrap_or(true)).collect()),
        Err(Errno::EINTR) => Ok(vec![false; fds.len()]),
        Err(errno) => Err(errno.into()),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::io::Write as _;
    use std::os::fd::AsFd as _;
    use std::os::unix::net::UnixStream;

    #[test]
    fn only_the_one_with_something_to_read_is_readable() {
        let (mut write, read) = UnixStream::pair().unwrap();
        let (_other_write, other) = UnixStream::pair().unwrap();
        let fds = [read.as_fd(), other.as_fd()];
        assert_eq!(readable(&fds, Some(Duration::from_millis(1))).unwrap(), [false, false]);
        write.write_all(b"x").unwrap();
        assert_eq!(readable(&fds, None).unwrap(), [true, false]);
    }
}
