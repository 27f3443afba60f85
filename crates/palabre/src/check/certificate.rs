//! Checks the certificate and its key.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, SystemTime};

use palabre_config::Server;
use palabre_config::certificate::{CertificateError, Facts, Flaw, is_ours};
use palabre_host::executable;

use super::context::{Context, word};
use super::finding::Finding;
use crate::command;

const AREA: &str = "certificate";
/// Number of days before the certificate's expiry from which `palabre check` warns.
const SOON_DAYS: i64 = 14;
/// Timeout for `palabre-listener --check-certificate`.
const TIMEOUT: Duration = Duration::from_secs(10);

pub(super) fn check(context: &Context<'_>) -> Vec<Finding> {
    let path = &context.server.certificate;
    let facts = match Facts::load(path) {
        Ok(facts) => facts,
        Err(error) => return vec![unusable(context, path, "certificate", &error)],
    };
    let mut findings = vec![validity(context, &facts), names(context, &facts)];
    // Behind a proxy that decrypts TLS, only the proxy sees this certificate.
    let is_seen = context.server.links.shows_own_certificate();
    let concerned = |flaw: &&Flaw| is_seen || !matches!(flaw, Flaw::Refused(_) | Flaw::NoIssuer(_));
    findings.extend(facts.flaws.iter().filter(concerned).map(|flaw| self::flaw(context, flaw)));
    findings.extend(key(context, &facts));
    findings
}

/// Returns a finding for a file of the certificate that can't be read or is invalid. `field` is its field in `palabre.toml`.
fn unusable(context: &Context<'_>, path: &Path, field: &str, error: &CertificateError) -> Finding {
    if error.is_denied() {
        let text = format!("can't see '{}' as this user", path.display());
        return Finding::unseen(AREA, text, context.directories);
    }
    let text = error.to_string();
    let Server { certificate, private_key, .. } = &context.server;
    let remedy = match text.contains("passphrase") {
        // One file contains the certificate and the key, and the command below would keep only the key.
        true if certificate == private_key => then_reload(context, "remove the passphrase of the key in this file"),
        // Overwrites the file instead of replacing it, which keeps owner and mode.
        true => format!("key=$(openssl pkey -in {0}) && echo \"$key\" >{0}", word(path)),
        false => repair(context, path, field),
    };
    Finding::fault(AREA, text, remedy)
}

/// Returns the remedy for a missing or invalid file. Proposes a self-signed certificate only if it replaces no other certificate and no
/// other key, and if `palabre.toml` doesn't name another file, which may be a mistyped name.
fn repair(context: &Context<'_>, path: &Path, field: &str) -> String {
    let default = Server::defaults(context.directories.config);
    if are_ours(context) && [default.certificate, default.private_key].iter().any(|default| default == path) {
        return self_sign(context);
    }
    let file = context.server_file();
    let text = Server::text(context.directories.config).unwrap_or_default();
    let line = text.lines().position(|line| line.split('=').next().is_some_and(|name| name.trim() == field));
    let edit = context.directories.edit(&file, line.map(|line| line + 1));
    format!("{edit}  # name the right file in '{field}', or put a valid file there")
}

/// Returns whether each of the two files is missing or was made by `palabre self-sign`.
fn are_ours(context: &Context<'_>) -> bool {
    let Server { certificate, private_key, .. } = &context.server;
    [certificate, private_key].iter().all(|path| matches!(is_ours(path), Ok(None | Some(true))))
}

/// Returns a shell command that makes a self-signed certificate.
fn self_sign(context: &Context<'_>) -> String {
    let Server { certificate, private_key, .. } = &context.server;
    let directories = [certificate, private_key].map(|path| path.parent().filter(|directory| !directory.exists()));
    let mut steps: Vec<String> = directories.iter().flatten().map(|path| format!("mkdir -p {}", word(path))).collect();
    steps.dedup();
    let exists = [certificate, private_key].iter().any(|path| path.exists());
    let again = if exists { " --replace" } else { "" };
    steps.push(format!("{} self-sign{again}", context.directories.palabre()));
    steps.join(" && ")
}

/// Returns the remedy for a certificate that has expired or expires soon.
fn renew(context: &Context<'_>) -> String {
    match are_ours(context) {
        true => self_sign(context),
        false => then_reload(context, "renew the certificate at its certificate authority"),
    }
}

fn validity(context: &Context<'_>, facts: &Facts) -> Finding {
    let (now, path) = (SystemTime::now(), context.server.certificate.display());
    let days = facts.days_left(now);
    if facts.not_before.seconds_from(now) > 0 {
        let text = format!("the certificate '{path}' is not valid before {}", facts.not_before);
        return Finding::fault(
            AREA,
            text,
            "set this machine's clock (timedatectl set-ntp true), or get a certificate that is valid now",
        );
    }
    if days < 0 {
        return Finding::fault(
            AREA,
            format!("the certificate '{path}' expired on {}", facts.not_after),
            renew(context),
        );
    }
    let left = if days == 1 { "1 day".to_owned() } else { format!("{days} days") };
    let text = format!("the certificate '{path}' expires in {left}");
    match (days < SOON_DAYS, facts.self_signed && context.server.links.shows_own_certificate()) {
        (true, _) => Finding::warning(AREA, text, renew(context)),
        (false, true) => Finding::warning(
            AREA,
            format!("the certificate '{path}' is self-signed, so browsers warn about it; it expires in {left}"),
            format!(
                "{}  # set 'certificate' and 'private-key' to a certificate that browsers trust, and its key",
                context.directories.edit(&context.server_file(), None)
            ),
        ),
        (false, false) => Finding::ok(AREA, text),
    }
}

fn names(context: &Context<'_>, facts: &Facts) -> Finding {
    let links = &context.server.links;
    let Some(name) = links.certificate_name() else {
        return Finding::ok(
            AREA,
            format!("browsers see the certificate of the proxy, because the links are '{links}'"),
        );
    };
    let addresses = context.participants.iter().filter_map(|one| links.address(&one.name, one.port).ok());
    let hosts = addresses.map(|address| address.host);
    let Some(host) =
        hosts.chain(context.participants.is_empty().then(|| name.clone())).find(|host| !facts.is_for(host))
    else {
        return Finding::ok(AREA, format!("the certificate is valid for '{name}'"));
    };
    let names = if facts.names.is_empty() { "no name".to_owned() } else { facts.names.join(", ") };
    let text = format!("the certificate is valid for {names}, but not for '{host}', the host in the links");
    let remedy = match are_ours(context) {
        true => self_sign(context),
        false => format!(
            "{}  # change 'host' or 'link', or get a certificate for '{name}'",
            context.directories.edit(&context.server_file(), None)
        ),
    };
    Finding::fault(AREA, text, remedy)
}

/// Checks that the key belongs to the certificate, and that the TLS library accepts both.
fn key(context: &Context<'_>, facts: &Facts) -> Option<Finding> {
    let path = &context.server.private_key;
    match facts.is_of_key(path) {
        Err(error) => Some(unusable(context, path, "private-key", &error)),
        Ok(Some(false)) => {
            let text = format!("'{}' is not the certificate's key", path.display());
            Some(Finding::fault(AREA, text, repair(context, path, "private-key")))
        }
        // This flaw of the key is reported already, and is the reason why the TLS library refuses the key.
        Ok(_) if facts.flaws.iter().any(|flaw| matches!(flaw, Flaw::Key(_))) => None,
        Ok(_) => Some(listener(context)),
    }
}

/// Runs `palabre-listener --check-certificate`, which shows whether the TLS library accepts the certificate and its key. palabre-signer uses the
/// same library.
fn listener(context: &Context<'_>) -> Finding {
    const PROGRAM: &str = "palabre-listener";
    let Server { certificate, private_key, .. } = &context.server;
    let run = |program| {
        let mut command = Command::new(program);
        command.arg("--check-certificate").arg("--config").arg(context.directories.config);
        command::run(&mut command, TIMEOUT)
    };
    match executable::find(PROGRAM).and_then(run) {
        None => {
            let text =
                format!("unable to run '{PROGRAM}', so it is unknown whether the TLS library accepts the certificate");
            Finding::warning(AREA, text, format!("install '{PROGRAM}' in the directory of 'palabre'"))
        }
        Some(ended) if ended.success => Finding::ok(
            AREA,
            format!("'{}' is the certificate's key; the TLS library accepts both", private_key.display()),
        ),
        Some(ended) => {
            let cause = ended.stderr.trim().strip_prefix("palabre-listener: ").unwrap_or(&ended.stderr).to_owned();
            Finding::fault(AREA, cause, repair(context, certificate, "certificate"))
        }
    }
}

fn flaw(context: &Context<'_>, flaw: &Flaw) -> Finding {
    let path = &context.server.certificate;
    let file = path.display();
    match flaw {
        Flaw::Key(kind) => Finding::fault(
            AREA,
            format!("the key of '{file}' is {kind}, which listeners or browsers don't accept"),
            then_reload(context, "get a certificate with an ECDSA key on the curve P-256"),
        ),
        Flaw::Refused(why) => Finding::fault(
            AREA,
            format!("browsers refuse '{file}': {why}"),
            then_reload(context, "get a certificate for servers from a certificate authority"),
        ),
        Flaw::Unread { all, read } => Finding::fault(
            AREA,
            format!(
                "'{file}' has {all} certificates, but listeners read only {read}; each of them must have a line \
                 '-----BEGIN CERTIFICATE-----'"
            ),
            rewrite(context),
        ),
        Flaw::Invalid(number) => Finding::fault(
            AREA,
            format!("certificate {number} in '{file}' is invalid"),
            then_reload(context, "get an undamaged file with the whole chain from the certificate authority"),
        ),
        Flaw::NoIssuer(issuer) => Finding::warning(
            AREA,
            format!(
                "'{file}' doesn't contain the certificate of the issuer '{issuer}', so many clients refuse the server's certificate"
            ),
            with_issuer(context, path),
        ),
    }
}

/// Returns a shell command that writes each certificate of the file on lines of its own. The command would remove a private key, so there is no
/// command for a file that contains both.
fn rewrite(context: &Context<'_>) -> String {
    let server = &context.server;
    if server.certificate == server.private_key {
        return then_reload(context, "begin a new line before each '-----BEGIN'");
    }
    let file = word(&server.certificate);
    let lines = format!("sed 's/[ \\t]*-----BEGIN/\\n-----BEGIN/g' {file} | sed 's/^[ \\t]*//'");
    let certificates = "openssl crl2pkcs7 -nocrl -certfile /dev/stdin | openssl pkcs7 -print_certs";
    format!("chain=$({lines} | {certificates}) && echo \"$chain\" >{file}")
}

/// Returns the remedy for a file without the issuer's certificate. certbot writes the whole chain to `fullchain.pem`.
fn with_issuer(context: &Context<'_>, certificate: &Path) -> String {
    let chain = certificate.with_file_name("fullchain.pem");
    match chain != *certificate && chain.exists() {
        true => then_reload(context, &format!("set 'certificate' to '{}' in palabre.toml", chain.display())),
        false => then_reload(context, "append the issuer's certificate to this file"),
    }
}

/// Returns a remedy in words instead of a shell command: the step `what`, then a reload.
fn then_reload(context: &Context<'_>, what: &str) -> String {
    format!("{what}, then run {} reload", context.directories.palabre())
}
