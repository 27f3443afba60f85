//! `palabre check`, `palabre top` and `palabre logs`, with real files, a real supervisor and a real terminal.
#![allow(clippy::unwrap_used, missing_docs)]

mod common;
mod faults;

use std::fs::{self, Permissions};
use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::time::{Duration, Instant};

use common::{TIMEOUT, descendants, is_running, palabre, signal, start, stderr, stdout, wait_for};
use palabre_config::{Key, PARTICIPANTS_DIR, Participant, certificate};
use palabre_host::restart::RestartSocket;
use palabre_room::MIXER_SOCKET;
use palabre_testing::not_shown;
use tempfile::TempDir;

/// Returns a directory with a valid configuration and alice, on any free port.
fn config() -> TempDir {
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

/// Returns the faults of a directory, which must have one.
fn faults(directory: &Path) -> String {
    let output = check(directory, &[]);
    assert_eq!(output.status.code(), Some(78), "{output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().filter(|line| line.starts_with("fault ")).map(|line| format!("{line}\n")).collect()
}

#[test]
fn valid_installation_has_no_faults() {
    let config = config();
    let text = stdout(&check(config.path(), &[]));
    assert!(!text.contains("fault"), "{text}");
    for part in [
        "is valid for 'localhost'",
        "is self-signed, so browsers warn about it; it expires in ",
        "key.pem' is the certificate's key; the TLS library accepts both",
        "not running in",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    let json = stdout(&check(config.path(), &["--json"]));
    assert!(json.contains("\"faults\": 0") && json.contains("\"area\": \"certificate\""), "{json}");
}

#[test]
fn user_who_cannot_read_the_configuration_is_not_told_to_correct_it() {
    let config = config();
    fs::write(config.path().join("palabre.toml"), "").unwrap();
    fs::set_permissions(config.path().join("palabre.toml"), Permissions::from_mode(0o000)).unwrap();
    let mut command = palabre();
    command.arg("--config").arg(config.path()).arg("--run").arg(config.path().join("run")).arg("check");
    if fs::metadata("/proc/self").unwrap().uid() == 0 {
        command.uid(65534).gid(65534);
    }
    let text = stdout(&command.output().unwrap());
    assert!(
        text.contains("can't see '") && text.contains("were not checked, because 'palabre.toml' can't be used: sudo "),
        "{text}"
    );
    assert!(!text.contains("fixing"), "{text}");
}

#[test]
fn configuration_fault_is_reported_with_a_remedy() {
    let config = config();
    let path = config.path();
    fs::write(path.join("participants.d/bob.toml"), "prot = 1\n").unwrap();
    assert!(faults(path).contains("bob.toml', line 1: "), "{}", faults(path));
    fs::remove_file(path.join("participants.d/bob.toml")).unwrap();
    fs::write(path.join("palabre.toml"), "hots = \"localhost\"\n").unwrap();
    assert!(faults(path).contains("palabre.toml', line 1: ") && faults(path).contains(": ${EDITOR:-vi} +1 "));
    fs::write(path.join("palabre.toml"), "bind = \"127.0.0.1\"\nhost = \"voice.example\"\n").unwrap();
    assert!(faults(path).contains("is valid for localhost, but not for 'voice.example'"), "{}", faults(path));
    let json = check(path, &["--json"]);
    assert_eq!(json.status.code(), Some(78));
    assert!(String::from_utf8(json.stdout).unwrap().contains("\"faults\": 1"));
}

/// Tests the limits of a process, which a shell can set. Unit tests check the kernel's limits, which a test can't change.
#[test]
fn low_limit_of_open_files_is_reported_with_the_needed_value() {
    let config = config();
    let check = |limit: &str| {
        let mut command = Command::new("sh");
        command.args(["-c", &format!("ulimit {limit} && exec \"$@\""), "sh", env!("CARGO_BIN_EXE_palabre")]);
        command.arg("--config").arg(config.path()).arg("--run").arg(config.path().join("run")).arg("check");
        command.output().unwrap()
    };
    let output = check("-n 60");
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(78), "{text}");
    let remedy = match Path::new("/run/systemd/system").exists() {
        true => {
            "LimitNOFILE=66\\n' >/etc/systemd/system/palabre-mixer.service.d/nofile.conf && systemctl daemon-reload"
        }
        false => "ulimit -Hn 66  # as root, in the shell that starts palabre-mixer",
    };
    assert!(
        text.contains("palabre-mixer needs 66 open files, but its limit is 60: ") && text.contains(remedy),
        "{text}"
    );
    let text = stdout(&check("-n 1000"));
    assert!(text.contains("the limits of open files suffice for all participants"), "{text}");
}

#[test]
fn low_limit_of_threads_is_a_warning_or_a_fault() {
    let config = config();
    let check = |limit: u32| {
        let mut command = Command::new("prlimit");
        command
            .args([&format!("--nproc={limit}:{limit}"), env!("CARGO_BIN_EXE_palabre"), "--config"])
            .arg(config.path());
        command.arg("--run").arg(config.path().join("run")).arg("check").output().unwrap()
    };
    let text = stdout(&check(67));
    assert!(
        text.contains("warning  threads") && text.contains("the limit is 67 threads, but Palabre needs 68 if all"),
        "{text}"
    );
    let few = check(16);
    assert_eq!(few.status.code(), Some(78));
    let text = String::from_utf8(few.stdout).unwrap();
    assert!(
        text.contains("fault    threads")
            && text.contains("the limit is 16 threads, but Palabre needs 17 even without connections"),
        "{text}"
    );
    assert!(text.contains("LimitNPROC=68") || text.contains("ulimit -u 68"), "{text}");
    assert!(!stdout(&check(68)).contains("the limit is "));
}

#[test]
fn remedy_of_a_certificate_fault_works() {
    let config = config();
    let path = config.path();
    fs::write(path.join("palabre.toml"), "bind = \"127.0.0.1\"\nhost = \"voice.example\"\n").unwrap();
    assert!(faults(path).contains("not for 'voice.example'"));
    let made = palabre().arg("--config").arg(path).args(["self-sign", "--replace"]).output().unwrap();
    assert!(made.status.success(), "{made:?}");
    assert!(stdout(&check(path, &[])).contains("is valid for 'voice.example'"));
}

#[test]
fn certificate_must_be_for_the_hosts_in_the_links_that_browsers_see() {
    let config = config();
    let path = config.path();
    let link = |link: &str| {
        fs::write(path.join("palabre.toml"), format!("bind = \"127.0.0.1\"\nlink = \"{link}\"\n")).unwrap();
    };
    link("https://voice.example/{name}/");
    let text = stdout(&check(path, &[]));
    assert!(
        text.contains(
            "browsers see the certificate of the proxy, because the links are 'https://voice.example/{name}/'"
        ),
        "{text}"
    );
    assert!(!text.contains("self-signed"), "{text}");
    link("https://{name}.voice.example/");
    assert!(faults(path).contains("but not for 'alice.voice.example', the host in the links: "), "{}", faults(path));
    let made = palabre().arg("--config").arg(path).args(["self-sign", "--replace"]).output().unwrap();
    assert!(made.status.success(), "{made:?}");
    assert!(stdout(&check(path, &[])).contains("is valid for '*.voice.example'"));
    link("https://{name}.voice.example/\"\nproxy.addresses = [\"::1\"]\nproxy.client-address = \"x-forwarded-for");
    let warning = "each client can choose its address in the log, by X-Forwarded-For: ";
    assert!(stdout(&check(path, &[])).contains(warning));
    let file = |name: &str| path.join(format!("participants.d/{name}.toml"));
    fs::write(file("a-"), fs::read_to_string(file("alice")).unwrap().replace("port = ", "port = 1")).unwrap();
    assert!(
        faults(path).contains("'a-' can't connect: the link 'https://a-.voice.example/' is invalid"),
        "{}",
        faults(path)
    );
}

#[test]
fn port_of_another_program_is_a_fault() {
    let config = config();
    let path = config.path();
    let other = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = other.local_addr().unwrap().port();
    invite(path, "bob", port);
    let text = faults(path);
    let this = format!("port {port} of 'bob' is in use by another program: 'look-");
    let process = format!("(process {}): end that program, or change 'port' in '", std::process::id());
    assert!(text.contains(&this) && text.contains(&process), "{text}");
    drop(other);
    let _supervisor = start(path);
    let text = wait_for("both ports to be served", || {
        let text = String::from_utf8(check(path, &[]).stdout).unwrap();
        text.contains("ports with a listener: 2; the ports of all other participants are free").then_some(text)
    });
    assert!(text.contains("number of participants: 2"), "{text}");
    // The mixer's file of counters in the directory of the rooms is not a room.
    fs::write(path.join("run/rooms/.mixer-counts"), "ticks 0\n").unwrap();
    wait_for("the missing mixer to be found", || {
        let found = String::from_utf8(check(path, &[]).stdout).unwrap();
        found.contains("no palabre-mixer runs: all rooms are silent: palabre-mixer --rooms ").then_some(())
    });
    let _mixer = RestartSocket::open(&path.join("run/rooms").join(MIXER_SOCKET)).unwrap().unwrap();
    wait_for("no fault to be found", || check(path, &[]).status.success().then_some(()));
    fs::set_permissions(path.join("run/rooms/main"), Permissions::from_mode(0o2777)).unwrap();
    assert!(
        faults(path).contains(&format!("chmod 3770 {}", path.join("run/rooms/main").display())),
        "{}",
        faults(path)
    );
}

/// `palabre top` in a terminal that script(1) of bsdutils provides. Dropping this closes the terminal.
struct Terminal {
    script: Child,
    output: Receiver<Vec<u8>>,
    bytes: Vec<u8>,
}

impl Terminal {
    fn top(config: &Path) -> Self {
        let run = config.join("run");
        let top = format!("stty cols 120 rows 20; exec {} --run {} top", env!("CARGO_BIN_EXE_palabre"), run.display());
        let mut command = Command::new("script");
        command.args(["-qefc", &top, "/dev/null"]).env("TERM", "xterm").stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut script = command.spawn().unwrap();
        let (send, output) = mpsc::channel();
        let mut stdout = script.stdout.take().unwrap();
        std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(count @ 1..) = stdout.read(&mut bytes) {
                let _ = send.send(bytes[..count].to_vec());
            }
        });
        Self { script, output, bytes: Vec::new() }
    }

    fn wait_for(&mut self, texts: &[&str]) {
        let deadline = Instant::now() + TIMEOUT;
        loop {
            let output = String::from_utf8_lossy(&self.bytes);
            if texts.iter().all(|text| output.contains(text)) {
                return;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            let bytes = self.output.recv_timeout(left).unwrap_or_else(|_| panic!("no {texts:?} in {output:?}"));
            self.bytes.extend(bytes);
        }
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.script.kill();
        let _ = self.script.wait();
    }
}

#[test]
fn top_shows_participants_with_meters_and_restores_the_terminal() {
    let config = config();
    let path = config.path();
    let _supervisor = start(path);
    let room = path.join("run/rooms/main");
    wait_for("alice's room", || room.join("alice/mic").exists().then_some(()));
    let _mixer = RestartSocket::open(&path.join("run/rooms").join(MIXER_SOCKET)).unwrap().unwrap();
    fs::write(room.join("levels.new"), "alice\ttalking\t-20.0\n").unwrap();
    fs::rename(room.join("levels.new"), room.join("levels")).unwrap();
    let mut terminal = Terminal::top(path);
    // Wait for single words, because the program doesn't write blanks that are on the screen already.
    terminal.wait_for(&["\u{1b}[?1049h", "alice", "█████████████", "-20", "arrow"]);
    terminal.script.stdin.as_mut().unwrap().write_all(b"q").unwrap();
    // At the end the program leaves the alternate screen and shows the cursor.
    terminal.wait_for(&["\u{1b}[?1049l", "\u{1b}[?25h"]);
    assert!(terminal.script.wait().unwrap().success());
}

#[test]
fn top_ends_when_its_terminal_is_closed() {
    let config = config();
    let _supervisor = start(config.path());
    wait_for("alice's room", || config.path().join("run/rooms/main/alice/mic").exists().then_some(()));
    let mut terminal = Terminal::top(config.path());
    terminal.wait_for(&["arrow"]);
    let processes = descendants(terminal.script.id());
    assert!(!processes.is_empty());
    drop(terminal);
    let deadline = Instant::now() + TIMEOUT;
    while processes.iter().any(|&pid| is_running(pid)) {
        if Instant::now() > deadline {
            processes.iter().filter(|&&pid| is_running(pid)).for_each(|&pid| signal(pid, "KILL"));
            panic!("palabre top still runs");
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn top_needs_a_terminal_and_logs_needs_a_journal() {
    let config = config();
    let top = palabre().arg("--run").arg(config.path()).arg("top").stdin(Stdio::null()).output().unwrap();
    assert!(stderr(&top, 2).contains("use 'palabre status'"));
    if Path::new("/run/systemd/journal/socket").exists() {
        not_shown("'palabre logs' without a journal", "journald runs");
    } else {
        let logs = palabre().args(["logs", "alice"]).output().unwrap();
        assert!(stderr(&logs, 1).contains("journald is not running"));
    }
}

#[test]
fn tap_writes_no_sound_to_a_terminal() {
    let tap = format!("{} --run /nowhere tap alice", env!("CARGO_BIN_EXE_palabre"));
    let output = Command::new("script").args(["-qec", &tap, "/dev/null"]).stdin(Stdio::null()).output().unwrap();
    let printed = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.code() == Some(2) && printed.contains("unable to write sound to a terminal"), "{output:?}");
}
