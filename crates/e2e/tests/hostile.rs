//! What hostile and clumsy peers of one participant do to the others: nothing.
#![allow(clippy::unwrap_used, missing_docs)]

use std::fs::OpenOptions;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::OpenOptionsExt;
use std::process::Command;

use palabre_e2e::client::{Client, Recording, Talker, Words};
use palabre_e2e::suite::{Link, PATIENCE, Suite};
use palabre_e2e::wait_for;
use palabre_sound::measure::goertzel_dbfs;

/// Two whole periods in a window of 5 ms, as is any other tone that is a multiple of 200 Hz: neither is mistaken for the other.
const TONE_HZ: f64 = 400.0;
const LEVEL_DBFS: f64 = -20.0;
/// Windows of 5 ms in which a word of 200 ms sounds: one may be a cross-fade, two lie partly outside.
const WHOLE_WORD: std::ops::RangeInclusive<usize> = 38..=41;
/// How often a test is made again because the machine let somebody run too late.
const TIMES: usize = 10;

/// p01 says words, p03 listens; p02 is the victim of whatever a test does.
struct Room {
    suite: Suite,
    recording: Recording,
    words: Words,
}

impl Room {
    fn new() -> Self {
        let suite = Suite::start(3).unwrap();
        let recording = suite.client.record(suite.link("p03")).unwrap();
        wait_for("the stream", PATIENCE, || (!recording.is_empty()).then_some(())).unwrap();
        let words = Words::say(&suite.client, suite.link("p01"), TONE_HZ, LEVEL_DBFS);
        let room = Self { suite, recording, words };
        room.wait_for_words(3);
        room
    }

    fn victim(&self) -> (&Client, &Link) {
        (&self.suite.client, self.suite.link("p02"))
    }

    /// The length of every word that was heard, in windows of 5 ms.
    fn words_heard(&self) -> Vec<usize> {
        let samples = self.recording.from(0);
        let window = self.recording.rate_hz as usize / 200;
        let sounds = |piece: &[i16]| goertzel_dbfs(piece, self.recording.rate_hz, TONE_HZ) > LEVEL_DBFS - 3.0;
        let windows: Vec<bool> = samples.chunks_exact(window).map(sounds).collect();
        windows.split(|sounds| !sounds).map(<[bool]>::len).filter(|&length| length > 0).collect()
    }

    fn wait_for_words(&self, more: usize) {
        let before = self.words_heard().len();
        wait_for("another word", PATIENCE, || (self.words_heard().len() >= before + more).then_some(())).unwrap();
    }

    /// What of all words since the beginning was not heard whole, and whether the stream ended meanwhile.
    fn losses(&self) -> Option<String> {
        let said = self.words.stop();
        let _ = wait_for("the last word", PATIENCE, || (self.words_heard().len() >= said).then_some(()));
        // The last one has ended when its silence has come.
        let length = self.recording.len();
        wait_for("silence", PATIENCE, || (self.recording.len() > length + 12_000).then_some(())).unwrap();
        let (heard, reconnections) = (self.words_heard(), self.recording.reconnections());
        println!("{} of {said} words heard, {reconnections} reconnections", heard.len());
        let whole = heard.len() == said && heard.iter().all(|length| WHOLE_WORD.contains(length));
        (!whole || reconnections > 0)
            .then(|| format!("{said} words said, of {heard:?} windows, {reconnections} reconnections"))
    }

    /// Whether every word was heard to its last sample, if some with a stumble: their speaker's listener was run too late.
    fn words_were_only_late(&self) -> bool {
        let total: usize = self.words_heard().iter().sum();
        let said = self.words.stop();
        (said * WHOLE_WORD.start()..=said * WHOLE_WORD.end()).contains(&total)
    }

    /// Whether the mixer says itself that it was run too late to play everything.
    fn mixer_was_starved(&self) -> bool {
        let counters = self.suite.mixer_counters().unwrap();
        println!("{counters}");
        !["skipped_ticks=0", "cut_ms=0"].iter().all(|none| counters.split_whitespace().any(|word| word == *none))
    }
}

/// While this is done to p02, p03 hears every word of p01 whole and his stream never ends.
fn others_lose_nothing(hostility: impl Fn(&Room)) {
    for time in 1..=TIMES {
        let room = Room::new();
        hostility(&room);
        room.wait_for_words(2);
        let Some(losses) = room.losses() else { return };
        assert!(time < TIMES && (room.mixer_was_starved() || room.words_were_only_late()), "{losses}");
        println!("the machine did not run everybody in time; once more");
    }
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

/// POSTs a body with its length and gives the status.
fn post(client: &Client, link: &Link, body: &[u8]) -> u16 {
    let length = format!("Content-Length: {}", body.len());
    client.request(link, "POST", "/speak", &[&bearer(link), &length], body).unwrap().status
}

#[test]
fn bodies_that_are_no_wav_or_lie_have_their_answers() {
    others_lose_nothing(|room| {
        let (client, link) = room.victim();
        assert_eq!(post(client, link, b""), 400, "an empty body");
        assert_eq!(post(client, link, &[b"\xff\xfb\x90\x00".as_slice(), &[0x55; 4096]].concat()), 415, "an MP3");
        assert_eq!(post(client, link, b"ID3\x04\0\0\0\0\0\x23TIT2 and so on, more than forty-four bytes of it"), 415);

        // A tenth of a second that says it were four gigabytes, then one that says it were nothing.
        let sound = vec![0u8; 4800];
        for lie in [u32::MAX, 0, 7] {
            assert_eq!(
                post(client, link, &[wav_head(24_000, 1, 16, false, lie), sound.clone()].concat()),
                200,
                "{lie}"
            );
        }
        // Stereo, 44.1 kHz, float is what many programs write.
        let float = [wav_head(44_100, 2, 32, true, 35_280), vec![0u8; 35_280]].concat();
        assert_eq!(post(client, link, &float), 200);

        // Ten gigabytes are announced and never come: nothing is reserved for them.
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
fn endless_heads_and_unfinished_handshakes_have_an_end() {
    others_lose_nothing(|room| {
        let (client, link) = room.victim();
        // Half the connections there may be, all silent.
        let silent: Vec<_> = (0..24).map(|_| TcpStream::connect(("127.0.0.1", link.port)).unwrap()).collect();
        let garbage: Vec<_> = (0..4)
            .map(|_| {
                let mut tcp = TcpStream::connect(("127.0.0.1", link.port)).unwrap();
                let _ = tcp.write_all(&[0x16, 0x03, 0x01, 0xff, 0xff, 0x01]);
                tcp
            })
            .collect();
        // Those who finish their handshake are served meanwhile or soon after: the silent ones are closed by the listener.
        wait_for("an answer", PATIENCE, || client.get(link, "/me").ok().filter(|answer| answer.status == 200)).unwrap();
        for mut tcp in silent.into_iter().chain(garbage) {
            tcp.set_read_timeout(Some(PATIENCE)).unwrap();
            let mut rest = Vec::new();
            let _ = tcp.read_to_end(&mut rest);
        }

        let long = format!("X-Long: {}", "x".repeat(1 << 20));
        // The listener may close before it has read the megabyte: then the answer is lost with the connection.
        if let Ok(answer) = client.request(link, "GET", "/me", &[&bearer(link), &long], b"") {
            assert_eq!(answer.status, 431);
        }
        assert_eq!(client.get(link, "/me").unwrap().status, 200);
    });
}

#[test]
fn websocket_chunks_of_the_wrong_size_end_that_websocket() {
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
fn pipes_of_others_do_not_care_about_stray_bytes_and_second_readers() {
    others_lose_nothing(|room| {
        let dir = room.suite.room();
        // One byte that belongs to no sample, from somebody in the group.
        let mut mic = OpenOptions::new().write(true).custom_flags(0o4000).open(dir.join("p02/mic")).unwrap();
        mic.write_all(&[0x7f]).unwrap();
        drop(mic);
        // The victim then speaks and is heard as he should be.
        let (client, link) = room.victim();
        let hz = 1_000.0;
        let talker = Talker::tone(client, link, hz, -30.0);
        wait_for("the victim's tone", PATIENCE, || {
            let window = room.recording.rate_hz as usize / 2;
            let samples = room.recording.from(room.recording.len().checked_sub(window)?);
            ((goertzel_dbfs(&samples, room.recording.rate_hz, hz) + 30.0).abs() < 1.0).then_some(())
        })
        .unwrap();
        drop(talker);

        // A second reader of an ear that a listener reads is refused by the lock; one who ignores locks only hurts that ear.
        let recording = client.record(link).unwrap();
        wait_for("sound", PATIENCE, || (recording.len() > 24_000).then_some(())).unwrap();
        let format = "s16le 24000 1";
        assert_eq!(std::fs::read_to_string(dir.join("format")).unwrap().trim(), format);
        let ear = dir.join("p02/ear");
        let status = Command::new("flock").args(["--nonblock", "--exclusive"]).arg(&ear).arg("true").status().unwrap();
        assert!(!status.success(), "the lock of an ear that is read was free");
        // What a thief takes out of it while somebody talks is missing there and nowhere else.
        let steal = || Command::new("timeout").args(["1", "cat"]).arg(&ear).output().unwrap().stdout;
        wait_for("something to steal", PATIENCE, || (!steal().is_empty()).then_some(())).unwrap();
    });
}

#[test]
fn a_reader_that_is_away_for_ten_seconds_hears_what_is_said_now() {
    others_lose_nothing(|room| {
        let (client, link) = room.victim();
        // A stream that nobody reads fills its socket and is skipped; the listener goes on for others.
        let mut stuck = client.get(link, "/listen").unwrap();
        assert_eq!(stuck.status, 200);
        let fresh = client.record(link).unwrap();
        wait_for("ten seconds of sound", PATIENCE, || (fresh.len() > 240_000).then_some(())).unwrap();
        drop(fresh);
        // The stuck one reads again: after what its socket held, records are as new as anybody's, or the stream has ended.
        let mut text = Vec::new();
        let mut bytes = [0; 65_536];
        let recent = |text: &[u8]| String::from_utf8_lossy(text).rsplit("<b>").find_map(sound_seq);
        let ended = wait_for("a new record or the end", PATIENCE, || match stuck.read(&mut bytes) {
            Ok(0) | Err(_) => Some(true),
            Ok(got) => {
                text.extend_from_slice(&bytes[..got]);
                (boot_time_ms().saturating_sub(recent(&text)?) < 1_000).then_some(false)
            }
        })
        .unwrap();
        println!("the stream that was stuck {}", if ended { "was ended" } else { "goes on with new sound" });
    });
}

/// SEQ of a sound record, cut as it may be.
fn sound_seq(record: &str) -> Option<u64> {
    record.strip_prefix("1,")?.split_once(',')?.0.parse().ok()
}

/// The clock of SEQ: `/proc/uptime` counts time since boot, with suspend.
fn boot_time_ms() -> u64 {
    let uptime = std::fs::read_to_string("/proc/uptime").unwrap();
    (uptime.split(' ').next().unwrap().parse::<f64>().unwrap() * 1000.0) as u64
}
