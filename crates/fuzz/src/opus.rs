//! The targets of Opus: encoder, decoder, packet lists and Ogg. Each returns whether the input is valid.

use palabre_sound::ogg::{self, OggError};
use palabre_sound::opus::{Decoder, Encoder, MAX_PACKET_BYTES, RATES_HZ, frame_samples, packets};

/// Maximum duration of the sound in a packet, in ms.
const PACKET_MS_MAX: u32 = 120;

/// Returns the sample rate that the first byte selects, and the rest.
fn rate(bytes: &[u8]) -> Option<(u32, &[u8])> {
    let (&first, rest) = bytes.split_first()?;
    Some((RATES_HZ[usize::from(first) % RATES_HZ.len()], rest))
}

/// Decodes a packet list, as the uplink does, and each packet as if it came from Ogg.
pub(crate) fn packet_list(bytes: &[u8]) -> bool {
    let Some((rate_hz, list)) = rate(bytes) else { return false };
    let (Ok(mut strict), Ok(mut tolerant)) = (Decoder::new(rate_hz), Decoder::new(rate_hz)) else { return false };
    let (mut samples, mut is_valid, mut again) = (Vec::new(), true, Vec::new());
    for packet in packets::iter(list) {
        let Ok(packet) = packet else { return false };
        packets::push(&mut again, packet);
        samples.clear();
        if strict.decode(packet, &mut samples).is_err() {
            assert!(samples.is_empty(), "an error leaves no samples");
            strict.conceal(&mut samples);
            is_valid = false;
        }
        assert_eq!(samples.len(), frame_samples(rate_hz));
        samples.clear();
        let _ = tolerant.decode_any(packet, &mut samples);
        assert!(samples.len() <= (rate_hz * PACKET_MS_MAX / 1000) as usize, "{} samples", samples.len());
    }
    assert_eq!(again, list, "a list consists of its packets");
    is_valid && !list.is_empty()
}

/// Encodes samples, and decodes the packets.
pub(crate) fn encoder(bytes: &[u8]) -> bool {
    let Some((rate_hz, rest)) = rate(bytes) else { return false };
    let Some((&kbps, rest)) = rest.split_first() else { return false };
    let (Ok(mut encoder), Ok(mut decoder)) = (Encoder::new(rate_hz, kbps.into()), Decoder::new(rate_hz)) else {
        return false;
    };
    let samples: Vec<i16> = rest.chunks_exact(2).map(|pair| i16::from_le_bytes([pair[0], pair[1]])).collect();
    let mut heard = Vec::new();
    for frame in samples.chunks(frame_samples(rate_hz)) {
        let mut packet = Vec::new();
        encoder.encode(frame, &mut packet);
        assert!((1..=MAX_PACKET_BYTES).contains(&packet.len()));
        assert_eq!(decoder.decode(&packet, &mut heard), Ok(()));
    }
    assert_eq!(heard.len(), samples.len().next_multiple_of(frame_samples(rate_hz)));
    !samples.is_empty()
}

/// Decodes an Ogg stream once as a whole and once in pieces, and compares the results. First corrects the checksums of the pages, because nearly every
/// change makes one wrong. Returns whether there was sound and no error.
pub(crate) fn stream(bytes: &[u8]) -> bool {
    let Some((rate_hz, stream)) = rate(bytes) else { return false };
    let mut stream = stream.to_vec();
    ogg::correct_checksums(&mut stream);
    let (whole, result) = read(rate_hz, &stream, usize::MAX);
    let (parts, of_parts) = read(rate_hz, &stream, 1000);
    assert_eq!(result, of_parts, "the length of the parts doesn't matter");
    assert!(whole == parts, "the length of the parts doesn't change the sound");
    result.is_ok() && !whole.is_empty()
}

fn read(rate_hz: u32, stream: &[u8], part: usize) -> (Vec<i16>, Result<(), OggError>) {
    let mut samples = Vec::new();
    let Ok(mut reader) = ogg::Reader::new(rate_hz) else { return (samples, Ok(())) };
    for bytes in stream.chunks(part) {
        reader.push(bytes);
        loop {
            let before = samples.len();
            match reader.decode(&mut samples) {
                Ok(true) => assert!(samples.len() - before <= (rate_hz * PACKET_MS_MAX / 1000) as usize),
                Ok(false) => break,
                Err(error) => return (samples, Err(error)),
            }
        }
    }
    reader.finish(&mut samples);
    (samples, Ok(()))
}
