//! `palabre restart mixer` and `palabre restart supervisor`: the printed line and the exit status.

#![allow(clippy::unwrap_used, missing_docs)]

mod common;

use std::fs;
use std::os::fd::AsFd;
use std::os::unix::fs::FileTypeExt;
use std::process::{Command, Output};
use std::thread;
use std::time::Duration;

use common::{palabre, sibling, start, stderr, stdout, wait_for};
use palabre_host::restart::RestartSocket;
use palabre_host::wait;
use palabre_room::MIXER_SOCKET;

#[test]
fn restart_of_a_daemon_says_that_it_serves_or_why_not() {
    let dir = tempfile::tempdir().unwrap();
    let (directory, run) = (dir.path(), dir.path().join("run"));
    fs::create_dir_all(directory.join("participants.d")).unwrap();
    fs::write(directory.join("palabre.toml"), "bind = \"127.0.0.1\"\n").unwrap();
    let restart = |what: &str| -> Output {
        palabre().arg("--config").arg(directory).arg("--run").arg(&run).args(["restart", what]).output().unwrap()
    };
    assert!(stderr(&restart("mixer"), 111).contains("unable to reach the supervisor"));
    let supervisor = start(directory);
    wait_for("the supervisor", || run.join("control.sock").exists().then_some(()));
    let said = stdout(&restart("supervisor"));
    assert_eq!(
        said,
        format!(
            "supervisor: process {} has executed the program that is installed now, and is ready\n",
            supervisor.0.id()
        )
    );
    let rooms = run.join("rooms");
    fs::create_dir_all(&rooms).unwrap();
    assert!(stderr(&restart("mixer"), 1).contains("unable to connect to the restart socket"));
    // A fake mixer: on a request, it closes its restart socket instead of replacing its program.
    let socket = rooms.join(MIXER_SOCKET);
    let mut dies = RestartSocket::open(&socket).unwrap().unwrap();
    thread::scope(|scope| {
        scope.spawn(move || {
            // Skip the connections without a request: the supervisor keeps one open, on which it sends nothing.
            while dies.request().is_none() {
                wait::readable(&[dies.as_fd()], Some(Duration::from_millis(10))).unwrap();
                dies.accept();
            }
        });
        assert!(stderr(&restart("mixer"), 111).contains("the daemon ended before its new program was ready"));
    });
    let mixer = common::Process(Command::new(sibling("palabre-mixer")).arg("--rooms").arg(&rooms).spawn().unwrap());
    wait_for("the mixer", || {
        let is_served = std::os::unix::net::UnixStream::connect(&socket).is_ok();
        fs::symlink_metadata(&socket).ok().filter(|file| is_served && file.file_type().is_socket())
    });
    let said = stdout(&restart("mixer"));
    assert_eq!(
        said,
        format!("mixer: process {} has executed the program that is installed now, and is ready\n", mixer.0.id())
    );
}

#[test]
fn mixer_is_executed_with_the_setting_of_the_sandbox() {
    let dir = tempfile::tempdir().unwrap();
    let executed = || {
        let command = ["exec-mixer", "/bin/echo", "--rooms", "x", "--version"];
        stdout(&palabre().arg("--config").arg(dir.path()).args(command).output().unwrap())
    };
    for mode in ["required", "best-effort", "off"] {
        fs::write(dir.path().join("palabre.toml"), format!("[security]\nsandbox = \"{mode}\"\n")).unwrap();
        assert_eq!(executed(), format!("--sandbox {mode} --rooms x --version\n"));
    }
    // With an invalid palabre.toml the mixer must still start, with the default. Otherwise the rooms would be silent.
    fs::write(dir.path().join("palabre.toml"), "sandbox = 1").unwrap();
    assert_eq!(executed(), "--sandbox best-effort --rooms x --version\n");
}
