//! The control socket: who may ask, and a thread for each who does, at most eight at once.
//!
//! A question is passed to the main thread; its thread waits for the answer. Every wait has an end, so a client that
//! says nothing or doesn't listen holds one of eight places for two seconds.

use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{SyncSender, channel};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use palabre_config::control::{Response, read_request, write_response};
use palabre_host::peer;

use crate::event::{Event, named};

/// Conversations at once. Who comes then waits in the socket's queue.
const MAX_CONVERSATIONS: usize = 8;
/// How long a client may take to ask, and to take the answer.
const CLIENT_PATIENCE: Duration = Duration::from_secs(2);
/// How long the main thread may take: a restart waits for a new process (10 s) and an old one (3 s).
const ANSWER_PATIENCE: Duration = Duration::from_secs(20);
const SOCKET_MODE: u32 = 0o660;

/// Answers on the socket that the program before us has left, or on a new one at `path`, in place of one that an earlier
/// process left there. The socket once more, for the program after us.
pub fn open(path: &Path, left: Option<UnixListener>, events: SyncSender<Event>) -> io::Result<UnixListener> {
    let socket = match left {
        Some(socket) => socket,
        None => bind(path)?,
    };
    let again = socket.try_clone()?;
    let door = Door { socket_path: path.to_owned(), events, places: Arc::default() };
    named("control", move || door.serve(&socket))?;
    Ok(again)
}

fn bind(path: &Path) -> io::Result<UnixListener> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let socket = UnixListener::bind(path)?;
    fs::set_permissions(path, fs::Permissions::from_mode(SOCKET_MODE))?;
    Ok(socket)
}

#[derive(Clone)]
struct Door {
    socket_path: PathBuf,
    events: SyncSender<Event>,
    places: Arc<Places>,
}

impl Door {
    fn serve(&self, socket: &UnixListener) {
        loop {
            let place = self.places.take();
            match socket.accept() {
                Ok((stream, _)) => {
                    let door = self.clone();
                    let conversation = named("conversation", move || {
                        let _place = place;
                        door.converse(&stream);
                    });
                    if let Err(error) = conversation {
                        log::warn!("unable to answer on the control socket: {error}");
                    }
                }
                Err(error) => {
                    log::warn!("unable to accept on the control socket: {error}");
                    // Out of descriptors, most likely: not to be tried a million times a second.
                    std::thread::sleep(Duration::from_millis(100));
                }
            }
        }
    }

    fn converse(&self, stream: &UnixStream) {
        let response = self.response(stream);
        if let Err(error) = write_response(stream, &response, CLIENT_PATIENCE) {
            log::debug!("{error}");
        }
    }

    /// The question is read before anything else: a client whose question is left unread gets no answer either
    /// (unix(7) resets the connection).
    fn response(&self, stream: &UnixStream) -> Response {
        let asked = read_request(stream, CLIENT_PATIENCE);
        let pid = match self.may_ask(stream) {
            Ok(pid) => pid,
            Err(why) => {
                log::warn!("{why}");
                return Response::Refused { why };
            }
        };
        let request = match asked {
            Ok(request) => request,
            Err(error) => return Response::Refused { why: error.to_string() },
        };
        let (answer, answered) = channel();
        if self.events.send(Event::Asked { request, pid, answer }).is_err() {
            return Response::Refused { why: "unable to answer: the supervisor is ending".into() };
        }
        answered.recv_timeout(ANSWER_PATIENCE).unwrap_or_else(|_| Response::Refused {
            why: "unable to wait for the outcome any longer; see 'palabre status'".into(),
        })
    }

    /// Root, our own user, and the members of the socket's group. The socket's mode says the same; this still holds
    /// when somebody has changed it. Which process it is.
    fn may_ask(&self, stream: &UnixStream) -> Result<u32, String> {
        let unable = |error: io::Error| format!("unable to learn who asks on the control socket: {error}");
        let peer = peer::credentials(stream).map_err(unable)?;
        let group = fs::metadata(&self.socket_path).map_err(unable)?.gid();
        if peer.is_root_or_same_user() || peer.is_in_group(group) {
            return Ok(u32::try_from(peer.pid).unwrap_or_default());
        }
        let path = self.socket_path.display();
        Err(format!("unable to obey user {} (process {}): not in the group of '{path}', {group}", peer.uid, peer.pid))
    }
}

/// How many conversations there are.
#[derive(Default)]
struct Places {
    taken: Mutex<usize>,
    freed: Condvar,
}

/// One of them, until it is dropped.
struct Place(Arc<Places>);

impl Places {
    fn take(self: &Arc<Self>) -> Place {
        let taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let mut taken =
            self.freed.wait_while(taken, |taken| *taken >= MAX_CONVERSATIONS).unwrap_or_else(PoisonError::into_inner);
        *taken += 1;
        Place(Arc::clone(self))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        *self.0.taken.lock().unwrap_or_else(PoisonError::into_inner) -= 1;
        self.0.freed.notify_one();
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use palabre_config::control::{ControlError, Request, request};
    use std::sync::mpsc::{Receiver, sync_channel};

    const LONG: Duration = Duration::from_secs(60);

    fn open_door() -> (tempfile::TempDir, PathBuf, Receiver<Event>) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("control.sock");
        let (events, received) = sync_channel(64);
        open(&path, None, events).unwrap();
        (dir, path, received)
    }

    #[test]
    fn a_question_reaches_the_main_thread_and_its_answer_the_client() {
        let (_dir, path, received) = open_door();
        let client = std::thread::spawn(move || request(&path, &Request::Reload, LONG));
        let Event::Asked { request: Request::Reload, answer, .. } = received.recv().unwrap() else {
            panic!("another question");
        };
        answer.send(Response::Ok).unwrap();
        assert_eq!(client.join().unwrap().unwrap(), Response::Ok);
    }

    #[test]
    fn clients_that_say_nothing_are_outlived_by_one_that_asks() {
        let (_dir, path, received) = open_door();
        let _silent: Vec<UnixStream> = (0..MAX_CONVERSATIONS).map(|_| UnixStream::connect(&path).unwrap()).collect();
        let client = std::thread::spawn(move || request(&path, &Request::Status, LONG));
        let Event::Asked { answer, .. } = received.recv().unwrap() else {
            panic!("no question");
        };
        answer.send(Response::Ok).unwrap();
        assert_eq!(client.join().unwrap().unwrap(), Response::Ok);
    }

    #[test]
    fn a_question_without_answer_is_told_so() {
        let (_dir, path, received) = open_door();
        drop(received);
        let refused = request(&path, &Request::Status, LONG).unwrap();
        assert!(matches!(refused, Response::Refused { why } if why.contains("is ending")));
    }

    #[test]
    fn nonsense_is_answered_with_what_is_wrong() {
        use std::io::{Read, Write};
        let (_dir, path, _received) = open_door();
        let mut client = UnixStream::connect(&path).unwrap();
        client.write_all(b"{\"version\":9}\n").unwrap();
        let mut answer = String::new();
        client.read_to_string(&mut answer).unwrap();
        let expected = ControlError::Version { theirs: 9 }.to_string();
        assert!(answer.contains(&expected), "{answer}");
    }
}
