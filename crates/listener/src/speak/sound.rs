//! Decodes the sound of a body: a WAV or Ogg Opus.

use super::body::{Abort, TimedBody, read_failed};
use crate::http::{Head, Response};
use palabre_config::control::Codec;
use palabre_sound::convert::Converter;
use palabre_sound::ogg::{CAPTURE_PATTERN, OggError, Reader};
use palabre_sound::wav::{self, WavError};
use std::io::{self, Read};

/// Maximum number of bytes before the sound of an Ogg stream. They may contain a picture.
const MAX_OGG_HEAD_BYTES: usize = 16 * 1024 * 1024;
/// Number of bytes to read at a time before the sound.
const HEAD_READ_BYTES: usize = 4096;

/// Returns whether the request says that its body is Ogg.
pub(super) fn says_ogg(head: &Head) -> bool {
    let media_type = head.field("content-type").and_then(|value| value.split(';').next()).unwrap_or_default().trim();
    ["audio/ogg", "application/ogg", "audio/opus"].iter().any(|ogg| media_type.eq_ignore_ascii_case(ogg))
}

/// The decoder of a body's sound.
pub(super) enum Sound {
    Wav {
        converter: Box<Converter>,
        /// Bytes that have arrived since the last call of [`Self::decode`].
        bytes: Vec<u8>,
    },
    Ogg(Box<Reader>),
}

impl Sound {
    /// Reads the head of the body.
    pub(super) fn begin(body: &mut TimedBody<'_>, is_ogg: bool, rate_hz: u32) -> Result<Self, Abort> {
        let mut first = Vec::new();
        // If the client disconnects within the first bytes of the body, a later read fails with the same error, after the bytes that have arrived.
        let read = body.by_ref().take(CAPTURE_PATTERN.len() as u64).read_to_end(&mut first);
        if let Err(error) = read
            && error.kind() != io::ErrorKind::UnexpectedEof
        {
            return Err(read_failed(error));
        }
        if first.is_empty() {
            return Err(Abort::Answer(Response::text(400, "the request body is empty")));
        }
        if is_ogg || first == CAPTURE_PATTERN {
            return begin_ogg(body, &first, rate_hz);
        }
        let head = wav::Head::read(&mut first.chain(body)).map_err(invalid_wav)?;
        let converter = Converter::new(&head, rate_hz).map_err(invalid_wav)?;
        Ok(Self::Wav { converter: Box::new(converter), bytes: Vec::new() })
    }

    /// Returns the number of samples that a decoder has made so far, also of those that are not heard. It is 0 for a WAV.
    pub(super) fn decoded_samples(&self) -> u64 {
        match self {
            Self::Wav { .. } => 0,
            Self::Ogg(reader) => reader.decoded_samples(),
        }
    }

    pub(super) fn codec(&self) -> Codec {
        match self {
            Self::Wav { .. } => Codec::Pcm,
            Self::Ogg(_) => Codec::Opus { kbps: None },
        }
    }

    /// Takes bytes of the body. Call [`Self::decode`] until it returns `false` before the next call.
    pub(super) fn push(&mut self, more: &[u8]) {
        match self {
            Self::Wav { bytes, .. } => bytes.extend_from_slice(more),
            Self::Ogg(reader) => reader.push(more),
        }
    }

    /// Decodes some of the bytes and appends the samples to `out`. Returns `false` if it needs more bytes.
    pub(super) fn decode(&mut self, out: &mut Vec<i16>) -> Result<bool, Abort> {
        match self {
            Self::Wav { converter, bytes } => {
                converter.push(bytes, out);
                bytes.clear();
                Ok(false)
            }
            Self::Ogg(reader) => reader.decode(out).map_err(invalid_ogg),
        }
    }

    /// Appends the samples that are still in the decoder.
    pub(super) fn finish(&mut self, out: &mut Vec<i16>) {
        match self {
            Self::Wav { converter, .. } => converter.finish(out),
            Self::Ogg(reader) => reader.finish(out),
        }
    }
}

/// Reads until the sound begins.
fn begin_ogg(body: &mut TimedBody<'_>, first: &[u8], rate_hz: u32) -> Result<Sound, Abort> {
    let mut reader = Reader::new(rate_hz).map_err(invalid_ogg)?;
    reader.push(first);
    let (mut bytes, mut length) = ([0; HEAD_READ_BYTES], first.len());
    loop {
        while !reader.has_head() {
            if !reader.decode(&mut Vec::new()).map_err(invalid_ogg)? {
                break;
            }
        }
        if reader.has_head() {
            return Ok(Sound::Ogg(Box::new(reader)));
        }
        let count = match body.read(&mut bytes) {
            Err(error) if error.kind() != io::ErrorKind::UnexpectedEof => return Err(read_failed(error)),
            Ok(0) | Err(_) => {
                return Err(Abort::Answer(Response::text(400, "the Ogg stream ends before the sound begins")));
            }
            Ok(count) => count,
        };
        length += count;
        if length > MAX_OGG_HEAD_BYTES {
            return Err(Abort::Answer(Response::text(415, "the Ogg stream has no Opus in its first 16 MiB")));
        }
        reader.push(&bytes[..count]);
    }
}

fn invalid_wav(error: WavError) -> Abort {
    match error {
        WavError::Empty => Abort::Answer(Response::text(400, "the request body is empty")),
        WavError::Truncated => Abort::Answer(Response::text(400, "the WAV ends within its header")),
        WavError::Io(error) => read_failed(error),
        WavError::NotWav => Abort::Answer(Response::text(415, "the body is neither a WAV nor Ogg Opus")),
        error => Abort::Answer(Response::text(415, error)),
    }
}

fn invalid_ogg(error: OggError) -> Abort {
    let status = match error {
        OggError::Damaged | OggError::LongPacket => 400,
        OggError::NotOgg | OggError::NotOpus | OggError::InvalidHead | OggError::Channels(_) | OggError::Rate(_) => 415,
    };
    Abort::Answer(Response::text(status, error))
}
