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
    // The error's text contains the cause, so the cause must not become the source of another error.
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
    let key = RemoteKey::of(signer, &chain).context("the certificate's key has no signature scheme")?;
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

/// Error: a handshake failed.
#[derive(Debug)]
pub(crate) struct HandshakeError {
    pub(crate) error: io::Error,
    /// Whether the client has sent no byte, as a health check by TCP does.
    pub(crate) is_silent: bool,
}

/// Performs the TLS handshake with a client, within [`HANDSHAKE_TIMEOUT`]. Before it, reads the address of the client from the header that
/// a trusted proxy sends, if the configuration says so.
pub(crate) fn accept(tcp: TcpStream, config: Arc<ServerConfig>, proxy: &Proxy) -> Result<TlsStream, HandshakeError> {
    let failed = |error| HandshakeError { error, is_silent: true };
    let mut socket = Socket::new(tcp).map_err(failed)?;
    socket.set_deadline(Some(Instant::now() + HANDSHAKE_TIMEOUT));
    let has_header = proxy.client_address == ClientAddress::ProxyProtocol && proxy.trusts(socket.client);
    if has_header {
        let header = proxy_header::read(&mut socket);
        let client = header.map_err(|error| HandshakeError { error, is_silent: !socket.has_received })?;
        socket.client = client.unwrap_or(socket.client);
        socket.has_received = false;
    }
    let mut connection = ServerConnection::new(config).map_err(io::Error::other).map_err(failed)?;
    while connection.is_handshaking() {
        let step = connection.complete_io(&mut socket);
        step.map_err(|error| HandshakeError { error, is_silent: !socket.has_received })?;
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
    has_received: bool,
}

impl Socket {
    fn new(tcp: TcpStream) -> io::Result<Self> {
        tcp.set_nodelay(true)?;
        tcp.set_write_timeout(Some(WRITE_TIMEOUT))?;
        let client = tcp.peer_addr()?.ip();
        let (timeout, write_timeout) = (HANDSHAKE_TIMEOUT, WRITE_TIMEOUT);
        Ok(Self { tcp, client, deadline: None, timeout, timeout_set: None, write_timeout, has_received: false })
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
        self.has_received |= bytes > 0;
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

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use palabre_config::certificate::self_signed;
    use std::net::TcpListener;

    #[test]
    fn client_that_has_sent_nothing_is_told_from_one_that_has() {
        let own = self_signed(&["localhost".into()]).unwrap();
        let config = config(own.cert_pem.as_bytes(), own.key_pem.as_bytes()).unwrap().config;
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        for (sent, is_silent) in [(&b""[..], true), (b"GET / HTTP/1.1\r\n\r\n", false)] {
            let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            client.write_all(sent).unwrap();
            client.shutdown(Shutdown::Write).unwrap();
            let tcp = listener.accept().unwrap().0;
            let failed = accept(tcp, Arc::clone(&config), &Proxy::default()).unwrap_err();
            assert_eq!(failed.is_silent, is_silent, "{failed:?}");
        }
    }
}
