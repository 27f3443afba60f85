//! `palabre try --open` opens browser windows, and `--lan` serves other machines.
#![allow(clippy::unwrap_used, missing_docs)]

use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use palabre_e2e::machines::Machines;
use palabre_e2e::suite::{Suite, TIMEOUT, descendants};
use palabre_e2e::wait_for;
use palabre_sound::measure::rms_dbfs;
use palabre_testing::not_shown;
use serde_json::Value;

/// Creates a directory for PATH with a `chromium` that runs the real one without a display or sandbox (root can't use it), and with a
/// debugging port.
fn chromium_without_a_display() -> tempfile::TempDir {
    let path = std::env::var_os("PATH").unwrap();
    let real = std::env::split_paths(&path).map(|dir| dir.join("chromium")).find(|file| file.is_file()).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("chromium");
    let flags = "--headless=new --no-sandbox --disable-gpu --disable-quic --disable-dev-shm-usage \
                 --disable-background-networking --disable-component-update --disable-sync --remote-debugging-port=0";
    std::fs::write(&file, format!("#!/bin/sh\nexec '{}' {flags} \"$@\"\n", real.display())).unwrap();
    std::fs::set_permissions(&file, PermissionsExt::from_mode(0o755)).unwrap();
    dir
}

fn curl(arguments: &[&str]) -> Option<String> {
    let output =
        Command::new("curl").args(["-sSf", "--noproxy", "*", "--max-time", "20"]).args(arguments).output().unwrap();
    output.status.success().then(|| String::from_utf8(output.stdout).unwrap())
}

/// Returns address and title of each window of the browser with this profile.
fn windows(profile: &Path) -> Option<Vec<(String, String)>> {
    let port = std::fs::read_to_string(profile.join("DevToolsActivePort")).ok()?.lines().next()?.to_owned();
    let list: Value = serde_json::from_str(&curl(&[&format!("http://127.0.0.1:{port}/json/list")])?).ok()?;
    let text = |window: &Value, field: &str| window[field].as_str().map(str::to_owned);
    let pages = list.as_array()?.iter().filter(|window| window["type"] == "page");
    pages.map(|window| Some((text(window, "url")?, text(window, "title")?))).collect()
}

/// A process that is killed when this value is dropped.
struct Killed(std::process::Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Starts to receive the endless WAV of the participant with this link.
fn listen(link: &str) -> Killed {
    let (page, key) = link.split_once("?key=").unwrap();
    let mut curl = Command::new("curl");
    curl.args(["-skN", "--noproxy", "*", &format!("{page}listen.wav?key={key}")]);
    Killed(curl.stdout(Stdio::piped()).spawn().unwrap())
}

#[test]
fn melody_of_one_machine_is_heard_on_another_and_nothing_is_left_at_the_end() {
    let mut machines = Machines::start(2, &[]).unwrap();
    let _lyon = listen(&machines.links[0][0]);
    let mut paris = listen(&machines.links[1][0]);
    let mut sound = paris.0.stdout.take().unwrap();
    // Half a second of 16-bit samples at 24 kHz, in bytes.
    let mut piece = [0; 24_000];
    let is_heard = |piece: &[u8]| {
        let samples: Vec<i16> = piece.as_chunks::<2>().0.iter().map(|&pair| i16::from_le_bytes(pair)).collect();
        rms_dbfs(&samples) > -50.0
    };
    sound.read_exact(&mut piece[..44]).unwrap();
    wait_for("the melody", TIMEOUT, || {
        sound.read_exact(&mut piece).unwrap();
        is_heard(&piece).then_some(())
    })
    .unwrap();
    let processes = descendants(machines.pid());
    assert!(processes.len() >= 9, "{processes:?}");
    assert!(machines.interrupt().unwrap().success());
    wait_for("the end of all processes", TIMEOUT, || (!processes.iter().any(|pid| is_running(*pid))).then_some(()))
        .unwrap();
    assert_eq!(std::fs::read_dir(machines.directory()).unwrap().count(), 0);
}

fn is_running(pid: u32) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z "))
}

#[test]
fn open_shows_each_link_in_a_window_without_a_warning_and_closes_it_at_the_end() {
    let bin = chromium_without_a_display();
    let path = std::env::var_os("PATH").unwrap();
    let path = std::env::join_paths([bin.path().to_owned()].into_iter().chain(std::env::split_paths(&path))).unwrap();
    let suite = Suite::start_in(2, &["--no-voices", "--open"], &[("PATH", &path)]).unwrap();
    for link in &suite.links {
        let profile: PathBuf = suite.dir().join("browser").join(&link.name);
        let address = format!("https://localhost:{}/", link.port);
        // If Chromium doesn't trust the certificate, or gets no response, it shows an error page of its own with another title.
        let shown = |(url, title): &(String, String)| *url == address && title.contains("Palabre");
        let ready = wait_for("the page in its window", TIMEOUT, || windows(&profile)?.iter().any(shown).then_some(()));
        assert!(ready.is_ok(), "{:?}", windows(&profile));
    }
    let processes = descendants(suite.pid());
    suite.stop().unwrap();
    wait_for("the end of every process", TIMEOUT, || (!processes.iter().any(|&pid| is_running(pid))).then_some(()))
        .unwrap();
}

#[test]
fn lan_uses_the_machine_s_address_in_links_and_certificate() {
    let suite = Suite::start_in(1, &["--no-voices", "--lan"], &[]).unwrap();
    let link = &suite.links[0];
    let host = link.url.strip_prefix("https://").unwrap().split(':').next().unwrap();
    if host == "localhost" {
        not_shown("'palabre try --lan'", "this machine has no address in a network");
    } else {
        assert!(host.parse::<std::net::Ipv4Addr>().is_ok_and(|ip| !ip.is_loopback()), "{host}");
    }
    let certificate = suite.dir().join("etc/tls/cert.pem");
    for host in [host, "localhost", "127.0.0.1"] {
        let me = format!("https://{host}:{}/me", link.port);
        let bearer = format!("Authorization: Bearer {}", link.key);
        let answer = curl(&["--cacert", certificate.to_str().unwrap(), "-H", &bearer, &me]);
        assert!(answer.is_some_and(|answer| answer.contains(&link.name)), "{host}");
    }
    suite.stop().unwrap();
}
