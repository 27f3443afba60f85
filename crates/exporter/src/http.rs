//! The part of HTTP/1.1 that a scrape needs: one request, one response, then the connection is closed (RFC 9112 §9.6).

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

/// Timeout for receiving a request, and again for sending the response.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(5);
/// Maximum length of the head of a request, in bytes.
const MAX_HEAD_BYTES: usize = 8 * 1024;
/// Maximum number of header fields in a request.
const MAX_FIELDS: usize = 64;

const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
const TEXT: &str = "text/plain; charset=utf-8";
const HINT: &str = "palabre-exporter: the metrics are at /metrics\n";

/// Reads a request from a client and answers it. Calls `metrics` to get the response body if the request is for the metrics.
pub(crate) fn answer(client: &TcpStream, metrics: impl FnOnce() -> String) -> io::Result<()> {
    client.set_nonblocking(false)?;
    let (status, kind, body, is_head) = match read_request(client)? {
        Target::Path("/metrics", is_head) => ("200 OK", OPENMETRICS, metrics(), is_head),
        Target::Path("/", is_head) => ("200 OK", TEXT, HINT.to_owned(), is_head),
        Target::Path(_, is_head) => ("404 Not Found", TEXT, HINT.to_owned(), is_head),
        Target::MethodNotAllowed => {
            ("405 Method Not Allowed", TEXT, "method not allowed; use GET or HEAD\n".to_owned(), false)
        }
        Target::Invalid => ("400 Bad Request", TEXT, "invalid HTTP request\n".to_owned(), false),
    };
    let allow = if status.starts_with("405") { "Allow: GET, HEAD\r\n" } else { "" };
    let length = body.len();
    let mut text = format!(
        "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\n{allow}Connection: close\r\n\r\n"
    );
    if !is_head {
        text.push_str(&body);
    }
    write_all(client, text.as_bytes(), Instant::now() + TIMEOUT)
}

/// The path and method of a request, or the reason why the request is refused.
enum Target {
    /// A GET or HEAD request of this path, which is `/metrics` or `/`; empty stands for all other paths. The flag says whether the method is HEAD.
    Path(&'static str, bool),
    MethodNotAllowed,
    Invalid,
}

fn read_request(mut client: &TcpStream) -> io::Result<Target> {
    let deadline = Instant::now() + TIMEOUT;
    let mut bytes = Vec::with_capacity(1024);
    let mut some = [0; 1024];
    loop {
        client.set_read_timeout(Some(remaining(deadline)?))?;
        match client.read(&mut some)? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            count => bytes.extend_from_slice(&some[..count]),
        }
        match parse(&bytes) {
            Some(target) => return Ok(target),
            None if bytes.len() > MAX_HEAD_BYTES => return Ok(Target::Invalid),
            None => {}
        }
    }
}

/// Parses the head of a request. Returns `None` if the head is incomplete.
fn parse(bytes: &[u8]) -> Option<Target> {
    let mut fields = [httparse::EMPTY_HEADER; MAX_FIELDS];
    let mut request = httparse::Request::new(&mut fields);
    match request.parse(bytes) {
        Ok(httparse::Status::Partial) => None,
        Err(_) => Some(Target::Invalid),
        Ok(httparse::Status::Complete(_)) => {
            let target = request.path.unwrap_or_default();
            let path = match target.split('?').next() {
                Some("/metrics") => "/metrics",
                Some("/") => "/",
                _ => "",
            };
            Some(match request.method {
                Some("GET") => Target::Path(path, false),
                Some("HEAD") => Target::Path(path, true),
                _ => Target::MethodNotAllowed,
            })
        }
    }
}

fn write_all(mut client: &TcpStream, mut bytes: &[u8], deadline: Instant) -> io::Result<()> {
    while !bytes.is_empty() {
        client.set_write_timeout(Some(remaining(deadline)?))?;
        match client.write(bytes)? {
            0 => return Err(io::ErrorKind::WriteZero.into()),
            count => bytes = &bytes[count..],
        }
    }
    client.flush()
}

fn remaining(deadline: Instant) -> io::Result<Duration> {
    let remaining = deadline.saturating_duration_since(Instant::now());
    if remaining.is_zero() { Err(io::ErrorKind::TimedOut.into()) } else { Ok(remaining) }
}
