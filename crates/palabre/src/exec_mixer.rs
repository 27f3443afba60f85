//! `palabre exec-mixer`: executes the mixer with the setting `sandbox` of `palabre.toml`, as `palabre-mixer.service` does. The mixer itself reads no
//! TOML.

use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use palabre_config::{SandboxSetting, Server};
use palabre_host::exit::Failure;

use crate::cli::ExecMixer;

/// Replaces this program by the mixer. Returns only if that fails. If `palabre.toml` can't be used, the setting has its default.
pub(crate) fn run(config: &Path, options: &ExecMixer) -> Result<(), Failure> {
    let setting = Server::load(config).map(|server| server.sandbox).unwrap_or_else(|error| {
        eprintln!("palabre: {error}; starting the mixer with 'sandbox = \"best-effort\"'");
        SandboxSetting::default()
    });
    let mode = match setting {
        SandboxSetting::Required => "required",
        SandboxSetting::BestEffort => "best-effort",
        SandboxSetting::Off => "off",
    };
    let error = Command::new(&options.program).args(["--sandbox", mode]).args(&options.arguments).exec();
    Err(Failure::system(format!(
        "unable to execute '{}': {error}; give the path of palabre-mixer",
        options.program.display()
    )))
}
