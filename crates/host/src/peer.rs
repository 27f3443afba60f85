//! The peer of a Unix socket: SO_PEERCRED of unix(7).

use std::ffi::CString;
use std::io;
use std::os::unix::net::UnixStream;

use nix::sys::socket::{getsockopt, sockopt};
use nix::unistd::{Gid, Uid, User, geteuid, getgrouplist};

/// The process that connected to a Unix socket, as recorded by the kernel when it connected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Credentials {
    /// Process id; 0 if the peer is outside the PID namespace of this process.
    pub pid: i32,
    /// Effective user id.
    pub uid: u32,
    /// Effective group id.
    pub gid: u32,
}

impl Credentials {
    /// Returns whether the peer is root or has the user id of this process.
    #[must_use]
    pub fn is_root_or_same_user(self) -> bool {
        Uid::from_raw(self.uid).is_root() || self.uid == geteuid().as_raw()
    }

    /// Returns whether the peer is in the group `gid`: by the peer's group id, or by its user's groups in the user
    /// database (getgrouplist(3)).
    #[must_use]
    pub fn is_in_group(self, gid: u32) -> bool {
        self.gid == gid || self.groups_of_user().contains(&Gid::from_raw(gid))
    }

    /// Returns the user's name in the user database, or `None` if it has no such user.
    #[must_use]
    pub fn user_name(self) -> Option<String> {
        User::from_uid(Uid::from_raw(self.uid)).ok().flatten().map(|user| user.name)
    }

    fn groups_of_user(self) -> Vec<Gid> {
        let Ok(Some(user)) = User::from_uid(Uid::from_raw(self.uid)) else {
            return Vec::new();
        };
        CString::new(user.name).ok().and_then(|name| getgrouplist(&name, user.gid).ok()).unwrap_or_default()
    }
}

/// Returns the credentials of the peer of `stream`.
pub fn credentials(stream: &UnixStream) -> io::Result<Credentials> {
    let peer = getsockopt(stream, sockopt::PeerCredentials)?;
    Ok(Credentials { pid: peer.pid(), uid: peer.uid(), gid: peer.gid() })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn the_peer_of_a_pair_is_this_process() {
        let (one, _other) = UnixStream::pair().unwrap();
        let peer = credentials(&one).unwrap();
        assert_eq!(peer.pid, i32::try_from(std::process::id()).unwrap());
        assert!(peer.is_root_or_same_user());
        assert!(peer.is_in_group(peer.gid));
    }

    #[test]
    fn an_unknown_user_is_only_in_its_own_group() {
        let nobody = Credentials { pid: 1, uid: 4_000_000_001, gid: 4_000_000_001 };
        assert!(!nobody.is_root_or_same_user());
        assert!(nobody.is_in_group(4_000_000_001));
        assert!(!nobody.is_in_group(0));
    }
}
