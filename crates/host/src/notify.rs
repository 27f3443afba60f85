//! Readiness and status notifications, as in sd_notify(3): to the service manager, and from children.
//!
//! A program sends `READY=1` when it serves. A supervisor receives the messages of its children on a datagram socket
//! ([`Receiver`]). The kernel's credentials tell which child sent a message, so that a child can't pretend to be
//! another child.

use std::io::{self, IoSliceMut};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::Command;
use std::time::Duration;
use std::{fs, str};

use nix::sys::socket::{ControlMessageOwned, MsgFlags, UnixCredentials, recvmsg, setsockopt, sockopt};
use sd_notify::NotifyState;

/// Maximum size of a notification in bytes. Longer notifications are discarded.
pub const MAX_MESSAGE_BYTES: usize = 4096;

/// Maximum length of a `STATUS=` that is kept, in characters. A listener's report, which is shorter, must not be cut.
pub const MAX_STATUS_CHARS: usize = 1024;

/// Environment variables that a service manager sets for this process, and that its children must not inherit.
const SERVICE_VARIABLES: [&str; 7] = [
    "LISTEN_FDS",
    "LISTEN_FDNAMES",
    "LISTEN_PID",
    "LISTEN_FDS_FIRST_FD",
    "NOTIFY_SOCKET",
    "WATCHDOG_PID",
    "WATCHDOG_USEC",
];

/// Notifies the service manager that this program serves. Without NOTIFY_SOCKET, this and the functions below do nothing.
pub fn ready() {
    send(&[NotifyState::Ready]);
}

/// Notifies the service manager that this program serves, with a status.
pub fn ready_with_status(status: &str) {
    send(&[NotifyState::Ready, NotifyState::Status(&one_line(status))]);
}

/// Notifies the service manager that this program is stopping.
pub fn stopping() {
    send(&[NotifyState::Stopping]);
}

/// Sends a short status, which `systemctl status` or `palabre status` shows.
pub fn status(text: &str) {
    send(&[NotifyState::Status(&one_line(text))]);
}

/// Notifies the service manager that this program is not stuck, for WatchdogSec= of systemd.service(5).
pub fn watchdog() {
    send(&[NotifyState::Watchdog]);
}

/// Returns the interval between calls of [`watchdog`], if the service manager expects them: half of WATCHDOG_USEC, as
/// sd_watchdog_enabled(3) recommends.
#[must_use]
pub fn watchdog_every() -> Option<Duration> {
    // At least 10 ms, also if WATCHDOG_USEC asks for a shorter interval: it would not be useful.
    sd_notify::watchdog_enabled().filter(|time| !time.is_zero()).map(|time| (time / 2).max(Duration::from_millis(10)))
}

/// Stores a socket in the service manager, which passes the socket to the next process if this process dies: FDSTORE=1
/// of sd_notify(3). `name` consists of letters, digits, `-` and `_`. The service manager does not watch the socket
/// (FDPOLL=0). Does nothing without NOTIFY_SOCKET.
pub fn store(name: &str, socket: &impl AsFd) {
    let states = [NotifyState::FdStore, NotifyState::FdName(name), NotifyState::Custom("FDPOLL=0")];
    if let Err(error) = sd_notify::notify_with_fds(&states, &[socket.as_fd()]) {
        log::debug!("unable to store the socket '{name}' in the service manager: {error}");
    }
}

/// Removes the sockets that are stored in the service manager under `name`: FDSTOREREMOVE=1 of sd_notify(3).
pub fn unstore(name: &str) {
    send(&[NotifyState::FdStoreRemove, NotifyState::FdName(name)]);
}

fn send(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        log::debug!("unable to notify the service manager: {error}");
    }
}

fn one_line(text: &str) -> String {
    text.replace(['\n', '\r'], " ")
}

/// Prepares the environment of a child, so that the child sends its notifications to `socket`.
pub fn for_child(command: &mut Command, socket: &Path) {
    scrub(command);
    command.env("NOTIFY_SOCKET", socket);
}

/// Removes LISTEN_*, NOTIFY_SOCKET and WATCHDOG_*, which are for this process, from the environment of a child.
pub fn scrub(command: &mut Command) {
    for variable in SERVICE_VARIABLES {
        command.env_remove(variable);
    }
}

/// A notification from a child.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Message {
    /// The child serves.
    pub ready: bool,
    /// The child is stopping.
    pub stopping: bool,
    /// Status text of the child: at most [`MAX_STATUS_CHARS`] characters, none of them a control character.
    pub status: Option<String>,
}

impl Message {
    /// Parses `KEY=VALUE` lines. Ignores other keys, as sd_notify(3) requires.
    #[must_use]
    pub fn parse(bytes: &[u8]) -> Self {
        let mut message = Self::default();
        for line in bytes.split(|byte| *byte == b'\n').filter_map(|line| str::from_utf8(line).ok()) {
            match line.split_once('=') {
                Some(("READY", "1")) => message.ready = true,
                Some(("STOPPING", "1")) => message.stopping = true,
                Some(("STATUS", text)) => message.status = Some(printable(text)),
                _ => {}
            }
        }
        message
    }
}

fn printable(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(MAX_STATUS_CHARS).collect()
}

/// The socket on which a supervisor receives the notifications of its children.
#[derive(Debug)]
pub struct Receiver {
    socket: UnixDatagram,
}

impl Receiver {
    /// Creates the notification socket at `path`, with mode 0660. Replaces the socket of a previous process.
    pub fn bind(path: &Path) -> io::Result<Self> {
        match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let socket = UnixDatagram::bind(path)?;
        fs::set_permissions(path, fs::Permissions::from_mode(0o660))?;
        setsockopt(&socket, sockopt::PassCred, &true)?;
        Ok(Self { socket })
    }

    /// Returns a receiver on `socket`, which was inherited from the previous program.
    pub fn adopt(socket: UnixDatagram) -> io::Result<Self> {
        setsockopt(&socket, sockopt::PassCred, &true)?;
        Ok(Self { socket })
    }

    /// Returns another receiver on the same socket.
    pub fn try_clone(&self) -> io::Result<Self> {
        Ok(Self { socket: self.socket.try_clone()? })
    }

    /// Waits for the next message. Returns the sender's process id, as recorded by the kernel, and the message.
    ///
    /// Ignores messages that are too long or have no credentials. The kernel closes descriptors that come with a message, so
    /// that a child can't fill the descriptor table.
    pub fn recv(&self) -> io::Result<(u32, Message)> {
        loop {
            if let Some(received) = self.recv_one()? {
                return Ok(received);
            }
        }
    }

    fn recv_one(&self) -> io::Result<Option<(u32, Message)>> {
        let mut bytes = [0; MAX_MESSAGE_BYTES];
        let mut room_for_credentials = nix::cmsg_space!(UnixCredentials);
        let mut parts = [IoSliceMut::new(&mut bytes)];
        let flags = MsgFlags::MSG_CMSG_CLOEXEC;
        let fd = self.socket.as_raw_fd();
        let received = match recvmsg::<()>(fd, &mut parts, Some(&mut room_for_credentials), flags) {
            Ok(received) => received,
            Err(nix::errno::Errno::EINTR) => return Ok(None),
            Err(errno) => return Err(errno.into()),
        };
        if received.flags.contains(MsgFlags::MSG_TRUNC) {
            return Ok(None);
        }
        let sender = received.cmsgs().ok().and_then(|mut messages| messages.find_map(|message| sender(&message)));
        let length = received.bytes;
        Ok(sender.map(|pid| (pid, Message::parse(&bytes[..length]))))
    }
}

fn sender(message: &ControlMessageOwned) -> Option<u32> {
    match message {
        ControlMessageOwned::ScmCredentials(credentials) => u32::try_from(credentials.pid()).ok(),
        _ => None,
    }
}

impl AsFd for Receiver {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn pair() -> (tempfile::TempDir, Receiver, UnixDatagram) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notify.sock");
        let receiver = Receiver::bind(&path).unwrap();
        let sender = UnixDatagram::unbound().unwrap();
        sender.connect(&path).unwrap();
        (dir, receiver, sender)
    }

    #[test]
    fn a_message_comes_with_the_process_id_of_its_sender() {
        let (_dir, receiver, sender) = pair();
        sender.send(b"READY=1\nSTATUS=2 streams\n").unwrap();
        let (pid, message) = receiver.recv().unwrap();
        assert_eq!(pid, std::process::id());
        assert_eq!(message, Message { ready: true, stopping: false, status: Some("2 streams".into()) });
    }

    #[test]
    fn a_message_above_the_maximum_size_is_ignored() {
        let (_dir, receiver, sender) = pair();
        sender.send(&[b'A'; MAX_MESSAGE_BYTES + 1]).unwrap();
        sender.send(b"STOPPING=1").unwrap();
        assert!(receiver.recv().unwrap().1.stopping);
    }

    #[test]
    fn the_socket_of_a_previous_process_is_replaced() {
        let (dir, receiver, _sender) = pair();
        drop(receiver);
        assert!(Receiver::bind(&dir.path().join("notify.sock")).is_ok());
    }

    #[test]
    fn a_status_has_no_control_characters_and_an_end() {
        let long = format!("STATUS=a\u{1b}[31mb{}", "x".repeat(2000));
        let status = Message::parse(long.as_bytes()).status.unwrap();
        assert!(status.starts_with("a[31mb"));
        assert_eq!(status.chars().count(), MAX_STATUS_CHARS);
    }

    #[test]
    fn an_invalid_message_is_empty() {
        assert_eq!(Message::parse(b"\xff\xfe=\n=\nREADY=0\nREADY"), Message::default());
    }

    #[test]
    fn a_child_inherits_no_service_variables() {
        let mut command = Command::new("env");
        for variable in SERVICE_VARIABLES {
            command.env(variable, "9");
        }
        for_child(&mut command, Path::new("/run/x"));
        let output = command.output().unwrap();
        let environment = String::from_utf8(output.stdout).unwrap();
        assert!(environment.contains("NOTIFY_SOCKET=/run/x"));
        assert!(!environment.contains("LISTEN_") && !environment.contains("WATCHDOG_"));
    }
}
