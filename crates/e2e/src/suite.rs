//! Runs all programs of Palabre, here called the suite, with `palabre try` in a temporary directory: mixer, supervisor and listeners.

use std::ffi::OsStr;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};

use palabre_testing::{Turn, turn};

use crate::client::Client;
pub use crate::link::Link;
use crate::wait::wait_for;

/// Timeout for everything that a test waits for. Long, because test machines are shared.
pub const TIMEOUT: Duration = Duration::from_secs(60);

/// A running `palabre try` with its daemons. Each test starts its own; other tests of this test program wait until this value is dropped. Dropping
/// it ends the processes.
#[derive(Debug)]
pub struct Suite {
    child: Child,
    palabre: PathBuf,
    dir: tempfile::TempDir,
    /// Participants in the order of `DIR/links`.
    pub links: Vec<Link>,
    /// A client that trusts only this suite's certificate.
    pub client: Client,
    _turn: Turn,
}

impl Suite {
    /// Starts a suite with `participants` listeners on free ports, without melody, echo and levelling, and waits until each responds.
    pub fn start(participants: usize) -> Result<Self> {
        Self::start_with(participants, &["--no-voices", "--no-levelling"])
    }

    /// Starts a suite with this `palabre.toml`, without melody and echo.
    pub fn start_configured(participants: usize, palabre_toml: &str) -> Result<Self> {
        Self::start_configured_in(participants, palabre_toml, &[])
    }

    /// Does the same as [`Self::start_configured`], with these environment variables.
    pub fn start_configured_in(
        participants: usize,
        palabre_toml: &str,
        environment: &[(&str, &OsStr)],
    ) -> Result<Self> {
        Self::begin(&binary("palabre")?, participants, &["--no-voices"], environment, palabre_toml)
    }

    /// Starts a suite with these flags of `palabre try`.
    pub fn start_with(participants: usize, flags: &[&str]) -> Result<Self> {
        Self::start_in(participants, flags, &[])
    }

    /// Starts a suite with these flags and environment variables.
    pub fn start_in(participants: usize, flags: &[&str], environment: &[(&str, &OsStr)]) -> Result<Self> {
        Self::begin(&binary("palabre")?, participants, flags, environment, "")
    }

    /// Does the same as [`Self::start_from`], without sandboxes.
    pub fn start_unconfined_from(programs: &Path, participants: usize) -> Result<Self> {
        let flags = ["--no-voices", "--no-levelling"];
        Self::begin(&programs.join("palabre"), participants, &flags, &[], "[security]\nsandbox = \"off\"\n")
    }

    /// Starts a suite from the programs in this directory, which the test can replace.
    pub fn start_from(programs: &Path, participants: usize) -> Result<Self> {
        Self::begin(&programs.join("palabre"), participants, &["--no-voices", "--no-levelling"], &[], "")
    }

    fn begin(
        palabre: &Path,
        participants: usize,
        flags: &[&str],
        environment: &[(&str, &OsStr)],
        palabre_toml: &str,
    ) -> Result<Self> {
        let turn = turn();
        let dir = tempfile::Builder::new().prefix("palabre-e2e-").tempdir()?;
        if !palabre_toml.is_empty() {
            std::fs::create_dir_all(dir.path().join("try/etc"))?;
            std::fs::write(dir.path().join("try/etc/palabre.toml"), palabre_toml)?;
        }
        let output = File::create(dir.path().join("output"))?;
        let mut child = Command::new(palabre)
            .args(["try", "--first-port", "0", "--participants", &participants.to_string()])
            .args(flags)
            .envs(environment.iter().copied())
            .arg("--dir")
            .arg(dir.path().join("try"))
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            .spawn()?;
        let links = dir.path().join("try/links");
        let started = wait_for("links of 'palabre try'", TIMEOUT, || {
            let ended = child.try_wait().ok().flatten();
            (ended.is_some() || links.exists()).then_some(ended)
        });
        let said = || std::fs::read_to_string(dir.path().join("output")).unwrap_or_default();
        match started {
            Ok(None) => {}
            Ok(Some(status)) => bail!("'palabre try' ended with {status}:\n{}", said()),
            Err(error) => {
                interrupt(&mut child);
                return Err(error.context(said()));
            }
        }
        let (links, client) = links_and_client(&dir.path().join("try")).inspect_err(|_| {
            interrupt(&mut child);
        })?;
        Ok(Self { child, palabre: palabre.to_owned(), dir, links, client, _turn: turn })
    }

    /// Returns the directory of `palabre try`, which contains `etc`, `run` and `log`.
    #[must_use]
    pub fn dir(&self) -> PathBuf {
        self.dir.path().join("try")
    }

    /// Returns the room's directory.
    #[must_use]
    pub fn room(&self) -> PathBuf {
        self.dir().join("run/rooms/main")
    }

    /// Returns the link of the participant `name`.
    #[must_use]
    pub fn link(&self, name: &str) -> &Link {
        self.links.iter().find(|link| link.name == name).unwrap_or_else(|| panic!("no participant '{name}'"))
    }

    /// Sends a request as the participant `name`, which must be accepted.
    pub fn post(&self, name: &str, path: &str, body: &str) -> Result<()> {
        let link = self.link(name);
        let fields = [format!("Authorization: Bearer {}", link.key), format!("Content-Length: {}", body.len())];
        let status =
            self.client.request(link, "POST", path, &fields.each_ref().map(String::as_str), body.as_bytes())?.status;
        if status == 204 { Ok(()) } else { bail!("POST {path} of {name}: status {status}") }
    }

    /// Returns what `palabre try` has printed so far, on standard output and standard error.
    #[must_use]
    pub fn output(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("output")).unwrap_or_default()
    }

    /// Runs `palabre` on this suite and returns its standard output.
    pub fn palabre(&self, arguments: &[&str]) -> Result<String> {
        let output = Command::new(&self.palabre)
            .arg("--config")
            .arg(self.dir().join("etc"))
            .arg("--run")
            .arg(self.dir().join("run"))
            .args(arguments)
            .output()?;
        if !output.status.success() {
            bail!("palabre {arguments:?}: {}: {}", output.status, String::from_utf8_lossy(&output.stderr));
        }
        Ok(String::from_utf8(output.stdout)?)
    }

    /// Returns the process ID of `palabre try`.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Returns the process ID of the process of the suite that runs this program. `argument`, unless empty, must be one of its arguments.
    #[must_use]
    pub fn process(&self, program: &str, argument: &str) -> Option<u32> {
        descendants(self.child.id()).into_iter().find(|pid| {
            let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            let mut words = line.split(|&b| b == 0);
            let is_program =
                words.next().is_some_and(|word| Path::new(&*String::from_utf8_lossy(word)).ends_with(program));
            is_program && (argument.is_empty() || words.any(|word| word == argument.as_bytes()))
        })
    }

    /// Returns the counters that the mixer logs on SIGUSR1.
    pub fn mixer_counters(&self) -> Result<String> {
        let log = || std::fs::read_to_string(self.dir().join("log")).unwrap_or_default();
        let before = log().len();
        signal(self.process("palabre-mixer", "").ok_or_else(|| anyhow!("no mixer"))?, "USR1")?;
        wait_for("the mixer's counters", TIMEOUT, || {
            let log = log();
            let (said, _) = log[before..].split_once(" stray_bytes=")?;
            said.rsplit_once("wakeups=").map(|(_, counters)| format!("wakeups={counters}"))
        })
    }

    /// Sends SIGKILL to a process of this suite and returns its process ID.
    pub fn kill(&self, program: &str, argument: &str) -> Result<u32> {
        let pid = self.process(program, argument).ok_or_else(|| anyhow!("no process '{program} {argument}'"))?;
        signal(pid, "KILL")?;
        Ok(pid)
    }

    /// Sends SIGINT, as Ctrl-C does, and waits until the suite has ended successfully.
    pub fn stop(mut self) -> Result<()> {
        let status = interrupt(&mut self.child).context("'palabre try' didn't end")?;
        if status.success() { Ok(()) } else { bail!("'palabre try' ended with {status}:\n{}", self.output()) }
    }
}

impl Drop for Suite {
    fn drop(&mut self) {
        interrupt(&mut self.child);
        if std::thread::panicking() {
            eprintln!("--- output of the suite:\n{}", self.output());
        }
    }
}

/// Reads `DIR/links`, and returns a client that trusts the suite's certificate.
fn links_and_client(dir: &Path) -> Result<(Vec<Link>, Client)> {
    let links = std::fs::read_to_string(dir.join("links"))?.lines().map(Link::parse).collect::<Result<_>>()?;
    Ok((links, Client::trusting(&dir.join("etc/tls/cert.pem"))?))
}

/// Returns the path of a program of the suite, beside the running test.
pub fn binary(name: &str) -> Result<PathBuf> {
    let test = std::env::current_exe()?;
    let candidates = test.ancestors().skip(1).take(2).map(|dir| dir.join(name));
    candidates.clone().find(|path| path.is_file()).with_context(|| {
        format!("no '{name}' beside '{}'; run 'cargo test --workspace' or 'cargo build --workspace'", test.display())
    })
}

/// Replaces a program in `programs` by a copy of the tested program with rename(2), as a package manager does. cp(1) writes the copy, because a
/// file that this process has open for writing while another test forks can't be executed (ETXTBSY).
pub fn install(programs: &Path, name: &str) -> Result<()> {
    let new = programs.join("new");
    let status = Command::new("cp").arg(binary(name)?).arg(&new).status()?;
    if !status.success() {
        bail!("cp ended with {status}");
    }
    Ok(std::fs::rename(new, programs.join(name))?)
}

/// Sends a signal with kill(1).
pub fn signal(pid: u32, name: &str) -> Result<()> {
    let status = Command::new("kill").args([&format!("-{name}"), &pid.to_string()]).status()?;
    if status.success() { Ok(()) } else { bail!("'kill -{name} {pid}' ended with {status}") }
}

/// Returns all descendants of a process.
#[must_use]
pub fn descendants(of: u32) -> Vec<u32> {
    let parents: Vec<(u32, u32)> = std::fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter_map(|pid| Some((pid, parent(pid)?)))
        .collect();
    let mut found = vec![of];
    let mut next = 0;
    while let Some(&pid) = found.get(next) {
        found.extend(parents.iter().filter(|&&(_, parent)| parent == pid).map(|&(child, _)| child));
        next += 1;
    }
    found.split_off(1)
}

/// Returns the process ID of the parent, the fourth field of `/proc/PID/stat`. The second field, in parentheses, may contain spaces (proc(5)).
fn parent(pid: u32) -> Option<u32> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()
}

fn interrupt(child: &mut Child) -> Option<std::process::ExitStatus> {
    if let Ok(Some(status)) = child.try_wait() {
        return Some(status);
    }
    signal(child.id(), "INT").ok()?;
    let ended = wait_for("end", Duration::from_secs(10), || child.try_wait().ok().flatten());
    ended.ok().or_else(|| {
        child.kill().ok()?;
        child.wait().ok()
    })
}
