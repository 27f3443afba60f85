//! Receives the Opus packets that a page has queued.

use super::body::{Abort, TimedBody, read_failed, superseded};
use crate::http::{Head, Response};
use crate::mic::{MicWriter, Uplink};
use crate::opus_in::{BURST, OpusError};
use palabre_config::control::Codec;
use palabre_sound::opus::{FRAME_MS, MAX_PACKET_BYTES, packets};
use std::io::Read;
use std::sync::Arc;
use std::time::Instant;

/// Maximum number of packets in one request.
const MAX_PACKETS: usize = BURST.as_millis() as usize / FRAME_MS as usize;
/// Maximum number of bytes of a list to read: the longest list of [`MAX_PACKETS`] packets, and one byte that shows that the list is longer.
const MAX_LIST_BYTES: usize = MAX_PACKETS * (2 + MAX_PACKET_BYTES) + 1;

/// Returns whether the body is a list of Opus packets.
pub(super) fn says_packets(head: &Head) -> bool {
    head.field("content-type").is_some_and(|value| value.eq_ignore_ascii_case("application/vnd.palabre.opus"))
}

/// Writes the sound of the packets in the body to the microphone. Returns its duration in seconds.
pub(super) fn receive(body: &mut TimedBody<'_>, mic: &Arc<MicWriter>, page: Option<&str>) -> Result<f64, Abort> {
    let refused = |status, why: &dyn std::fmt::Display| Abort::Answer(Response::text(status, why));
    let mut list = Vec::new();
    body.by_ref().take(MAX_LIST_BYTES as u64).read_to_end(&mut list).map_err(read_failed)?;
    // Only the first [`MAX_PACKETS`] are parsed here. If anything follows, the request is refused below.
    let mut iter = packets::iter(&list);
    let packets: Vec<&[u8]> =
        iter.by_ref().take(MAX_PACKETS).collect::<Result<_, _>>().map_err(|error| refused(400, &error))?;
    if packets.is_empty() {
        return Err(refused(400, &"the request body is empty"));
    }
    let lease = mic.acquire(Uplink::PageQueue, page).map_err(superseded)?;
    body.lease = Some(Arc::clone(&lease));
    lease.note_codec(Codec::Opus { kbps: None });
    let now = Instant::now();
    let samples = lease.decode(now, &packets).map_err(|error| match error {
        OpusError::TooFast => refused(429, &error),
        OpusError::Rate(_) | OpusError::Packet(_) => refused(415, &error),
    })?;
    lease.write_live(now, &samples).map_err(superseded)?;
    if iter.next().is_some() {
        return Err(refused(413, &"the body is too long: a page may send at most 10 s of sound in one request"));
    }
    Ok(samples.len() as f64 / f64::from(mic.format().rate.hz()))
}
