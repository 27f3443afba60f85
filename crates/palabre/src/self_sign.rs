//! `palabre self-sign`: makes a self-signed certificate.

use std::path::Path;

use palabre_config::{Server, certificate};
use palabre_host::exit::Failure;

use crate::cli::{Cli, SelfSign};
use crate::permission;

/// Names and addresses of this machine for which the certificate is valid, in addition to the names in the links.
const LOOPBACK: [&str; 3] = ["localhost", "127.0.0.1", "::1"];

/// Makes a certificate and its key at the paths in `palabre.toml`. Existing files are replaced only if `--replace` is given and an earlier
/// `palabre self-sign` made them.
pub(crate) fn run(cli: &Cli, options: &SelfSign) -> Result<(), Failure> {
    let server = Server::load(cli.config_dir()).map_err(Failure::config)?;
    let paths = [&server.certificate, &server.private_key];
    let owners = paths.map(|path| certificate::is_ours(path).map_err(|error| (path, error)));
    for owner in owners {
        let Some(ours) = owner.map_err(|(path, error)| unable_to_read(path, &error))? else { continue };
        match (ours, options.replace) {
            (true, true) => {}
            (true, false) => {
                return Err(refused(
                    &server,
                    "the certificate or its key already exists; use --replace to make a new certificate",
                ));
            }
            (false, _) => {
                return Err(refused(
                    &server,
                    "the certificate or its key exists and was not made by 'palabre self-sign'; move both files away first",
                ));
            }
        }
    }
    make(&server)?;
    eprintln!(
        "palabre: made the self-signed certificate '{}' for {}; browsers warn about it",
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
    for host in server.links.certificate_name().into_iter().chain(LOOPBACK.map(str::to_owned)) {
        if !hosts.contains(&host) {
            hosts.push(host);
        }
    }
    hosts
}

fn refused(server: &Server, cause: &str) -> Failure {
    Failure::refused(format!("unable to make the self-signed certificate '{}': {cause}", server.certificate.display()))
}

fn unable_to_read(path: &Path, error: &std::io::Error) -> Failure {
    Failure::system(format!("unable to read '{}': {error}", path.display()))
}
