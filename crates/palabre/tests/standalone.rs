//! Commands for a listener that runs without a supervisor, and the lock that keeps a supervisor and
//! such a listener from running at the same time.

#![allow(clippy::unwrap_used, missing_docs)]

mod common;

use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use common::{Process, palabre, sibling, start, stderr, stdout, wait_for};
use palabre_config::control::LOCK_FILE;
use palabre_config::{Key, Participant, certificate};
use palabre_host::lock::Lock;

fn config() -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    for part in ["participants.d", "tls", "run/rooms"] {
        fs::create_dir_all(path.join(part)).unwrap();
    }
    certificate::self_signed(&["localhost".into()]).unwrap().write(&path.join("tls")).unwrap();
    fs::write(path.join("palabre.toml"), "bind = \"127.0.0.1\"\n").unwrap();
    // As palabre.tmpfiles does.
    fs::write(path.join("run").join(LOCK_FILE), "").unwrap();
    Participant::new("alice".parse().unwrap(), 0, Key::generate().unwrap().hash()).write(path).unwrap();
    directory
}

/// Returns the command of alice's listener without a supervisor.
fn listener(directory: &Path) -> Command {
    let mut command = Command::new(sibling("palabre-listener"));
    command.args(["--make-room", "--port", "0", "--config"]).arg(directory).arg("alice");
    command.arg("--run").arg(directory.join("run")).arg("--parent-pid").arg(std::process::id().to_string());
    command.arg("--links").arg(directory.join("links"));
    command
}

fn run(directory: &Path, arguments: &[&str]) -> Output {
    palabre().arg("--config").arg(directory).arg("--run").arg(directory.join("run")).args(arguments).output().unwrap()
}

#[test]
fn commands_do_not_claim_an_effect_on_a_listener_without_a_supervisor() {
    let config = config();
    let directory = config.path();
    let _listener = Process(listener(directory).spawn().unwrap());
    wait_for("alice's pipes", || directory.join("run/rooms/main/alice/mic").exists().then_some(()));
    for arguments in [&["mute", "alice"][..], &["move", "alice", "den"], &["invite", "alice", "--new-key"]] {
        let why = stderr(&run(directory, arguments), 1);
        assert!(
            why.contains("the listener of 'alice' (process ") && why.contains("still uses the previous file"),
            "{why}"
        );
    }
    for verb in ["restart", "stop", "start", "kick"] {
        let why = stderr(&run(directory, &[verb, "alice"]), 111);
        assert!(why.contains("listeners run without a supervisor: use 'systemctl status'"), "{why}");
    }
    let check = run(directory, &["check"]);
    assert!(String::from_utf8_lossy(&check.stdout).contains("listeners without a supervisor (1 running)"), "{check:?}");
    let output = run(directory, &["revoke", "alice"]);
    assert!(!String::from_utf8_lossy(&output.stdout).contains("invalid now"), "{output:?}");
    assert!(stderr(&output, 1).contains("still uses the previous file"));
    assert!(!Participant::path(directory, &"alice".parse().unwrap()).exists());
}

#[test]
fn supervisor_and_listener_without_one_keep_each_other_from_starting() {
    let config = config();
    let directory = config.path();
    let supervisor = start(directory);
    wait_for("the supervisor", || run(directory, &["status"]).status.success().then_some(()));
    let refused = listener(directory).stderr(Stdio::piped()).output().unwrap();
    assert!(stderr(&refused, 78).contains("palabre-supervisor serves the participants of '"));
    stdout(&run(directory, &["status"]));
    drop(supervisor);
    let _alone = Process(listener(directory).spawn().unwrap());
    let lock = directory.join("run").join(LOCK_FILE);
    wait_for("alice's listener", || Lock::take(&lock).unwrap().is_none().then_some(()));
    let mut supervisor = Command::new(sibling("palabre-supervisor"));
    supervisor.arg("--config").arg(directory).arg("--run").arg(directory.join("run"));
    let refused = supervisor.stderr(Stdio::piped()).output().unwrap();
    assert!(stderr(&refused, 78).contains("listeners without a supervisor serve its participants"));
}
