//! Readiness in the words of sd_notify(3): to whoever started us, and from whom we start.
//!
//! Started is not ready. A program says `READY=1` when it serves; a supervisor listens on a datagram socket of its own
//! ([`Receiver`]) and knows from the kernel's credentials which child speaks, so a child can't speak for another.

use std::env;
use std::ffi::OsStr;
use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::Command;
use std::time::Duration;
use std::{fs, str};

use nix::sys::socket::{
    ControlMessage, ControlMessageOwned, MsgFlags, UnixAddr, UnixCredentials, recvmsg, sendmsg, setsockopt, sockopt,
};
use sd_notify::NotifyState;

/// The most bytes of a notification that are read. A longer one is discarded.
pub const MAX_MESSAGE_BYTES: usize = 4096;

/// Maximum length of a `STATUS=` that is kept, in characters. A listener's report, which is shorter, must not be cut.
pub const MAX_STATUS_CHARS: usize = 1024;

/// What systemd and a supervisor put into a daemon's environment, and what must not leak into its children's.
const OWN_TO_EACH_PROCESS: [&str; 7] = [
    "LISTEN_FDS",
    "LISTEN_FDNAMES",
    "LISTEN_PID",
    "LISTEN_FDS_FIRST_FD",
    "NOTIFY_SOCKET",
    "WATCHDOG_PID",
    "WATCHDOG_USEC",
];

/// Says that we serve now. Nothing happens where nobody asked (no NOTIFY_SOCKET).
pub fn ready() {
    send(&[NotifyState::Ready]);
}

/// Says that we serve now, and how things are.
pub fn ready_with_status(status: &str) {
    send(&[NotifyState::Ready, NotifyState::Status(&one_line(status))]);
}

/// Says that we are about to leave.
pub fn stopping() {
    send(&[NotifyState::Stopping]);
}

/// Says how things are, in a few words, shown by `systemctl status` or `palabre status`.
pub fn status(text: &str) {
    send(&[NotifyState::Status(&one_line(text))]);
}

/// Says that we are still alive, for WatchdogSec= of systemd.service(5).
pub fn watchdog() {
    send(&[NotifyState::Watchdog]);
}

/// How often [`watchdog`] must be said, if whoever started us wants it: half of WATCHDOG_USEC, as sd_watchdog_enabled(3)
/// has it.
#[must_use]
pub fn watchdog_every() -> Option<Duration> {
    // Nobody means a watchdog that would have us do nothing else.
    sd_notify::watchdog_enabled().filter(|time| !time.is_zero()).map(|time| (time / 2).max(Duration::from_millis(10)))
}

/// Leaves a socket with whoever started us under this name, of letters, digits, `-` and `_`, for the next process should
/// this one die: FDSTORE=1 of sd_notify(3). It is not watched (FDPOLL=0). Nothing happens where nobody asked.
pub fn store(name: &str, socket: &impl AsFd) {
    send_with(&format!("FDSTORE=1\nFDNAME={name}\nFDPOLL=0\n"), Some(socket.as_fd()));
}

/// Has what was left under this name forgotten: FDSTOREREMOVE=1.
pub fn unstore(name: &str) {
    send_with(&format!("FDSTOREREMOVE=1\nFDNAME={name}\n"), None);
}

fn send_with(text: &str, fd: Option<BorrowedFd<'_>>) {
    let Some(path) = env::var_os("NOTIFY_SOCKET") else { return };
    if let Err(error) = send_to(&path, text, fd) {
        log::debug!("unable to notify: {error}");
    }
}

fn send_to(path: &OsStr, text: &str, fd: Option<BorrowedFd<'_>>) -> io::Result<()> {
    let socket = UnixDatagram::unbound()?;
    let path = path.as_bytes();
    // A name that begins with @ is one of the abstract namespace: unix(7).
    let address = match path.strip_prefix(b"@") {
        Some(name) => UnixAddr::new_abstract(name)?,
        None => UnixAddr::new(path)?,
    };
    let fds: Vec<RawFd> = fd.iter().map(AsRawFd::as_raw_fd).collect();
    let rights = [ControlMessage::ScmRights(&fds)];
    let messages = if fds.is_empty() { &[] } else { &rights[..] };
    let parts = [IoSlice::new(text.as_bytes())];
    sendmsg(socket.as_raw_fd(), &parts, messages, MsgFlags::MSG_NOSIGNAL, Some(&address))?;
    Ok(())
}

fn send(states: &[NotifyState<'_>]) {
    // Nobody to tell that it couldn't be told: a debug line is all that is useful.
    if let Err(error) = sd_notify::notify(states) {
        log::debug!("unable to notify: {error}");
    }
}

fn one_line(text: &str) -> String {
    text.replace(['\n', '\r'], " ")
}

/// Prepares the environment of a child: it notifies `socket`, and inherits nothing that was said to us alone.
pub fn for_child(command: &mut Command, socket: &Path) {
    scrub(command);
    command.env("NOTIFY_SOCKET", socket);
}

/// Removes LISTEN_*, NOTIFY_SOCKET and WATCHDOG_* from the environment of a child: they were meant for us.
pub fn scrub(command: &mut Command) {
    for variable in OWN_TO_EACH_PROCESS {
        command.env_remove(variable);
    }
}

/// What a child said, as far as we listen.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Message {
    /// It serves.
    pub ready: bool,
    /// It is about to leave.
    pub stopping: bool,
    /// How it is: at most [`MAX_STATUS_CHARS`] characters, none of them a control character.
    pub status: Option<String>,
}

impl Message {
    /// Reads `KEY=VALUE` lines, passing over those that mean nothing here, as sd_notify(3) has it.
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

/// The socket on which a supervisor hears its children.
#[derive(Debug)]
pub struct Receiver {
    socket: UnixDatagram,
}

impl Receiver {
    /// Makes the socket at `path` (mode 0660), in place of one that an earlier process left there.
    ///
    /// # Errors
    /// Those of bind(2), unlink(2), chmod(2) and setsockopt(2).
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

    /// The one that the program before us has left.
    ///
    /// # Errors
    /// Those of setsockopt(2).
    pub fn adopt(socket: UnixDatagram) -> io::Result<Self> {
        setsockopt(&socket, sockopt::PassCred, &true)?;
        Ok(Self { socket })
    }

    /// The same socket once more.
    ///
    /// # Errors
    /// Those of fcntl(2).
    pub fn try_clone(&self) -> io::Result<Self> {
        Ok(Self { socket: self.socket.try_clone()? })
    }

    /// Waits for the next message: the process id of who sent it, by the kernel's word, and what it says.
    ///
    /// Messages that are too long or come without credentials are passed over. Descriptors sent along are closed by
    /// the kernel, since there is no room for them: a child can't fill our table.
    ///
    /// # Errors
    /// Those of recvmsg(2) but EINTR.
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
    fn a_message_that_is_too_long_is_passed_over() {
        let (_dir, receiver, sender) = pair();
        sender.send(&[b'A'; MAX_MESSAGE_BYTES + 1]).unwrap();
        sender.send(b"STOPPING=1").unwrap();
        assert!(receiver.recv().unwrap().1.stopping);
    }

    #[test]
    fn a_socket_is_stored_with_its_name_and_comes_as_a_descriptor() {
        let (_dir, receiver, _sender) = pair();
        let path = receiver.socket.local_addr().unwrap().as_pathname().unwrap().to_owned();
        let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        send_to(path.as_os_str(), "FDSTORE=1\nFDNAME=alice\nFDPOLL=0\n", Some(socket.as_fd())).unwrap();
        let (mut bytes, mut room) = ([0; 256], nix::cmsg_space!(UnixCredentials, [RawFd; 1]));
        let mut parts = [IoSliceMut::new(&mut bytes)];
        let fd = receiver.socket.as_raw_fd();
        let received = recvmsg::<()>(fd, &mut parts, Some(&mut room), MsgFlags::MSG_CMSG_CLOEXEC).unwrap();
        let rights = received.cmsgs().unwrap().find_map(|message| match message {
            ControlMessageOwned::ScmRights(fds) => fds.first().copied(),
            _ => None,
        });
        let length = received.bytes;
        let target = |fd: RawFd| fs::read_link(format!("/proc/self/fd/{fd}")).unwrap();
        assert_eq!(target(rights.unwrap()), target(socket.as_raw_fd()));
        assert_eq!(&bytes[..length], b"FDSTORE=1\nFDNAME=alice\nFDPOLL=0\n");
    }

    #[test]
    fn a_socket_left_by_an_earlier_process_is_replaced() {
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
    fn nonsense_says_nothing() {
        assert_eq!(Message::parse(b"\xff\xfe=\n=\nREADY=0\nREADY"), Message::default());
    }

    #[test]
    fn a_child_inherits_no_word_that_was_said_to_its_parent() {
        let mut command = Command::new("env");
        for variable in OWN_TO_EACH_PROCESS {
            command.env(variable, "9");
        }
        for_child(&mut command, Path::new("/run/x"));
        let output = command.output().unwrap();
        let environment = String::from_utf8(output.stdout).unwrap();
        assert!(environment.contains("NOTIFY_SOCKET=/run/x"));
        assert!(!environment.contains("LISTEN_") && !environment.contains("WATCHDOG_"));
    }
}
