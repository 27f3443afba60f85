//! Unix sockets of the type SOCK_SEQPACKET, which keep messages separate: unix(7). A message can carry descriptors.
//!
//! Only [`request_connection`] waits. Use [`crate::wait`] to wait for a message.

use std::io::{self, IoSlice, IoSliceMut, Write as _};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, Shutdown, SocketFlags, SocketType, recv, recvmsg, send, sendmsg, shutdown,
    socketpair,
};

use crate::wait;

/// Maximum number of descriptors in a message of [`Packet::send_with_all`].
pub const MAX_FDS: usize = 3;

/// Timeout for each step of [`request_connection`].
const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);
/// Maximum length of the answer to [`request_connection`], in bytes.
const MAX_ANSWER_BYTES: usize = 4096;

/// One end of a connection of the type SOCK_SEQPACKET.
#[derive(Debug)]
pub struct Packet(OwnedFd);

impl Packet {
    /// Returns the two ends of a new connection.
    pub fn pair() -> io::Result<(Self, Self)> {
        let (one, other) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
        Ok((Self(one), Self(other)))
    }

    /// Returns another descriptor of the same socket.
    pub fn try_clone(&self) -> io::Result<Self> {
        Ok(Self(self.0.try_clone()?))
    }

    /// Closes the connection, also for duplicates of this socket. Messages that the other end has not read are kept for it.
    pub fn close(&self) {
        // shutdown(2) fails only if the other end has closed the connection already.
        let _ = shutdown(&self.0, Shutdown::Both);
    }

    /// Sends a message. Fails with `WouldBlock` if the other end has too many unread messages.
    pub fn send(&self, message: &[u8]) -> io::Result<()> {
        send(&self.0, message, SendFlags::DONTWAIT | SendFlags::NOSIGNAL)?;
        Ok(())
    }

    /// Sends a message with a duplicate of the descriptor `fd`.
    pub fn send_with(&self, message: &[u8], fd: &impl AsFd) -> io::Result<()> {
        send_with(&self.0, message, fd)
    }

    /// Sends a message with duplicates of at most [`MAX_FDS`] descriptors.
    pub fn send_with_all(&self, message: &[u8], fds: &[BorrowedFd<'_>]) -> io::Result<()> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if fds.len() > MAX_FDS || !control.push(SendAncillaryMessage::ScmRights(fds)) {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        sendmsg(&self.0, &[IoSlice::new(message)], &mut control, SendFlags::DONTWAIT | SendFlags::NOSIGNAL)?;
        Ok(())
    }

    /// Receives a message into `buffer` and returns its length. Returns `None` if the other end is closed or the message is empty. Cuts a
    /// message that is longer than the buffer. Fails with `WouldBlock` if there is no message.
    pub fn recv(&self, buffer: &mut [u8]) -> io::Result<Option<usize>> {
        let (length, _) = recv(&self.0, buffer, RecvFlags::DONTWAIT)?;
        Ok((length > 0).then_some(length))
    }

    /// Receives a message as [`Self::recv`] does. Also returns the descriptor in the message, if there is one.
    pub fn recv_with(&self, buffer: &mut [u8]) -> io::Result<Option<(usize, Option<OwnedFd>)>> {
        let (length, fd) = recv_with(&self.0, buffer)?;
        Ok((length > 0).then_some((length, fd)))
    }

    /// Receives a message as [`Self::recv`] does. Also returns its descriptors, at most [`MAX_FDS`]. Descriptors are missing if the limit of open files
    /// is reached.
    pub fn recv_with_all(&self, buffer: &mut [u8]) -> io::Result<Option<(usize, Vec<OwnedFd>)>> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
        let (length, fds, _) = receive(&self.0, buffer, &mut space)?;
        Ok((length > 0).then_some((length, fds)))
    }
}

impl AsFd for Packet {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl From<OwnedFd> for Packet {
    fn from(fd: OwnedFd) -> Self {
        Self(fd)
    }
}

impl From<Packet> for OwnedFd {
    fn from(packet: Packet) -> Self {
        packet.0
    }
}

/// Sends bytes with a duplicate of the descriptor `fd` on a Unix socket: SCM_RIGHTS of unix(7). Does not wait.
pub fn send_with(socket: &impl AsFd, bytes: &[u8], fd: &impl AsFd) -> io::Result<()> {
    let fds = [fd.as_fd()];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    control.push(SendAncillaryMessage::ScmRights(&fds));
    sendmsg(socket, &[IoSlice::new(bytes)], &mut control, SendFlags::DONTWAIT | SendFlags::NOSIGNAL)?;
    Ok(())
}

/// Receives bytes and the descriptor that they carry from a Unix socket. Returns the number of bytes. Does not wait.
///
/// The kernel closes further descriptors that come with the bytes, so the other end can't fill the descriptor table.
pub fn recv_with(socket: &impl AsFd, buffer: &mut [u8]) -> io::Result<(usize, Option<OwnedFd>)> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let (length, fds, is_cut) = receive(socket, buffer, &mut space)?;
    let fd = fds.into_iter().next();
    if fd.is_none() && is_cut {
        return Err(io::Error::other(
            "unable to receive a descriptor: the limit of open files of this process is reached",
        ));
    }
    Ok((length, fd))
}

/// Asks the server of the stream socket at `path` for a connection: sends `request`, and receives the descriptor that the first byte of the answer
/// carries. `check` gets the answer, and whether it carries a descriptor; it returns why the server has refused. Each step takes at most
/// `ANSWER_TIMEOUT`.
///
/// # Errors
/// The connection can't be made or was refused. Contains the cause.
pub fn request_connection(
    path: &Path,
    request: &[u8],
    check: impl FnOnce(&[u8], bool) -> Result<(), String>,
) -> Result<Packet, String> {
    let (answer, connection) = ask(path, request).map_err(|error| format!("'{}': {error}", path.display()))?;
    check(&answer, connection.is_some())?;
    connection.map(Packet).ok_or_else(|| "the answer carries no connection".to_owned())
}

fn ask(path: &Path, request: &[u8]) -> io::Result<(Vec<u8>, Option<OwnedFd>)> {
    let mut stream = UnixStream::connect(path)?;
    stream.set_write_timeout(Some(ANSWER_TIMEOUT))?;
    stream.write_all(request)?;
    if !wait::is_readable(&stream, ANSWER_TIMEOUT)? {
        return Err(io::ErrorKind::TimedOut.into());
    }
    let mut answer = vec![0; MAX_ANSWER_BYTES];
    let (length, fd) = recv_with(&stream, &mut answer)?;
    answer.truncate(length);
    Ok((answer, fd))
}

/// Receives a message. Returns its length, its descriptors, and whether descriptors are missing.
fn receive(
    socket: &impl AsFd,
    buffer: &mut [u8],
    space: &mut [MaybeUninit<u8>],
) -> io::Result<(usize, Vec<OwnedFd>, bool)> {
    let mut control = RecvAncillaryBuffer::new(space);
    let flags = RecvFlags::DONTWAIT | RecvFlags::CMSG_CLOEXEC;
    let received = recvmsg(socket, &mut [IoSliceMut::new(buffer)], &mut control, flags)?;
    let fds = control.drain().filter_map(|message| match message {
        RecvAncillaryMessage::ScmRights(fds) => Some(fds),
        _ => None,
    });
    let fds: Vec<OwnedFd> = fds.flatten().collect();
    Ok((received.bytes, fds, received.flags.contains(ReturnFlags::CTRUNC)))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::io::Read as _;
    use std::os::unix::net::UnixStream;

    #[test]
    fn messages_stay_separate_and_a_long_one_is_cut() {
        let (one, other) = Packet::pair().unwrap();
        for message in [&b"first"[..], b"2", b"much too long"] {
            one.send(message).unwrap();
        }
        let mut buffer = [0; 5];
        for expected in [&b"first"[..], b"2", b"much "] {
            let length = other.recv(&mut buffer).unwrap().unwrap();
            assert_eq!(&buffer[..length], expected);
        }
        assert_eq!(other.recv(&mut buffer).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        drop(one);
        assert_eq!(other.recv(&mut buffer).unwrap(), None);
        assert_eq!(other.send(b"x").unwrap_err().kind(), io::ErrorKind::BrokenPipe);
    }

    #[test]
    fn message_carries_a_descriptor() {
        let (one, other) = Packet::pair().unwrap();
        let mut file = tempfile::tempfile().unwrap();
        std::io::Write::write_all(&mut file, b"content").unwrap();
        std::io::Seek::rewind(&mut file).unwrap();
        one.send_with(b"file", &file).unwrap();
        one.send(b"none").unwrap();
        let mut buffer = [0; 10];
        let (length, fd) = other.recv_with(&mut buffer).unwrap().unwrap();
        let mut text = String::new();
        File::from(fd.unwrap()).read_to_string(&mut text).unwrap();
        assert_eq!((&buffer[..length], text.as_str()), (&b"file"[..], "content"));
        assert!(matches!(other.recv_with(&mut buffer), Ok(Some((4, None)))));
    }

    #[test]
    fn message_carries_up_to_three_descriptors() {
        let (one, other) = Packet::pair().unwrap();
        let file = tempfile::tempfile().unwrap();
        one.send_with_all(b"three", &[file.as_fd(); MAX_FDS]).unwrap();
        assert!(one.send_with_all(b"four", &[file.as_fd(); MAX_FDS + 1]).is_err());
        one.send(b"none").unwrap();
        let mut buffer = [0; 10];
        let mut received = || other.recv_with_all(&mut buffer).unwrap().map(|(length, fds)| (length, fds.len()));
        assert_eq!([received(), received()], [Some((5, MAX_FDS)), Some((4, 0))]);
    }

    #[test]
    fn unread_messages_are_kept_while_any_end_is_open() {
        let (one, other) = Packet::pair().unwrap();
        let kept = other.try_clone().unwrap();
        one.send(b"waits").unwrap();
        drop(other);
        assert_eq!(kept.recv(&mut [0; 8]).unwrap(), Some(5));
    }

    #[test]
    fn bytes_of_a_stream_carry_a_descriptor() {
        let (one, other) = UnixStream::pair().unwrap();
        let (sent, kept) = Packet::pair().unwrap();
        send_with(&one, b"take it\n", &sent).unwrap();
        let mut buffer = [0; 64];
        let (length, fd) = recv_with(&other, &mut buffer).unwrap();
        assert_eq!(&buffer[..length], b"take it\n");
        Packet::from(fd.unwrap()).send(b"x").unwrap();
        assert_eq!(kept.recv(&mut buffer).unwrap(), Some(1));
    }
}
