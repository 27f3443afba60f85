//! `palabre play` and `palabre tap` with the real mixer.
#![allow(clippy::unwrap_used, missing_docs)]

mod common;

use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use common::{palabre, sibling, signal, stderr, stdout, wait_for};
use palabre_room::{Format, Levelling, PersonalGain, PipeReader, RoomDir, Start};
use palabre_sound::measure;
use palabre_sound::wav::{self, Head};
use palabre_sound::wav_examples::wavs;

const RATE_HZ: u32 = 24_000;
const DBFS: f64 = -20.0;

/// A mixer and its room `main` with bob.
struct TestRoom {
    mixer: Child,
    run: tempfile::TempDir,
    room: RoomDir,
}

impl TestRoom {
    fn new() -> Self {
        let run = tempfile::tempdir().unwrap();
        let room = RoomDir::new(run.path().join("rooms/main"));
        room.create(Format::default()).unwrap();
        room.participant(&"bob".parse().unwrap()).create().unwrap();
        let mixer = Command::new(sibling("palabre-mixer")).arg("--rooms").arg(run.path().join("rooms")).spawn();
        Self { mixer: mixer.unwrap(), run, room }
    }

    fn palabre(&self, arguments: &[&str]) -> Command {
        let mut command = palabre();
        command.arg("--run").arg(self.run.path()).args(arguments);
        command
    }

    /// Writes a WAV of a tone; returns its path.
    fn tone(&self, name: &str, rate_hz: u32, freq_hz: f64, ms: u32) -> String {
        let path = self.run.path().join(name);
        let samples = measure::tone(rate_hz, freq_hz, DBFS, (rate_hz / 1000 * ms) as usize);
        fs::write(&path, wav::little(rate_hz, &samples)).unwrap();
        path.to_str().unwrap().to_owned()
    }

    fn participants(&self) -> Vec<String> {
        self.room.participants().unwrap().iter().map(ToString::to_string).collect()
    }

    fn tap(&self, name: &str) -> Tap {
        let mut child = self.palabre(&["tap", name, "--raw"]).stdout(Stdio::piped()).spawn().unwrap();
        // When the tap writes the first bytes, it has joined the room.
        child.stdout.as_mut().unwrap().read_exact(&mut [0; 2]).unwrap();
        Tap { child }
    }
}

impl Drop for TestRoom {
    fn drop(&mut self) {
        let _ = self.mixer.kill();
        let _ = self.mixer.wait();
    }
}

/// A running tap.
struct Tap {
    child: Child,
}

impl Tap {
    /// Reads the next 200 ms.
    fn read(&mut self) -> Vec<i16> {
        let mut bytes = vec![0; RATE_HZ as usize / 5 * 2];
        self.child.stdout.as_mut().unwrap().read_exact(&mut bytes).unwrap();
        bytes.chunks_exact(2).map(|sample| i16::from_le_bytes([sample[0], sample[1]])).collect()
    }

    /// Returns the maximum level of a tone in pieces of 200 ms.
    fn max_level(&mut self, freq_hz: f64, seconds: usize) -> f64 {
        let levels = (0..seconds * 5).map(|_| measure::goertzel_dbfs(&self.read(), RATE_HZ, freq_hz));
        levels.fold(f64::NEG_INFINITY, f64::max)
    }

    fn wait_for(&mut self, freq_hz: f64) {
        let heard = (0..300).any(|_| measure::goertzel_dbfs(&self.read(), RATE_HZ, freq_hz) > DBFS - 6.0);
        assert!(heard, "{freq_hz} Hz was never heard");
    }

    fn end(mut self) {
        signal(self.child.id(), "INT");
        assert!(wait_for("the end", || self.child.try_wait().unwrap()).success());
    }
}

impl Drop for Tap {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn played_file_is_heard_and_the_participant_is_removed() {
    let test = TestRoom::new();
    let file = test.tone("Greeting 1.wav", 44_100, 1000.0, 1_600);
    let mut bob = test.tap("bob");
    let mut play = test.palabre(&["play", &file]).spawn().unwrap();
    let level = bob.max_level(1000.0, 4);
    assert!((level - DBFS).abs() < 6.0, "{level}");
    assert!(play.wait().unwrap().success());
    assert_eq!(test.participants(), ["bob", "tap-bob"]);
    bob.end();
    assert_eq!(test.participants(), ["bob"]);
}

#[test]
fn gain_changes_the_level() {
    let test = TestRoom::new();
    let file = test.tone("soft.wav", RATE_HZ, 1000.0, 1_600);
    let mut bob = test.tap("bob");
    let mut level = |gain: &str| {
        let mut play = test.palabre(&["play", &file, "--gain", gain]).spawn().unwrap();
        let level = bob.max_level(1000.0, 4);
        assert!(play.wait().unwrap().success());
        level
    };
    let difference = level("0") - level("-20");
    assert!((difference - 20.0).abs() < 3.0, "{difference}");
}

#[test]
fn loop_plays_until_interrupted() {
    let test = TestRoom::new();
    let file = test.tone("jingle.wav", RATE_HZ, 1000.0, 90);
    let mut bob = test.tap("bob");
    let mut play = test.palabre(&["play", &file, "--loop", "--name", "radio"]).spawn().unwrap();
    for _ in 0..3 {
        bob.wait_for(1000.0);
    }
    assert_eq!(test.participants(), ["bob", "radio", "tap-bob"]);
    let radio = test.room.participant(&"radio".parse().unwrap());
    assert_eq!(radio.levelling().unwrap(), Some(Levelling::Off), "a file is played at its own loudness");
    signal(play.id(), "INT");
    assert!(wait_for("the end", || play.try_wait().unwrap()).success());
    assert_eq!(test.participants(), ["bob", "tap-bob"]);
}

#[test]
fn tap_hears_the_same_as_the_tapped_participant() {
    let test = TestRoom::new();
    let file = test.tone("carol.wav", RATE_HZ, 1000.0, 300);
    let other = test.tone("dave.wav", RATE_HZ, 1700.0, 300);
    let mut plays = [("carol", file), ("dave", other)]
        .map(|(name, file)| test.palabre(&["play", &file, "--loop", "--name", name]).spawn().unwrap());
    let carol = wait_for("carol", || {
        let ear = test.room.participant(&"carol".parse().unwrap()).ear();
        PipeReader::open(&ear, Format::default(), Start::Discard).ok()
    });
    let mut tap = test.tap("carol");
    tap.wait_for(1700.0);
    // Measure carol's own tone only after the start of dave's tone, which contains all frequencies.
    let own = tap.max_level(1000.0, 1);
    assert!(own < DBFS - 20.0, "{own}");
    // The tap must apply changes of the tapped participant's personal gains.
    let directory = test.room.participant(&"carol".parse().unwrap());
    directory.set_gains(&[PersonalGain::mute("dave".parse().unwrap())]).unwrap();
    assert!((0..300).any(|_| tap.read().iter().all(|sample| *sample == 0)), "dave is still heard");
    for play in &mut plays {
        signal(play.id(), "TERM");
        assert!(wait_for("the end", || play.try_wait().unwrap()).success());
    }
    drop(carol);
}

#[test]
fn only_samples_are_played_from_standard_input_whatever_chunks_it_has() {
    let run = tempfile::tempdir().unwrap();
    let room = RoomDir::new(run.path().join("rooms/main"));
    room.create(Format::default()).unwrap();
    let samples = measure::tone(RATE_HZ, 440.0, DBFS, 960);
    // No mixer runs: this test reads each `mic`.
    std::thread::scope(|scope| {
        for (number, (order, wav)) in wavs(RATE_HZ, &samples).into_iter().enumerate() {
            let (room, run, samples) = (&room, &run, &samples);
            scope.spawn(move || {
                let name = format!("wav-{number}");
                let mut play = palabre();
                play.arg("--run").arg(run.path()).args(["play", "-", "--name", &name]).stdin(Stdio::piped());
                let mut play = play.spawn().unwrap();
                play.stdin.take().unwrap().write_all(&wav).unwrap();
                let mic = room.participant(&name.parse().unwrap()).mic();
                let mut mic = wait_for("the pipe", || PipeReader::open(&mic, Format::default(), Start::Keep).ok());
                let mut heard = Vec::new();
                let status = wait_for("the end", || {
                    mic.read(Instant::now(), &mut heard, 1 << 16).unwrap();
                    play.try_wait().unwrap()
                });
                assert!(status.success() && heard == *samples, "{order}: {} samples", heard.len());
            });
        }
    });
}

/// Returns the duration in a WAV's header, which must not exceed the file.
fn header_seconds(path: &Path) -> f64 {
    let bytes = fs::read(path).unwrap();
    let head = Head::read(&mut &bytes[..]).unwrap();
    let size = head.data_bytes.unwrap();
    assert!(size <= bytes.len() as u64 - 44);
    size as f64 / 2.0 / f64::from(head.rate_hz)
}

#[test]
fn tapped_file_is_a_valid_wav_at_any_time() {
    let test = TestRoom::new();
    let path: PathBuf = test.run.path().join("evening.wav");
    let mut tap = test.palabre(&["tap", "bob"]).stdout(File::create(&path).unwrap()).spawn().unwrap();
    wait_for("a second", || (fs::metadata(&path).unwrap().len() > 44 && header_seconds(&path) >= 1.0).then_some(()));
    signal(tap.id(), "INT");
    assert!(wait_for("the end", || tap.try_wait().unwrap()).success());
    let bytes = fs::read(&path).unwrap();
    let silence = vec![0; (bytes.len() - 44) / 2];
    assert!(bytes == wav::little(RATE_HZ, &silence));
}

#[test]
fn tap_into_a_pipe_starts_with_an_endless_header() {
    let test = TestRoom::new();
    let mut tap = test.palabre(&["tap", "bob"]).stdout(Stdio::piped()).spawn().unwrap();
    let mut head = [0; 44];
    tap.stdout.as_mut().unwrap().read_exact(&mut head).unwrap();
    assert_eq!(head[..], wav::endless_head(RATE_HZ));
    // If the reader closes the pipe, the tap ends without an error.
    drop(tap.stdout.take());
    assert!(wait_for("the end", || tap.try_wait().unwrap()).success());
    assert_eq!(test.participants(), ["bob"]);
}

#[test]
fn errors_are_reported_and_no_participant_is_added() {
    let test = TestRoom::new();
    let file = test.tone("tone.wav", RATE_HZ, 1000.0, 100);
    let text = test.run.path().join("text.wav");
    fs::write(&text, "these are words").unwrap();
    for (arguments, code, why) in [
        (&["play", &file, "--name", "bob"][..], 1, "the name 'bob' is in use"),
        (&["play", &file, "--room", "nowhere"], 1, "unable to join room 'nowhere'"),
        (&["play", text.to_str().unwrap()], 1, "text.wav': the file or stream is not a WAV"),
        (&["play", "/nowhere.wav"], 1, "No such file"),
        (&["play", "-", "--loop"], 2, "with standard input"),
        (&["play", &file, "--gain", "21"], 2, "a gain is a number of decibels"),
        (&["play", &file, "--gain", "mute"], 2, "decibels"),
        (&["tap", "zoe"], 1, "unable to tap 'zoe': no such participant"),
    ] {
        let printed = stderr(&test.palabre(arguments).output().unwrap(), code);
        assert!(printed.contains(why), "{arguments:?}: {printed}");
        assert_eq!(test.participants(), ["bob"]);
    }
    let played = test.palabre(&["play", &file]).output().unwrap();
    assert_eq!(stdout(&played), "");
}
