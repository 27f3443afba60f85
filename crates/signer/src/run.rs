//! The start of the signer.

use std::path::Path;
use std::time::Instant;

use palabre_config::{SandboxSetting, Server};
use palabre_host::exit::Failure;
use palabre_host::sandbox::{Access, Enforced, Sandbox, Strictness};
use palabre_host::signals::{SIGHUP, SIGINT, SIGTERM, Signals};
use palabre_host::{logging, notify, process, sockets};

use crate::cli::{Args, PROGRAM};
use crate::pair::KeyFiles;
use crate::server::Signer;

/// Signs until SIGTERM or SIGINT arrives, or until the supervisor that started the signer has ended.
pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    if let Some(parent) = args.parent_pid {
        process::die_with_parent(parent).map_err(Failure::system)?;
    }
    logging::init(PROGRAM, None, args.verbose);
    let link = sockets::inherited_packet().map_err(|error| {
        Failure::system(format!("unable to use the inherited connection to the supervisor: {error}"))
    })?;
    process::protect();
    if let Err(error) = process::raise_nofile() {
        log::warn!("unable to raise the limit of open files: {error}");
    }
    let signals = Signals::new(&[SIGTERM, SIGINT, SIGHUP]).map_err(Failure::system)?;
    let files = KeyFiles::load(&args.config, Instant::now());
    let enforced = enter_sandbox(&args.config, &files)?;
    log::debug!("sandbox: {enforced}");
    let mut signer = Signer::new(files, signals, &args.run, link, enforced).map_err(Failure::system)?;
    notify::ready();
    signer.serve().map_err(Failure::system)
}

/// Enters the sandbox: the signer may read the directories of `palabre.toml`, of the certificate and of the key. If a file is a symbolic link, it
/// may also read the directory of its target. Certificate and key may be replaced by files with another inode or name.
fn enter_sandbox(config: &Path, files: &KeyFiles) -> Result<Enforced, Failure> {
    let strictness = match Server::load(config).map(|server| server.sandbox).unwrap_or_default() {
        SandboxSetting::Required => Strictness::Required,
        SandboxSetting::BestEffort => Strictness::BestEffort,
        SandboxSetting::Off => Strictness::Off,
    };
    let mut sandbox = Sandbox::default().alone().permit(Access::Read, config);
    for file in files.paths() {
        let target = file.canonicalize().unwrap_or_else(|_| file.clone());
        let directories = [file, &target].map(|file| file.parent().filter(|parent| parent.parent().is_some()));
        for (directory, file) in directories.into_iter().zip([file, &target]) {
            sandbox = sandbox.permit(Access::Read, directory.unwrap_or(file));
        }
    }
    sandbox.enter(strictness).map_err(Failure::config)
}
