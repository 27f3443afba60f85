//! Tests of reader and writer, with each other and with ffmpeg.

#![allow(clippy::unwrap_used)]

use std::io::Write as _;
use std::process::{Command, Stdio};

use super::page::{self, FIRST, Head, LAST};
use super::*;
use crate::measure::{goertzel_dbfs, rms_dbfs, tone};
use crate::opus::{Encoder, LOOKAHEAD, frame_samples};
use crate::speech;

/// Encodes samples as a complete stream, with `per_page` packets on each page.
fn written(rate_hz: u32, samples: &[i16], per_page: usize) -> Vec<u8> {
    let (mut writer, mut encoder, mut out) = (Writer::new(7), Encoder::new(rate_hz, 32).unwrap(), Vec::new());
    writer.start(rate_hz, &mut out);
    let packets: Vec<Vec<u8>> = samples
        .chunks(frame_samples(rate_hz))
        .map(|frame| {
            let mut packet = Vec::new();
            encoder.encode(frame, &mut packet);
            packet
        })
        .collect();
    for page in packets.chunks(per_page) {
        writer.packets(&page.iter().map(Vec::as_slice).collect::<Vec<_>>(), &mut out);
    }
    writer.end(&mut out);
    out
}

/// Decodes a stream that arrives in parts of `part` bytes.
fn read(rate_hz: u32, stream: &[u8], part: usize) -> Result<Vec<i16>, OggError> {
    let (mut reader, mut samples) = (Reader::new(rate_hz)?, Vec::new());
    for bytes in stream.chunks(part) {
        reader.push(bytes);
        loop {
            let before = samples.len();
            let more = reader.decode(&mut samples)?;
            assert!(samples.len() - before <= rate_hz as usize * 125 / 1000);
            if !more {
                break;
            }
        }
    }
    reader.finish(&mut samples);
    Ok(samples)
}

/// Runs ffmpeg or ffprobe and returns its output. If it is not installed, prints this and returns `None`.
fn run(program: &str, arguments: &[&str], input: &[u8]) -> Option<Vec<u8>> {
    let mut command = Command::new(program);
    command.args(["-v", "error"]).args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = match command.spawn() {
        Ok(child) => child,
        Err(error) => {
            palabre_testing::not_shown(&format!("that Ogg Opus suits {program}"), &error.to_string());
            return None;
        }
    };
    let (mut stdin, input) = (child.stdin.take().unwrap(), input.to_vec());
    let writer = std::thread::spawn(move || stdin.write_all(&input));
    let output = child.wait_with_output().unwrap();
    // A program that has read enough closes its input, so an error of writing is ignored.
    let _ = writer.join().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    Some(output.stdout)
}

fn samples(bytes: &[u8]) -> Vec<i16> {
    bytes.chunks_exact(2).map(|pair| i16::from_le_bytes([pair[0], pair[1]])).collect()
}

fn bytes(samples: &[i16]) -> Vec<u8> {
    samples.iter().flat_map(|sample| sample.to_le_bytes()).collect()
}

fn assert_tone(samples: &[i16], rate_hz: u32) {
    let middle = &samples[samples.len() / 2..];
    let level = goertzel_dbfs(middle, rate_hz, 1000.0);
    assert!((level + 20.0).abs() < 1.0 && (rms_dbfs(middle) + 20.0).abs() < 1.0, "{rate_hz} Hz: {level:.1} dBFS");
}

#[test]
fn reader_decodes_what_the_writer_wrote_at_any_rate() {
    let stream = written(24_000, &tone(24_000, 1000.0, -20.0, 24_000), 2);
    for rate_hz in [8_000, 22_050, 24_000, 44_100, 48_000, 96_000] {
        let heard = read(rate_hz, &stream, 1000).unwrap();
        // One second, less the samples at the start that a reader must drop according to the head.
        let expected = rate_hz as usize - rate_hz as usize * LOOKAHEAD / 48_000;
        assert!(heard.len().abs_diff(expected) <= 1, "{rate_hz} Hz: {} samples", heard.len());
        assert_tone(&heard, rate_hz);
    }
}

#[test]
fn parts_of_any_length_and_pages_of_any_length_make_the_same_sound() {
    let speech = speech::english(24_000);
    let stream = written(24_000, &speech, 1);
    let expected = read(24_000, &stream, usize::MAX).unwrap();
    for part in [1, 7, 4096] {
        assert!(read(24_000, &stream, part).unwrap() == expected, "parts of {part} bytes");
    }
    for per_page in [2, 50, 1000] {
        assert!(read(24_000, &written(24_000, &speech, per_page), 4096).unwrap() == expected, "{per_page} packets");
    }
}

#[test]
fn ffmpeg_decodes_what_the_writer_wrote() {
    let stream = written(24_000, &tone(24_000, 1000.0, -20.0, 48_000), 2);
    let arguments = ["-i", "-", "-f", "s16le", "-ar", "24000", "-ac", "1", "-"];
    let Some(heard) = run("ffmpeg", &arguments, &stream) else { return };
    let heard = samples(&heard);
    assert_eq!(heard.len(), 48_000 - LOOKAHEAD / 2);
    assert_tone(&heard, 24_000);
    let fields = "stream=codec_name,sample_rate,channels,start_pts";
    let shown = run("ffprobe", &["-show_entries", fields, "-of", "csv=p=0", "-"], &stream).unwrap();
    assert_eq!(String::from_utf8(shown).unwrap().trim(), "opus,48000,1,0");
}

#[test]
fn reader_decodes_what_ffmpeg_wrote() {
    let sound = tone(48_000, 1000.0, -20.0, 100_000);
    for options in [
        &["-ac", "1"][..],
        &["-af", "pan=stereo|c0=c0|c1=c0"],
        &["-frame_duration", "60"],
        &["-frame_duration", "2.5"],
        &["-page_duration", "1"],
    ] {
        let input = ["-f", "s16le", "-ar", "48000", "-ac", "1", "-i", "-"];
        let output = ["-c:a", "libopus", "-b:a", "64k", "-f", "ogg", "-"];
        let Some(stream) = run("ffmpeg", &[&input[..], options, &output].concat(), &bytes(&sound)) else { return };
        let heard = read(48_000, &stream, 4096).unwrap();
        // The last page says where the sound ends.
        assert_eq!(heard.len(), sound.len(), "{options:?}");
        assert_tone(&heard, 48_000);
    }
}

#[test]
fn streams_one_after_another_are_all_heard() {
    let (first, second) = (tone(24_000, 440.0, -20.0, 12_000), tone(24_000, 1000.0, -20.0, 12_000));
    let mut both = written(24_000, &first, 2);
    both.extend(written(24_000, &second, 2));
    assert_tone(&read(24_000, &both, 4096).unwrap(), 24_000);
}

#[test]
fn pages_of_other_streams_are_ignored() {
    let stream = written(24_000, &speech::english(24_000)[..24_000], 2);
    let mut mixed = Vec::new();
    let other =
        |flags, number, out: &mut Vec<u8>| page::write(out, Head { flags, granule: 0, serial: 9, number }, &[b"video"]);
    other(FIRST, 0, &mut mixed);
    let mut rest = &stream[..];
    while !rest.is_empty() {
        let (_, length) = page::read(rest).unwrap();
        mixed.extend_from_slice(&rest[..length]);
        other(0, 1, &mut mixed);
        rest = &rest[length..];
    }
    assert!(read(24_000, &mixed, 4096) == read(24_000, &stream, 4096));
}

/// Returns a stream with this head and tags and the packets on one page, which is the last one.
fn stream(head: &[u8], tags: &[u8], packets: &[&[u8]], granule: u64) -> Vec<u8> {
    let mut out = Vec::new();
    page::write(&mut out, Head { flags: FIRST, granule: 0, serial: 1, number: 0 }, &[head]);
    page::write(&mut out, Head { flags: 0, granule: 0, serial: 1, number: 1 }, &[tags]);
    page::write(&mut out, Head { flags: LAST, granule, serial: 1, number: 2 }, packets);
    out
}

const HEAD: &[u8; 19] = b"OpusHead\x01\x01\x00\x00\x80\xbb\x00\x00\x00\x00\x00";
const TAGS: &[u8; 16] = b"OpusTags\0\0\0\0\0\0\0\0";
/// A packet without sound: SILK, wideband, 20 ms.
const SILENCE: &[u8] = &[9 << 3];

#[test]
fn streams_that_are_not_opus_are_refused() {
    let error = |stream: &[u8]| read(24_000, stream, 100).err();
    assert_eq!(error(b"RIFF"), Some(OggError::NotOgg));
    assert_eq!(error(b"Ogg "), Some(OggError::NotOgg));
    assert_eq!(error(b"OggS\x01"), Some(OggError::NotOgg));
    assert_eq!(error(b"OggS"), None);
    assert_eq!(error(&[0xFF; 100_000]), Some(OggError::NotOgg));
    assert_eq!(error(&stream(b"\x01vorbis", TAGS, &[], 0)), Some(OggError::NotOpus));
    assert_eq!(error(&stream(b"OpusHead\x01", TAGS, &[], 0)), Some(OggError::InvalidHead));
    assert_eq!(error(&stream(HEAD, b"OpusHead", &[], 0)), Some(OggError::InvalidHead));
    for (at, value, expected) in [
        (8, 0x10, OggError::InvalidHead),
        (9, 0, OggError::InvalidHead),
        (9, 3, OggError::Channels(3)),
        (18, 1, OggError::Channels(1)),
    ] {
        let mut head = *HEAD;
        head[at] = value;
        assert_eq!(error(&stream(&head, TAGS, &[], 0)), Some(expected));
    }
    assert_eq!(error(&stream(HEAD, TAGS, &[SILENCE], 0)), None);
    let mut damaged = stream(HEAD, TAGS, &[SILENCE], 0);
    *damaged.last_mut().unwrap() ^= 1;
    assert_eq!(error(&damaged), Some(OggError::Damaged));
    assert_eq!(Reader::new(4_000).err(), Some(OggError::Rate(4_000)));
}

#[test]
fn end_of_the_sound_is_that_of_the_last_page() {
    let length = |granule| read(24_000, &stream(HEAD, TAGS, &[SILENCE, SILENCE], granule), 100).unwrap().len();
    assert_eq!(length(1920), 960);
    assert_eq!(length(1000), 500);
    assert_eq!(length(0), 0);
    // A position after the end of the packets, and no position (−1).
    assert_eq!(length(1 << 60), 960);
    assert_eq!(length(u64::MAX), 960);
}

#[test]
fn gain_of_the_head_is_applied() {
    let sound = written(24_000, &tone(24_000, 1000.0, -26.0, 24_000), 2);
    let (_, head_length) = page::read(&sound).unwrap();
    let mut head = *HEAD;
    // The gain field of the head: 6 dB, as a number of 1/256 dB.
    head[16..18].copy_from_slice(&(6 * 256i16).to_le_bytes());
    let mut louder = Vec::new();
    page::write(&mut louder, Head { flags: FIRST, granule: 0, serial: 7, number: 0 }, &[&head]);
    louder.extend_from_slice(&sound[head_length..]);
    assert_tone(&read(24_000, &louder, 4096).unwrap(), 24_000);
}

#[test]
fn invalid_packets_are_concealed() {
    // The two invalid packets have 13 frames of 10 ms, which is too long, and no byte at all.
    let heard = read(24_000, &stream(HEAD, TAGS, &[SILENCE, &[8 << 3 | 3, 13, 0], &[]], u64::MAX), 100).unwrap();
    assert_eq!(heard.len(), 3 * 480);
}

#[test]
fn packets_that_never_end_are_refused() {
    // A page with 255 lacing values of 255 has no end of a packet.
    let endless = |flags, number| {
        let mut page = Vec::new();
        page::write(&mut page, Head { flags, granule: u64::MAX, serial: 1, number }, &[&[0; 254 * 255]]);
        // The last lacing value is 0; the test makes it 255, and the checksum right.
        page.resize(page.len() + 255, 0);
        page[27 + 254] = 255;
        page::sign(&mut page);
        page
    };
    for (tags, max_pages) in [(Some(TAGS), 2), (None, 300)] {
        let mut stream = Vec::new();
        page::write(&mut stream, Head { flags: FIRST, granule: 0, serial: 1, number: 0 }, &[HEAD]);
        if let Some(tags) = tags {
            page::write(&mut stream, Head { flags: 0, granule: 0, serial: 1, number: 1 }, &[tags]);
        }
        (0..max_pages).for_each(|i| stream.extend(endless(u8::from(i > 0), i)));
        assert_eq!(read(24_000, &stream, 4096), Err(OggError::LongPacket));
    }
}

#[test]
fn tags_may_be_long() {
    let tags = [TAGS, &[1; 200_000][..]].concat();
    let mut out = Vec::new();
    page::write(&mut out, Head { flags: FIRST, granule: 0, serial: 1, number: 0 }, &[HEAD]);
    for (i, part) in tags.chunks(254 * 255).enumerate() {
        let start = out.len();
        page::write(&mut out, Head { flags: u8::from(i > 0), granule: 0, serial: 1, number: 1 }, &[part]);
        // Each part except the last is continued on the next page, so remove the lacing value that ends the packet.
        if part.len() == 254 * 255 {
            out[start + 26] = 254;
            out.remove(start + 27 + 254);
            page::sign(&mut out[start..]);
        }
    }
    page::write(&mut out, Head { flags: LAST, granule: 960, serial: 1, number: 9 }, &[SILENCE]);
    assert_eq!(read(24_000, &out, 4096).unwrap().len(), 480);
}

#[test]
fn sound_that_is_not_heard_counts_as_decoded() {
    let rate_hz = 24_000;
    let mut packet = Vec::new();
    Encoder::new(rate_hz, 32).unwrap().encode(&vec![0; 480], &mut packet);
    let mut stream = Vec::new();
    Writer::new(7).start(rate_hz, &mut stream);
    // Each page says that it is the last page, and that nothing on it is heard.
    for number in 2..12 {
        let head = Head { flags: LAST, granule: 0, serial: 7, number };
        page::write(&mut stream, head, &vec![packet.as_slice(); 100]);
    }
    let (mut reader, mut heard) = (Reader::new(rate_hz).unwrap(), Vec::new());
    reader.push(&stream);
    let mut most = 0;
    loop {
        let before = reader.decoded_samples();
        if !reader.decode(&mut heard).unwrap() {
            break;
        }
        most = most.max(reader.decoded_samples() - before);
    }
    assert_eq!((heard.len(), reader.decoded_samples(), most), (0, 10 * 100 * 480, 480));
}
