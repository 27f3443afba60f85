//! How a program ends: one line on standard error and an exit code that carries the class of the failure.
//!
//! The code tells a supervisor what to do: 78 is not worth another try until somebody has edited a file, 111 is.

use std::fmt::{self, Display};
use std::process::ExitCode;

use crate::logging;

/// Why a program ends without having done its work. The text is `unable to VERB 'OBJECT': cause; what to do`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failure {
    /// Somebody else says no: the request is refused, or another instance runs already. Exit code 1.
    Refused(String),
    /// The command line asks for something that does not exist. Exit code 2, as clap's own.
    Usage(String),
    /// A file of the configuration must be edited first. Exit code 78, EX_CONFIG of sysexits(3).
    Config(String),
    /// The system failed; trying again may help. Exit code 111, as in the s6 suite.
    System(String),
}

impl Failure {
    /// A refusal from anything that can be shown; an error's whole chain of causes is kept (`{:#}`, as anyhow does).
    pub fn refused(cause: impl Display) -> Self {
        Self::Refused(format!("{cause:#}"))
    }

    /// A misuse of the command line.
    pub fn usage(cause: impl Display) -> Self {
        Self::Usage(format!("{cause:#}"))
    }

    /// A fault in the configuration.
    pub fn config(cause: impl Display) -> Self {
        Self::Config(format!("{cause:#}"))
    }

    /// A failure of the system.
    pub fn system(cause: impl Display) -> Self {
        Self::System(format!("{cause:#}"))
    }

    /// The exit code of this class of failure.
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

/// Runs a program and says why it failed, as `prog: unable to …`, or through the log where it has been set up.
pub fn main(prog: &str, run: impl FnOnce() -> Result<(), Failure>) -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            if logging::is_set_up() {
                log::error!("{failure}");
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
    fn the_exit_code_carries_the_class_of_the_failure() {
        assert_eq!(Failure::refused("no").code(), 1);
        assert_eq!(Failure::usage("no").code(), 2);
        assert_eq!(Failure::config("no").code(), 78);
        assert_eq!(Failure::system("no").code(), 111);
    }

    #[test]
    fn a_failure_shows_its_text_alone() {
        assert_eq!(Failure::system("unable to open 'x': gone").to_string(), "unable to open 'x': gone");
    }
}
