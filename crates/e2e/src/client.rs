//! A client of a listener as small as `curl`: real TLS, one request a connection, streams in both directions.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use crate::suite::Link;

/// A TLS connection to a listener.
pub type Tls = StreamOwned<ClientConnection, TcpStream>;

const TIMEOUT: Duration = Duration::from_secs(20);
const MAX_HEAD_BYTES: usize = 64 * 1024;

/// Trusts one certificate.
#[derive(Clone, Debug)]
pub struct Client {
    config: Arc<ClientConfig>,
}

/// An answer's head, and the connection from which its body is read.
#[derive(Debug)]
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// The whole head as text.
    pub head: String,
    early: io::Cursor<Vec<u8>>,
    tls: Tls,
}

impl Client {
    /// Trusts the certificate in the PEM file and nothing else.
    ///
    /// # Errors
    /// The file can't be read.
    pub fn trusting(certificate: &Path) -> Result<Self> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(certificate)?)?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Self { config: Arc::new(config) })
    }

    /// A connection with the handshake still to be done.
    ///
    /// # Errors
    /// The connection is refused.
    pub fn connect(&self, link: &Link) -> Result<Tls> {
        let tcp = TcpStream::connect(("127.0.0.1", link.port)).with_context(|| format!("connect to {}", link.port))?;
        tcp.set_nodelay(true)?;
        tcp.set_read_timeout(Some(TIMEOUT))?;
        tcp.set_write_timeout(Some(TIMEOUT))?;
        let tls = ClientConnection::new(Arc::clone(&self.config), ServerName::try_from("localhost")?)?;
        Ok(StreamOwned::new(tls, tcp))
    }

    /// Sends a request without a body, with the key as a bearer, and reads the answer's head.
    ///
    /// # Errors
    /// No answer, or none that is HTTP.
    pub fn get(&self, link: &Link, path: &str) -> Result<Answer> {
        self.request(link, "GET", path, &[&format!("Authorization: Bearer {}", link.key)], b"")
    }

    /// Sends a request with header lines and what follows them, and reads the answer's head.
    ///
    /// # Errors
    /// No answer, or none that is HTTP.
    pub fn request(&self, link: &Link, method: &str, path: &str, lines: &[&str], body: &[u8]) -> Result<Answer> {
        let mut tls = self.connect(link)?;
        write_head(&mut tls, link, method, path, lines)?;
        tls.write_all(body)?;
        tls.flush()?;
        Answer::read(tls)
    }

    /// Begins to speak live: a WAV without end by chunked transfer.
    ///
    /// # Errors
    /// The connection is refused.
    pub fn speak(&self, link: &Link, rate_hz: u32) -> Result<Speaker> {
        let mut tls = self.connect(link)?;
        let bearer = format!("Authorization: Bearer {}", link.key);
        write_head(&mut tls, link, "POST", "/speak", &[&bearer, "Transfer-Encoding: chunked"])?;
        let mut speaker = Speaker { tls };
        speaker.chunk(&palabre_sound::wav::endless_head(rate_hz))?;
        Ok(speaker)
    }

    /// Begins to record `/listen.wav` in a thread, which connects again whenever the stream ends.
    ///
    /// # Errors
    /// No answer, or not a sound.
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
            bail!("/listen.wav of {}: {}", link.name, answer.status);
        }
        let head = palabre_sound::wav::Head::read(&mut answer).map_err(|error| anyhow!("{error}"))?;
        Ok((head.rate_hz, answer))
    }
}

impl Answer {
    fn read(mut tls: Tls) -> Result<Self> {
        let mut bytes = Vec::new();
        let mut piece = [0; 4096];
        let end = loop {
            if let Some(at) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
                break at + 4;
            }
            match tls.read(&mut piece)? {
                0 => bail!("the connection ended within the head: {:?}", String::from_utf8_lossy(&bytes)),
                _ if bytes.len() > MAX_HEAD_BYTES => bail!("the head does not end"),
                got => bytes.extend_from_slice(&piece[..got]),
            }
        };
        let early = io::Cursor::new(bytes.split_off(end));
        let head = String::from_utf8(bytes)?;
        let status = head.split(' ').nth(1).and_then(|code| code.parse().ok()).context("no status")?;
        Ok(Self { status, head, early, tls })
    }

    /// A header's value.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        let line = |line: &str| line.split_once(':').is_some_and(|(key, _)| key.eq_ignore_ascii_case(name));
        Some(self.head.lines().find(|text| line(text))?.split_once(':')?.1.trim())
    }

    /// The whole body as text, up to its `Content-Length` or the end of the connection.
    ///
    /// # Errors
    /// What reading says.
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

/// Somebody who speaks by a POST without end.
#[derive(Debug)]
pub struct Speaker {
    tls: Tls,
}

impl Speaker {
    /// Sends samples at once; pacing is the caller's.
    ///
    /// # Errors
    /// The listener has left or refuses.
    pub fn say(&mut self, samples: &[i16]) -> io::Result<()> {
        let bytes: Vec<u8> = samples.iter().flat_map(|sample| sample.to_le_bytes()).collect();
        self.chunk(&bytes)
    }

    /// Ends the body and reads the answer.
    ///
    /// # Errors
    /// No answer.
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

/// `/listen.wav` as it comes in.
#[derive(Debug)]
pub struct Recording {
    /// Samples a second.
    pub rate_hz: u32,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    samples: Mutex<Vec<i16>>,
    again: AtomicUsize,
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
            self.again.fetch_add(1, Ordering::Relaxed);
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
    /// How many samples there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.shared.samples().len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The samples from `start`.
    #[must_use]
    pub fn from(&self, start: usize) -> Vec<i16> {
        self.shared.samples().get(start..).unwrap_or_default().to_vec()
    }

    /// How often the stream has ended and been opened again.
    #[must_use]
    pub fn reconnections(&self) -> usize {
        self.shared.again.load(Ordering::Relaxed)
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

/// Says a tone in real time from a thread until dropped; connects again whenever the connection ends, as a page would.
#[derive(Debug)]
pub struct Talker {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Talker {
    /// `freq_hz` at `dbfs`, in pieces of 20 ms.
    #[must_use]
    pub fn tone(client: &Client, link: &Link, freq_hz: f64, dbfs: f64) -> Self {
        const RATE_HZ: u32 = 24_000;
        // A whole number of periods would be needed for a seamless loop; one second holds one for every whole frequency.
        let second = palabre_sound::measure::tone(RATE_HZ, freq_hz.round(), dbfs, RATE_HZ as usize);
        let stop = Arc::new(AtomicBool::new(false));
        let (client, link, stopped) = (client.clone(), link.clone(), Arc::clone(&stop));
        let thread = std::thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                if let Ok(speaker) = client.speak(&link, RATE_HZ) {
                    say_paced(speaker, &second, &stopped);
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

/// Says words of 200 ms from a thread, each all at once: it is the mixer that plays them in real time, and nothing depends on
/// how punctual the thread is.
#[derive(Debug)]
pub struct Words {
    said: Arc<AtomicUsize>,
    stop: Arc<AtomicBool>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Words {
    /// Words of `freq_hz` at `dbfs`, with pauses of 300 ms or more.
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

    /// Ends the talk; how many words were said.
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

/// Deadlines are absolute, so that a late wake-up is made good by the next piece.
fn say_paced(mut speaker: Speaker, second: &[i16], stop: &AtomicBool) {
    let start = Instant::now();
    for (piece, n) in second.chunks(second.len() / 50).cycle().zip(1u32..) {
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
