//! What becomes of sound on its whole way from one listener to another: TLS, HTTP or WebSocket, pipes, the mixer, TLS.
//!
//! With levelling off every sample arrives as it was said, which is more than any figure could show: the aligned SNR is
//! infinite, and PESQ of a sound with itself is the most that PESQ can give (4.64). `PALABRE_SOUND_DIR` says where to keep
//! what was said and what was heard, for whoever wants to see what another judge says of them (docs/measurements.md).
#![allow(clippy::unwrap_used, missing_docs)]

use std::path::Path;
use std::time::{Duration, Instant};

use palabre_e2e::client::{Client, Recording};
use palabre_e2e::compare::convert;
use palabre_e2e::suite::{Link, PATIENCE, Suite};
use palabre_e2e::wait_for;
use palabre_sound::measure::{goertzel_dbfs, rms_dbfs, tone};
use palabre_sound::wav;
use tungstenite::client::IntoClientRequest;
use tungstenite::{Bytes, Message};

/// A machine that is shared lets a process stand still for longer than any buffer lasts, and then sound is lost. What the
/// suite itself does to sound it does every time.
const TIMES: usize = 12;

/// A room of this rate in which nothing is levelled.
fn room_of(rate_hz: u32) -> Suite {
    Suite::start_configured(2, &format!("[room]\nrate-hz = {rate_hz}\nlevelling = false\n")).unwrap()
}

/// A little silence, speech, and a little silence.
fn speech(name: &str, rate_hz: u32) -> Vec<i16> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("speech").join(name);
    let bytes = std::fs::read(path).unwrap();
    let head = wav::Head::read(&mut &bytes[..]).unwrap();
    let samples: Vec<i16> = bytes[44..].as_chunks::<2>().0.iter().map(|&pair| i16::from_le_bytes(pair)).collect();
    let silence = vec![0; rate_hz as usize / 10];
    [&silence, &convert(&samples, head.rate_hz, rate_hz)[..], &silence].concat()
}

/// How somebody speaks.
type Way = fn(&Client, &Link, u32, &[i16]);

/// As a program does: a whole WAV, which the listener says in real time.
fn post(client: &Client, link: &Link, rate_hz: u32, samples: &[i16]) {
    let body = wav::little(rate_hz, samples);
    let lines = [format!("Authorization: Bearer {}", link.key), format!("Content-Length: {}", body.len())];
    let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
    assert_eq!(client.request(link, "POST", "/speak", &lines, &body).unwrap().status, 200);
}

/// As a page does: chunks of 40 ms, one after the other.
fn websocket(client: &Client, link: &Link, rate_hz: u32, samples: &[i16]) {
    let mut request = format!("wss://localhost:{}/speak?page=sound", link.port).into_client_request().unwrap();
    request.headers_mut().insert("Authorization", format!("Bearer {}", link.key).parse().unwrap());
    let (mut socket, _) = tungstenite::client(request, client.connect(link).unwrap()).unwrap();
    let start = Instant::now();
    for (chunk, number) in samples.chunks(rate_hz as usize / 25).zip(0u32..) {
        let captured_ms = f64::from(number) * 40.0;
        let mut bytes = [u64::from(number).to_le_bytes(), captured_ms.to_le_bytes()].concat();
        bytes.extend(chunk.iter().flat_map(|sample| sample.to_le_bytes()));
        socket.send(Message::Binary(Bytes::from(bytes))).unwrap();
        std::thread::sleep(
            (start + Duration::from_millis(40) * (number + 1)).saturating_duration_since(Instant::now()),
        );
    }
    let _ = socket.close(None);
}

/// Says it to one listener and gives what the other made of it.
fn carry(suite: &Suite, recording: &Recording, way: Way, rate_hz: u32, said: &[i16]) -> Vec<i16> {
    let since = recording.len();
    way(&suite.client, &suite.links[0], rate_hz, said);
    let second = recording.rate_hz as usize;
    let end = recording.len() + second;
    wait_for("a second more", PATIENCE, || (recording.len() >= end).then_some(())).unwrap();
    recording.from(since)
}

/// The part of `heard` that `said` has become: found by the first of its loud places that came whole.
fn aligned<'a>(said: &[i16], heard: &'a [i16]) -> Option<&'a [i16]> {
    const PLACE: usize = 256;
    let loud = said.chunks_exact(PLACE).zip(0..).filter(|(place, _)| rms_dbfs(place) > -40.0).step_by(16);
    loud.filter_map(|(place, i)| {
        let at = heard.windows(PLACE).position(|window| window == place)?.checked_sub(i * PLACE)?;
        heard.get(at..at + said.len())
    })
    .next()
}

/// What was said against what is different, in dB: infinite where nothing is.
fn snr_db(said: &[i16], heard: &[i16]) -> f64 {
    let square = |x: f64| x * x;
    let signal: f64 = said.iter().map(|&a| square(f64::from(a))).sum();
    let noise: f64 = said.iter().zip(heard).map(|(&a, &b)| square(f64::from(a) - f64::from(b))).sum();
    10.0 * (signal / noise).log10()
}

fn keep(name: &str, rate_hz: u32, samples: &[i16]) {
    if let Some(dir) = std::env::var_os("PALABRE_SOUND_DIR") {
        std::fs::write(Path::new(&dir).join(name), wav::little(rate_hz, samples)).unwrap();
    }
}

#[test]
fn speech_arrives_sample_for_sample() {
    let rate_hz = 48_000;
    let suite = room_of(rate_hz);
    let recording = suite.client.record(&suite.links[1]).unwrap();
    assert_eq!(recording.rate_hz, rate_hz);
    let ways = [
        ("websocket", websocket as Way, "english-man-16000Hz-mono.wav"),
        ("post", post, "french-woman-16000Hz-mono.wav"),
    ];
    for (how, way, name) in ways {
        let said = speech(name, rate_hz);
        let mut figures = Vec::new();
        while figures.last().is_none_or(|&snr_db: &f64| snr_db.is_finite()) {
            assert!(figures.len() < TIMES, "{how}: aligned SNR of each time, in dB: {figures:?}");
            let heard = carry(&suite, &recording, way, rate_hz, &said);
            let heard = aligned(&said, &heard).unwrap_or_default();
            figures.push(if heard.is_empty() { 0.0 } else { snr_db(&said, heard) });
            keep(&format!("{how}-said.wav"), rate_hz, &said);
            keep(&format!("{how}-heard.wav"), rate_hz, heard);
        }
        println!("{how}: aligned SNR of each time, in dB: {figures:?}");
    }
}

#[test]
fn ten_kilohertz_pass_a_room_of_24_khz() {
    let suite = room_of(24_000);
    let recording = suite.client.record(&suite.links[1]).unwrap();
    // From a program whose rate isn't the room's, and not so loud that anything would turn it down.
    for rate_hz in [48_000, 44_100, 24_000] {
        let said = tone(rate_hz, 10_000.0, -20.0, rate_hz as usize * 2);
        let mut figures = Vec::new();
        while figures.last().is_none_or(|db: &f64| db.abs() > 1.0) {
            assert!(figures.len() < TIMES, "10 kHz come out louder by, each time, in dB: {figures:?}");
            let heard = carry(&suite, &recording, post, rate_hz, &said);
            // The level of a second of it, wherever that lies.
            let levels = heard.windows(24_000).step_by(2_400).map(|second| goertzel_dbfs(second, 24_000, 10_000.0));
            figures.push(levels.fold(f64::NEG_INFINITY, f64::max) - goertzel_dbfs(&said, rate_hz, 10_000.0));
        }
        println!("10 kHz from {rate_hz} Hz come out louder by, each time, in dB: {figures:.2?}");
    }
}
