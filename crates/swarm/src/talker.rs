//! A participant who talks: sends a tone in real time, by one endless POST or by WebSocket.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, Read, Write};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use rustls::ClientConfig;
use tungstenite::handshake::client::generate_key;
use tungstenite::handshake::derive_accept_key;
use tungstenite::protocol::Role;
use tungstenite::{Message, WebSocket};

use crate::links::Link;
use crate::records;
use crate::tones::Tones;
use crate::wire::Wire;

/// Length of the sound in one message of a WebSocket, as a page sends it.
const MESSAGE_MS: u64 = 40;
/// Length of the sound in one chunk of a POST.
const POST_CHUNK_MS: u64 = 20;
/// Maximum number of messages or chunks that are sent at once after a delay of this program. The others are dropped.
const CATCH_UP_MAX: u32 = 10;
/// Maximum size of a response's head that is accepted, in bytes.
const RESPONSE_BYTES_MAX: usize = 64 * 1024;

/// How a talker sends sound.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    Post,
    WebSocket,
}

impl Way {
    fn piece_ms(self) -> u64 {
        match self {
            Self::Post => POST_CHUNK_MS,
            Self::WebSocket => MESSAGE_MS,
        }
    }
}

/// A participant who talks.
pub(crate) struct Talker {
    /// Index of the participant.
    pub(crate) participant: usize,
    /// Number of the tone.
    tone: usize,
    way: Way,
    /// Number of the next sample. Sample 0 is captured at the start of all tones.
    next: u64,
    message_number: u32,
    connection: Option<Connection>,
}

struct Connection {
    wire: Wire,
    stage: Stage,
    received: Vec<u8>,
}

enum Stage {
    Post,
    /// The WebSocket handshake. The text is the `Sec-WebSocket-Accept` that the response must have.
    Upgrade(String),
    WebSocket(Box<WebSocket<Pipe>>),
}

/// Carries bytes between a WebSocket and a connection.
#[derive(Default)]
struct Pipe {
    input: VecDeque<u8>,
    output: Vec<u8>,
}

impl Read for Pipe {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if self.input.is_empty() { Err(ErrorKind::WouldBlock.into()) } else { self.input.read(out) }
    }
}

impl Write for Pipe {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.output.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Talker {
    /// Returns talker number `tone`. Talkers with an even number use a WebSocket, the others a POST. The talkers send at different times.
    pub(crate) fn new(tone: usize, participant: usize) -> Self {
        let way = if tone.is_multiple_of(2) { Way::WebSocket } else { Way::Post };
        Self { participant, tone, way, next: 0, message_number: 0, connection: None }
    }

    pub(crate) fn wire(&self) -> Option<&Wire> {
        self.connection.as_ref().map(|connection| &connection.wire)
    }

    /// Connects and sends the request. Sound follows from `now_ms` on, in ms since the start of the tones.
    pub(crate) fn connect(
        &mut self,
        config: &Arc<ClientConfig>,
        link: &Link,
        tones: &Tones,
        now_ms: f64,
    ) -> io::Result<()> {
        let mut wire = Wire::connect(config, &link.address)?;
        let (path, host, key) = (&link.address.path, link.host(), link.key.as_str());
        let request = |method: &str, target: &str, fields: &str| {
            format!("{method} {path}{target} HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {key}\r\n{fields}\r\n")
        };
        let stage = match self.way {
            Way::Post => {
                wire.send(request("POST", "speak", "Transfer-Encoding: chunked\r\n").as_bytes())?;
                wire.send(&chunk(&palabre_sound::wav::endless_head(tones.rate_hz())))?;
                Stage::Post
            }
            Way::WebSocket => {
                let key = generate_key();
                let fields = format!(
                    "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n"
                );
                wire.send(request("GET", &format!("speak?page=swarm{}", self.tone), &fields).as_bytes())?;
                Stage::Upgrade(derive_accept_key(key.as_bytes()))
            }
        };
        let piece = self.piece(tones.rate_hz());
        // The talkers' messages and chunks begin at different times, so that the talkers don't all send at the same time.
        let offset = piece * self.tone as u64 / tones.count().max(1) as u64;
        let now = (now_ms.max(0.0) * f64::from(tones.rate_hz()) / 1000.0) as u64;
        self.next = now.next_multiple_of(piece) + offset;
        self.connection = Some(Connection { wire, stage, received: Vec::new() });
        Ok(())
    }

    /// Closes the connection.
    pub(crate) fn close(&mut self) {
        self.connection = None;
    }

    /// Sends the messages or chunks that have been captured until `now_ms`, in ms since the start of the tones.
    pub(crate) fn send(&mut self, tones: &Tones, now_ms: f64) -> io::Result<()> {
        let piece = self.piece(tones.rate_hz());
        let captured = (now_ms * f64::from(tones.rate_hz()) / 1000.0) as u64;
        for _ in 0..CATCH_UP_MAX {
            if self.connection.is_none() || self.next + piece > captured {
                return Ok(());
            }
            self.send_piece(tones, piece, now_ms)?;
            self.next += piece;
            self.message_number = self.message_number.wrapping_add(1);
        }
        // Drop older sound, as a page does after its tab was suspended.
        self.next += (captured - self.next) / piece * piece;
        Ok(())
    }

    fn send_piece(&mut self, tones: &Tones, piece: u64, now_ms: f64) -> io::Result<()> {
        let Some(connection) = &mut self.connection else { return Ok(()) };
        connection.wire.flush()?;
        if connection.wire.is_blocked() {
            return Ok(());
        }
        match &mut connection.stage {
            Stage::Upgrade(_) => Ok(()),
            Stage::Post => {
                let mut samples = Vec::new();
                tones.write(self.tone, self.next, piece as usize, &mut samples);
                connection.wire.send(&chunk(&samples))
            }
            Stage::WebSocket(socket) => {
                let age_ms = now_ms - self.next as f64 * 1000.0 / f64::from(tones.rate_hz());
                let mut message = Vec::new();
                message.extend_from_slice(&self.message_number.to_le_bytes());
                message.extend_from_slice(&[0; 4]);
                message.extend_from_slice(&(wall_clock_ms() - age_ms).to_le_bytes());
                tones.write(self.tone, self.next, piece as usize, &mut message);
                socket.send(Message::Binary(message.into())).map_err(io::Error::other)?;
                connection.wire.send(&std::mem::take(&mut socket.get_mut().output))
            }
        }
    }

    /// Reads what the listener has sent. Returns the cause if the connection has ended or the listener has refused the request.
    pub(crate) fn read(&mut self, scratch: &mut [u8]) -> Result<(), String> {
        let Some(connection) = &mut self.connection else { return Ok(()) };
        match connection.wire.read(scratch) {
            Ok(None) => Ok(()),
            Ok(Some(0)) => Err("the listener closed the connection".to_owned()),
            Ok(Some(count)) => connection.take(&scratch[..count]),
            Err(error) => Err(error.to_string()),
        }
    }

    /// Returns the number of samples in one message or chunk.
    fn piece(&self, rate_hz: u32) -> u64 {
        u64::from(rate_hz) * self.way.piece_ms() / 1000
    }
}

impl Connection {
    fn take(&mut self, bytes: &[u8]) -> Result<(), String> {
        if let Stage::WebSocket(socket) = &mut self.stage {
            return receive(socket, bytes, &mut self.wire);
        }
        self.received.extend_from_slice(bytes);
        let Some((status, length)) = records::head(&self.received)? else {
            return match self.received.len() > RESPONSE_BYTES_MAX {
                true => Err("the response's head is too long".to_owned()),
                false => Ok(()),
            };
        };
        let (head, rest) = self.received.split_at(length);
        match &self.stage {
            Stage::Upgrade(accept) if status == 101 && String::from_utf8_lossy(head).contains(accept.as_str()) => {
                let mut pipe = Pipe::default();
                pipe.input.extend(rest);
                self.stage = Stage::WebSocket(Box::new(WebSocket::from_raw_socket(pipe, Role::Client, None)));
                Ok(())
            }
            _ => {
                let text = String::from_utf8_lossy(rest);
                Err(format!("the status of /speak is {status}: {}", text.lines().next().unwrap_or_default()))
            }
        }
    }
}

/// Passes received bytes to the WebSocket, and sends its answers to pings. Returns the cause if the WebSocket has ended.
fn receive(socket: &mut WebSocket<Pipe>, bytes: &[u8], wire: &mut Wire) -> Result<(), String> {
    socket.get_mut().input.extend(bytes);
    loop {
        match socket.read() {
            Ok(Message::Close(frame)) => {
                let code = frame.map_or(1005, |frame| u16::from(frame.code));
                return Err(format!("the listener closed the WebSocket with code {code}"));
            }
            Ok(_) => {}
            Err(tungstenite::Error::Io(error)) if error.kind() == ErrorKind::WouldBlock => break,
            Err(error) => return Err(error.to_string()),
        }
    }
    wire.send(&std::mem::take(&mut socket.get_mut().output)).map_err(|error| error.to_string())
}

/// Returns a chunk of a body with `Transfer-Encoding: chunked`.
fn chunk(bytes: &[u8]) -> Vec<u8> {
    [format!("{:x}\r\n", bytes.len()).as_bytes(), bytes, b"\r\n"].concat()
}

fn wall_clock_ms() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64() * 1000.0
}
