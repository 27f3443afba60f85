//! The certificate and its key: what browsers and listeners would say of them.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::SystemTime;

use palabre_config::certificate::Facts;

use super::{Finding, Scene};

const AREA: &str = "certificate";
/// So many days before the end it is time.
const SOON_DAYS: i64 = 14;
const READ_BY_GROUP: u32 = 0o040;
const READ_BY_ANYBODY: u32 = 0o004;

/// All about it.
pub fn look(scene: &Scene<'_>) -> Vec<Finding> {
    let path = &scene.server.certificate;
    let facts = match Facts::load(path) {
        Ok(facts) => facts,
        Err(error) => return vec![Finding::fault(AREA, error.to_string(), made_by(scene, path))],
    };
    let mut findings = vec![validity(scene, &facts), names(scene, &facts), key(scene, &facts)];
    findings.extend(key_mode(scene));
    findings
}

/// What makes a new one: our own command where there is none or it is ours.
fn made_by(scene: &Scene<'_>, path: &Path) -> String {
    let again = if path.exists() { " --replace" } else { "" };
    let directory = path.parent().filter(|directory| !directory.exists());
    let make = directory.map(|directory| format!("mkdir -p {} && ", directory.display())).unwrap_or_default();
    format!("{make}palabre{} self-sign{again}, or put the one of an authority there", config_flag(scene))
}

fn config_flag(scene: &Scene<'_>) -> String {
    let is_default = scene.config == Path::new("/etc/palabre");
    if is_default { String::new() } else { format!(" --config {}", scene.config.display()) }
}

fn validity(scene: &Scene<'_>, facts: &Facts) -> Finding {
    let (now, path) = (SystemTime::now(), scene.server.certificate.display());
    let renew = if facts.self_signed {
        made_by(scene, &scene.server.certificate)
    } else {
        "renew it where it was made, and then palabre reload".to_owned()
    };
    let days = facts.days_left(now);
    if facts.not_before.seconds_from(now) > 0 {
        let text = format!("'{path}' begins only on {}", facts.not_before);
        return Finding::fault(AREA, text, "set this machine's clock: timedatectl set-ntp true");
    }
    if days < 0 {
        return Finding::fault(AREA, format!("'{path}' ended on {}", facts.not_after), renew);
    }
    let text = format!("'{path}': {days} days left");
    match (days < SOON_DAYS, facts.self_signed) {
        (true, _) => Finding::warning(AREA, text, renew),
        (false, true) => Finding::warning(
            AREA,
            format!("{text}, self-signed, so browsers warn of it"),
            "put the one of an authority there, and then palabre reload",
        ),
        (false, false) => Finding::ok(AREA, text),
    }
}

fn names(scene: &Scene<'_>, facts: &Facts) -> Finding {
    let host = &scene.server.host;
    if facts.is_for(host) {
        return Finding::ok(AREA, format!("is for '{host}'"));
    }
    let names = if facts.names.is_empty() { "nobody".to_owned() } else { facts.names.join(", ") };
    let text = format!("is for {names} and not for '{host}', which the links say");
    Finding::fault(
        AREA,
        text,
        format!("set 'host' in '{}', or get one for '{host}'", scene.config.join("palabre.toml").display()),
    )
}

fn key(scene: &Scene<'_>, facts: &Facts) -> Finding {
    let path = &scene.server.private_key;
    match facts.is_of_key(path) {
        Ok(Some(true)) => Finding::ok(AREA, format!("'{}' is its key", path.display())),
        Ok(Some(false)) => {
            let text = format!("'{}' is another certificate's key", path.display());
            Finding::fault(AREA, text, format!("put the key of '{}' there", scene.server.certificate.display()))
        }
        Ok(None) => {
            let text = format!("'{}' is of a kind that only a listener can read", path.display());
            let file = path.display();
            Finding::warning(
                AREA,
                text,
                format!("openssl pkcs8 -topk8 -nodes -in {file} -out {file}.new && mv {file}.new {file}"),
            )
        }
        Err(error) => Finding::fault(AREA, error.to_string(), made_by(scene, path)),
    }
}

/// The key is for the daemons and for nobody else.
fn key_mode(scene: &Scene<'_>) -> Option<Finding> {
    let path = &scene.server.private_key;
    let metadata = fs::metadata(path).ok()?;
    let file = path.display();
    if metadata.mode() & READ_BY_ANYBODY != 0 {
        return Some(Finding::fault(AREA, format!("anybody can read '{file}'"), format!("chmod o= {file}")));
    }
    // The daemons are whoever owns the directory of what runs.
    let daemons = fs::metadata(scene.run).ok()?;
    let may = daemons.uid() == 0
        || daemons.uid() == metadata.uid()
        || (daemons.gid() == metadata.gid() && metadata.mode() & READ_BY_GROUP != 0);
    let mend = format!("chgrp {} {file} && chmod g+r {file}", daemons.gid());
    (!may).then(|| Finding::fault(AREA, format!("the daemons (user {}) can't read '{file}'", daemons.uid()), mend))
}
