//! nginx and HAProxy with the configurations that `palabre proxy-config` writes.

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use anyhow::{Context as _, Result, ensure};

use crate::suite::{Suite, TIMEOUT, signal};
use crate::wait_for;

/// A running proxy, on loopback only. Dropping this value ends it.
#[derive(Debug)]
pub struct Proxy {
    child: Child,
    /// The port of all participants.
    pub port: u16,
}

impl Proxy {
    /// Starts nginx with a path per participant. `main` and `events` are further settings of nginx.conf, outside of all blocks and in the
    /// block `events`.
    pub fn nginx(suite: &Suite, directory: &Path, main: &str, events: &str) -> Result<Self> {
        let port = free_port()?;
        let tls = suite.dir().join("etc/tls");
        let [certificate, key] = ["cert.pem", "key.pem"].map(|name| tls.join(name).display().to_string());
        let arguments = ["nginx", "--certificate", &certificate, "--private-key", &key];
        let written = configuration(suite, &format!("https://localhost:{port}/{{name}}/"), &arguments)?;
        let server = replace(&written, &format!("listen {port} ssl;"), &format!("listen 127.0.0.1:{port} ssl;"))?;
        let server = replace(&server, &format!("listen [::]:{port} ssl;"), "")?;
        let at = directory.display();
        let temporary =
            ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"].map(|of| format!("{of}_temp_path {at}/{of};"));
        let file = directory.join("nginx.conf");
        fs::write(
            &file,
            format!(
                "daemon off; pid {at}/nginx.pid; error_log {at}/error.log; {main}\nevents {{ {events} }}\nhttp {{\n{}\n{server}\n}}\n",
                temporary.concat()
            ),
        )?;
        Self::start(
            Command::new("nginx")
                .arg("-p")
                .arg(directory)
                .arg("-e")
                .arg(directory.join("error.log"))
                .arg("-c")
                .arg(file),
            port,
        )
    }

    /// Starts HAProxy with a host name below `localhost` per participant.
    pub fn haproxy(suite: &Suite, directory: &Path) -> Result<Self> {
        let port = free_port()?;
        let written = configuration(suite, &format!("https://{{name}}.localhost:{port}/"), &["haproxy"])?;
        let file = directory.join("haproxy.cfg");
        fs::write(&file, replace(&written, &format!("bind :{port}"), &format!("bind 127.0.0.1:{port}"))?)?;
        Self::start(Command::new("haproxy").arg("-db").arg("-f").arg(file), port)
    }

    fn start(command: &mut Command, port: u16) -> Result<Self> {
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).spawn().context("unable to start the proxy")?;
        let proxy = Self { child, port };
        wait_for("the proxy", TIMEOUT, || TcpStream::connect(("127.0.0.1", port)).ok())?;
        Ok(proxy)
    }

    /// Returns the process ID.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let _ = signal(self.child.id(), "TERM");
        let _ = self.child.wait();
    }
}

fn free_port() -> Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

/// Sets the template of the links in palabre.toml, and returns the proxy's configuration that `palabre proxy-config` writes for it.
fn configuration(suite: &Suite, link: &str, arguments: &[&str]) -> Result<String> {
    let file = suite.dir().join("etc/palabre.toml");
    let text = fs::read_to_string(&file)?;
    let others: Vec<&str> = text.lines().filter(|line| !line.starts_with("link = ")).collect();
    fs::write(&file, format!("link = \"{link}\"\n{}\n", others.join("\n")))?;
    suite.palabre(&[&["proxy-config"], arguments].concat())
}

fn replace(text: &str, from: &str, to: &str) -> Result<String> {
    ensure!(text.contains(from), "'{from}' is not in the configuration: {text}");
    Ok(text.replace(from, to))
}
