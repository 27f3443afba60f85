//! The secret of an installation, and the key of each participant that is derived from it. A listener makes the cookies of browsers with the
//! participant's key.
//!
//! The secret is state, not configuration: the first process that needs it creates it below `/var/lib`. The supervisor derives the keys of its
//! listeners, so that no listener needs the secret.

use std::fmt;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

use ring::hmac;
use zeroize::Zeroizing;

use crate::record::DIRECTORY_MODE;
use crate::{ConfigError, file, hex};

/// Name of the file with the secret. It differs from the files of participants in the same directory, whose names don't begin with a dot.
const FILE: &str = ".cookie-secret";
/// Mode of the file with the secret: only the daemons' user may read the file.
const FILE_MODE: u32 = 0o600;
const BYTES: usize = 32;

/// The secret of an installation. `Debug` doesn't show the secret, and dropping it overwrites its memory.
pub struct CookieSecret(Zeroizing<[u8; BYTES]>);

impl CookieSecret {
    /// Reads the secret from the file in `dir`. Creates the directory and the file if they don't exist.
    pub fn load(dir: &Path) -> Result<Self, ConfigError> {
        let path = dir.join(FILE);
        let read = || file::read(&path);
        let text = match read() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => create(dir, &path).and_then(|()| read()),
            other => other,
        };
        let text = Zeroizing::new(text.map_err(|error| ConfigError::io(&path, &error))?);
        let invalid = || {
            ConfigError::new(
                &path,
                "the secret that signs cookies must be 64 hexadecimal digits; remove the file and restart the listeners, \
                 which make a new secret; then each browser must open its link again",
            )
        };
        hex::decode(text.trim_end()).map(|secret| Self(Zeroizing::new(secret))).ok_or_else(invalid)
    }

    /// Returns the key for the cookies of the participant `name`.
    #[must_use]
    pub fn key_of(&self, name: &str) -> CookieKey {
        CookieKey::derive(name, self.0.as_slice())
    }
}

/// The key for the cookies of one participant: a message authentication code (HMAC-SHA-256, RFC 2104) of the participant's name. Other participants'
/// keys and the secret can't be computed from it. `Debug` doesn't show the key, and dropping it overwrites its memory.
#[derive(Clone)]
pub struct CookieKey(Zeroizing<[u8; BYTES]>);

impl CookieKey {
    /// Derives the key for the cookies of the participant `name` from a secret.
    #[must_use]
    pub fn derive(name: &str, secret: &[u8]) -> Self {
        let code =
            hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret), format!("palabre cookie 1 {name}").as_bytes());
        let mut key = Zeroizing::new([0; BYTES]);
        key.copy_from_slice(code.as_ref());
        Self(key)
    }

    /// Returns the bytes of the key.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        self.0.as_slice()
    }

    pub(crate) fn to_hex(&self) -> Zeroizing<String> {
        Zeroizing::new(hex::encode(self.as_bytes()))
    }

    pub(crate) fn from_hex(digits: &str) -> Option<Self> {
        hex::decode(digits).map(|key| Self(Zeroizing::new(key)))
    }
}

impl fmt::Debug for CookieKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CookieKey(…)")
    }
}

impl fmt::Debug for CookieSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CookieSecret(…)")
    }
}

/// Creates the file with a new secret, unless another process has created it meanwhile. No process sees an incomplete file.
fn create(dir: &Path, path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(DIRECTORY_MODE).create(dir)?;
    let mut secret = [0; BYTES];
    getrandom::fill(&mut secret).map_err(io::Error::other)?;
    let new = dir.join(format!("{FILE}.{}", std::process::id()));
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(FILE_MODE).open(&new)?;
    let written = file.write_all(format!("{}\n", hex::encode(&secret)).as_bytes()).and_then(|()| file.sync_all());
    let linked = written.and_then(|()| fs::hard_link(&new, path));
    fs::remove_file(&new)?;
    match linked {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => File::open(dir)?.sync_all(),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn all_processes_have_the_same_secret_which_only_their_user_may_read() {
        let dir = tempfile::tempdir().unwrap();
        let links = dir.path().join("state/links");
        let secret = CookieSecret::load(&links).unwrap();
        let path = links.join(FILE);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        create(&links, &path).unwrap();
        let key = secret.key_of("alice");
        assert_eq!(CookieSecret::load(&links).unwrap().key_of("alice").as_bytes(), key.as_bytes());
        assert_eq!(fs::read_dir(&links).unwrap().count(), 1);
        fs::remove_file(&path).unwrap();
        assert_ne!(CookieSecret::load(&links).unwrap().key_of("alice").as_bytes(), key.as_bytes());
        assert_ne!(secret.key_of("bob").as_bytes(), key.as_bytes());
        fs::write(&path, "0").unwrap();
        assert!(CookieSecret::load(&links).is_err());
    }
}
