//! A small HTTPS client for listeners: one request per connection, with streams in both directions.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::os::fd::AsRawFd as _;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, SockaddrIn, connect, setsockopt, socket, sockopt};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use crate::link::Link;

/// The TLS connection from a test client to a listener.
pub type Tls = StreamOwned<ClientConnection, TcpStream>;

/// Timeout for each read and write.
const IO_TIMEOUT: Duration = Duration::from_secs(20);
/// Size of the receive buffer of a connection with small buffers.
const NARROW_BYTES: usize = 8 * 1024;
/// Maximum segment size of a connection with small buffers.
const NARROW_SEGMENT_BYTES: u32 = 200;
/// Maximum result of [`Answer::waiting_bytes`].
const WAITING_BYTES_MAX: usize = 64 * 1024;
/// Maximum size of a response's head.
const HEAD_BYTES_MAX: usize = 64 * 1024;

/// A client that trusts only given certificates.
#[derive(Clone, Debug)]
pub struct Client {
    config: Arc<ClientConfig>,
}

/// A response's head, and the connection from which its body is read.
#[derive(Debug)]
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// The status line and all headers, as text.
    pub head: String,
    early: io::Cursor<Vec<u8>>,
    tls: Tls,
}

impl Client {
    /// Returns a client that trusts only the certificates in this PEM file.
    pub fn trusting(certificates: &Path) -> Result<Self> {
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_file_iter(certificates)? {
            roots.add(certificate?)?;
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Self { config: Arc::new(config) })
    }

    /// Connects by TCP. The TLS handshake begins with the first read or write.
    pub fn connect(&self, link: &Link) -> Result<Tls> {
        let tcp = TcpStream::connect(("127.0.0.1", link.port))
            .with_context(|| format!("unable to connect to port {} of 127.0.0.1", link.port))?;
        self.secure(tcp)
    }

    /// Returns a copy of this client that resumes no TLS session: each of its connections is a full handshake.
    #[must_use]
    pub fn without_tickets(&self) -> Self {
        let mut config = ClientConfig::clone(&self.config);
        config.resumption = rustls::client::Resumption::disabled();
        Self { config: Arc::new(config) }
    }

    fn secure(&self, tcp: TcpStream) -> Result<Tls> {
        tcp.set_nodelay(true)?;
        tcp.set_read_timeout(Some(IO_TIMEOUT))?;
        tcp.set_write_timeout(Some(IO_TIMEOUT))?;
        let tls = ClientConnection::new(Arc::clone(&self.config), ServerName::try_from("localhost")?)?;
        Ok(StreamOwned::new(tls, tcp))
    }

    /// Sends a GET request with the access key as bearer token, and reads the response's head.
    pub fn get(&self, link: &Link, path: &str) -> Result<Answer> {
        self.request(link, "GET", path, &[&format!("Authorization: Bearer {}", link.key)], b"")
    }

    /// Does the same as [`Self::get`] over a connection whose buffers at both ends are small.
    pub fn get_slowly(&self, link: &Link, path: &str) -> Result<Answer> {
        let mut tls = self.secure(narrow(link.port)?)?;
        write_head(&mut tls, link, "GET", path, &[&format!("Authorization: Bearer {}", link.key)])?;
        tls.flush()?;
        Answer::read(tls)
    }

    /// Sends a request with these header lines and this body, and reads the response's head.
    pub fn request(&self, link: &Link, method: &str, path: &str, lines: &[&str], body: &[u8]) -> Result<Answer> {
        let mut tls = self.connect(link)?;
        write_head(&mut tls, link, method, path, lines)?;
        tls.write_all(body)?;
        tls.flush()?;
        Answer::read(tls)
    }

    /// Starts to send sound of `rate_hz`: an endless WAV in a chunked POST to `/speak`.
    pub fn speak(&self, link: &Link, rate_hz: u32) -> Result<Speaker> {
        let mut tls = self.connect(link)?;
        let bearer = format!("Authorization: Bearer {}", link.key);
        write_head(&mut tls, link, "POST", "/speak", &[&bearer, "Transfer-Encoding: chunked"])?;
        let mut speaker = Speaker { tls };
        speaker.chunk(&palabre_sound::wav::endless_head(rate_hz))?;
        Ok(speaker)
    }

    /// Starts a thread that records `/listen.wav`. It reconnects when the stream ends.
    pub fn record(&self, link: &Link) -> Result<Recording> {
        let (rate_hz, answer) = self.listen(link)?;
        let shared = Arc::new(Shared::default());
        let thread = std::thread::spawn({
            let (shared, client, link) = (Arc::clone(&shared), self.clone(), link.clone());
            move || shared.fill(&client, &link, answer)
        });
        Ok(Recording { rate_hz, shared, thread: Some(thread) })
    }

    fn listen(&self, link: &Link) -> Result<(u32, Answer)> {
        let mut answer = self.get(link, "/listen.wav")?;
        if answer.status != 200 {
            bail!("the listener of {} answered GET /listen.wav with status {}", link.name, answer.status);
        }
        let head = palabre_sound::wav::Head::read(&mut answer).map_err(|error| anyhow!("{error}"))?;
        Ok((head.rate_hz, answer))
    }
}

/// Connects to a port of 127.0.0.1 with a small receive buffer and small segments. Because of the small segments, the kernel makes the server's
/// send buffer small too.
fn narrow(port: u16) -> Result<TcpStream> {
    let socket = socket(AddressFamily::Inet, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)?;
    setsockopt(&socket, sockopt::RcvBuf, &NARROW_BYTES)?;
    setsockopt(&socket, sockopt::TcpMaxSeg, &NARROW_SEGMENT_BYTES)?;
    connect(socket.as_raw_fd(), &SockaddrIn::new(127, 0, 0, 1, port))?;
    Ok(socket.into())
}

impl Answer {
    /// Returns the number of bytes that have arrived from the server and that this client has not read, at most [`WAITING_BYTES_MAX`].
    pub(crate) fn waiting_bytes(&self) -> io::Result<usize> {
        self.tls.sock.peek(&mut vec![0; WAITING_BYTES_MAX])
    }

    fn read(mut tls: Tls) -> Result<Self> {
        let mut bytes = Vec::new();
        let mut piece = [0; 4096];
        let end = loop {
            if let Some(at) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
                break at + 4;
            }
            match tls.read(&mut piece)? {
                0 => bail!("the connection ended within the response's head: {:?}", String::from_utf8_lossy(&bytes)),
                _ if bytes.len() > HEAD_BYTES_MAX => bail!("the response's head is too long"),
                got => bytes.extend_from_slice(&piece[..got]),
            }
        };
        let early = io::Cursor::new(bytes.split_off(end));
        let head = String::from_utf8(bytes)?;
        let status =
            head.split(' ').nth(1).and_then(|code| code.parse().ok()).context("the response has no status code")?;
        Ok(Self { status, head, early, tls })
    }

    /// Returns a header's value.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        let line = |line: &str| line.split_once(':').is_some_and(|(key, _)| key.eq_ignore_ascii_case(name));
        Some(self.head.lines().find(|text| line(text))?.split_once(':')?.1.trim())
    }

    /// Reads the body as text, up to its `Content-Length` or the end of the connection.
    pub fn text(mut self) -> Result<String> {
        let length = self.header("content-length").and_then(|value| value.parse().ok()).unwrap_or(u64::MAX);
        let mut text = Vec::new();
        Read::by_ref(&mut self).take(length.min(1 << 24)).read_to_end(&mut text)?;
        Ok(String::from_utf8(text)?)
    }
}

impl Read for Answer {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.early.read(buffer)? {
            0 => self.tls.read(buffer),
            got => Ok(got),
        }
    }
}

/// An endless POST to `/speak`.
#[derive(Debug)]
pub struct Speaker {
    tls: Tls,
}

impl Speaker {
    /// Sends samples at once, without pacing.
    pub fn say(&mut self, samples: &[i16]) -> io::Result<()> {
        let bytes: Vec<u8> = samples.iter().flat_map(|sample| sample.to_le_bytes()).collect();
        self.chunk(&bytes)
    }

    /// Ends the body and reads the response.
    pub fn finish(mut self) -> Result<Answer> {
        self.tls.write_all(b"0\r\n\r\n")?;
        self.tls.flush()?;
        Answer::read(self.tls)
    }

    fn chunk(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.tls.write_all(format!("{:x}\r\n", bytes.len()).as_bytes())?;
        self.tls.write_all(bytes)?;
        self.tls.write_all(b"\r\n")?;
        self.tls.flush()
    }
}

/// A recording of `/listen.wav` that is in progress.
#[derive(Debug)]
pub struct Recording {
    /// Sample rate in Hz.
    pub rate_hz: u32,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    samples: Mutex<Vec<i16>>,
    reconnections: AtomicUsize,
    stop: AtomicBool,
}

impl Shared {
    fn fill(&self, client: &Client, link: &Link, mut answer: Answer) {
        loop {
            self.fill_from(&mut answer);
            answer = loop {
                if self.stop.load(Ordering::Relaxed) {
                    return;
                }
                match client.listen(link) {
                    Ok((_, answer)) => break answer,
                    Err(_) => std::thread::sleep(Duration::from_millis(50)),
                }
            };
            self.reconnections.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn fill_from(&self, answer: &mut Answer) {
        let mut bytes = [0; 8192];
        let mut odd = 0;
        while !self.stop.load(Ordering::Relaxed) {
            let Ok(got @ 1..) = answer.read(&mut bytes[odd..]) else { break };
            let (pairs, rest) = bytes[..odd + got].as_chunks::<2>();
            self.samples().extend(pairs.iter().map(|&pair| i16::from_le_bytes(pair)));
            odd = rest.len();
            if let [byte] = *rest {
                bytes[0] = byte;
            }
        }
    }

    fn samples(&self) -> MutexGuard<'_, Vec<i16>> {
        self.samples.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl Recording {
    /// Returns the number of recorded samples.
    #[must_use]
    pub fn len(&self) -> usize {
        self.shared.samples().len()
    }

    /// Returns whether nothing was recorded.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns the samples from `start` on.
    #[must_use]
    pub fn from(&self, start: usize) -> Vec<i16> {
        self.shared.samples().get(start..).unwrap_or_default().to_vec()
    }

    /// Returns how often the stream ended and was opened again.
    #[must_use]
    pub fn reconnections(&self) -> usize {
        self.shared.reconnections.load(Ordering::Relaxed)
    }
}

impl Drop for Recording {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// A thread that sends a tone in real time. Dropping this value ends the thread. It reconnects when the connection ends, as a page does.
#[derive(Debug)]
pub struct Talker {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Talker {
    /// Starts to send a tone in pieces of 20 ms.
    #[must_use]
    pub fn tone(client: &Client, link: &Link, freq_hz: f64, dbfs: f64) -> Self {
        const RATE_HZ: u32 = 24_000;
        // One second contains a whole number of periods of every whole frequency, so the loop has no break.
        let second = palabre_sound::measure::tone(RATE_HZ, freq_hz.round(), dbfs, RATE_HZ as usize);
        Self::repeating(client, link, RATE_HZ, second)
    }

    /// Starts to send these samples in a loop, in pieces of 20 ms.
    #[must_use]
    pub fn repeating(client: &Client, link: &Link, rate_hz: u32, samples: Vec<i16>) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let (client, link, stopped) = (client.clone(), link.clone(), Arc::clone(&stop));
        let thread = std::thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                if let Ok(speaker) = client.speak(&link, rate_hz) {
                    say_paced(speaker, &samples, rate_hz, &stopped);
                } else {
                    std::thread::sleep(Duration::from_millis(50));
                }
            }
        });
        Self { stop, thread: Some(thread) }
    }
}

impl Drop for Talker {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// A thread that sends words (tones of 200 ms), each in one write. The mixer plays the samples in real time, so a late write changes no word.
#[derive(Debug)]
pub struct Words {
    said: Arc<AtomicUsize>,
    stop: Arc<AtomicBool>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Words {
    /// Starts to send words of this tone, with pauses of at least 300 ms.
    #[must_use]
    pub fn say(client: &Client, link: &Link, freq_hz: f64, dbfs: f64) -> Self {
        const RATE_HZ: u32 = 24_000;
        let word = palabre_sound::measure::tone(RATE_HZ, freq_hz, dbfs, RATE_HZ as usize / 5);
        let (said, stop) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
        let speaker = client.speak(link, RATE_HZ);
        let (count, stopped) = (Arc::clone(&said), Arc::clone(&stop));
        let thread = std::thread::spawn(move || {
            let Ok(mut speaker) = speaker else { return };
            while !stopped.load(Ordering::Relaxed) && speaker.say(&word).is_ok() {
                count.fetch_add(1, Ordering::Relaxed);
                std::thread::sleep(Duration::from_millis(500));
            }
        });
        Self { said, stop, thread: Mutex::new(Some(thread)) }
    }

    /// Stops the thread and returns the number of words that it has sent.
    pub fn stop(&self) -> usize {
        self.stop.store(true, Ordering::Relaxed);
        let thread = self.thread.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take();
        if let Some(thread) = thread {
            let _ = thread.join();
        }
        self.said.load(Ordering::Relaxed)
    }
}

impl Drop for Words {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Sends 20 ms of sound every 20 ms until `stop` is true. Deadlines are absolute, so delays don't add up.
fn say_paced(mut speaker: Speaker, samples: &[i16], rate_hz: u32, stop: &AtomicBool) {
    let start = Instant::now();
    for (piece, n) in samples.chunks_exact(rate_hz as usize / 50).cycle().zip(1u32..) {
        if stop.load(Ordering::Relaxed) || speaker.say(piece).is_err() {
            return;
        }
        std::thread::sleep((start + Duration::from_millis(20) * n).saturating_duration_since(Instant::now()));
    }
}

fn write_head(tls: &mut Tls, link: &Link, method: &str, path: &str, lines: &[&str]) -> io::Result<()> {
    let mut head = format!("{method} {path} HTTP/1.1\r\nHost: localhost:{}\r\n", link.port);
    for line in lines {
        head.push_str(line);
        head.push_str("\r\n");
    }
    head.push_str("\r\n");
    tls.write_all(head.as_bytes())?;
    tls.flush()
}
