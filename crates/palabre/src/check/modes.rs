//! Checks the modes of the directories, the sockets and the private key. Only daemons and operators may have access.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use palabre_config::{PARTICIPANTS_DIR, Server};

use super::context::{Directories, has_systemd, word};
use super::finding::Finding;

const AREA: &str = "directories";
const READ: u32 = 0o4;
const WRITE: u32 = 0o2;
const ENTER: u32 = 0o5;
/// Permission to reach the entries of a directory.
const PASS: u32 = 0o1;

/// Appends the findings about the modes to `findings`, and returns all. `findings` has the findings of earlier checks; if one is about
/// directories, no finding says that the modes are right.
pub(super) fn check(directories: Directories<'_>, server: Option<&Server>, mut findings: Vec<Finding>) -> Vec<Finding> {
    findings.extend(accessible_to_all(directories, server));
    findings.extend(fs::metadata(directories.run).err().map(|error| no_run(directories, &error)));
    if findings.iter().all(|finding| finding.area != AREA) {
        let (config, run) = (directories.config.display(), directories.run.display());
        findings.push(Finding::ok(AREA, format!("the modes of '{config}' and '{run}' are right")));
    }
    findings.extend(server.and_then(|server| key(&server.private_key)));
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
        _ => Finding::unseen(AREA, format!("can't see '{run}' as this user: {error}"), directories),
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
    // No other user reaches the directory of the certificate if the directory of the configuration is closed.
    let is_closed = fs::metadata(directories.config).is_ok_and(|config| config.mode() & PASS == 0);
    let tls = server.and_then(|server| server.private_key.parent());
    let is_reached = move |path: &Path| !is_closed || path == directories.config || Some(path) != tls;
    let sockets = [directories.run.join("control.sock"), directories.run.join("notify.sock")];
    let directories = config_directories(directories, server).chain(run).filter_map(move |path| {
        let mode = fs::metadata(&path).ok()?.mode();
        let remedy = format!("chmod o= {}", word(&path));
        if mode & WRITE != 0 {
            return Some(Finding::fault(AREA, format!("all users can write to '{}'", path.display()), remedy));
        }
        let text = format!("all users can list '{}'", path.display());
        let is_open = mode & ENTER != 0 && is_reached(&path);
        is_open.then(|| Finding::warning(AREA, text, remedy))
    });
    directories.chain(sockets.into_iter().filter_map(|path| {
        let mode = fs::metadata(&path).ok()?.mode();
        let text = format!("all users can connect to '{}'", path.display());
        (mode & WRITE != 0).then(|| Finding::fault(AREA, text, format!("chmod o= {}", word(&path))))
    }))
}

/// Checks that not all users can read the private key.
fn key(path: &Path) -> Option<Finding> {
    const AREA: &str = "certificate";
    let text = format!("all users can read '{}'", path.display());
    let is_open = fs::metadata(path).ok()?.mode() & READ != 0;
    is_open.then(|| Finding::fault(AREA, text, format!("chmod o= {}", word(path))))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn open_directory_of_the_certificate_is_reported_only_if_all_users_reach_it() {
        let root = tempfile::tempdir().unwrap();
        let (config, run) = (root.path().join("config"), root.path().join("run"));
        let directories = Directories { config: &config, run: &run };
        fs::create_dir_all(config.join("tls")).unwrap();
        let server = Server::load(&config).unwrap();
        let set = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
        set(&config.join("tls"), 0o755);
        set(&config, 0o750);
        let found = || accessible_to_all(directories, Some(&server)).map(|one| one.text).collect::<Vec<_>>();
        assert_eq!(found(), [""; 0]);
        set(&config, 0o755);
        let tls = format!("all users can list '{}'", config.join("tls").display());
        assert_eq!(found().last(), Some(&tls));
    }
}
