//! What whoever started this program, or the program that was this process before, has left open for it.
//!
//! The convention is sd_listen_fds_with_names(3): `LISTEN_FDS` sockets in a row, `LISTEN_FDNAMES` says which is which. A
//! program that replaces itself ([`crate::program`]) leaves them in the same way ([`Legacy`]), from a higher descriptor on
//! (`LISTEN_FDS_FIRST_FD`), and with them a state, in memory (memfd_create(2)). Everything else above standard error is
//! closed, as daemon(7) has it: what somebody left open without meaning it would be our children's too.

use std::collections::BTreeSet;
use std::env;
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::net::TcpListener;
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::os::unix::net::{UnixDatagram, UnixListener};

use listenfd::ListenFd;
use nix::fcntl::{FcntlArg, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::unistd::close;

/// The name of the state among the descriptors. No participant's name has a `+`.
const STATE: &str = "+state";
/// The lowest descriptor that is left to the next program, far above what libraries use for themselves.
const LOWEST: RawFd = 100;
/// The first one that systemd passes: SD_LISTEN_FDS_START.
const FIRST: RawFd = 3;
/// The most descriptors that are taken, and the most bytes of a state.
const MOST: usize = 4096;
const MAX_STATE_BYTES: u64 = 16 << 20;

/// Descriptors with names, each until it is taken.
#[derive(Default)]
pub struct Inherited {
    names: Vec<String>,
    fds: Option<ListenFd>,
}

impl Inherited {
    /// Takes what is there by the environment and closes every other descriptor above 2. Call it first, once, before
    /// anything is opened.
    #[must_use]
    pub fn take() -> Self {
        let number = |name| env::var(name).ok().and_then(|text| text.parse::<i32>().ok());
        let count = usize::try_from(number("LISTEN_FDS").unwrap_or(0)).unwrap_or(0).min(MOST);
        let ours = number("LISTEN_PID").is_none_or(|pid| u32::try_from(pid) == Ok(std::process::id()));
        let first = number("LISTEN_FDS_FIRST_FD").unwrap_or(FIRST);
        let names: Vec<String> = env::var("LISTEN_FDNAMES").unwrap_or_default().split(':').map(str::to_owned).collect();
        let is_whole = ours && count > 0 && names.len() == count;
        let kept = if is_whole { count } else { 0 };
        close_all_but(first..first.saturating_add(i32::try_from(kept).unwrap_or(0)));
        if is_whole { Self { names, fds: Some(ListenFd::from_env()) } } else { Self::default() }
    }

    /// The names of what has not been taken.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.names.iter().map(String::as_str).filter(|name| !name.is_empty())
    }

    /// A listening TCP socket.
    pub fn tcp(&mut self, name: &str) -> Option<TcpListener> {
        self.take_by(name, ListenFd::take_tcp_listener)
    }

    /// A listening Unix socket.
    pub fn unix(&mut self, name: &str) -> Option<UnixListener> {
        self.take_by(name, ListenFd::take_unix_listener)
    }

    /// A Unix socket for datagrams.
    pub fn datagram(&mut self, name: &str) -> Option<UnixDatagram> {
        self.take_by(name, ListenFd::take_unix_datagram)
    }

    /// The state that [`Legacy::new`] was given.
    ///
    /// # Errors
    /// Those of open(2) and read(2).
    pub fn state(&mut self) -> io::Result<Option<Vec<u8>>> {
        let Some(fd) = self.take_by(STATE, ListenFd::take_raw_fd) else {
            return Ok(None);
        };
        let mut bytes = Vec::new();
        // Opened anew, and so from its beginning, whoever has read it before.
        let read = File::open(format!("/proc/self/fd/{fd}"))
            .and_then(|file| file.take(MAX_STATE_BYTES).read_to_end(&mut bytes));
        close(fd)?;
        read.map(|_| Some(bytes))
    }

    /// Closes what nobody has taken.
    pub fn close_the_rest(&mut self) {
        self.names.clear();
        let Some(mut fds) = self.fds.take() else { return };
        for index in 0..fds.len() {
            if let Ok(Some(fd)) = fds.take_raw_fd(index) {
                let _ = close(fd);
            }
        }
    }

    fn take_by<T>(
        &mut self,
        name: &str,
        take: impl FnOnce(&mut ListenFd, usize) -> io::Result<Option<T>>,
    ) -> Option<T> {
        let index = self.names.iter().position(|known| known == name)?;
        let taken = take(self.fds.as_mut()?, index);
        match taken {
            Ok(taken) => {
                self.names[index].clear();
                taken
            }
            Err(error) => {
                log::warn!("unable to take over the descriptor '{name}': {error}");
                None
            }
        }
    }
}

fn open_descriptors() -> BTreeSet<RawFd> {
    let entries = fs::read_dir("/proc/self/fd").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

fn close_all_but(kept: std::ops::Range<RawFd>) {
    for fd in open_descriptors().into_iter().filter(|fd| *fd > 2 && !kept.contains(fd)) {
        // One of them was the directory's own, which is closed already.
        let _ = close(fd);
    }
}

/// What this program leaves to the one that replaces it. Dropped, it was for nothing.
#[derive(Debug)]
pub struct Legacy {
    first: RawFd,
    names: Vec<String>,
}

impl Legacy {
    /// A state, and nothing else yet.
    ///
    /// # Errors
    /// Those of memfd_create(2), write(2) and fcntl(2).
    pub fn new(state: &[u8]) -> io::Result<Self> {
        let highest = open_descriptors().last().copied().unwrap_or_default();
        let mut legacy = Self { first: (highest + 1).max(LOWEST), names: Vec::new() };
        let mut memory = File::from(memfd_create("palabre-state", MFdFlags::MFD_CLOEXEC)?);
        memory.write_all(state)?;
        legacy.leave(STATE, &memory)?;
        Ok(legacy)
    }

    /// A descriptor, which stays ours as well.
    ///
    /// # Errors
    /// Those of fcntl(2), and when another thread has opened so many files meanwhile that ours are no longer in a row.
    pub fn leave(&mut self, name: &str, fd: &impl AsFd) -> io::Result<()> {
        let wanted = self.first + i32::try_from(self.names.len()).map_err(io::Error::other)?;
        // A duplicate without close-on-exec.
        let duplicate = fcntl(fd, FcntlArg::F_DUPFD(wanted))?;
        if duplicate != wanted {
            close(duplicate)?;
            return Err(io::Error::other(format!("descriptor {wanted} is in use; try again")));
        }
        self.names.push(name.to_owned());
        Ok(())
    }

    /// What the next program must find in its environment.
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

/// Puts a file in the place of standard input, which execve(2) keeps.
///
/// # Errors
/// Those of dup2(2).
pub(crate) fn put_on_stdin(file: &impl AsFd) -> io::Result<()> {
    Ok(nix::unistd::dup2_stdin(file)?)
}

/// Standard input's file for us alone, and nothing in its place.
///
/// # Errors
/// Those of fcntl(2), open(2) and dup2(2).
pub(crate) fn take_from_stdin() -> io::Result<File> {
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
    fn what_is_left_is_in_a_row_and_open_until_it_was_for_nothing() {
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
