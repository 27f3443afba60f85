//! File descriptors inherited from the service manager, or kept across exec.
//!
//! The convention is sd_listen_fds_with_names(3): `LISTEN_FDS` consecutive descriptors with the names `LISTEN_FDNAMES`. A
//! program that replaces itself ([`crate::program`]) passes them in the same way ([`Legacy`]), from a higher descriptor on
//! (`LISTEN_FDS_FIRST_FD`), together with a state in memory (memfd_create(2)). All other descriptors above standard error are
//! closed, as daemon(7) recommends, so that children don't inherit them.

use std::collections::BTreeSet;
use std::env;
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::net::TcpListener;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};

use listenfd::ListenFd;
use nix::fcntl::{FcntlArg, fcntl};
use nix::libc::{AF_UNIX, SOCK_STREAM};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::unistd::close;

use crate::packet::Packet;
use crate::sockets::take_packet;

/// Name of the descriptor of the program's state. Names of participants don't contain `+`.
const STATE: &str = "+state";
/// Minimum number of a descriptor that is left to the next program. Libraries use much lower numbers.
const LOWEST: RawFd = 100;
/// First descriptor that systemd passes: SD_LISTEN_FDS_START.
const FIRST: RawFd = 3;
/// Maximum number of inherited descriptors.
const MAX_DESCRIPTORS: usize = 8192;
/// Maximum size of a program's state in bytes.
const MAX_STATE_BYTES: u64 = 16 << 20;

/// Inherited descriptors that are not taken yet. All of them are close-on-exec, so that no child inherits one by accident.
/// Dropping the `Inherited` closes them.
#[derive(Debug, Default)]
pub struct Inherited {
    state: Option<io::Result<Vec<u8>>>,
    sockets: Vec<(String, Socket)>,
}

/// An inherited descriptor.
#[derive(Debug)]
enum Socket {
    Tcp(TcpListener),
    Datagram(UnixDatagram),
    /// A Unix stream socket: listening or connected.
    Unix(OwnedFd),
    Packet(Packet),
    /// No socket of the kinds above. The descriptor is closed.
    Other,
}

impl Inherited {
    /// Takes the descriptors named in the environment, and closes all other descriptors above 2. Call it once, before
    /// any file is opened and any child is started.
    #[must_use]
    pub fn take() -> Self {
        let number = |name| env::var(name).ok().and_then(|text| text.parse::<i32>().ok());
        let count = usize::try_from(number("LISTEN_FDS").unwrap_or(0)).unwrap_or(0).min(MAX_DESCRIPTORS);
        let ours = number("LISTEN_PID").is_none_or(|pid| u32::try_from(pid) == Ok(std::process::id()));
        let first = number("LISTEN_FDS_FIRST_FD").unwrap_or(FIRST);
        let names: Vec<String> = env::var("LISTEN_FDNAMES").unwrap_or_default().split(':').map(str::to_owned).collect();
        let is_whole = ours && count > 0 && names.len() == count;
        let kept = if is_whole { count } else { 0 };
        close_all_but(first..first.saturating_add(i32::try_from(kept).unwrap_or(0)));
        let mut inherited = Self::default();
        if is_whole {
            let mut fds = ListenFd::from_env();
            for (index, name) in names.into_iter().enumerate() {
                inherited.add(name, &mut fds, index);
            }
        }
        inherited
    }

    fn add(&mut self, name: String, fds: &mut ListenFd, index: usize) {
        if name == STATE {
            self.state = read_state(fds, index).transpose();
        } else {
            self.sockets.push((name, take_socket(fds, index)));
        }
    }

    /// Returns the names of the descriptors that are not taken yet.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.sockets.iter().map(|(name, _)| name.as_str()).filter(|name| !name.is_empty())
    }

    /// Takes a listening TCP socket.
    pub fn tcp(&mut self, name: &str) -> Option<TcpListener> {
        match self.take_by(name, |socket| matches!(socket, Socket::Tcp(_)))? {
            Socket::Tcp(socket) => Some(socket),
            _ => None,
        }
    }

    /// Takes a listening Unix socket.
    pub fn unix(&mut self, name: &str) -> Option<UnixListener> {
        self.unix_stream(name).map(UnixListener::from)
    }

    /// Takes a Unix datagram socket.
    pub fn datagram(&mut self, name: &str) -> Option<UnixDatagram> {
        match self.take_by(name, |socket| matches!(socket, Socket::Datagram(_)))? {
            Socket::Datagram(socket) => Some(socket),
            _ => None,
        }
    }

    /// Takes a connected Unix socket.
    pub fn stream(&mut self, name: &str) -> Option<UnixStream> {
        self.unix_stream(name).map(UnixStream::from)
    }

    /// Takes a connection of the type SOCK_SEQPACKET.
    pub fn packet(&mut self, name: &str) -> Option<Packet> {
        match self.take_by(name, |socket| matches!(socket, Socket::Packet(_)))? {
            Socket::Packet(socket) => Some(socket),
            _ => None,
        }
    }

    /// Takes the state that was passed to [`Legacy::new`].
    pub fn state(&mut self) -> io::Result<Option<Vec<u8>>> {
        self.state.take().transpose()
    }

    fn unix_stream(&mut self, name: &str) -> Option<OwnedFd> {
        match self.take_by(name, |socket| matches!(socket, Socket::Unix(_)))? {
            Socket::Unix(socket) => Some(socket),
            _ => None,
        }
    }

    fn take_by(&mut self, name: &str, is_of_the_kind: impl FnOnce(&Socket) -> bool) -> Option<Socket> {
        let index = self.sockets.iter().position(|(known, _)| known == name)?;
        if is_of_the_kind(&self.sockets[index].1) {
            return Some(self.sockets.remove(index).1);
        }
        log::warn!(
            "unable to use the inherited descriptor '{name}': it is not a socket of the expected kind; ignoring this descriptor"
        );
        None
    }
}

/// Takes the socket. Each function of `ListenFd` checks the kind of the socket, and makes the socket close-on-exec.
fn take_socket(fds: &mut ListenFd, index: usize) -> Socket {
    if let Ok(Some(socket)) = fds.take_tcp_listener(index) {
        return Socket::Tcp(socket);
    }
    if let Ok(Some(socket)) = fds.take_unix_datagram(index) {
        return Socket::Datagram(socket);
    }
    if let Ok(Some(socket)) = fds.take_custom(index, AF_UNIX, SOCK_STREAM, "unix stream socket") {
        return Socket::Unix(socket);
    }
    if let Ok(Some(socket)) = take_packet(fds, index) {
        return Socket::Packet(socket);
    }
    if let Ok(Some(fd)) = fds.take_raw_fd(index) {
        let _ = close(fd);
    }
    Socket::Other
}

fn read_state(fds: &mut ListenFd, index: usize) -> io::Result<Option<Vec<u8>>> {
    let Some(fd) = fds.take_raw_fd(index)? else {
        return Ok(None);
    };
    let mut bytes = Vec::new();
    // The file is reopened, so that the state is read from the start.
    let read =
        File::open(format!("/proc/self/fd/{fd}")).and_then(|file| file.take(MAX_STATE_BYTES).read_to_end(&mut bytes));
    close(fd)?;
    read.map(|_| Some(bytes))
}

fn open_descriptors() -> BTreeSet<RawFd> {
    let entries = fs::read_dir("/proc/self/fd").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

fn close_all_but(kept: std::ops::Range<RawFd>) {
    for fd in open_descriptors().into_iter().filter(|fd| *fd > 2 && !kept.contains(fd)) {
        // One of the descriptors belonged to the directory listing and is already closed, so an error is ignored.
        let _ = close(fd);
    }
}

/// Descriptors that are left to the next program. Dropping the `Legacy` closes the descriptors.
#[derive(Debug)]
pub struct Legacy {
    first: RawFd,
    names: Vec<String>,
}

impl Legacy {
    /// Returns a legacy that contains only the program's state. [`Self::leave`] adds descriptors.
    pub fn new(state: &[u8]) -> io::Result<Self> {
        let highest = open_descriptors().last().copied().unwrap_or_default();
        let mut legacy = Self { first: (highest + 1).max(LOWEST), names: Vec::new() };
        let mut memory = File::from(memfd_create("palabre-state", MFdFlags::MFD_CLOEXEC)?);
        memory.write_all(state)?;
        legacy.leave(STATE, &memory)?;
        Ok(legacy)
    }

    /// Adds a duplicate of a descriptor under the name `name`. Fails if another thread has opened a file with the next
    /// number, since the descriptors must be consecutive.
    pub fn leave(&mut self, name: &str, fd: &impl AsFd) -> io::Result<()> {
        let wanted = self.first + i32::try_from(self.names.len()).map_err(io::Error::other)?;
        // The duplicate is not close-on-exec.
        let duplicate = fcntl(fd, FcntlArg::F_DUPFD(wanted))?;
        if duplicate != wanted {
            close(duplicate)?;
            return Err(io::Error::other(format!(
                "unable to pass '{name}' to the next program as descriptor {wanted}: another thread has just opened a file with this number; try again"
            )));
        }
        self.names.push(name.to_owned());
        Ok(())
    }

    /// Returns the environment variables for the next program.
    #[must_use]
    pub fn environment(&self) -> Vec<(&'static str, OsString)> {
        vec![
            ("LISTEN_FDS", self.names.len().to_string().into()),
            ("LISTEN_FDNAMES", self.names.join(":").into()),
            ("LISTEN_FDS_FIRST_FD", self.first.to_string().into()),
            ("LISTEN_PID", std::process::id().to_string().into()),
        ]
    }
}

impl Drop for Legacy {
    fn drop(&mut self) {
        for fd in (self.first..).take(self.names.len()) {
            let _ = close(fd);
        }
    }
}

/// Duplicates a file to standard input, which stays open across exec.
pub(crate) fn put_on_stdin(file: &impl AsFd) -> io::Result<()> {
    Ok(nix::unistd::dup2_stdin(file)?)
}

/// Takes the file on standard input, and redirects standard input from `/dev/null`.
pub fn take_stdin() -> io::Result<File> {
    let file = io::stdin().as_fd().try_clone_to_owned()?;
    put_on_stdin(&File::open("/dev/null")?)?;
    debug_assert!(file.as_raw_fd() > 2);
    Ok(file.into())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::os::unix::fs::MetadataExt;

    #[test]
    fn descriptors_are_consecutive_and_closed_when_dropped() {
        let (one, two) = (File::open("/dev/null").unwrap(), UnixDatagram::unbound().unwrap());
        let mut legacy = Legacy::new(b"{}").unwrap();
        legacy.leave("alice", &one).unwrap();
        legacy.leave("+notify", &two).unwrap();
        let environment = legacy.environment();
        assert_eq!(environment[0], ("LISTEN_FDS", "3".into()));
        assert_eq!(environment[1], ("LISTEN_FDNAMES", "+state:alice:+notify".into()));
        let path = |index: i32| format!("/proc/self/fd/{}", legacy.first + index);
        assert_eq!(fs::read(path(0)).unwrap(), b"{}");
        assert_eq!(fs::metadata(path(1)).unwrap().ino(), one.metadata().unwrap().ino());
        let last = path(2);
        assert!(fs::symlink_metadata(&last).is_ok());
        drop(legacy);
        assert!(fs::symlink_metadata(&last).is_err());
    }
}
