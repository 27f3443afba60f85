//! The directory of a try: what would be /etc/palabre and /run/palabre, the log, the links.
//!
//! ```text
//! DIR/etc/palabre.toml        written anew each time, but for what somebody added to it
//! DIR/etc/participants.d/     as in /etc/palabre
//! DIR/etc/tls/                the self-signed certificate, used again as long as it fits
//! DIR/etc/keys                the keys, since the participants' files have only their hashes
//! DIR/run/                    as /run/palabre; removed at the end
//! DIR/links                   NAME URL, when everybody is ready; removed at the end
//! DIR/log                     what every process says
//! DIR/recordings/             what 'palabre record' recorded
//! DIR/entrances/              who has used a link that opens once
//! DIR/browser/                profiles of the windows that --open opens
//! DIR/lock                    held while a try runs here
//! ```

use std::fs::{self, DirBuilder};
use std::io;
use std::net::IpAddr;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use palabre_config::certificate;
use palabre_config::{PARTICIPANTS_DIR, SERVER_FILE, Server};
use palabre_host::exit::Failure;
use palabre_host::lock::Lock;
use tempfile::TempDir;

/// What may be in a directory that is given to us: since `run` is removed, nobody else's `run` must be taken for ours.
const OURS: [&str; 8] = ["etc", "run", "links", "log", "recordings", "entrances", "browser", "lock"];
/// What may be in its `etc`.
const OURS_IN_ETC: [&str; 4] = [SERVER_FILE, PARTICIPANTS_DIR, "tls", "keys"];
/// The longest path of a Unix socket: `sun_path` of unix(7), its zero not counted.
const MAX_SOCKET_PATH_BYTES: usize = 107;
/// A certificate older than this isn't used again; it is valid for 397 days.
const CERTIFICATE_AGE: Duration = Duration::from_secs(300 * 24 * 60 * 60);
/// The keys of palabre.toml that are ours to set.
const SET_HERE: [&str; 4] = ["host", "bind", "certificate", "private-key"];

/// The directory, while it is used.
pub struct Place {
    root: PathBuf,
    /// Removed with everything in it when this is dropped.
    temporary: Option<TempDir>,
    /// Of a directory that others could be given too.
    _lock: Option<Lock>,
}

impl Place {
    /// A fresh temporary directory, or the one that is `given`: new, empty, or of an earlier try.
    ///
    /// # Errors
    /// The directory has something else in it, or another try runs in it (refused); it can't be made (system).
    pub fn prepare(given: Option<&Path>) -> Result<Self, Failure> {
        let place = match given {
            None => Self::temporary()?,
            Some(path) => Self::given(path)?,
        };
        let socket = place.run().join("control.sock");
        if socket.as_os_str().len() > MAX_SOCKET_PATH_BYTES {
            return Err(Failure::refused(format!(
                "unable to use '{}': a socket's path has at most {MAX_SOCKET_PATH_BYTES} bytes; choose a shorter one with --dir",
                place.root.display()
            )));
        }
        for directory in [place.run(), place.etc().join(PARTICIPANTS_DIR), place.tls()] {
            make(&directory).map_err(|error| unable("make", &directory, &error))?;
        }
        Ok(place)
    }

    fn temporary() -> Result<Self, Failure> {
        let temporary = tempfile::Builder::new()
            .prefix("palabre-try-")
            .tempdir()
            .map_err(|error| Failure::system(format!("unable to make a temporary directory: {error}")))?;
        Ok(Self { root: temporary.path().to_owned(), temporary: Some(temporary), _lock: None })
    }

    fn given(path: &Path) -> Result<Self, Failure> {
        make(path).map_err(|error| unable("make", path, &error))?;
        let root = path.canonicalize().map_err(|error| unable("use", path, &error))?;
        for (directory, ours) in [(root.clone(), &OURS[..]), (root.join("etc"), &OURS_IN_ETC)] {
            if let Some(foreign) = foreign(&directory, ours).map_err(|error| unable("read", &directory, &error))? {
                return Err(Failure::refused(format!(
                    "unable to use '{}': '{}' is in it, which is no part of a try; choose another directory",
                    root.display(),
                    directory.join(foreign).display()
                )));
            }
        }
        let lock = root.join("lock");
        let Some(lock) = Lock::take(&lock).map_err(|error| unable("lock", &lock, &error))? else {
            return Err(Failure::refused(format!(
                "unable to use '{}': another 'palabre try' runs in it",
                root.display()
            )));
        };
        let place = Self { root, temporary: None, _lock: Some(lock) };
        place.clear().map_err(|error| unable("clear", &place.root, &error))?;
        Ok(place)
    }

    /// Removes what means something only while the room runs.
    fn clear(&self) -> io::Result<()> {
        let unless_missing = |result: io::Result<()>| match result {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            result => result,
        };
        unless_missing(fs::remove_dir_all(self.run()))?;
        unless_missing(fs::remove_file(self.links()))
    }

    /// What would be /etc/palabre.
    #[must_use]
    pub fn etc(&self) -> PathBuf {
        self.root.join("etc")
    }

    /// What would be /run/palabre.
    #[must_use]
    pub fn run(&self) -> PathBuf {
        self.root.join("run")
    }

    /// What all processes have said.
    #[must_use]
    pub fn log(&self) -> PathBuf {
        self.root.join("log")
    }

    /// The links, once everybody is ready.
    #[must_use]
    pub fn links(&self) -> PathBuf {
        self.root.join("links")
    }

    /// Recordings of the room; of a directory that was given they stay.
    #[must_use]
    pub fn recordings(&self) -> PathBuf {
        self.root.join("recordings")
    }

    /// Who has used a link that opens once.
    #[must_use]
    pub fn entrances(&self) -> PathBuf {
        self.root.join("entrances")
    }

    /// The profiles of browser windows.
    #[must_use]
    pub fn browser(&self) -> PathBuf {
        self.root.join("browser")
    }

    /// The participants' keys.
    #[must_use]
    pub fn keys(&self) -> PathBuf {
        self.etc().join("keys")
    }

    /// Whether nothing of it stays.
    #[must_use]
    pub fn is_temporary(&self) -> bool {
        self.temporary.is_some()
    }

    fn tls(&self) -> PathBuf {
        self.etc().join("tls")
    }

    /// Makes sure that there is a certificate for this machine and these addresses: the pin of its key, in base64.
    ///
    /// # Errors
    /// It can't be made or written.
    pub fn certificate(&self, addresses: &[IpAddr]) -> Result<String, Failure> {
        let hosts = super::hosts(addresses);
        let (for_hosts, pin) = (self.tls().join("hosts"), self.tls().join("spki-pin"));
        if fs::read_to_string(&for_hosts).is_ok_and(|text| text.lines().eq(hosts.iter().map(String::as_str)))
            && is_young(&for_hosts)
            && let Ok(pin) = fs::read_to_string(&pin)
        {
            return Ok(pin.trim().to_owned());
        }
        let made = certificate::self_signed(&hosts).map_err(Failure::system)?;
        made.write(&self.tls()).map_err(Failure::system)?;
        let write = |path: &Path, text: &str| fs::write(path, text).map_err(|error| unable("write", path, &error));
        write(&pin, &format!("{}\n", made.spki_pin_base64))?;
        write(&for_hosts, &format!("{}\n", hosts.join("\n")))?;
        Ok(made.spki_pin_base64)
    }

    /// Writes palabre.toml, for this machine alone or for all who reach it, and reads it.
    ///
    /// # Errors
    /// The file can't be written, or what somebody added to it has no meaning (configuration).
    pub fn configure(&self, lan: bool, addresses: &[IpAddr]) -> Result<Server, Failure> {
        let host = addresses.first().map_or_else(|| "localhost".to_owned(), IpAddr::to_string);
        let bind = if lan { "::" } else { "127.0.0.1" };
        let Server { certificate, private_key, .. } = Server::default();
        let ours = format!(
            "# 'palabre try' sets these four lines anew each time; what else you write is kept.\n\
             host = \"{host}\"\nbind = \"{bind}\"\ncertificate = \"{}\"\nprivate-key = \"{}\"\n",
            certificate.display(),
            private_key.display()
        );
        let path = self.etc().join(SERVER_FILE);
        let before = fs::read_to_string(&path).unwrap_or_default();
        fs::write(&path, ours + &kept(&before)).map_err(|error| unable("write", &path, &error))?;
        Server::load(&self.etc()).map_err(Failure::config)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let cleared = match self.temporary.take() {
            Some(temporary) => temporary.close(),
            None => self.clear(),
        };
        if let Err(error) = cleared {
            log::warn!("unable to clear '{}': {error}", self.root.display());
        }
    }
}

fn unable(verb: &str, path: &Path, error: &io::Error) -> Failure {
    Failure::system(format!("unable to {verb} '{}': {error}", path.display()))
}

/// Keys are in it: for the user alone.
fn make(directory: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(directory)
}

/// Something in `directory` that isn't `ours`.
fn foreign(directory: &Path, ours: &[&str]) -> io::Result<Option<PathBuf>> {
    let entries = match fs::read_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        entries => entries?,
    };
    for entry in entries {
        let name = entry?.file_name();
        if !ours.iter().any(|known| name == **known) {
            return Ok(Some(name.into()));
        }
    }
    Ok(None)
}

fn is_young(path: &Path) -> bool {
    fs::metadata(path).and_then(|metadata| metadata.modified()).is_ok_and(|modified| {
        // A clock that went backwards makes it younger than now, which is young.
        modified.elapsed().map_or(true, |age| age < CERTIFICATE_AGE)
    })
}

/// The lines of an earlier palabre.toml that aren't set here.
fn kept(before: &str) -> String {
    let is_set_here = |line: &str| {
        let key = line.split('=').next().unwrap_or_default().trim();
        SET_HERE.contains(&key) || line.starts_with("# 'palabre try' sets")
    };
    before.lines().filter(|line| !is_set_here(line)).fold(String::new(), |text, line| text + line + "\n")
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn what_somebody_added_to_the_configuration_is_kept() {
        let directory = tempfile::tempdir().unwrap();
        let place = Place::prepare(Some(directory.path())).unwrap();
        assert_eq!(place.configure(false, &[]).unwrap().host, "localhost");
        let path = place.etc().join(SERVER_FILE);
        fs::write(&path, fs::read_to_string(&path).unwrap() + "[room]\nrate-hz = 48000\n").unwrap();
        let server = place.configure(true, &["192.0.2.7".parse().unwrap()]).unwrap();
        assert_eq!((server.host.as_str(), server.format.rate.hz()), ("192.0.2.7", 48_000));
        assert_eq!(fs::read_to_string(&path).unwrap().lines().count(), 7);
        assert_eq!(server.certificate, place.etc().join("tls/cert.pem"));
    }

    #[test]
    fn somebody_else_s_directory_is_refused_and_left_alone() {
        let directory = tempfile::tempdir().unwrap();
        fs::create_dir_all(directory.path().join("run/important")).unwrap();
        fs::write(directory.path().join("letter"), "dear").unwrap();
        assert!(matches!(Place::prepare(Some(directory.path())), Err(Failure::Refused(_))));
        assert!(directory.path().join("run/important").exists());
    }

    #[test]
    fn a_given_directory_keeps_its_etc_and_loses_its_run() {
        let directory = tempfile::tempdir().unwrap();
        drop(Place::prepare(Some(directory.path())).unwrap());
        assert!(directory.path().join("etc").exists());
        assert!(!directory.path().join("run").exists());
    }

    #[test]
    fn what_a_try_leaves_in_a_given_directory_is_no_reason_to_refuse_it_the_next_time() {
        let directory = tempfile::tempdir().unwrap();
        let place = Place::prepare(Some(directory.path())).unwrap();
        fs::write(place.log(), "").unwrap();
        fs::write(place.links(), "").unwrap();
        fs::write(place.keys(), "").unwrap();
        fs::create_dir(place.browser()).unwrap();
        fs::create_dir(place.recordings()).unwrap();
        drop(place);
        let place = Place::prepare(Some(directory.path())).unwrap();
        assert!(place.recordings().exists() && !place.links().exists());
    }

    #[test]
    fn a_temporary_directory_is_gone_afterwards() {
        let place = Place::prepare(None).unwrap();
        let root = place.root.clone();
        assert!(root.join("run").exists());
        drop(place);
        assert!(!root.exists());
    }

    #[test]
    fn a_certificate_is_used_again_while_it_fits() {
        let directory = tempfile::tempdir().unwrap();
        let place = Place::prepare(Some(directory.path())).unwrap();
        let pin = place.certificate(&[]).unwrap();
        assert_eq!(place.certificate(&[]).unwrap(), pin);
        let address = "192.0.2.7".parse().unwrap();
        assert_ne!(place.certificate(&[address]).unwrap(), pin);
    }

    #[test]
    fn a_path_that_is_too_long_for_a_socket_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let deep = directory.path().join("x".repeat(100));
        assert!(matches!(Place::prepare(Some(&deep)), Err(Failure::Refused(_))));
    }
}
