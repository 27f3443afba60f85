//! Compares the sound that one client sends with the sound that another receives, through TLS, HTTP or WebSocket, the pipes and the mixer.
//!
//! Without levelling every sample arrives unchanged. With `PALABRE_SOUND_DIR` the test sends the whole recordings instead of three seconds, and stores
//! both sounds there, for other programs to compare (docs/measurements.md).
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

use std::path::Path;
use std::time::{Duration, Instant};

use palabre_e2e::client::{Client, Recording};
use palabre_e2e::compare::convert;
use palabre_e2e::suite::{Link, Suite, TIMEOUT};
use palabre_e2e::wait_for;
use palabre_sound::measure::{goertzel_dbfs, rms_dbfs, tone};
use palabre_sound::wav;
use palabre_testing::undisturbed;
use tungstenite::client::IntoClientRequest;
use tungstenite::{Bytes, Message};

/// Starts a suite whose room has this rate and no levelling.
fn room_of(rate_hz: u32) -> Suite {
    Suite::start_configured(2, &format!("[room]\nrate-hz = {rate_hz}\nlevelling = false\n")).unwrap()
}

/// Returns speech with 100 ms of silence before and after it.
fn speech(name: &str, rate_hz: u32) -> Vec<i16> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("speech").join(name);
    let bytes = std::fs::read(path).unwrap();
    let head = wav::Head::read(&mut &bytes[..]).unwrap();
    let samples: Vec<i16> = bytes[44..].as_chunks::<2>().0.iter().map(|&pair| i16::from_le_bytes(pair)).collect();
    let silence = vec![0; rate_hz as usize / 10];
    [&silence, &convert(&samples, head.rate_hz, rate_hz)[..], &silence].concat()
}

/// A function that sends samples to a listener.
type Way = fn(&Client, &Link, u32, &[i16]);

/// Sends a whole WAV in one POST, as programs do. The listener passes its samples to the mixer in real time.
fn post(client: &Client, link: &Link, rate_hz: u32, samples: &[i16]) {
    let body = wav::little(rate_hz, samples);
    let lines = [format!("Authorization: Bearer {}", link.key), format!("Content-Length: {}", body.len())];
    let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
    assert_eq!(client.request(link, "POST", "/speak", &lines, &body).unwrap().status, 200);
}

/// Sends a chunk of 40 ms every 40 ms, as the page does.
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

/// Sends a sound to one listener and returns the sound that another listener plays.
fn carry(suite: &Suite, recording: &Recording, way: Way, rate_hz: u32, said: &[i16]) -> Vec<i16> {
    let since = recording.len();
    way(&suite.client, &suite.links[0], rate_hz, said);
    let second = recording.rate_hz as usize;
    let end = recording.len() + second;
    wait_for("another second", TIMEOUT, || (recording.len() >= end).then_some(())).unwrap();
    recording.from(since)
}

/// Returns the part of `heard` that corresponds to `said`, found by the first loud stretch of `said` that `heard` contains unchanged.
fn aligned<'a>(said: &[i16], heard: &'a [i16]) -> Option<&'a [i16]> {
    const STRETCH: usize = 256;
    let loud = said.chunks_exact(STRETCH).zip(0..).filter(|(place, _)| rms_dbfs(place) > -40.0).step_by(16);
    loud.filter_map(|(place, i)| {
        let at = heard.windows(STRETCH).position(|window| window == place)?.checked_sub(i * STRETCH)?;
        heard.get(at..at + said.len())
    })
    .next()
}

/// Returns the signal-to-noise ratio in dB, where noise is the difference. Infinite if there is none.
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
    let ways = [
        ("websocket", websocket as Way, "english-man-16000Hz-mono.wav"),
        ("post", post, "french-woman-16000Hz-mono.wav"),
    ];
    for (how, way, name) in ways {
        let mut said = speech(name, rate_hz);
        if std::env::var_os("PALABRE_SOUND_DIR").is_none() {
            said.truncate(3 * rate_hz as usize);
        }
        // The jitter buffer of a talker holds 15 ms at first, so sound that is later than that is not heard unchanged.
        undisturbed(|| {
            // Each repetition has a new mixer, since a jitter buffer remembers disturbances for a minute.
            let suite = room_of(rate_hz);
            let recording = suite.client.record(&suite.links[1]).unwrap();
            assert_eq!(recording.rate_hz, rate_hz);
            let heard = carry(&suite, &recording, way, rate_hz, &said);
            let heard = aligned(&said, &heard).expect("an unchanged stretch of speech");
            keep(&format!("{how}-said.wav"), rate_hz, &said);
            keep(&format!("{how}-heard.wav"), rate_hz, heard);
            let snr_db = snr_db(&said, heard);
            println!("{how}: aligned SNR {snr_db} dB");
            assert!(snr_db.is_infinite(), "{how}: {snr_db} dB; mixer: {}", suite.mixer_counters().unwrap());
        });
    }
}

#[test]
fn tone_of_10_khz_passes_a_room_of_24_khz() {
    // Test also clients with a sample rate other than the room's. The tone is too quiet for the limiter.
    for rate_hz in [48_000, 44_100, 24_000] {
        let said = tone(rate_hz, 10_000.0, -20.0, rate_hz as usize * 2);
        undisturbed(|| {
            let suite = room_of(24_000);
            let recording = suite.client.record(&suite.links[1]).unwrap();
            let heard = carry(&suite, &recording, post, rate_hz, &said);
            // The second with the highest level lies completely inside the tone.
            let levels = heard.windows(24_000).step_by(2_400).map(|second| goertzel_dbfs(second, 24_000, 10_000.0));
            let gain_db = levels.fold(f64::NEG_INFINITY, f64::max) - goertzel_dbfs(&said, rate_hz, 10_000.0);
            println!("10 kHz at {rate_hz} Hz: gain {gain_db:.2} dB");
            assert!(gain_db.abs() < 1.0, "{gain_db}");
        });
    }
}
