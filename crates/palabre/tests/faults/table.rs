//! The faults of a directory: how to make each, and the finding of `palabre check` that is expected for it.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime};

use palabre_config::{Moment, Participant};
use palabre_room::{Format, RoomDir};
use rcgen::{CertificateParams, KeyPair};

use crate::invite;

/// The first line of files made by `palabre self-sign`.
const OURS: &str = "Self-signed by palabre, for a start: browsers warn of it.\n";
const DAY: Duration = Duration::from_secs(86_400);
/// User id of the daemons in these tests. No user has it.
pub const DAEMONS: u32 = 54_321;

/// A function that makes a fault in a directory, and the finding that is expected for it.
#[derive(Clone, Copy)]
pub struct Fault {
    pub make: fn(&Path),
    pub level: &'static str,
    pub area: &'static str,
    pub text: &'static str,
    /// The expected remedy. DIR stands for the directory, PALABRE for `palabre` with its options.
    pub remedy: &'static str,
    /// Whether the test can run the remedy.
    pub runnable: bool,
}

fn fault(make: fn(&Path), area: &'static str, text: &'static str, remedy: &'static str) -> Fault {
    Fault { make, level: "fault", area, text, remedy, runnable: true }
}

fn warning(make: fn(&Path), area: &'static str, text: &'static str, remedy: &'static str) -> Fault {
    Fault { level: "warning", ..fault(make, area, text, remedy) }
}

/// Marks a fault whose remedy only the operator can perform, so the test can't run it.
fn by_hand(fault: Fault) -> Fault {
    Fault { runnable: false, ..fault }
}

pub fn mode(path: &Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

pub fn tls(directory: &Path, file: &str) -> PathBuf {
    directory.join("tls").join(file)
}

/// Writes a certificate that is valid from day `from` to day `to`, counted from today, and its key.
fn certify(directory: &Path, from: i64, to: i64, mark: &str) {
    let now = SystemTime::now();
    let day = |days: i64| match u32::try_from(days) {
        Ok(days) => now + DAY * days,
        Err(_) => now - DAY * u32::try_from(-days).unwrap(),
    };
    let mut params = CertificateParams::new(["localhost".to_owned()]).unwrap();
    (params.not_before, params.not_after) = (day(from).into(), day(to).into());
    let key = KeyPair::generate().unwrap();
    let certificate = params.self_signed(&key).unwrap();
    fs::write(tls(directory, "cert.pem"), mark.to_owned() + &certificate.pem()).unwrap();
    fs::write(tls(directory, "key.pem"), mark.to_owned() + &key.serialize_pem()).unwrap();
}

/// Appends a line to `palabre.toml`. It becomes line 3.
fn set(directory: &Path, line: &str) {
    let file = directory.join("palabre.toml");
    let text = fs::read_to_string(&file).unwrap();
    fs::write(file, format!("{text}{line}\n")).unwrap();
}

pub fn alice(directory: &Path) -> PathBuf {
    Participant::path(directory, &"alice".parse().unwrap())
}

/// Returns all faults. If the test runs as root, the daemons are another user.
pub fn all(is_root: bool) -> impl Iterator<Item = Fault> {
    [certificates(), proxies(), directories(), participants(), daemons(is_root)].into_iter().flatten()
}

pub fn room(directory: &Path) -> RoomDir {
    fs::create_dir_all(directory.join("run/rooms")).unwrap();
    mode(&directory.join("run"), 0o750);
    mode(&directory.join("run/rooms"), 0o770);
    let room = RoomDir::new(directory.join("run/rooms/main"));
    room.create(Format::default()).unwrap();
    room.participant(&"alice".parse().unwrap()).create().unwrap();
    room
}

fn proxies() -> Vec<Fault> {
    vec![by_hand(warning(
        |at| set(at, "link = \"https://localhost/{name}/\""),
        "proxy",
        "the links 'https://localhost/{name}/' lead to a proxy, so the listeners' log has the proxy's address for every client: [proxy] is missing in palabre.toml",
        "${EDITOR:-vi} DIR/palabre.toml && PALABRE reload  # add [proxy]: /usr/share/doc/palabre/proxies.md",
    ))]
}

fn certificates() -> Vec<Fault> {
    const RENEW: &str = "renew the certificate at its certificate authority, then run PALABRE reload";
    const ANEW: &str = "PALABRE self-sign --replace";
    vec![
        by_hand(fault(|at| certify(at, -100, -1, ""), "certificate", "cert.pem' expired on 2", RENEW)),
        fault(|at| certify(at, -100, -1, OURS), "certificate", "cert.pem' expired on 2", ANEW),
        by_hand(warning(|at| certify(at, -1, 9, ""), "certificate", "cert.pem' expires in 8 days", RENEW)),
        by_hand(fault(
            |at| certify(at, 1, 100, OURS),
            "certificate",
            "cert.pem' is not valid before 2",
            "set this machine's clock (timedatectl set-ntp true), or get a certificate that is valid now",
        )),
        fault(|at| fs::write(tls(at, "cert.pem"), OURS).unwrap(), "certificate", "contains no certificate", ANEW),
        by_hand(fault(
            |at| fs::write(tls(at, "cert.pem"), "theirs").unwrap(),
            "certificate",
            "contains no certificate",
            "${EDITOR:-vi} DIR/palabre.toml && PALABRE reload  # name the right file in 'certificate', or put a valid file there",
        )),
        by_hand(fault(
            |at| set(at, "certificate = \"tls/cret.pem\""),
            "certificate",
            "cret.pem': No such file",
            "${EDITOR:-vi} +3 DIR/palabre.toml && PALABRE reload  # name the right file in 'certificate', or put a valid file there",
        )),
        by_hand(fault(
            |at| set(at, "private-key = \"tls/kay.pem\""),
            "certificate",
            "kay.pem': No such file",
            "${EDITOR:-vi} +3 DIR/palabre.toml && PALABRE reload  # name the right file in 'private-key', or put a valid file there",
        )),
        by_hand(fault(
            |at| {
                certify(at, -1, 100, "");
                fs::remove_file(tls(at, "cert.pem")).unwrap();
            },
            "certificate",
            "cert.pem': No such file",
            "${EDITOR:-vi} DIR/palabre.toml && PALABRE reload  # name the right file in 'certificate', or put a valid file there",
        )),
        fault(
            |at| {
                for file in ["cert.pem", "key.pem"] {
                    fs::remove_file(tls(at, file)).unwrap();
                }
                fs::remove_dir(at.join("tls")).unwrap();
            },
            "certificate",
            "cert.pem': No such file",
            "mkdir -p DIR/tls && PALABRE self-sign",
        ),
        fault(|at| fs::remove_file(tls(at, "cert.pem")).unwrap(), "certificate", "cert.pem': No such file", ANEW),
        fault(|at| fs::remove_file(tls(at, "key.pem")).unwrap(), "certificate", "key.pem': No such file", ANEW),
        fault(
            |at| {
                let cert = fs::read(tls(at, "cert.pem")).unwrap();
                certify(at, -1, 100, OURS);
                fs::write(tls(at, "cert.pem"), cert).unwrap();
            },
            "certificate",
            "key.pem' is not the certificate's key",
            ANEW,
        ),
        by_hand(fault(
            |at| {
                let other = ["ecparam", "-name", "prime256v1", "-genkey", "-noout"];
                let sec1 = Command::new("openssl").args(other).output().unwrap();
                assert!(sec1.stdout.starts_with(b"-----BEGIN EC PRIVATE KEY-----"), "{sec1:?}");
                fs::write(tls(at, "key.pem"), sec1.stdout).unwrap();
            },
            "certificate",
            "key.pem' is not the certificate's key",
            "${EDITOR:-vi} DIR/palabre.toml && PALABRE reload  # name the right file in 'private-key', or put a valid file there",
        )),
        by_hand(fault(
            |at| {
                let encrypt = ["pkcs8", "-topk8", "-passout", "pass:secret", "-in"];
                let key = Command::new("openssl").args(encrypt).arg(tls(at, "key.pem")).output().unwrap();
                fs::write(tls(at, "key.pem"), key.stdout).unwrap();
            },
            "certificate",
            "key.pem': the private key is encrypted with a passphrase",
            "key=$(openssl pkey -in DIR/tls/key.pem) && echo \"$key\" >DIR/tls/key.pem",
        )),
        fault(
            |at| mode(&tls(at, "key.pem"), 0o644),
            "certificate",
            "all users can read 'DIR/tls/key.pem'",
            "chmod o= DIR/tls/key.pem",
        ),
    ]
}

fn directories() -> Vec<Fault> {
    const LOOK: &str = "all users can list '";
    const WRITE: &str = "all users can write to '";
    vec![
        fault(|at| mode(&at.join("participants.d"), 0o777), "directories", WRITE, "chmod o= DIR/participants.d"),
        warning(|at| mode(at, 0o755), "directories", LOOK, "chmod o= DIR"),
        warning(
            |at| {
                room(at);
                mode(&at.join("run"), 0o755);
            },
            "directories",
            LOOK,
            "chmod o= DIR/run",
        ),
        fault(
            |at| {
                room(at);
                mode(&at.join("run"), 0o777);
            },
            "directories",
            WRITE,
            "chmod o= DIR/run",
        ),
        fault(
            |at| {
                room(at);
                mode(&at.join("run/rooms"), 0o777);
            },
            "directories",
            WRITE,
            "chmod o= DIR/run/rooms",
        ),
        fault(
            |at| mode(room(at).path(), 0o2777),
            "rooms",
            "has mode 2777 instead of 3770",
            "chmod 3770 DIR/run/rooms/main",
        ),
        fault(
            |at| {
                let mic = room(at).participant(&"alice".parse().unwrap()).mic();
                fs::remove_file(&mic).unwrap();
                fs::create_dir(&mic).unwrap();
            },
            "rooms",
            "alice/mic' is neither a pipe nor a file",
            "mv DIR/run/rooms/main/alice/mic DIR/run/rooms/main/alice/mic.old",
        ),
    ]
}

fn participants() -> Vec<Fault> {
    vec![
        by_hand(fault(
            |at| fs::write(at.join("participants.d/bob.toml"), "port = 9002\nprot = 1\n").unwrap(),
            "participants",
            "bob.toml', line 2: ",
            "${EDITOR:-vi} +2 DIR/participants.d/bob.toml && PALABRE reload",
        )),
        by_hand(fault(
            |at| fs::write(at.join("palabre.toml"), "hots = \"x\"\n").unwrap(),
            "configuration",
            "palabre.toml', line 1: ",
            "${EDITOR:-vi} +1 DIR/palabre.toml && PALABRE reload  # see palabre.toml(5)",
        )),
        warning(
            |at| fs::remove_file(alice(at)).unwrap(),
            "participants",
            "there are no participants",
            "PALABRE invite alice",
        ),
        warning(
            |at| mode(&alice(at), 0o644),
            "participants",
            "the mode of 'DIR/participants.d/alice.toml' gives all users access, but the file has the hash of a key",
            "chmod o= DIR/participants.d/*.toml",
        ),
        warning(
            |at| {
                let mut alice = Participant::load(at, &"alice".parse().unwrap()).unwrap();
                alice.key_expires = Moment::after(SystemTime::now() - DAY, Duration::ZERO);
                alice.write(at).unwrap();
            },
            "participants",
            "the key of 'alice' expired on 2",
            "PALABRE invite alice --new-key --expires 30d  # or revoke alice",
        ),
        by_hand(warning(
            |at| invite(at, "bob", 1023),
            "ports",
            "port 1023 of 'bob' is outside the range 1024-65535",
            "${EDITOR:-vi} DIR/palabre.toml && PALABRE reload  # extend 'ports', or change 'port' in the participant's file",
        )),
    ]
}

/// Makes a room, and gives the runtime directory to another user, who then counts as the daemons' user.
pub fn theirs_at(at: &Path) {
    room(at);
    chown(at.join("run"), Some(DAEMONS), Some(DAEMONS)).unwrap();
}

/// Returns faults in which the daemons can't read a file. If the test runs as root, the daemons are another user, since root can read all
/// files. Otherwise the mode of the file is wrong.
fn daemons(is_root: bool) -> Vec<Fault> {
    let theirs: fn(&Path) = theirs_at;
    let unreadable = |at: &Path| {
        room(at);
        mode(&tls(at, "key.pem"), 0o040);
    };
    match is_root {
        true => vec![
            fault(
                theirs,
                "certificate",
                "the daemons (user 54321) can't read 'DIR/tls/key.pem'",
                "chgrp 54321 DIR/tls/key.pem && chmod g+r DIR/tls/key.pem",
            ),
            fault(
                theirs,
                "certificate",
                "the daemons (user 54321) can't open 'DIR/tls'",
                "chgrp 54321 DIR/tls && chmod g+x DIR/tls",
            ),
            fault(
                |at| {
                    theirs_at(at);
                    mode(&at.join("palabre.toml"), 0o600);
                },
                "configuration",
                "the daemons (user 54321) can't read 'DIR/palabre.toml'",
                "chgrp 54321 DIR/palabre.toml && chmod g+r DIR/palabre.toml",
            ),
            fault(
                theirs,
                "participants",
                "the daemons (user 54321) can't read 'DIR/participants.d/alice.toml'",
                "chgrp 54321 DIR/participants.d/alice.toml && chmod g+r DIR/participants.d/alice.toml",
            ),
            fault(
                theirs,
                "directories",
                "the daemons (user 54321) can't open 'DIR/participants.d'",
                "chgrp 54321 DIR/participants.d && chmod g+rxs DIR/participants.d",
            ),
            fault(
                theirs,
                "rooms",
                "the daemons (user 54321) can't write to 'DIR/run/rooms/main/alice/ear'",
                "mv DIR/run/rooms/main/alice/ear DIR/run/rooms/main/alice/ear.old",
            ),
            fault(
                // As certbot does: the certificate is a link in one directory to a file in another, and only root may open the two directories.
                |at| {
                    theirs_at(at);
                    for directory in ["live", "archive"] {
                        fs::create_dir(at.join(directory)).unwrap();
                        mode(&at.join(directory), 0o700);
                    }
                    fs::copy(tls(at, "cert.pem"), at.join("archive/cert1.pem")).unwrap();
                    std::os::unix::fs::symlink("../archive/cert1.pem", at.join("live/cert.pem")).unwrap();
                    set(at, "certificate = \"live/cert.pem\"");
                },
                "certificate",
                "the daemons (user 54321) can't open 'DIR/archive'",
                "chgrp 54321 DIR/archive && chmod g+x DIR/archive",
            ),
        ],
        false => vec![fault(unreadable, "certificate", ") can't read 'DIR/tls/key.pem'", "chmod u+r DIR/tls/key.pem")],
    }
}
