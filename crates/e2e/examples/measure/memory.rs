//! Measures how the memory of a tab grows over hours. A server in this program serves the page's files and a stream of speech, at a multiple of
//! real time. The microphone is on and sends as many chunks as the stream contains. No debugger is attached, because it changes what a browser
//! keeps in memory.

use std::fs;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use palabre_e2e::compare::convert;
use palabre_e2e::suite::{TIMEOUT, descendants};
use palabre_e2e::wait_for;
use palabre_sound::wav;
use tungstenite::handshake::derive_accept_key;

use crate::join::{SPEECH_RATE_HZ, speech};
use crate::process::rollup_kib;
use palabre_e2e::plot::{Curve, svg};
use palabre_e2e::trend::Trend;

const RATE_HZ: u32 = 24_000;
const CHUNK_MS: u64 = 40;
const CHUNK_SAMPLES: usize = 960;
/// Interval between two readings.
const INTERVAL: Duration = Duration::from_secs(5);
/// Time at the beginning of the measurement in which growth of memory doesn't count.
const BEGINNING_S: f64 = 60.0;
const FIREFOX: &str = "user_pref(\"media.autoplay.default\", 0);\nuser_pref(\"browser.shell.checkDefaultBrowser\", false);\n\
                       user_pref(\"datareporting.policy.dataSubmissionEnabled\", false);\n\
                       user_pref(\"media.navigator.streams.fake\", true);\n\
                       user_pref(\"media.navigator.permission.disabled\", true);\n";
const JOIN: &str = "<script>const wait = setInterval(() => {
  if (window.palabreState?.screen !== 'door') return;
  clearInterval(wait);
  document.getElementById('join').click();
  setInterval(() => fetch('figures', { method: 'POST', body: JSON.stringify(palabreState) }), 10000);
}, 100);</script></body>";

/// Measures a tab of each browser at the same time, with a stream at `speed` times real time.
pub fn run(minutes: u64, speed: u64) -> Result<()> {
    const COLOURS: [&str; 2] = ["#2a6f4e", "#b4541a"];
    let watch = |browser| std::thread::spawn(move || watched(browser, minutes, speed));
    let watches = ["chromium", "firefox-esr"].map(|browser| (browser, watch(browser)));
    let mut curves = Vec::new();
    for ((browser, watch), colour) in watches.into_iter().zip(COLOURS) {
        let (points, report) = watch.join().map_err(|_| anyhow!("the thread for {browser} panicked"))??;
        let hours = minutes as f64 * speed as f64 / 60.0;
        println!("memory: {browser}, {minutes} minutes at {speed} × speed, {hours:.1} hours of sound");
        let of = |figure: fn(&Memory) -> f64| points.iter().map(|(minute, m)| (*minute, figure(m))).collect::<Vec<_>>();
        print("PSS of the tab's process", &of(|memory| memory.pss_mib), speed as f64);
        print("private memory (Private_Dirty)", &of(|memory| memory.private_mib), speed as f64);
        println!("  the page's last counters: {report}");
        curves.push(Curve { name: browser, colour, points: of(|memory| memory.pss_mib) });
    }
    fs::create_dir_all("target/measure")?;
    let file = PathBuf::from(format!("target/measure/memory-{speed}.svg"));
    fs::write(&file, svg(&format!("Memory of a tab, {speed} × speed"), "minutes", "MiB (PSS)", &curves))?;
    println!("  plot: {}", file.display());
    Ok(())
}

/// Memory of one process.
struct Memory {
    /// Proportional set size. Contains a share of memory that several processes use, so it changes when another browser starts or ends.
    pss_mib: f64,
    private_mib: f64,
}

/// Runs the page in a browser for `minutes`, with sound at `speed` times real time. Returns the memory of the tab's process with the time of
/// each measurement in minutes since the start, and the page's last counters.
fn watched(browser: &'static str, minutes: u64, speed: u64) -> Result<(Vec<(f64, Memory)>, String)> {
    let server = Server::start(speed)?;
    let tab = Tab::open(browser, server.port)?;
    wait_for("a process with the page", TIMEOUT, || tab.memory().ok())?;
    let started = Instant::now();
    let mut points = Vec::new();
    while started.elapsed() < Duration::from_secs(60 * minutes) {
        std::thread::sleep(INTERVAL);
        points.push((started.elapsed().as_secs_f64() / 60.0, tab.memory()?));
    }
    Ok((points, server.report()))
}

/// Prints the trend of the memory after `BEGINNING_S`, and the distance of the values from the trend.
fn print(what: &str, points: &[(f64, f64)], speed: f64) {
    let settled: Vec<_> = points.iter().copied().filter(|(minute, _)| minute * 60.0 > BEGINNING_S).collect();
    let (whole, half) = (Trend::through(&settled), Trend::through(&settled[settled.len() / 2..]));
    let (least, most) = settled.iter().fold((f64::MAX, 0.0_f64), |(a, b), p| (a.min(p.1), b.max(p.1)));
    // Converts growth per minute of real time into growth per hour of sound.
    let [whole_slope, half_slope] = [whole.slope, half.slope].map(|slope| slope * 60.0 / speed);
    println!(
        "  {what}: mean {:.0} MiB, {least:.0} to {most:.0}, slope {whole_slope:+.1} MiB per hour of sound, noise {:.1} MiB; \
         second half: mean {:.0} MiB, slope {half_slope:+.1}, noise {:.1}",
        whole.mean, whole.noise, half.mean, half.noise
    );
}

/// A browser with the page in its only tab.
struct Tab {
    child: Child,
    _profile: tempfile::TempDir,
}

impl Tab {
    fn open(browser: &str, port: u16) -> Result<Self> {
        let profile = tempfile::Builder::new().prefix("palabre-memory-").tempdir()?;
        fs::write(profile.path().join("user.js"), FIREFOX)?;
        let mut command = Command::new(browser);
        if browser == "chromium" {
            command.args([
                "--headless=new",
                "--no-sandbox",
                "--disable-gpu",
                "--no-first-run",
                "--disable-background-networking",
            ]);
            command.args(["--autoplay-policy=no-user-gesture-required", "--disable-dev-shm-usage"]);
            command.args(["--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"]);
            command.arg(format!("--user-data-dir={}", profile.path().display()));
        } else {
            command.args(["--headless", "--no-remote", "--profile"]).arg(profile.path());
        }
        let child = command
            .arg(format!("http://localhost:{port}/"))
            .env("HOME", profile.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .with_context(|| format!("unable to start '{browser}'"))?;
        Ok(Self { child, _profile: profile })
    }

    /// Returns the memory of the largest process with a page.
    fn memory(&self) -> Result<Memory> {
        let holds_a_page = |pid: &u32| {
            let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            let line = String::from_utf8_lossy(&line);
            line.contains("--type=renderer") || line.contains("-contentproc")
        };
        let tabs = descendants(self.child.id()).into_iter().filter(holds_a_page);
        let sizes = tabs.filter_map(|pid| {
            let mib = |what| rollup_kib(pid, what).ok().map(|kib| kib / 1024.0);
            Some(Memory { pss_mib: mib("Pss")?, private_mib: mib("Private_Dirty")? })
        });
        sizes.max_by(|a, b| a.pss_mib.total_cmp(&b.pss_mib)).context("the browser has no process with a page")
    }
}

impl Drop for Tab {
    fn drop(&mut self) {
        let rest = descendants(self.child.id());
        let _ = self.child.kill();
        let _ = self.child.wait();
        for pid in rest {
            let _ = palabre_e2e::suite::signal(pid, "KILL");
        }
    }
}

/// A server of the page and of endless speech. Runs until the program ends.
struct Server {
    port: u16,
    report: Arc<Mutex<String>>,
}

impl Server {
    fn start(speed: u64) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let port = listener.local_addr()?.port();
        let report = Arc::new(Mutex::new(String::new()));
        let (speech, since, last) =
            (Arc::new(convert(&speech()?, SPEECH_RATE_HZ, RATE_HZ)), Instant::now(), Arc::clone(&report));
        std::thread::spawn(move || {
            for tcp in listener.incoming().flatten() {
                let (speech, last) = (Arc::clone(&speech), Arc::clone(&last));
                std::thread::spawn(move || serve(tcp, &speech, since, speed, &last));
            }
        });
        Ok(Self { port, report })
    }

    fn report(&self) -> String {
        self.report.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

fn serve(tcp: TcpStream, speech: &[i16], since: Instant, speed: u64, report: &Mutex<String>) -> Result<()> {
    tcp.set_nodelay(true)?;
    let (mut input, mut output) = (BufReader::new(tcp.try_clone()?), tcp);
    loop {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            if input.read_line(&mut head)? == 0 {
                return Ok(());
            }
        }
        let length =
            head.lines().find_map(|line| line.to_lowercase().strip_prefix("content-length:")?.trim().parse().ok());
        let mut body = vec![0; length.unwrap_or(0)];
        input.read_exact(&mut body)?;
        let path = head.split(' ').nth(1).unwrap_or_default();
        match path.split('?').next().unwrap_or_default() {
            "/listen" => return stream(&mut output, speech, since, speed),
            "/speak" => return take(input, &mut output, &head),
            "/figures" => {
                *report.lock().unwrap_or_else(PoisonError::into_inner) = String::from_utf8_lossy(&body).into_owned();
                write!(output, "HTTP/1.1 204 No Content\r\n\r\n")?;
            }
            path => {
                let (kind, bytes) = file(path, speed);
                write!(output, "HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nContent-Length: {}\r\n\r\n", bytes.len())?;
                output.write_all(&bytes)?;
            }
        }
    }
}

/// Accepts a WebSocket (RFC 6455 §4.2.2) and discards the data that it receives.
fn take(mut input: BufReader<TcpStream>, output: &mut TcpStream, head: &str) -> Result<()> {
    let key = head
        .lines()
        .find_map(|line| line.strip_prefix("Sec-WebSocket-Key:"))
        .context("the request is not for a WebSocket")?;
    let accept = derive_accept_key(key.trim().as_bytes());
    write!(
        output,
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {accept}\r\n\r\n"
    )?;
    io::copy(&mut input, &mut io::sink())?;
    Ok(())
}

fn file(path: &str, speed: u64) -> (&'static str, Vec<u8>) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../listener/page");
    let read = |name: &str| fs::read(folder.join(name)).unwrap_or_default();
    match path {
        "/" => ("text/html", String::from_utf8_lossy(&read("index.html")).replace("</body>", JOIN).into_bytes()),
        "/me" => ("application/json", me(speed).into_bytes()),
        "/page/text/languages.js" => ("text/javascript", b"export default ['en', 'fr'];".to_vec()),
        _ => {
            let name = path.trim_start_matches("/page/");
            let kind = match name.rsplit('.').next() {
                Some("js") => "text/javascript",
                Some("css") => "text/css",
                Some("svg") => "image/svg+xml",
                _ => "application/octet-stream",
            };
            (kind, read(name))
        }
    }
}

/// Returns the response to `GET /me`. It divides the length of the microphone's chunks by `speed`, so that the page sends them as often as it
/// receives chunks of the stream.
fn me(speed: u64) -> String {
    let chunk_ms = CHUNK_MS / speed;
    format!(
        r#"{{"name":"alice","display":"Alice","room":"main","rate_hz":{RATE_HZ},"chunk_ms":{chunk_ms},"levelling":true,"join_muted":false,"listen_only":false}}"#
    )
}

const PROLOGUE: &str = "<!doctype html><meta charset=utf-8><title>Palabre</title><script>function p(){var s=document.currentScript,\
                        b=s.previousSibling,t=b.textContent;b.remove();s.remove();parent.palabre(self,t)}</script>";

/// Sends the injected stream. Chunk n is due n chunk lengths divided by `speed` after `since`, and has the same SEQ in every stream.
fn stream(output: &mut TcpStream, speech: &[i16], since: Instant, speed: u64) -> Result<()> {
    write!(
        output,
        "HTTP/1.1 200 OK\r\nContent-Type: text/html; charset=utf-8\r\nContent-Length: 1000000000000\r\n\r\n{PROLOGUE}"
    )?;
    let record = |text: String| format!("<b>{text}</b><script>p()</script>");
    let people = BASE64.encode(r#"{"people":[{"name":"alice","display":"Alice"}]}"#);
    let chunk = Duration::from_millis(CHUNK_MS) / u32::try_from(speed)?;
    let mut next = (since.elapsed().as_micros() / chunk.as_micros()) as u64 + 1;
    let seq = |n: u64| 1_000_000 + n * CHUNK_MS;
    output.write_all(record(format!("0,{},{}", seq(next) - 2, BASE64.encode(me(speed)))).as_bytes())?;
    output.write_all(record(format!("3,{},{people},//8AAAAB", seq(next) - 1)).as_bytes())?;
    loop {
        std::thread::sleep((since + chunk * u32::try_from(next)?).saturating_duration_since(Instant::now()));
        let at = next as usize * CHUNK_SAMPLES % (speech.len() - CHUNK_SAMPLES);
        let sound = BASE64.encode(wav::little(RATE_HZ, &speech[at..at + CHUNK_SAMPLES]));
        output.write_all(record(format!("1,{},0,{sound},", seq(next))).as_bytes())?;
        next += 1;
    }
}
