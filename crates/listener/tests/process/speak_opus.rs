//! Tests of sending sound as Opus to `/speak`.

use crate::client::{Answer, Client};
use crate::rig::{Rig, read_samples};
use crate::speak_ws::{close_code, connect};
use palabre_config::control::Codec;
use palabre_sound::measure::{goertzel_dbfs, tone};
use palabre_sound::ogg::Writer;
use palabre_sound::opus::{Decoder, Encoder, LOOKAHEAD, packets};
use std::fmt::Write as _;
use std::process::{Command, Stdio};
use tungstenite::Message;
use tungstenite::protocol::frame::coding::CloseCode;

const RATE_HZ: u32 = 24_000;
/// First byte of a packet of 20 ms, with one channel, wideband, SILK. Alone, it is a packet without sound.
const SILENCE: &[u8] = &[0x48];

/// Returns the packets of a tone of 1 kHz and −20 dBFS.
fn packets_of_a_tone(count: usize) -> Vec<Vec<u8>> {
    let mut encoder = Encoder::new(RATE_HZ, 24).unwrap();
    let encode = |frame: &[i16]| {
        let mut packet = Vec::new();
        encoder.encode(frame, &mut packet);
        packet
    };
    tone(RATE_HZ, 1000.0, -20.0, count * 480).chunks(480).map(encode).collect()
}

fn list(packets: &[impl AsRef<[u8]>]) -> Vec<u8> {
    let mut list = Vec::new();
    packets.iter().for_each(|packet| packets::push(&mut list, packet.as_ref()));
    list
}

/// Returns the sound of packets that one decoder decodes.
fn decoded(packets: &[Vec<u8>]) -> Vec<i16> {
    let (mut decoder, mut samples) = (Decoder::new(RATE_HZ).unwrap(), Vec::new());
    packets.iter().for_each(|packet| decoder.decode(packet, &mut samples).unwrap());
    samples
}

fn chunk(number: u32, captured_ms: f64, list: &[u8]) -> Message {
    let mut bytes = number.to_le_bytes().to_vec();
    bytes.extend([1, 0, 0, 0]);
    bytes.extend(captured_ms.to_le_bytes());
    bytes.extend(list);
    Message::Binary(bytes.into())
}

fn post(rig: &Rig, query: &str, content_type: &str, body: &[u8]) -> Answer {
    let mut client = rig.connect();
    let fields = format!("{}Content-Type: {content_type}\r\nContent-Length: {}\r\n", rig.bearer(), body.len());
    client.send(format!("POST /speak{query} HTTP/1.1\r\nHost: a\r\n{fields}\r\n"));
    // The server may refuse the request before it has read the whole body.
    let _ = client.try_send(body);
    client.answer()
}

fn queue(rig: &Rig, body: &[u8]) -> Answer {
    post(rig, "?page=a&t=0", "application/vnd.palabre.opus", body)
}

/// Returns a tone as Ogg Opus, with one packet on each page.
fn ogg(count: usize) -> (Vec<u8>, Vec<Vec<u8>>) {
    let (mut writer, mut head, mut pages) = (Writer::new(1), Vec::new(), Vec::new());
    writer.start(RATE_HZ, &mut head);
    for packet in packets_of_a_tone(count) {
        let mut page = Vec::new();
        writer.packets(&[&packet], &mut page);
        pages.push(page);
    }
    (head, pages)
}

fn assert_tone(samples: &[i16]) {
    let level = goertzel_dbfs(&samples[samples.len() / 2..], RATE_HZ, 1000.0);
    assert!((level + 20.0).abs() < 1.0, "{level:.1} dBFS");
}

#[test]
fn packets_of_a_websocket_are_one_sound() {
    let rig = Rig::new();
    let mut mic = rig.mic();
    let mut socket = connect(&rig, "?page=a");
    // These packets last 280 ms. The listener would drop more than 300 ms that arrive at once.
    let packets = packets_of_a_tone(14);
    let mut heard = Vec::new();
    for (number, piece) in packets.chunks(2).enumerate() {
        socket.send(chunk(number as u32, number as f64 * 40.0, &list(piece))).unwrap();
        heard.extend(read_samples(&mut mic, 960));
    }
    assert!(heard == decoded(&packets));
    assert_tone(&heard);
    rig.wait_for_report("Opus", |report| report.up == Some(Codec::Opus { kbps: None }));
    // A page may change from Opus to samples at any time.
    let mut samples = vec![0; 8];
    samples.extend(1_000_000f64.to_le_bytes());
    samples.extend([7, 0]);
    socket.send(Message::Binary(samples.into())).unwrap();
    assert_eq!(read_samples(&mut mic, 1), [7]);
    rig.wait_for_report("samples", |report| report.up == Some(Codec::Pcm));
    drop(socket);
    rig.wait_for_report("no sound", |report| report.up.is_none());
}

#[test]
fn invalid_packets_of_a_websocket_are_concealed_or_close_it() {
    let rig = Rig::new();
    let mut mic = rig.mic();
    let mut socket = connect(&rig, "?page=a");
    // More frames than 120 ms.
    socket.send(chunk(0, 0.0, &list(&[SILENCE, &[0x43, 13, 0], SILENCE]))).unwrap();
    read_samples(&mut mic, 3 * 480);
    drop(socket);
    let stereo = list(&[&[0x4c, 0, 0]]);
    let long = list(&[&[0x58, 0]]);
    let false_length = vec![200, 0, 0x48];
    let empty_packet = vec![0, 0];
    let too_many = list(&[SILENCE; 11]);
    for invalid in [stereo, long, false_length, empty_packet, too_many, Vec::new()] {
        let mut socket = connect(&rig, "?page=a");
        socket.send(chunk(0, 0.0, &invalid)).unwrap();
        assert_eq!(close_code(&mut socket), CloseCode::Unsupported, "{invalid:?}");
    }
}

#[test]
fn noise_in_websocket_messages_does_no_harm() {
    let rig = Rig::new();
    let _mic = rig.mic();
    let mut state = 1u32;
    let mut random = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 16) as usize
    };
    for _ in 0..20 {
        let mut socket = connect(&rig, "?page=a");
        for number in 0..20 {
            let noise: Vec<u8> = (0..1 + random() % 200).map(|_| random() as u8).collect();
            // The server closes the WebSocket at the first packet of another duration or with two channels.
            if socket.send(chunk(number, 0.0, &list(&[noise]))).is_err() {
                break;
            }
        }
    }
    assert_eq!(rig.connect().get(&rig, "/me").status, 200);
}

#[test]
fn lists_of_a_queue_are_one_sound() {
    let rig = Rig::new();
    let mut mic = rig.mic();
    let packets = packets_of_a_tone(12);
    let mut heard = Vec::new();
    for part in packets.chunks(4) {
        assert_eq!(queue(&rig, &list(part)).status, 204);
        heard.extend(read_samples(&mut mic, part.len() * 480));
    }
    assert!(heard == decoded(&packets));
}

#[test]
fn invalid_lists_of_a_queue_are_refused() {
    let rig = Rig::new();
    let _mic = rig.mic();
    assert_eq!(queue(&rig, &[]).status, 400);
    for false_length in [&[200, 0, 0x48][..], &[0, 0], &[0xff; 700], &[1, 0, 0x48, 1]] {
        let answer = queue(&rig, false_length);
        assert_eq!(answer.status, 400);
        assert!(answer.text().starts_with("the list of Opus packets "), "{}", answer.text());
    }
    let answer = queue(&rig, &list(&[&[0x4c, 0, 0]]));
    assert_eq!((answer.status, answer.text()), (415, "an Opus packet has two channels; use one channel\n"));
    assert_eq!(queue(&rig, &list(&[&[0x58, 0]])).status, 415);
    assert_eq!(queue(&rig, &list(&[SILENCE; 501])).status, 413);
    let answer = post(&rig, "", "application/vnd.palabre.opus", &list(&[SILENCE]));
    assert_eq!(answer.status, 415);
}

#[test]
fn queue_that_is_faster_than_real_time_is_refused() {
    let rig = Rig::new();
    let _mic = rig.mic();
    let body = list(&[SILENCE; 500]);
    let mut pages =
        (0..100).map(|page| post(&rig, &format!("?page={page}&t=0"), "application/vnd.palabre.opus", &body).status);
    assert_eq!(pages.find(|&status| status != 204), Some(429));
}

#[test]
fn opus_is_decoded_to_the_rate_of_the_room() {
    for rate_hz in [16_000, 48_000] {
        let rig = Rig::with(&format!("[room]\nrate-hz = {rate_hz}\n"));
        let mut mic = rig.mic();
        assert_eq!(queue(&rig, &list(&packets_of_a_tone(14))).status, 204);
        let heard = read_samples(&mut mic, rate_hz as usize * 280 / 1000);
        let level = goertzel_dbfs(&heard[heard.len() / 2..], rate_hz, 1000.0);
        assert!((level + 20.0).abs() < 1.0, "{rate_hz} Hz: {level:.1} dBFS");
    }
}

#[test]
fn ogg_recording_is_played_in_real_time() {
    let rig = Rig::new();
    let mut mic = rig.mic();
    let (head, pages) = ogg(25);
    let body = [head, pages.concat()].concat();
    let samples = 25 * 480 - LOOKAHEAD / 2;
    for content_type in ["audio/ogg; codecs=opus", "application/octet-stream"] {
        std::thread::scope(|scope| {
            let answer = scope.spawn(|| post(&rig, "", content_type, &body));
            assert_tone(&read_samples(&mut mic, samples));
            let answer = answer.join().unwrap();
            assert_eq!((answer.status, answer.text()), (200, "played 0.49 s\n"));
        });
    }
}

#[test]
fn live_ogg_is_heard_page_by_page() {
    let rig = Rig::new();
    let mut mic = rig.mic();
    let mut client = rig.connect();
    client.send(format!("POST /speak HTTP/1.1\r\nHost: a\r\n{}Transfer-Encoding: chunked\r\n\r\n", rig.bearer()));
    let send = |client: &mut Client, bytes: &[u8]| {
        let mut size = String::new();
        write!(size, "{:x}\r\n", bytes.len()).unwrap();
        client.send([size.as_bytes(), bytes, b"\r\n"].concat());
    };
    let (head, pages) = ogg(14);
    send(&mut client, &head);
    let mut heard = Vec::new();
    for (number, page) in pages.iter().enumerate() {
        send(&mut client, page);
        heard.extend(read_samples(&mut mic, if number == 0 { 480 - LOOKAHEAD / 2 } else { 480 }));
    }
    rig.wait_for_report("Opus", |report| report.up == Some(Codec::Opus { kbps: None }));
    client.send("0\r\n\r\n");
    assert_eq!(client.answer().text(), "played 0.27 s\n");
    assert_tone(&heard);
}

#[test]
fn invalid_ogg_is_refused() {
    let rig = Rig::new();
    let (head, pages) = ogg(3);
    let mut damaged = [&head[..], &pages[0]].concat();
    *damaged.last_mut().unwrap() ^= 1;
    let mut noise = head.clone();
    noise.extend(vec![0x55; 100_000]);
    let mut surround = head.clone();
    surround[28 + 9] = 6;
    palabre_sound::ogg::correct_checksums(&mut surround);
    let cases: [(&str, &[u8], u16, &str); 8] = [
        ("audio/ogg", b"", 400, "the request body is empty\n"),
        ("audio/ogg", b"Ogg", 400, "the Ogg stream ends before the sound begins\n"),
        ("audio/ogg", &[0x55; 100_000], 415, "the stream is not Ogg: a page must begin with 'OggS'\n"),
        ("text/plain", b"OggS", 400, "the Ogg stream ends before the sound begins\n"),
        ("text/plain", &head[..40], 400, "the Ogg stream ends before the sound begins\n"),
        ("audio/ogg", &surround, 415, "an Opus stream of 6 channels is not supported; use 1 or 2 channels\n"),
        ("audio/ogg", &damaged, 400, "the Ogg stream is damaged: the checksum of a page is wrong\n"),
        ("audio/ogg", &noise, 415, "the stream is not Ogg: a page must begin with 'OggS'\n"),
    ];
    for (content_type, body, status, text) in cases {
        let answer = post(&rig, "", content_type, body);
        assert_eq!((answer.status, answer.text()), (status, text), "{} bytes", body.len());
    }
}

#[test]
fn ffmpeg_and_curl_send_ogg() {
    let rig = Rig::new();
    let mut mic = rig.mic();
    let mut ffmpeg = Command::new("ffmpeg");
    ffmpeg.args(["-v", "error", "-re", "-f", "lavfi", "-i", "sine=frequency=1000:sample_rate=48000:duration=1"]);
    ffmpeg.args(["-c:a", "libopus", "-page_duration", "20000", "-f", "ogg", "-"]).stdout(Stdio::piped());
    let mut ffmpeg = match ffmpeg.spawn() {
        Ok(ffmpeg) => ffmpeg,
        Err(error) => {
            palabre_testing::not_shown("ffmpeg sends Ogg Opus", &format!("unable to run 'ffmpeg': {error}"));
            return;
        }
    };
    let url = format!("https://localhost:{}/speak", rig.port);
    let key = format!("Authorization: Bearer {}", rig.key.as_str());
    let mut curl = Command::new("curl");
    curl.args(["-sSk", "--ipv4", "-T", "-", "-H", &key, &url])
        .stdin(ffmpeg.stdout.take().unwrap())
        .stdout(Stdio::piped());
    let curl = curl.spawn().unwrap();
    let heard = read_samples(&mut mic, 12_000);
    // The tone of ffmpeg's source `sine` has an amplitude of 1/8 of full scale.
    let level = goertzel_dbfs(&heard[4_800..], RATE_HZ, 1000.0);
    assert!((level + 21.1).abs() < 2.0, "{level:.1} dBFS");
    drop(mic);
    let output = curl.wait_with_output().unwrap();
    assert_eq!(String::from_utf8(output.stdout).unwrap(), "played 1.00 s\n");
    assert!(ffmpeg.wait().unwrap().success());
}
