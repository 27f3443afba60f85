//! A TLS connection to a listener. The connection never blocks, except while TCP connects.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use palabre_config::PageAddress;
use palabre_host::exit::Failure;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore};

/// The certificates that the system trusts, on Debian and most other distributions.
const SYSTEM_CERTIFICATES: &str = "/etc/ssl/certs/ca-certificates.crt";
/// Timeout for a TCP connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);

/// Returns a TLS configuration that trusts the certificates in this PEM file, or those of the system.
pub(crate) fn trust(certificates: Option<&Path>) -> Result<Arc<ClientConfig>, Failure> {
    let path = certificates.unwrap_or(Path::new(SYSTEM_CERTIFICATES));
    let unable = |cause: String| {
        let path = path.display();
        Failure::refused(format!(
            "unable to read the certificates in '{path}': {cause}; give the listeners' certificate with --certificate"
        ))
    };
    let read = CertificateDer::pem_file_iter(path).map_err(|error| unable(error.to_string()))?;
    let mut roots = RootCertStore::empty();
    let (added, _) = roots.add_parsable_certificates(read.flatten());
    if added == 0 {
        return Err(unable("the file has no certificate".to_owned()));
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    Ok(Arc::new(builder.map_err(Failure::system)?.with_root_certificates(roots).with_no_client_auth()))
}

/// A TLS connection.
pub(crate) struct Wire {
    tls: ClientConnection,
    tcp: TcpStream,
}

impl Wire {
    /// Connects by TCP. The TLS handshake takes place in [`Self::send`] and [`Self::read`].
    pub(crate) fn connect(config: &Arc<ClientConfig>, to: &PageAddress) -> io::Result<Self> {
        let mut result = Err(ErrorKind::AddrNotAvailable.into());
        for address in (to.host.as_str(), to.port).to_socket_addrs()? {
            result = TcpStream::connect_timeout(&address, CONNECT_TIMEOUT);
            if result.is_ok() {
                break;
            }
        }
        let tcp = result?;
        tcp.set_nodelay(true)?;
        tcp.set_nonblocking(true)?;
        let name = ServerName::try_from(to.host.clone()).map_err(io::Error::other)?;
        let mut tls = ClientConnection::new(Arc::clone(config), name).map_err(io::Error::other)?;
        // The callers limit how much is buffered: they send nothing more while `is_blocked`.
        tls.set_buffer_limit(None);
        Ok(Self { tls, tcp })
    }

    /// Reads once from the network and returns the number of bytes written to `out`, which must be larger than a TLS record. Returns `None` if no
    /// bytes have arrived, and 0 at the end of the stream.
    pub(crate) fn read(&mut self, out: &mut [u8]) -> io::Result<Option<usize>> {
        match self.tls.read_tls(&mut self.tcp) {
            Err(error) if is_retried(&error) => return Ok(None),
            result => result?,
        };
        self.tls.process_new_packets().map_err(io::Error::other)?;
        if self.tls.wants_write() {
            self.flush()?;
        }
        match self.tls.reader().read(out) {
            Err(error) if is_retried(&error) => Ok(None),
            result => result.map(Some),
        }
    }

    /// Sends bytes. The bytes that the network doesn't take now are sent by the next call of [`Self::flush`] or [`Self::read`].
    pub(crate) fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.tls.writer().write_all(bytes)?;
        self.flush()
    }

    /// Sends buffered bytes, as many as the network takes now.
    pub(crate) fn flush(&mut self) -> io::Result<()> {
        while self.tls.wants_write() {
            match self.tls.write_tls(&mut self.tcp) {
                Err(error) if is_retried(&error) => break,
                result => result?,
            };
        }
        Ok(())
    }

    /// Returns whether bytes are buffered that the network has not taken.
    pub(crate) fn is_blocked(&self) -> bool {
        self.tls.wants_write() || self.tls.is_handshaking()
    }
}

impl AsFd for Wire {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.tcp.as_fd()
    }
}

fn is_retried(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted)
}
