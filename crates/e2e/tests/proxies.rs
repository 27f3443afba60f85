//! Everybody behind one port: the shipped configurations of nginx and HAProxy, run by the real programs, with a real page,
//! its stream and its microphone going through them.
#![allow(clippy::unwrap_used, missing_docs)]

use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::SystemTime;

use palabre_e2e::browser::{Browser, Tap};
use palabre_e2e::suite::{PATIENCE, Suite};
use palabre_e2e::wait_for;
use palabre_host::clock::boottime_ms;

const NGINX: &str = include_str!("../../../docs/proxy/nginx.conf");
const HAPROXY: &str = include_str!("../../../docs/proxy/haproxy.cfg");

/// A proxy on a port of its own.
struct Proxy {
    child: Child,
    port: u16,
}

impl Proxy {
    fn start(command: &mut Command, port: u16) -> Self {
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).spawn().unwrap();
        wait_for("the proxy", PATIENCE, || TcpStream::connect(("127.0.0.1", port)).ok()).unwrap();
        Self { child, port }
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let _ = palabre_e2e::suite::signal(self.child.id(), "TERM");
        let _ = self.child.wait();
    }
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// A text of the documents with this machine's ports, names and files in it; each must be there.
fn with(text: &str, changes: &[(&str, &str)]) -> String {
    changes.iter().fold(text.to_owned(), |text, (from, to)| {
        assert!(text.contains(from), "'{from}' is not in the shipped configuration");
        text.replace(from, to)
    })
}

fn nginx(suite: &Suite, directory: &Path) -> Proxy {
    let port = free_port();
    let (certificate, key) = (suite.dir().join("etc/tls/cert.pem"), suite.dir().join("etc/tls/key.pem"));
    let server = with(
        NGINX,
        &[
            ("listen 443 ssl;", &format!("listen 127.0.0.1:{port} ssl;")),
            ("    listen [::]:443 ssl;\n", ""),
            ("voice.example.org;", "localhost;"),
            ("/etc/letsencrypt/live/voice.example.org/fullchain.pem", certificate.to_str().unwrap()),
            ("/etc/letsencrypt/live/voice.example.org/privkey.pem", key.to_str().unwrap()),
            ("/alice", "/p01"),
            ("127.0.0.1:9001", &format!("127.0.0.1:{}", suite.link("p01").port)),
        ],
    );
    let at = directory.display();
    let temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"].map(|of| format!("{of}_temp_path {at}/{of};"));
    let whole = format!(
        "daemon off; pid {at}/nginx.pid; error_log stderr;\nevents {{ }}\nhttp {{\n{}\n{server}\n}}\n",
        temporary.concat()
    );
    let file = directory.join("nginx.conf");
    std::fs::write(&file, whole).unwrap();
    Proxy::start(Command::new("nginx").arg("-p").arg(directory).arg("-e").arg("stderr").arg("-c").arg(file), port)
}

fn haproxy(suite: &Suite, directory: &Path) -> Proxy {
    let port = free_port();
    let whole = with(
        HAPROXY,
        &[
            ("bind :443", &format!("bind 127.0.0.1:{port}")),
            ("alice.voice.example.org }", "p02.localhost }"),
            ("127.0.0.1:9001", &format!("127.0.0.1:{}", suite.link("p02").port)),
        ],
    );
    let file = directory.join("haproxy.cfg");
    std::fs::write(&file, whole).unwrap();
    Proxy::start(Command::new("haproxy").arg("-db").arg("-f").arg(file), port)
}

fn join(url: &str) -> Browser {
    let voice: PathBuf = Path::new(env!("CARGO_MANIFEST_DIR")).join("speech/english-man-16000Hz-mono.wav");
    let browser = Browser::start(Some(&voice), "en").unwrap();
    browser.tap_sound().unwrap();
    browser.open(url).unwrap();
    browser.wait_until("window.palabreState?.screen === 'door'").unwrap();
    browser.click("#join").unwrap();
    browser.wait_until("palabreState.connection === 'live' && palabreState.microphone === 'on'").unwrap();
    // Every page of a try but the first joins muted.
    if browser.run("return palabreState.muted").unwrap() == true {
        browser.click("#mute").unwrap();
    }
    browser
}

/// What the person at this page hears is loud enough to be the other one's voice.
fn hears_somebody(browser: &Browser) {
    let loud = || {
        let (count, rate_hz) = browser.tapped(Tap::Output).ok()?;
        let samples = browser.tap_from(Tap::Output, count.saturating_sub(rate_hz as usize)).ok()?;
        (samples.iter().filter(|sample| sample.unsigned_abs() > 1_000).count() > 500).then_some(())
    };
    wait_for("a voice", PATIENCE, loud).unwrap();
}

/// From a chunk's completion in the listener to its arrival in the page, in ms: the median.
fn down_ms(browser: &Browser) -> f64 {
    let boot_ms =
        SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs_f64() * 1000.0 - boottime_ms() as f64;
    let enough = || browser.tap_stages().ok().filter(|stages| stages.arrived.len() > 100);
    let arrived = wait_for("a hundred chunks", PATIENCE, enough).unwrap().arrived;
    let mut late: Vec<f64> = arrived.iter().map(|(_, wall_ms, seq)| wall_ms - (seq + boot_ms)).collect();
    late.sort_by(f64::total_cmp);
    late[late.len() / 2]
}

#[test]
fn page_stream_and_microphone_work_behind_nginx_and_haproxy() {
    let suite = Suite::start(3).unwrap();
    let directory = tempfile::tempdir().unwrap();
    let (nginx, haproxy) = (nginx(&suite, directory.path()), haproxy(&suite, directory.path()));
    let key = |name: &str| suite.link(name).key.clone();
    let by_path = join(&format!("https://localhost:{}/p01/?key={}", nginx.port, key("p01")));
    let by_name = join(&format!("https://p02.localhost:{}/?key={}", haproxy.port, key("p02")));
    for (browser, address) in [
        (&by_path, format!("https://localhost:{}/p01/", nginx.port)),
        (&by_name, format!("https://p02.localhost:{}/", haproxy.port)),
    ] {
        assert_eq!(browser.run("return location.href").unwrap(), address);
        hears_somebody(browser);
        assert_eq!(browser.run("return palabreState.uplinkKind").unwrap(), "websocket");
    }
    let direct = join(&suite.link("p03").url);
    let [path, name, none] = [&by_path, &by_name, &direct].map(down_ms);
    println!("from listener to page, median: direct {none:.1} ms, by nginx {path:.1} ms, by HAProxy {name:.1} ms");
    suite.stop().unwrap();
}
