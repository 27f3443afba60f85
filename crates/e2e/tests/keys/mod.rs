//! A test that starts a server with each kind of key, and checks that a real Chromium accepts the kinds that listeners accept.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use palabre_e2e::browser::Browser;
use palabre_testing::key_kinds::{KEY_KINDS, KeyKind};

fn openssl(directory: &Path) -> Command {
    let mut command = Command::new("openssl");
    command.current_dir(directory).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Starts a server of `openssl s_server` with a new key of this kind, and returns the server and its port.
fn server_with_key(directory: &Path, kind: &KeyKind) -> (Child, String) {
    let request = ["req", "-x509", "-new", "-key", "key.pem", "-subj", "/CN=localhost", "-out", "cert.pem"];
    let names = ["-addext", "subjectAltName=DNS:localhost", "-days", "90"];
    for arguments in [[&["genpkey", "-out", "key.pem"], kind.arguments].concat(), [&request[..], &names].concat()] {
        let output = openssl(directory).args(&arguments).output().unwrap();
        assert!(output.status.success(), "openssl {arguments:?}: {output:?}");
    }
    let files = ["s_server", "-accept", "localhost:0", "-key", "key.pem", "-cert", "cert.pem", "-www"];
    // Without this option the server refuses short keys itself, because of OpenSSL's default security level.
    let mut server = openssl(directory).args(files).args(["-cipher", "DEFAULT@SECLEVEL=0"]).spawn().unwrap();
    let mut lines = BufReader::new(server.stdout.take().unwrap()).lines();
    let port = lines.find_map(|line| Some(line.unwrap().strip_prefix("ACCEPT ")?.rsplit(':').next()?.to_owned()));
    (server, port.unwrap())
}

#[test]
fn chromium_accepts_every_kind_of_key_that_listeners_and_the_check_accept() {
    let browser = Browser::start(Some(&super::voice()), "en").unwrap();
    for kind in &KEY_KINDS {
        let directory = tempfile::tempdir().unwrap();
        let (mut server, port) = server_with_key(directory.path(), kind);
        let opened = browser.open(&format!("https://localhost:{port}/"));
        let accepts = opened.is_ok() && {
            browser.wait_until("/Ciphers supported|ERR_/.test(document.body?.innerText)").unwrap();
            browser.run("return !document.body.innerText.includes('ERR_')").unwrap() == true
        };
        let _ = (server.kill(), server.wait());
        assert_eq!(accepts, kind.chromium, "{kind:?}: {opened:?}");
        assert!(accepts || kind.refused_as.is_some(), "{kind:?}");
    }
}
