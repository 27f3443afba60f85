//! A Unix socket on which a daemon is asked to replace its program ([`crate::program`]).
//!
//! The client sends `restart` and waits. The daemon keeps the connection over execve(2), and the next program answers
//! `done` when it serves; or the daemon answers `failed` and the reason, and goes on with its old program. A connection
//! that ends without an answer means that the daemon has ended. Only root, the daemon's own user and the owner of the
//! socket's directory, who could replace the socket, may send the request. A daemon that has just restarted answers `wait`
//! and a number of milliseconds, after which the client asks again. So a hostile process of these users can't keep the
//! daemon busy with restarts.
//!
//! The client needs no permission to signal the daemon, which may have another user.

use std::collections::VecDeque;
use std::fs;
use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::time::{Duration, Instant};

use nix::fcntl::AT_FDCWD;
use nix::sys::stat::{FchmodatFlags, Mode, fchmodat};

use crate::inherit::{Inherited, Legacy};
use crate::lock::Lock;
use crate::peer::{self, Credentials};

const REQUEST: &[u8] = b"restart\n";
const DONE: &str = "done\n";
const FAILED: &str = "failed ";
const WAIT: &str = "wait ";

/// Names of the descriptors that the next program inherits.
const SOCKET: &str = "+restart";
const CLIENT: &str = "+restart-client";

/// Maximum length of an answer, in bytes.
const MAX_ANSWER_BYTES: usize = 4096;

/// Maximum number of clients that have not sent a request yet.
const MAX_WAITING: usize = 8;

/// Mode of the socket. The group of its directory may connect; [`RestartSocket::accept`] checks the client.
const SOCKET_MODE: u32 = 0o660;

/// Minimum time between two restarts.
const MIN_INTERVAL: Duration = Duration::from_secs(1);

/// Timeout for waiting until another process has opened its socket in the same directory.
const OPEN_TIMEOUT: Duration = Duration::from_secs(2);

/// The socket on which a daemon receives restart requests.
#[derive(Debug)]
pub struct RestartSocket {
    listener: UnixListener,
    /// The user who owns the socket's directory; `None` if this is unknown.
    owner: Option<u32>,
    /// The clients that have not sent a request yet. A supervisor never sends one: by the end of its connection, it notices the end of the daemon.
    waiting: VecDeque<UnixStream>,
    /// Earliest time at which a restart request is accepted.
    earliest: Instant,
}

/// A client that has sent a restart request and waits for the answer.
#[derive(Debug)]
pub struct Client(UnixStream);

impl RestartSocket {
    /// Opens the socket at `path`. Replaces a file or an unused socket that another process left at `path`. Returns
    /// `None` if another process serves the socket.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] if the directory doesn't exist.
    pub fn open(path: &Path) -> io::Result<Option<Self>> {
        // The lock makes two processes that start at once take turns, so that neither process removes the other's
        // socket.
        let directory = path.parent().unwrap_or(Path::new("."));
        let locked = || {
            let seconds = OPEN_TIMEOUT.as_secs();
            let cause =
                format!("another process has locked the directory for more than {seconds} s; find it with 'lslocks'");
            io::Error::new(ErrorKind::TimedOut, cause)
        };
        let _lock = Lock::wait(directory, OPEN_TIMEOUT)?.ok_or_else(locked)?;
        // lstat(2) doesn't follow a symbolic link at `path`.
        let is_socket = fs::symlink_metadata(path).is_ok_and(|file| file.file_type().is_socket());
        if is_socket && UnixStream::connect(path).is_ok() {
            return Ok(None);
        }
        // The socket gets the name `path` only when it listens and has its mode. rename(2) replaces a symbolic link,
        // and doesn't follow it.
        let new = path.with_extension("new");
        match fs::remove_file(&new) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let listener = UnixListener::bind(&new)?;
        // In a directory that others may write to, another user may replace the new socket by a symbolic link, which
        // must not be followed.
        fchmodat(AT_FDCWD, &new, Mode::from_bits_truncate(SOCKET_MODE), FchmodatFlags::NoFollowSymlink)?;
        fs::rename(&new, path)?;
        Self::new(listener, directory, Instant::now()).map(Some)
    }

    /// Takes over two descriptors from the previous program: the restart socket in `directory`, and the client that waits
    /// until this program serves.
    #[must_use]
    pub fn inherit(inherited: &mut Inherited, directory: &Path) -> (Option<Self>, Option<Client>) {
        let earliest = Instant::now() + MIN_INTERVAL;
        let socket = inherited.unix(SOCKET).and_then(|listener| Self::new(listener, directory, earliest).ok());
        (socket, inherited.stream(CLIENT).map(Client))
    }

    fn new(listener: UnixListener, directory: &Path, earliest: Instant) -> io::Result<Self> {
        listener.set_nonblocking(true)?;
        let owner = fs::metadata(directory).ok().map(|directory| directory.uid());
        Ok(Self { listener, owner, waiting: VecDeque::new(), earliest })
    }

    /// Accepts a connection and returns its descriptor, which the caller polls together with this socket. Closes the connection and returns
    /// `None` if its client may not send requests. If too many connections have sent no request, closes the oldest of them.
    pub fn accept(&mut self) -> Option<BorrowedFd<'_>> {
        let (client, _) = self.listener.accept().ok()?;
        let may_ask = peer::credentials(&client).is_ok_and(|peer| may_ask(peer, self.owner));
        if !may_ask || client.set_nonblocking(true).is_err() {
            return None;
        }
        self.waiting.truncate(MAX_WAITING - 1);
        self.waiting.push_front(client);
        self.waiting.front().map(AsFd::as_fd)
    }

    /// Returns a client that has sent a request. Closes connections that have sent anything else.
    pub fn request(&mut self) -> Option<Client> {
        let (mut asks, mut index) = (None, 0);
        while let Some(mut client) = self.waiting.get(index) {
            let mut bytes = [0; REQUEST.len()];
            match client.read(&mut bytes) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => index += 1,
                // If several clients have sent a request, all but the first are disconnected without an answer.
                Ok(count) if bytes[..count] == *REQUEST && asks.is_none() => asks = self.waiting.remove(index),
                _ => drop(self.waiting.remove(index)),
            }
        }
        let client = asks.map(Client)?;
        let wait = self.earliest.saturating_duration_since(Instant::now());
        if wait.is_zero() {
            return Some(client);
        }
        client.answer(&format!("{WAIT}{}\n", wait.as_millis() + 1));
        None
    }

    /// Leaves the restart socket and the client's connection to the next program.
    pub fn leave(&self, client: Option<&Client>, legacy: &mut Legacy) -> io::Result<()> {
        legacy.leave(SOCKET, &self.listener)?;
        client.map_or(Ok(()), |Client(client)| legacy.leave(CLIENT, client))
    }
}

impl AsFd for RestartSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.listener.as_fd()
    }
}

impl Client {
    /// Tells the client that the next program serves.
    pub fn done(self) {
        self.answer(DONE);
    }

    /// Tells the client why the program was not replaced.
    pub fn failed(self, why: &str) {
        self.answer(&format!("{FAILED}{}\n", why.replace('\n', " ")));
    }

    fn answer(mut self, text: &str) {
        // The write fails if the client has left. The write never blocks, since an answer is shorter than the buffer of
        // a socket.
        if let Err(error) = self.0.write_all(text.as_bytes()) {
            log::debug!("unable to send a client the result of its restart request: {error}");
        }
    }
}

/// Error: a daemon was not restarted.
#[derive(Debug, thiserror::Error)]
pub enum RestartError {
    /// No daemon serves the socket.
    #[error("unable to connect to the restart socket: {0}")]
    NotRunning(#[source] io::Error),
    /// The daemon could not replace its program, and goes on with the old program.
    #[error("{0}")]
    Failed(String),
    /// The daemon ended before it answered.
    #[error("the daemon ended before its new program was ready")]
    Ended,
    /// The daemon did not answer in time.
    #[error("the daemon did not answer within {} s", .0.as_secs())]
    TimedOut(Duration),
    /// Another user's process serves the socket.
    #[error("the restart socket is served by a process of another user (process ID {0})")]
    Foreign(i32),
    /// A system call failed.
    #[error("{0}")]
    Io(#[source] io::Error),
}

/// Asks the daemon whose socket is at `path` to replace its program. Returns the daemon's process id when the next
/// program serves. The daemon's user must be root, the user of this process, or the user with the name `user`.
pub fn request(path: &Path, user: &str, timeout: Duration) -> Result<u32, RestartError> {
    let deadline = Instant::now() + timeout;
    loop {
        let (stream, pid) = connect(path, user)?;
        let answer = ask(stream, deadline, timeout)?;
        match answer.strip_prefix(WAIT).map(|wait| wait.trim_end().parse()) {
            Some(Ok(wait_ms)) if Instant::now() + Duration::from_millis(wait_ms) < deadline => {
                std::thread::sleep(Duration::from_millis(wait_ms));
            }
            Some(_) => return Err(RestartError::TimedOut(timeout)),
            None if answer == DONE => return Ok(pid),
            None => return Err(RestartError::Failed(answer.trim_end().trim_start_matches(FAILED).to_owned())),
        }
    }
}

/// Sends the request and returns the daemon's answer.
fn ask(mut stream: UnixStream, deadline: Instant, timeout: Duration) -> Result<String, RestartError> {
    let failed = |error: io::Error| match error.kind() {
        ErrorKind::WouldBlock | ErrorKind::TimedOut => RestartError::TimedOut(timeout),
        ErrorKind::ConnectionReset | ErrorKind::BrokenPipe => RestartError::Ended,
        _ => RestartError::Io(error),
    };
    stream.write_all(REQUEST).map_err(failed)?;
    let mut answer = Vec::new();
    while !answer.ends_with(b"\n") && answer.len() < MAX_ANSWER_BYTES {
        let left = deadline.saturating_duration_since(Instant::now());
        // A receive timeout of zero would mean no timeout: socket(7).
        stream.set_read_timeout(Some(left.max(Duration::from_millis(1)))).map_err(RestartError::Io)?;
        let mut bytes = [0; MAX_ANSWER_BYTES];
        match stream.read(&mut bytes) {
            Ok(0) => return Err(RestartError::Ended),
            Ok(count) => answer.extend_from_slice(bytes.get(..count).unwrap_or_default()),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(failed(error)),
        }
    }
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

/// Connects to the daemon whose socket is at `path`. Returns the connection, which ends when the daemon ends or replaces
/// its program, and the daemon's process id, which is 0 if the daemon is in another PID namespace. The daemon's user must be
/// root, the user of this process, or the user with the name `user`: any member of the group may create a socket at `path`.
pub fn connect(path: &Path, user: &str) -> Result<(UnixStream, u32), RestartError> {
    let stream = open(path).map_err(RestartError::NotRunning)?;
    let peer = peer::credentials(&stream).map_err(RestartError::Io)?;
    if !is_trusted(peer, user) {
        return Err(RestartError::Foreign(peer.pid));
    }
    Ok((stream, u32::try_from(peer.pid).unwrap_or_default()))
}

/// Returns whether the process that serves the socket may be the daemon, whose user may have the name `user`.
fn is_trusted(peer: Credentials, user: &str) -> bool {
    peer.is_root_or_same_user() || peer.user_name().as_deref() == Some(user)
}

/// Returns whether a client may send requests to the socket in the directory of the user `owner`.
fn may_ask(peer: Credentials, owner: Option<u32>) -> bool {
    peer.is_root_or_same_user() || Some(peer.uid) == owner
}

/// Connects to the socket at `path`, unless `path` is a symbolic link.
fn open(path: &Path) -> io::Result<UnixStream> {
    if !fs::symlink_metadata(path)?.file_type().is_socket() {
        return Err(io::Error::other(format!("'{}' is not a socket", path.display())));
    }
    UnixStream::connect(path)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;
    use std::thread;

    const TIMEOUT: Duration = Duration::from_secs(60);
    /// Name that no user has.
    const NOBODY: &str = "no such user";

    /// Sends a restart request to a new socket, on which `answer` answers the request. Returns the result of the
    /// request.
    fn asked(answer: impl FnOnce(Client)) -> Result<u32, RestartError> {
        asked_after(Duration::ZERO, answer)
    }

    /// Does the same as [`asked`] with a socket that accepts a request only after `wait`.
    fn asked_after(wait: Duration, answer: impl FnOnce(Client)) -> Result<u32, RestartError> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("restart");
        let mut socket = RestartSocket::open(&path).unwrap().unwrap();
        socket.earliest += wait;
        let client = thread::spawn(move || request(&path, NOBODY, TIMEOUT));
        let client_asks = loop {
            crate::wait::readable(&[socket.as_fd()], None).unwrap();
            let Some(connection) = socket.accept() else { continue };
            crate::wait::readable(&[connection], None).unwrap();
            if let Some(client) = socket.request() {
                break client;
            }
        };
        answer(client_asks);
        client.join().unwrap()
    }

    #[test]
    fn request_is_answered_with_the_process_id_or_the_reason() {
        assert_eq!(asked(Client::done).unwrap(), std::process::id());
        let error = asked(|client| client.failed("unable to execute 'x':\nno such file")).unwrap_err();
        assert_eq!(error.to_string(), "unable to execute 'x': no such file");
    }

    #[test]
    fn daemon_that_has_just_restarted_makes_the_client_wait() {
        assert_eq!(asked_after(Duration::from_millis(200), Client::done).unwrap(), std::process::id());
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("restart");
        let mut socket = RestartSocket::open(&path).unwrap().unwrap();
        socket.earliest += TIMEOUT * 2;
        let (mut client, _) = connect(&path, NOBODY).unwrap();
        client.write_all(REQUEST).unwrap();
        assert!(socket.accept().is_some() && socket.request().is_none());
        let mut answer = String::new();
        client.read_to_string(&mut answer).unwrap();
        let wait_ms: u64 = answer.strip_prefix(WAIT).unwrap().trim_end().parse().unwrap();
        assert!(Duration::from_millis(wait_ms) > TIMEOUT, "{answer}");
    }

    #[test]
    fn daemon_that_ends_without_an_answer_is_an_error() {
        assert!(matches!(asked(drop), Err(RestartError::Ended)));
    }

    #[test]
    fn daemon_that_does_not_answer_is_waited_for_until_the_deadline() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("restart");
        let _socket = RestartSocket::open(&path).unwrap().unwrap();
        let error = request(&path, NOBODY, Duration::from_millis(20)).unwrap_err();
        assert!(matches!(error, RestartError::TimedOut(_)), "{error}");
    }

    #[test]
    fn socket_that_is_served_is_left_alone_and_one_that_is_not_is_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("restart");
        let first = RestartSocket::open(&path).unwrap().unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o660);
        assert!(RestartSocket::open(&path).unwrap().is_none());
        drop(first);
        assert!(matches!(request(&path, NOBODY, TIMEOUT), Err(RestartError::NotRunning(_))));
        assert!(RestartSocket::open(&path).unwrap().is_some());
    }

    #[test]
    fn symbolic_link_is_replaced_and_never_followed() {
        let dir = tempfile::tempdir().unwrap();
        let (path, target) = (dir.path().join("restart"), dir.path().join("target"));
        fs::write(&target, "mine").unwrap();
        std::os::unix::fs::symlink(&target, &path).unwrap();
        assert!(matches!(request(&path, NOBODY, TIMEOUT), Err(RestartError::NotRunning(_))));
        let _socket = RestartSocket::open(&path).unwrap().unwrap();
        assert_eq!(fs::read_to_string(&target).unwrap(), "mine");
        assert!(fs::symlink_metadata(&path).unwrap().file_type().is_socket());
    }

    #[test]
    fn only_root_the_daemons_user_and_the_owner_of_the_directory_may_ask() {
        let own = nix::unistd::geteuid().as_raw();
        let peer = |uid| Credentials { pid: 1, uid, gid: 4_000_000_001 };
        for (uid, owner, may) in [
            (0, None, true),
            (own, None, true),
            (4_000_000_001, Some(4_000_000_001), true),
            (4_000_000_001, Some(own), false),
            (4_000_000_001, None, false),
        ] {
            assert_eq!(may_ask(peer(uid), owner), may, "{uid} {owner:?}");
        }
        let dir = tempfile::tempdir().unwrap();
        let socket = RestartSocket::open(&dir.path().join("restart")).unwrap().unwrap();
        assert_eq!(socket.owner, Some(fs::metadata(dir.path()).unwrap().uid()));
    }

    #[test]
    fn daemon_of_another_user_is_trusted_by_its_name_only() {
        // On each machine the user database has a user with the id 1, so the test can look up the name of this user.
        let daemon = Credentials { pid: 1, uid: 1, gid: 4_000_000_001 };
        let name = daemon.user_name().unwrap();
        assert!(is_trusted(daemon, &name) && !is_trusted(daemon, NOBODY));
        let unknown = Credentials { uid: 4_000_000_001, ..daemon };
        assert!(!is_trusted(unknown, &name) && !is_trusted(unknown, ""));
    }

    #[test]
    fn idle_connections_do_not_keep_a_client_from_asking() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("restart");
        let mut socket = RestartSocket::open(&path).unwrap().unwrap();
        let idle: Vec<UnixStream> = (0..MAX_WAITING)
            .map(|_| {
                let (connection, pid) = connect(&path, NOBODY).unwrap();
                assert_eq!(pid, std::process::id());
                assert!(socket.accept().is_some());
                connection
            })
            .collect();
        let (mut client, _) = connect(&path, NOBODY).unwrap();
        client.write_all(REQUEST).unwrap();
        assert!(socket.accept().is_some() && socket.waiting.len() == MAX_WAITING);
        assert!(socket.request().is_some() && socket.waiting.len() == MAX_WAITING - 1);
        assert_eq!((&idle[0]).read(&mut [0]).unwrap(), 0, "the oldest connection is closed");
        drop(idle);
        assert!(socket.request().is_none() && socket.waiting.is_empty());
    }

    #[test]
    fn anything_but_a_restart_request_is_dropped() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("restart");
        let mut socket = RestartSocket::open(&path).unwrap().unwrap();
        let mut client = UnixStream::connect(&path).unwrap();
        assert!(socket.accept().is_some() && socket.request().is_none() && !socket.waiting.is_empty());
        client.write_all(b"reboot!\n").unwrap();
        assert!(socket.request().is_none() && socket.waiting.is_empty());
        assert_eq!(client.read(&mut [0]).unwrap(), 0);
    }
}
