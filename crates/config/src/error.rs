//! Errors in configuration files.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

/// Error: a configuration file can't be used, because the file is invalid or can't be read or written. The text is
/// `unable to use 'FILE', line 3: cause`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigError {
    path: PathBuf,
    line: Option<usize>,
    cause: String,
    missing: bool,
    denied: bool,
}

impl ConfigError {
    /// Returns the path of the file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the number of the invalid line, from 1, if known.
    #[must_use]
    pub fn line(&self) -> Option<usize> {
        self.line
    }

    /// Returns whether the file doesn't exist.
    #[must_use]
    pub fn is_missing(&self) -> bool {
        self.missing
    }

    /// Returns whether the user of this process has no permission to read or write the file.
    #[must_use]
    pub fn is_denied(&self) -> bool {
        self.denied
    }

    /// Returns the cause, without the path and the line.
    pub(crate) fn cause(&self) -> &str {
        &self.cause
    }

    pub(crate) fn new(path: &Path, cause: impl Into<String>) -> Self {
        Self { path: path.to_owned(), line: None, cause: cause.into(), missing: false, denied: false }
    }

    pub(crate) fn io(path: &Path, error: &io::Error) -> Self {
        let missing = error.kind() == io::ErrorKind::NotFound;
        let denied = error.kind() == io::ErrorKind::PermissionDenied;
        Self { missing, denied, ..Self::new(path, error.to_string()) }
    }

    /// Converts the error of a TOML parser. `text` is the content of the file, from which the line number of the error
    /// is computed.
    pub(crate) fn toml(path: &Path, text: &str, error: &toml::de::Error) -> Self {
        let line = error.span().and_then(|span| text.get(..span.start)).map(|before| before.matches('\n').count() + 1);
        let cause = error.message().trim().replace('\n', "; ");
        Self { line, ..Self::new(path, cause) }
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "unable to use '{}'", self.path.display())?;
        if let Some(line) = self.line {
            write!(f, ", line {line}")?;
        }
        write!(f, ": {}", self.cause)
    }
}

impl std::error::Error for ConfigError {}
