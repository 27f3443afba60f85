//! An HTTPS client that uses rustls and its own HTTP code, so that it can also send requests that no browser sends.

use crate::rig::{PATIENCE, Rig};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned, SupportedProtocolVersion};
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::sync::Arc;
use std::time::Instant;

pub struct Client {
    pub stream: StreamOwned<ClientConnection, Counted>,
    buffered: Vec<u8>,
}

/// A TCP connection that counts received bytes.
pub struct Counted {
    tcp: TcpStream,
    pub received: usize,
}

impl std::ops::Deref for Counted {
    type Target = TcpStream;

    fn deref(&self) -> &TcpStream {
        &self.tcp
    }
}

impl Read for Counted {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        self.tcp.read(out).inspect(|count| self.received += count)
    }
}

impl Write for Counted {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.tcp.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.tcp.flush()
    }
}

/// An HTTP response that the test client received.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub head: String,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    /// Returns the value of a header field.
    pub fn field(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (key, value) = line.split_once(": ")?;
            key.eq_ignore_ascii_case(name).then_some(value)
        })
    }
}

/// A connection on which the client has sent nothing of the handshake.
pub struct Begun {
    pub connection: ClientConnection,
    pub tcp: Counted,
}

impl Begun {
    /// Connects, and sends these bytes before the handshake.
    pub fn begin(
        bytes: &[u8],
        versions: &[&'static SupportedProtocolVersion],
        port: u16,
        cert_pem: &str,
    ) -> io::Result<Self> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(cert_pem.as_bytes()).unwrap()).unwrap();
        let config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_protocol_versions(versions)
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let tcp = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
        tcp.set_nodelay(true)?;
        tcp.set_read_timeout(Some(PATIENCE))?;
        tcp.set_write_timeout(Some(PATIENCE))?;
        let name = ServerName::try_from("localhost").unwrap();
        let connection = ClientConnection::new(Arc::new(config), name).map_err(io::Error::other)?;
        let mut tcp = Counted { tcp, received: 0 };
        tcp.write_all(bytes)?;
        Ok(Self { connection, tcp })
    }

    /// Performs the rest of the handshake.
    pub fn complete(self) -> io::Result<Client> {
        let Self { mut connection, mut tcp } = self;
        while connection.is_handshaking() {
            connection.complete_io(&mut tcp)?;
        }
        Ok(Client { stream: StreamOwned::new(connection, tcp), buffered: Vec::new() })
    }
}

impl Client {
    /// Connects to the listener at `port` and performs a TLS handshake. Trusts only this certificate.
    pub fn connect(port: u16, cert_pem: &str) -> io::Result<Self> {
        Self::connect_by(rustls::DEFAULT_VERSIONS, port, cert_pem)
    }

    /// Connects as [`Self::connect`] does, but only with one of these TLS versions.
    pub fn connect_by(versions: &[&'static SupportedProtocolVersion], port: u16, cert_pem: &str) -> io::Result<Self> {
        Self::connect_after(b"", versions, port, cert_pem)
    }

    /// Connects as [`Self::connect_by`] does, but sends these bytes before the handshake.
    pub fn connect_after(
        bytes: &[u8],
        versions: &[&'static SupportedProtocolVersion],
        port: u16,
        cert_pem: &str,
    ) -> io::Result<Self> {
        Begun::begin(bytes, versions, port, cert_pem)?.complete()
    }

    pub fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.try_send(bytes).unwrap();
    }

    /// Sends bytes. Returns an error if the server has closed the connection.
    pub fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        self.stream.write_all(bytes.as_ref())?;
        self.stream.flush()
    }

    /// Sends a request without a body and reads the response.
    pub fn request(&mut self, method: &str, target: &str, fields: &str) -> Answer {
        self.send(format!("{method} {target} HTTP/1.1\r\nHost: localhost\r\n{fields}\r\n"));
        self.answer_to(method)
    }

    /// Sends a POST request with these header fields and reads the response.
    pub fn post(&mut self, target: &str, fields: &str, body: &[u8]) -> Answer {
        let length = body.len();
        self.send(format!("POST {target} HTTP/1.1\r\nHost: localhost\r\n{fields}Content-Length: {length}\r\n\r\n"));
        self.send(body);
        self.answer()
    }

    /// Sends a GET request with the access key and reads the response.
    pub fn get(&mut self, rig: &Rig, target: &str) -> Answer {
        self.request("GET", target, &rig.bearer())
    }

    /// Reads a response with a `Content-Length`.
    pub fn answer(&mut self) -> Answer {
        self.answer_to("GET")
    }

    fn answer_to(&mut self, method: &str) -> Answer {
        let mut answer = self.answer_head();
        let length = answer.field("content-length").map_or(0, |length| length.parse().unwrap());
        if method != "HEAD" {
            self.fill(length);
            answer.body = self.buffered.drain(..length).collect();
        }
        answer
    }

    /// Reads the head of a response.
    pub fn answer_head(&mut self) -> Answer {
        let head = String::from_utf8(self.take_until(b"\r\n\r\n")).unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        Answer { status, head, body: Vec::new() }
    }

    /// Reads up to and including the text `end`. Returns all bytes read.
    pub fn take_until(&mut self, end: &[u8]) -> Vec<u8> {
        loop {
            if let Some(at) = self.buffered.windows(end.len()).position(|window| window == end) {
                return self.buffered.drain(..at + end.len()).collect();
            }
            assert!(self.read_more().unwrap() > 0, "the server closed: {:?}", String::from_utf8_lossy(&self.buffered));
        }
    }

    /// Reads `count` bytes.
    pub fn take(&mut self, count: usize) -> Vec<u8> {
        self.fill(count);
        self.buffered.drain(..count).collect()
    }

    fn fill(&mut self, count: usize) {
        while self.buffered.len() < count {
            assert!(self.read_more().unwrap() > 0, "the server closed");
        }
    }

    fn read_more(&mut self) -> io::Result<usize> {
        let mut some = [0; 16 * 1024];
        let count = self.stream.read(&mut some)?;
        self.buffered.extend_from_slice(&some[..count]);
        Ok(count)
    }

    /// Waits until the server closes or resets the connection, and discards the data that it sends before. Returns `false` after a timeout.
    pub fn is_closed(&mut self) -> bool {
        loop {
            match self.read_more() {
                Ok(0) => return true,
                Ok(_) => {}
                Err(error) => return !matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut),
            }
        }
    }

    /// Returns whether the server closes the connection without sending anything.
    pub fn closes_without_an_answer(&mut self) -> bool {
        match self.read_more() {
            Ok(count) => count == 0,
            Err(error) => !matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut),
        }
    }

    /// Opens the injected stream and reads its prologue.
    pub fn listen(mut self, rig: &Rig, query: &str) -> Records {
        self.send(format!("GET /listen{query} HTTP/1.1\r\nHost: localhost\r\n{}\r\n", rig.bearer()));
        let answer = self.answer_head();
        assert_eq!(answer.status, 200);
        let prologue = self.take_until(b"</script>");
        Records { client: self, answer, prologue: String::from_utf8(prologue).unwrap() }
    }
}

/// The client's end of an injected stream.
pub struct Records {
    pub client: Client,
    pub answer: Answer,
    pub prologue: String,
}

/// A decoded record of an injected stream.
#[derive(Debug, Clone, PartialEq)]
pub struct Record {
    pub kind: u8,
    pub seq: u64,
    pub gap: bool,
    pub samples: Vec<i16>,
    /// The WAV of a sound record.
    pub wav: Vec<u8>,
    /// The field PREROLL of an Opus record.
    pub preroll: usize,
    /// The packets of an Opus record, or of a silence record.
    pub packets: Vec<Vec<u8>>,
    /// The JSON of a hello or room record, or of a record with one or more messages.
    pub json: String,
    /// The person's index and the value of each mark.
    pub marks: Vec<(u16, u8)>,
    /// The tag of the list of people in a room record.
    pub tag: String,
    /// The field LAST of a moved record.
    pub is_last: bool,
    pub raw: String,
}

impl Records {
    /// Reads the next record.
    pub fn record(&mut self) -> Record {
        let raw = String::from_utf8(self.client.take_until(b"</script>")).unwrap();
        decode(&raw)
    }

    /// Reads records up to the next one of this kind. Returns that record.
    pub fn next_of(&mut self, kind: u8) -> Record {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let record = self.record();
            if record.kind == kind {
                return record;
            }
            assert!(Instant::now() < deadline, "timed out waiting for a record of kind {kind}");
        }
    }
}

fn decode(raw: &str) -> Record {
    let text = raw.strip_prefix("<b>").unwrap().strip_suffix("</b><script>p()</script>").unwrap();
    let fields: Vec<&str> = text.split(',').collect();
    let json = |field: &str| String::from_utf8(BASE64.decode(field).unwrap()).unwrap();
    let kind = fields[0].parse().unwrap();
    let seq = fields[1].parse().unwrap();
    let (mut gap, mut samples, mut text, mut last) = (false, Vec::new(), String::new(), "");
    let (mut is_last, mut tag, mut bytes) = (false, String::new(), Vec::new());
    let (mut preroll, mut packets) = (0, Vec::new());
    match (kind, &fields[2..]) {
        (0 | 4 | 7, [data]) => text = json(data),
        (2 | 6, [marks]) => last = marks,
        (2, [marks, list]) => (last, packets) = (*marks, decode_packets(list)),
        (10, [is_gap, count, list, levels]) => {
            gap = flag(is_gap);
            preroll = count.parse().unwrap();
            (last, packets) = (*levels, decode_packets(list));
        }
        (3, [data, states, name]) => (text, last, tag) = (json(data), *states, (*name).to_owned()),
        (1, [is_gap, wav, levels]) => {
            gap = flag(is_gap);
            bytes = BASE64.decode(wav).unwrap();
            if bytes[20] == 1 {
                samples = decode_wav(&bytes);
            }
            last = levels;
        }
        (5, ["0"]) | (8, []) | (9, ["0" | "1"]) => {}
        (5, ["1"]) => is_last = true,
        _ => panic!("not a record: {raw}"),
    }
    let wav = bytes;
    let bytes = BASE64.decode(last).unwrap();
    assert_eq!(bytes.len() % 3, 0, "{raw}");
    let marks = bytes.chunks_exact(3).map(|mark| (u16::from_be_bytes([mark[0], mark[1]]), mark[2])).collect();
    Record { kind, seq, gap, samples, wav, preroll, packets, json: text, marks, tag, is_last, raw: raw.to_owned() }
}

fn flag(field: &str) -> bool {
    match field {
        "0" => false,
        "1" => true,
        other => panic!("GAP is {other}"),
    }
}

fn decode_packets(list: &str) -> Vec<Vec<u8>> {
    let list = BASE64.decode(list).unwrap();
    palabre_sound::opus::packets::iter(&list).map(|packet| packet.unwrap().to_vec()).collect()
}

fn decode_wav(wav: &[u8]) -> Vec<i16> {
    let rate_hz = u32::from_le_bytes(wav[24..28].try_into().unwrap());
    assert_eq!(wav, palabre_sound::wav::little(rate_hz, &pcm(&wav[44..])));
    pcm(&wav[44..])
}

/// Decodes 16-bit little-endian samples.
pub fn pcm(bytes: &[u8]) -> Vec<i16> {
    bytes.chunks_exact(2).map(|pair| i16::from_le_bytes([pair[0], pair[1]])).collect()
}
