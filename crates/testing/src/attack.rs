//! Attempts of an attacker in a program that runs in its sandbox.
//!
//! A test calls [`run`], which runs another test in a process of its own. That test calls [`Attacker::here`], enters the sandbox and makes the
//! attempts. The output of the process says which attempts the system refused.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::fs::{self, File, OpenOptions};
use std::io::{self, IoSliceMut};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsRawFd as _;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _, chown};
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::libc;
use nix::sched::{CloneFlags, sched_getaffinity, sched_setaffinity, unshare};
use nix::sys::signal::{Signal, kill};
use nix::sys::socket::{self, MsgFlags};
use nix::sys::{prctl, ptrace, uio};
use nix::unistd::{Pid, getppid};
use rustix::process::setpriority_process;

/// Variable with the directory of the test.
const DIRECTORY: &str = "PALABRE_TEST_DIRECTORY";
/// Variable with the parts of the sandbox.
const PARTS: &str = "PALABRE_TEST_SANDBOX";
/// Variable with the process id of another process of the same user.
const SIBLING: &str = "PALABRE_TEST_SIBLING";
/// Variable with a TCP port on which another program listens.
const PORT: &str = "PALABRE_TEST_PORT";

/// What an attacker knows about the machine.
#[derive(Debug)]
pub struct Attacker {
    /// The directory of the test.
    pub directory: PathBuf,
    /// Newest version of Landlock that the sandbox may use; 0: the sandbox uses no Landlock.
    pub landlock: u32,
    /// Whether seccomp is used.
    pub seccomp: bool,
    /// Another process of the same user.
    pub sibling: i32,
    port: u16,
}

/// Runs the test `test` of this program in another process, in which [`Attacker::here`] returns `directory` and the parts of the sandbox. Returns for
/// each attempt whether it was refused, and the whole output.
///
/// # Panics
/// The test failed.
#[must_use]
pub fn run(test: &str, directory: &Path, landlock: u32, seccomp: bool) -> (BTreeMap<String, bool>, String) {
    let name = SocketAddr::from_abstract_name(directory.as_os_str().as_encoded_bytes()).unwrap();
    let _abstract = UnixListener::bind_addr(&name).unwrap();
    let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut sibling = Command::new("sleep").arg("60").spawn().unwrap();
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture", "--test-threads=1"])
        .env(DIRECTORY, directory)
        .env(PARTS, format!("{landlock} {seccomp}"))
        .env(SIBLING, sibling.id().to_string())
        .env(PORT, tcp.local_addr().unwrap().port().to_string())
        .output()
        .unwrap();
    sibling.kill().unwrap();
    sibling.wait().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    let attempts = text.lines().filter_map(|line| {
        let (result, what) = line.split_once('\t').filter(|(result, _)| ["refused", "permitted"].contains(result))?;
        Some((what.split('\t').next()?.to_owned(), result == "refused"))
    });
    (attempts.collect(), text)
}

/// Prints whether the system refused this attempt of an attacker.
pub fn attempt<T>(what: impl Display, result: io::Result<T>) {
    // EXDEV: the error with which Landlock refuses a link from one directory to another.
    let codes = [libc::EPERM, libc::EACCES, libc::EXDEV];
    let error = result.err();
    let is_refused = error.as_ref().and_then(io::Error::raw_os_error).is_some_and(|code| codes.contains(&code));
    println!("\n{}\t{what}\t{error:?}", if is_refused { "refused" } else { "permitted" });
}

/// Opens a pipe or a file.
///
/// # Errors
/// The system refused this, or the file can't be opened.
pub fn open(path: &Path, options: &mut OpenOptions) -> io::Result<File> {
    options.custom_flags(libc::O_NONBLOCK).open(path)
}

impl Attacker {
    /// Returns the attacker if [`run`] has started this process, otherwise `None`.
    #[must_use]
    pub fn here() -> Option<Self> {
        let variable = |name| std::env::var(name).unwrap();
        let directory = PathBuf::from(std::env::var_os(DIRECTORY)?);
        let parts = variable(PARTS);
        let (landlock, seccomp) = parts.split_once(' ').unwrap();
        Some(Self {
            directory,
            landlock: landlock.parse().unwrap(),
            seccomp: seccomp.parse().unwrap(),
            sibling: variable(SIBLING).parse().unwrap(),
            port: variable(PORT).parse().unwrap(),
        })
    }

    /// Makes attempts on other processes, the network and the machine. `own` is a directory of the program, and `foreign` is a file of another program.
    pub fn attack_others(&self, own: &Path, foreign: &Path) {
        let sibling = Pid::from_raw(self.sibling);
        let name = SocketAddr::from_abstract_name(self.directory.as_os_str().as_encoded_bytes()).unwrap();
        attempt("connect to an abstract socket", UnixStream::connect_addr(&name));
        attempt("read another's memory in `/proc`", File::open(format!("/proc/{sibling}/mem")));
        attempt("connect to a TCP port of this machine", TcpStream::connect(("127.0.0.1", self.port)));
        attempt("open a TCP port", TcpListener::bind("127.0.0.1:0"));
        attempt("open a UDP port", UdpSocket::bind("127.0.0.1:0"));
        let signal = |pid| Ok(kill(pid, Signal::SIGCONT)?);
        attempt("send a signal to the parent process", signal(getppid()));
        attempt("send a signal to another process of the same user", signal(sibling));
        attempt("send a signal to the process group", signal(Pid::from_raw(0)));
        attempt("start a program", Command::new("/bin/true").status());
        attempt("debug another process", ptrace::seize(sibling, ptrace::Options::empty()).map_err(Into::into));
        let mut memory = [0; 8];
        let remote = uio::RemoteIoVec { base: 4096, len: 8 };
        let read = uio::process_vm_readv(sibling, &mut [IoSliceMut::new(&mut memory)], &[remote]);
        attempt("read another's memory", read.map_err(Into::into));
        attempt("make a namespace", unshare(CloneFlags::CLONE_NEWNS).map_err(Into::into));
        attempt("change another's mode", fs::set_permissions(foreign, fs::Permissions::from_mode(0o600)));
        attempt("change another's owner", chown(foreign, Some(0), None));
        attempt("listen on a Unix socket", UnixListener::bind(own.join("socket")));
        let (one, _other) = UnixStream::pair().unwrap();
        let fast_open = MsgFlags::from_bits_retain(libc::MSG_FASTOPEN);
        attempt("connect by sending", socket::send(one.as_raw_fd(), b"x", fast_open).map_err(Into::into));
        let pinned = sched_getaffinity(sibling).and_then(|processors| sched_setaffinity(sibling, &processors));
        attempt("choose another's processor", pinned.map_err(Into::into));
        attempt(
            "change another's niceness",
            setpriority_process(rustix::process::Pid::from_raw(self.sibling), 5).map_err(Into::into),
        );
        attempt("outlive the parent process", prctl::set_pdeathsig(None).map_err(Into::into));
        attempt("let others read the own memory", prctl::set_dumpable(true).map_err(Into::into));
    }
}
