//! Hostile and faulty clients of one participant don't disturb the others.
#![allow(clippy::unwrap_used, missing_docs)]

use std::fs::OpenOptions;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::OpenOptionsExt;
use std::process::Command;

use palabre_e2e::client::{Client, Recording, Talker, Words};
use palabre_e2e::suite::{Link, Suite, TIMEOUT};
use palabre_e2e::wait_for;
use palabre_sound::measure::goertzel_dbfs;
use palabre_testing::undisturbed;

/// Frequency of the words: a multiple of 200 Hz, so that a window of 5 ms contains whole periods and other multiples aren't detected.
const TONE_HZ: f64 = 400.0;
const LEVEL_DBFS: f64 = -20.0;
/// Number of windows of 5 ms in which a complete word of 200 ms is loud: one window may be a cross-fade, and the word may begin and end within
/// a window.
const COMPLETE_WORD: std::ops::RangeInclusive<usize> = 38..=41;

/// A suite in which p01 says words and p03 listens. Tests attack p02.
struct Room {
    suite: Suite,
    recording: Recording,
    words: Words,
}

impl Room {
    fn new() -> Self {
        let suite = Suite::start(3).unwrap();
        let recording = suite.client.record(suite.link("p03")).unwrap();
        wait_for("the stream", TIMEOUT, || (!recording.is_empty()).then_some(())).unwrap();
        let words = Words::say(&suite.client, suite.link("p01"), TONE_HZ, LEVEL_DBFS);
        let room = Self { suite, recording, words };
        room.wait_for_words(3);
        room
    }

    fn victim(&self) -> (&Client, &Link) {
        (&self.suite.client, self.suite.link("p02"))
    }

    /// Returns the length of each heard word, in windows of 5 ms.
    fn words_heard(&self) -> Vec<usize> {
        let samples = self.recording.from(0);
        let window = self.recording.rate_hz as usize / 200;
        let sounds = |piece: &[i16]| goertzel_dbfs(piece, self.recording.rate_hz, TONE_HZ) > LEVEL_DBFS - 3.0;
        let windows: Vec<bool> = samples.chunks_exact(window).map(sounds).collect();
        windows.split(|sounds| !sounds).map(<[bool]>::len).filter(|&length| length > 0).collect()
    }

    fn wait_for_words(&self, more: usize) {
        let before = self.words_heard().len();
        wait_for("more words", TIMEOUT, || (self.words_heard().len() >= before + more).then_some(())).unwrap();
    }

    /// Checks that every word was heard completely and that the stream never ended.
    fn assert_no_loss(&self) {
        let said = self.words.stop();
        let _ = wait_for("the last word", TIMEOUT, || (self.words_heard().len() >= said).then_some(()));
        // Wait for half a second of sound more, so that the recording contains the whole last word and the silence after it.
        let length = self.recording.len();
        wait_for("silence", TIMEOUT, || (self.recording.len() > length + 12_000).then_some(())).unwrap();
        let (heard, reconnections) = (self.words_heard(), self.recording.reconnections());
        println!("{} of {said} words heard, {reconnections} reconnections", heard.len());
        let all_complete = heard.len() == said && heard.iter().all(|length| COMPLETE_WORD.contains(length));
        assert!(
            all_complete && reconnections == 0,
            "{said} words said; lengths of those heard: {heard:?}; {reconnections} reconnections; mixer: {}",
            self.suite.mixer_counters().unwrap()
        );
    }
}

/// Checks that during an attack on p02, p03 hears every word of p01 completely, and that the stream of p03 never ends.
fn others_lose_nothing(attack: impl Fn(&Room)) {
    undisturbed(|| {
        let room = Room::new();
        attack(&room);
        room.wait_for_words(2);
        room.assert_no_loss();
    });
}

fn bearer(link: &Link) -> String {
    format!("Authorization: Bearer {}", link.key)
}

fn wav_head(rate_hz: u32, channels: u16, bits: u16, float: bool, data_bytes: u32) -> Vec<u8> {
    let block = channels * bits / 8;
    let mut head = Vec::new();
    head.extend(b"RIFF");
    head.extend(data_bytes.wrapping_add(36).to_le_bytes());
    head.extend(b"WAVEfmt ");
    head.extend(16u32.to_le_bytes());
    head.extend(if float { 3u16 } else { 1 }.to_le_bytes());
    head.extend(channels.to_le_bytes());
    head.extend(rate_hz.to_le_bytes());
    head.extend((rate_hz * u32::from(block)).to_le_bytes());
    head.extend(block.to_le_bytes());
    head.extend(bits.to_le_bytes());
    head.extend(b"data");
    head.extend(data_bytes.to_le_bytes());
    head
}

/// POSTs a body with its length and returns the status.
fn post(client: &Client, link: &Link, body: &[u8]) -> u16 {
    let length = format!("Content-Length: {}", body.len());
    client.request(link, "POST", "/speak", &[&bearer(link), &length], body).unwrap().status
}

#[test]
fn bodies_that_are_no_wav_are_refused_and_wrong_sizes_are_ignored() {
    others_lose_nothing(|room| {
        let (client, link) = room.victim();
        assert_eq!(post(client, link, b""), 400, "an empty body");
        assert_eq!(post(client, link, &[b"\xff\xfb\x90\x00".as_slice(), &[0x55; 4096]].concat()), 415, "an MP3");
        assert_eq!(post(client, link, b"ID3\x04\0\0\0\0\0\x23TIT2 and so on, more than forty-four bytes of it"), 415);

        // WAVs of 100 ms, whose headers declare wrong lengths of the sound: 4 GB, 0 bytes and 7 bytes.
        let sound = vec![0u8; 4800];
        for size in [u32::MAX, 0, 7] {
            assert_eq!(
                post(client, link, &[wav_head(24_000, 1, 16, false, size), sound.clone()].concat()),
                200,
                "{size}"
            );
        }
        // A WAV as many programs write it: stereo, 44.1 kHz, float.
        let float = [wav_head(44_100, 2, 32, true, 35_280), vec![0u8; 35_280]].concat();
        assert_eq!(post(client, link, &float), 200);

        // A body of 10 GB is announced and never sent; the listener must not allocate it.
        let mut tls = client.connect(link).unwrap();
        let head = format!(
            "POST /speak HTTP/1.1\r\nHost: localhost\r\n{}\r\nContent-Length: 10000000000\r\n\r\n",
            bearer(link)
        );
        tls.write_all(head.as_bytes()).unwrap();
        tls.write_all(&[wav_head(24_000, 1, 16, false, u32::MAX), sound].concat()).unwrap();
        tls.flush().unwrap();
        drop(tls);
    });
}

#[test]
fn endless_heads_and_unfinished_handshakes_are_closed() {
    others_lose_nothing(|room| {
        let (client, link) = room.victim();
        // Open half as many connections as `limits.connections` allows, and send nothing on them.
        let silent: Vec<_> = (0..24).map(|_| TcpStream::connect(("127.0.0.1", link.port)).unwrap()).collect();
        let garbage: Vec<_> = (0..4)
            .map(|_| {
                let mut tcp = TcpStream::connect(("127.0.0.1", link.port)).unwrap();
                let _ = tcp.write_all(&[0x16, 0x03, 0x01, 0xff, 0xff, 0x01]);
                tcp
            })
            .collect();
        // A client that finishes its handshake is served at the latest when the listener has closed the silent connections.
        wait_for("an answer", TIMEOUT, || client.get(link, "/me").ok().filter(|answer| answer.status == 200)).unwrap();
        for mut tcp in silent.into_iter().chain(garbage) {
            tcp.set_read_timeout(Some(TIMEOUT)).unwrap();
            let mut rest = Vec::new();
            let _ = tcp.read_to_end(&mut rest);
        }

        let long = format!("X-Long: {}", "x".repeat(1 << 20));
        // Ignore an error: the response is lost if the listener closes the connection before it has read all of the head.
        if let Ok(answer) = client.request(link, "GET", "/me", &[&bearer(link), &long], b"") {
            assert_eq!(answer.status, 431);
        }
        assert_eq!(client.get(link, "/me").unwrap().status, 200);
    });
}

#[test]
fn websocket_is_closed_after_a_chunk_of_invalid_size() {
    use tungstenite::{Bytes, Message, client::IntoClientRequest, protocol::CloseFrame};
    others_lose_nothing(|room| {
        let (client, link) = room.victim();
        let chunk = |bytes: usize| Message::Binary(Bytes::from(vec![0; bytes]));
        for (message, code) in [
            (chunk(0), 1003),
            (chunk(16), 1003),
            (chunk(17), 1003),
            (chunk(16 + 24 * 2 * 201), 1003),
            (Message::text("hello"), 1003),
            (chunk(70_000), 1009),
        ] {
            let tls = client.connect(link).unwrap();
            let mut request = format!("wss://localhost:{}/speak?page=test", link.port).into_client_request().unwrap();
            request.headers_mut().insert("Authorization", format!("Bearer {}", link.key).parse().unwrap());
            let (mut socket, _) = tungstenite::client(request, tls).unwrap();
            let what = format!("{} bytes", message.len());
            let _ = socket.send(message);
            let closed: Option<CloseFrame> = loop {
                match socket.read() {
                    Ok(Message::Close(frame)) => break frame,
                    Ok(_) => {}
                    Err(error) => panic!("{what}: {error}"),
                }
            };
            assert_eq!(u16::from(closed.unwrap().code), code, "{what}");
        }
    });
}

#[test]
fn stray_byte_and_second_reader_disturb_one_pipe_only() {
    others_lose_nothing(|room| {
        let dir = room.suite.room();
        // Another process that may open the victim's `mic` writes a single byte, half a sample, into it.
        let mut mic = OpenOptions::new().write(true).custom_flags(0o4000).open(dir.join("p02/mic")).unwrap();
        mic.write_all(&[0x7f]).unwrap();
        drop(mic);
        // The victim then speaks and is heard undistorted.
        let (client, link) = room.victim();
        let hz = 1_000.0;
        let talker = Talker::tone(client, link, hz, -30.0);
        wait_for("the victim's tone", TIMEOUT, || {
            let window = room.recording.rate_hz as usize / 2;
            let samples = room.recording.from(room.recording.len().checked_sub(window)?);
            ((goertzel_dbfs(&samples, room.recording.rate_hz, hz) + 30.0).abs() < 1.0).then_some(())
        })
        .unwrap();
        drop(talker);

        // The lock refuses a second reader of an ear. A reader that ignores locks takes sound from that ear only.
        let recording = client.record(link).unwrap();
        wait_for("sound", TIMEOUT, || (recording.len() > 24_000).then_some(())).unwrap();
        let format = "s16le 24000 1";
        assert_eq!(std::fs::read_to_string(dir.join("format")).unwrap().trim(), format);
        let ear = dir.join("p02/ear");
        let status = Command::new("flock").args(["--nonblock", "--exclusive"]).arg(&ear).arg("true").status().unwrap();
        assert!(!status.success(), "the listener must hold a lock on the ear");
        let steal = || Command::new("timeout").args(["1", "cat"]).arg(&ear).output().unwrap().stdout;
        wait_for("something to steal", TIMEOUT, || (!steal().is_empty()).then_some(())).unwrap();
    });
}

#[test]
fn client_that_reads_again_after_ten_seconds_hears_new_sound() {
    others_lose_nothing(|room| {
        let (client, link) = room.victim();
        // If a client doesn't read, its socket fills. Then the listener leaves out records of the client's stream.
        let mut stuck = client.get(link, "/listen").unwrap();
        assert_eq!(stuck.status, 200);
        let fresh = client.record(link).unwrap();
        wait_for("ten seconds of sound", TIMEOUT, || (fresh.len() > 240_000).then_some(())).unwrap();
        drop(fresh);
        // The client reads again: after the contents of its socket come new records, or the stream has ended.
        let mut text = Vec::new();
        let mut bytes = [0; 65_536];
        let recent = |text: &[u8]| String::from_utf8_lossy(text).rsplit("<b>").find_map(sound_seq);
        let ended = wait_for("a new record or the end", TIMEOUT, || match stuck.read(&mut bytes) {
            Ok(0) | Err(_) => Some(true),
            Ok(got) => {
                text.extend_from_slice(&bytes[..got]);
                (boot_time_ms().saturating_sub(recent(&text)?) < 1_000).then_some(false)
            }
        })
        .unwrap();
        println!("the stream that was not read {}", if ended { "was ended" } else { "continues with new sound" });
    });
}

/// Returns the SEQ of a sound record that may be incomplete.
fn sound_seq(record: &str) -> Option<u64> {
    record.strip_prefix("1,")?.split_once(',')?.0.parse().ok()
}

/// Returns the present time in ms by the clock that gives the SEQ of a stream's records, CLOCK_BOOTTIME. `/proc/uptime` has the same time: it also
/// counts suspend.
fn boot_time_ms() -> u64 {
    let uptime = std::fs::read_to_string("/proc/uptime").unwrap();
    (uptime.split(' ').next().unwrap().parse::<f64>().unwrap() * 1000.0) as u64
}
