//! Tests of `palabre self-sign`.
#![allow(clippy::unwrap_used, missing_docs)]

mod common;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Output;

use common::{palabre, stderr, stdout};

fn self_sign(config: &Path, flags: &[&str]) -> Output {
    palabre().arg("--config").arg(config).arg("self-sign").args(flags).output().unwrap()
}

#[test]
fn certificate_is_replaced_only_with_the_flag() {
    let config = tempfile::tempdir().unwrap();
    fs::create_dir(config.path().join("tls")).unwrap();
    let (certificate, key) = (config.path().join("tls/cert.pem"), config.path().join("tls/key.pem"));
    stdout(&self_sign(config.path(), &[]));
    let first = fs::read(&certificate).unwrap();
    assert_eq!(fs::metadata(&key).unwrap().permissions().mode() & 0o777, 0o640);
    assert!(stderr(&self_sign(config.path(), &[]), 1).contains("use --replace to make a new certificate"));
    assert_eq!(fs::read(&certificate).unwrap(), first);
    stdout(&self_sign(config.path(), &["--replace"]));
    assert_ne!(fs::read(&certificate).unwrap(), first);
}

#[test]
fn foreign_certificate_is_not_changed() {
    let config = tempfile::tempdir().unwrap();
    let certificate = config.path().join("chain.pem");
    fs::write(&certificate, "-----BEGIN CERTIFICATE-----\n").unwrap();
    fs::write(config.path().join("palabre.toml"), "certificate = \"chain.pem\"\n").unwrap();
    assert!(stderr(&self_sign(config.path(), &["--replace"]), 1).contains("was not made by 'palabre self-sign'"));
    assert_eq!(fs::read_to_string(certificate).unwrap(), "-----BEGIN CERTIFICATE-----\n");
    assert!(!config.path().join("tls/key.pem").exists());
}

#[test]
fn host_that_is_invalid_in_a_certificate_is_a_configuration_error() {
    let config = tempfile::tempdir().unwrap();
    fs::write(config.path().join("palabre.toml"), "host = \"é.org\"\n").unwrap();
    stderr(&self_sign(config.path(), &[]), 78);
}
