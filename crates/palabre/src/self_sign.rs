//! `palabre self-sign`: a certificate to begin with.

use std::path::Path;

use palabre_config::{Server, certificate};
use palabre_host::exit::Failure;

use crate::cli::{Cli, SelfSign};
use crate::permission;

/// Names of this machine that a certificate also has: whoever tries it out sits beside it.
const LOOPBACK: [&str; 3] = ["localhost", "127.0.0.1", "::1"];

/// Makes a certificate and its key where `palabre.toml` says that they are, unless they are there.
///
/// # Errors
/// Somebody else's files are in the way (refused), `palabre.toml` has no meaning or a host that can't stand in a certificate
/// (configuration), or a file can't be read or written (system).
pub fn run(cli: &Cli, options: &SelfSign) -> Result<(), Failure> {
    let server = Server::load(cli.config_dir()).map_err(Failure::config)?;
    let paths = [&server.certificate, &server.private_key];
    let there = paths.map(|path| certificate::is_ours(path).map_err(|error| (path, error)));
    for owner in there {
        let Some(ours) = owner.map_err(|(path, error)| unable_to_read(path, &error))? else { continue };
        match (ours, options.replace) {
            (true, true) => {}
            (true, false) => return Err(refused(&server, "it is there; --replace makes it anew")),
            (false, _) => return Err(refused(&server, "somebody else's is there; move it away first")),
        }
    }
    make(&server)?;
    eprintln!(
        "palabre: '{}' is self-signed, for {}: browsers warn of it",
        server.certificate.display(),
        hosts(&server).join(", ")
    );
    Ok(())
}

fn make(server: &Server) -> Result<(), Failure> {
    let made = certificate::self_signed(&hosts(server)).map_err(Failure::config)?;
    let written = made.write_to(&server.certificate, &server.private_key);
    let directory = server.certificate.parent().unwrap_or(Path::new("."));
    written.map_err(|error| Failure::system(permission::explain(directory, error)))
}

fn hosts(server: &Server) -> Vec<String> {
    let mut hosts = vec![server.host.clone()];
    hosts.extend(LOOPBACK.iter().filter(|host| **host != server.host).map(ToString::to_string));
    hosts
}

fn refused(server: &Server, cause: &str) -> Failure {
    Failure::refused(format!("unable to make the certificate '{}': {cause}", server.certificate.display()))
}

fn unable_to_read(path: &Path, error: &std::io::Error) -> Failure {
    Failure::system(format!("unable to read '{}': {error}", path.display()))
}
