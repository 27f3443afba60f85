//! `GET /listen.wav` and `GET /listen.ogg`: the sound of the room as an endless WAV or Ogg Opus for programs such as curl, ffmpeg and mpv.
//!
//! The sound is continuous in time: while the room is silent, the stream contains zeros. The number of zeros is computed from the machine's
//! clock and the number of samples sent so far, so the stream doesn't drift.
//!
//! The response has no Content-Length: the sound ends with the connection, so programs see a clean end and don't seek to an announced
//! end. (The page's stream has a Content-Length, because browsers need it.)

use crate::codec::Codec;
use crate::connection::{After, Connection};
use crate::ear::{Kind, Next, Subscription};
use crate::http::{Head, Response, response};
use crate::state::Listener;
use crate::timeline::Timeline;
use palabre_host::clock::boottime_ms;
use palabre_sound::{ogg, opus, wav};
use std::io::{self, Write as _};
use std::time::{Duration, Instant};

/// Interval between writes of zeros during silence.
const SILENCE_INTERVAL: Duration = Duration::from_millis(100);
/// Maximum time in ms between the last frame of a chunk and the arrival of the chunk's record at this stream.
const SLACK_MS: u64 = 100;

/// Sends the sound as WAV until the client disconnects, a write times out, or the next process takes over.
pub(crate) fn serve_wav(connection: &mut Connection, head: &Head, listener: &Listener) -> io::Result<After> {
    serve(connection, head, listener, Codec::Pcm, Output::Wav)
}

/// Sends the sound as Ogg Opus, as [`serve_wav`] does. The parameter `kbps` is as in `GET /listen?codec=opus`.
pub(crate) fn serve_ogg(connection: &mut Connection, head: &Head, listener: &Listener) -> io::Result<After> {
    let codec = match Codec::opus_of(head, listener.codec) {
        Ok(codec) => codec,
        Err(response) => return connection.answer(head, &response, listener.keeps()),
    };
    match OggOutput::new(listener.format.rate.hz(), codec) {
        Some(output) => serve(connection, head, listener, codec, Output::Ogg(Box::new(output))),
        None => {
            let response = Response::text(404, "Opus doesn't support the sample rate of this room; use '/listen.wav'");
            connection.answer(head, &response, listener.keeps())
        }
    }
}

fn serve(
    connection: &mut Connection,
    head: &Head,
    listener: &Listener,
    codec: Codec,
    mut output: Output,
) -> io::Result<After> {
    let mut head_text = response::head(
        200,
        &[
            ("Content-Type", output.content_type().into()),
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
    crate::stream::prepare(connection, listener, codec)?;
    let Some(mut subscription) = listener.ear.subscribe(connection.stream.sock.tcp(), None, None, codec)? else {
        return connection.answer(head, &crate::stream::too_many(), listener.keeps());
    };
    // This stream has an encoder of its own, which also encodes the silence.
    drop(subscription.encoding());
    listener.main_thread.wake();
    output.begin(listener.format.rate.hz(), &mut bytes);
    let result =
        connection.stream.write_all(&bytes).and_then(|()| run(connection, &mut subscription, listener, &mut output));
    drop(subscription);
    listener.main_thread.wake();
    result.map(|()| After::Close)
}

fn run(
    connection: &mut Connection,
    subscription: &mut Subscription,
    listener: &Listener,
    output: &mut Output,
) -> io::Result<()> {
    let mut line = Timeline::new(listener.format.rate.hz(), listener.chunk_ms + SLACK_MS);
    let start = Instant::now();
    let mut samples = Vec::new();
    let mut bytes = Vec::new();
    loop {
        samples.clear();
        bytes.clear();
        let next = subscription.next(Instant::now() + SILENCE_INTERVAL);
        match &next {
            Next::Ended => return Ok(()),
            Next::Record(record, skipped) => match &record.kind {
                Kind::Sound { samples: chunk, gap } => {
                    line.sound(start.elapsed(), chunk, *gap || *skipped, &mut samples);
                }
                // End the stream. If this process is being replaced, a client that reconnects now reaches the next process.
                Kind::Moved { .. } | Kind::Removed => {
                    output.end(&mut bytes);
                    return crate::stream::write(connection, subscription, &bytes);
                }
                Kind::Silence | Kind::Room | Kind::States | Kind::Message(_) | Kind::Microphone { .. } => {
                    line.silence(start.elapsed(), &mut samples);
                }
            },
            Next::Nothing => line.silence(start.elapsed(), &mut samples),
        }
        output.encode(&samples, &mut bytes);
        if !bytes.is_empty() {
            crate::stream::write(connection, subscription, &bytes)?;
        }
    }
}

/// The container and codec of a stream.
enum Output {
    Wav,
    Ogg(Box<OggOutput>),
}

impl Output {
    fn content_type(&self) -> &'static str {
        match self {
            Self::Wav => "audio/wav",
            Self::Ogg(_) => "audio/ogg",
        }
    }

    /// Appends the bytes that the container has before the first sample.
    fn begin(&mut self, rate_hz: u32, out: &mut Vec<u8>) {
        match self {
            Self::Wav => out.extend(wav::endless_head(rate_hz)),
            Self::Ogg(ogg) => ogg.writer.start(rate_hz, out),
        }
    }

    fn encode(&mut self, samples: &[i16], out: &mut Vec<u8>) {
        match self {
            Self::Wav => out.extend(samples.iter().flat_map(|sample| sample.to_le_bytes())),
            Self::Ogg(ogg) => ogg.encode(samples, out),
        }
    }

    /// Appends the bytes that the container has after the last sample.
    fn end(&mut self, out: &mut Vec<u8>) {
        if let Self::Ogg(ogg) = self {
            ogg.writer.end(out);
        }
    }
}

/// The state of a stream with Ogg Opus.
struct OggOutput {
    encoder: opus::Encoder,
    writer: ogg::Writer,
    frame_samples: usize,
    /// Samples of the incomplete frame.
    rest: Vec<i16>,
}

impl OggOutput {
    /// Returns `None` if Opus doesn't support the sample rate.
    fn new(rate_hz: u32, codec: Codec) -> Option<Self> {
        let Codec::Opus { kbps } = codec else { return None };
        let encoder = opus::Encoder::new(rate_hz, kbps).ok()?;
        // The serial number of the Ogg stream is the low bits of the time, which differ between a client's streams.
        let writer = ogg::Writer::new(boottime_ms() as u32);
        Some(Self { encoder, writer, frame_samples: opus::frame_samples(rate_hz), rest: Vec::new() })
    }

    /// Encodes all complete frames, and appends their pages to `out`.
    fn encode(&mut self, samples: &[i16], out: &mut Vec<u8>) {
        self.rest.extend_from_slice(samples);
        let frames = self.rest.chunks_exact(self.frame_samples);
        let rest = frames.remainder().to_vec();
        let encode = |frame| {
            let mut packet = Vec::new();
            self.encoder.encode(frame, &mut packet);
            packet
        };
        let packets: Vec<Vec<u8>> = frames.map(encode).collect();
        self.rest = rest;
        let packets: Vec<&[u8]> = packets.iter().map(Vec::as_slice).collect();
        self.writer.packets(&packets, out);
    }
}
