//! TLS 1.2 and 1.3 by rustls with ring, over a socket whose every wait has an end.

use crate::traffic;
use anyhow::{Context as _, Result, anyhow};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::ServerSessionMemoryCache;
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The encrypted connection to a client.
pub type TlsStream = StreamOwned<ServerConnection, Socket>;

/// How long a handshake may last, all in all.
const HANDSHAKE: Duration = Duration::from_secs(5);
/// How long one write may wait for the client.
pub const WRITE_TIMEOUT: Duration = Duration::from_secs(5);
/// Remembered TLS sessions: one person's devices.
const SESSIONS: usize = 32;

/// Reads certificate chain and private key from their PEM files.
///
/// # Errors
/// Files that can't be read or don't fit together.
pub fn load(certificate: &Path, private_key: &Path) -> Result<Arc<ServerConfig>> {
    let read = |path: &Path| std::fs::read(path).with_context(|| format!("unable to read '{}'", path.display()));
    config(&read(certificate)?, &read(private_key)?).with_context(|| {
        format!("unable to use certificate '{}' with key '{}'", certificate.display(), private_key.display())
    })
}

/// A configuration from PEM texts.
///
/// # Errors
/// Texts without a certificate or a key, or that don't fit together.
pub fn config(certificate: &[u8], private_key: &[u8]) -> Result<Arc<ServerConfig>> {
    let chain: Vec<_> = CertificateDer::pem_slice_iter(certificate)
        .collect::<Result<_, _>>()
        .map_err(|error| anyhow!("the certificate is not PEM: {error}"))?;
    if chain.is_empty() {
        return Err(anyhow!("there is no certificate in it"));
    }
    let key = PrivateKeyDer::from_pem_slice(private_key).map_err(|error| anyhow!("the key is not PEM: {error}"))?;
    let mut config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])?
        .with_no_client_auth()
        .with_single_cert(chain, key)?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    config.session_storage = ServerSessionMemoryCache::new(SESSIONS);
    Ok(Arc::new(config))
}

/// Shakes hands within [`HANDSHAKE`].
///
/// # Errors
/// A client that is late, gone, or doesn't speak TLS.
pub fn accept(tcp: TcpStream, config: Arc<ServerConfig>) -> io::Result<TlsStream> {
    let mut socket = Socket::new(tcp)?;
    socket.set_deadline(Some(Instant::now() + HANDSHAKE));
    let mut connection = ServerConnection::new(config).map_err(io::Error::other)?;
    while connection.is_handshaking() {
        connection.complete_io(&mut socket)?;
    }
    socket.set_deadline(None);
    Ok(StreamOwned::new(connection, socket))
}

/// A TCP stream with a time-out for each read and, where needed, a deadline for all of them.
#[derive(Debug)]
pub struct Socket {
    tcp: TcpStream,
    deadline: Option<Instant>,
    timeout: Duration,
    timeout_set: Option<Duration>,
}

impl Socket {
    fn new(tcp: TcpStream) -> io::Result<Self> {
        tcp.set_nodelay(true)?;
        tcp.set_write_timeout(Some(WRITE_TIMEOUT))?;
        Ok(Self { tcp, deadline: None, timeout: HANDSHAKE, timeout_set: None })
    }

    /// All reads together must be done by then: a client that sends a byte now and then doesn't get more time.
    pub fn set_deadline(&mut self, deadline: Option<Instant>) {
        self.deadline = deadline;
    }

    /// How long each read may wait; then it fails with `WouldBlock`.
    pub fn set_timeout(&mut self, timeout: Duration) {
        self.timeout = timeout;
    }

    /// The TCP stream itself.
    pub fn tcp(&self) -> &TcpStream {
        &self.tcp
    }

    /// Says that no more will be written and discards what still comes, for a short while: closing with unread data makes
    /// the kernel send a reset, which may destroy the answer on its way (RFC 9112 §9.6).
    pub fn linger(&mut self) {
        const PATIENCE: Duration = Duration::from_secs(1);
        const MOST_BYTES: usize = 4 << 20;
        if self.tcp.shutdown(Shutdown::Write).is_err() {
            return;
        }
        self.set_deadline(Some(Instant::now() + PATIENCE));
        let (mut bin, mut total) = ([0; 4096], 0);
        while total < MOST_BYTES {
            match self.read(&mut bin) {
                Ok(count) if count > 0 => total += count,
                _ => break,
            }
        }
    }

    fn apply_timeout(&mut self) -> io::Result<()> {
        let left = match self.deadline {
            None => self.timeout,
            Some(deadline) => match deadline.saturating_duration_since(Instant::now()) {
                Duration::ZERO => return Err(io::ErrorKind::TimedOut.into()),
                left => left.min(self.timeout),
            },
        };
        if self.timeout_set != Some(left) {
            // Zero would mean for ever.
            self.tcp.set_read_timeout(Some(left.max(Duration::from_millis(1))))?;
            self.timeout_set = Some(left);
        }
        Ok(())
    }
}

impl Read for Socket {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        self.apply_timeout()?;
        self.tcp.read(out).inspect(|&bytes| traffic::received(bytes))
    }
}

impl Write for Socket {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.tcp.write(bytes).inspect(|&bytes| traffic::sent(bytes))
    }

    fn write_vectored(&mut self, slices: &[io::IoSlice<'_>]) -> io::Result<usize> {
        self.tcp.write_vectored(slices).inspect(|&bytes| traffic::sent(bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Whether an error only says that nothing came in time.
pub fn is_timeout(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut)
}
