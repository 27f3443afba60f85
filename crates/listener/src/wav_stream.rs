//! `GET /listen.wav`: the sound of the room as an endless WAV for programs such as curl, ffmpeg and mpv.
//!
//! The WAV is continuous in time: while the room is silent, the stream contains zeros. The number of zeros is computed from the machine's
//! clock and the number of samples sent so far, so the stream doesn't drift.
//!
//! The response has no Content-Length: the sound ends with the connection, so programs see a clean end and don't seek to an announced
//! end. (The page's stream has a Content-Length, because browsers need it.)

use crate::codec::Codec;
use crate::connection::{After, Connection};
use crate::ear::{Kind, Next, Subscription};
use crate::http::{Head, response};
use crate::state::Listener;
use std::io::{self, Write as _};
use std::time::{Duration, Instant};

/// Interval between writes of zeros during silence.
const SILENCE_INTERVAL: Duration = Duration::from_millis(100);
/// Maximum time in ms between the last frame of a chunk and the arrival of the chunk's record at this stream.
const SLACK_MS: u64 = 100;

/// Sends the sound until the client disconnects, a write times out, or the next process takes over.
pub(crate) fn serve(connection: &mut Connection, head: &Head, listener: &Listener) -> io::Result<After> {
    let mut head_text = response::head(
        200,
        &[
            ("Content-Type", "audio/wav".into()),
            ("Accept-Ranges", "none".into()),
            ("Connection", "close".into()),
            ("X-Accel-Buffering", "no".into()),
        ],
    );
    head_text.push_str("\r\n");
    let mut bytes = head_text.into_bytes();
    if head.method == "HEAD" {
        connection.stream.write_all(&bytes)?;
        connection.stream.flush()?;
        return Ok(After::Close);
    }
    crate::stream::prepare(connection, listener, Codec::Pcm)?;
    let Some(mut subscription) = listener.ear.subscribe(connection.stream.sock.tcp(), None, None, Codec::Pcm)? else {
        return connection.answer(head, &crate::stream::too_many(), listener.keeps());
    };
    listener.main_thread.wake();
    bytes.extend(palabre_sound::wav::endless_head(listener.format.rate.hz()));
    let result = connection.stream.write_all(&bytes).and_then(|()| run(connection, &mut subscription, listener));
    drop(subscription);
    listener.main_thread.wake();
    result.map(|()| After::Close)
}

fn run(connection: &mut Connection, subscription: &mut Subscription, listener: &Listener) -> io::Result<()> {
    let mut line = Timeline::new(listener.format.rate.hz(), listener.chunk_ms + SLACK_MS);
    let start = Instant::now();
    let mut samples = Vec::new();
    let mut bytes = Vec::new();
    loop {
        samples.clear();
        let next = subscription.next(Instant::now() + SILENCE_INTERVAL);
        match &next {
            Next::Ended => return Ok(()),
            Next::Record(record, skipped) => match &record.kind {
                Kind::Sound { samples: chunk, gap } => {
                    line.sound(start.elapsed(), chunk, *gap || *skipped, &mut samples);
                }
                // End the stream: a client that reconnects now reaches the next process.
                Kind::Moved { .. } | Kind::Removed => return Ok(()),
                Kind::Silence | Kind::Room | Kind::States | Kind::Message(_) | Kind::Microphone { .. } => {
                    line.silence(start.elapsed(), &mut samples);
                }
            },
            Next::Nothing => line.silence(start.elapsed(), &mut samples),
        }
        if !samples.is_empty() {
            bytes.clear();
            bytes.extend(samples.iter().flat_map(|sample| sample.to_le_bytes()));
            crate::stream::write(connection, subscription, &bytes)?;
        }
    }
}

/// Places chunks and zeros in time by the number of samples sent since the start of the stream.
#[derive(Debug)]
struct Timeline {
    rate_hz: u64,
    sent: u64,
    /// Number of newest samples for which no zeros are sent yet, because their chunk may still arrive.
    margin: u64,
}

impl Timeline {
    fn new(rate_hz: u32, margin_ms: u64) -> Self {
        let rate_hz = u64::from(rate_hz);
        Self { rate_hz, sent: 0, margin: rate_hz * margin_ms / 1000 }
    }

    fn position(&self, elapsed: Duration) -> u64 {
        (elapsed.as_micros() * u128::from(self.rate_hz) / 1_000_000) as u64
    }

    /// Appends a chunk, whose last sample belongs to the time `elapsed`, to `out`. After a gap, first appends zeros up to the chunk's
    /// start. Drops the beginning of a chunk that is too early.
    fn sound(&mut self, elapsed: Duration, chunk: &[i16], gap: bool, out: &mut Vec<i16>) {
        let start = self.position(elapsed).saturating_sub(chunk.len() as u64);
        if gap {
            self.fill_to(start, out);
        }
        // Drop samples of chunks that arrive in a burst after a stall, so that the stream isn't delayed permanently.
        let ahead = self.sent.saturating_sub(start + self.margin);
        let cut = usize::try_from(ahead).unwrap_or(usize::MAX).min(chunk.len());
        out.extend_from_slice(&chunk[cut..]);
        self.sent += (chunk.len() - cut) as u64;
    }

    fn silence(&mut self, elapsed: Duration, out: &mut Vec<i16>) {
        self.fill_to(self.position(elapsed).saturating_sub(self.margin), out);
    }

    fn fill_to(&mut self, position: u64, out: &mut Vec<i16>) {
        // Append at most 10 s of zeros, to limit memory. A stall of 10 s ends the stream anyway, because a write times out after 5 s.
        let count = position.saturating_sub(self.sent).min(self.rate_hz * 10);
        out.resize(out.len() + count as usize, 0);
        self.sent = self.sent.max(position);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn silence_does_not_drift() {
        let mut line = Timeline::new(24000, 140);
        let mut out = Vec::new();
        for tick in 1..=36_000 {
            line.silence(ms(tick * 100 + tick % 7), &mut out);
            out.truncate(0);
        }
        assert_eq!(line.sent, 24 * (3_600_000 + 36_000 % 7 - 140));
    }

    #[test]
    fn sound_after_silence_starts_at_its_time_and_continues_without_a_gap() {
        let mut line = Timeline::new(24000, 140);
        let mut out = Vec::new();
        line.silence(ms(1000), &mut out);
        assert_eq!(out.len(), 24 * 860);
        line.sound(ms(1060), &[1; 960], true, &mut out);
        assert_eq!(out.len(), 24 * 1060);
        // The next chunk is 9 ms late: no zeros are inserted.
        line.sound(ms(1109), &[2; 960], false, &mut out);
        line.silence(ms(1110), &mut out);
        assert_eq!(out.len(), 24 * 1100);
        assert!(out[24 * 860..24 * 1020].iter().all(|&s| s == 0));
        assert_eq!(out[24 * 1020], 1);
        assert_eq!(out[24 * 1060], 2);
    }

    #[test]
    fn burst_after_a_stall_does_not_delay_the_stream() {
        let mut line = Timeline::new(24000, 140);
        let mut out = Vec::new();
        line.silence(ms(2000), &mut out);
        for _ in 0..50 {
            line.sound(ms(2000), &[1; 960], false, &mut out);
        }
        assert!(line.sent <= 24 * (2000 + 140));
    }
}
