//! Arguments of `palabre exec-mixer`.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::Args;

/// Arguments of `palabre exec-mixer`.
#[derive(Debug, Args)]
pub(crate) struct ExecMixer {
    /// Path of palabre-mixer
    pub(crate) program: PathBuf,
    /// Arguments of palabre-mixer
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    pub(crate) arguments: Vec<OsString>,
}
