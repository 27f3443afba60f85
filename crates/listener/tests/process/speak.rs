//! Tests of sending sound by POST and PUT to `/speak`.

use crate::client::Client;
use crate::rig::{Rig, read_samples};
use palabre_sound::wav;
use palabre_sound::wav_examples::wavs;
use std::fmt::Write as _;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

fn tone(count: usize) -> Vec<i16> {
    (0..count).map(|i| (i * 13) as i16).collect()
}

fn start(client: &mut Client, rig: &Rig, target: &str, fields: &str) {
    client.send(format!("POST {target} HTTP/1.1\r\nHost: a\r\n{}{fields}\r\n", rig.bearer()));
}

fn post(rig: &Rig, target: &str, body: &[u8]) -> (Client, crate::client::Answer) {
    let mut client = rig.connect();
    start(&mut client, rig, target, &format!("Content-Length: {}\r\n", body.len()));
    // The server may refuse the request and close the connection before it has read the whole body.
    let _ = client.try_send(body);
    let answer = client.answer();
    (client, answer)
}

fn chunked(bytes: &[u8]) -> Vec<u8> {
    let mut out = String::new();
    write!(out, "{:x};why=not\r\n", bytes.len()).unwrap();
    [out.as_bytes(), bytes, b"\r\n"].concat()
}

#[test]
fn recording_is_played_unchanged_and_answered_at_its_end() {
    let rig = Rig::new();
    let mut mic = rig.mic();
    let samples = tone(12000);
    let body = wav::little(24000, &samples);
    let (answer, elapsed) = std::thread::scope(|scope| {
        let answer = scope.spawn(|| {
            let start = Instant::now();
            let (mut client, answer) = post(&rig, "/speak", &body);
            // The server keeps the connection open: another request succeeds.
            assert_eq!(client.get(&rig, "/me").status, 200);
            (answer, start.elapsed())
        });
        assert_eq!(read_samples(&mut mic, samples.len()), samples);
        answer.join().unwrap()
    });
    assert_eq!((answer.status, answer.text()), (200, "played 0.50 s\n"));
    assert!(elapsed.as_millis() >= 500, "answered before the end of the recording");
}

/// If the listener wrote other amounts of samples at a time, the mixer's jitter buffer would run empty at the smallest delay.
#[test]
fn recording_is_written_in_whole_frames() {
    let rig = Rig::new();
    let mut mic = rig.mic();
    // At neither sample rate is a frame of 20 ms as long as one read of the body.
    for rate_hz in [24_000, 44_100] {
        let body = wav::little(rate_hz, &tone(rate_hz as usize / 4));
        let amounts: Vec<usize> = std::thread::scope(|scope| {
            let answer = scope.spawn(|| post(&rig, "/speak", &body).1.status);
            let mut reads = Vec::new();
            while !answer.is_finished() {
                if palabre_host::wait::is_readable(&mic, Duration::from_millis(100)).unwrap() {
                    reads.push(mic.read(Instant::now(), &mut Vec::new(), 24_000).unwrap());
                }
            }
            assert_eq!(answer.join().unwrap(), 200);
            reads
        });
        let (_, whole) = amounts.split_last().unwrap();
        assert!(whole.iter().all(|count| count % 480 == 0), "{rate_hz} Hz: {amounts:?}");
    }
}

#[test]
fn sizes_in_the_wav_header_are_ignored() {
    let rig = Rig::new();
    let mut mic = rig.mic();
    let samples = tone(480);
    for size in [0u32, 2, 0x7fff_ffff, u32::MAX] {
        let mut body = wav::little(24000, &samples);
        body[4..8].copy_from_slice(&size.to_le_bytes());
        body[40..44].copy_from_slice(&size.to_le_bytes());
        assert_eq!(post(&rig, "/speak", &body).1.status, 200);
        assert_eq!(read_samples(&mut mic, 480), samples, "{size}");
    }
}

#[test]
fn only_samples_are_played_whatever_chunks_the_wav_has() {
    let rig = Rig::new();
    let mut mic = rig.mic();
    let samples = tone(480);
    for (order, body) in wavs(24000, &samples) {
        let answer = post(&rig, "/speak", &body).1;
        assert_eq!((answer.status, answer.text()), (200, "played 0.02 s\n"), "{order}");
        // No extra samples come between two recordings.
        assert_eq!(read_samples(&mut mic, 480), samples, "{order}");
    }
}

#[test]
fn stereo_float_at_44100_hz_is_converted() {
    let rig = Rig::new();
    let mut mic = rig.mic();
    let mut body = wav::endless_head(44100);
    body[20..24].copy_from_slice(&[3, 0, 2, 0]);
    body[28..32].copy_from_slice(&(44100u32 * 8).to_le_bytes());
    body[32..36].copy_from_slice(&[8, 0, 32, 0]);
    for i in 0..4410 {
        let sample = (f64::from(i) * 440.0 * std::f64::consts::TAU / 44100.0).sin() as f32 * 0.5;
        body.extend([sample.to_le_bytes(), sample.to_le_bytes()].concat());
    }
    let answer = std::thread::scope(|scope| {
        let answer = scope.spawn(|| post(&rig, "/speak", &body).1);
        let heard = read_samples(&mut mic, 2400);
        let loudest = heard.iter().map(|sample| sample.unsigned_abs()).max().unwrap();
        assert!((15_000..18_000).contains(&loudest), "{loudest}");
        answer.join().unwrap()
    });
    assert_eq!((answer.status, answer.text()), (200, "played 0.10 s\n"));
}

#[test]
fn invalid_wav_is_refused_and_the_connection_closed() {
    let rig = Rig::new();
    let mp3 = [b"ID3\x04\x00".to_vec(), vec![0x55; 20_000]].concat();
    let mut surround = wav::little(24000, &tone(480));
    surround[22] = 6;
    for body in [mp3, surround, b"RIFFxxxxAVI ".repeat(10)] {
        let (mut client, answer) = post(&rig, "/speak", &body);
        assert_eq!((answer.status, answer.field("connection")), (415, Some("close")));
        assert!(client.is_closed());
    }
    for body in [&b""[..], &wav::little(24000, &[])[..20], b"R"] {
        assert_eq!(post(&rig, "/speak", body).1.status, 400, "{} bytes", body.len());
    }
}

#[test]
fn contradictory_bodies_are_refused() {
    let rig = Rig::new();
    for (fields, status) in [
        ("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", 400),
        ("Content-Length: 5\r\nContent-Length: 6\r\n", 400),
        ("Content-Length: five\r\n", 400),
        ("Transfer-Encoding: gzip\r\n", 501),
        ("", 411),
        ("Content-Length: 5\r\nExpect: a-miracle\r\n", 417),
    ] {
        let mut client = rig.connect();
        start(&mut client, &rig, "/speak", fields);
        assert_eq!(client.answer().status, status, "{fields}");
        assert!(client.is_closed());
    }
    let mut client = rig.connect();
    start(&mut client, &rig, "/speak", "Transfer-Encoding: chunked\r\n");
    client.send("not a size\r\n");
    assert_eq!(client.answer().status, 400);
}

#[test]
fn declared_length_allocates_nothing() {
    let rig = Rig::new();
    let mut mic = rig.mic();
    let before = rss_kib(&rig);
    let mut client = rig.connect();
    start(&mut client, &rig, "/speak", "Content-Length: 10000000000\r\n");
    let samples = tone(2400);
    client.send(wav::little(24000, &samples));
    assert_eq!(read_samples(&mut mic, 2400), samples);
    assert!(rss_kib(&rig) < before + 4096, "{before} KiB before");
    drop(client);
    rig.wait_for_status("streams=0 speaking=no");
}

fn rss_kib(rig: &Rig) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", rig.child.id())).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[test]
fn chunked_body_is_live_after_100_continue() {
    let rig = Rig::new();
    let mut mic = rig.mic();
    let mut client = rig.connect();
    start(&mut client, &rig, "/speak", "Transfer-Encoding: chunked\r\nExpect: 100-continue\r\n");
    assert_eq!(client.answer_head().status, 100);
    client.send(chunked(&wav::endless_head(24000)));
    let samples = tone(4800);
    for piece in samples.chunks(480) {
        let bytes: Vec<u8> = piece.iter().flat_map(|sample| sample.to_le_bytes()).collect();
        client.send(chunked(&bytes[..100]));
        client.send(chunked(&bytes[100..]));
        assert_eq!(read_samples(&mut mic, 480), piece);
    }
    client.send("0\r\n\r\n");
    assert_eq!((client.answer().status, client.get(&rig, "/me").status), (200, 200));
}

#[test]
fn page_queue_is_answered_at_once_and_newer_page_wins() {
    let rig = Rig::new();
    let mut mic = rig.mic();
    let samples = tone(4800);
    let body = wav::little(24000, &samples);
    let mut client = rig.connect();
    for _ in 0..3 {
        start(&mut client, &rig, "/speak?page=a&t=1700000000000.5", &format!("Content-Length: {}\r\n", body.len()));
        client.send(&body);
        let answer = client.answer();
        assert_eq!((answer.status, answer.field("content-length")), (204, None));
        assert_eq!(read_samples(&mut mic, 2400).len(), 2400);
        // Wait for the rest of these samples: a page sends in real time, and a faster source would lose samples.
        read_samples(&mut mic, 2400);
        std::thread::sleep(std::time::Duration::from_millis(200));
    }
    assert_eq!(post(&rig, "/speak?page=b&t=1", &body).1.status, 204);
    let (_, answer) = post(&rig, "/speak?page=a&t=1", &body);
    assert_eq!((answer.status, answer.text()), (409, "another page or a program now sends this participant's sound\n"));
    for target in ["/speak?page=b", "/speak?page=b&t=x", "/speak?page=b&t=inf"] {
        assert_eq!(post(&rig, target, &body).1.status, 400, "{target}");
    }
}

#[test]
fn superseded_program_is_answered_409() {
    let rig = Rig::new();
    let _mic = rig.mic();
    let mut old = rig.connect();
    start(&mut old, &rig, "/speak", "Transfer-Encoding: chunked\r\n");
    old.send(chunked(&wav::endless_head(24000)));
    rig.wait_for_status("streams=0 speaking=post");
    assert_eq!(post(&rig, "/speak", &wav::little(24000, &tone(480))).1.status, 200);
    assert_eq!(old.answer().status, 409);
}

#[test]
fn body_that_pauses_for_10_s_is_answered_408() {
    let rig = Rig::new();
    let mut client = rig.connect();
    start(&mut client, &rig, "/speak", "Content-Length: 1000\r\n");
    client.send(b"RIFF");
    assert_eq!(client.answer().status, 408);
    assert!(client.is_closed());
}

#[test]
fn curl_streams_a_wav() {
    let rig = Rig::new();
    let mut mic = rig.mic();
    let samples = tone(2400);
    let url = format!("https://localhost:{}/speak", rig.port);
    let key = format!("Authorization: Bearer {}", rig.key.as_str());
    let mut curl = Command::new("curl");
    curl.args(["-sSk", "--ipv4", "-T", "-", "-H", &key, &url]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut curl = curl.spawn().unwrap();
    std::io::Write::write_all(&mut curl.stdin.take().unwrap(), &wav::little(24000, &samples)).unwrap();
    assert_eq!(read_samples(&mut mic, 2400), samples);
    let output = curl.wait_with_output().unwrap();
    assert_eq!(String::from_utf8(output.stdout).unwrap(), "played 0.10 s\n");
}
