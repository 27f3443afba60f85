//! The files of the certificate and its key: stamps that show whether a file has changed, and the certificate's status for
//! `palabre status`.

use std::time::SystemTime;

use palabre_config::Server;
use palabre_config::certificate::Facts;
use palabre_config::control::Certificate;
use palabre_host::stamp::FileStamp;

/// Returns the stamps of the certificate file and the key file.
pub(crate) fn stamps(server: &Server) -> [Option<FileStamp>; 2] {
    [&server.certificate, &server.private_key].map(|path| FileStamp::of(path))
}

/// Reads the certificate and returns its status. Only the signer reads the key: `of_key` says why the signer can't use the certificate with its key.
pub(crate) fn status(server: &Server, of_key: Option<&str>, now: SystemTime) -> Certificate {
    let facts = Facts::load(&server.certificate);
    let fault = match &facts {
        Ok(facts) => of_key.map(str::to_owned).or_else(|| fault(server, facts, now)),
        Err(error) => Some(error.to_string()),
    };
    let facts = facts.ok();
    Certificate {
        path: server.certificate.display().to_string(),
        days_left: facts.as_ref().map(|facts| facts.days_left(now)),
        not_after: facts.as_ref().map(|facts| facts.not_after.to_string()),
        self_signed: facts.as_ref().is_some_and(|facts| facts.self_signed),
        names: facts.map(|facts| facts.names).unwrap_or_default(),
        fault,
    }
}

/// Returns a message if the certificate is not valid yet or has expired.
fn fault(server: &Server, facts: &Facts, now: SystemTime) -> Option<String> {
    let certificate = server.certificate.display();
    match facts {
        _ if !facts.not_before.has_passed(now) => Some(format!(
            "the certificate '{certificate}' is not valid before {}, so browsers warn about it; correct this machine's clock, or install a certificate that is valid now",
            facts.not_before
        )),
        _ if facts.not_after.has_passed(now) => Some(format!(
            "the certificate '{certificate}' expired on {}, so browsers warn about it; renew it",
            facts.not_after
        )),
        _ => None,
    }
}
