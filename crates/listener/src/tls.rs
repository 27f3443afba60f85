//! TLS 1.2 and 1.3 over a TCP socket. Every read and write has a timeout.

use crate::signer::{RemoteKey, Signer};
use crate::{proxy_header, traffic};
use anyhow::{Context as _, Result, anyhow};
use palabre_config::signing::Chain;
use palabre_config::{ClientAddress, Proxy, certificate};
use rustls::pki_types::CertificateDer;
use rustls::server::ServerSessionMemoryCache;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use std::io::{self, Read, Write};
use std::net::{IpAddr, Shutdown, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// An encrypted connection to a client.
pub(crate) type TlsStream = StreamOwned<ServerConnection, Socket>;

/// Timeout for a handshake.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);
/// Timeout for one write to a socket.
pub(crate) const WRITE_TIMEOUT: Duration = Duration::from_secs(5);
/// Maximum number of TLS sessions to remember for resumption. A participant has few devices.
const MAX_SESSIONS: usize = 32;

/// A TLS configuration, and whether its certificate is self-signed.
#[derive(Debug)]
pub(crate) struct Tls {
    pub(crate) config: Arc<ServerConfig>,
    pub(crate) is_self_signed: bool,
}

/// Reads the certificate chain and the private key from PEM files. Returns a TLS configuration with them.
pub(crate) fn load(certificate: &Path, private_key: &Path) -> Result<Tls> {
    // The text of `error` contains its cause. So the new error must not have the cause as its source too: the log would say the cause twice.
    let read = |path| certificate::read(path).map_err(|error| anyhow!("{error}"));
    config(&read(certificate)?, &read(private_key)?).with_context(|| {
        format!("unable to use certificate '{}' with key '{}'", certificate.display(), private_key.display())
    })
}

/// Creates a TLS configuration from a certificate chain and a private key in PEM.
pub(crate) fn config(certificate: &[u8], private_key: &[u8]) -> Result<Tls> {
    let chain = certificate::parse_chain(certificate).map_err(anyhow::Error::msg)?;
    let key = certificate::parse_key(private_key).map_err(anyhow::Error::msg)?;
    let provider = rustls::crypto::ring::default_provider();
    with_key(CertifiedKey::from_der(chain, key, &provider)?)
}

/// Creates a TLS configuration with a certificate chain whose key the signer has.
pub(crate) fn signed_by(signer: &Arc<Signer>, chain: Chain) -> Result<Tls> {
    let key =
        RemoteKey::of(signer, &chain).context("the signer offers no signature scheme for the certificate's key")?;
    let certificates = chain.certificates.into_iter().map(CertificateDer::from).collect();
    with_key(CertifiedKey::new(certificates, Arc::new(key)))
}

fn with_key(certified: CertifiedKey) -> Result<Tls> {
    let is_self_signed = certified.cert.first().is_none_or(|certificate| certificate::is_self_signed(certificate));
    let mut config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])?
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(SingleCertAndKey::from(certified)));
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    config.session_storage = ServerSessionMemoryCache::new(MAX_SESSIONS);
    Ok(Tls { config: Arc::new(config), is_self_signed })
}

/// Performs the TLS handshake with a client, within [`HANDSHAKE_TIMEOUT`]. Before it, reads the address of the client from the header that
/// a trusted proxy sends, if the configuration says so.
pub(crate) fn accept(tcp: TcpStream, config: Arc<ServerConfig>, proxy: &Proxy) -> io::Result<TlsStream> {
    let mut socket = Socket::new(tcp)?;
    socket.set_deadline(Some(Instant::now() + HANDSHAKE_TIMEOUT));
    let has_header = proxy.client_address == ClientAddress::ProxyProtocol && proxy.trusts(socket.client);
    if has_header {
        socket.client = proxy_header::read(&mut socket)?.unwrap_or(socket.client);
    }
    let mut connection = ServerConnection::new(config).map_err(io::Error::other)?;
    while connection.is_handshaking() {
        connection.complete_io(&mut socket)?;
    }
    socket.set_deadline(None);
    Ok(StreamOwned::new(connection, socket))
}

/// A TCP stream with a timeout for each read and an optional deadline for all reads.
#[derive(Debug)]
pub(crate) struct Socket {
    tcp: TcpStream,
    client: IpAddr,
    deadline: Option<Instant>,
    timeout: Duration,
    timeout_set: Option<Duration>,
    write_timeout: Duration,
}

impl Socket {
    fn new(tcp: TcpStream) -> io::Result<Self> {
        tcp.set_nodelay(true)?;
        tcp.set_write_timeout(Some(WRITE_TIMEOUT))?;
        let client = tcp.peer_addr()?.ip();
        let (timeout, write_timeout) = (HANDSHAKE_TIMEOUT, WRITE_TIMEOUT);
        Ok(Self { tcp, client, deadline: None, timeout, timeout_set: None, write_timeout })
    }

    /// Returns the address of the other end, or the client's address in the header of a trusted proxy.
    pub(crate) fn client(&self) -> IpAddr {
        self.client
    }

    /// Sets the time after which all reads fail. Unlike the timeout for each read, it also limits a client that sends single bytes.
    pub(crate) fn set_deadline(&mut self, deadline: Option<Instant>) {
        self.deadline = deadline;
    }

    /// Sets the timeout for each read; the read then fails with `WouldBlock`.
    pub(crate) fn set_timeout(&mut self, timeout: Duration) {
        self.timeout = timeout;
    }

    /// Sets the timeout for one write, which is [`WRITE_TIMEOUT`] at first; the write then fails with `WouldBlock`.
    pub(crate) fn set_write_timeout(&mut self, timeout: Duration) -> io::Result<()> {
        if self.write_timeout != timeout {
            self.tcp.set_write_timeout(Some(timeout))?;
            self.write_timeout = timeout;
        }
        Ok(())
    }

    /// Returns the TCP stream.
    pub(crate) fn tcp(&self) -> &TcpStream {
        &self.tcp
    }

    /// Ends the sending direction, then reads and discards what the client still sends, for at most a second. Closing a socket with
    /// unread data makes the kernel send a reset, which can destroy a response in transit (RFC 9112 §9.6).
    pub(crate) fn linger(&mut self) {
        const TIMEOUT: Duration = Duration::from_secs(1);
        const MAX_BYTES: usize = 4 << 20;
        if self.tcp.shutdown(Shutdown::Write).is_err() {
            return;
        }
        self.set_deadline(Some(Instant::now() + TIMEOUT));
        let (mut discarded, mut total) = ([0; 4096], 0);
        while total < MAX_BYTES {
            match self.read(&mut discarded) {
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
            // A timeout of zero would be an error.
            self.tcp.set_read_timeout(Some(left.max(Duration::from_millis(1))))?;
            self.timeout_set = Some(left);
        }
        Ok(())
    }
}

impl Read for Socket {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        self.apply_timeout()?;
        let bytes = self.tcp.read(out)?;
        traffic::received(bytes);
        Ok(bytes)
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

/// Returns whether the error is a timeout.
pub(crate) fn is_timeout(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut)
}
