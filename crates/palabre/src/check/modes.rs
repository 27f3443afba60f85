//! Who may read and write what: directories, sockets and the private key are for the daemons and their operators alone.

use std::fs::{self, Metadata};
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use palabre_config::{PARTICIPANTS_DIR, Server};

use super::{Finding, Places, has_systemd, word};
use crate::processes;

const AREA: &str = "directories";
const READ: u32 = 0o4;
const WRITE: u32 = 0o2;
const ENTER: u32 = 0o5;

/// All about them.
pub fn look(places: Places<'_>, server: Option<&Server>) -> Vec<Finding> {
    let mut findings: Vec<Finding> = directories(places, server).collect();
    match fs::metadata(places.run) {
        Err(error) => findings.push(no_run(places, &error)),
        Ok(run) => {
            let daemons = Daemons::now(places, &run);
            findings.extend(entrances(places, server, &daemons));
            findings.extend(server.and_then(|server| key(&server.private_key, Some(&daemons))));
            if findings.iter().all(|finding| finding.area != AREA) {
                findings.push(Finding::ok(AREA, format!("'{}', '{}'", places.config.display(), places.run.display())));
            }
            return findings;
        }
    }
    findings.extend(server.and_then(|server| key(&server.private_key, None)));
    findings
}

fn no_run(places: Places<'_>, error: &std::io::Error) -> Finding {
    let run = places.run.display();
    match error.kind() {
        ErrorKind::NotFound if has_systemd() => {
            Finding::warning(AREA, format!("'{run}' isn't there yet"), "systemctl start palabre.target")
        }
        ErrorKind::NotFound => {
            let mend = format!("mkdir -m 750 -p {}", word(places.run));
            Finding::warning(AREA, format!("'{run}' isn't there yet"), mend)
        }
        _ => {
            Finding::fault(AREA, format!("unable to read '{run}': {error}"), format!("sudo {} check", places.palabre()))
        }
    }
}

/// What is ours alone. Keys that lie elsewhere lie in somebody else's directory.
fn ours<'a>(places: Places<'a>, server: Option<&'a Server>) -> impl Iterator<Item = PathBuf> + 'a {
    let key = server.and_then(|server| server.private_key.parent());
    let tls = key.filter(|tls| tls.starts_with(places.config) && *tls != places.config).map(Path::to_owned);
    [places.config.to_owned(), places.config.join(PARTICIPANTS_DIR)].into_iter().chain(tls)
}

/// Nobody else has any business in there.
fn directories<'a>(places: Places<'a>, server: Option<&'a Server>) -> impl Iterator<Item = Finding> + 'a {
    let run = [places.run.to_owned(), places.run.join("rooms")];
    let sockets = [places.run.join("control.sock"), places.run.join("notify.sock")];
    let directories = ours(places, server).chain(run).filter_map(|path| {
        let mode = fs::metadata(&path).ok()?.mode();
        let mend = format!("chmod o= {}", word(&path));
        if mode & WRITE != 0 {
            return Some(Finding::fault(AREA, format!("anybody can write in '{}'", path.display()), mend));
        }
        let text = format!("anybody can look into '{}'", path.display());
        (mode & ENTER != 0).then(|| Finding::warning(AREA, text, mend))
    });
    directories.chain(sockets.into_iter().filter_map(|path| {
        let mode = fs::metadata(&path).ok()?.mode();
        let text = format!("anybody can say something to '{}'", path.display());
        (mode & WRITE != 0).then(|| Finding::fault(AREA, text, format!("chmod o= {}", word(&path))))
    }))
}

/// The daemons read the configuration.
fn entrances(places: Places<'_>, server: Option<&Server>, daemons: &Daemons) -> Vec<Finding> {
    let shut = |path: PathBuf| {
        let metadata = fs::metadata(&path).ok()?;
        let text = format!("the daemons (user {}) can't look into '{}'", daemons.uid, path.display());
        (!daemons.may(&metadata, ENTER)).then(|| Finding::fault(AREA, text, daemons.let_in(&path, "rx")))
    };
    ours(places, server).filter_map(shut).collect()
}

/// The key is for the daemons and for nobody else.
fn key(path: &Path, daemons: Option<&Daemons>) -> Option<Finding> {
    const AREA: &str = "certificate";
    let metadata = fs::metadata(path).ok()?;
    let file = path.display();
    if metadata.mode() & READ != 0 {
        return Some(Finding::fault(AREA, format!("anybody can read '{file}'"), format!("chmod o= {}", word(path))));
    }
    let daemons = daemons.filter(|daemons| !daemons.may(&metadata, READ))?;
    let text = format!("the daemons (user {}) can't read '{file}'", daemons.uid);
    Some(Finding::fault(AREA, text, daemons.let_in(path, "r")))
}

/// Who the daemons are.
struct Daemons {
    uid: u32,
    /// Theirs first.
    gids: Vec<u32>,
}

impl Daemons {
    /// The supervisor's user and groups; where none runs, those who own the directory of what runs.
    fn now(places: Places<'_>, run: &Metadata) -> Self {
        let supervisor = processes::others(places.run).into_iter().find(|(name, _)| name == "palabre-supervisor");
        let status = supervisor.and_then(|(_, pid)| fs::read_to_string(format!("/proc/{pid}/status")).ok());
        status.and_then(|status| Self::parse(&status)).unwrap_or(Self { uid: run.uid(), gids: vec![run.gid()] })
    }

    /// By proc_pid_status(5): of four numbers the second one is the effective one.
    fn parse(status: &str) -> Option<Self> {
        let numbers = |key: &str| -> Option<Vec<u32>> {
            let line = status.lines().find_map(|line| line.strip_prefix(key))?;
            line.split_whitespace().map(|number| number.parse().ok()).collect()
        };
        let (uid, gid) = (*numbers("Uid:")?.get(1)?, *numbers("Gid:")?.get(1)?);
        Some(Self { uid, gids: [gid].into_iter().chain(numbers("Groups:").unwrap_or_default()).collect() })
    }

    fn may(&self, file: &Metadata, bits: u32) -> bool {
        let shift = match file {
            file if file.uid() == self.uid => 6,
            file if self.gids.contains(&file.gid()) => 3,
            _ => 0,
        };
        self.uid == 0 || file.mode() >> shift & bits == bits
    }

    fn let_in(&self, path: &Path, bits: &str) -> String {
        let is_theirs = fs::metadata(path).is_ok_and(|file| file.uid() == self.uid);
        match is_theirs {
            true => format!("chmod u+{bits} {}", word(path)),
            false => format!("chgrp {} {1} && chmod g+{bits} {1}", self.gids.first().unwrap_or(&0), word(path)),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_says_who_the_daemons_are() {
        let daemons = Daemons::parse("Name:\tx\nUid:\t0\t7\t0\t0\nGid:\t1\t8\t1\t1\nGroups:\t9 10 \n").unwrap();
        assert_eq!((daemons.uid, daemons.gids), (7, vec![8, 9, 10]));
    }
}
