//! A connection: reads requests within deadlines and writes responses.

use crate::http::head::{self, Head, Refusal};
use crate::http::{Body, Response, body::Framing};
use crate::tls::TlsStream;
use std::io::{self, Read, Write};
use std::time::{Duration, Instant};

/// Timeout for receiving the head of a request, from its first byte.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);

/// Timeout for receiving the body of a request in [`Connection::read_body`].
const BODY_TIMEOUT: Duration = Duration::from_secs(10);

/// A connection to a client, after the TLS handshake.
#[derive(Debug)]
pub(crate) struct Connection {
    /// The encrypted stream.
    pub(crate) stream: TlsStream,
    /// Bytes that were received after the end of the last head.
    buffered: Vec<u8>,
}

/// What the server does with a connection after it has answered a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum After {
    /// The server keeps the connection and waits for the next request.
    Keep,
    /// The server closes the connection.
    Close,
}

/// Error: no request can be read from the connection.
#[derive(Debug)]
pub(crate) enum HeadError {
    /// The client closed the connection, or sent nothing within the timeout.
    Closed,
    /// The client sent an invalid head, or did not complete the head within the timeout.
    Refused(Refusal),
}

impl Connection {
    /// Creates a connection from an encrypted stream that has just completed its handshake.
    pub(crate) fn new(stream: TlsStream) -> Self {
        Self { stream, buffered: Vec::new() }
    }

    /// Waits for the head of the next request: at most `idle` for its first byte, and 10 s for the rest.
    pub(crate) fn read_head(&mut self, idle: Duration) -> Result<Head, HeadError> {
        let wait = if self.buffered.is_empty() { idle } else { HEAD_TIMEOUT };
        self.limit_reads(wait);
        let mut some = [0; 2048];
        loop {
            if let Some((head, length)) = head::parse(&self.buffered).map_err(HeadError::Refused)? {
                self.buffered.drain(..length);
                self.stream.sock.set_deadline(None);
                return Ok(head);
            }
            let was_empty = self.buffered.is_empty();
            match self.stream.read(&mut some) {
                Ok(0) => return Err(HeadError::Closed),
                Ok(count) => self.buffered.extend_from_slice(&some[..count]),
                Err(error) if crate::tls::is_timeout(&error) && !was_empty => {
                    return Err(HeadError::Refused(Refusal {
                        status: 408,
                        why: "the head of the request did not arrive within 10 s",
                    }));
                }
                Err(_) => return Err(HeadError::Closed),
            }
            if was_empty {
                self.limit_reads(HEAD_TIMEOUT);
            }
        }
    }

    fn limit_reads(&mut self, limit: Duration) {
        self.stream.sock.set_timeout(limit);
        self.stream.sock.set_deadline(Some(Instant::now() + limit));
    }

    /// Returns a reader for the body of the current request.
    pub(crate) fn body(&mut self, framing: Framing) -> Body<'_, TlsStream> {
        Body::new(framing, &mut self.buffered, &mut self.stream)
    }

    /// Reads the whole body of the current request. Returns an error response if the request declares no length or more than `max_bytes`.
    pub(crate) fn read_body(&mut self, head: &Head, max_bytes: usize) -> io::Result<Result<Vec<u8>, Response>> {
        let length = match Framing::of(head) {
            Ok(Framing::Length(length)) if head.field("content-length").is_some() => length,
            Ok(_) => return Ok(Err(Response::text(411, "the request needs a 'Content-Length' field"))),
            Err(refusal) => return Ok(Err(refusal.into())),
        };
        if length > max_bytes as u64 {
            return Ok(Err(Response::text(
                413,
                format_args!("the request body is longer than the maximum of {max_bytes} bytes"),
            )));
        }
        self.limit_reads(BODY_TIMEOUT);
        let mut body = Vec::new();
        self.body(Framing::Length(length)).read_to_end(&mut body)?;
        self.stream.sock.set_deadline(None);
        Ok(Ok(body))
    }

    /// Writes a response. The connection is kept only if `keep` is true and the request has no body, which would remain unread.
    pub(crate) fn answer(&mut self, head: &Head, response: &Response, keep: bool) -> io::Result<After> {
        let has_body = !matches!(Framing::of(head), Ok(Framing::Length(0)));
        let keep = keep && !has_body && head.keeps_alive();
        response.write(&mut self.stream, head.method == "HEAD", keep)?;
        Ok(if keep { After::Keep } else { After::Close })
    }

    /// Returns the bytes that were read after the head, for a WebSocket that continues on this connection.
    pub(crate) fn take_buffered(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.buffered)
    }

    /// Closes the connection after the client had time to receive the last response.
    pub(crate) fn close(mut self) {
        self.stream.conn.send_close_notify();
        // A failed flush means that the client has closed the connection.
        let _ = self.stream.flush();
        self.stream.sock.linger();
    }
}
