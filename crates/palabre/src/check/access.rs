//! Checks that the daemons' user can use the files of the configuration, the certificate and the rooms, and that the users of the mixer and the listeners can use the rooms.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::fs::{self, Metadata};
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};

use palabre_config::{PARTICIPANTS_DIR, Participant, SERVER_FILE, Server};
use palabre_host::access::{READ, SEARCH, User, WRITE};
use palabre_room::{Name, RoomDir};

use super::context::{Directories, has_systemd, word};
use super::finding::Finding;
use crate::cli::RUN;
use crate::{permission, processes};

/// Maximum number of symbolic links on the way to a file, as in path_resolution(7).
const MAX_LINKS: usize = 40;
/// Mode bits of the group.
const GROUP: u32 = 0o070;
/// The set-group-ID bit of a directory, which makes new files inherit the directory's group.
pub(super) const SET_GROUP_ID: u32 = 0o2000;
/// Bit of a directory's mode: only the owner of an entry or of the directory may remove or rename the entry.
pub(super) const STICKY: u32 = 0o1000;
/// Directories that the installed units hide from the daemons: `ProtectHome=` and `PrivateTmp=` of systemd.exec(5).
const HIDDEN: [&str; 5] = ["/home", "/root", "/run/user", "/tmp", "/var/tmp"];

/// A file, the permissions that the daemons need on it, and the area of the finding.
struct Need {
    area: &'static str,
    path: PathBuf,
    bits: u32,
}

/// Reports each file that the daemons can't use, with every directory on the way to it that they can't open.
pub(super) fn check(
    directories: Directories<'_>,
    server: Option<&Server>,
    participants: &[Participant],
) -> Vec<Finding> {
    const AREA: &str = "directories";
    let Some(user) = daemons(directories) else { return Vec::new() };
    if user.may(Path::new("/"), SEARCH).is_none() {
        let text = format!("can't see as this user what the daemons (user {}) can read", name(&user));
        return vec![Finding::unseen(AREA, text, directories)];
    }
    let rooms = directories.run.join("rooms");
    let mut findings = Vec::new();
    let signer = of_program(directories, "palabre-signer").filter(|signer| signer.uid != user.uid);
    let mixer = of_program(directories, "palabre-mixer").filter(|mixer| mixer.uid != user.uid);
    let listeners = of_program(directories, "palabre-launcher").filter(|listeners| listeners.uid != user.uid);
    let key = server.map(|server| &server.private_key);
    for need in needs(directories, server, participants) {
        let is_key = Some(&need.path) == key;
        // No signer runs, but the key's group is that of the signer's own user. That user will read the key, and the daemons' user need not.
        if is_key && signer.is_none() && is_of_signer(&need.path) {
            continue;
        }
        let user = signer.as_ref().filter(|_| is_key).unwrap_or(&user);
        let mixer = mixer.as_ref().filter(|_| need.path.starts_with(&rooms));
        // The listeners also read palabre.toml.
        let is_of_listeners = need.path.starts_with(&rooms) || need.area == "configuration";
        let listeners = listeners.as_ref().filter(|_| is_of_listeners);
        for user in [Some(user), mixer, listeners].into_iter().flatten() {
            // The other checks report a file that doesn't exist.
            if fs::metadata(&need.path).is_ok() && user.may(&need.path, need.bits) == Some(false) {
                let new = denied(user, &need, &rooms);
                findings.extend(new.into_iter().filter(|one| !findings.contains(one)).collect::<Vec<_>>());
            }
        }
        findings.extend(hidden(directories, &need));
    }
    if let (Some(signer), Some(key)) = (signer, key) {
        findings.extend(readable_key(listeners.as_ref().unwrap_or(&user), &signer, key));
    }
    findings.extend(new_files(&user, &directories.config.join(PARTICIPANTS_DIR)));
    findings
}

/// Returns the user of a running daemon.
fn of_program(directories: Directories<'_>, program: &str) -> Option<User> {
    let daemon = processes::daemons(directories.run).into_iter().find(|(name, _)| name == program);
    daemon.and_then(|(_, pid)| User::of_process(pid))
}

fn is_of_signer(key: &Path) -> bool {
    fs::metadata(key).is_ok_and(|key| permission::group_name(key.gid()) == processes::SIGNER_USER)
}

/// Reports that the user of the listeners can read the private key, which only the signer needs.
fn readable_key(user: &User, signer: &User, key: &Path) -> Option<Finding> {
    if user.may(key, READ) != Some(true) {
        return None;
    }
    let text = format!("the listeners (user {}) can read '{}', which only the signer needs", name(user), key.display());
    let group = permission::group_name(signer.gids.first().copied().unwrap_or_default());
    // If the listeners' user owns the file, another group isn't enough: an owner with mode 640 can read the file.
    let is_owner = fs::metadata(key).is_ok_and(|file| file.uid() == user.uid);
    let change = if is_owner { format!("chown root:{group}") } else { format!("chgrp {group}") };
    Some(Finding::warning("certificate", text, format!("{change} {0} && chmod 640 {0}", word(key))))
}

/// Warns if the daemons may be unable to read files that an editor or another program creates in `directory`: without the set-group-ID bit,
/// such a file has the group of its creator.
fn new_files(user: &User, directory: &Path) -> Option<Finding> {
    let metadata = fs::metadata(directory).ok()?;
    let reads_as_group = user.uid != 0 && user.uid != metadata.uid() && user.gids.contains(&metadata.gid());
    let is_missing = reads_as_group && metadata.mode() & SET_GROUP_ID == 0;
    let (daemons, path) = (name(user), directory.display());
    let text = format!("the daemons (user {daemons}) may be unable to read files that an editor creates in '{path}'");
    is_missing.then(|| Finding::warning("directories", text, format!("chmod g+s {}", word(directory))))
}

/// Returns the user of the running supervisor. If no supervisor runs, returns the owner and group of the runtime directory.
fn daemons(directories: Directories<'_>) -> Option<User> {
    of_program(directories, "palabre-supervisor").or_else(|| {
        let run = fs::metadata(directories.run).ok()?;
        Some(User { uid: run.uid(), gids: vec![run.gid()] })
    })
}

fn needs(directories: Directories<'_>, server: Option<&Server>, participants: &[Participant]) -> Vec<Need> {
    let need = |area, path: PathBuf, bits| Need { area, path, bits };
    let config = directories.config;
    let mut needs = vec![
        need("directories", config.join(PARTICIPANTS_DIR), READ | SEARCH),
        need("configuration", config.join(SERVER_FILE), READ),
        need("directories", directories.run.to_owned(), READ | WRITE | SEARCH),
        need("directories", directories.run.join("rooms"), READ | WRITE | SEARCH),
    ];
    needs.extend(participants.iter().map(|one| need("participants", Participant::path(config, &one.name), READ)));
    for file in server.iter().flat_map(|server| [&server.certificate, &server.private_key]) {
        needs.push(need("certificate", file.clone(), READ));
    }
    for room in rooms(directories).into_iter().filter(|room| is_no_link(room.path())) {
        needs.push(need("rooms", room.path().to_owned(), READ | WRITE | SEARCH));
        let participants = room.participants().unwrap_or_default();
        for one in participants.iter().map(|name| room.participant(name)).filter(|one| is_no_link(one.path())) {
            needs.push(need("rooms", one.path().to_owned(), READ | WRITE | SEARCH));
            let pipes = [one.mic(), one.ear()].into_iter().filter(|pipe| is_no_link(pipe));
            needs.extend(pipes.map(|pipe| need("rooms", pipe, READ | WRITE)));
        }
    }
    needs
}

/// Returns whether `path` is no symbolic link. Every member of the group can make a link in a room, to a file outside.
fn is_no_link(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|file| !file.is_symlink())
}

/// Returns the rooms. Entries whose name is no valid room name, such as the mixer's files, are ignored.
pub(super) fn rooms(directories: Directories<'_>) -> Vec<RoomDir> {
    let entries = fs::read_dir(directories.run.join("rooms")).into_iter().flatten().flatten();
    let is_room = |entry: &fs::DirEntry| entry.file_name().to_str().is_some_and(|name| name.parse::<Name>().is_ok());
    entries.filter(is_room).map(|room| RoomDir::new(room.path())).collect()
}

/// Returns a fault for the file and for each directory on the way to it whose mode denies the permission.
///
/// Every member of the group can replace a path in `rooms` by a link at any time, and chmod(1) and chgrp(1) follow links. So the remedy for
/// a path in `rooms` is to move the file away.
fn denied(user: &User, need: &Need, rooms: &Path) -> Vec<Finding> {
    let mut route = route(&need.path);
    let file = route.pop().map(|file| (file, need.bits));
    let steps = route.into_iter().map(|directory| (directory, SEARCH)).chain(file);
    let denies = |(path, bits): (PathBuf, u32)| {
        let metadata = fs::metadata(&path).ok()?;
        if mode_permits(user, &metadata, bits) {
            return None;
        }
        let verb = match metadata.is_dir() {
            true if bits & WRITE != 0 => "use",
            true => "open",
            false if bits & WRITE != 0 => "write to",
            false => "read",
        };
        let text = format!("the daemons (user {}) can't {verb} '{}'", name(user), path.display());
        let remedy = match path.strip_prefix(rooms) {
            Ok(inside) if !inside.as_os_str().is_empty() => format!("mv {0} {0}.old", word(&path)),
            _ => permit(user, &path, &metadata, bits),
        };
        Some(Finding::fault(need.area, text, remedy))
    };
    let findings: Vec<Finding> = steps.filter_map(denies).collect();
    if findings.is_empty() {
        let text = format!(
            "the daemons (user {}) can't open '{}', although the modes permit it",
            name(user),
            need.path.display()
        );
        let remedy = format!("namei -l {0}; getfacl {0}  # shows modes and access control lists", word(&need.path));
        return vec![Finding::fault(need.area, text, remedy)];
    }
    findings
}

fn mode_permits(user: &User, file: &Metadata, bits: u32) -> bool {
    let shift = match file {
        file if file.uid() == user.uid => 6,
        file if user.gids.contains(&file.gid()) => 3,
        _ => 0,
    };
    user.uid == 0 || file.mode() >> shift & bits == bits
}

/// Returns a shell command that gives the daemons the permissions `bits` and takes no permission away from others. For a directory whose
/// entries the daemons read, also sets the set-group-ID bit, so that new files get the directory's group.
fn permit(user: &User, path: &Path, file: &Metadata, bits: u32) -> String {
    let letters: String = [(READ, 'r'), (WRITE, 'w'), (SEARCH, 'x')]
        .iter()
        .filter_map(|(bit, letter)| (bits & bit != 0).then_some(*letter))
        .collect();
    let path = word(path);
    if file.uid() == user.uid {
        return format!("chmod u+{letters} {path}");
    }
    let letters = if file.is_dir() && bits & READ != 0 { letters + "s" } else { letters };
    if user.gids.contains(&file.gid()) {
        return format!("chmod g+{letters} {path}");
    }
    // Another group uses this file, so the remedy makes `user` a member of that group, instead of giving the file another group.
    if file.gid() != 0 && file.mode() & GROUP != 0 {
        let join = format!("usermod -aG {} {}", permission::group_name(file.gid()), name(user));
        let restart = if has_systemd() { " && systemctl restart palabre.target" } else { "" };
        return format!("chmod g+{letters} {path} && {join}{restart}");
    }
    let gid = user.gids.first().copied().unwrap_or_default();
    format!("chgrp {} {path} && chmod g+{letters} {path}", permission::group_name(gid))
}

/// Reports a file of the certificate in a directory that systemd hides from the daemons.
fn hidden(directories: Directories<'_>, need: &Need) -> Option<Finding> {
    if !has_systemd() || directories.run != Path::new(RUN) || need.area != "certificate" {
        return None;
    }
    let route = route(&need.path);
    let hidden = HIDDEN.iter().find(|hidden| route.iter().any(|step| step == Path::new(hidden)))?;
    let text = format!("'{}' is in '{hidden}', which systemd hides from the daemons", need.path.display());
    let tls = word(&directories.config.join("tls"));
    let remedy = format!(
        "copy the file to {tls}, change its path in '{SERVER_FILE}', then run {} reload",
        directories.palabre()
    );
    Some(Finding::fault(need.area, text, remedy))
}

/// Returns every directory that the kernel searches on the way to `path`, then the file itself: path_resolution(7).
fn route(path: &Path) -> Vec<PathBuf> {
    let names = |path: &Path| path.components().map(|part| part.as_os_str().to_owned()).collect::<VecDeque<OsString>>();
    let (mut at, mut route, mut links) = (PathBuf::from("/"), vec![PathBuf::from("/")], 0);
    let mut rest = names(&std::path::absolute(path).unwrap_or_else(|_| path.to_owned()));
    while let Some(next) = rest.pop_front() {
        match Path::new(&next).components().next() {
            Some(Component::ParentDir) => drop(at.pop()),
            Some(Component::Normal(_)) => match fs::read_link(at.join(&next)) {
                Ok(target) if links < MAX_LINKS => {
                    links += 1;
                    rest = names(&target).into_iter().chain(rest).collect();
                    continue;
                }
                _ => at.push(&next),
            },
            Some(Component::RootDir) => at = PathBuf::from("/"),
            _ => continue,
        }
        if route.last() != Some(&at) {
            route.push(at.clone());
        }
    }
    route
}

fn name(user: &User) -> String {
    permission::user_name(user.uid)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn the_route_of_a_link_has_the_directories_of_link_and_target() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path().canonicalize().unwrap();
        for directory in ["live/voice", "archive/voice"] {
            fs::create_dir_all(root.join(directory)).unwrap();
        }
        fs::write(root.join("archive/voice/key1.pem"), "").unwrap();
        symlink("../../archive/voice/key1.pem", root.join("live/voice/key.pem")).unwrap();
        symlink(root.join("live"), root.join("tls")).unwrap();
        let steps = route(&root.join("tls/voice/key.pem"));
        for step in ["", "live", "live/voice", "archive", "archive/voice"] {
            assert!(steps.contains(&root.join(step).components().collect()), "{step}: {steps:?}");
        }
        assert_eq!(steps.last(), Some(&root.join("archive/voice/key1.pem")));
        symlink("loop", root.join("loop")).unwrap();
        assert_eq!(route(&root.join("loop")).last(), Some(&root.join("loop")));
    }

    #[test]
    fn directory_whose_new_files_have_the_creators_group_is_reported() {
        let directory = tempfile::tempdir().unwrap();
        let metadata = directory.path().metadata().unwrap();
        let group = User { uid: 54_321, gids: vec![metadata.gid()] };
        let found = new_files(&group, directory.path()).unwrap();
        assert_eq!(found.remedy, Some(format!("chmod g+s {}", directory.path().display())));
        let owner = User { uid: metadata.uid(), ..group.clone() };
        assert_eq!(new_files(&owner, directory.path()), None);
        fs::set_permissions(directory.path(), std::os::unix::fs::PermissionsExt::from_mode(0o2750)).unwrap();
        assert_eq!(new_files(&group, directory.path()), None);
    }

    #[test]
    fn remedy_keeps_the_access_of_other_groups() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let metadata = file.as_file().metadata().unwrap();
        let user = |uid, gid| User { uid, gids: vec![gid] };
        let path = file.path().display();
        let own = permit(&user(metadata.uid(), 54_321), file.path(), &metadata, READ);
        assert_eq!(own, format!("chmod u+r {path}"));
        let member = permit(&user(54_321, metadata.gid()), file.path(), &metadata, READ | SEARCH);
        assert_eq!(member, format!("chmod g+rx {path}"));
        let other = permit(&user(54_321, 54_321), file.path(), &metadata, READ);
        assert_eq!(other, format!("chgrp 54321 {path} && chmod g+r {path}"));
    }
}
