//! Tests of the signer: handshakes of real listeners without a key, deaths of the signer, renewals of the certificate, and restarts.

#![allow(clippy::unwrap_used, missing_docs)]

mod fixture;

use std::fs;
use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use fixture::{Fixture, Started, TIMEOUT, eventually, next_signer, program, runs, signal, signer};
use palabre_config::control::{Request, Response, State, Target};
use palabre_config::hex;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, ClientConnection, DigitallySignedStruct, Error, SignatureScheme, StreamOwned, version};

type Connection = StreamOwned<ClientConnection, TcpStream>;

/// Accepts every certificate, but verifies that the server has signed with its key.
#[derive(Debug)]
struct AnyCertificate(CryptoProvider);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

/// Performs a handshake with the listener at `port`, with this version of TLS.
fn connect_by(version: &'static rustls::SupportedProtocolVersion, port: u16) -> io::Result<Connection> {
    let verifier = Arc::new(AnyCertificate(ring::default_provider()));
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_protocol_versions(&[version])
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_no_client_auth();
    let mut tcp = TcpStream::connect(("127.0.0.1", port))?;
    tcp.set_read_timeout(Some(TIMEOUT))?;
    let mut connection = ClientConnection::new(Arc::new(config), ServerName::try_from("localhost").unwrap())
        .map_err(io::Error::other)?;
    while connection.is_handshaking() {
        connection.complete_io(&mut tcp)?;
    }
    Ok(StreamOwned::new(connection, tcp))
}

fn connect(port: u16) -> io::Result<Connection> {
    connect_by(&version::TLS13, port)
}

/// Returns the certificate that the listener presents.
fn presented(port: u16) -> Vec<u8> {
    of_server(&connect(port).unwrap())
}

fn of_server(connection: &Connection) -> Vec<u8> {
    connection.conn.peer_certificates().unwrap()[0].to_vec()
}

/// Sends a request and returns the first line of the response.
fn get(connection: &mut Connection) -> String {
    connection.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    let mut start = [0; 16];
    connection.read_exact(&mut start).unwrap();
    String::from_utf8_lossy(&start).into_owned()
}

/// Performs handshakes in a thread until it is stopped. Returns how many failed, and how many succeeded.
struct Knocker {
    stop: Arc<AtomicBool>,
    thread: thread::JoinHandle<(Vec<String>, usize)>,
}

impl Knocker {
    fn at(port: u16) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let end = Arc::clone(&stop);
        let thread = thread::spawn(move || {
            let (mut failed, mut succeeded) = (Vec::new(), 0);
            while !end.load(Ordering::Relaxed) {
                match connect(port) {
                    Ok(_) => succeeded += 1,
                    Err(error) => failed.push(error.to_string()),
                }
            }
            (failed, succeeded)
        });
        Self { stop, thread }
    }

    fn end(self) {
        self.stop.store(true, Ordering::Relaxed);
        let (failed, succeeded) = self.thread.join().unwrap();
        assert!(failed.is_empty() && succeeded > 0, "{succeeded} handshakes, failed: {failed:?}");
    }
}

/// Makes a key of this kind and a certificate for it.
fn write_key(fixture: &Fixture, kind: &[&str]) {
    let tls = fixture.config().join("tls");
    let request = ["req", "-x509", "-nodes", "-subj", "/CN=localhost", "-keyout", "key.pem", "-out", "cert.pem"];
    let made = Command::new("openssl").current_dir(tls).args(request).args(kind).output().unwrap();
    assert!(made.status.success(), "{made:?}");
}

#[test]
fn both_versions_of_tls_and_both_kinds_of_keys_are_signed_by_the_signer() {
    for kind in [&["-newkey", "rsa:2048"][..], &["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]] {
        let mut fixture = Fixture::of(&["alice"]);
        write_key(&fixture, kind);
        fixture.start();
        let alice = fixture.wait_for("alice", State::Ready);
        for version in [&version::TLS12, &version::TLS13] {
            assert!(get(&mut connect_by(version, alice.port).unwrap()).starts_with("HTTP/1.1 "));
        }
        eventually("two signatures in the status", || signer(&fixture).signatures == 2);
        assert_eq!((signer(&fixture).refused, signer(&fixture).user), (0, None));
    }
}

/// Returns which of these texts the memory of a process contains. Returns `None` if the user of this test may not read the memory.
fn in_memory(pid: u32, texts: &[Vec<u8>]) -> Option<Vec<bool>> {
    let maps = fs::read_to_string(format!("/proc/{pid}/maps")).ok()?;
    let memory = fs::File::open(format!("/proc/{pid}/mem")).ok()?;
    let writable = maps.lines().filter(|line| line.contains(" rw"));
    let ranges = writable.filter_map(|line| line.split_once(' ')?.0.split_once('-'));
    let address = |text| u64::from_str_radix(text, 16).unwrap();
    let mut found = vec![false; texts.len()];
    for (from, to) in ranges.map(|(from, to)| (address(from), address(to))) {
        let mut bytes = vec![0; usize::try_from(to - from).unwrap().min(64 << 20)];
        if memory.read_exact_at(&mut bytes, from).is_ok() {
            for (found, text) in found.iter_mut().zip(texts) {
                *found |= bytes.windows(text.len()).any(|window| window == text);
            }
        }
    }
    Some(found)
}

/// Returns the forms in which a program can have the RSA key: a line of the file, and a prime with its first byte first or last.
fn forms_of_rsa_key(fixture: &Fixture) -> Vec<Vec<u8>> {
    let tls = fixture.config().join("tls");
    let file = fs::read_to_string(tls.join("key.pem")).unwrap();
    let text = Command::new("openssl").current_dir(tls).args(["pkey", "-in", "key.pem", "-noout", "-text"]).output();
    let text = String::from_utf8(text.unwrap().stdout).unwrap();
    let (_, prime) = text.split_once("prime1:").unwrap();
    let (prime, _) = prime.split_once("prime2:").unwrap();
    let digits: String = prime.chars().filter(char::is_ascii_hexdigit).collect();
    let prime = hex::decode::<129>(&digits).unwrap()[1..].to_vec();
    let line = file.lines().nth(10).unwrap().as_bytes().to_vec();
    vec![line, prime.clone(), prime.into_iter().rev().collect()]
}

#[test]
fn listener_neither_has_the_key_in_its_memory_nor_its_file_open() {
    let mut fixture = Fixture::of(&["alice"]);
    write_key(&fixture, &["-newkey", "rsa:2048"]);
    fixture.start();
    let alice = fixture.wait_for("alice", State::Ready);
    drop(connect(alice.port).unwrap());
    let (forms, pid) = (forms_of_rsa_key(&fixture), alice.pid.unwrap());
    let (Some(of_listener), Some(of_signer)) = (in_memory(pid, &forms), in_memory(signer(&fixture).pid, &forms)) else {
        return palabre_testing::not_shown("that a listener's memory has no key", "only root may read it");
    };
    assert!(of_signer.contains(&true), "the same search finds the key in the memory of the signer");
    println!("forms of the key in the memory of the signer: {of_signer:?}");
    assert_eq!(of_listener, [false; 3]);
    assert!(!fixture::descriptors(pid).iter().any(|file| file.contains("key.pem")));
}

#[test]
fn killed_signer_is_replaced_no_handshake_fails_and_open_connections_go_on() {
    let fixture = Fixture::open(&["alice"]);
    let port = fixture.participant("alice").port;
    let mut open = connect(port).unwrap();
    let knocker = Knocker::at(port);
    let mut killed = signer(&fixture);
    for _ in 0..3 {
        signal(killed.pid, "KILL");
        drop(connect(port).unwrap());
        killed = next_signer(&fixture, &killed);
    }
    knocker.end();
    assert!(get(&mut open).starts_with("HTTP/1.1 "));
    assert_eq!(fixture.participant("alice").restarts, 0);
    assert!(fixture.status().errors.is_empty(), "{:?}", fixture.status().errors);
}

#[test]
fn certificate_is_renewed_while_handshakes_run_and_none_fails() {
    let fixture = Fixture::open(&["alice"]);
    let port = fixture.participant("alice").port;
    let knocker = Knocker::at(port);
    let mut before = presented(port);
    for _ in 0..3 {
        fixture.write_certificate();
        assert!(fixture.reload().certificate);
        fixture.settled("alice");
        let now = presented(port);
        assert_ne!(now, before, "the new certificate is used at once after a reload");
        before = now;
    }
    knocker.end();
}

#[test]
fn signer_stays_when_the_supervisor_and_a_listener_restart() {
    let fixture = Fixture::open(&["alice", "bob"]);
    let [alice, bob] = ["alice", "bob"].map(|name| fixture.participant(name));
    let before = signer(&fixture);
    let restarted = fixture.ask(&Request::Restart(Target::Supervisor));
    assert_eq!(restarted, Ok(Response::Restarted { pid: fixture.pid() }));
    assert_eq!(signer(&fixture).pid, before.pid);
    drop(connect(alice.port).unwrap());
    assert_eq!(fixture.restart("alice"), Response::Ok);
    drop(connect(alice.port).unwrap());
    // The next signer gets the connection of a listener that the previous program of the supervisor has started.
    signal(before.pid, "KILL");
    drop(connect(bob.port).unwrap());
    next_signer(&fixture, &before);
    drop(connect(alice.port).unwrap());
    assert_eq!(fixture.participant("bob").pid, bob.pid);
}

#[test]
fn next_signer_gets_all_connections_if_none_ran_while_the_supervisor_restarted() {
    let mut fixture = Fixture::of(&["alice"]);
    let program_file = fixture.config().join("palabre-signer");
    fs::copy(program("palabre-signer"), &program_file).unwrap();
    fixture.start_by(fixture.command().arg("--signer").arg(&program_file));
    let alice = fixture.wait_for("alice", State::Ready);
    let hidden = fixture.config().join("hidden");
    fs::rename(&program_file, &hidden).unwrap();
    signal(signer(&fixture).pid, "KILL");
    eventually("an alarm", || fixture.status().errors.iter().any(|error| error.contains("no palabre-signer runs")));
    let restarted = fixture.ask(&Request::Restart(Target::Supervisor));
    assert_eq!(restarted, Ok(Response::Restarted { pid: fixture.pid() }));
    fs::rename(&hidden, &program_file).unwrap();
    drop(connect(alice.port).unwrap());
    assert_eq!(fixture.participant("alice").pid, alice.pid);
    assert!(fixture.status().errors.is_empty(), "{:?}", fixture.status().errors);
}

#[test]
fn status_after_a_renewal_does_not_use_a_palabre_toml_that_was_not_reloaded() {
    let fixture = Fixture::open(&["alice"]);
    fixture.write_certificate();
    fixture.write_server("certificate = \"/missing.pem\"\n");
    for _ in 0..2 {
        let certificate = fixture.status().certificate.unwrap();
        assert_eq!(certificate.fault, None);
    }
}

#[test]
fn stopped_signer_is_an_alarm_until_it_is_continued() {
    let fixture = Fixture::open(&["alice"]);
    let pid = signer(&fixture).pid;
    signal(pid, "STOP");
    eventually("an alarm", || fixture.status().errors.iter().any(|error| error.contains("is stopped")));
    assert!(fixture.status().errors[0].ends_with(&format!("run 'kill -CONT {pid}' to continue it")));
    signal(pid, "CONT");
    eventually("no alarm", || fixture.status().errors.is_empty());
}

#[test]
fn listener_starts_with_the_previous_certificate_while_the_new_files_are_invalid() {
    let fixture = Fixture::open(&["alice"]);
    let alice = fixture.participant("alice");
    let before = presented(alice.port);
    fs::write(fixture.config().join("tls/cert.pem"), "invalid").unwrap();
    fixture.reload();
    assert!(fixture.status().certificate.unwrap().fault.is_some());
    assert_eq!(fixture.restart("alice"), Response::Ok);
    assert_ne!(fixture.participant("alice").pid, alice.pid);
    assert_eq!(presented(alice.port), before);
}

#[test]
fn sighup_reads_a_certificate_in_another_directory_and_an_invalid_one_does_not_replace_it() {
    let mut fixture = Fixture::of(&["alice"]);
    let log = fixture.config().join("log");
    fixture.start_by(fixture.command().stderr(fs::File::create(&log).unwrap()));
    let port = fixture.wait_for("alice", State::Ready).port;
    let child = signer(&fixture);
    let other = tempfile::tempdir().unwrap();
    let made = palabre_config::certificate::self_signed(&["localhost".into()]).unwrap();
    made.write(other.path()).unwrap();
    let name = |directory: &Path| {
        let directory = directory.display();
        fixture
            .write_server(&format!("certificate = \"{directory}/cert.pem\"\nprivate-key = \"{directory}/key.pem\"\n"));
        signal(fixture.pid(), "HUP");
    };
    let before = presented(port);
    name(other.path());
    eventually("the new certificate", || matches!(connect(port), Ok(new) if of_server(&new) != before));
    // The child's sandbox does not permit the directory, so another child replaces it.
    let next = signer(&fixture);
    let has_landlock = child.sandbox.contains("Landlock");
    assert_eq!(next.pid != child.pid, has_landlock, "{}", child.sandbox);
    let renewed = presented(port);
    name(&other.path().join("missing"));
    let fault = || fixture.status().certificate.unwrap().fault.unwrap_or_default();
    eventually("a fault", || fault().contains("missing/cert.pem"));
    eventually("a line about the refused signer", || {
        fs::read_to_string(&log).unwrap().contains("unable to use the next palabre-signer (process ")
    });
    assert_eq!((presented(port), signer(&fixture).pid), (renewed, next.pid));
}

#[test]
fn reload_that_waits_for_the_signer_is_dropped_when_the_supervisor_ends() {
    let mut fixture = Fixture::of(&["alice"]);
    let log = fixture.config().join("log");
    fixture.start_by(fixture.command().stderr(fs::File::create(&log).unwrap()));
    fixture.wait_for("alice", State::Ready);
    signal(signer(&fixture).pid, "STOP");
    // The kernel delivers SIGHUP before SIGTERM if both are pending.
    signal(fixture.pid(), "HUP");
    signal(fixture.pid(), "TERM");
    assert!(fixture.wait_for_the_end().success());
    let log = fs::read_to_string(log).unwrap();
    assert!(!log.contains("configuration was read again"), "{log}");
}

/// Waits until the process has logged a line with this text.
fn waits_for(process: &mut Started, text: &str) {
    let mut lines = BufReader::new(process.0.stderr.take().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap().contains(text)), "the process has ended without '{text}'");
}

fn start_signer(config: &Path, run: &Path) -> Started {
    let mut command = Command::new(program("palabre-signer"));
    command.arg("--config").arg(config).arg("--run").arg(run).stdin(Stdio::null()).stderr(Stdio::piped());
    Started(command.spawn().unwrap())
}

#[test]
fn signer_of_another_unit_replaces_the_child_of_the_supervisor() {
    if fs::metadata("/proc/self").unwrap().uid() != 0 {
        return palabre_testing::not_shown("that a signer of another unit is used", "only root may sign");
    }
    let fixture = Fixture::open(&["alice"]);
    let port = fixture.participant("alice").port;
    let child = signer(&fixture);
    let knocker = Knocker::at(port);
    let other = start_signer(&fixture.config(), &fixture.run());
    eventually("the other signer", || signer(&fixture).pid == other.0.id());
    assert_eq!(signer(&fixture).user.as_deref(), Some("root"));
    eventually("the child has ended", || !runs(child.pid));
    drop(connect(port).unwrap());
    // A second signer does not replace the first one.
    let mut second = start_signer(&fixture.config(), &fixture.run());
    let refusal =
        format!("palabre-signer already runs as process {} of user 'root'; end one of the two signers", other.0.id());
    waits_for(&mut second, &refusal);
    assert_eq!(signer(&fixture).pid, other.0.id());
    drop(second);
    // Restart the signer, as its unit does: the listener's requests wait meanwhile.
    drop(other);
    let again = start_signer(&fixture.config(), &fixture.run());
    drop(connect(port).unwrap());
    eventually("the next signer", || signer(&fixture).pid == again.0.id());
    knocker.end();
    let before = presented(port);
    fixture.write_certificate();
    fixture.reload();
    fixture.settled("alice");
    assert_ne!(presented(port), before);
}
