//! Tests of the program `palabre-signer` while no supervisor runs. `cargo test` builds a program only if its package has an integration test.
#![allow(clippy::unwrap_used, missing_docs)]

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

fn signer() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_palabre-signer"));
    command.stdin(Stdio::null()).stderr(Stdio::piped());
    command
}

#[test]
fn unknown_option_is_a_usage_error() {
    let output = signer().arg("--key").output().unwrap();
    assert_eq!(output.status.code(), Some(2));
}

#[test]
fn signer_waits_for_a_supervisor_and_ends_at_sigterm() {
    let directory = tempfile::tempdir().unwrap();
    let mut child = signer().arg("--config").arg(directory.path()).arg("--run").arg(directory.path()).spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines().map(Result::unwrap);
    // Without the files of the certificate and the key, the signer logs a fault, and continues to run.
    assert!(lines.any(|line| line.contains("no listener can start until it is corrected")));
    assert!(
        lines.any(|line| line.contains("unable to connect to the supervisor: ") && line.ends_with("; trying again"))
    );
    assert!(Command::new("kill").args(["-TERM", &child.id().to_string()]).status().unwrap().success());
    assert!(child.wait().unwrap().success());
}
