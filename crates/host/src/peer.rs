//! Who is at the other end of a unix socket: SO_PEERCRED of unix(7).

use std::ffi::CString;
use std::io;
use std::os::unix::net::UnixStream;

use nix::sys::socket::{getsockopt, sockopt};
use nix::unistd::{Gid, Uid, User, geteuid, getgrouplist};

/// The process that connected, as the kernel saw it at that moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Credentials {
    /// Its process id; 0 where it lives outside our PID namespace.
    pub pid: i32,
    /// Its effective user id.
    pub uid: u32,
    /// Its effective group id. What other groups it has is not known here.
    pub gid: u32,
}

impl Credentials {
    /// Whether it may do what we may: it is root or our own user.
    #[must_use]
    pub fn is_root_or_us(self) -> bool {
        Uid::from_raw(self.uid).is_root() || self.uid == geteuid().as_raw()
    }

    /// Whether it is in the group: by its own group id, or because the system's user data base (getgrouplist(3)) has
    /// its user in the group.
    #[must_use]
    pub fn is_in_group(self, gid: u32) -> bool {
        self.gid == gid || self.groups_of_user().contains(&Gid::from_raw(gid))
    }

    fn groups_of_user(self) -> Vec<Gid> {
        let Ok(Some(user)) = User::from_uid(Uid::from_raw(self.uid)) else {
            return Vec::new();
        };
        CString::new(user.name).ok().and_then(|name| getgrouplist(&name, user.gid).ok()).unwrap_or_default()
    }
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
        let peer = credentials(&one).unwrap();
        assert_eq!(peer.pid, i32::try_from(std::process::id()).unwrap());
        assert!(peer.is_root_or_us());
        assert!(peer.is_in_group(peer.gid));
    }

    #[test]
    fn a_user_that_does_not_exist_is_in_its_own_group_alone() {
        let nobody = Credentials { pid: 1, uid: 4_000_000_001, gid: 4_000_000_001 };
        assert!(!nobody.is_root_or_us());
        assert!(nobody.is_in_group(4_000_000_001));
        assert!(!nobody.is_in_group(0));
    }
}
