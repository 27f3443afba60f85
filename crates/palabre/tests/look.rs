//! `palabre check`, `palabre top` and `palabre logs`, over real files, a real supervisor and a real terminal.
#![allow(clippy::unwrap_used, missing_docs)]

mod common;
mod faults;

use std::fs::{self, Permissions};
use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc;

use common::{PATIENCE, palabre, start, stderr, stdout, wait_for};
use palabre_config::{Key, PARTICIPANTS_DIR, Participant, certificate};
use tempfile::TempDir;

/// A configuration without a fault, with alice, whose port is any one.
fn house() -> TempDir {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    fs::write(path.join("palabre.toml"), "bind = \"127.0.0.1\"\nports = \"1024-65535\"\n").unwrap();
    fs::create_dir(path.join(PARTICIPANTS_DIR)).unwrap();
    fs::create_dir(path.join("tls")).unwrap();
    certificate::self_signed(&["localhost".into()]).unwrap().write(&path.join("tls")).unwrap();
    invite(path, "alice", 0);
    for part in ["", "tls", PARTICIPANTS_DIR] {
        fs::set_permissions(path.join(part), Permissions::from_mode(0o750)).unwrap();
    }
    directory
}

fn invite(directory: &Path, name: &str, port: u16) {
    Participant::new(name.parse().unwrap(), port, Key::generate().unwrap().hash()).write(directory).unwrap();
}

fn check(directory: &Path, arguments: &[&str]) -> Output {
    let mut command = palabre();
    command.arg("--config").arg(directory).arg("--run").arg(directory.join("run")).arg("check").args(arguments);
    command.output().unwrap()
}

/// What is said of a directory with a fault.
fn faults(directory: &Path) -> String {
    let output = check(directory, &[]);
    assert_eq!(output.status.code(), Some(78), "{output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().filter(|line| line.starts_with("fault ")).map(|line| format!("{line}\n")).collect()
}

#[test]
fn where_nothing_is_wrong_nothing_is_said_to_be() {
    let house = house();
    let text = stdout(&check(house.path(), &[]));
    assert!(!text.contains("fault"), "{text}");
    for part in ["is for 'localhost'", " days left, self-signed", "key.pem' is its key", "none runs in"] {
        assert!(text.contains(part), "{part}: {text}");
    }
    let json = stdout(&check(house.path(), &["--json"]));
    assert!(json.contains("\"faults\": 0") && json.contains("\"area\": \"certificate\""), "{json}");
}

#[test]
fn each_fault_of_the_configuration_is_named_with_what_mends_it() {
    let house = house();
    let path = house.path();
    fs::write(path.join("participants.d/bob.toml"), "prot = 1\n").unwrap();
    assert!(faults(path).contains("bob.toml', line 1: "), "{}", faults(path));
    fs::remove_file(path.join("participants.d/bob.toml")).unwrap();
    fs::write(path.join("palabre.toml"), "hots = \"localhost\"\n").unwrap();
    assert!(faults(path).contains("palabre.toml', line 1: ") && faults(path).contains(": ${EDITOR:-vi} +1 "));
    fs::write(path.join("palabre.toml"), "bind = \"127.0.0.1\"\nhost = \"voice.example\"\n").unwrap();
    assert!(faults(path).contains("is for localhost and not for 'voice.example'"), "{}", faults(path));
    let json = check(path, &["--json"]);
    assert_eq!(json.status.code(), Some(78));
    assert!(String::from_utf8(json.stdout).unwrap().contains("\"faults\": 1"));
}

/// By limits of a real shell; those of the kernel that no test may change have tests where they are reckoned.
#[test]
fn limits_that_are_too_low_are_named_with_what_is_needed() {
    let house = house();
    let check = |limit: &str| {
        let mut command = Command::new("sh");
        command.args(["-c", &format!("ulimit {limit} && exec \"$@\""), "sh", env!("CARGO_BIN_EXE_palabre")]);
        command.arg("--config").arg(house.path()).arg("--run").arg(house.path().join("run")).arg("check");
        command.output().unwrap()
    };
    let output = check("-n 60");
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(78), "{text}");
    let mend = match Path::new("/run/systemd/system").exists() {
        true => {
            "LimitNOFILE=66\\n' >/etc/systemd/system/palabre-mixer.service.d/nofile.conf && systemctl daemon-reload"
        }
        false => "ulimit -Hn 66  # in the shell that starts palabre-mixer",
    };
    assert!(text.contains(&format!("palabre-mixer may have 60 and needs 66: {mend}")) || text.contains(mend), "{text}");
    let text = stdout(&check("-n 1000"));
    assert!(text.contains("enough for every participant"), "{text}");
}

#[test]
fn threads_that_would_not_suffice_are_a_warning_and_those_that_do_not_suffice_are_a_fault() {
    let house = house();
    let check = |limit: u32| {
        let mut command = Command::new("prlimit");
        command
            .args([&format!("--nproc={limit}:{limit}"), env!("CARGO_BIN_EXE_palabre"), "--config"])
            .arg(house.path());
        command.arg("--run").arg(house.path().join("run")).arg("check").output().unwrap()
    };
    let text = stdout(&check(67));
    assert!(text.contains("warning  threads") && text.contains("all may have 67, and need 68 if everybody"), "{text}");
    let few = check(16);
    assert_eq!(few.status.code(), Some(78));
    let text = String::from_utf8(few.stdout).unwrap();
    assert!(
        text.contains("fault    threads") && text.contains("all may have 16, and need 17 before anybody"),
        "{text}"
    );
    assert!(text.contains("LimitNPROC=68") || text.contains("ulimit -Hu 68"), "{text}");
    assert!(!stdout(&check(68)).contains("all may have"));
}

#[test]
fn what_is_said_to_mend_a_certificate_mends_it() {
    let house = house();
    let path = house.path();
    fs::write(path.join("palabre.toml"), "bind = \"127.0.0.1\"\nhost = \"voice.example\"\n").unwrap();
    assert!(faults(path).contains("not for 'voice.example'"));
    let made = palabre().arg("--config").arg(path).args(["self-sign", "--replace"]).output().unwrap();
    assert!(made.status.success(), "{made:?}");
    assert!(stdout(&check(path, &[])).contains("is for 'voice.example'"));
}

#[test]
fn a_port_of_another_program_is_a_fault_and_one_of_ours_is_not() {
    let house = house();
    let path = house.path();
    let other = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = other.local_addr().unwrap().port();
    invite(path, "bob", port);
    let text = faults(path);
    assert!(
        text.contains(&format!(
            "port {port} of 'bob' belongs to another program: ss -ltnp 'sport = :{port}'  # says which"
        )),
        "{text}"
    );
    drop(other);
    let _supervisor = start(path);
    // A supervisor opens its ports before it answers: until then they are somebody's.
    let text = wait_for("both ports to be ours", || {
        let text = String::from_utf8(check(path, &[]).stdout).unwrap();
        text.contains("2 ours, the others free").then_some(text)
    });
    assert!(text.contains("with 2 participants"), "{text}");
    // The mixer's own file, which is no room.
    fs::write(path.join("run/rooms/.mixer-counts"), "ticks 0\n").unwrap();
    assert!(check(path, &[]).status.success(), "{}", stdout(&check(path, &[])));
    fs::set_permissions(path.join("run/rooms/main"), Permissions::from_mode(0o2777)).unwrap();
    assert!(
        faults(path).contains(&format!("chmod 2770 {}", path.join("run/rooms/main").display())),
        "{}",
        faults(path)
    );
}

/// A terminal that is closed with the test.
struct Script(Child);

impl Drop for Script {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn top_shows_everybody_with_a_meter_and_gives_the_terminal_back() {
    let house = house();
    let path = house.path();
    let _supervisor = start(path);
    let room = path.join("run/rooms/main");
    wait_for("alice's room", || room.join("alice/mic").exists().then_some(()));
    fs::write(room.join("levels.new"), "alice\ttalking\t-20.0\n").unwrap();
    fs::rename(room.join("levels.new"), room.join("levels")).unwrap();
    // A terminal of its own (script(1) of bsdutils), as large as one that somebody has.
    let run = path.join("run");
    let top = format!("stty cols 120 rows 20; exec {} --run {} top", env!("CARGO_BIN_EXE_palabre"), run.display());
    let mut command = Command::new("script");
    command.args(["-qefc", &top, "/dev/null"]).env("TERM", "xterm").stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut script = Script(command.spawn().unwrap());
    let (send, pieces) = mpsc::channel();
    let mut output = script.0.stdout.take().unwrap();
    let reader = std::thread::spawn(move || {
        let mut piece = [0; 4096];
        while let Ok(count @ 1..) = output.read(&mut piece) {
            let _ = send.send(piece[..count].to_vec());
        }
    });
    let mut seen = Vec::new();
    let mut shows = |texts: &[&str]| {
        loop {
            let text = String::from_utf8_lossy(&seen).into_owned();
            if texts.iter().all(|wanted| text.contains(wanted)) {
                return text;
            }
            seen.extend(pieces.recv_timeout(PATIENCE).unwrap_or_else(|_| panic!("no {texts:?} in {text:?}")));
        }
    };
    shows(&["\u{1b}[?1049h", "alice", "█████████████", "-20", "arrows"]);
    script.0.stdin.as_mut().unwrap().write_all(b"q").unwrap();
    // The other screen is left, and the cursor is there again.
    shows(&["\u{1b}[?1049l", "\u{1b}[?25h"]);
    assert!(script.0.wait().unwrap().success());
    reader.join().unwrap();
}

#[test]
fn top_without_a_terminal_and_logs_without_a_journal_say_so() {
    let house = house();
    let top = palabre().arg("--run").arg(house.path()).arg("top").stdin(Stdio::null()).output().unwrap();
    assert!(stderr(&top, 2).contains("use 'palabre status'"));
    if !Path::new("/run/systemd/journal/socket").exists() {
        let logs = palabre().args(["logs", "alice"]).output().unwrap();
        assert!(stderr(&logs, 1).contains("no journald runs here"));
    }
}
