//! The whole suite in a temporary directory: `palabre try` with its mixer, supervisor and listeners.

use std::ffi::OsStr;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};

use crate::client::Client;
use crate::wait_for;

/// How long anything may take that is not measured: generous, since machines are shared.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// One suite at a time in a test program: each is a room of its own that wants the machine for itself.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// A running suite; it ends when this is dropped.
#[derive(Debug)]
pub struct Suite {
    child: Child,
    palabre: PathBuf,
    dir: tempfile::TempDir,
    /// Participants in the order of `DIR/links`.
    pub links: Vec<Link>,
    /// A client that trusts exactly this suite's certificate.
    pub client: Client,
    _turn: MutexGuard<'static, ()>,
}

/// A participant's way in.
#[derive(Clone, Debug)]
pub struct Link {
    /// Login name.
    pub name: String,
    /// `https://HOST:PORT/?key=KEY`.
    pub url: String,
    /// The participant's port.
    pub port: u16,
    /// The participant's key.
    pub key: String,
}

impl Suite {
    /// Starts `participants` people on free ports, without melody, echo and levelling, and waits until each answers.
    ///
    /// # Errors
    /// The suite did not start; the error has what it printed.
    pub fn start(participants: usize) -> Result<Self> {
        Self::start_with(participants, &["--no-voices", "--no-levelling"])
    }

    /// The same with this `palabre.toml` in the directory of the try before it starts.
    ///
    /// # Errors
    /// The suite did not start; the error has what it printed.
    pub fn start_configured(participants: usize, palabre_toml: &str) -> Result<Self> {
        Self::begin(&binary("palabre")?, participants, &["--no-voices"], &[], palabre_toml)
    }

    /// The same with flags of `palabre try`.
    ///
    /// # Errors
    /// The suite did not start; the error has what it printed.
    pub fn start_with(participants: usize, flags: &[&str]) -> Result<Self> {
        Self::start_in(participants, flags, &[])
    }

    /// The same with variables of the environment.
    ///
    /// # Errors
    /// The suite did not start; the error has what it printed.
    pub fn start_in(participants: usize, flags: &[&str], environment: &[(&str, &OsStr)]) -> Result<Self> {
        Self::begin(&binary("palabre")?, participants, flags, environment, "")
    }

    /// The same with the programs in `programs`, which the test may replace.
    ///
    /// # Errors
    /// The suite did not start; the error has what it printed.
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
        let turn = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
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
        let started = wait_for("links of 'palabre try'", PATIENCE, || {
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
        let (links, client) = ways_in(&dir.path().join("try")).inspect_err(|_| {
            interrupt(&mut child);
        })?;
        Ok(Self { child, palabre: palabre.to_owned(), dir, links, client, _turn: turn })
    }

    /// The directory of the try: `etc`, `run`.
    #[must_use]
    pub fn dir(&self) -> PathBuf {
        self.dir.path().join("try")
    }

    /// The room's directory.
    #[must_use]
    pub fn room(&self) -> PathBuf {
        self.dir().join("run/rooms/main")
    }

    /// The participant called `name`.
    ///
    /// # Panics
    /// There is none: a mistake of the test.
    #[must_use]
    pub fn link(&self, name: &str) -> &Link {
        self.links.iter().find(|link| link.name == name).unwrap_or_else(|| panic!("no participant '{name}'"))
    }

    /// What the suite printed so far.
    #[must_use]
    pub fn output(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("output")).unwrap_or_default()
    }

    /// Runs `palabre` on this suite and gives its standard output.
    ///
    /// # Errors
    /// It did not succeed; the error has what it said.
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

    /// The process of `palabre try` itself.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The process `program` of this suite, where `argument` (if it isn't empty) is one of its arguments.
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

    /// The counters that the mixer logs when it is asked, among them those of its jitter buffers.
    ///
    /// # Errors
    /// There is no mixer, or it said nothing.
    pub fn mixer_counters(&self) -> Result<String> {
        let log = || std::fs::read_to_string(self.dir().join("log")).unwrap_or_default();
        let before = log().len();
        signal(self.process("palabre-mixer", "").ok_or_else(|| anyhow!("no mixer"))?, "USR1")?;
        wait_for("the mixer's counters", PATIENCE, || {
            let log = log();
            let (said, _) = log[before..].split_once(" stray_bytes=")?;
            said.rsplit_once("wakeups=").map(|(_, counters)| format!("wakeups={counters}"))
        })
    }

    /// kill -9 of a process of this suite; says which process it was.
    ///
    /// # Errors
    /// There is no such process.
    pub fn kill(&self, program: &str, argument: &str) -> Result<u32> {
        let pid = self.process(program, argument).ok_or_else(|| anyhow!("no process '{program} {argument}'"))?;
        signal(pid, "KILL")?;
        Ok(pid)
    }

    /// Ends the suite by Ctrl-C's signal and waits for it.
    ///
    /// # Errors
    /// It had ended already, or ended with a failure.
    pub fn stop(mut self) -> Result<()> {
        let status = interrupt(&mut self.child).context("'palabre try' didn't end")?;
        if status.success() { Ok(()) } else { bail!("'palabre try' ended with {status}:\n{}", self.output()) }
    }
}

impl Drop for Suite {
    fn drop(&mut self) {
        interrupt(&mut self.child);
        if std::thread::panicking() {
            eprintln!("--- what the suite printed:\n{}", self.output());
        }
    }
}

impl Link {
    fn parse(line: &str) -> Result<Self> {
        let wrong = || anyhow!("'{line}' is not 'NAME https://HOST:PORT/?key=KEY'");
        let (name, url) = line.split_once(' ').ok_or_else(wrong)?;
        let parsed: url::Url = url.parse()?;
        let key = parsed.query_pairs().find(|(name, _)| name == "key").ok_or_else(wrong)?.1.into_owned();
        let port = parsed.port().ok_or_else(wrong)?;
        Ok(Self { name: name.into(), url: url.into(), port, key })
    }
}

/// The links in the directory of a try, and a client that trusts its certificate.
fn ways_in(dir: &Path) -> Result<(Vec<Link>, Client)> {
    let links = std::fs::read_to_string(dir.join("links"))?.lines().map(Link::parse).collect::<Result<_>>()?;
    Ok((links, Client::trusting(&dir.join("etc/tls/cert.pem"))?))
}

/// A program of the suite, beside the running test.
///
/// # Errors
/// It was not built.
pub fn binary(name: &str) -> Result<PathBuf> {
    let test = std::env::current_exe()?;
    let candidates = test.ancestors().skip(1).take(2).map(|dir| dir.join(name));
    candidates.clone().find(|path| path.is_file()).with_context(|| {
        format!("no '{name}' beside '{}'; run 'cargo test --workspace' or 'cargo build --workspace'", test.display())
    })
}

/// Sends a signal by `kill(1)`.
///
/// # Errors
/// There is no such process.
pub fn signal(pid: u32, name: &str) -> Result<()> {
    let status = Command::new("kill").args([&format!("-{name}"), &pid.to_string()]).status()?;
    if status.success() { Ok(()) } else { bail!("kill -{name} {pid}: {status}") }
}

/// Children, grandchildren … of a process.
#[must_use]
pub fn descendants(of: u32) -> Vec<u32> {
    let parents: Arc<[(u32, u32)]> = std::fs::read_dir("/proc")
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

/// The fourth field of `/proc/PID/stat`, after the program's name in parentheses (proc(5)).
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
