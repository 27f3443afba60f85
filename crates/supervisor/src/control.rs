//! The control socket: authorization, and one thread per client, at most eight at once.
//!
//! A client's thread passes the request to the main thread and waits for the answer. Only a request to restart the mixer is handled in the
//! client's thread. Every wait has a timeout: a client that sends nothing or reads nothing occupies one of eight slots for two seconds.

use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{SyncSender, channel};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use log::Level;
use palabre_config::control::{Request, Response, Target, WITH_CONNECTION, read_request, write_response};
use palabre_host::log_limit::LogLimit;
use palabre_host::packet::{self, Packet};
use palabre_host::peer::{self, Credentials};
use palabre_host::restart::{self, RestartError};
use palabre_host::usage;
use palabre_room::{LISTENER_USER, MIXER_USER};

use crate::audit::{self, Author};
use crate::event::{Client, ENDING, Event, named};

/// Maximum number of clients that are served at once. Further connections wait in the socket's queue.
const MAX_CLIENTS: usize = 8;
/// Timeout for reading a request and for writing an answer.
const CLIENT_TIMEOUT: Duration = Duration::from_secs(2);
/// Timeout for the main thread's answer. A restart of a listener takes 13 s at most, an upgrade 20 s.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);
/// Timeout for the mixer's answer to a restart request.
const MIXER_TIMEOUT: Duration = Duration::from_secs(10);
/// Delay before accept(2) is called again after it has failed, for example because the limit of open files is reached.
const ACCEPT_RETRY_DELAY: Duration = Duration::from_millis(100);
const SOCKET_MODE: u32 = 0o660;
/// Name of the user, besides root, whose signer the supervisor accepts.
const SIGNER_USER: &str = "palabre-signer";
/// Name of the exporter's user in the package.
const EXPORTER_USER: &str = "palabre-exporter";

/// Starts to serve the control socket: the one inherited from the previous program, or a new one at `path`. Returns a duplicate of the
/// socket, for the next program.
pub(crate) fn open(
    path: &Path,
    inherited: Option<UnixListener>,
    mixer_socket: PathBuf,
    events: SyncSender<Event>,
) -> io::Result<UnixListener> {
    let socket = match inherited {
        Some(socket) => socket,
        None => bind(path)?,
    };
    let duplicate = socket.try_clone()?;
    let (slots, refusals) = (Arc::default(), Arc::new(LogLimit::new(0.1, 2.0)));
    let server = Server { socket_path: path.to_owned(), mixer_socket, events, slots, refusals };
    named("control", move || server.serve(&socket))?;
    Ok(duplicate)
}

/// Tells the client that asked the previous program to restart that this program serves now.
pub(crate) fn restarted(client: &UnixStream) {
    let response = Response::Restarted { pid: std::process::id() };
    if let Err(error) = write_response(client, &response, CLIENT_TIMEOUT) {
        log::debug!("{error}");
    }
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
struct Server {
    socket_path: PathBuf,
    mixer_socket: PathBuf,
    events: SyncSender<Event>,
    slots: Arc<Slots>,
    /// Limits the log lines about refused signers and launchers.
    refusals: Arc<LogLimit>,
}

impl Server {
    fn serve(&self, socket: &UnixListener) {
        loop {
            let slot = self.slots.take();
            match socket.accept() {
                Ok((stream, _)) => {
                    let server = self.clone();
                    let client = named("client", move || {
                        let _slot = slot;
                        server.serve_client(&stream);
                    });
                    if let Err(error) = client {
                        log::warn!("unable to start a thread for a client of the control socket: {error}");
                    }
                }
                Err(error) => {
                    log::warn!("unable to accept a connection on the control socket: {error}");
                    std::thread::sleep(ACCEPT_RETRY_DELAY);
                }
            }
        }
    }

    fn serve_client(&self, stream: &UnixStream) {
        let response = self.response(stream);
        if let Err(error) = write_response(stream, &response, CLIENT_TIMEOUT) {
            log::debug!("{error}");
        }
    }

    /// Reads the request and returns the answer. The request is read before the client is authorized, since closing a connection with
    /// unread data resets it (unix(7)), and the client would not receive the answer.
    fn response(&self, stream: &UnixStream) -> Response {
        let request = read_request(stream, CLIENT_TIMEOUT);
        let is_of_listener = matches!(request, Ok(Request::Enter(_) | Request::DisplayName { display: Some(_), .. }));
        let peer = self.authorize(stream).and_then(|peer| refuse_daemons(peer, request.as_ref().ok()));
        let peer = match peer.and_then(|peer| refuse_children(stream, peer, is_of_listener)) {
            Ok(peer) => peer,
            Err(why) => {
                log::warn!("{why}");
                return Response::Refused { why };
            }
        };
        match request {
            Ok(Request::Restart(Target::Mixer)) => {
                audit::restart("palabre-mixer", &Author::of(peer));
                restart_mixer(&self.mixer_socket)
            }
            Ok(Request::Sign) => self.accept_signer(peer, stream).unwrap_or_else(|why| {
                // A refused signer tries again every second, so limit the log lines.
                self.refusals.log(Level::Warn, Instant::now(), &why);
                Response::Refused { why }
            }),
            Ok(Request::Launch) => self.accept_launcher(peer, stream).unwrap_or_else(|why| {
                self.refusals.log(Level::Warn, Instant::now(), &why);
                Response::Refused { why }
            }),
            Ok(request) => self.ask_main_thread(request, peer, stream),
            Err(error) => Response::Refused { why: error.to_string() },
        }
    }

    /// Passes one end of a new connection to a signer of another user, and the other end to the main thread. Refuses other members of the group:
    /// with such a signer, browsers would get the certificate of this member. Also refuses a second signer: two would replace each other again and
    /// again.
    fn accept_signer(&self, peer: Credentials, stream: &UnixStream) -> Result<Response, String> {
        let name = peer.user_name();
        let user = name.clone().unwrap_or_else(|| peer.uid.to_string());
        if peer.uid != 0 && name.as_deref() != Some(SIGNER_USER) {
            return Err(format!(
                "unable to accept process {} of user '{user}' as the signer: only '{SIGNER_USER}' and root may sign",
                peer.pid
            ));
        }
        if let Response::Refused { why } = self.ask_main_thread(Request::Sign, peer, stream) {
            return Err(format!("unable to accept process {} of user '{user}' as the signer: {why}", peer.pid));
        }
        let unable = |error: io::Error| {
            format!("unable to set up the connection between the supervisor and palabre-signer: {error}")
        };
        let (socket, theirs) = Packet::pair().map_err(unable)?;
        packet::send_with(stream, &[WITH_CONNECTION], &theirs).map_err(unable)?;
        let pid = u32::try_from(peer.pid).unwrap_or_default();
        let _ = self.events.send(Event::SignerConnected { socket, pid, user });
        Ok(Response::Ok)
    }

    /// Passes one end of a new connection to a launcher, and the other end to the main thread. Refuses other members of the group, because a launcher
    /// gets the sockets and the settings of all participants. Also refuses a second launcher. A listener, which has the same user, can't become the
    /// launcher: while a launcher is connected, the listener would be the second one. When the launcher ends, the kernel kills all its listeners.
    /// The sandbox of a listener forbids the listener to switch this off.
    fn accept_launcher(&self, peer: Credentials, stream: &UnixStream) -> Result<Response, String> {
        let name = peer.user_name();
        let user = name.clone().unwrap_or_else(|| peer.uid.to_string());
        let refused =
            |why: &str| format!("unable to accept process {} of user '{user}' as the launcher: {why}", peer.pid);
        if peer.uid != 0 && name.as_deref() != Some(LISTENER_USER) {
            return Err(refused(&format!("only '{LISTENER_USER}' and root may start listeners")));
        }
        // A launcher that the main thread refuses tries again and again, and logs the reason itself. So the supervisor doesn't log it.
        if let Response::Refused { why } = self.ask_main_thread(Request::Launch, peer, stream) {
            return Ok(Response::Refused { why: refused(&why) });
        }
        let unable = |error: io::Error| {
            format!("unable to set up the connection between the supervisor and palabre-launcher: {error}")
        };
        let (socket, theirs) = Packet::pair().map_err(unable)?;
        packet::send_with(stream, &[WITH_CONNECTION], &theirs).map_err(unable)?;
        let pid = u32::try_from(peer.pid).unwrap_or_default();
        let _ = self.events.send(Event::LauncherConnected { socket, pid });
        Ok(Response::Ok)
    }

    fn ask_main_thread(&self, request: Request, peer: Credentials, stream: &UnixStream) -> Response {
        let connection = match request {
            Request::Restart(Target::Supervisor) => stream.try_clone().ok(),
            _ => None,
        };
        let (answer, answered) = channel();
        let pid = u32::try_from(peer.pid).unwrap_or_default();
        let client = Client { answer, connection, by: Author::of(peer) };
        if self.events.send(Event::Asked { request, pid, client }).is_err() {
            return Response::Refused { why: ENDING.into() };
        }
        answered.recv_timeout(ANSWER_TIMEOUT).unwrap_or_else(|_| Response::Refused {
            why: format!(
                "unable to complete the request within {} s; it may still be completed: see 'palabre status'",
                ANSWER_TIMEOUT.as_secs()
            ),
        })
    }

    /// Returns the client's credentials if the client is root, the supervisor's user, or a member of the socket's group; otherwise an error.
    /// The mode of the socket's file has the same effect, unless it was changed.
    fn authorize(&self, stream: &UnixStream) -> Result<Credentials, String> {
        let unable = |error: io::Error| {
            format!(
                "unable to check the permission of a client of the control socket: {error}; the request was refused"
            )
        };
        let peer = peer::credentials(stream).map_err(unable)?;
        let group = fs::metadata(&self.socket_path).map_err(unable)?.gid();
        if peer.is_root_or_same_user() || peer.is_in_group(group) {
            return Ok(peer);
        }
        let path = self.socket_path.display();
        Err(format!(
            "unable to accept the request of user {} (process {}): the user is not in group {group}, the group of '{path}'; \
             run the command as root or as a member of this group",
            peer.uid, peer.pid
        ))
    }
}

/// Refuses a request of a daemon with a user of its own, unless this daemon needs the request. Such a user is in the socket's group because the
/// daemon needs the rooms or another request.
fn refuse_daemons(peer: Credentials, request: Option<&Request>) -> Result<Credentials, String> {
    let user = if peer.is_root_or_same_user() { None } else { peer.user_name() };
    match user {
        Some(user) if !may_send(&user, request) => Err(format!(
            "unable to accept the request of process {}: its user '{user}' may not control the supervisor",
            peer.pid
        )),
        _ => Ok(peer),
    }
}

/// Returns whether this user, who is in the socket's group, may send the request.
fn may_send(user: &str, request: Option<&Request>) -> bool {
    match user {
        MIXER_USER => false,
        EXPORTER_USER => request == Some(&Request::Status),
        SIGNER_USER => request == Some(&Request::Sign),
        // The main thread checks that a listener sends only requests about its own participant.
        LISTENER_USER => {
            matches!(request, Some(Request::Launch | Request::Enter(_) | Request::DisplayName { display: Some(_), .. }))
        }
        _ => true,
    }
}

/// Refuses a request of a listener, a recorder, or a process that one of them has started. Doesn't refuse if `is_of_listener`: the request records
/// the use of a link or a chosen display name, and the main thread checks the sender. A process of the supervisor's user that has ended or
/// can't be examined is refused too, because a listener may have started it.
fn refuse_children(stream: &UnixStream, peer: Credentials, is_of_listener: bool) -> Result<Credentials, String> {
    if !peer.is_same_user() || is_of_listener {
        return Ok(peer);
    }
    let cause = match peer::descends_from(stream, std::process::id()) {
        Ok(false) => return Ok(peer),
        Ok(true) => "listeners and recorders may not control the supervisor".to_owned(),
        Err(error) => format!(
            "unable to find out whether the sender of the request is a listener or a recorder, which may not control the supervisor: {error}"
        ),
    };
    Err(format!("unable to accept the request of process {}: {cause}", peer.pid))
}

/// Asks the mixer to restart and waits for its answer. A stopped mixer isn't asked, because it would restart later, when it continues.
fn restart_mixer(socket: &Path) -> Response {
    let rooms = socket.parent().unwrap_or(socket).display();
    if let Ok((_, pid)) = restart::connect(socket, MIXER_USER)
        && usage::is_stopped(pid)
    {
        let why = format!(
            "unable to restart the mixer of the rooms in '{rooms}': process {pid} is stopped; run 'kill -CONT {pid}' to continue it"
        );
        return Response::Refused { why };
    }
    let unable = |error: &RestartError| format!("unable to restart the mixer of the rooms in '{rooms}': {error}");
    match restart::request(socket, MIXER_USER, MIXER_TIMEOUT) {
        Ok(pid) => Response::Restarted { pid },
        Err(RestartError::Failed(why)) => Response::Refused { why },
        Err(error @ RestartError::NotRunning(_)) => Response::Refused {
            why: format!("{}; under systemd, 'systemctl restart palabre-mixer' starts a new mixer", unable(&error)),
        },
        Err(error) => Response::Failed { why: format!("{}; see the mixer's log", unable(&error)) },
    }
}

/// Counts the clients that are being served.
#[derive(Default)]
struct Slots {
    taken: Mutex<usize>,
    freed: Condvar,
}

/// One of [`MAX_CLIENTS`] slots. Dropping it frees the slot.
struct Slot(Arc<Slots>);

impl Slots {
    /// Waits for a free slot.
    fn take(self: &Arc<Self>) -> Slot {
        let taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let mut taken =
            self.freed.wait_while(taken, |taken| *taken >= MAX_CLIENTS).unwrap_or_else(PoisonError::into_inner);
        *taken += 1;
        Slot(Arc::clone(self))
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        *self.0.taken.lock().unwrap_or_else(PoisonError::into_inner) -= 1;
        self.0.freed.notify_one();
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use palabre_config::control::{ControlError, request};
    use std::sync::mpsc::{Receiver, sync_channel};

    const LONG: Duration = Duration::from_secs(60);

    fn open_socket() -> (tempfile::TempDir, PathBuf, Receiver<Event>) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("control.sock");
        let (events, received) = sync_channel(64);
        open(&path, None, dir.path().join("mixer"), events).unwrap();
        (dir, path, received)
    }

    #[test]
    fn daemons_with_their_own_user_may_send_only_the_requests_that_they_need() {
        let alice: palabre_room::Name = "alice".parse().unwrap();
        let chosen = |display| Request::DisplayName { name: alice.clone(), display };
        for (user, of_status, of_sign, of_launch, of_name, of_others) in [
            (MIXER_USER, false, false, false, false, false),
            (EXPORTER_USER, true, false, false, false, false),
            (SIGNER_USER, false, true, false, false, false),
            (LISTENER_USER, false, false, true, true, false),
            ("ops", true, true, true, true, true),
        ] {
            let requests = [Request::Status, Request::Sign, Request::Launch, chosen(Some("Alice".to_owned()))];
            let may = requests.map(|request| may_send(user, Some(&request)));
            assert_eq!(may, [of_status, of_sign, of_launch, of_name], "{user}");
            assert_eq!(may_send(user, Some(&chosen(None))), of_others, "{user}");
            for other in [Some(&Request::Reload), Some(&Request::Restart(Target::Mixer)), None] {
                assert_eq!(may_send(user, other), of_others, "{user} {other:?}");
            }
        }
    }

    #[test]
    fn request_reaches_the_main_thread_and_its_answer_the_client() {
        let (_dir, path, received) = open_socket();
        let client = std::thread::spawn(move || request(&path, &Request::Reload, LONG));
        let Event::Asked { request: Request::Reload, client: asked, .. } = received.recv().unwrap() else {
            panic!("another request");
        };
        asked.answer(Response::Ok);
        assert_eq!(client.join().unwrap().unwrap(), Response::Ok);
    }

    #[test]
    fn silent_clients_do_not_keep_others_from_being_served() {
        let (_dir, path, received) = open_socket();
        let _silent: Vec<UnixStream> = (0..MAX_CLIENTS).map(|_| UnixStream::connect(&path).unwrap()).collect();
        let client = std::thread::spawn(move || request(&path, &Request::Status, LONG));
        let Event::Asked { client: asked, .. } = received.recv().unwrap() else {
            panic!("no request");
        };
        asked.answer(Response::Ok);
        assert_eq!(client.join().unwrap().unwrap(), Response::Ok);
    }

    #[test]
    fn client_is_told_that_the_supervisor_is_ending() {
        let (_dir, path, received) = open_socket();
        drop(received);
        let refused = request(&path, &Request::Status, LONG).unwrap();
        assert!(matches!(refused, Response::Refused { why } if why.contains("is ending")));
    }

    #[test]
    fn invalid_request_is_answered_with_the_error() {
        use std::io::{Read, Write};
        let (_dir, path, _received) = open_socket();
        let mut client = UnixStream::connect(&path).unwrap();
        client.write_all(b"{\"version\":9}\n").unwrap();
        let mut answer = String::new();
        client.read_to_string(&mut answer).unwrap();
        let expected = ControlError::Version { theirs: 9 }.to_string();
        assert!(answer.contains(&expected), "{answer}");
    }
}
