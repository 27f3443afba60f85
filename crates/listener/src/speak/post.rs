//! Receives sound by POST or PUT: a recording, live sound without an end, or the sound that a page has queued.

use super::body::{Abort, POLL_INTERVAL, TimedBody, superseded};
use super::paced::{Pace, PacedWriter};
use super::sound::Sound;
use super::{packets, sound};
use crate::connection::{After, Connection};
use crate::http::body::Framing;
use crate::http::{Head, Response};
use crate::mic::{MicWriter, Uplink};
use crate::state::Listener;
use std::io::{self, Write as _};
use std::sync::Arc;
use std::time::Instant;

/// Writes the body of a request to the microphone and answers the request.
pub(crate) fn serve(
    connection: &mut Connection,
    head: &Head,
    listener: &Listener,
    mic: &Arc<MicWriter>,
    page: Option<&str>,
) -> io::Result<After> {
    let framing = match framing(head, page) {
        Ok(framing) => framing,
        Err(response) => return connection.answer(head, &response, false),
    };
    let pace = match (page, framing) {
        (Some(_), _) => Pace::PageQueue,
        (None, Framing::Length(_)) => Pace::RealTime,
        (None, Framing::Chunked) => Pace::Live,
    };
    if head.has_token("expect", "100-continue") {
        connection.stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
        connection.stream.flush()?;
    }
    connection.stream.sock.set_timeout(POLL_INTERVAL);
    let mut body = TimedBody { body: connection.body(framing), lease: None, listener, heard: Instant::now() };
    let result = match packets::says_packets(head) {
        true if page.is_some() => packets::receive(&mut body, mic, page),
        true => Err(Abort::Answer(Response::text(415, "only a page may send Opus packets; send Ogg Opus or a WAV"))),
        false => receive(&mut body, mic, pace, page, sound::says_ogg(head)),
    };
    // Release the microphone before the client gets the response.
    body.lease = None;
    let keep = body.body.is_done() && listener.keeps() && head.keeps_alive();
    let response = match result {
        Ok(_) if pace == Pace::PageQueue => Response::new(204),
        Ok(seconds) => Response::text(200, format_args!("played {seconds:.2} s")),
        Err(Abort::Answer(response)) => response,
        Err(Abort::Connection(error)) => return Err(error),
    };
    response.write(&mut connection.stream, false, keep)?;
    Ok(if keep { After::Keep } else { After::Close })
}

fn framing(head: &Head, page: Option<&str>) -> Result<Framing, Response> {
    let framing = Framing::of(head)?;
    let has_length = head.field("content-length").is_some() || framing == Framing::Chunked;
    if !has_length {
        return Err(Response::text(411, "the request needs a 'Content-Length' field or 'Transfer-Encoding: chunked'"));
    }
    if head.field("expect").is_some() && !head.has_token("expect", "100-continue") {
        return Err(Response::text(417, "the only supported value of the field 'Expect' is '100-continue'"));
    }
    // The capture time in the parameter `t` is checked but not used: a page waits for each response, so requests need no ordering by their capture
    // times. The check finds faults in pages.
    let time = head.parameter("t").map(str::parse::<f64>);
    if page.is_some() && !matches!(time, Some(Ok(time)) if time.is_finite()) {
        return Err(Response::text(400, "the parameter 't' must be the capture time of the first sample in ms"));
    }
    Ok(framing)
}

/// Writes the sound in the body to the microphone. Returns its duration in seconds.
fn receive(
    body: &mut TimedBody<'_>,
    mic: &Arc<MicWriter>,
    pace: Pace,
    page: Option<&str>,
    is_ogg: bool,
) -> Result<f64, Abort> {
    let rate_hz = mic.format().rate.hz();
    let sound = Sound::begin(body, is_ogg, rate_hz)?;
    let uplink = if page.is_some() { Uplink::PageQueue } else { Uplink::Program };
    let lease = mic.acquire(uplink, page).map_err(superseded)?;
    body.lease = Some(Arc::clone(&lease));
    lease.note_codec(sound.codec());
    PacedWriter::new(lease, pace, rate_hz).write_all(body, sound)
}
