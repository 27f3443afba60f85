//! `GET /listen`: the injected stream of one page.

use crate::connection::{After, Connection};
use crate::ear::{Kind, Next, Told};
use crate::http::{Head, Response, response};
use crate::record;
use crate::state::Listener;
use palabre_host::sockets;
use std::io::{self, Read as _, Write as _};
use std::time::{Duration, Instant};

/// How long to wait for a page to leave a stream that has moved.
const FAREWELL: Duration = Duration::from_millis(1200);
/// How long a peer may leave what was sent unacknowledged.
const SILENT_PEER: Duration = Duration::from_secs(10);
/// How much of the stream the kernel may hold for a slow page, in ms, and at least in bytes.
const SEND_BUFFER_MS: u64 = 200;
const SEND_BUFFER_LEAST_BYTES: usize = 16 * 1024;

/// Serves a stream until the page leaves, is too slow for the write time-out, or is told to move.
///
/// # Errors
/// What the connection says.
pub fn serve(connection: &mut Connection, head: &Head, listener: &Listener) -> io::Result<After> {
    let from = match head.parameter("from").map(str::parse::<u64>) {
        None => None,
        Some(Ok(from)) => Some(from),
        Some(Err(_)) => {
            let response = Response::text(400, "'from' must be the number of a record");
            return connection.answer(head, &response, listener.keeps());
        }
    };
    let answer = answer_head(listener.keeps());
    if head.method == "HEAD" {
        connection.stream.write_all(answer.as_bytes())?;
        connection.stream.flush()?;
        return Ok(After::Close);
    }
    prepare(connection, listener)?;
    let mut subscription = listener.ear.subscribe(connection.stream.sock.tcp(), from)?;
    listener.status.changed();
    let result = run(connection, &mut subscription, listener, answer, head.parameter("people"));
    drop(subscription);
    listener.status.changed();
    result.map(|()| After::Close)
}

fn answer_head(keeps: bool) -> String {
    let mut fields = vec![
        ("Content-Type", "text/html; charset=utf-8".into()),
        ("Content-Length", record::CONTENT_LENGTH.to_string()),
        ("Content-Security-Policy", record::content_security_policy()),
        // Proxies such as nginx would hold back what is meant to arrive now.
        ("X-Accel-Buffering", "no".into()),
    ];
    if !keeps {
        fields.push(("Connection", "close".into()));
    }
    let mut head = response::head(200, &fields);
    head.push_str("\r\n");
    head
}

fn run(
    connection: &mut Connection,
    subscription: &mut crate::ear::Subscription,
    listener: &Listener,
    answer: String,
    people: Option<&str>,
) -> io::Result<()> {
    let mut bytes = answer.into_bytes();
    bytes.extend_from_slice(record::prologue().as_bytes());
    let mut told = Told::default();
    if let Some(opening) = subscription.opening() {
        bytes.extend(opening.bytes(&listener.me_json, people));
        told = Told::new(&opening);
    }
    write(connection, &bytes)?;
    loop {
        // The ear says something every 2 s; the time-out is for an ear that doesn't.
        match subscription.next(Instant::now() + Duration::from_secs(10)) {
            Next::Ended => return Ok(()),
            Next::Nothing => {}
            Next::Record(record, skipped) => {
                told.tell(&record, skipped, listener.format.rate.hz(), |bytes| write(connection, bytes))?;
                if matches!(record.kind, Kind::Moved { last: true }) {
                    wait_for_the_end(connection);
                    return Ok(());
                }
            }
        }
    }
}

/// One record, one write: rustls makes one TLS record of up to 16 KiB.
fn write(connection: &mut Connection, bytes: &[u8]) -> io::Result<()> {
    connection.stream.write_all(bytes)?;
    connection.stream.flush()
}

/// A page that was told to move opens the next stream before it leaves this one.
fn wait_for_the_end(connection: &mut Connection) {
    connection.stream.sock.set_deadline(Some(Instant::now() + FAREWELL));
    connection.stream.sock.set_timeout(FAREWELL);
    let mut bin = [0; 64];
    while connection.stream.read(&mut bin).is_ok_and(|count| count > 0) {}
}

/// A default socket swallows megabytes, a minute of sound, before a write blocks; and it waits a quarter of an hour for a
/// peer that has gone without a word.
pub fn prepare(connection: &Connection, listener: &Listener) -> io::Result<()> {
    // Base64 makes 4 of 3, and each chunk has some 150 bytes around it.
    let chunks = SEND_BUFFER_MS.div_ceil(listener.chunk_ms) as usize;
    let bytes = listener.format.bytes_in_ms(SEND_BUFFER_MS) * 4 / 3 + 150 * chunks;
    let tcp = connection.stream.sock.tcp();
    sockets::set_user_timeout(tcp, SILENT_PEER)?;
    sockets::set_send_buffer(tcp, bytes.max(SEND_BUFFER_LEAST_BYTES))
}
