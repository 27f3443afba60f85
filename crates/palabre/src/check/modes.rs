//! Checks owners and modes of the directories, the sockets and the private key. Only daemons and operators may have access.

use std::fs::{self, Metadata};
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use palabre_config::{PARTICIPANTS_DIR, Server};

use super::context::{Directories, has_systemd, word};
use super::finding::Finding;
use crate::processes;

const AREA: &str = "directories";
const READ: u32 = 0o4;
const WRITE: u32 = 0o2;
const ENTER: u32 = 0o5;

pub(super) fn check(directories: Directories<'_>, server: Option<&Server>) -> Vec<Finding> {
    let mut findings: Vec<Finding> = accessible_to_all(directories, server).collect();
    match fs::metadata(directories.run) {
        Err(error) => findings.push(no_run(directories, &error)),
        Ok(run) => {
            let daemons = Daemons::find(directories, &run);
            findings.extend(inaccessible(directories, server, &daemons));
            findings.extend(server.and_then(|server| key(&server.private_key, Some(&daemons))));
            if findings.iter().all(|finding| finding.area != AREA) {
                findings.push(Finding::ok(
                    AREA,
                    format!(
                        "the modes of '{}' and '{}' are right",
                        directories.config.display(),
                        directories.run.display()
                    ),
                ));
            }
            return findings;
        }
    }
    findings.extend(server.and_then(|server| key(&server.private_key, None)));
    findings
}

fn no_run(directories: Directories<'_>, error: &std::io::Error) -> Finding {
    let run = directories.run.display();
    match error.kind() {
        ErrorKind::NotFound if has_systemd() => {
            Finding::warning(AREA, format!("'{run}' doesn't exist yet"), "systemctl start palabre.target")
        }
        ErrorKind::NotFound => {
            let remedy = format!("mkdir -m 750 -p {}", word(directories.run));
            Finding::warning(AREA, format!("'{run}' doesn't exist yet"), remedy)
        }
        _ => Finding::fault(
            AREA,
            format!("unable to read '{run}': {error}"),
            format!("sudo {} check", directories.palabre()),
        ),
    }
}

/// Returns the directories of the configuration. The directory of the private key is included only if it is below `config`.
fn config_directories<'a>(
    directories: Directories<'a>,
    server: Option<&'a Server>,
) -> impl Iterator<Item = PathBuf> + 'a {
    let key = server.and_then(|server| server.private_key.parent());
    let tls = key.filter(|tls| tls.starts_with(directories.config) && *tls != directories.config).map(Path::to_owned);
    [directories.config.to_owned(), directories.config.join(PARTICIPANTS_DIR)].into_iter().chain(tls)
}

/// Reports directories and sockets to which all users have access.
fn accessible_to_all<'a>(
    directories: Directories<'a>,
    server: Option<&'a Server>,
) -> impl Iterator<Item = Finding> + 'a {
    let run = [directories.run.to_owned(), directories.run.join("rooms")];
    let sockets = [directories.run.join("control.sock"), directories.run.join("notify.sock")];
    let directories = config_directories(directories, server).chain(run).filter_map(|path| {
        let mode = fs::metadata(&path).ok()?.mode();
        let remedy = format!("chmod o= {}", word(&path));
        if mode & WRITE != 0 {
            return Some(Finding::fault(AREA, format!("all users can write to '{}'", path.display()), remedy));
        }
        let text = format!("all users can list '{}'", path.display());
        (mode & ENTER != 0).then(|| Finding::warning(AREA, text, remedy))
    });
    directories.chain(sockets.into_iter().filter_map(|path| {
        let mode = fs::metadata(&path).ok()?.mode();
        let text = format!("all users can connect to '{}'", path.display());
        (mode & WRITE != 0).then(|| Finding::fault(AREA, text, format!("chmod o= {}", word(&path))))
    }))
}

/// Reports directories of the configuration that the daemons can't read.
fn inaccessible(directories: Directories<'_>, server: Option<&Server>, daemons: &Daemons) -> Vec<Finding> {
    let unreadable = |path: PathBuf| {
        let metadata = fs::metadata(&path).ok()?;
        let text = format!("the daemons (user {}) can't open '{}'", daemons.uid, path.display());
        (!daemons.may(&metadata, ENTER)).then(|| Finding::fault(AREA, text, daemons.permit(&path, "rx")))
    };
    config_directories(directories, server).filter_map(unreadable).collect()
}

/// Checks that the daemons can read the private key, and that other users can't.
fn key(path: &Path, daemons: Option<&Daemons>) -> Option<Finding> {
    const AREA: &str = "certificate";
    let metadata = fs::metadata(path).ok()?;
    let file = path.display();
    if metadata.mode() & READ != 0 {
        return Some(Finding::fault(AREA, format!("all users can read '{file}'"), format!("chmod o= {}", word(path))));
    }
    let daemons = daemons.filter(|daemons| !daemons.may(&metadata, READ))?;
    let text = format!("the daemons (user {}) can't read '{file}'", daemons.uid);
    Some(Finding::fault(AREA, text, daemons.permit(path, "r")))
}

/// User and groups of the daemons.
struct Daemons {
    uid: u32,
    /// Group ids; the first is the primary group.
    gids: Vec<u32>,
}

impl Daemons {
    /// Returns the user and groups of the running supervisor. If no supervisor runs, returns the owner and group of the runtime directory.
    fn find(directories: Directories<'_>, run: &Metadata) -> Self {
        let supervisor = processes::daemons(directories.run).into_iter().find(|(name, _)| name == "palabre-supervisor");
        let status = supervisor.and_then(|(_, pid)| fs::read_to_string(format!("/proc/{pid}/status")).ok());
        status.and_then(|status| Self::parse(&status)).unwrap_or(Self { uid: run.uid(), gids: vec![run.gid()] })
    }

    /// Parses proc_pid_status(5). Each of its lines `Uid` and `Gid` has four ids; the second is the effective id.
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

    /// Returns a shell command that gives the daemons the permissions `bits` on `path`.
    fn permit(&self, path: &Path, bits: &str) -> String {
        let owns_it = fs::metadata(path).is_ok_and(|file| file.uid() == self.uid);
        match owns_it {
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
    fn user_and_groups_are_read_from_status() {
        let daemons = Daemons::parse("Name:\tx\nUid:\t0\t7\t0\t0\nGid:\t1\t8\t1\t1\nGroups:\t9 10 \n").unwrap();
        assert_eq!((daemons.uid, daemons.gids), (7, vec![8, 9, 10]));
    }
}
