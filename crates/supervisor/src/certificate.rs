//! The files of the certificate and its key: stamps that show whether a file has changed, and the certificate's status for
//! `palabre status`.

use std::time::SystemTime;

use palabre_config::Server;
use palabre_config::certificate::{CertificateError, Facts};
use palabre_config::control::Certificate;
use palabre_host::stamp::FileStamp;

/// Returns the stamps of the certificate file and the key file.
pub(crate) fn stamps(server: &Server) -> [Option<FileStamp>; 2] {
    [&server.certificate, &server.private_key].map(|path| FileStamp::of(path))
}

/// Reads the certificate and its key, and returns their status.
pub(crate) fn status(server: &Server, now: SystemTime) -> Certificate {
    let facts = Facts::load(&server.certificate);
    let fault = match &facts {
        Ok(facts) => fault(server, facts, now),
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

/// Returns a message if the certificate can't be read, doesn't match its key, is not valid yet, or has expired.
fn fault(server: &Server, facts: &Facts, now: SystemTime) -> Option<String> {
    let (certificate, key) = (server.certificate.display(), server.private_key.display());
    match facts.is_of_key(&server.private_key) {
        Ok(Some(false)) => {
            Some(format!("unable to use '{certificate}' with '{key}': the key doesn't match the certificate"))
        }
        Err(error @ (CertificateError::Read { .. } | CertificateError::Malformed { .. })) => Some(error.to_string()),
        _ if !facts.not_before.has_passed(now) => Some(format!(
            "the certificate '{certificate}' is not valid before {}, so browsers warn about it; check this machine's clock",
            facts.not_before
        )),
        _ if facts.not_after.has_passed(now) => Some(format!(
            "the certificate '{certificate}' expired on {}, so browsers warn about it; renew it",
            facts.not_after
        )),
        _ => None,
    }
}
