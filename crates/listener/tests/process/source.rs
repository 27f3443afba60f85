//! Tests of `--source FILE`, which needs no mixer, room and supervisor.

use crate::rig::{PATIENCE, wait_for};
use palabre_sound::wav;
use std::fs::File;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Instant;

/// A running listener that serves a file, and the link that the listener printed.
struct Rig {
    child: Child,
    link: String,
    _stdout: BufReader<ChildStdout>,
}

impl Rig {
    fn new(source: &Path, args: &[&str]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_palabre-listener"));
        command.arg("--source").arg(source).args(["--port", "0"]).args(args).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let mut link = String::new();
        stdout.read_line(&mut link).unwrap();
        Self { child, link: link.trim().to_owned(), _stdout: stdout }
    }

    fn url(&self, path: &str) -> String {
        self.link.replace("/?", &format!("{path}?"))
    }

    fn curl(&self, args: &[&str]) -> Command {
        let mut curl = Command::new("curl");
        // The option -k accepts any certificate, because each start of the listener creates a new one.
        curl.args(["-skN", "--ipv4"]).args(args);
        curl
    }

    fn get(&self, path: &str) -> String {
        String::from_utf8(self.curl(&[&self.url(path)]).output().unwrap().stdout).unwrap()
    }

    fn status(&self, args: &[&str], path: &str) -> String {
        let mut curl = self.curl(&["-o", "/dev/null", "-w", "%{http_code}"]);
        String::from_utf8(curl.args(args).arg(self.url(path)).output().unwrap().stdout).unwrap()
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Appends frames of samples with this value to the file until such samples arrive in `/listen.wav`.
fn heard(rig: &Rig, path: &Path, value: i16) {
    let mut curl = rig.curl(&[&rig.url("/listen.wav")]).stdout(Stdio::piped()).spawn().unwrap();
    let mut stdout = curl.stdout.take().unwrap();
    let mut head = [0; 44];
    stdout.read_exact(&mut head).unwrap();
    let end = Instant::now() + PATIENCE;
    let mut file = File::options().append(true).open(path).unwrap();
    let frame: Vec<u8> = [value; 480].iter().flat_map(|sample| sample.to_le_bytes()).collect();
    let mut bytes = [0; 960];
    loop {
        assert!(Instant::now() < end, "samples of {value} did not arrive");
        file.write_all(&frame).unwrap();
        stdout.read_exact(&mut bytes).unwrap();
        if bytes.chunks_exact(2).any(|pair| pair == value.to_le_bytes()) {
            break;
        }
    }
    curl.kill().unwrap();
    curl.wait().unwrap();
}

#[test]
fn growing_replaced_and_truncated_file_is_heard() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("dat.wav");
    std::fs::write(&path, wav::endless_head(24000)).unwrap();
    let rig = Rig::new(&path, &[]);
    heard(&rig, &path, 11);
    let next = directory.path().join("next.wav");
    std::fs::write(&next, wav::endless_head(24000)).unwrap();
    std::fs::rename(&next, &path).unwrap();
    heard(&rig, &path, 22);
    std::fs::write(&path, wav::endless_head(24000)).unwrap();
    heard(&rig, &path, 33);
}

#[test]
fn chunk_of_a_second_is_one_record() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("dat.wav");
    std::fs::write(&path, wav::endless_head(24000)).unwrap();
    let rig = Rig::new(&path, &["--chunk-ms", "1000"]);
    let mut curl = rig.curl(&[&rig.url("/listen")]).stdout(Stdio::piped()).spawn().unwrap();
    let mut records =
        BufReader::new(curl.stdout.take().unwrap()).split(b'>').map(|part| String::from_utf8(part.unwrap()).unwrap());
    // After the first silence record, the stream contains all samples that are appended to the file.
    records.find(|part| part.starts_with("2,")).unwrap();
    let second_and_a_half = [7i16; 36_000].iter().flat_map(|sample| sample.to_le_bytes()).collect::<Vec<u8>>();
    File::options().append(true).open(&path).unwrap().write_all(&second_and_a_half).unwrap();
    let sound = records.find(|part| part.starts_with("1,")).unwrap();
    // The WAV is a header of 44 bytes and 24000 samples of two bytes, in base64.
    assert_eq!(sound.split(',').nth(3).unwrap().len(), (44_usize + 48_000).div_ceil(3) * 4);
    curl.kill().unwrap();
    curl.wait().unwrap();
}

#[test]
fn source_has_a_page_and_no_microphone() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("dat.wav");
    std::fs::write(&path, wav::endless_head(44100)).unwrap();
    let rig = Rig::new(&path, &["--chunk-ms", "100"]);
    let me = rig.get("/me");
    assert!(me.contains("\"rate_hz\":48000,\"chunk_ms\":100"), "{me}");
    assert!(me.contains("\"listen_only\":true"), "{me}");
    assert_eq!(rig.status(&[], "/page/stream/records.js"), "200");
    assert_eq!(rig.status(&["-X", "POST", "-d", "x"], "/speak"), "404");
    assert_eq!(rig.status(&[], "/"), "303");
}

#[test]
fn key_and_certificate_files_are_used() {
    let directory = tempfile::tempdir().unwrap();
    let own = crate::rig::new_certificate(directory.path());
    let key = directory.path().join("key");
    std::fs::write(&key, "000102030405060708090a0b0c0d0e0f\n").unwrap();
    let at = |name: &str| directory.path().join(name).to_str().unwrap().to_owned();
    let rig = Rig::new(
        &directory.path().join("absent.wav"),
        &["--key-file", &at("key"), "--certificate", &at("tls/cert.pem"), "--private-key", &at("tls/key.pem")],
    );
    assert!(rig.link.ends_with("/?key=000102030405060708090a0b0c0d0e0f"), "{}", rig.link);
    let port: u16 = rig.link.split([':', '/']).nth(4).unwrap().parse().unwrap();
    wait_for(|| crate::client::Client::connect(port, &own.cert_pem).ok());
    // While the file is missing, the stream is silent.
    let mut curl = rig.curl(&[&rig.url("/listen")]).stdout(Stdio::piped()).spawn().unwrap();
    let mut stdout = BufReader::new(curl.stdout.take().unwrap());
    let mut text = Vec::new();
    while !text.ends_with(b"<b>2") {
        stdout.read_until(b'2', &mut text).unwrap();
        assert!(text.len() < 10_000);
    }
    curl.kill().unwrap();
    curl.wait().unwrap();
}
