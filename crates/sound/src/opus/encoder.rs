//! Encodes frames of 20 ms to packets.

use opus_pure::{Application, Bandwidth, OpusEncoder, Signal};

use super::{MAX_PACKET_BYTES, UnsupportedRate, frame_samples, supports};

/// Complexity of the encoder, from 0 to 10. A higher value needs more processor time.
pub(super) const COMPLEXITY: i32 = 6;
/// Complexity of the encoder below 20 kbit/s, from 0 to 10. Compared with [`COMPLEXITY`], this value makes speech better by 0.1
/// (PESQ-WB) and takes a quarter more time. Higher values make it no better.
const THIN_COMPLEXITY: i32 = 8;
/// First byte of a packet that consists of this byte only: a frame of 20 ms, wideband, one channel, that the decoder conceals.
pub(super) const MISSING_FRAME: u8 = 9 << 3;

/// Encodes one channel of sound.
#[derive(Debug)]
pub struct Encoder {
    inner: OpusEncoder,
    rate_hz: u32,
    frame: Vec<i16>,
    packet: Box<[u8; MAX_PACKET_BYTES]>,
}

impl Encoder {
    /// Returns an encoder of sound at `rate_hz`, one of [`super::RATES_HZ`], to `kbps` kbit/s on average.
    pub fn new(rate_hz: u32, kbps: u32) -> Result<Self, UnsupportedRate> {
        let inner = inner(rate_hz, kbps).ok_or(UnsupportedRate(rate_hz))?;
        Ok(Self { inner, rate_hz, frame: Vec::new(), packet: Box::new([0; MAX_PACKET_BYTES]) })
    }

    /// Encodes a frame of 20 ms, and appends the packet to `out`, without its length.
    ///
    /// If `frame` is shorter, zeros are added at its end. If it is longer, the rest is ignored.
    pub fn encode(&mut self, frame: &[i16], out: &mut Vec<u8>) {
        let length = frame_samples(self.rate_hz);
        self.frame.clear();
        self.frame.extend(frame.iter().take(length));
        self.frame.resize(length, 0);
        match self.inner.encode_s16(&self.frame, length, &mut self.packet[..]) {
            Ok(bytes) if bytes > 0 => out.extend_from_slice(&self.packet[..bytes]),
            Ok(_) | Err(_) => out.push(MISSING_FRAME),
        }
    }

    /// Forgets the sound so far. The encoder then works as a new one.
    pub fn reset(&mut self) {
        // `reset_state` fails only for settings that `new` refuses, so its result is ignored.
        let _ = self.inner.reset_state();
    }
}

fn inner(rate_hz: u32, kbps: u32) -> Option<OpusEncoder> {
    if !supports(rate_hz) {
        return None;
    }
    // `Audio` keeps the sound as it is. `Voip` has a high-pass filter, and the sound of a room is not only speech.
    let mut inner = OpusEncoder::new(i32::try_from(rate_hz).ok()?, 1, Application::Audio).ok()?;
    // With the settings below, the packets of speech have about an eighth fewer bits than `bitrate_bps` permits, so permit 9/8 of `kbps`.
    inner.bitrate_bps = i32::try_from(kbps.clamp(6, 510)).ok()? * 1000 * 9 / 8;
    inner.complexity = if kbps < 20 { THIN_COMPLEXITY } else { COMPLEXITY };
    // The encoder uses all bits for the band up to 8 kHz. Without this limit, it would use some of them for the band up to 12 kHz, in some packets or in all.
    inner.signal_type = Some(Signal::Voice);
    inner.max_bandwidth = Bandwidth::Wideband;
    Some(inner)
}
