//! The listener's sandbox: the files that a listener needs after its start. A listener that an attacker has taken over can use no other files.

use anyhow::{Result, bail};
use palabre_host::sandbox::{Access, Enforced, Sandbox, SandboxError, Strictness};
use palabre_room::{FileId, Name, RoomDir, file_id};
use std::path::{Path, PathBuf};

/// The files of a listener.
#[derive(Debug, Default)]
pub(crate) struct Files {
    room: Option<(RoomDir, Name)>,
    read: Vec<PathBuf>,
}

impl Files {
    /// Adds the files of a participant.
    pub(crate) fn of_participant(mut self, room: RoomDir, name: Name) -> Self {
        self.room = Some((room, name));
        self
    }

    /// Adds files that are read again when they were replaced. The whole directory of each file can be read, and the directory of its target
    /// if it is a symbolic link, because the new file may have another inode or name.
    pub(crate) fn reading(mut self, files: &[PathBuf]) -> Self {
        for file in files {
            let target = file.canonicalize().unwrap_or_else(|_| file.clone());
            self.read.extend([file, &target].map(|file| directory(file).to_owned()));
        }
        self
    }

    /// Enters the sandbox. Call this before the first thread is started.
    pub(crate) fn enter(&self, strictness: Strictness) -> Result<Enforced, SandboxError> {
        let mut sandbox = Sandbox::default();
        if let Some((room, name)) = &self.room {
            sandbox = sandbox
                .permit(Access::List, room.path())
                .permit(Access::Read, room.shown())
                .permit(Access::Write, room.meeting())
                .permit(Access::Write, room.participant(name).path());
        }
        self.read.iter().fold(sandbox, |sandbox, path| sandbox.permit(Access::Read, path)).enter(strictness)
    }

    /// Returns the participant's directory if Landlock is enforced.
    pub(crate) fn permitted(&self, enforced: Enforced) -> Option<Permitted> {
        let (room, name) = self.room.as_ref().filter(|_| enforced.landlock > 0)?;
        let path = room.participant(name).path().to_owned();
        Some(Permitted { id: file_id(&path).ok()?, path })
    }
}

/// The participant's directory as it was when the listener entered its sandbox. Landlock permits this directory, and not a later one
/// with the same path.
#[derive(Debug)]
pub(crate) struct Permitted {
    path: PathBuf,
    id: FileId,
}

impl Permitted {
    /// Fails if the directory was removed, or if another directory has its path now. The sandbox doesn't permit another directory.
    pub(crate) fn check(&self) -> Result<()> {
        let path = self.path.display();
        match file_id(&self.path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                bail!("unable to use '{path}': the directory was removed; the supervisor restarts the listener")
            }
            Ok(id) if id != self.id => bail!(
                "unable to use '{path}': the directory was replaced after the start of this listener, whose sandbox doesn't permit the new one; \
                 the supervisor restarts the listener"
            ),
            _ => Ok(()),
        }
    }
}

/// Returns the file's directory, but the file itself if that directory is the root of the file system.
fn directory(file: &Path) -> &Path {
    match file.parent() {
        Some(parent) if parent == Path::new("") => Path::new("."),
        Some(parent) if parent.parent().is_some() => parent,
        _ => file,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use nix::sys::signal::{Signal, kill};
    use nix::sys::socket::{self, MsgFlags};
    use nix::unistd::Pid;
    use palabre_room::{Format, Inbox, Member, Message, PipeReader, Start};
    use std::fs::{self, File, OpenOptions};
    use std::io::{self, IoSliceMut, Write as _};
    use std::net::{TcpListener, TcpStream, UdpSocket};
    use std::os::fd::AsRawFd as _;
    use std::os::linux::net::SocketAddrExt as _;
    use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _, chown, symlink};
    use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
    use std::process::{Command, Output};

    /// Variable with the directory of the test, for [`attacker`].
    const DIRECTORY: &str = "PALABRE_TEST_DIRECTORY";
    /// Variable with the value of the setting `sandbox`.
    const SETTING: &str = "PALABRE_TEST_SANDBOX";
    /// Variable with the process id of another listener.
    const SIBLING: &str = "PALABRE_TEST_SIBLING";
    /// Variable with a TCP port on which another program listens.
    const PORT: &str = "PALABRE_TEST_PORT";
    /// Number of attempts that [`attacker`] makes.
    const ATTEMPTS: usize = 33;

    fn room(directory: &Path) -> RoomDir {
        RoomDir::new(directory.join("rooms/main"))
    }

    fn name(text: &str) -> Name {
        text.parse().unwrap()
    }

    /// Prints whether the system refused this attempt of an attacker.
    fn attempt<T>(part: &str, what: &str, result: io::Result<T>) {
        let refused = match &result {
            Err(error) => match error.raw_os_error() {
                // EXDEV: Landlock forbids links between directories.
                Some(nix::libc::EPERM | nix::libc::EACCES | nix::libc::EXDEV) => "refused",
                _ => "permitted",
            },
            Ok(_) => "permitted",
        };
        println!("\n{refused}\t{part}\t{what}\t{:?}", result.err().map(|error| error.to_string()));
    }

    fn open(path: &Path, options: &mut OpenOptions) -> io::Result<File> {
        options.custom_flags(nix::libc::O_NONBLOCK).open(path)
    }

    /// Makes an attacker's attempts on files of others. Landlock must refuse each attempt.
    fn attack_files(directory: &Path, sibling: &str) {
        let (room, part) = (room(directory), "Landlock");
        let [alice, bob] = ["alice", "bob"].map(|who| room.participant(&name(who)));
        attempt(part, "read /etc/passwd", fs::read("/etc/passwd"));
        attempt(part, "read another service's key", fs::read(directory.join("other/key.pem")));
        attempt(part, "read a participant's file", fs::read(directory.join("etc/participants.d/bob.toml")));
        attempt(part, "list /etc", fs::read_dir("/etc"));
        attempt(part, "hear in another's place", open(&bob.ear(), OpenOptions::new().read(true)));
        attempt(part, "listen at another's microphone", open(&bob.mic(), OpenOptions::new().read(true)));
        attempt(part, "speak as another", open(&bob.mic(), OpenOptions::new().write(true)));
        attempt(part, "mute another", fs::write(bob.path().join("gain"), "mute\n"));
        attempt(part, "rename everybody", fs::write(room.shown().join("names"), "bob\there\tMallory\n"));
        attempt(part, "remove another's microphone", fs::remove_file(bob.path().join("mic")));
        attempt(part, "link another's ear", fs::hard_link(bob.ear(), alice.path().join("link")));
        attempt(part, "make a symbolic link", symlink("/etc/passwd", alice.path().join("link")));
        attempt(part, "make a participant", fs::create_dir(room.path().join("mallory")));
        attempt(part, "make a file in the room", fs::write(room.path().join("levels"), ""));
        attempt(part, "read another's memory", File::open(format!("/proc/{sibling}/mem")));
        attempt(part, "read the own program", fs::read("/proc/self/exe"));
    }

    /// Makes an attacker's attempts with system calls. seccomp must refuse each attempt.
    fn attack_calls(directory: &Path, sibling: Pid, port: u16) {
        let (mic, part) = (room(directory).participant(&name("bob")).mic(), "seccomp");
        attempt(part, "connect to a TCP port of this machine", TcpStream::connect(("127.0.0.1", port)));
        attempt(part, "open a TCP port", TcpListener::bind("127.0.0.1:0"));
        attempt(part, "open a UDP port", UdpSocket::bind("127.0.0.1:0"));
        let signal = |pid| Ok(kill(pid, Signal::SIGCONT)?);
        attempt(part, "send a signal to the supervisor", signal(nix::unistd::getppid()));
        attempt(part, "send a signal to another listener", signal(sibling));
        attempt(part, "send a signal to the process group", signal(Pid::from_raw(0)));
        attempt(part, "start a program", Command::new("/bin/true").status());
        attempt(
            part,
            "debug another listener",
            nix::sys::ptrace::seize(sibling, nix::sys::ptrace::Options::empty()).map_err(Into::into),
        );
        let mut memory = [0; 8];
        let remote = nix::sys::uio::RemoteIoVec { base: 4096, len: 8 };
        let read = nix::sys::uio::process_vm_readv(sibling, &mut [IoSliceMut::new(&mut memory)], &[remote]);
        attempt(part, "read another listener's memory", read.map_err(Into::into));
        attempt(part, "make a namespace", nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNS).map_err(Into::into));
        attempt(part, "change another's mode", fs::set_permissions(&mic, fs::Permissions::from_mode(0o600)));
        attempt(part, "change another's owner", chown(&mic, Some(0), None));
        let sockets = room(directory).participant(&name("alice"));
        attempt(part, "listen on a Unix socket", UnixListener::bind(sockets.path().join("socket")));
        let (one, _other) = UnixStream::pair().unwrap();
        let fast_open = MsgFlags::from_bits_retain(nix::libc::MSG_FASTOPEN);
        attempt(part, "connect by sending", socket::send(one.as_raw_fd(), b"x", fast_open).map_err(Into::into));
        let processors = nix::sched::sched_getaffinity(sibling).unwrap();
        let pinned = nix::sched::sched_setaffinity(sibling, &processors);
        attempt(part, "choose another listener's processor", pinned.map_err(Into::into));
        attempt(part, "outlive the supervisor", nix::sys::prctl::set_pdeathsig(None).map_err(Into::into));
    }

    /// Does what a listener does after its start. The sandbox must permit all of this.
    fn work(directory: &Path) {
        let room = room(directory);
        let alice = room.participant(&name("alice"));
        assert_eq!(room.names().unwrap().len(), 2);
        assert_eq!(room.participants().unwrap().len(), 2);
        let message = Message::new(name("alice"), "hello").unwrap().with_id("1").unwrap();
        assert!(room.keep_message(&message, 5).unwrap());
        assert_eq!(room.kept_messages(5).unwrap().len(), 1);
        alice.join_meeting(5).unwrap();
        alice.set_presence(palabre_room::Presence { hand: true, ..Default::default() }).unwrap();
        let inbox = Inbox::bind(&alice).unwrap();
        assert_eq!(room.tell(&message).unwrap(), 1);
        assert_eq!(inbox.receive(2).0, 1);
        PipeReader::open(&alice.ear(), Format::default(), Start::Discard).unwrap();
        open(&alice.mic(), OpenOptions::new().read(true).write(true)).unwrap();
        fs::read(directory.join("etc/tls/cert.pem")).unwrap();
        assert_eq!(std::thread::spawn(|| 7).join().unwrap(), 7);
        let (mut one, _other) = UnixStream::pair().unwrap();
        one.set_nonblocking(true).unwrap();
        one.write_all(b"x").unwrap();
        UnixStream::connect(directory.join("control.sock")).unwrap();
    }

    /// Does nothing in a normal test run. [`attack`] runs this test in another process, which then enters the sandbox and makes the attempts.
    #[test]
    fn attacker() {
        let Some(directory) = std::env::var_os(DIRECTORY).map(PathBuf::from) else { return };
        let variable = |name| std::env::var(name).unwrap();
        let strictness = if variable(SETTING) == "off" { Strictness::Off } else { Strictness::BestEffort };
        let files = Files::default()
            .of_participant(room(&directory), name("alice"))
            .reading(&[directory.join("etc/tls/cert.pem"), directory.join("etc/tls/key.pem")]);
        palabre_host::process::share_with_the_group_only();
        let enforced = files.enter(strictness).unwrap();
        println!("\nenforced\t{enforced}");
        work(&directory);
        let abstract_socket = SocketAddr::from_abstract_name(directory.as_os_str().as_encoded_bytes()).unwrap();
        attempt("scope", "connect to an abstract socket", UnixStream::connect_addr(&abstract_socket));
        attack_files(&directory, &variable(SIBLING));
        attack_calls(&directory, Pid::from_raw(variable(SIBLING).parse().unwrap()), variable(PORT).parse().unwrap());
    }

    fn attack(setting: &str) -> Output {
        let directory = tempfile::tempdir().unwrap();
        let at = directory.path();
        let room = room(at);
        room.create(Format::default()).unwrap();
        room.write_names(&["alice", "bob"].map(|who| Member::new(name(who), who, true))).unwrap();
        let [_, bob] = ["alice", "bob"].map(|who| {
            let participant = room.participant(&name(who));
            participant.create().unwrap();
            participant
        });
        for file in ["etc/tls/cert.pem", "etc/tls/key.pem", "etc/participants.d/bob.toml", "other/key.pem"] {
            fs::create_dir_all(at.join(file).parent().unwrap()).unwrap();
            fs::write(at.join(file), "secret").unwrap();
        }
        let _mixer = PipeReader::open(&bob.mic(), Format::default(), Start::Discard).unwrap();
        let _control = UnixListener::bind(at.join("control.sock")).unwrap();
        let abstract_socket = SocketAddr::from_abstract_name(at.as_os_str().as_encoded_bytes()).unwrap();
        let _abstract = UnixListener::bind_addr(&abstract_socket).unwrap();
        let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut sibling = Command::new("sleep").arg("60").spawn().unwrap();
        let attacker = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "sandbox::tests::attacker", "--nocapture", "--test-threads=1"])
            .env(DIRECTORY, at)
            .env(SETTING, setting)
            .env(SIBLING, sibling.id().to_string())
            .env(PORT, tcp.local_addr().unwrap().port().to_string())
            .output()
            .unwrap();
        sibling.kill().unwrap();
        sibling.wait().unwrap();
        attacker
    }

    /// Returns the attempts with this result, as part and name.
    fn attempts<'a>(output: &'a str, result: &str) -> Vec<(&'a str, &'a str)> {
        let lines = output.lines().map(|line| line.split('\t').collect::<Vec<_>>());
        lines.filter(|line| line[0] == result && line.len() == 4).map(|line| (line[1], line[2])).collect::<Vec<_>>()
    }

    #[test]
    fn taken_over_listener_can_use_only_its_own_files_and_calls() {
        let output = attack("best-effort");
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
        let enforced = text.lines().find_map(|line| line.strip_prefix("enforced\t")).unwrap();
        let landlock: u32 = enforced.strip_prefix("Landlock ").map_or(0, |rest| rest[..1].parse().unwrap());
        if landlock < 6 {
            palabre_testing::not_shown("the whole sandbox of a listener", &format!("this kernel enforces {enforced}"));
        }
        let is_enforced = |part: &str| match part {
            "Landlock" => landlock >= 2,
            "scope" => landlock >= 6,
            _ => true,
        };
        let permitted: Vec<_> =
            attempts(&text, "permitted").into_iter().filter(|(part, _)| is_enforced(part)).collect();
        assert_eq!(permitted, [], "{text}");
        let made = attempts(&text, "refused").len() + attempts(&text, "permitted").len();
        assert_eq!(made, ATTEMPTS, "{text}");
    }

    #[test]
    fn listener_without_its_sandbox_could_do_all_of_this() {
        if !nix::unistd::geteuid().is_root() {
            palabre_testing::not_shown(
                "that all attempts succeed without the sandbox",
                "only root may make all of them",
            );
            return;
        }
        let output = attack("off");
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
        assert_eq!(attempts(&text, "refused"), [], "{text}");
        assert_eq!(attempts(&text, "permitted").len(), ATTEMPTS, "{text}");
    }
}
