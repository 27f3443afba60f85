//! The supervisor replaced in its own process, its programs by others of the same making: what stays, what goes over, what
//! is refused; and sockets that outlive it with whoever started it.

#![allow(clippy::unwrap_used, missing_docs)]

mod house;

use std::fs;
use std::io::IoSliceMut;
use std::net::TcpStream;
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::mpsc;
use std::time::Duration;

use house::{House, Knocker, eventually, holds, listener, runs, signal};
use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg};
use palabre_config::control::{Request, Response, State};

/// Programs in a directory of their own, which can be replaced as a package does it: by rename.
struct Programs {
    dir: tempfile::TempDir,
}

impl Programs {
    fn new() -> Self {
        let programs = Self { dir: tempfile::tempdir().unwrap() };
        programs.replace("palabre-supervisor");
        programs.replace("palabre-listener");
        programs
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Another file of the same content. It is written by cp(1): a child of ours that is started meanwhile would have a file
    /// open for writing that we wrote ourselves, and a file that is open for writing can't be executed.
    fn replace(&self, name: &str) {
        let made = Path::new(env!("CARGO_BIN_EXE_palabre-supervisor")).with_file_name(name);
        let new = self.path(&format!("{name}.new"));
        assert!(Command::new("cp").arg(made).arg(&new).status().unwrap().success());
        fs::rename(new, self.path(name)).unwrap();
    }

    fn start(&self, house: &mut House) {
        listener();
        house.start_by(&mut house.command_of(&self.path("palabre-supervisor"), &self.path("palabre-listener")));
    }
}

fn upgrade(house: &House) -> Result<Response, String> {
    house.ask(&Request::Upgrade)
}

fn began(house: &House) -> u64 {
    house.status().supervisor.unwrap().began_ms
}

#[test]
fn a_hangup_after_new_programs_were_installed_replaces_all_of_them_and_nobody_is_refused() {
    let (programs, mut house) = (Programs::new(), House::of(&["alice", "bob", "carol"]));
    programs.start(&mut house);
    let old = ["alice", "bob"].map(|name| house.wait_for(name, State::Ready));
    house.wait_for("carol", State::Ready);
    assert_eq!(house.stop("carol"), Response::Ok);
    let (pid, before) = (house.pid(), began(&house));
    let knocker = Knocker::at(old[0].port);
    programs.replace("palabre-supervisor");
    programs.replace("palabre-listener");
    house.write("dave", "port = 0\n");
    signal(pid, "HUP");
    for alice in &old {
        let new = house.wait_until(&alice.name, |new| new.state == State::Ready && new.pid != alice.pid);
        assert_eq!((new.port, new.restarts, new.last_exit), (alice.port, 0, None));
        assert!(holds(pid, new.port));
        eventually("the old listener is gone", || !runs(alice.pid.unwrap()));
    }
    assert_eq!(knocker.refusals(), 0);
    let status = house.status();
    assert_eq!(status.supervisor.unwrap().pid, pid);
    assert_ne!(status.supervisor.unwrap().began_ms, before);
    assert!(status.errors.is_empty(), "{:?}", status.errors);
    assert_eq!(house.participant("carol").state, State::Stopped);
    house.wait_for("dave", State::Ready);
    // Its children are still its own.
    let alice = house.participant("alice");
    signal(alice.pid.unwrap(), "KILL");
    house.wait_until("alice", |again| again.state == State::Ready && again.restarts == 1);
    signal(pid, "TERM");
    assert!(house.wait_for_the_end().success());
}

#[test]
fn the_same_program_may_take_its_own_place_and_leaves_the_listeners_alone() {
    let house = House::open(&["alice", "bob"]);
    let (alice, pid) = (house.participant("alice"), house.pid());
    for _ in 0..3 {
        let before = began(&house);
        assert!(upgrade(&house).is_err(), "the conversation ends without an answer");
        eventually("another program", || house.ask(&Request::Status).is_ok() && began(&house) != before);
        let same = house.participant("alice");
        assert_eq!((same.state, same.pid, same.port, same.restarts), (State::Ready, alice.pid, alice.port, 0));
    }
    assert!(runs(pid));
    assert_eq!(house.restart("alice"), Response::Ok);
    assert_ne!(house.participant("alice").pid, alice.pid);
    let second = house.command().output().unwrap();
    assert_eq!(second.status.code(), Some(1), "the lock is held all the time");
    // What was started before the first replacement still dies with us.
    let bob = house.participant("bob").pid.unwrap();
    signal(pid, "KILL");
    eventually("the listeners are gone", || !runs(bob));
}

#[test]
fn where_only_the_listener_is_newer_only_listeners_are_replaced() {
    let (programs, mut house) = (Programs::new(), House::of(&["alice", "bob"]));
    programs.start(&mut house);
    let (alice, before) = (house.wait_for("alice", State::Ready), began(&house));
    let bob = house.wait_for("bob", State::Ready);
    signal(house.pid(), "HUP");
    house.write("carol", "port = 0\n");
    signal(house.pid(), "HUP");
    house.wait_for("carol", State::Ready);
    assert_eq!(house.participant("alice").pid, alice.pid, "nothing is newer");
    programs.replace("palabre-listener");
    signal(house.pid(), "HUP");
    for old in [alice, bob] {
        house.wait_until(&old.name, |new| new.state == State::Ready && new.pid != old.pid);
    }
    assert_eq!(began(&house), before);
}

#[test]
fn what_the_new_program_refuses_leaves_the_old_one_with_an_alarm() {
    let (programs, mut house) = (Programs::new(), House::of(&["alice"]));
    programs.start(&mut house);
    let (alice, before) = (house.wait_for("alice", State::Ready), began(&house));
    house.write_server("hots = 1\n");
    let Ok(Response::Refused { why }) = upgrade(&house) else { panic!("it was not refused") };
    assert!(why.contains("palabre.toml', line 2: unknown field `hots`") && why.contains("goes on as it was"), "{why}");
    assert!(house.status().errors.contains(&why));
    house.write_server("");
    fs::remove_file(programs.path("palabre-supervisor")).unwrap();
    house.write("bob", "port = 0\n");
    signal(house.pid(), "HUP");
    house.wait_for("bob", State::Ready);
    let errors = house.status().errors;
    assert!(errors.iter().any(|error| error.contains("No such file or directory")), "{errors:?}");
    for (another, says) in [("/bin/false", "it ended with exit status: 1"), ("/bin/true", "say that it takes over")] {
        std::os::unix::fs::symlink(another, programs.path("palabre-supervisor")).unwrap();
        let Ok(Response::Refused { why }) = upgrade(&house) else { panic!("{another} was not refused") };
        assert!(why.contains(says), "{why}");
        fs::remove_file(programs.path("palabre-supervisor")).unwrap();
    }
    assert_eq!((house.participant("alice").pid, began(&house)), (alice.pid, before));
    programs.replace("palabre-supervisor");
    assert!(upgrade(&house).is_err());
    eventually("another program", || house.ask(&Request::Status).is_ok() && began(&house) != before);
    assert!(house.status().errors.is_empty());
    assert_eq!(house.participant("alice").pid, alice.pid);
}

#[test]
fn a_program_that_is_gone_at_the_last_moment_leaves_the_old_one_which_hears_its_children() {
    let (programs, mut house) = (Programs::new(), House::of(&["alice"]));
    programs.start(&mut house);
    let (alice, before) = (house.wait_for("alice", State::Ready), began(&house));
    // It promises everything and removes itself.
    let promise = "#!/bin/sh\nrm \"$0\"; echo 'takes over from a supervisor with a state of version 1'\n";
    let text = house.config().join("promise");
    fs::write(&text, promise).unwrap();
    fs::set_permissions(&text, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    assert!(Command::new("cp").arg(&text).arg(programs.path("new")).status().unwrap().success());
    fs::rename(programs.path("new"), programs.path("palabre-supervisor")).unwrap();
    let Ok(Response::Refused { why }) = upgrade(&house) else { panic!("it was not refused") };
    assert!(why.contains("No such file or directory"), "{why}");
    assert!(house.status().errors.contains(&why));
    assert_eq!((house.participant("alice").pid, began(&house)), (alice.pid, before));
    assert_eq!(house.restart("alice"), Response::Ok, "its READY=1 is heard");
    let second = house.command().output().unwrap();
    assert_eq!(second.status.code(), Some(1), "the lock is held as before");
}

#[test]
fn a_configuration_that_breaks_at_the_last_moment_leaves_the_one_that_was_read() {
    let (programs, mut house) = (Programs::new(), House::of(&["alice"]));
    programs.start(&mut house);
    let (alice, before) = (house.wait_for("alice", State::Ready), began(&house));
    // It promises everything, and then the file loses its meaning.
    let real = programs.path("real");
    fs::rename(programs.path("palabre-supervisor"), &real).unwrap();
    let (file, real) = (house.config().join("palabre.toml"), real.display().to_string());
    let script = format!(
        "#!/bin/sh\ncase \"$*\" in *--probe*) echo 'hots = 1' >>'{}'; \
         echo 'takes over from a supervisor with a state of version 1';; *) exec '{real}' \"$@\";; esac\n",
        file.display()
    );
    let text = house.config().join("script");
    fs::write(&text, script).unwrap();
    fs::set_permissions(&text, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    assert!(Command::new("cp").arg(&text).arg(programs.path("palabre-supervisor")).status().unwrap().success());
    assert!(upgrade(&house).is_err());
    eventually("another program", || house.ask(&Request::Status).is_ok() && began(&house) != before);
    let errors = house.status().errors;
    assert!(errors.iter().any(|error| error.contains("unknown field `hots`")), "{errors:?}");
    assert_eq!(house.participant("alice").pid, alice.pid);
    house.write_server("");
    assert!(house.reload().errors.is_empty());
}

#[test]
fn a_newer_listener_that_cannot_serve_ends_the_handover_with_an_alarm() {
    let (programs, mut house) = (Programs::new(), House::of(&["alice", "bob"]));
    programs.start(&mut house);
    let old = ["alice", "bob"].map(|name| house.wait_for(name, State::Ready).pid);
    fs::remove_file(programs.path("palabre-listener")).unwrap();
    std::os::unix::fs::symlink("/bin/false", programs.path("palabre-listener")).unwrap();
    signal(house.pid(), "HUP");
    let alarm = || house.status().errors.into_iter().find(|error| error.contains("unable to hand the listener"));
    eventually("an alarm", || alarm().is_some());
    assert_eq!(["alice", "bob"].map(|name| house.participant(name).pid), old);
}

/// Whoever started the supervisor, as systemd does it: a socket for its words and the descriptors that it stores. They are read at
/// once, as systemd reads them: a full socket would stop the supervisor.
struct Starter {
    words: mpsc::Receiver<(String, Option<RawFd>)>,
    path: PathBuf,
}

impl Starter {
    fn of(house: &House) -> Self {
        let path = house.config().join("systemd.sock");
        let socket = UnixDatagram::bind(&path).unwrap();
        let (said, words) = mpsc::channel();
        std::thread::spawn(move || while said.send(Self::hear(&socket)).is_ok() {});
        Self { words, path }
    }

    /// The next words, and the descriptor that came with them. Our children inherit it.
    fn hear(socket: &UnixDatagram) -> (String, Option<RawFd>) {
        let (mut bytes, mut room) = ([0; 1024], nix::cmsg_space!([RawFd; 1]));
        let mut parts = [IoSliceMut::new(&mut bytes)];
        let received = recvmsg::<()>(socket.as_raw_fd(), &mut parts, Some(&mut room), MsgFlags::empty()).unwrap();
        let fd = received.cmsgs().unwrap().find_map(|message| match message {
            ControlMessageOwned::ScmRights(fds) => fds.first().copied(),
            _ => None,
        });
        let length = received.bytes;
        (String::from_utf8(bytes[..length].to_vec()).unwrap(), fd)
    }

    fn hear_until(&self, words: &str) -> Option<RawFd> {
        let next = || self.words.recv_timeout(house::PATIENCE).unwrap();
        std::iter::repeat_with(next).find(|(heard, _)| heard.contains(words)).unwrap().1
    }

    /// Starts the supervisor, with a socket that it has stored before if there is one.
    fn start(&self, house: &mut House, stored: Option<(&str, RawFd)>) {
        let supervisor = house.command();
        let mut command = Command::new("sh");
        command.args(["-c", "exec env LISTEN_PID=$$ \"$0\" \"$@\""]).arg(supervisor.get_program());
        command.args(supervisor.get_args()).env("NOTIFY_SOCKET", &self.path).env("WATCHDOG_USEC", "200000");
        if let Some((name, fd)) = stored {
            let variables = [("LISTEN_FDS", "1".to_owned()), ("LISTEN_FDS_FIRST_FD", fd.to_string())];
            command.envs(variables).env("LISTEN_FDNAMES", name);
        }
        house.start_by(&mut command);
    }
}

#[test]
fn sockets_outlive_a_killed_supervisor_and_the_watchdog_is_fed() {
    let mut house = House::of(&["alice"]);
    let starter = Starter::of(&house);
    starter.start(&mut house, None);
    let fd = starter.hear_until("FDSTORE=1\nFDNAME=alice\nFDPOLL=0\n").unwrap();
    starter.hear_until("READY=1");
    starter.hear_until("WATCHDOG=1");
    starter.hear_until("WATCHDOG=1");
    let alice = house.wait_for("alice", State::Ready);
    signal(house.pid(), "KILL");
    assert!(!house.wait_for_the_end().success());
    eventually("the listener is gone", || !runs(alice.pid.unwrap()));
    // Nobody is refused.
    let waiting = TcpStream::connect(("127.0.0.1", alice.port)).unwrap();
    starter.start(&mut house, Some(("alice", fd)));
    let again = house.wait_for("alice", State::Ready);
    assert_eq!(again.port, alice.port, "port 0 would have been another one");
    assert!(holds(house.pid(), alice.port));
    waiting.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    starter.hear_until("FDSTORE=1\nFDNAME=alice\nFDPOLL=0\n");
    assert!(upgrade(&house).is_err(), "it may be replaced as well");
    starter.hear_until("READY=1");
    assert_eq!(house.wait_for("alice", State::Ready).pid, again.pid);
    starter.hear_until("WATCHDOG=1");
    house.remove("alice");
    house.reload();
    starter.hear_until("FDSTOREREMOVE=1\nFDNAME=alice\n");
    nix::unistd::close(fd).unwrap();
}

#[test]
fn a_stored_socket_that_is_nobodys_or_of_another_port_is_forgotten() {
    let mut house = House::of(&["alice"]);
    let starter = Starter::of(&house);
    starter.start(&mut house, None);
    let fd = starter.hear_until("FDNAME=alice").unwrap();
    let alice = house.wait_for("alice", State::Ready);
    signal(house.pid(), "TERM");
    assert!(house.wait_for_the_end().success());
    let (socket, port) = house::occupied_port();
    drop(socket);
    house.write("alice", &format!("port = {port}\n"));
    starter.start(&mut house, Some(("alice", fd)));
    starter.hear_until("FDSTOREREMOVE=1\nFDNAME=alice\n");
    assert_ne!(house.wait_for("alice", State::Ready).port, alice.port);
    signal(house.pid(), "TERM");
    assert!(house.wait_for_the_end().success());
    house.remove("alice");
    starter.start(&mut house, Some(("alice", fd)));
    starter.hear_until("FDSTOREREMOVE=1\nFDNAME=alice\n");
    nix::unistd::close(fd).unwrap();
}

#[test]
fn what_somebody_left_open_without_meaning_it_is_closed() {
    let mut house = House::of(&["alice"]);
    let supervisor = house.command();
    let mut command = Command::new("sh");
    command.args(["-c", "exec 7</etc/passwd 8</etc/passwd && exec \"$0\" \"$@\""]).arg(supervisor.get_program());
    house.start_by(command.args(supervisor.get_args()));
    let open = fs::read_dir(format!("/proc/{}/fd", house.pid())).unwrap();
    let open: Vec<PathBuf> = open.filter_map(|entry| fs::read_link(entry.unwrap().path()).ok()).collect();
    assert!(!open.contains(&PathBuf::from("/etc/passwd")), "{open:?}");
}
