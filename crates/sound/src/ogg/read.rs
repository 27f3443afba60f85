//! Decodes Ogg Opus to one channel of any sample rate.

use super::page::{self, CONTINUED, FIRST, Fault, HEAD_BYTES, Head, LAST, NO_GRANULE};
use super::{HEAD_MAGIC, TAGS_MAGIC};
use crate::convert::Converter;
use crate::opus::{self, Decoder, MAX_LONG_PACKET_BYTES, UnsupportedRate, samples_48k};
use crate::wav::{self, Encoding};

/// Maximum length of the packet `OpusTags`, which may contain a picture. It is not kept.
const MAX_TAGS_BYTES: usize = 16 * 1024 * 1024;
/// Length of the packet `OpusHead` with mapping family 0.
const OPUS_HEAD_BYTES: usize = 19;

/// Error: a stream is not Ogg Opus, or can't be decoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum OggError {
    /// The bytes are not a page.
    #[error("the stream is not Ogg: a page must begin with 'OggS'")]
    NotOgg,
    /// The checksum of a page is wrong.
    #[error("the Ogg stream is damaged: the checksum of a page is wrong")]
    Damaged,
    /// The stream has no Opus.
    #[error("the Ogg stream has no Opus; encode it with 'ffmpeg -c:a libopus -f ogg'")]
    NotOpus,
    /// The head of the stream is invalid, or has a version that is unknown.
    #[error("the head of the Opus stream is invalid")]
    InvalidHead,
    /// The stream has more than two channels.
    #[error("an Opus stream of {0} channels is not supported; use 1 or 2 channels")]
    Channels(u8),
    /// A packet is longer than any packet of Opus.
    #[error("a packet of the Ogg stream is too long for Opus")]
    LongPacket,
    /// The sample rate of the output is not supported.
    #[error("sound at {0} Hz is not supported")]
    Rate(u32),
}

/// Decodes a stream that arrives in parts.
pub struct Reader {
    /// Bytes that have arrived and were not read yet: less than a page after [`Self::decode`] has returned `false`.
    input: Vec<u8>,
    /// The page whose packets are being decoded.
    page: Page,
    /// The packet whose parts are being read, which may be on several pages.
    packet: Packet,
    stream: Stream,
    sound: Sound,
}

/// The page whose packets are being decoded.
#[derive(Default)]
struct Page {
    lacing: Vec<u8>,
    body: Vec<u8>,
    /// Number of lacing values that were read or skipped, and the length of their parts of packets in `body`.
    done: (usize, usize),
}

/// A packet of which not all parts have been read.
#[derive(Default)]
struct Packet {
    bytes: Vec<u8>,
    /// The length so far, also of bytes that are not kept.
    length: usize,
}

/// The Opus stream in the Ogg stream, which may contain others.
#[derive(Default)]
struct Stream {
    serial: Option<u32>,
    /// Number of packets so far. The first is `OpusHead`, the second is `OpusTags`.
    packets: u64,
    /// Granule position of the previous page.
    granule: u64,
    /// Number of samples at 48 kHz to keep from the last page; `None` before the last page, and if all samples of the page are kept.
    to_keep: Option<u64>,
}

impl Reader {
    /// Returns a reader that makes sound at `rate_hz`, from 8000 to 192 000 Hz.
    pub fn new(rate_hz: u32) -> Result<Self, OggError> {
        let sound = Sound::new(rate_hz).ok_or(OggError::Rate(rate_hz))?;
        let (input, page, packet) = (Vec::new(), Page::default(), Packet::default());
        Ok(Self { input, page, packet, stream: Stream::default(), sound })
    }

    /// Takes bytes of the stream. Call [`Self::decode`] until it returns `false` before the next call, so that the reader keeps less than
    /// a page of Ogg.
    pub fn push(&mut self, bytes: &[u8]) {
        self.input.extend_from_slice(bytes);
    }

    /// Decodes at most one packet, and appends its sound to `out`: at most 120 ms. Returns `false` if it needs more bytes.
    pub fn decode(&mut self, out: &mut Vec<i16>) -> Result<bool, OggError> {
        if self.page.is_done() {
            let (head, length) = match page::read(&self.input) {
                Ok(page) => page,
                Err(Fault::Incomplete) => return Ok(false),
                Err(Fault::NotAPage) => return Err(OggError::NotOgg),
                Err(Fault::Damaged) => return Err(OggError::Damaged),
            };
            self.begin_page(head, length)?;
            self.input.drain(..length);
            return Ok(true);
        }
        self.next_part(out)?;
        Ok(true)
    }

    /// Returns whether the head of an Opus stream has been read, so that only sound follows.
    #[must_use]
    pub fn has_head(&self) -> bool {
        self.stream.packets >= 2
    }

    /// Returns the number of samples that the decoder has made so far, also of those that are not heard: at the start of a stream and after its
    /// end. A caller that limits the decoder's work must count these.
    #[must_use]
    pub fn decoded_samples(&self) -> u64 {
        self.sound.decoded_samples
    }

    /// Appends the sound that is still in the converter, at the end of the stream.
    pub fn finish(&mut self, out: &mut Vec<i16>) {
        self.sound.finish(out);
    }

    fn begin_page(&mut self, head: Head, length: usize) -> Result<(), OggError> {
        self.page.begin(&self.input[..length]);
        let begins_opus = head.flags & FIRST != 0 && self.page.body.starts_with(HEAD_MAGIC);
        // Several streams may begin together, or one after another.
        if begins_opus && (self.stream.serial.is_none() || self.stream.packets > 2) {
            self.stream = Stream { serial: Some(head.serial), ..Stream::default() };
            self.packet.clear();
        }
        let is_other = self.stream.serial != Some(head.serial);
        if is_other && self.stream.serial.is_none() && head.flags & FIRST == 0 {
            return Err(OggError::NotOpus);
        }
        if is_other {
            self.page.skip();
            return Ok(());
        }
        if head.flags & CONTINUED == 0 {
            self.packet.clear();
        } else if self.packet.length == 0 {
            // The start of the page's first packet is lost, so skip the rest of the packet.
            self.page.next();
        }
        self.stream.page(head, &self.page);
        Ok(())
    }

    /// Reads the next part of a packet from the page. If the packet ends with this part, handles the packet.
    fn next_part(&mut self, out: &mut Vec<i16>) -> Result<(), OggError> {
        let (part, is_end) = self.page.next();
        let max_bytes = if self.stream.packets == 1 { MAX_TAGS_BYTES } else { MAX_LONG_PACKET_BYTES };
        let max_kept = if self.stream.packets == 1 { TAGS_MAGIC.len() } else { max_bytes };
        self.packet.length += part.len();
        if self.packet.length > max_bytes {
            return Err(OggError::LongPacket);
        }
        let kept = part.len().min(max_kept - self.packet.bytes.len());
        self.packet.bytes.extend_from_slice(&part[..kept]);
        if !is_end {
            return Ok(());
        }
        let packet = &self.packet.bytes;
        match self.stream.packets {
            0 => self.sound.begin(packet)?,
            1 if !packet.starts_with(TAGS_MAGIC) => return Err(OggError::InvalidHead),
            1 => {}
            _ => self.sound.decode(packet, &mut self.stream.to_keep, out),
        }
        self.stream.packets += 1;
        self.packet.clear();
        Ok(())
    }
}

impl Packet {
    fn clear(&mut self) {
        self.bytes.clear();
        self.length = 0;
    }
}

impl Page {
    fn begin(&mut self, page: &[u8]) {
        let segments = usize::from(page[HEAD_BYTES - 1]);
        self.lacing.clear();
        self.lacing.extend_from_slice(&page[HEAD_BYTES..HEAD_BYTES + segments]);
        self.body.clear();
        self.body.extend_from_slice(&page[HEAD_BYTES + segments..]);
        self.done = (0, 0);
    }

    fn skip(&mut self) {
        self.done = (self.lacing.len(), self.body.len());
    }

    fn is_done(&self) -> bool {
        self.done.0 == self.lacing.len()
    }

    /// Returns the next packet or part of a packet, and whether the packet ends with it.
    fn next(&mut self) -> (&[u8], bool) {
        let lacing = &self.lacing[self.done.0..];
        let last = lacing.iter().position(|&value| value < 255);
        let segments = last.map_or(lacing.len(), |last| last + 1);
        let length: usize = lacing[..segments].iter().map(|&value| usize::from(value)).sum();
        let start = self.done.1;
        self.done = (self.done.0 + segments, start + length);
        (&self.body[start..start + length], last.is_some())
    }

    /// Returns the duration of the packets that end on this page, in samples at 48 kHz. If the first of them begins on an earlier page, its duration can be
    /// wrong, because its first byte is not known here.
    fn samples_48k(&self) -> u64 {
        let mut rest = Page { lacing: self.lacing.clone(), body: self.body.clone(), done: self.done };
        let mut samples = 0;
        while !rest.is_done() {
            let (packet, is_end) = rest.next();
            samples += if is_end { samples_48k(packet) as u64 } else { 0 };
        }
        samples
    }
}

impl Stream {
    /// Notes the position of a page, and at the last page how much of its sound is heard (RFC 7845, section 4.4).
    fn page(&mut self, head: Head, page: &Page) {
        if head.granule == NO_GRANULE {
            return;
        }
        if head.flags & LAST != 0 {
            let to_keep = head.granule.saturating_sub(self.granule);
            self.to_keep = (to_keep < page.samples_48k()).then_some(to_keep);
        }
        self.granule = head.granule;
    }
}

/// The decoder, and the converter to a sample rate that Opus doesn't support.
struct Sound {
    decoder: Decoder,
    /// Sample rate of the decoder.
    rate_hz: u32,
    converter: Option<Converter>,
    decoded: Vec<i16>,
    /// Number of samples that the decoder has made.
    decoded_samples: u64,
    /// Number of samples of the decoder to drop, at the start of the stream.
    to_skip: usize,
}

impl Sound {
    fn new(out_rate_hz: u32) -> Option<Self> {
        let rate_hz = if opus::supports(out_rate_hz) { out_rate_hz } else { 48_000 };
        let decoder = Decoder::new(rate_hz).map_err(|UnsupportedRate(_)| ()).ok()?;
        let head = wav::Head { rate_hz, channels: 1, encoding: Encoding::S16, data_bytes: None };
        let converter = if rate_hz == out_rate_hz { None } else { Some(Converter::new(&head, out_rate_hz).ok()?) };
        Some(Self { decoder, rate_hz, converter, decoded: Vec::new(), decoded_samples: 0, to_skip: 0 })
    }

    /// Reads `OpusHead` (RFC 7845, section 5.1).
    fn begin(&mut self, head: &[u8]) -> Result<(), OggError> {
        let fields = head.get(..OPUS_HEAD_BYTES).ok_or(OggError::InvalidHead)?;
        let (version, channels, family) = (fields[8], fields[9], fields[18]);
        if !fields.starts_with(HEAD_MAGIC) || version & 0xF0 != 0 || channels == 0 {
            return Err(OggError::InvalidHead);
        }
        if family != 0 || channels > 2 {
            return Err(OggError::Channels(channels));
        }
        self.decoder.reset();
        self.decoder.amplify(i16::from_le_bytes([fields[16], fields[17]]));
        self.to_skip = self.own_samples(u64::from(u16::from_le_bytes([fields[10], fields[11]])));
        Ok(())
    }

    /// Decodes a packet. An invalid one is concealed.
    fn decode(&mut self, packet: &[u8], to_keep: &mut Option<u64>, out: &mut Vec<i16>) {
        self.decoded.clear();
        if self.decoder.decode_any(packet, &mut self.decoded).is_err() {
            self.decoder.conceal(&mut self.decoded);
        }
        self.decoded_samples += self.decoded.len() as u64;
        if let Some(to_keep) = to_keep {
            self.decoded.truncate(self.own_samples(*to_keep));
            *to_keep = to_keep.saturating_sub(samples_48k(packet) as u64);
        }
        let skipped = self.to_skip.min(self.decoded.len());
        self.to_skip -= skipped;
        let heard = &self.decoded[skipped..];
        match &mut self.converter {
            None => out.extend_from_slice(heard),
            Some(converter) => {
                let bytes: Vec<u8> = heard.iter().flat_map(|sample| sample.to_le_bytes()).collect();
                converter.push(&bytes, out);
            }
        }
    }

    fn finish(&mut self, out: &mut Vec<i16>) {
        if let Some(converter) = &mut self.converter {
            converter.finish(out);
        }
    }

    fn own_samples(&self, samples_48k: u64) -> usize {
        (samples_48k * u64::from(self.rate_hz) / 48_000) as usize
    }
}
