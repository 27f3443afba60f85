//! The certificate and its key: what browsers and listeners would say of them.

use std::time::SystemTime;

use palabre_config::Server;
use palabre_config::certificate::{Facts, is_ours};

use super::{Finding, Scene, word};

const AREA: &str = "certificate";
/// So many days before the end it is time.
const SOON_DAYS: i64 = 14;

/// All about it.
pub fn look(scene: &Scene<'_>) -> Vec<Finding> {
    let path = &scene.server.certificate;
    let facts = match Facts::load(path) {
        Ok(facts) => facts,
        Err(error) => return vec![Finding::fault(AREA, error.to_string(), made_by_us(scene))],
    };
    vec![validity(scene, &facts), names(scene, &facts), key(scene, &facts)]
}

/// What makes a new one of our own; somebody else's is kept, under another name.
fn made_by_us(scene: &Scene<'_>) -> String {
    let Server { certificate, private_key, .. } = &scene.server;
    let mut steps = Vec::new();
    if let Some(directory) = certificate.parent().filter(|directory| !directory.exists()) {
        steps.push(format!("mkdir -p {}", word(directory)));
    }
    let owners = [certificate, private_key].map(|path| (path, is_ours(path).ok().flatten()));
    for (path, _) in owners.iter().filter(|(_, ours)| *ours == Some(false)) {
        steps.push(format!("mv {0} {0}.old", word(path)));
    }
    let again = if owners.iter().any(|(_, ours)| *ours == Some(true)) { " --replace" } else { "" };
    steps.push(format!("{} self-sign{again}", scene.places.palabre()));
    steps.join(" && ")
}

/// What makes a new one, where one is there: our own command where it is ours.
fn renewed(scene: &Scene<'_>) -> String {
    match is_ours(&scene.server.certificate) {
        Ok(Some(false)) => "renew it where it was made, and then palabre reload".to_owned(),
        _ => made_by_us(scene),
    }
}

fn validity(scene: &Scene<'_>, facts: &Facts) -> Finding {
    let (now, path) = (SystemTime::now(), scene.server.certificate.display());
    let days = facts.days_left(now);
    if facts.not_before.seconds_from(now) > 0 {
        let text = format!("'{path}' begins only on {}", facts.not_before);
        return Finding::fault(AREA, text, "set this machine's clock: timedatectl set-ntp true");
    }
    if days < 0 {
        return Finding::fault(AREA, format!("'{path}' ended on {}", facts.not_after), renewed(scene));
    }
    let text = format!("'{path}': {days} days left");
    match (days < SOON_DAYS, facts.self_signed) {
        (true, _) => Finding::warning(AREA, text, renewed(scene)),
        (false, true) => Finding::warning(
            AREA,
            format!("{text}, self-signed, so browsers warn of it"),
            format!("{}  # with the files of one that they know", scene.places.edit(&scene.file(), None)),
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
    let mend = match is_ours(&scene.server.certificate) {
        Ok(Some(true)) => made_by_us(scene),
        _ => format!("{}  # 'host', or get one for '{host}'", scene.places.edit(&scene.file(), None)),
    };
    Finding::fault(AREA, text, mend)
}

fn key(scene: &Scene<'_>, facts: &Facts) -> Finding {
    let path = &scene.server.private_key;
    match facts.is_of_key(path) {
        Ok(Some(true)) => Finding::ok(AREA, format!("'{}' is its key", path.display())),
        Ok(Some(false)) => {
            let text = format!("'{}' is another certificate's key", path.display());
            let certificate = &scene.server.certificate;
            let mend = match is_ours(certificate) {
                Ok(Some(false)) => format!("put the key of '{}' there", certificate.display()),
                _ => made_by_us(scene),
            };
            Finding::fault(AREA, text, mend)
        }
        Ok(None) => {
            let text = format!("'{}' is of a kind that only a listener can read", path.display());
            // Written into the file as it is, which keeps its owner and its mode.
            let mend = format!("key=$(openssl pkey -in {0}) && echo \"$key\" >{0}", word(path));
            Finding::warning(AREA, text, mend)
        }
        Err(error) => Finding::fault(AREA, error.to_string(), made_by_us(scene)),
    }
}
