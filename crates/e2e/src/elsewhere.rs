//! A web server of somebody else: another origin than the pages of Palabre.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::Result;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};

/// Timeout for each read and write.
const IO_TIMEOUT: Duration = Duration::from_secs(5);
/// Maximum size of a request's head.
const HEAD_BYTES_MAX: usize = 64 * 1024;

/// A server on a port of 127.0.0.1 that answers each request with one page. It runs until the process ends.
#[derive(Debug)]
pub struct Elsewhere {
    /// The server's port.
    pub port: u16,
    heads: Arc<Mutex<Vec<String>>>,
}

impl Elsewhere {
    /// Starts a server without TLS.
    pub fn plain(html: &str) -> Result<Self> {
        Self::start(None, html)
    }

    /// Starts a server with TLS. `tls` is a directory with `cert.pem` and `key.pem`.
    pub fn with_tls(tls: &Path, html: &str) -> Result<Self> {
        let certificates = CertificateDer::pem_file_iter(tls.join("cert.pem"))?.collect::<Result<_, _>>()?;
        let key = PrivateKeyDer::from_pem_file(tls.join("key.pem"))?;
        let config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(certificates, key)?;
        Self::start(Some(Arc::new(config)), html)
    }

    fn start(tls: Option<Arc<ServerConfig>>, html: &str) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let server = Self { port: listener.local_addr()?.port(), heads: Arc::default() };
        let (heads, html) = (Arc::clone(&server.heads), html.to_owned());
        std::thread::spawn(move || {
            for tcp in listener.incoming().flatten() {
                // Add an empty text for this connection before its request arrives, so that a connection without a request is counted too.
                let number = locked(&heads).len();
                locked(&heads).push(String::new());
                let (heads, tls, html) = (Arc::clone(&heads), tls.clone(), html.clone());
                std::thread::spawn(move || {
                    let answered = serve(tcp, tls, &html);
                    locked(&heads)[number] = answered.unwrap_or_else(|error| error.to_string());
                });
            }
        });
        Ok(server)
    }

    /// Returns a text for each accepted connection: the head of its request, an error if the connection failed, or an empty text if no complete head
    /// has arrived yet.
    #[must_use]
    pub fn heads(&self) -> Vec<String> {
        locked(&self.heads).clone()
    }
}

fn locked(heads: &Mutex<Vec<String>>) -> MutexGuard<'_, Vec<String>> {
    heads.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Answers one request and returns its head.
fn serve(tcp: TcpStream, tls: Option<Arc<ServerConfig>>, html: &str) -> Result<String> {
    tcp.set_read_timeout(Some(IO_TIMEOUT))?;
    tcp.set_write_timeout(Some(IO_TIMEOUT))?;
    match tls {
        Some(config) => answer(&mut StreamOwned::new(ServerConnection::new(config)?, tcp), html),
        None => answer(&mut &tcp, html),
    }
}

fn answer(stream: &mut (impl Read + Write), html: &str) -> Result<String> {
    let (mut head, mut piece) = (Vec::new(), [0; 4096]);
    while !head.windows(4).any(|four| four == b"\r\n\r\n") && head.len() < HEAD_BYTES_MAX {
        match stream.read(&mut piece)? {
            0 => break,
            got => head.extend_from_slice(&piece[..got]),
        }
    }
    let length = html.len();
    write!(
        stream,
        "HTTP/1.1 200 OK\r\nContent-Type: text/html; charset=utf-8\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{html}"
    )?;
    stream.flush()?;
    Ok(String::from_utf8_lossy(&head).into_owned())
}
