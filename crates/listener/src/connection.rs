//! One connection: reads heads within their deadlines and keeps what came beyond them.

use crate::http::head::{self, Head, Refusal};
use crate::http::{Body, Response, body::Framing};
use crate::tls::TlsStream;
use std::io::{self, Read, Write};
use std::time::{Duration, Instant};

/// How long a head may take, from its first byte to its last.
const HEAD: Duration = Duration::from_secs(10);

/// How long a short body may take.
const BODY: Duration = Duration::from_secs(10);

/// A connection of a client, after the TLS handshake.
#[derive(Debug)]
pub struct Connection {
    /// The encrypted stream.
    pub stream: TlsStream,
    buffered: Vec<u8>,
}

/// What is to become of a connection after a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum After {
    /// The next request may come.
    Keep,
    /// It is over.
    Close,
}

/// Why there is no head.
#[derive(Debug)]
pub enum NoHead {
    /// The client left, or was idle for too long.
    Over,
    /// It began a head and didn't end it in time, or it sent one that is refused.
    Refused(Refusal),
}

impl Connection {
    /// A connection on which nothing has been read yet.
    pub fn new(stream: TlsStream) -> Self {
        Self { stream, buffered: Vec::new() }
    }

    /// Waits for the next head: for its beginning at most `idle`, for the rest 10 s.
    ///
    /// # Errors
    /// See [`NoHead`].
    pub fn read_head(&mut self, idle: Duration) -> Result<Head, NoHead> {
        let wait = if self.buffered.is_empty() { idle } else { HEAD };
        self.limit_reads(wait);
        let mut some = [0; 2048];
        loop {
            if let Some((head, length)) = head::parse(&self.buffered).map_err(NoHead::Refused)? {
                self.buffered.drain(..length);
                self.stream.sock.set_deadline(None);
                return Ok(head);
            }
            let was_empty = self.buffered.is_empty();
            match self.stream.read(&mut some) {
                Ok(0) => return Err(NoHead::Over),
                Ok(count) => self.buffered.extend_from_slice(&some[..count]),
                Err(error) if crate::tls::is_timeout(&error) && !was_empty => {
                    return Err(NoHead::Refused(Refusal { status: 408, why: "the head of the request took too long" }));
                }
                Err(_) => return Err(NoHead::Over),
            }
            if was_empty {
                self.limit_reads(HEAD);
            }
        }
    }

    fn limit_reads(&mut self, limit: Duration) {
        self.stream.sock.set_timeout(limit);
        self.stream.sock.set_deadline(Some(Instant::now() + limit));
    }

    /// The body of the request whose head was read last.
    pub fn body(&mut self, framing: Framing) -> Body<'_, TlsStream> {
        Body::new(framing, &mut self.buffered, &mut self.stream)
    }

    /// The whole body of the request whose head was read last, which must say its length, or the answer to one that doesn't.
    ///
    /// # Errors
    /// What the connection says.
    pub fn read_body(&mut self, head: &Head, max_bytes: usize) -> io::Result<Result<Vec<u8>, Response>> {
        let length = match Framing::of(head) {
            Ok(Framing::Length(length)) if head.field("content-length").is_some() => length,
            Ok(_) => return Ok(Err(Response::text(411, "the length of the body is missing"))),
            Err(refusal) => return Ok(Err(refusal.into())),
        };
        if length > max_bytes as u64 {
            return Ok(Err(Response::text(413, format_args!("at most {max_bytes} bytes here"))));
        }
        self.limit_reads(BODY);
        let mut body = Vec::new();
        self.body(Framing::Length(length)).read_to_end(&mut body)?;
        self.stream.sock.set_deadline(None);
        Ok(Ok(body))
    }

    /// Writes an answer; the connection is kept if the request has no body and `keep` says so.
    ///
    /// # Errors
    /// What the connection says.
    pub fn answer(&mut self, head: &Head, response: &Response, keep: bool) -> io::Result<After> {
        let has_body = !matches!(Framing::of(head), Ok(Framing::Length(0)));
        let keep = keep && !has_body && head.keeps_alive();
        response.write(&mut self.stream, head.method == "HEAD", keep)?;
        Ok(if keep { After::Keep } else { After::Close })
    }

    /// What was read beyond the last head, for a protocol that takes over.
    pub fn take_buffered(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.buffered)
    }

    /// Ends the connection so that the last answer arrives.
    pub fn close(mut self) {
        self.stream.conn.send_close_notify();
        // The client may be gone: nothing is left to tell it.
        let _ = self.stream.flush();
        self.stream.sock.linger();
    }
}
