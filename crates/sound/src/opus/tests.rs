//! Tests of encoder and decoder together.

#![allow(clippy::unwrap_used)]

use super::*;
use crate::measure::{goertzel_dbfs, rms_dbfs, tone};
use crate::speech;

/// Returns the packets of `samples`, with zeros at the end for the delay.
fn encode(encoder: &mut Encoder, rate_hz: u32, samples: &[i16]) -> Vec<Vec<u8>> {
    samples
        .chunks(frame_samples(rate_hz))
        .map(|frame| {
            let mut packet = Vec::new();
            encoder.encode(frame, &mut packet);
            packet
        })
        .collect()
}

fn decode(decoder: &mut Decoder, packets: &[Vec<u8>]) -> Vec<i16> {
    let mut samples = Vec::new();
    packets.iter().for_each(|packet| decoder.decode(packet, &mut samples).unwrap());
    samples
}

#[test]
fn tone_keeps_its_frequency_and_level_at_each_rate() {
    for rate_hz in RATES_HZ {
        for kbps in [16, 24, 32] {
            let sent = tone(rate_hz, 1000.0, -20.0, rate_hz as usize);
            let packets = encode(&mut Encoder::new(rate_hz, kbps).unwrap(), rate_hz, &sent);
            assert!(packets.iter().all(|packet| (1..=MAX_PACKET_BYTES).contains(&packet.len())));
            let heard = decode(&mut Decoder::new(rate_hz).unwrap(), &packets);
            assert_eq!(heard.len(), sent.len());
            let middle = &heard[heard.len() / 2..];
            let level = goertzel_dbfs(middle, rate_hz, 1000.0);
            assert!((level + 20.0).abs() < 1.0, "{rate_hz} Hz, {kbps} kbit/s: the tone has {level:.2} dBFS");
            assert!((rms_dbfs(middle) + 20.0).abs() < 1.0, "{rate_hz} Hz, {kbps} kbit/s: {:.2} dBFS", rms_dbfs(middle));
        }
    }
}

#[test]
fn delay_is_the_lookahead_at_each_rate() {
    for rate_hz in RATES_HZ {
        let sent = speech::english(rate_hz);
        let sent = &sent[..rate_hz as usize * 3];
        let packets = encode(&mut Encoder::new(rate_hz, 32).unwrap(), rate_hz, sent);
        let heard = decode(&mut Decoder::new(rate_hz).unwrap(), &packets);
        let similarity = |delay: usize| -> f64 {
            sent.iter().zip(&heard[delay..]).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum()
        };
        let delay = (0..lookahead(rate_hz) * 3).max_by(|&a, &b| similarity(a).total_cmp(&similarity(b))).unwrap();
        let difference = delay.abs_diff(lookahead(rate_hz));
        assert!(difference * 10_000 <= rate_hz as usize, "{rate_hz} Hz: a delay of {delay} samples");
    }
}

#[test]
fn bit_rate_is_the_requested_bit_rate() {
    let sent = speech::french(24_000);
    for kbps in [16, 24, 32] {
        let packets = encode(&mut Encoder::new(24_000, kbps).unwrap(), 24_000, &sent);
        let bytes: usize = packets.iter().map(Vec::len).sum();
        let measured = bytes as f64 * 8.0 / (packets.len() as f64 * 20.0);
        assert!((measured / f64::from(kbps) - 1.0).abs() < 0.15, "{kbps} kbit/s: {measured:.1} kbit/s");
    }
}

#[test]
fn band_of_speech_does_not_change_between_packets() {
    // The first five bits of a packet name mode, band and duration (RFC 6716, section 3.1).
    const SILK_WIDEBAND_20_MS: u8 = 9;
    for kbps in [16, 24, 32] {
        for sent in [speech::english(24_000), speech::french(24_000)] {
            let packets = encode(&mut Encoder::new(24_000, kbps).unwrap(), 24_000, &sent);
            let others = packets.iter().filter(|packet| packet[0] >> 3 != SILK_WIDEBAND_20_MS).count();
            assert_eq!(others, 0, "{kbps} kbit/s: {others} of {} packets", packets.len());
        }
    }
}

#[test]
fn encoder_after_a_reset_works_as_a_new_one() {
    let sent = speech::english(24_000);
    let (first, second) = sent.split_at(24_000);
    let mut used = Encoder::new(24_000, 24).unwrap();
    encode(&mut used, 24_000, first);
    used.reset();
    let mut new = Encoder::new(24_000, 24).unwrap();
    assert_eq!(encode(&mut used, 24_000, second), encode(&mut new, 24_000, second));
}

#[test]
fn decoder_after_a_reset_works_as_a_new_one() {
    let packets = encode(&mut Encoder::new(24_000, 24).unwrap(), 24_000, &speech::english(24_000));
    let mut used = Decoder::new(24_000).unwrap();
    decode(&mut used, &packets[..50]);
    used.reset();
    assert_eq!(decode(&mut used, &packets), decode(&mut Decoder::new(24_000).unwrap(), &packets));
}

#[test]
fn decoder_that_begins_in_the_middle_of_speech_soon_makes_the_same_sound() {
    let packets = encode(&mut Encoder::new(24_000, 24).unwrap(), 24_000, &speech::french(24_000));
    let all = decode(&mut Decoder::new(24_000).unwrap(), &packets);
    for start in (0..packets.len() - PREROLL_PACKETS - 10).step_by(7) {
        let end = start + PREROLL_PACKETS + 10;
        let late = decode(&mut Decoder::new(24_000).unwrap(), &packets[start..end]);
        let expected = &all[(start + PREROLL_PACKETS) * 480..end * 480];
        let heard = late[PREROLL_PACKETS * 480..].iter();
        let error: Vec<i16> = expected.iter().zip(heard).map(|(&a, &b)| a.saturating_sub(b)).collect();
        let snr = rms_dbfs(expected) - rms_dbfs(&error);
        assert!(snr > 20.0 || rms_dbfs(&error) < -60.0, "from packet {start}: {snr:.1} dB");
    }
}

#[test]
fn frames_of_a_false_length_are_padded_or_cut() {
    let mut decoder = Decoder::new(24_000).unwrap();
    for length in [0, 1, 479, 481, 10_000] {
        let mut packet = Vec::new();
        Encoder::new(24_000, 24).unwrap().encode(&vec![1000; length], &mut packet);
        let mut samples = Vec::new();
        decoder.decode(&packet, &mut samples).unwrap();
        assert_eq!(samples.len(), 480);
    }
}

#[test]
fn extreme_sound_is_encoded() {
    for rate_hz in RATES_HZ {
        let mut encoder = Encoder::new(rate_hz, 16).unwrap();
        let mut state = 1u32;
        let mut noise = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            if state >> 31 == 0 { i16::MIN } else { i16::MAX }
        };
        let sound: Vec<i16> = (0..rate_hz).map(|_| noise()).collect();
        for part in [sound, vec![0; rate_hz as usize], vec![i16::MIN; rate_hz as usize]] {
            let packets = encode(&mut encoder, rate_hz, &part);
            assert!(packets.iter().all(|packet| (1..=MAX_PACKET_BYTES).contains(&packet.len())));
        }
    }
}

#[test]
fn unsupported_rates_are_refused() {
    for rate_hz in [0, 11_025, 22_050, 32_000, 44_100, 96_000, u32::MAX] {
        assert_eq!(Encoder::new(rate_hz, 24).err(), Some(UnsupportedRate(rate_hz)));
        assert_eq!(Decoder::new(rate_hz).err(), Some(UnsupportedRate(rate_hz)));
    }
}

#[test]
fn packets_that_do_not_fit_a_stream_of_chunks_are_refused() {
    let mut decoder = Decoder::new(24_000).unwrap();
    let mut error = |packet: &[u8]| {
        let mut samples = Vec::new();
        let error = decoder.decode(packet, &mut samples).err();
        assert!(error.is_none() || samples.is_empty());
        error
    };
    assert_eq!(error(&[]), Some(PacketError::Length(0)));
    assert_eq!(error(&[0; 1276]), Some(PacketError::Length(1276)));
    // Configurations 8 to 11 are SILK, wideband, with frames of 10, 20, 40 and 60 ms.
    assert_eq!(error(&[8 << 3, 0]), Some(PacketError::Duration { tenths_ms: 100 }));
    assert_eq!(error(&[11 << 3, 0]), Some(PacketError::Duration { tenths_ms: 600 }));
    assert_eq!(error(&[16 << 3, 0]), Some(PacketError::Duration { tenths_ms: 25 }));
    assert_eq!(error(&[9 << 3 | 4, 0, 0]), Some(PacketError::Stereo));
    // 13 frames of 10 ms are longer than 120 ms; a count of 0 is invalid.
    assert_eq!(error(&[8 << 3 | 3, 13, 0]), Some(PacketError::Invalid));
    assert_eq!(error(&[9 << 3 | 3, 0, 0]), Some(PacketError::Invalid));
    // Two frames of equal length can't share a single byte.
    assert_eq!(error(&[8 << 3 | 1, 0]), Some(PacketError::Invalid));
    assert_eq!(error(&[9 << 3]), None);
}

#[test]
fn packets_of_any_duration_and_two_channels_are_decoded() {
    let mut decoder = Decoder::new(24_000).unwrap();
    for (first, milliseconds) in [(8 << 3, 10), (11 << 3, 60), (9 << 3 | 4, 20), (30 << 3 | 4, 10)] {
        let mut samples = Vec::new();
        decoder.decode_any(&[first, 1, 2, 3, 4, 5, 6, 7], &mut samples).unwrap();
        assert_eq!(samples.len(), 24 * milliseconds, "{first}");
    }
    let mut samples = Vec::new();
    assert_eq!(decoder.decode_any(&[], &mut samples), Err(PacketError::Length(0)));
    assert_eq!(decoder.decode_any(&vec![0; 100_000], &mut samples), Err(PacketError::Length(100_000)));
}

#[test]
fn noise_is_decoded_or_refused() {
    let mut state = 1u64;
    let mut random = move || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize
    };
    for rate_hz in RATES_HZ {
        let mut decoder = Decoder::new(rate_hz).unwrap();
        let (mut decoded, mut samples) = (0, Vec::new());
        for _ in 0..1000 {
            let packet: Vec<u8> = (0..1 + random() % 300).map(|_| random() as u8).collect();
            samples.clear();
            decoded += usize::from(decoder.decode_any(&packet, &mut samples).is_ok());
            assert!(samples.len() <= rate_hz as usize * 120 / 1000);
        }
        assert!(decoded > 300, "{decoded}");
    }
}

#[test]
fn missing_packet_is_concealed() {
    let packets = encode(&mut Encoder::new(24_000, 24).unwrap(), 24_000, &tone(24_000, 440.0, -20.0, 24_000));
    let mut decoder = Decoder::new(24_000).unwrap();
    decode(&mut decoder, &packets[..25]);
    let mut concealed = Vec::new();
    decoder.conceal(&mut concealed);
    assert_eq!(concealed.len(), 480);
    let level = rms_dbfs(&concealed);
    assert!((level + 20.0).abs() < 6.0, "{level:.1} dBFS");
    // A longer gap fades.
    (0..4).for_each(|_| decoder.conceal(&mut concealed));
    let later = rms_dbfs(&concealed[4 * 480..]);
    assert!(later < level - 5.0, "{later:.1} dBFS");
}

#[test]
fn decoder_without_any_packet_conceals_with_silence() {
    let mut samples = Vec::new();
    Decoder::new(16_000).unwrap().conceal(&mut samples);
    assert_eq!(samples, vec![0; 320]);
}
