//! Tests of the program `palabre-launcher` while no supervisor runs.
#![allow(clippy::unwrap_used, missing_docs)]

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::process::{Child, ChildStderr, Command, Stdio};

const PROGRAM: &str = env!("CARGO_BIN_EXE_palabre-launcher");

fn start(program: &Path, run: &Path) -> (Child, impl Iterator<Item = String> + use<>) {
    let mut command = Command::new(program);
    command.arg("--run").arg(run).stdin(Stdio::null()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let stderr: ChildStderr = child.stderr.take().unwrap();
    (child, BufReader::new(stderr).lines().map(Result::unwrap))
}

fn signal(child: &Child, name: &str) {
    assert!(Command::new("kill").args([name, &child.id().to_string()]).status().unwrap().success());
}

#[test]
fn unknown_option_is_a_usage_error() {
    let output = Command::new(PROGRAM).arg("--user").output().unwrap();
    assert_eq!(output.status.code(), Some(2));
}

#[test]
fn launcher_waits_for_a_supervisor_is_upgraded_meanwhile_and_ends_at_sigterm() {
    let directory = tempfile::tempdir().unwrap();
    let program = directory.path().join("palabre-launcher");
    // cp(1) writes the file. If this process wrote it, a child that is started meanwhile would inherit the open descriptor, and a file that is open
    // for writing can't be executed.
    let copy = |to: &Path| assert!(Command::new("cp").arg(PROGRAM).arg(to).status().unwrap().success());
    copy(&program);
    let (mut child, mut lines) = start(&program, directory.path());
    let is_waiting =
        |line: String| line.contains("unable to connect to the supervisor: '") && line.ends_with("; trying again");
    assert!(lines.any(is_waiting));
    let running = || fs::metadata(format!("/proc/{}/exe", child.id())).unwrap().ino();
    let old = running();
    let new = directory.path().join("new");
    copy(&new);
    fs::rename(&new, &program).unwrap();
    signal(&child, "-HUP");
    assert!(lines.any(|line| line.contains("replacing this process by '")));
    assert!(lines.any(is_waiting));
    assert_ne!(running(), old);
    signal(&child, "-TERM");
    assert!(child.wait().unwrap().success());
}
