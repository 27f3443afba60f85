//! Checks the certificate and its key.

use std::time::SystemTime;

use palabre_config::Server;
use palabre_config::certificate::{Facts, is_ours};

use super::context::{Context, word};
use super::finding::Finding;

const AREA: &str = "certificate";
/// Number of days before the certificate's expiry from which `palabre check` warns.
const SOON_DAYS: i64 = 14;

pub(super) fn check(context: &Context<'_>) -> Vec<Finding> {
    let path = &context.server.certificate;
    let facts = match Facts::load(path) {
        Ok(facts) => facts,
        Err(error) => return vec![Finding::fault(AREA, error.to_string(), self_sign(context))],
    };
    vec![validity(context, &facts), names(context, &facts), key(context, &facts)]
}

/// Returns a shell command that makes a self-signed certificate. It first renames files that `palabre self-sign` did not make.
fn self_sign(context: &Context<'_>) -> String {
    let Server { certificate, private_key, .. } = &context.server;
    let mut steps = Vec::new();
    if let Some(directory) = certificate.parent().filter(|directory| !directory.exists()) {
        steps.push(format!("mkdir -p {}", word(directory)));
    }
    let owners = [certificate, private_key].map(|path| (path, is_ours(path).ok().flatten()));
    for (path, _) in owners.iter().filter(|(_, ours)| *ours == Some(false)) {
        steps.push(format!("mv {0} {0}.old", word(path)));
    }
    let again = if owners.iter().any(|(_, ours)| *ours == Some(true)) { " --replace" } else { "" };
    steps.push(format!("{} self-sign{again}", context.directories.palabre()));
    steps.join(" && ")
}

/// Returns the remedy for a certificate that has expired or expires soon.
fn renew(context: &Context<'_>) -> String {
    match is_ours(&context.server.certificate) {
        Ok(Some(false)) => "renew it at its certificate authority, then run palabre reload".to_owned(),
        _ => self_sign(context),
    }
}

fn validity(context: &Context<'_>, facts: &Facts) -> Finding {
    let (now, path) = (SystemTime::now(), context.server.certificate.display());
    let days = facts.days_left(now);
    if facts.not_before.seconds_from(now) > 0 {
        let text = format!("the certificate '{path}' is not valid before {}", facts.not_before);
        return Finding::fault(AREA, text, "set this machine's clock: timedatectl set-ntp true");
    }
    if days < 0 {
        return Finding::fault(
            AREA,
            format!("the certificate '{path}' expired on {}", facts.not_after),
            renew(context),
        );
    }
    let text = format!("the certificate '{path}' expires in {days} days");
    match (days < SOON_DAYS, facts.self_signed) {
        (true, _) => Finding::warning(AREA, text, renew(context)),
        (false, true) => Finding::warning(
            AREA,
            format!("{text}, self-signed: browsers warn about it"),
            format!(
                "{}  # set 'certificate' and 'private-key' to a trusted one",
                context.directories.edit(&context.server_file(), None)
            ),
        ),
        (false, false) => Finding::ok(AREA, text),
    }
}

fn names(context: &Context<'_>, facts: &Facts) -> Finding {
    let host = &context.server.host;
    if facts.is_for(host) {
        return Finding::ok(AREA, format!("the certificate is valid for '{host}'"));
    }
    let names = if facts.names.is_empty() { "no name".to_owned() } else { facts.names.join(", ") };
    let text = format!("the certificate is valid for {names}, but not for '{host}', the host in the links");
    let remedy = match is_ours(&context.server.certificate) {
        Ok(Some(true)) => self_sign(context),
        _ => format!(
            "{}  # change 'host', or get a certificate for '{host}'",
            context.directories.edit(&context.server_file(), None)
        ),
    };
    Finding::fault(AREA, text, remedy)
}

fn key(context: &Context<'_>, facts: &Facts) -> Finding {
    let path = &context.server.private_key;
    match facts.is_of_key(path) {
        Ok(Some(true)) => Finding::ok(AREA, format!("'{}' is the certificate's key", path.display())),
        Ok(Some(false)) => {
            let text = format!("'{}' is not the certificate's key", path.display());
            let certificate = &context.server.certificate;
            let remedy = match is_ours(certificate) {
                Ok(Some(false)) => format!(
                    "replace this private key by the one that belongs to the certificate '{}'",
                    certificate.display()
                ),
                _ => self_sign(context),
            };
            Finding::fault(AREA, text, remedy)
        }
        Ok(None) => {
            let text = format!(
                "'{}' is not in PKCS #8 format, so it was not compared with the certificate; listeners accept it",
                path.display()
            );
            // Overwrites the file instead of replacing it, which keeps owner and mode.
            let remedy =
                format!("key=$(openssl pkey -in {0}) && echo \"$key\" >{0}  # converts the key to PKCS #8", word(path));
            Finding::warning(AREA, text, remedy)
        }
        Err(error) => Finding::fault(AREA, error.to_string(), self_sign(context)),
    }
}
