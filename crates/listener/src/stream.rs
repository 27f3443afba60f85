//! `GET /listen`: the injected stream of one page.

use crate::codec::Codec;
use crate::connection::{After, Connection};
use crate::ear::{Delivered, Kind, Next, Subscription};
use crate::http::{Head, Response, response};
use crate::page_id;
use crate::record;
use crate::state::Listener;
use crate::tls;
use palabre_host::clock::boottime_ms;
use palabre_host::sockets;
use std::io::{self, Read as _, Write as _};
use std::time::{Duration, Instant};

/// Timeout for the writes of one record to a socket while this thread also reads the source of the sound. The pipe holds 400 ms of sound.
const READING_TIMEOUT: Duration = Duration::from_millis(50);
/// Timeout for a page to close a stream after the last record.
const CLOSE_TIMEOUT: Duration = Duration::from_millis(1200);
/// Timeout for a client to acknowledge sent data.
const ACK_TIMEOUT: Duration = Duration::from_secs(10);
/// Maximum length of the stream in the kernel's send buffer, in ms. If a chunk is longer, the buffer holds one chunk.
const SEND_BUFFER_MS: u64 = 200;
/// Maximum length of the content of a TLS record: RFC 8446 §5.1.
const TLS_RECORD_BYTES: usize = 16 * 1024;
/// Minimum size of the kernel's send buffer.
const MIN_SEND_BUFFER_BYTES: usize = 16 * 1024;

/// Serves a stream until the page closes the connection, a write times out, or the next process takes over.
pub(crate) fn serve(connection: &mut Connection, head: &Head, listener: &Listener) -> io::Result<After> {
    let from = match head.parameter("from").map(str::parse::<u64>) {
        None => None,
        Some(Ok(from)) => Some(from),
        Some(Err(_)) => {
            let response =
                Response::text(400, "the parameter 'from' must be a number: the SEQ of a record of the stream");
            return connection.answer(head, &response, listener.keeps());
        }
    };
    let codec = match Codec::of(head, listener.codec) {
        Ok(codec) => codec,
        Err(response) => return connection.answer(head, &response, listener.keeps()),
    };
    let page = match page_id::of(head) {
        Ok(page) if head.method == "HEAD" && listener.ear.is_full(page) => {
            return connection.answer(head, &too_many(), listener.keeps());
        }
        Ok(page) => page,
        Err(response) => return connection.answer(head, &response, listener.keeps()),
    };
    let answer = answer_head(listener.keeps());
    if head.method == "HEAD" {
        connection.stream.write_all(answer.as_bytes())?;
        connection.stream.flush()?;
        return Ok(After::Close);
    }
    prepare(connection, listener, codec)?;
    let Some(mut subscription) = listener.ear.subscribe(connection.stream.sock.tcp(), from, page, codec)? else {
        return connection.answer(head, &too_many(), listener.keeps());
    };
    listener.main_thread.wake();
    let result = run(connection, &mut subscription, listener, answer, (head.parameter("people"), from));
    drop(subscription);
    listener.main_thread.wake();
    result.map(|()| After::Close)
}

/// Returns the response to a request for a stream above the maximum number of streams.
pub(crate) fn too_many() -> Response {
    Response::text(429, "this participant has too many open streams; close another page or program")
        .with("Retry-After", "5")
}

fn answer_head(keeps: bool) -> String {
    let mut fields = vec![
        ("Content-Type", "text/html; charset=utf-8".into()),
        ("Content-Length", record::CONTENT_LENGTH.to_string()),
        ("Content-Security-Policy", record::content_security_policy()),
        // Proxies such as nginx must not buffer the stream.
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
    subscription: &mut Subscription,
    listener: &Listener,
    answer: String,
    (people, from): (Option<&str>, Option<u64>),
) -> io::Result<()> {
    let mut bytes = answer.into_bytes();
    bytes.extend_from_slice(record::prologue().as_bytes());
    let mut delivered = Delivered::default();
    let mut last_seq = boottime_ms();
    if let Some(opening) = subscription.opening() {
        bytes.extend(opening.bytes(&listener.me().json(), people));
        delivered = Delivered::new(&opening, subscription.encoding());
        last_seq = opening.seq();
        // A page that renews its stream gives no SEQ, and has received the previous stream's records until now.
        bytes.extend(missed(listener, last_seq, from.or(people.and(Some(last_seq)))));
    }
    write(connection, subscription, &bytes)?;
    loop {
        // The exact timeout doesn't matter: there is a record at least every 2 s, even in silence.
        match subscription.next(Instant::now() + Duration::from_secs(10)) {
            Next::Ended => return Ok(()),
            Next::Nothing => {}
            Next::Record(record, skipped) => {
                if subscription.was_behind() {
                    write(connection, subscription, &missed(listener, record.seq.saturating_sub(1), Some(last_seq)))?;
                }
                last_seq = record.seq;
                delivered.deliver(&record, skipped, listener.format.rate.hz(), |bytes| {
                    write(connection, subscription, bytes)
                })?;
                if matches!(record.kind, Kind::Moved { last: true } | Kind::Removed) {
                    wait_for_close(connection);
                    return Ok(());
                }
            }
        }
    }
}

/// Returns a record, with the number `seq`, of the messages that the page may have missed after the SEQ `after`; empty if there are none.
fn missed(listener: &Listener, seq: u64, after: Option<u64>) -> Vec<u8> {
    listener.api.as_ref().map(|api| api.meeting.missed(seq, after)).unwrap_or_default()
}

/// Writes one record in as few TLS records as possible, each up to [`TLS_RECORD_BYTES`]. Writes each TLS record before the next one is encrypted, so that a long
/// chunk needs no more memory. If the write blocks, another thread reads the source of the sound from then on.
pub(crate) fn write(connection: &mut Connection, subscription: &mut Subscription, bytes: &[u8]) -> io::Result<()> {
    let stream = &mut connection.stream;
    stream.sock.set_write_timeout(if subscription.is_reading() { READING_TIMEOUT } else { tls::WRITE_TIMEOUT })?;
    let deadline = Instant::now() + READING_TIMEOUT;
    let mut left = bytes;
    loop {
        if !stream.conn.wants_write() && left.is_empty() {
            return Ok(());
        }
        // If a client reads only a few bytes at a time, no single write times out, so check the deadline of the whole record.
        if subscription.is_reading() && Instant::now() >= deadline {
            subscription.stop_reading();
            stream.sock.set_write_timeout(tls::WRITE_TIMEOUT)?;
        }
        if !stream.conn.wants_write() {
            match stream.conn.writer().write(&left[..left.len().min(TLS_RECORD_BYTES)])? {
                0 => return Err(io::ErrorKind::WriteZero.into()),
                taken => left = &left[taken..],
            }
        }
        // Not `flush`: after a timeout, rustls would wait for data from the client.
        match stream.conn.write_tls(&mut stream.sock) {
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if tls::is_timeout(&error) && subscription.stop_reading() => {
                stream.sock.set_write_timeout(tls::WRITE_TIMEOUT)?;
            }
            Err(error) => return Err(error),
        }
    }
}

/// Waits until the page has closed this stream, or for [`CLOSE_TIMEOUT`]. The page first opens a stream of the next process.
fn wait_for_close(connection: &mut Connection) {
    connection.stream.sock.set_deadline(Some(Instant::now() + CLOSE_TIMEOUT));
    connection.stream.sock.set_timeout(CLOSE_TIMEOUT);
    let mut discarded = [0; 64];
    while connection.stream.read(&mut discarded).is_ok_and(|count| count > 0) {}
}

/// Limits the socket's send buffer, which could hold a minute of sound by default. Limits the time to wait for acknowledgements of a
/// client that has disappeared, which is 15 minutes by default.
pub(crate) fn prepare(connection: &Connection, listener: &Listener, codec: Codec) -> io::Result<()> {
    // Base64 encodes 3 bytes as 4. The other parts of a record are about 150 bytes.
    let chunks = SEND_BUFFER_MS.div_ceil(listener.chunk_ms) as usize;
    let bytes = codec.bytes_in_ms(SEND_BUFFER_MS.max(listener.chunk_ms), listener.format) * 4 / 3 + 150 * chunks;
    let tcp = connection.stream.sock.tcp();
    sockets::set_user_timeout(tcp, ACK_TIMEOUT)?;
    sockets::set_send_buffer(tcp, bytes.max(MIN_SEND_BUFFER_BYTES))
}
