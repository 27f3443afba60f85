//! Tests of `/listen.wav` and `/listen.ogg`, the streams for programs.

use crate::client::{Client, pcm};
use crate::rig::{Feed, Rig, tones};
use std::process::{Command, Stdio};
use std::time::Duration;

fn open(rig: &Rig) -> Client {
    let mut client = rig.connect();
    client.send(format!("GET /listen.wav HTTP/1.1\r\nHost: a\r\n{}\r\n", rig.bearer()));
    let answer = client.answer_head();
    assert_eq!((answer.status, answer.field("content-type")), (200, Some("audio/wav")));
    let head = client.take(44);
    assert_eq!(head, palabre_sound::wav::endless_head(24000));
    client
}

#[test]
fn silence_is_zeros_and_sound_stands_in_them_whole() {
    let rig = Rig::new();
    let mut client = open(&rig);
    assert!(pcm(&client.take(9600)).iter().all(|&sample| sample == 0));
    let feed = Feed::start(rig.ear(), 1, Duration::from_millis(20));
    let (mut samples, mut sounding) = (Vec::new(), 0);
    while sounding < 20 * 480 {
        samples.push(pcm(&client.take(2))[0]);
        sounding += usize::from(samples.last() != Some(&0));
    }
    // Zeros come before the first frame, and between two frames if the machine is late. Each frame is complete, and frames are in order.
    let frames: Vec<(i16, usize)> = samples.chunk_by(|a, b| a == b).map(|run| (run[0], run.len())).collect();
    let frames: Vec<(i16, usize)> = frames.into_iter().filter(|(value, _)| *value != 0).collect();
    assert!(frames.iter().all(|(_, length)| *length == 480), "{frames:?}");
    assert!(frames.is_sorted_by(|a, b| a.0 < b.0) && frames.len() == 20, "{frames:?}");
    drop(feed);
    // After the sound, the stream contains only zeros again.
    loop {
        if pcm(&client.take(960)).iter().all(|&sample| sample == 0) {
            break;
        }
    }
    assert!(pcm(&client.take(9600)).iter().all(|&sample| sample == 0));
}

#[test]
fn curl_and_ffmpeg_listen() {
    let rig = Rig::new();
    let url = format!("https://localhost:{}/listen.wav?key={}", rig.port, rig.key.as_str());
    let curl = Command::new("curl").args(["-skN", "--ipv4", &url]).stdout(Stdio::piped()).spawn().unwrap();
    let mut ffmpeg = Command::new("ffmpeg");
    ffmpeg.args(["-v", "error", "-i", "-", "-t", "0.5", "-f", "s16le", "-ar", "24000", "-ac", "1", "-"]);
    let mut curl = curl;
    let heard = ffmpeg.stdin(curl.stdout.take().unwrap()).output();
    curl.kill().unwrap();
    curl.wait().unwrap();
    match heard {
        Ok(heard) => assert_eq!(heard.stdout.len(), 24000, "{}", String::from_utf8_lossy(&heard.stderr)),
        Err(error) => {
            palabre_testing::not_shown("ffmpeg plays '/listen.wav'", &format!("unable to run 'ffmpeg': {error}"));
        }
    }
}

#[test]
fn curl_and_ffmpeg_listen_to_ogg_opus() {
    let rig = Rig::new();
    let url = format!("https://localhost:{}/listen.ogg?key={}", rig.port, rig.key.as_str());
    let mut curl = Command::new("curl").args(["-skN", "--ipv4", &url]).stdout(Stdio::piped()).spawn().unwrap();
    let mut ffmpeg = Command::new("ffmpeg");
    ffmpeg.args(["-v", "error", "-i", "-", "-t", "2", "-f", "s16le", "-ar", "24000", "-ac", "1", "-"]);
    let ffmpeg = ffmpeg.stdin(curl.stdout.take().unwrap()).stdout(Stdio::piped()).spawn();
    let _feed = Feed::of(tones, rig.ear(), 0, Duration::from_millis(20));
    let heard = ffmpeg.and_then(std::process::Child::wait_with_output);
    curl.kill().unwrap();
    curl.wait().unwrap();
    match heard {
        Ok(heard) => {
            let samples = pcm(&heard.stdout);
            assert!(samples.len().abs_diff(48_000) <= 480, "{}", samples.len());
            // The loudest part of the signal of `tones` is at 440 Hz. On a busy machine the feed is late, so measure the loudest 100 ms.
            let level_of = |part: &[i16], hz: f64| palabre_sound::measure::goertzel_dbfs(part, 24_000, hz);
            let parts = samples[36_000..].chunks_exact(2_400);
            let loudest = parts.max_by(|a, b| level_of(a, 440.0).total_cmp(&level_of(b, 440.0))).unwrap();
            let level = |hz: f64| level_of(loudest, hz);
            assert!(level(440.0) > -25.0 && level(440.0) > level(700.0) + 20.0, "{} {}", level(440.0), level(700.0));
        }
        Err(error) => {
            palabre_testing::not_shown("ffmpeg plays '/listen.ogg'", &format!("unable to run 'ffmpeg': {error}"));
        }
    }
}
