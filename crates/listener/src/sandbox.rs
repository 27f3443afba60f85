//! The listener's sandbox: the files that a listener needs after its start. A listener that an attacker has taken over can use no other files.

use anyhow::{Result, bail};
use palabre_host::sandbox::{Access, Enforced, Sandbox, SandboxError, Strictness};
use palabre_room::{FileId, Name, RoomDir, file_id};
use std::path::{Path, PathBuf};

/// The files of a listener.
#[derive(Debug, Default)]
pub(crate) struct Files {
    room: Option<(RoomDir, Name)>,
    read: Vec<PathBuf>,
}

impl Files {
    /// Adds the files of a participant.
    pub(crate) fn of_participant(mut self, room: RoomDir, name: Name) -> Self {
        self.room = Some((room, name));
        self
    }

    /// Adds files that are read again when they were replaced. The whole directory of each file can be read, and the directory of its target
    /// if it is a symbolic link, because the new file may have another inode or name.
    pub(crate) fn reading(mut self, files: &[PathBuf]) -> Self {
        for file in files {
            let target = file.canonicalize().unwrap_or_else(|_| file.clone());
            self.read.extend([file, &target].map(|file| directory(file).to_owned()));
        }
        self
    }

    /// Enters the sandbox. Call this before the first thread is started.
    pub(crate) fn enter(&self, strictness: Strictness) -> Result<Enforced, SandboxError> {
        self.sandbox().enter(strictness)
    }

    fn sandbox(&self) -> Sandbox {
        let mut sandbox = Sandbox::default();
        if let Some((room, name)) = &self.room {
            sandbox = sandbox
                .permit(Access::List, room.path())
                .permit(Access::Read, room.shown())
                .permit(Access::Read, room.other_machines().path())
                .permit(Access::Write, room.meeting())
                .permit(Access::Write, room.participant(name).path());
        }
        self.read.iter().fold(sandbox, |sandbox, path| sandbox.permit(Access::Read, path))
    }

    /// Returns the participant's directory as Landlock permits it. Returns `None` if Landlock isn't enforced, or if the listener has no room.
    pub(crate) fn permitted(&self, enforced: Enforced) -> Option<Permitted> {
        let (room, name) = self.room.as_ref().filter(|_| enforced.landlock > 0)?;
        let path = room.participant(name).path().to_owned();
        Some(Permitted { id: file_id(&path).ok()?, path })
    }
}

/// The participant's directory as it was when the listener entered its sandbox. Landlock permits this directory, and not a later one
/// with the same path.
#[derive(Debug)]
pub(crate) struct Permitted {
    path: PathBuf,
    id: FileId,
}

impl Permitted {
    /// Fails if the directory was removed, or if another directory has its path now. The sandbox doesn't permit another directory.
    pub(crate) fn check(&self) -> Result<()> {
        let path = self.path.display();
        match file_id(&self.path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                bail!("unable to use '{path}': the directory was removed; the supervisor restarts the listener")
            }
            Ok(id) if id != self.id => bail!(
                "unable to use '{path}': the directory was replaced after the start of this listener, whose sandbox doesn't permit the new one; \
                 the supervisor restarts the listener"
            ),
            _ => Ok(()),
        }
    }
}

/// Returns the file's directory, but the file itself if that directory is the root of the file system.
fn directory(file: &Path) -> &Path {
    match file.parent() {
        Some(parent) if parent == Path::new("") => Path::new("."),
        Some(parent) if parent.parent().is_some() => parent,
        _ => file,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use palabre_room::{Format, Inbox, Member, Message, PipeReader, Start};
    use palabre_testing::attack::{self, Attacker, attempt, open};
    use std::collections::BTreeMap;
    use std::fs::{self, OpenOptions};
    use std::io::Write as _;
    use std::os::unix::fs::symlink;
    use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};

    /// Newest version of Landlock in the table of docs/security.md.
    const NEWEST: u32 = 6;

    fn room(directory: &Path) -> RoomDir {
        RoomDir::new(directory.join("rooms/main"))
    }

    fn name(text: &str) -> Name {
        text.parse().unwrap()
    }

    /// Tries, as an attacker in the listener's process, to use files that don't belong to its participant.
    fn attack_files(attacker: &Attacker) {
        let (directory, room) = (&attacker.directory, room(&attacker.directory));
        let [alice, bob] = ["alice", "bob"].map(|who| room.participant(&name(who)));
        attempt("read `/etc/passwd`", fs::read("/etc/passwd"));
        attempt("read another service's key", fs::read(directory.join("other/key.pem")));
        attempt("read a participant's file", fs::read(directory.join("etc/participants.d/bob.toml")));
        attempt("list `/etc`", fs::read_dir("/etc"));
        attempt("hear in another's place", open(&bob.ear(), OpenOptions::new().read(true)));
        attempt("listen at another's microphone", open(&bob.mic(), OpenOptions::new().read(true)));
        attempt("speak as another", open(&bob.mic(), OpenOptions::new().write(true)));
        attempt("mute another", fs::write(bob.path().join("gain"), "mute\n"));
        attempt("rename everybody", fs::write(room.shown().join("names"), "bob\there\tMallory\n"));
        attempt(
            "rename the people of another machine",
            fs::write(room.other_machines().path().join("paris"), "connected\n"),
        );
        attempt("truncate another's file", nix::unistd::truncate(&bob.path().join("gain"), 0).map_err(Into::into));
        attempt("remove another's microphone", fs::remove_file(bob.path().join("mic")));
        attempt("link another's ear", fs::hard_link(bob.ear(), alice.path().join("link")));
        attempt("make a symbolic link", symlink("/etc/passwd", alice.path().join("symbolic")));
        attempt("make a participant", fs::create_dir(room.path().join("mallory")));
        attempt("make a file in the room", fs::write(room.path().join("levels"), ""));
        attempt("read the own program", fs::read("/proc/self/exe"));
        let socket = UnixDatagram::unbound().unwrap();
        attempt("send a text as another participant", socket.send_to(b"bob\t1\thello", bob.path().join("inbox")));
        attempt("connect to a socket of another service", UnixStream::connect(directory.join("control.sock")));
        attempt("change the kept texts of the room", fs::write(room.meeting().join("texts"), ""));
    }

    /// Does what a listener does after its start. The sandbox must permit all of this.
    fn work(directory: &Path) {
        let room = room(directory);
        let alice = room.participant(&name("alice"));
        assert_eq!(room.names().unwrap().len(), 2);
        assert_eq!(room.participants().unwrap().len(), 2);
        let machines = room.other_machines();
        assert!(machines.machines().unwrap().iter().all(|name| machines.read(name).unwrap().is_some()));
        let message = Message::new(name("alice").into(), "hello").unwrap().with_id("1").unwrap();
        assert!(room.keep_message(&message, 5).unwrap());
        assert_eq!(room.kept_messages(5).unwrap().len(), 1);
        alice.join_meeting(5).unwrap();
        alice.set_presence(palabre_room::Presence { hand: true, ..Default::default() }).unwrap();
        let inbox = Inbox::bind(&alice).unwrap();
        assert_eq!(room.tell(&message).unwrap(), 2);
        assert_eq!(inbox.receive(2).0, 1);
        PipeReader::open(&alice.ear(), Format::default(), Start::Discard).unwrap();
        open(&alice.mic(), OpenOptions::new().read(true).write(true)).unwrap();
        fs::read(directory.join("etc/tls/cert.pem")).unwrap();
        assert_eq!(std::thread::spawn(|| 7).join().unwrap(), 7);
        let (mut one, _other) = UnixStream::pair().unwrap();
        one.set_nonblocking(true).unwrap();
        one.write_all(b"x").unwrap();
        UnixStream::connect(directory.join("control.sock")).unwrap();
    }

    /// Does nothing in a normal test run. [`attack`] runs this test in another process, which then enters the sandbox and makes the attempts.
    #[test]
    fn attacker() {
        let Some(attacker) = Attacker::here() else { return };
        let (directory, room) = (&attacker.directory, room(&attacker.directory));
        let files = Files::default()
            .of_participant(room.clone(), name("alice"))
            .reading(&[directory.join("etc/tls/cert.pem"), directory.join("etc/tls/key.pem")]);
        palabre_host::process::share_with_the_group_only();
        let enforced =
            files.sandbox().limit(attacker.landlock, attacker.seccomp).enter(Strictness::BestEffort).unwrap();
        println!("\nenforced\t{enforced}");
        work(directory);
        attack_files(&attacker);
        let [alice, bob] = ["alice", "bob"].map(|who| room.participant(&name(who)));
        attacker.attack_others(alice.path(), &bob.path().join("gain"));
    }

    /// Makes the attempts in a sandbox with these parts. Returns for each attempt whether it was refused, and the version of Landlock.
    fn attack(landlock: u32, seccomp: bool) -> (BTreeMap<String, bool>, u32) {
        let directory = tempfile::tempdir().unwrap();
        let at = directory.path();
        let room = room(at);
        room.create(Format::default()).unwrap();
        room.write_names(&["alice", "bob"].map(|who| Member::new(name(who), who, true))).unwrap();
        let [_, bob] = ["alice", "bob"].map(|who| {
            let participant = room.participant(&name(who));
            participant.create().unwrap();
            participant
        });
        room.other_machines().write(&name("paris"), &palabre_room::MachineState::default()).unwrap();
        for file in ["etc/tls/cert.pem", "etc/tls/key.pem", "etc/participants.d/bob.toml", "other/key.pem"] {
            fs::create_dir_all(at.join(file).parent().unwrap()).unwrap();
            fs::write(at.join(file), "secret").unwrap();
        }
        fs::write(bob.path().join("gain"), "0\n").unwrap();
        let _mixer = PipeReader::open(&bob.mic(), Format::default(), Start::Discard).unwrap();
        let _inbox = Inbox::bind(&bob).unwrap();
        let _control = UnixListener::bind(at.join("control.sock")).unwrap();
        let (attempts, text) = attack::run("sandbox::tests::attacker", at, landlock, seccomp);
        let enforced = text.lines().find_map(|line| line.strip_prefix("enforced\tLandlock ")).unwrap_or("0");
        (attempts, enforced[..1].parse().unwrap())
    }

    /// Returns the table of docs/security.md: for each attempt a cell for each version of Landlock.
    fn table() -> BTreeMap<String, Vec<String>> {
        let text = include_str!("../../../docs/security.md");
        let table = text.split("\n| attempt | ABI 1 |").nth(1).unwrap().split("\n\n").next().unwrap();
        let rows =
            table.lines().skip(2).map(|line| line.trim_matches('|').split('|').map(|cell| cell.trim().to_owned()));
        rows.map(|mut cells| (cells.next().unwrap(), cells.collect())).collect()
    }

    /// Makes all attempts with each part of the sandbox alone. Returns the lines of the table, up to the newest version of this kernel.
    fn measured() -> BTreeMap<String, Vec<String>> {
        let (by_seccomp, _) = attack(0, true);
        let mut lines: BTreeMap<String, Vec<String>> =
            by_seccomp.keys().map(|what| (what.clone(), Vec::new())).collect();
        for version in 1..=NEWEST {
            let (by_landlock, enforced) = attack(version, false);
            if enforced < version {
                break;
            }
            assert_eq!(by_landlock.len(), by_seccomp.len());
            for (what, is_refused) in by_landlock {
                let cell = match (is_refused, by_seccomp[&what]) {
                    (true, true) => "both",
                    (true, false) => "Landlock",
                    (false, true) => "seccomp",
                    (false, false) => "no",
                };
                lines.get_mut(&what).unwrap().push(cell.to_owned());
            }
        }
        lines
    }

    #[test]
    fn table_says_which_part_of_the_sandbox_refuses_each_attempt_with_each_version_of_landlock() {
        if !nix::unistd::geteuid().is_root() {
            return palabre_testing::not_shown(
                "which part refuses each attempt",
                "other users may not make all of them",
            );
        }
        let measured = measured();
        let versions = measured.values().map(Vec::len).max().unwrap();
        if versions < NEWEST as usize {
            palabre_testing::not_shown("the whole table of attempts", &format!("this kernel has Landlock {versions}"));
        }
        let documented: BTreeMap<_, _> = table()
            .into_iter()
            .map(|(what, cells)| (what, cells.into_iter().take(versions).collect::<Vec<_>>()))
            .collect();
        let line = |(what, cells): (&String, &Vec<String>)| format!("| {what} | {} |\n", cells.join(" | "));
        let text: String = measured.iter().map(line).collect();
        assert!(documented == measured, "write this table into docs/security.md:\n{text}");
    }

    #[test]
    fn taken_over_listener_can_use_only_its_own_files_and_calls() {
        let (attempts, landlock) = attack(NEWEST, true);
        if landlock < NEWEST {
            palabre_testing::not_shown(
                "the whole sandbox of a listener",
                &format!("this kernel has Landlock {landlock}"),
            );
        }
        let table = table();
        for (what, is_refused) in &attempts {
            let by_seccomp = table[what].iter().all(|cell| cell == "both" || cell == "seccomp");
            let cell = (landlock as usize).checked_sub(1).map(|at| table[what][at].as_str());
            let is_expected = cell.map_or(by_seccomp, |cell| cell != "no");
            assert!(*is_refused >= is_expected, "{what}");
        }
        assert_eq!(attempts.len(), table.len());
    }

    #[test]
    fn listener_without_its_sandbox_could_do_all_of_this() {
        if !nix::unistd::geteuid().is_root() {
            return palabre_testing::not_shown(
                "that all attempts succeed without the sandbox",
                "only root may make all of them",
            );
        }
        let (attempts, _) = attack(0, false);
        let refused: Vec<_> = attempts.iter().filter(|(_, is_refused)| **is_refused).collect();
        assert!(refused.is_empty() && attempts.len() == table().len(), "{refused:?}");
    }
}
