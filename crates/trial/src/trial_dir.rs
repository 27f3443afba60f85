//! The directory of a trial: its configuration, its runtime directory, its log and its links.
//!
//! ```text
//! DIR/etc/palabre.toml        rewritten at each start; settings added by the user are kept
//! DIR/etc/participants.d/     as in /etc/palabre
//! DIR/etc/tls/                the self-signed certificate; reused while it fits
//! DIR/etc/keys                the access keys; the participants' files hold only hashes
//! DIR/run/                    as /run/palabre; removed at the end
//! DIR/links                   lines NAME URL, written when all listeners are ready; removed at the end
//! DIR/log                     the log of all daemons
//! DIR/recordings/             recordings made by 'palabre record'
//! DIR/entrances/              which one-time links were used
//! DIR/names/                  the display names that participants have chosen
//! DIR/browser/                browser profiles of --open
//! DIR/lock                    locked while a trial uses the directory
//! ```

use std::fs::{self, DirBuilder};
use std::io::{self, Write};
use std::net::IpAddr;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use palabre_config::certificate;
use palabre_config::{PARTICIPANTS_DIR, SERVER_FILE, Server};
use palabre_host::exit::Failure;
use palabre_host::lock::Lock;
use tempfile::{NamedTempFile, TempDir};

/// The only entries that a directory given with `--dir` may have. The trial removes `run`, so the directory must not be used for something
/// else.
const ENTRIES: [&str; 9] = ["etc", "run", "links", "log", "recordings", "entrances", "names", "browser", "lock"];
/// The only entries that the subdirectory `etc` of a directory given with `--dir` may have.
const ETC_ENTRIES: [&str; 4] = [SERVER_FILE, PARTICIPANTS_DIR, "tls", "keys"];
/// Maximum length of a Unix socket's path in bytes: `sun_path` of unix(7) without the final zero.
const MAX_SOCKET_PATH_BYTES: usize = 107;
/// Maximum age of a certificate that is used again. A certificate is valid for 397 days.
const MAX_CERTIFICATE_AGE: Duration = Duration::from_secs(300 * 24 * 60 * 60);
/// The settings of palabre.toml that `palabre try` overwrites.
const OWN_SETTINGS: [&str; 4] = ["host", "bind", "certificate", "private-key"];

/// The comment that `palabre try` writes above its settings in palabre.toml.
const OWN_SETTINGS_COMMENT: &str =
    "# 'palabre try' sets the next four settings at each start; other settings are kept.";
/// Prefix of the comment that an earlier trial wrote into palabre.toml. Lines with this prefix are not kept.
const OWN_SETTINGS_PREFIX: &str = "# 'palabre try' sets";

/// The directory of a running trial.
pub(crate) struct TrialDir {
    root: PathBuf,
    /// The temporary directory, if `--dir` is not given. It is removed at the end of the trial.
    temporary: Option<TempDir>,
    /// The lock of a directory given with `--dir`.
    _lock: Option<Lock>,
}

impl TrialDir {
    /// Prepares the directory `given`, which must be new, empty or the directory of an earlier trial. Without `given`, creates a temporary
    /// directory.
    pub(crate) fn prepare(given: Option<&Path>) -> Result<Self, Failure> {
        let directory = match given {
            None => Self::temporary()?,
            Some(path) => Self::given(path)?,
        };
        let socket = directory.run().join("control.sock");
        if socket.as_os_str().len() > MAX_SOCKET_PATH_BYTES {
            return Err(Failure::refused(format!(
                "unable to use '{}': the path of a socket in it exceeds {MAX_SOCKET_PATH_BYTES} bytes; choose a shorter path with --dir",
                directory.root.display()
            )));
        }
        for path in [directory.run(), directory.etc().join(PARTICIPANTS_DIR), directory.tls()] {
            create_private(&path).map_err(|error| unable("create", &path, &error))?;
        }
        Ok(directory)
    }

    fn temporary() -> Result<Self, Failure> {
        let temporary = tempfile::Builder::new().prefix("palabre-try-").tempdir().map_err(|error| {
            Failure::system(format!("unable to create a temporary directory: {error}; choose a directory with --dir"))
        })?;
        Ok(Self { root: temporary.path().to_owned(), temporary: Some(temporary), _lock: None })
    }

    fn given(path: &Path) -> Result<Self, Failure> {
        create_private(path).map_err(|error| unable("create", path, &error))?;
        let root = path.canonicalize().map_err(|error| unable("use", path, &error))?;
        for (path, entries) in [(root.clone(), &ENTRIES[..]), (root.join("etc"), &ETC_ENTRIES)] {
            if let Some(foreign) = foreign_entry(&path, entries).map_err(|error| unable("read", &path, &error))? {
                return Err(Failure::refused(format!(
                    "unable to use '{}' for a trial: '{}' is not a file of 'palabre try'; choose another directory",
                    root.display(),
                    path.join(foreign).display()
                )));
            }
        }
        let lock = root.join("lock");
        let Some(lock) = Lock::take(&lock).map_err(|error| unable("lock", &lock, &error))? else {
            return Err(Failure::refused(format!(
                "unable to use '{}': another 'palabre try' runs in it; choose another directory",
                root.display()
            )));
        };
        let directory = Self { root, temporary: None, _lock: Some(lock) };
        directory.clear().map_err(|error| unable("clear", &directory.root, &error))?;
        Ok(directory)
    }

    /// Removes what is valid only while the trial runs: the runtime directory `run`, and the file `links` with the participants' links.
    fn clear(&self) -> io::Result<()> {
        let unless_missing = |result: io::Result<()>| match result {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            result => result,
        };
        unless_missing(fs::remove_dir_all(self.run()))?;
        unless_missing(fs::remove_file(self.links()))
    }

    /// Returns the configuration directory of the trial, like /etc/palabre.
    pub(crate) fn etc(&self) -> PathBuf {
        self.root.join("etc")
    }

    /// Returns the runtime directory of the trial, like /run/palabre.
    pub(crate) fn run(&self) -> PathBuf {
        self.root.join("run")
    }

    pub(crate) fn log(&self) -> PathBuf {
        self.root.join("log")
    }

    pub(crate) fn links(&self) -> PathBuf {
        self.root.join("links")
    }

    pub(crate) fn recordings(&self) -> PathBuf {
        self.root.join("recordings")
    }

    pub(crate) fn entrances(&self) -> PathBuf {
        self.root.join("entrances")
    }

    pub(crate) fn names(&self) -> PathBuf {
        self.root.join("names")
    }

    pub(crate) fn browser(&self) -> PathBuf {
        self.root.join("browser")
    }

    pub(crate) fn keys(&self) -> PathBuf {
        self.etc().join("keys")
    }

    fn tls(&self) -> PathBuf {
        self.etc().join("tls")
    }

    /// Returns whether the whole directory is removed at the end of the trial.
    pub(crate) fn is_temporary(&self) -> bool {
        self.temporary.is_some()
    }

    /// Makes a certificate for this machine and `addresses`, unless there is a recent one. Returns the SHA-256 of the certificate's public
    /// key, in base64.
    pub(crate) fn certificate(&self, addresses: &[IpAddr]) -> Result<String, Failure> {
        let hosts = hosts(addresses);
        let (hosts_path, pin_path) = (self.tls().join("hosts"), self.tls().join("spki-pin"));
        if fs::read_to_string(&hosts_path).is_ok_and(|text| text.lines().eq(hosts.iter().map(String::as_str)))
            && is_recent(&hosts_path)
            && let Ok(pin) = fs::read_to_string(&pin_path)
        {
            return Ok(pin.trim().to_owned());
        }
        let made = certificate::self_signed(&hosts).map_err(Failure::system)?;
        made.write(&self.tls()).map_err(Failure::system)?;
        replace(&pin_path, &format!("{}\n", made.spki_pin_base64))?;
        replace(&hosts_path, &format!("{}\n", hosts.join("\n")))?;
        Ok(made.spki_pin_base64)
    }

    /// Writes palabre.toml and loads it. If `lan` is true, the listeners accept connections on all addresses, otherwise only on loopback. If there
    /// was no palabre.toml, the new one also has the lines `settings`.
    pub(crate) fn configure(&self, lan: bool, addresses: &[IpAddr], settings: &str) -> Result<Server, Failure> {
        let host = addresses.first().map_or_else(|| "localhost".to_owned(), IpAddr::to_string);
        let bind = if lan { "::" } else { "127.0.0.1" };
        let Server { certificate, private_key, .. } = Server::default();
        let own = format!(
            "{OWN_SETTINGS_COMMENT}\n\
             host = \"{host}\"\nbind = \"{bind}\"\ncertificate = \"{}\"\nprivate-key = \"{}\"\n",
            certificate.display(),
            private_key.display()
        );
        let path = self.etc().join(SERVER_FILE);
        let previous = fs::read_to_string(&path).unwrap_or_else(|_| settings.to_owned());
        replace(&path, &(own + &user_settings(&previous)))?;
        Server::load(&self.etc()).map_err(Failure::config)
    }
}

impl Drop for TrialDir {
    fn drop(&mut self) {
        let cleared = match self.temporary.take() {
            Some(temporary) => temporary.close(),
            None => self.clear(),
        };
        if let Err(error) = cleared {
            log::warn!(
                "unable to remove the files of the trial in '{}': {error}; remove them yourself",
                self.root.display()
            );
        }
    }
}

fn unable(verb: &str, path: &Path, error: &io::Error) -> Failure {
    Failure::system(format!("unable to {verb} '{}': {error}", path.display()))
}

/// Creates the directory and its parents. Only the user has access, since the directory will contain keys.
fn create_private(directory: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(directory)
}

/// Replaces a file atomically. After a failed write, the previous file is unchanged.
fn replace(path: &Path, text: &str) -> Result<(), Failure> {
    let write = || {
        let mut file = NamedTempFile::new_in(path.parent().unwrap_or(Path::new(".")))?;
        file.write_all(text.as_bytes())?;
        file.persist(path).map(drop).map_err(|error| error.error)
    };
    write().map_err(|error| unable("write", path, &error))
}

/// Returns the name of an entry of `directory` that is not in `known`, if there is one.
fn foreign_entry(directory: &Path, known: &[&str]) -> io::Result<Option<PathBuf>> {
    let entries = match fs::read_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        entries => entries?,
    };
    for entry in entries {
        let name = entry?.file_name();
        if !known.iter().any(|known| name == **known) {
            return Ok(Some(name.into()));
        }
    }
    Ok(None)
}

/// Returns whether the file was modified less than [`MAX_CERTIFICATE_AGE`] ago. A modification time in the future counts as recent.
fn is_recent(path: &Path) -> bool {
    fs::metadata(path)
        .and_then(|metadata| metadata.modified())
        .is_ok_and(|modified| modified.elapsed().map_or(true, |age| age < MAX_CERTIFICATE_AGE))
}

/// Returns the names and addresses for which the certificate must be valid.
fn hosts(addresses: &[IpAddr]) -> Vec<String> {
    let loopback = ["localhost", "127.0.0.1", "::1"].map(str::to_owned);
    loopback.into_iter().chain(addresses.iter().map(IpAddr::to_string)).collect()
}

/// Returns the lines of an earlier palabre.toml that the user has added.
fn user_settings(previous: &str) -> String {
    let is_own = |line: &str| {
        let key = line.split('=').next().unwrap_or_default().trim();
        OWN_SETTINGS.contains(&key) || line.starts_with(OWN_SETTINGS_PREFIX)
    };
    previous.lines().filter(|line| !is_own(line)).fold(String::new(), |text, line| text + line + "\n")
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn user_settings_are_kept() {
        let directory = tempfile::tempdir().unwrap();
        let trial = TrialDir::prepare(Some(directory.path())).unwrap();
        assert_eq!(trial.configure(false, &[], "").unwrap().host, "localhost");
        let path = trial.etc().join(SERVER_FILE);
        fs::write(&path, fs::read_to_string(&path).unwrap() + "[room]\nrate-hz = 48000\n").unwrap();
        let server = trial.configure(true, &["192.0.2.7".parse().unwrap()], "").unwrap();
        assert_eq!((server.host.as_str(), server.format.rate.hz()), ("192.0.2.7", 48_000));
        assert_eq!(fs::read_to_string(&path).unwrap().lines().count(), 7);
        assert_eq!(server.certificate, trial.etc().join("tls/cert.pem"));
    }

    /// Tests with a hard link whether the file was replaced or overwritten in place.
    #[test]
    fn configuration_is_replaced_atomically() {
        let directory = tempfile::tempdir().unwrap();
        let trial = TrialDir::prepare(Some(directory.path())).unwrap();
        trial.configure(false, &[], "").unwrap();
        let path = trial.etc().join(SERVER_FILE);
        let previous = directory.path().join("log");
        fs::hard_link(&path, &previous).unwrap();
        trial.configure(true, &[], "").unwrap();
        assert!(fs::read_to_string(&previous).unwrap().contains("127.0.0.1"));
        assert!(!fs::read_to_string(&path).unwrap().contains("127.0.0.1"));
        assert_eq!(fs::read_dir(trial.etc()).unwrap().count(), 3);
    }

    #[test]
    fn foreign_directory_is_refused_and_not_changed() {
        let directory = tempfile::tempdir().unwrap();
        fs::create_dir_all(directory.path().join("run/important")).unwrap();
        fs::write(directory.path().join("letter"), "dear").unwrap();
        assert!(matches!(TrialDir::prepare(Some(directory.path())), Err(Failure::Refused(_))));
        assert!(directory.path().join("run/important").exists());
    }

    #[test]
    fn given_directory_keeps_etc_and_loses_run() {
        let directory = tempfile::tempdir().unwrap();
        drop(TrialDir::prepare(Some(directory.path())).unwrap());
        assert!(directory.path().join("etc").exists());
        assert!(!directory.path().join("run").exists());
    }

    #[test]
    fn given_directory_is_reusable() {
        let directory = tempfile::tempdir().unwrap();
        let trial = TrialDir::prepare(Some(directory.path())).unwrap();
        fs::write(trial.log(), "").unwrap();
        fs::write(trial.links(), "").unwrap();
        fs::write(trial.keys(), "").unwrap();
        fs::create_dir(trial.browser()).unwrap();
        fs::create_dir(trial.recordings()).unwrap();
        drop(trial);
        let trial = TrialDir::prepare(Some(directory.path())).unwrap();
        assert!(trial.recordings().exists() && !trial.links().exists());
    }

    #[test]
    fn temporary_directory_is_removed() {
        let trial = TrialDir::prepare(None).unwrap();
        let root = trial.root.clone();
        assert!(root.join("run").exists());
        drop(trial);
        assert!(!root.exists());
    }

    #[test]
    fn certificate_is_reused_while_its_hosts_match() {
        let directory = tempfile::tempdir().unwrap();
        let trial = TrialDir::prepare(Some(directory.path())).unwrap();
        let pin = trial.certificate(&[]).unwrap();
        assert_eq!(trial.certificate(&[]).unwrap(), pin);
        let address = "192.0.2.7".parse().unwrap();
        assert_ne!(trial.certificate(&[address]).unwrap(), pin);
    }

    #[test]
    fn path_too_long_for_a_socket_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let deep = directory.path().join("x".repeat(100));
        assert!(matches!(TrialDir::prepare(Some(&deep)), Err(Failure::Refused(_))));
    }
}
