//! Duration of a TLS handshake with a listener for which the signer signs, and with a listener that has the key. Processor time of the signer. Time
//! until the first handshake after the signer was killed.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use palabre_e2e::client::Client;
use palabre_e2e::compare::median;
use palabre_e2e::link::Link;
use palabre_e2e::suite::{Suite, TIMEOUT, binary, signal};
use palabre_e2e::wait_for;

/// Kinds of keys as options of `openssl req`, with the number of handshakes. It is lower for RSA, because the
/// signer makes at most 300 RSA signatures at once for a listener.
const KINDS: [(&str, &[&str], usize); 2] = [
    ("P-256", &["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"], 1000),
    ("RSA 2048", &["-newkey", "rsa:2048"], 250),
];

/// Number of times that the signer is killed.
const KILLS: usize = 11;

pub fn run() -> Result<()> {
    println!(
        "| key | handshakes | by the signer, median | listener with the key, median | the signer's processor time |"
    );
    println!("| --- | --- | --- | --- | --- |");
    KINDS.into_iter().try_for_each(|(kind, options, count)| measure(kind, options, count))?;
    let mut after_ms = (0..KILLS).map(|_| after_a_kill_ms()).collect::<Result<Vec<f64>>>()?;
    after_ms.sort_by(f64::total_cmp);
    let longest_ms = after_ms.last().copied().unwrap_or_default();
    println!(
        "\nkill -9 of the signer: the next handshake is complete after {:.0} ms (median of {KILLS}, longest {longest_ms:.0} ms)",
        median(after_ms)
    );
    Ok(())
}

/// Kills the signer of a new suite, and returns the time until a client that connects at once has completed its handshake.
fn after_a_kill_ms() -> Result<f64> {
    let suite = Suite::start(1)?;
    let tls = suite.dir().join("etc/tls");
    handshake_us(&tls, &suite.links[0])?;
    let signer = suite.process("palabre-signer", "").context("no process of palabre-signer")?;
    signal(signer, "KILL")?;
    let begun = Instant::now();
    wait_for("a handshake", TIMEOUT, || handshake_us(&tls, &suite.links[0]).ok())?;
    let after_ms = begun.elapsed().as_secs_f64() * 1e3;
    suite.stop()?;
    Ok(after_ms)
}

fn measure(kind: &str, options: &[&str], count: usize) -> Result<()> {
    let suite = Suite::start(1)?;
    let tls = suite.dir().join("etc/tls");
    write_key(&tls, options)?;
    suite.palabre(&["reload"])?;
    let signer = suite.process("palabre-signer", "").context("no process of palabre-signer")?;
    let alone = Alone::start(&tls)?;
    let (mut by_signer, mut by_key) = (Vec::new(), Vec::new());
    let before_us = processor_us(signer)?;
    // Measure the two listeners alternately, so that other load affects both results.
    for _ in 0..count {
        by_signer.push(handshake_us(&tls, &suite.links[0])?);
        by_key.push(handshake_us(&tls, &alone.link)?);
    }
    let used_ms = (processor_us(signer)? - before_us) as f64 / 1000.0;
    println!("| {kind} | {count} | {:.0} µs | {:.0} µs | {used_ms:.0} ms |", median(by_signer), median(by_key));
    suite.stop()
}

/// Makes a key and a certificate for it.
fn write_key(tls: &Path, options: &[&str]) -> Result<()> {
    let made = Command::new("openssl")
        .current_dir(tls)
        .args(["req", "-x509", "-nodes", "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"])
        .args(["-addext", "basicConstraints=critical,CA:FALSE", "-keyout", "key.pem", "-out", "cert.pem"])
        .args(options)
        .output()?;
    ensure!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    Ok(())
}

/// Performs a handshake without resumption of an earlier session.
fn handshake_us(tls: &Path, link: &Link) -> Result<f64> {
    // A new client has no stored session that it could resume.
    let client = Client::trusting(&tls.join("cert.pem"))?;
    let begun = Instant::now();
    let mut connection = client.connect(link)?;
    connection.flush()?;
    ensure!(!connection.conn.is_handshaking(), "the handshake is not complete");
    Ok(begun.elapsed().as_secs_f64() * 1e6)
}

/// Returns the processor time of a process in µs: proc_pid_schedstat(5).
fn processor_us(pid: u32) -> Result<u64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/schedstat"))?;
    let used_ns: u64 = text.split(' ').next().unwrap_or_default().parse()?;
    Ok(used_ns / 1000)
}

/// A listener that reads the key itself.
struct Alone {
    child: Child,
    link: Link,
}

impl Alone {
    fn start(tls: &Path) -> Result<Self> {
        let mut child = Command::new(binary("palabre-listener")?)
            .args(["--source", "none.wav", "--port", "0", "--certificate"])
            .arg(tls.join("cert.pem"))
            .arg("--private-key")
            .arg(tls.join("key.pem"))
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()?;
        let mut url = String::new();
        BufReader::new(child.stdout.take().context("no output")?).read_line(&mut url)?;
        let link = Link::parse(&format!("alone {}", url.trim()));
        Ok(Self { child, link: link? })
    }
}

impl Drop for Alone {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
