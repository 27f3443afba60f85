//! Who is at the other end of a unix socket: SO_PEERCRED of unix(7).

use std::io;
use std::os::unix::net::UnixStream;

use nix::sys::socket::{getsockopt, sockopt};

/// The process that connected, as the kernel saw it at that moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Credentials {
    /// Its process id; 0 where it lives outside our PID namespace.
    pub pid: i32,
    /// Its effective user id.
    pub uid: u32,
    /// Its effective group id. Its other groups are unknown here; the socket's mode is what tests those.
    pub gid: u32,
}

/// The credentials of whoever is connected to `stream`.
///
/// # Errors
/// Those of getsockopt(2).
pub fn credentials(stream: &UnixStream) -> io::Result<Credentials> {
    let peer = getsockopt(stream, sockopt::PeerCredentials)?;
    Ok(Credentials { pid: peer.pid(), uid: peer.uid(), gid: peer.gid() })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn the_peer_of_a_pair_is_ourselves() {
        let (one, _other) = UnixStream::pair().unwrap();
        assert_eq!(credentials(&one).unwrap().pid, i32::try_from(std::process::id()).unwrap());
    }
}
