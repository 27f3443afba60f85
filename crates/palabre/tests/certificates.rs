//! Kinds of certificates and keys: what `palabre check` says, whether a listener starts, and whether a client with the signature algorithms
//! of browsers connects.
#![allow(clippy::unwrap_used, missing_docs)]

mod common;

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use common::{Process, palabre, sibling};
use palabre_config::{Key, PARTICIPANTS_DIR, Participant};
use palabre_testing::key_kinds::{KEY_KINDS, KeyKind};
use serde_json::Value;
use tempfile::TempDir;

/// The signature algorithms that Chromium and Firefox both offer.
const BROWSERS: &str =
    "ECDSA+SHA256:RSA-PSS+SHA256:RSA+SHA256:ECDSA+SHA384:RSA-PSS+SHA384:RSA+SHA384:RSA-PSS+SHA512:RSA+SHA512";

/// A directory with a certificate authority and the configuration of a server.
struct Rig {
    directory: TempDir,
}

impl Rig {
    fn new() -> Self {
        let rig = Self { directory: tempfile::tempdir().unwrap() };
        for directory in [PARTICIPANTS_DIR, "tls"] {
            fs::create_dir(rig.path(directory)).unwrap();
        }
        fs::write(rig.path("palabre.toml"), "bind = \"127.0.0.1\"\n").unwrap();
        let alice = Participant::new("alice".parse().unwrap(), 0, Key::generate().unwrap().hash());
        alice.write(rig.directory.path()).unwrap();
        rig.openssl(&["genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out", "ca.key"]);
        rig.openssl(&["req", "-x509", "-new", "-key", "ca.key", "-subj", "/CN=Test CA", "-out", "ca.pem"]);
        rig
    }

    fn path(&self, file: &str) -> PathBuf {
        self.directory.path().join(file)
    }

    fn read(&self, file: &str) -> String {
        fs::read_to_string(self.path(file)).unwrap()
    }

    fn openssl(&self, arguments: &[&str]) {
        let output = Command::new("openssl").current_dir(self.directory.path()).args(arguments).output().unwrap();
        assert!(output.status.success(), "openssl {arguments:?}: {output:?}");
    }

    /// Makes a key, a certificate for localhost from the authority, and the file of both certificates.
    fn certify(&self, key: &[&str], extensions: &str) {
        self.openssl(&[&["genpkey", "-out", "tls/key.pem"], key].concat());
        self.issue(extensions);
    }

    /// Makes a certificate for the present key.
    fn issue(&self, extensions: &str) {
        fs::write(self.path("extensions"), format!("subjectAltName=DNS:localhost\n{extensions}\n")).unwrap();
        self.openssl(&["req", "-new", "-key", "tls/key.pem", "-subj", "/CN=localhost", "-out", "request.pem"]);
        let issue = ["x509", "-req", "-in", "request.pem", "-CA", "ca.pem", "-CAkey", "ca.key", "-days", "100"];
        self.openssl(&[&issue[..], &["-set_serial", "7", "-extfile", "extensions", "-out", "leaf.pem"]].concat());
        fs::write(self.path("tls/cert.pem"), self.read("leaf.pem") + &self.read("ca.pem")).unwrap();
    }

    /// Returns the findings about the certificate that are not ok: level, text and remedy.
    fn findings(&self) -> Vec<(String, String, String)> {
        let output = self.palabre(&["check", "--json"]);
        let all: Value = serde_json::from_slice(&output.stdout).unwrap();
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let checks = all["checks"].as_array().unwrap().iter();
        let about = checks.filter(|one| one["area"] == "certificate" && one["level"] != "ok");
        let about = about.filter(|one| !one["text"].as_str().unwrap().starts_with("all users can"));
        about.map(|one| (text(&one["level"]), text(&one["text"]), text(&one["mend"]))).collect()
    }

    fn palabre(&self, arguments: &[&str]) -> Output {
        let path = self.directory.path();
        palabre().arg("--config").arg(path).arg("--run").arg(path.join("run")).args(arguments).output().unwrap()
    }

    /// Starts a listener with the certificate. Returns `None` if it doesn't start, else whether a client connects that has the signature
    /// algorithms of browsers and verifies the certificate.
    fn connects(&self) -> Option<bool> {
        let mut command = Command::new(sibling("palabre-listener"));
        command.arg("--source").arg(self.path("none.wav")).args(["--port", "0", "--certificate"]);
        command.arg(self.path("tls/cert.pem")).arg("--private-key").arg(self.path("tls/key.pem"));
        let mut listener = Process(command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap());
        let mut link = String::new();
        BufReader::new(listener.0.stdout.take().unwrap()).read_line(&mut link).unwrap();
        let port = link.strip_prefix("https://localhost:")?.split('/').next()?.to_owned();
        let mut client = Command::new("openssl");
        client.args(["s_client", "-connect", &format!("127.0.0.1:{port}"), "-verify_return_error", "-CAfile"]);
        client.arg(self.path("ca.pem")).args(["-verify_hostname", "localhost", "-sigalgs", BROWSERS]);
        Some(client.stdin(Stdio::null()).output().unwrap().status.success())
    }
}

#[test]
fn check_reports_each_kind_of_key_that_listeners_or_browsers_refuse() {
    let rig = Rig::new();
    for KeyKind { arguments, refused_as: name, connects, .. } in KEY_KINDS {
        rig.certify(arguments, "");
        let expected: Vec<String> = name
            .map(|name| {
                let file = rig.path("tls/cert.pem");
                format!("the key of '{}' is {name}, which listeners or browsers don't accept", file.display())
            })
            .into_iter()
            .collect();
        let findings = rig.findings();
        let texts: Vec<&str> = findings.iter().map(|(_, text, _)| text.as_str()).collect();
        assert_eq!(texts, expected, "{arguments:?}");
        assert!(findings.iter().all(|(level, ..)| level == "fault"), "{findings:?}");
        assert_eq!(rig.connects(), connects, "{arguments:?}");
    }
}

#[test]
fn key_is_compared_with_the_certificate_in_every_format() {
    let rig = Rig::new();
    for (kind, format) in
        [(KEY_KINDS[0].arguments, "ec"), (KEY_KINDS[1].arguments, "ec"), (KEY_KINDS[5].arguments, "rsa")]
    {
        rig.certify(kind, "");
        fs::rename(rig.path("tls/key.pem"), rig.path("pkcs8.pem")).unwrap();
        let traditional: &[&str] = if format == "rsa" { &["-traditional"] } else { &[] };
        rig.openssl(&[&[format, "-in", "pkcs8.pem", "-out", "tls/key.pem"], traditional].concat());
        assert!(rig.read("tls/key.pem").contains(&format!("BEGIN {} PRIVATE KEY", format.to_uppercase())));
        assert_eq!((rig.findings(), rig.connects()), (vec![], Some(true)), "{format}");
        // Another certificate for another key.
        let own = rig.read("tls/key.pem");
        rig.certify(kind, "");
        fs::write(rig.path("tls/key.pem"), own).unwrap();
        let (level, text, _) = rig.findings().remove(0);
        assert!(level == "fault" && text.ends_with("key.pem' is not the certificate's key"), "{text}");
        assert_eq!(rig.connects(), None, "{format}");
    }
}

#[test]
fn check_reports_certificates_of_a_chain_that_no_listener_reads() {
    let rig = Rig::new();
    rig.certify(KEY_KINDS[0].arguments, "");
    let (leaf, issuer) = (rig.read("leaf.pem"), rig.read("ca.pem"));
    rig.openssl(&["x509", "-in", "ca.pem", "-trustout", "-out", "trusted.pem"]);
    let chains = [
        ("no new line", format!("{}{issuer}", leaf.trim_end()), "has 2 certificates, but listeners read only 1"),
        ("spaces", format!("{leaf}  {issuer}"), "has 2 certificates, but listeners read only 1"),
        ("trusted", format!("{leaf}{}", rig.read("trusted.pem")), "has 2 certificates, but listeners read only 1"),
    ];
    for (what, chain, expected) in chains {
        fs::write(rig.path("tls/cert.pem"), chain).unwrap();
        let findings = rig.findings();
        assert!(
            findings.len() == 1 && findings[0].0 == "fault" && findings[0].1.contains(expected),
            "{what}: {findings:?}"
        );
        let mended = Command::new("sh").args(["-c", &findings[0].2]).output().unwrap();
        assert!(mended.status.success(), "{what}: {mended:?}");
        assert_eq!((rig.findings(), rig.connects()), (vec![], Some(true)), "{what}");
        let read = rig.read("tls/cert.pem");
        let first = |pem: &str| pem.split("-----").nth(2).unwrap().to_owned();
        assert_eq!(first(&read), first(&leaf), "{what}: the server's certificate is the first");
    }
}

#[test]
fn check_reports_a_chain_that_is_incomplete_or_damaged() {
    let rig = Rig::new();
    rig.certify(KEY_KINDS[0].arguments, "");
    let (leaf, issuer) = (rig.read("leaf.pem"), rig.read("ca.pem"));
    let half = &issuer[..issuer.len() / 2];
    let damaged = "-----BEGIN CERTIFICATE-----\nMAMCAQE=\n-----END CERTIFICATE-----\n";
    for (chain, level, expected) in [
        (leaf.clone(), "warning", "doesn't contain the certificate of the issuer 'CN=Test CA'"),
        (format!("{leaf}{half}"), "fault", "the certificate is not valid PEM"),
        (format!("{leaf}{damaged}"), "fault", "certificate 2 in '"),
        (format!("{damaged}{issuer}"), "fault", "the certificate is invalid"),
        (issuer.clone(), "fault", "is not the certificate's key"),
    ] {
        fs::write(rig.path("tls/cert.pem"), chain).unwrap();
        let findings = rig.findings();
        let found = findings.iter().any(|(found, text, _)| found == level && text.contains(expected));
        assert!(found, "{expected}: {findings:?}");
    }
    fs::write(rig.path("tls/cert.pem"), &leaf).unwrap();
    fs::write(rig.path("tls/fullchain.pem"), format!("{leaf}{issuer}")).unwrap();
    let remedy = rig.findings().remove(0).2;
    assert!(remedy.contains("set 'certificate' to '") && remedy.contains("tls/fullchain.pem'"), "{remedy}");
}

#[test]
fn check_reports_certificates_that_browsers_refuse() {
    let rig = Rig::new();
    for (extensions, expected) in [
        ("extendedKeyUsage=clientAuth", "the certificate's extended key usage doesn't include servers"),
        ("keyUsage=keyEncipherment", "the certificate's key usage doesn't include digital signatures"),
        ("basicConstraints=CA:TRUE", "this is the certificate of a certificate authority, not of a server"),
    ] {
        rig.certify(KEY_KINDS[0].arguments, extensions);
        let findings = rig.findings();
        assert!(findings.iter().any(|(level, text, _)| level == "fault" && text.contains(expected)), "{findings:?}");
    }
    rig.certify(
        KEY_KINDS[0].arguments,
        "extendedKeyUsage=serverAuth,clientAuth\nkeyUsage=digitalSignature\nbasicConstraints=CA:FALSE",
    );
    assert_eq!((rig.findings(), rig.connects()), (vec![], Some(true)));
}

#[test]
fn listener_reads_no_certificate_from_a_pipe() {
    let rig = Rig::new();
    rig.certify(KEY_KINDS[0].arguments, "");
    let check = |config: &Path| {
        Command::new(sibling("palabre-listener"))
            .args(["--check-certificate", "--config"])
            .arg(config)
            .output()
            .unwrap()
    };
    assert!(check(rig.directory.path()).status.success());
    fs::remove_file(rig.path("tls/key.pem")).unwrap();
    assert!(Command::new("mkfifo").arg(rig.path("tls/key.pem")).status().unwrap().success());
    let output = check(rig.directory.path());
    let printed = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() == Some(78) && printed.contains("is not a regular file"), "{output:?}");
    let (level, text, _) = rig.findings().remove(0);
    assert!(level == "fault" && text.ends_with("key.pem': the file is not a regular file"), "{text}");
}
