//! Listening sockets, and how one is handed from a supervisor to the process that serves it.
//!
//! The convention is sd_listen_fds(3) with one difference: LISTEN_PID is absent, since the process id of a child is
//! not known when its environment is made. The socket is descriptor 3 and LISTEN_FDS is 1. Both processes share one
//! open file description: O_NONBLOCK set by one is set for the other, and the queue of connections that wait to be
//! accepted outlives either.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsRawFd, OwnedFd};
use std::process::Command;
use std::time::Duration;

use command_fds::{CommandFdExt, FdMapping};
use listenfd::ListenFd;
use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, SockaddrStorage, bind, listen as listen_on, setsockopt, socket, sockopt,
};

/// Where an inherited socket stands: SD_LISTEN_FDS_START of sd_listen_fds(3).
const FIRST_INHERITED_FD: i32 = 3;

/// How many connections may wait to be accepted while a listener is being replaced.
const BACKLOG: i32 = 128;

/// The socket that whoever started us handed over, if there is one; close-on-exec again.
///
/// Call it once, at the beginning: it takes LISTEN_FDS out of the environment.
///
/// # Errors
/// When LISTEN_FDS announces a socket and descriptor 3 is not a TCP one.
pub fn inherited() -> io::Result<Option<TcpListener>> {
    ListenFd::from_env().take_tcp_listener(0)
}

/// Hands `listener` to the process that `command` will start, which takes it by [`inherited`].
///
/// The parent keeps its own. `command` holds a duplicate until it is dropped. Everything else that was said to this
/// process about sockets is removed from the child's environment, so call [`crate::notify::for_child`] before or
/// after, in any order.
///
/// # Errors
/// When the descriptor can't be duplicated.
pub fn give(command: &mut Command, listener: &TcpListener) -> io::Result<()> {
    // The duplicate takes the lowest free descriptor from 3 on. So 3 is in use when `spawn` makes its own pipe, which
    // would otherwise be overwritten by the mapping, and a failed exec would go unnoticed.
    let parent_fd: OwnedFd = listener.try_clone()?.into();
    for variable in ["LISTEN_PID", "LISTEN_FDNAMES", "LISTEN_FDS_FIRST_FD"] {
        command.env_remove(variable);
    }
    command.env("LISTEN_FDS", "1");
    command
        .fd_mappings(vec![FdMapping { parent_fd, child_fd: FIRST_INHERITED_FD }])
        .map_err(|collision| io::Error::new(io::ErrorKind::InvalidInput, collision))?;
    Ok(())
}

/// A listening socket on `address` and `port` (0: any free one), with SO_REUSEADDR.
///
/// `::` accepts IPv4 too, whatever `net.ipv6.bindv6only` says, and becomes `0.0.0.0` on a machine without IPv6.
///
/// # Errors
/// Those of socket(2), bind(2) and listen(2): EADDRINUSE when another process has the port.
pub fn listen(address: IpAddr, port: u16) -> io::Result<TcpListener> {
    match listen_at(SocketAddr::new(address, port)) {
        Err(error) if address == Ipv6Addr::UNSPECIFIED && has_no_ipv6(&error) => {
            listen_at(SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), port))
        }
        other => other,
    }
}

/// Whether a socket with this local address is what [`listen`] opens on `address`.
#[must_use]
pub fn is_on(local: SocketAddr, address: IpAddr) -> bool {
    local.ip() == address || (address == Ipv6Addr::UNSPECIFIED && local.ip() == Ipv4Addr::UNSPECIFIED)
}

fn has_no_ipv6(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(nix::libc::EAFNOSUPPORT | nix::libc::EADDRNOTAVAIL))
}

fn listen_at(address: SocketAddr) -> io::Result<TcpListener> {
    let family = if address.is_ipv6() { AddressFamily::Inet6 } else { AddressFamily::Inet };
    let fd = socket(family, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)?;
    setsockopt(&fd, sockopt::ReuseAddr, &true)?;
    if address.is_ipv6() {
        setsockopt(&fd, sockopt::Ipv6V6Only, &false)?;
    }
    bind(fd.as_raw_fd(), &SockaddrStorage::from(address))?;
    listen_on(&fd, Backlog::new(BACKLOG)?)?;
    Ok(TcpListener::from(fd))
}

/// How many bytes the kernel may hold for a peer that reads slowly (SO_SNDBUF; it doubles the figure, socket(7)).
///
/// A default socket swallows megabytes before a write blocks, which is a minute of sound.
///
/// # Errors
/// Those of setsockopt(2).
pub fn set_send_buffer(stream: &TcpStream, bytes: usize) -> io::Result<()> {
    Ok(setsockopt(stream, sockopt::SndBuf, &bytes)?)
}

/// How long what was sent may stay unacknowledged before the connection is given up (TCP_USER_TIMEOUT, tcp(7)).
///
/// Without it a peer that has gone without a word, a laptop that was closed, is waited for a quarter of an hour.
///
/// # Errors
/// Those of setsockopt(2).
pub fn set_user_timeout(stream: &TcpStream, timeout: Duration) -> io::Result<()> {
    let timeout_ms = u32::try_from(timeout.as_millis()).unwrap_or(u32::MAX);
    Ok(setsockopt(stream, sockopt::TcpUserTimeout, &timeout_ms)?)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use nix::sys::socket::getsockopt;

    #[test]
    fn the_unspecified_address_accepts_ipv4() {
        let listener = listen(Ipv6Addr::UNSPECIFIED.into(), 0).unwrap();
        let port = listener.local_addr().unwrap().port();
        assert!(TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok());
    }

    #[test]
    fn a_port_in_use_is_refused() {
        let first = listen(Ipv4Addr::LOCALHOST.into(), 0).unwrap();
        let error = listen(Ipv4Addr::LOCALHOST.into(), first.local_addr().unwrap().port()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
    }

    #[test]
    fn a_small_send_buffer_is_kept_small() {
        let listener = listen(Ipv4Addr::LOCALHOST.into(), 0).unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        set_send_buffer(&stream, 16384).unwrap();
        assert_eq!(getsockopt(&stream, sockopt::SndBuf).unwrap(), 32768);
    }

    #[test]
    fn a_silent_peer_is_given_up_after_its_time() {
        let listener = listen(Ipv4Addr::LOCALHOST.into(), 0).unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        set_user_timeout(&stream, Duration::from_secs(10)).unwrap();
        assert_eq!(getsockopt(&stream, sockopt::TcpUserTimeout).unwrap(), 10_000);
    }

    #[test]
    fn a_child_gets_the_socket_as_descriptor_three() {
        let listener = listen(Ipv4Addr::LOCALHOST.into(), 0).unwrap();
        let mut command = Command::new("sh");
        command.args(["-c", "echo $LISTEN_FDS-$LISTEN_PID; readlink /proc/self/fd/3"]).env("LISTEN_PID", "1");
        give(&mut command, &listener).unwrap();
        let output = String::from_utf8(command.output().unwrap().stdout).unwrap();
        assert!(output.starts_with("1-\nsocket:"), "{output}");
    }

    #[test]
    fn a_program_that_does_not_exist_is_noticed_when_a_socket_is_given() {
        let listener = listen(Ipv4Addr::LOCALHOST.into(), 0).unwrap();
        let mut command = Command::new("/nonexistent/program");
        give(&mut command, &listener).unwrap();
        assert_eq!(command.spawn().unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}
