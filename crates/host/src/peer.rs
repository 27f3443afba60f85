//! The peer of a Unix socket: SO_PEERCRED of unix(7).

use std::ffi::CString;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::socket::{getsockopt, sockopt};
use nix::unistd::{Gid, Uid, User, geteuid, getgrouplist};

use crate::{usage, wait};

/// Maximum number of ancestors that are examined for a process.
const MAX_ANCESTORS: usize = 64;

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
        Uid::from_raw(self.uid).is_root() || self.is_same_user()
    }

    /// Returns whether the peer has the user id of this process.
    #[must_use]
    pub fn is_same_user(self) -> bool {
        self.uid == geteuid().as_raw()
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

/// Returns whether the peer of `stream` is a descendant of the process `ancestor`. Returns false for a peer outside the PID
/// namespace of this process.
///
/// Fails if the peer has ended, or if /proc doesn't show the peer or one of its ancestors.
pub fn descends_from(stream: &UnixStream, ancestor: u32) -> io::Result<bool> {
    // At the end, the pidfd shows whether the peer is still running. If it is, its process id was not reused meanwhile. Linux
    // before 6.5 has no SO_PEERPIDFD.
    let process = match getsockopt(stream, sockopt::PeerPidfd) {
        Err(Errno::ENOPROTOOPT) => None,
        other => Some(other?),
    };
    let pid = u32::try_from(credentials(stream)?.pid).unwrap_or_default();
    let descends = is_descendant(pid, ancestor)?;
    let ended = process.map(|process| wait::readable(&[process.as_fd()], Some(Duration::ZERO))).transpose()?;
    match ended {
        Some(ended) if ended.contains(&true) => Err(io::Error::from_raw_os_error(Errno::ESRCH as i32)),
        _ => Ok(descends),
    }
}

fn is_descendant(mut pid: u32, ancestor: u32) -> io::Result<bool> {
    for _ in 0..MAX_ANCESTORS {
        if pid <= 1 || pid == ancestor {
            return Ok(false);
        }
        pid = usage::parent(pid).ok_or_else(|| io::Error::from_raw_os_error(Errno::ESRCH as i32))?;
        if pid == ancestor {
            return Ok(true);
        }
    }
    Err(io::Error::other(format!(
        "unable to trace the parents of the client's process up to process {ancestor}: the client has more than {MAX_ANCESTORS}"
    )))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::io::{BufRead, BufReader};
    use std::os::unix::process::CommandExt;
    use std::process::{Command, Stdio};

    #[test]
    fn the_peer_of_a_pair_is_this_process() {
        let (one, _other) = UnixStream::pair().unwrap();
        let peer = credentials(&one).unwrap();
        assert_eq!(peer.pid, i32::try_from(std::process::id()).unwrap());
        assert!(peer.is_root_or_same_user());
        assert!(peer.is_in_group(peer.gid));
    }

    #[test]
    fn descendants_of_a_process_are_recognised() {
        let mut shell = Command::new("sh");
        let shell = shell.args(["-c", "sleep 60 & echo $!; wait"]);
        let mut shell = shell.stdout(Stdio::piped()).process_group(0).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(shell.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let grandchild: u32 = line.trim().parse().unwrap();
        assert!(is_descendant(grandchild, std::process::id()).unwrap());
        assert!(is_descendant(grandchild, shell.id()).unwrap());
        assert!(!is_descendant(shell.id(), grandchild).unwrap());
        assert!(!is_descendant(1, std::process::id()).unwrap() && !is_descendant(0, std::process::id()).unwrap());
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(grandchild.cast_signed()), nix::sys::signal::Signal::SIGKILL)
            .unwrap();
        shell.wait().unwrap();
        assert!(is_descendant(shell.id(), std::process::id()).is_err());
        let (one, _other) = UnixStream::pair().unwrap();
        assert!(!descends_from(&one, std::process::id()).unwrap());
        assert!(descends_from(&one, std::os::unix::process::parent_id()).unwrap());
    }

    #[test]
    fn an_unknown_user_is_only_in_its_own_group() {
        let nobody = Credentials { pid: 1, uid: 4_000_000_001, gid: 4_000_000_001 };
        assert!(!nobody.is_root_or_same_user());
        assert!(nobody.is_in_group(4_000_000_001));
        assert!(!nobody.is_in_group(0));
    }
}
