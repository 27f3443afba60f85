//! Opens listening sockets, and passes sockets from a supervisor to its children.
//!
//! The convention is sd_listen_fds(3) without LISTEN_PID, because the process id of a child isn't known when its environment
//! is made. The listening socket is descriptor 3. A connection to the signer follows as descriptor 4. Both processes share one
//! open file description of the listening socket: they share O_NONBLOCK, and the queue of pending connections outlives either process.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsRawFd, OwnedFd};
use std::process::Command;
use std::time::Duration;

use command_fds::{CommandFdExt, FdMapping};
use listenfd::ListenFd;
use nix::libc::{AF_UNIX, SOCK_SEQPACKET};
use nix::sys::socket::{
    AddressFamily, Backlog, Shutdown, SockFlag, SockType, SockaddrStorage, bind, listen as listen_on, setsockopt,
    shutdown, socket, sockopt,
};

use crate::packet::Packet;

/// First descriptor of the inherited sockets: SD_LISTEN_FDS_START of sd_listen_fds(3).
const FIRST_INHERITED_FD: i32 = 3;

/// Maximum number of pending connections, which wait while a listener is replaced.
const BACKLOG: i32 = 128;

/// Sockets inherited from the supervisor or service manager.
#[derive(Debug, Default)]
pub struct Given {
    /// The listening socket.
    pub listener: Option<TcpListener>,
    /// The connection to the process that signs TLS handshakes.
    pub signer: Option<Packet>,
}

/// Returns the sockets inherited from the supervisor or service manager, and makes them close-on-exec.
///
/// Call it once, at the start: it removes LISTEN_FDS from the environment. Fails if a descriptor in LISTEN_FDS isn't a socket of the
/// expected kind.
pub fn inherited() -> io::Result<Given> {
    let mut fds = ListenFd::from_env();
    Ok(Given { listener: fds.take_tcp_listener(0)?, signer: take_packet(&mut fds, 1)? })
}

/// Returns the connection of type SOCK_SEQPACKET that is the only inherited descriptor, if any, and makes it close-on-exec.
///
/// Call this function once, at the start: it removes LISTEN_FDS from the environment.
pub fn inherited_packet() -> io::Result<Option<Packet>> {
    take_packet(&mut ListenFd::from_env(), 0)
}

pub(crate) fn take_packet(fds: &mut ListenFd, index: usize) -> io::Result<Option<Packet>> {
    let fd: Option<OwnedFd> = fds.take_custom(index, AF_UNIX, SOCK_SEQPACKET, "unix packet socket")?;
    Ok(fd.map(Packet::from))
}

/// Passes duplicates of `listener` and `signer` to the process that `command` will start, which takes them with [`inherited`].
///
/// `command` holds the duplicates until it is dropped. LISTEN_* variables for this process are removed from the child's
/// environment. [`crate::notify::for_child`] must be called before.
pub fn give(command: &mut Command, listener: &TcpListener, signer: Option<&Packet>) -> io::Result<()> {
    let listener = listener.try_clone()?.into();
    let signer = signer.map(Packet::try_clone).transpose()?.map(OwnedFd::from);
    give_all(command, std::iter::once(listener).chain(signer).collect())
}

/// Passes a duplicate of `packet` to the process that `command` will start, which takes it with [`inherited_packet`].
pub fn give_packet(command: &mut Command, packet: &Packet) -> io::Result<()> {
    give_all(command, vec![packet.try_clone()?.into()])
}

/// Passes the descriptors as numbers from 3 on. They must have been duplicated just before: the duplicates get the lowest free numbers, so
/// that all of these numbers are in use when `spawn` opens its own pipe. Otherwise the mapping could overwrite that pipe, and a failed exec
/// would go unnoticed.
fn give_all(command: &mut Command, fds: Vec<OwnedFd>) -> io::Result<()> {
    for variable in ["LISTEN_PID", "LISTEN_FDNAMES", "LISTEN_FDS_FIRST_FD"] {
        command.env_remove(variable);
    }
    command.env("LISTEN_FDS", fds.len().to_string());
    let mappings = (FIRST_INHERITED_FD..).zip(fds).map(|(child_fd, parent_fd)| FdMapping { parent_fd, child_fd });
    command
        .fd_mappings(mappings.collect())
        .map_err(|collision| io::Error::new(io::ErrorKind::InvalidInput, collision))?;
    Ok(())
}

/// Opens a listening socket on `address` and `port` (0: any free port), with SO_REUSEADDR.
///
/// `::` accepts IPv4 too, independent of `net.ipv6.bindv6only`, and becomes `0.0.0.0` on a machine without IPv6. Fails with
/// EADDRINUSE if another process has the port.
pub fn listen(address: IpAddr, port: u16) -> io::Result<TcpListener> {
    match listen_at(SocketAddr::new(address, port)) {
        Err(error) if address == Ipv6Addr::UNSPECIFIED && has_no_ipv6(&error) => {
            listen_at(SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), port))
        }
        other => other,
    }
}

/// Closes a listening socket in all processes that have it, so that the port can be opened again at once.
///
/// Without shutdown(2) the port would be in use until the service manager and the listeners have closed their duplicates.
pub fn close(socket: TcpListener) {
    if let Err(error) = shutdown(socket.as_raw_fd(), Shutdown::Both) {
        log::debug!("unable to shut down a listening socket: {error}");
    }
    drop(socket);
}

/// Returns the message for a failed [`listen`], with the remedy.
#[must_use]
pub fn explain(address: IpAddr, port: u16, error: &io::Error) -> String {
    let remedy = match error.kind() {
        io::ErrorKind::PermissionDenied if port < 1024 => {
            "ports below 1024 need CAP_NET_BIND_SERVICE: give it to the systemd unit as the unit's comment shows, or choose another port"
        }
        io::ErrorKind::AddrNotAvailable => {
            return format!("unable to open port {port} on '{address}': {error}; correct 'bind' in palabre.toml");
        }
        io::ErrorKind::PermissionDenied => {
            "choose another port, or remove the rule that forbids this port, such as SocketBindDeny= of the systemd unit"
        }
        io::ErrorKind::AddrInUse => "choose another port, or stop the program that uses it",
        _ => return format!("unable to open port {port}: {error}"),
    };
    format!("unable to open port {port}: {error}; {remedy}")
}

/// Returns false if another program listens on the port. If the port can't be bound for another reason, the port counts
/// as free.
#[must_use]
pub fn is_free(address: IpAddr, port: u16) -> bool {
    !matches!(TcpListener::bind((address, port)), Err(error) if error.kind() == io::ErrorKind::AddrInUse)
}

/// Returns whether [`listen`] on `address` opens a socket with the local address `local`.
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

/// Limits the bytes that the kernel buffers for a slow peer: SO_SNDBUF, which the kernel doubles (socket(7)).
///
/// By default a socket buffers megabytes, a minute of sound, before a write blocks.
pub fn set_send_buffer(stream: &TcpStream, bytes: usize) -> io::Result<()> {
    Ok(setsockopt(stream, sockopt::SndBuf, &bytes)?)
}

/// Sets the timeout for unacknowledged data, after which the connection is closed: TCP_USER_TIMEOUT, tcp(7).
///
/// By default a connection to a peer that has vanished, such as a closed laptop, lasts a quarter of an hour.
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
    fn the_unspecified_ipv6_address_accepts_ipv4() {
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
    fn a_closed_port_can_be_opened_although_another_process_has_the_old_socket() {
        for address in [Ipv4Addr::LOCALHOST.into(), Ipv6Addr::UNSPECIFIED.into()] {
            let first = listen(address, 0).unwrap();
            let port = first.local_addr().unwrap().port();
            let duplicate = first.try_clone().unwrap();
            close(first);
            let second = listen(Ipv4Addr::LOCALHOST.into(), port).unwrap();
            assert!(TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok() && second.accept().is_ok());
            drop(duplicate);
        }
    }

    #[test]
    fn a_privileged_port_is_explained_by_the_missing_capability() {
        let on = |port: u16, kind: io::ErrorKind| explain(Ipv4Addr::LOCALHOST.into(), port, &kind.into());
        let why = |kind: io::ErrorKind| on(443, kind);
        assert!(why(io::ErrorKind::PermissionDenied).contains("CAP_NET_BIND_SERVICE"));
        assert!(!on(9000, io::ErrorKind::PermissionDenied).contains("1024"));
        assert!(why(io::ErrorKind::AddrNotAvailable).contains("on '127.0.0.1'"));
        assert!(why(io::ErrorKind::AddrInUse).ends_with("stop the program that uses it"));
    }

    #[test]
    fn the_send_buffer_has_the_given_size() {
        let listener = listen(Ipv4Addr::LOCALHOST.into(), 0).unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        set_send_buffer(&stream, 16384).unwrap();
        assert_eq!(getsockopt(&stream, sockopt::SndBuf).unwrap(), 32768);
    }

    #[test]
    fn the_user_timeout_is_set() {
        let listener = listen(Ipv4Addr::LOCALHOST.into(), 0).unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        set_user_timeout(&stream, Duration::from_secs(10)).unwrap();
        assert_eq!(getsockopt(&stream, sockopt::TcpUserTimeout).unwrap(), 10_000);
    }

    #[test]
    fn a_child_inherits_the_sockets_as_descriptors_3_and_4() {
        let listener = listen(Ipv4Addr::LOCALHOST.into(), 0).unwrap();
        let (signer, _other) = Packet::pair().unwrap();
        for (given, number) in [(None, 1), (Some(&signer), 2)] {
            let mut command = Command::new("sh");
            let script = "echo $LISTEN_FDS-$LISTEN_PID; for fd in $(seq 3 $((2 + LISTEN_FDS))); do readlink /proc/self/fd/$fd; done";
            command.args(["-c", script]).env("LISTEN_PID", "1");
            give(&mut command, &listener, given).unwrap();
            let output = String::from_utf8(command.output().unwrap().stdout).unwrap();
            assert!(output.starts_with(&format!("{number}-\nsocket:")), "{output}");
            assert_eq!(output.matches("socket:").count(), number, "{output}");
        }
    }

    #[test]
    fn a_missing_program_is_reported_although_a_socket_is_passed() {
        let listener = listen(Ipv4Addr::LOCALHOST.into(), 0).unwrap();
        let mut command = Command::new("/nonexistent/program");
        give(&mut command, &listener, None).unwrap();
        assert_eq!(command.spawn().unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}
