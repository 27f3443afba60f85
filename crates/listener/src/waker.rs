//! Wakes a thread that waits in poll(2).

use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;

/// A descriptor that other threads make readable.
#[derive(Debug)]
pub struct Waker {
    sender: UnixStream,
    receiver: UnixStream,
}

impl Waker {
    /// Creates the pair of sockets.
    pub fn new() -> io::Result<Self> {
        let (sender, receiver) = UnixStream::pair()?;
        sender.set_nonblocking(true)?;
        receiver.set_nonblocking(true)?;
        Ok(Self { sender, receiver })
    }

    /// Wakes the thread that waits for the descriptor.
    pub fn wake(&self) {
        // If the write fails because the socket is full, earlier bytes already wake the thread.
        let _ = (&self.sender).write(&[1]);
    }

    /// Discards the notifications that have arrived, so that the socket is no longer readable.
    pub fn clear(&self) {
        let mut bytes = [0; 64];
        while (&self.receiver).read(&mut bytes).is_ok_and(|count| count == bytes.len()) {}
    }
}

impl AsFd for Waker {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.receiver.as_fd()
    }
}
