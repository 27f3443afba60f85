//! The end of a program: one line on standard error, and an exit code for the class of the failure.
//!
//! A supervisor acts on the exit code: after 78 a restart is useless until the configuration is corrected, after 111 a
//! restart may help.

use std::fmt::{self, Display};
use std::process::ExitCode;

use crate::{logging, notify};

/// Why a program failed. The text is `unable to VERB 'OBJECT': cause; remedy`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failure {
    /// The request was refused, or another instance is running. Exit code 1.
    Refused(String),
    /// The command line is invalid. Exit code 2, as in clap.
    Usage(String),
    /// The configuration is invalid. Exit code 78: EX_CONFIG of sysexits(3).
    Config(String),
    /// The system failed, and a retry may help. Exit code 111, as in the s6 suite.
    System(String),
}

impl Failure {
    /// Returns a [`Failure::Refused`]. As in the functions below, the text includes the chain of causes of an anyhow
    /// error (`{:#}`).
    pub fn refused(cause: impl Display) -> Self {
        Self::Refused(format!("{cause:#}"))
    }

    /// Returns a [`Failure::Usage`].
    pub fn usage(cause: impl Display) -> Self {
        Self::Usage(format!("{cause:#}"))
    }

    /// Returns a [`Failure::Config`].
    pub fn config(cause: impl Display) -> Self {
        Self::Config(format!("{cause:#}"))
    }

    /// Returns a [`Failure::System`].
    pub fn system(cause: impl Display) -> Self {
        Self::System(format!("{cause:#}"))
    }

    /// Returns the exit code.
    #[must_use]
    pub fn code(&self) -> u8 {
        match self {
            Self::Refused(_) => 1,
            Self::Usage(_) => 2,
            Self::Config(_) => 78,
            Self::System(_) => 111,
        }
    }
}

impl Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Self::Refused(text) | Self::Usage(text) | Self::Config(text) | Self::System(text)) = self;
        f.write_str(text)
    }
}

impl std::error::Error for Failure {}

/// Runs a program. A daemon, which has set up the log, reports a failure to the log and as its status to the service
/// manager. Other programs write it to standard error as `prog: unable to …`.
pub fn main(prog: &str, run: impl FnOnce() -> Result<(), Failure>) -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            if logging::is_set_up() {
                logging::last_error(&failure.to_string());
                notify::status(&failure.to_string());
            } else {
                eprintln!("{prog}: {failure}");
            }
            ExitCode::from(failure.code())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_class_of_failure_has_its_exit_code() {
        assert_eq!(Failure::refused("no").code(), 1);
        assert_eq!(Failure::usage("no").code(), 2);
        assert_eq!(Failure::config("no").code(), 78);
        assert_eq!(Failure::system("no").code(), 111);
    }

    #[test]
    fn a_failure_is_shown_as_its_text() {
        assert_eq!(Failure::system("unable to open 'x': gone").to_string(), "unable to open 'x': gone");
    }
}
