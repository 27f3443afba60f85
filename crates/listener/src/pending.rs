//! Connections whose clients have not sent a complete ClientHello (RFC 8446 §4.1.2) yet. The main thread waits for the ClientHello, so a client
//! that sends nothing or something else uses neither a thread nor a slot.
//!
//! The main thread only peeks at the bytes (MSG_PEEK); the thread of the connection reads them. A trusted proxy may send a header of the PROXY
//! protocol before the ClientHello. The header has the address of the client.

use crate::access::network;
use crate::hello;
use crate::proxy_header;
use crate::slots::oldest_of_most;
use palabre_config::{ClientAddress, Proxy};
use palabre_host::wait;
use std::io;
use std::net::{IpAddr, TcpStream};
use std::os::fd::{AsFd as _, BorrowedFd};
use std::time::{Duration, Instant};

/// Maximum number of pending connections. A further connection closes the oldest one of the network that has most of them.
const MAX_PENDING: usize = 64;
/// Timeout for a complete ClientHello.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Maximum length of a header of the PROXY protocol, which has at most 1040 bytes, and the first TLS record after it.
const MAX_BYTES: usize = 1040 + hello::MAX_BYTES;
/// First interval between two looks at an incomplete ClientHello. poll(2) can't wait for the rest, because it reports the unread bytes at once.
const FIRST_WAIT: Duration = Duration::from_millis(1);
/// Maximum interval between two looks at an incomplete ClientHello.
const MAX_WAIT: Duration = Duration::from_millis(100);

/// The pending connections.
#[derive(Debug)]
pub(crate) struct Pending {
    /// The pending connections, the oldest first.
    connections: Vec<Connection>,
    peeked: Vec<u8>,
}

#[derive(Debug)]
struct Connection {
    tcp: TcpStream,
    network: IpAddr,
    /// Whether a trusted proxy sends a header of the PROXY protocol first.
    is_proxied: bool,
    deadline: Instant,
    /// If a part of the ClientHello has arrived: time of the next look, and interval between the next look and the following one.
    look: Option<(Instant, Duration)>,
}

/// The result of looking at a pending connection.
#[derive(Debug)]
pub(crate) enum Arrived {
    /// A complete ClientHello of a client in this network. The connection is in blocking mode.
    Hello(TcpStream, IpAddr),
    /// The client sent something else, or no complete ClientHello before the timeout or the end of its data. The connection is closed.
    Invalid(io::Error),
}

impl Pending {
    pub(crate) fn new() -> Self {
        Self { connections: Vec::new(), peeked: vec![0; MAX_BYTES] }
    }

    /// Adds a connection that was just accepted.
    pub(crate) fn add(&mut self, tcp: TcpStream, client: IpAddr, proxy: &Proxy, now: Instant) -> io::Result<()> {
        tcp.set_nonblocking(true)?;
        let is_proxied = proxy.client_address == ClientAddress::ProxyProtocol && proxy.trusts(client);
        let (network, deadline, look) = (network(client), now + TIMEOUT, None);
        self.connections.push(Connection { tcp, network, is_proxied, deadline, look });
        if self.connections.len() > MAX_PENDING
            && let Some((index, _)) =
                oldest_of_most(self.connections.iter().map(|connection| connection.network), |_| true)
        {
            self.connections.remove(index);
        }
        Ok(())
    }

    /// Returns the descriptors to wait for in poll(2).
    pub(crate) fn fds(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.connections.iter().filter(|connection| connection.look.is_none()).map(|connection| connection.tcp.as_fd())
    }

    /// Returns the time at which to call [`Self::look`] even if no descriptor is readable.
    pub(crate) fn due(&self) -> Option<Instant> {
        self.connections.iter().map(|it| it.look.map_or(it.deadline, |(at, _)| at.min(it.deadline))).min()
    }

    /// Checks the connections that are readable or due for another check, and applies the deadlines. `ready` says for each of [`Self::fds`] whether it is readable.
    pub(crate) fn look(&mut self, ready: &[bool], now: Instant) -> Vec<Arrived> {
        let (mut arrived, mut ready) = (Vec::new(), ready.iter());
        for mut connection in std::mem::take(&mut self.connections) {
            let is_due = match connection.look {
                Some((at, _)) => at <= now,
                None => ready.next() == Some(&true),
            };
            match if is_due { connection.progress(&mut self.peeked) } else { Ok(Progress::Incomplete) } {
                Ok(Progress::Complete) => arrived.extend(connection.hand_over()),
                Ok(Progress::Closed) => {}
                Ok(Progress::Incomplete) if connection.deadline <= now => {
                    // Don't report a client that has sent nothing: it is often a health check.
                    arrived.extend(connection.look.map(|_| Arrived::Invalid(io::ErrorKind::TimedOut.into())));
                }
                Ok(Progress::Incomplete) => {
                    if is_due {
                        let wait = connection.look.map_or(FIRST_WAIT, |(_, wait)| wait);
                        connection.look = Some((now + wait, (2 * wait).min(MAX_WAIT)));
                    }
                    self.connections.push(connection);
                }
                Err(error) => arrived.push(Arrived::Invalid(error)),
            }
        }
        arrived
    }

    /// Removes and returns all connections. The caller starts their threads at once, because the main thread ends.
    pub(crate) fn take(&mut self) -> Vec<Arrived> {
        self.connections.drain(..).filter_map(Connection::hand_over).collect()
    }
}

enum Progress {
    Complete,
    Incomplete,
    Closed,
}

impl Connection {
    /// Looks at the bytes that have arrived. Returns an error if they are not the beginning of a TLS connection.
    fn progress(&mut self, peeked: &mut [u8]) -> io::Result<Progress> {
        // Ask whether the client has ended its data before peeking: then the peek sees all data that arrived before the end.
        let has_ended = self.look.is_some() && wait::has_ended(&self.tcp);
        let mut bytes = match self.tcp.peek(peeked) {
            Ok(0) => return Ok(Progress::Closed),
            Ok(count) => &peeked[..count],
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(Progress::Incomplete),
            Err(_) => return Ok(Progress::Closed),
        };
        match self.is_complete(&mut bytes)? {
            true => Ok(Progress::Complete),
            false if has_ended => Err(io::ErrorKind::UnexpectedEof.into()),
            false => Ok(Progress::Incomplete),
        }
    }

    /// Returns whether the header of the PROXY protocol, if the connection must have one, and the ClientHello are complete.
    fn is_complete(&mut self, bytes: &mut &[u8]) -> io::Result<bool> {
        if self.is_proxied {
            match proxy_header::read(bytes) {
                Ok(client) => self.network = client.map_or(self.network, network),
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(false),
                Err(error) => return Err(error),
            }
        }
        hello::is_complete(bytes)
    }

    fn hand_over(self) -> Option<Arrived> {
        self.tcp.set_nonblocking(false).ok().map(|()| Arrived::Hello(self.tcp, self.network))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::io::{Read as _, Write as _};
    use std::net::TcpListener;

    const HELLO: &[u8] = b"\x16\x03\x01\x00\x04\x01\x00\x00\x00";

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    struct Peers(TcpListener);

    impl Peers {
        fn new() -> Self {
            Self(TcpListener::bind("127.0.0.1:0").unwrap())
        }

        /// Returns a client's end of a connection that was added with the client's address `from`.
        fn connect(&self, pending: &mut Pending, from: &str, proxy: &Proxy, now: Instant) -> TcpStream {
            let client = TcpStream::connect(self.0.local_addr().unwrap()).unwrap();
            pending.add(self.0.accept().unwrap().0, ip(from), proxy, now).unwrap();
            client
        }
    }

    /// Waits until a connection is ready, and looks at the connections.
    fn look(pending: &mut Pending, now: Instant) -> Vec<Arrived> {
        let fds: Vec<_> = pending.fds().collect();
        let ready = palabre_host::wait::readable(&fds, Some(Duration::from_secs(5))).unwrap();
        pending.look(&ready, now)
    }

    fn is_closed(client: &mut TcpStream) -> bool {
        client.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        client.read(&mut [0]).is_ok_and(|count| count == 0)
    }

    #[test]
    fn connection_is_handed_over_with_its_complete_hello() {
        let (peers, mut pending, now) = (Peers::new(), Pending::new(), Instant::now());
        let mut client = peers.connect(&mut pending, "192.0.2.7", &Proxy::default(), now);
        client.write_all(&HELLO[..6]).unwrap();
        assert!(look(&mut pending, now).is_empty() && pending.fds().count() == 0);
        assert_eq!(pending.due(), Some(now + FIRST_WAIT));
        client.write_all(&HELLO[6..]).unwrap();
        let mut arrived = Vec::new();
        while arrived.is_empty() {
            arrived = pending.look(&[], now + MAX_WAIT);
        }
        let [Arrived::Hello(tcp, network)] = &mut arrived[..] else { panic!("{arrived:?}") };
        assert_eq!((*network, pending.due()), (ip("192.0.2.7"), None));
        let mut read = [0; HELLO.len()];
        tcp.read_exact(&mut read).unwrap();
        assert_eq!(read, HELLO, "nothing was read before");
    }

    #[test]
    fn network_is_that_of_the_client_whose_address_a_trusted_proxy_reports() {
        let (peers, mut pending, now) = (Peers::new(), Pending::new(), Instant::now());
        let proxy = Proxy { addresses: vec![ip("127.0.0.1")], client_address: ClientAddress::ProxyProtocol };
        let mut client = peers.connect(&mut pending, "127.0.0.1", &proxy, now);
        client.write_all(&[b"PROXY TCP6 2001:db8::7 ::1 50000 9001\r\n", HELLO].concat()).unwrap();
        let arrived = look(&mut pending, now);
        assert!(matches!(&arrived[..], [Arrived::Hello(_, network)] if *network == ip("2001:db8::")), "{arrived:?}");
        let mut other = peers.connect(&mut pending, "192.0.2.7", &proxy, now);
        other.write_all(b"PROXY TCP4 192.0.2.1 127.0.0.1 50000 9001\r\n").unwrap();
        assert!(matches!(&look(&mut pending, now)[..], [Arrived::Invalid(_)]));
    }

    #[test]
    fn other_bytes_silence_and_an_incomplete_hello_end_the_connection() {
        let (peers, mut pending, now) = (Peers::new(), Pending::new(), Instant::now());
        for bytes in [&b"GET / HTTP/1.1\r\n"[..], b"\x16\x02\x00", b"\x16\x03\x01\x40\x01"] {
            let mut client = peers.connect(&mut pending, "192.0.2.7", &Proxy::default(), now);
            client.write_all(bytes).unwrap();
            assert!(matches!(&look(&mut pending, now)[..], [Arrived::Invalid(_)]), "{bytes:?}");
            drop(client);
        }
        let mut silent = peers.connect(&mut pending, "192.0.2.7", &Proxy::default(), now);
        assert!(pending.look(&[false], now + TIMEOUT).is_empty() && is_closed(&mut silent));
        let mut slow = peers.connect(&mut pending, "192.0.2.7", &Proxy::default(), now);
        slow.write_all(&HELLO[..6]).unwrap();
        assert!(look(&mut pending, now).is_empty());
        assert!(
            matches!(&pending.look(&[], now + TIMEOUT)[..], [Arrived::Invalid(error)] if error.kind() == io::ErrorKind::TimedOut)
        );
        assert_eq!(pending.due(), None);
    }

    #[test]
    fn connection_leaves_when_its_client_ends_it_within_the_hello() {
        let (peers, mut pending, now) = (Peers::new(), Pending::new(), Instant::now());
        let proxy = Proxy { addresses: vec![ip("127.0.0.1")], client_address: ClientAddress::ProxyProtocol };
        for (from, bytes) in [("192.0.2.7", &HELLO[..6]), ("192.0.2.7", &HELLO[..1]), ("127.0.0.1", b"PROXY TC")] {
            let mut client = peers.connect(&mut pending, from, &proxy, now);
            client.write_all(bytes).unwrap();
            assert!(look(&mut pending, now).is_empty() && pending.connections.len() == 1);
            drop(client);
            let deadline = Instant::now() + TIMEOUT;
            let mut arrived = Vec::new();
            while arrived.is_empty() && Instant::now() < deadline {
                arrived = pending.look(&[], now + MAX_WAIT);
            }
            assert!(
                matches!(&arrived[..], [Arrived::Invalid(error)] if error.kind() == io::ErrorKind::UnexpectedEof),
                "{arrived:?}"
            );
            assert_eq!(pending.due(), None);
        }
        // A client that closes only its sending direction, after a complete ClientHello, still gets an answer.
        let mut client = peers.connect(&mut pending, "192.0.2.7", &proxy, now);
        client.write_all(&HELLO[..6]).unwrap();
        assert!(look(&mut pending, now).is_empty());
        client.write_all(&HELLO[6..]).unwrap();
        client.shutdown(std::net::Shutdown::Write).unwrap();
        let mut arrived = Vec::new();
        while arrived.is_empty() {
            arrived = pending.look(&[], now + MAX_WAIT);
        }
        assert!(matches!(&arrived[..], [Arrived::Hello(..)]), "{arrived:?}");
    }

    #[test]
    fn oldest_connection_of_the_network_with_most_connections_is_closed() {
        let (peers, mut pending, now) = (Peers::new(), Pending::new(), Instant::now());
        let connect = |pending: &mut Pending, from: &str| peers.connect(pending, from, &Proxy::default(), now);
        let mut owner = connect(&mut pending, "192.0.2.7");
        let mut crowd: Vec<_> =
            (0..MAX_PENDING).map(|last| connect(&mut pending, &format!("2001:db8::{last:x}"))).collect();
        assert_eq!(pending.connections.len(), MAX_PENDING);
        assert!(is_closed(&mut crowd[0]), "the addresses of a /64 are one network");
        for _ in 0..1_000 {
            connect(&mut pending, "2001:db8::1");
        }
        owner.write_all(HELLO).unwrap();
        let arrived = look(&mut pending, now);
        assert!(arrived.iter().any(|it| matches!(it, Arrived::Hello(_, network) if *network == ip("192.0.2.7"))));
    }
}
