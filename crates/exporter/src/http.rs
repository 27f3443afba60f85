//! As much of HTTP/1.1 as a scrape needs: one request, one answer, then the connection is closed (RFC 9112 §9.6).

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

/// How long a client may take for its request, and again for the answer.
pub const DEADLINE: Duration = Duration::from_secs(5);
/// The longest head of a request.
const MAX_HEAD_BYTES: usize = 8 * 1024;
const MAX_FIELDS: usize = 64;

const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
const TEXT: &str = "text/plain; charset=utf-8";
const DOOR: &str = "palabre-exporter: the metrics are at /metrics\n";

/// Reads a request and answers it; `page` makes the metrics, if they are wanted.
///
/// # Errors
/// The client left, or took too long.
pub fn answer(client: &TcpStream, page: impl FnOnce() -> String) -> io::Result<()> {
    client.set_nonblocking(false)?;
    let (status, kind, body, is_head) = match head(client)? {
        Asked::Get("/metrics", is_head) => ("200 OK", OPENMETRICS, page(), is_head),
        Asked::Get("/", is_head) => ("200 OK", TEXT, DOOR.to_owned(), is_head),
        Asked::Get(_, is_head) => ("404 Not Found", TEXT, DOOR.to_owned(), is_head),
        Asked::Other => ("405 Method Not Allowed", TEXT, "only GET and HEAD\n".to_owned(), false),
        Asked::Nonsense => ("400 Bad Request", TEXT, "this is no HTTP request\n".to_owned(), false),
    };
    let allow = if status.starts_with("405") { "Allow: GET, HEAD\r\n" } else { "" };
    let length = body.len();
    let mut text = format!(
        "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\n{allow}Connection: close\r\n\r\n"
    );
    if !is_head {
        text.push_str(&body);
    }
    write_all(client, text.as_bytes(), Instant::now() + DEADLINE)
}

enum Asked {
    /// The path, and whether only the head of the answer is wanted.
    Get(&'static str, bool),
    Other,
    Nonsense,
}

fn head(mut client: &TcpStream) -> io::Result<Asked> {
    let until = Instant::now() + DEADLINE;
    let mut bytes = Vec::with_capacity(1024);
    let mut some = [0; 1024];
    loop {
        client.set_read_timeout(Some(left(until)?))?;
        match client.read(&mut some)? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            count => bytes.extend_from_slice(&some[..count]),
        }
        match asked(&bytes) {
            Some(asked) => return Ok(asked),
            None if bytes.len() > MAX_HEAD_BYTES => return Ok(Asked::Nonsense),
            None => {}
        }
    }
}

/// What is asked, once the head is whole.
fn asked(bytes: &[u8]) -> Option<Asked> {
    let mut fields = [httparse::EMPTY_HEADER; MAX_FIELDS];
    let mut request = httparse::Request::new(&mut fields);
    match request.parse(bytes) {
        Ok(httparse::Status::Partial) => None,
        Err(_) => Some(Asked::Nonsense),
        Ok(httparse::Status::Complete(_)) => {
            let target = request.path.unwrap_or_default();
            let path = match target.split('?').next() {
                Some("/metrics") => "/metrics",
                Some("/") => "/",
                _ => "",
            };
            Some(match request.method {
                Some("GET") => Asked::Get(path, false),
                Some("HEAD") => Asked::Get(path, true),
                _ => Asked::Other,
            })
        }
    }
}

fn write_all(mut client: &TcpStream, mut bytes: &[u8], until: Instant) -> io::Result<()> {
    while !bytes.is_empty() {
        client.set_write_timeout(Some(left(until)?))?;
        match client.write(bytes)? {
            0 => return Err(io::ErrorKind::WriteZero.into()),
            count => bytes = &bytes[count..],
        }
    }
    client.flush()
}

fn left(until: Instant) -> io::Result<Duration> {
    let left = until.saturating_duration_since(Instant::now());
    if left.is_zero() { Err(io::ErrorKind::TimedOut.into()) } else { Ok(left) }
}
