//! `palabre record` with the real supervisor, mixer and recorder.
#![allow(clippy::unwrap_used, missing_docs)]

mod common;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output};
use std::time::{Duration, SystemTime};

use common::{descendants, palabre, sibling, signal, stderr, stdout, wait_for};
use palabre_room::{Format, RoomDir};
use palabre_sound::measure;
use palabre_sound::wav::{self, Head};
use serde_json::Value;

const RATE_HZ: u32 = 24_000;

/// A supervisor without participants, a mixer and a room.
struct TestRoom {
    children: [Child; 2],
    directory: tempfile::TempDir,
    room: RoomDir,
}

impl TestRoom {
    fn new() -> Self {
        let directory = tempfile::Builder::new().prefix("palabre-r-").tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        fs::create_dir_all(path("etc/participants.d")).unwrap();
        let room = RoomDir::new(path("run/rooms/main"));
        room.create(Format::default()).unwrap();
        sibling("palabre-recorder");
        let mixer = Command::new(sibling("palabre-mixer")).arg("--rooms").arg(path("run/rooms")).spawn().unwrap();
        let test = Self { children: [supervisor(directory.path()), mixer], directory, room };
        test.wait_for_supervisor();
        test
    }

    fn wait_for_supervisor(&self) {
        wait_for("the supervisor", || self.palabre(&["record", "status"]).status.success().then_some(()));
    }

    /// Ends the supervisor by this signal and starts another one.
    fn start_supervisor_after(&mut self, signal_name: &str) {
        signal(self.children[0].id(), signal_name);
        self.children[0].wait().unwrap();
        self.children[0] = supervisor(self.directory.path());
        self.wait_for_supervisor();
    }

    fn palabre(&self, arguments: &[&str]) -> Output {
        palabre().arg("--run").arg(self.directory.path().join("run")).args(arguments).output().unwrap()
    }

    /// Starts a process that plays a tone as participant `name`, until the test ends it.
    fn play_tone(&self, name: &str, freq_hz: f64) -> Child {
        let path = self.directory.path().join(format!("{name}.wav"));
        fs::write(&path, wav::little(RATE_HZ, &measure::tone(RATE_HZ, freq_hz, -20.0, 24_000))).unwrap();
        let run = self.directory.path().join("run");
        palabre().arg("--run").arg(run).args(["play", "--loop", "--name", name]).arg(path).spawn().unwrap()
    }

    /// Returns the directory of the only recording.
    fn recording(&self) -> PathBuf {
        let mut entries = fs::read_dir(self.directory.path().join("recordings")).unwrap();
        let path = entries.next().unwrap().unwrap().path();
        assert!(entries.next().is_none());
        path
    }

    fn recorder(&self) -> Option<u32> {
        let is_recorder = |pid: &u32| {
            let line = fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            line.contains("palabre-recorder") && common::is_running(*pid)
        };
        descendants(self.children[0].id()).into_iter().find(is_recorder)
    }
}

/// Starts a supervisor with its files in a directory.
fn supervisor(directory: &Path) -> Child {
    let mut supervisor = Command::new(sibling("palabre-supervisor"));
    for (flag, name) in [("--config", "etc"), ("--run", "run"), ("--recordings", "recordings")] {
        supervisor.arg(flag).arg(directory.join(name));
    }
    supervisor.spawn().unwrap()
}

impl Drop for TestRoom {
    fn drop(&mut self) {
        for child in &mut self.children {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Returns the samples of a track, as many as its header says.
fn samples(path: &Path) -> Option<Vec<i16>> {
    let bytes = fs::read(path).ok()?;
    let size = Head::read(&mut &bytes[..]).ok()?.data_bytes? as usize;
    Some(bytes.get(44..44 + size)?.chunks_exact(2).map(|x| i16::from_le_bytes([x[0], x[1]])).collect())
}

fn has_tone(path: &Path, freq_hz: f64) -> bool {
    let level = |piece: &[i16]| measure::goertzel_dbfs(piece, RATE_HZ, freq_hz);
    samples(path).is_some_and(|samples| samples.chunks_exact(4_800).any(|piece| level(piece) > -35.0))
}

#[test]
fn every_speaker_has_a_track_and_a_killed_recorder_continues() {
    let test = TestRoom::new();
    assert!(stdout(&test.palabre(&["record", "status"])).contains("no room is recorded"));
    let printed = stdout(&test.palabre(&["record", "start"]));
    let directory = test.recording();
    assert!(printed.contains(directory.to_str().unwrap()), "{printed}");
    assert!(test.room.recording().exists());
    let mut alice = test.play_tone("alice", 440.0);
    wait_for("alice's track", || has_tone(&directory.join("alice.wav"), 440.0).then_some(()));
    let first = test.recorder().unwrap();
    signal(first, "KILL");
    wait_for("another recorder", || test.recorder().filter(|pid| *pid != first));
    let mut bob = test.play_tone("bob", 1000.0);
    wait_for("bob's track", || has_tone(&directory.join("bob.wav"), 1000.0).then_some(()));
    let second = test.recorder().unwrap();
    stdout(&test.palabre(&["restart", "supervisor"]));
    assert_eq!(test.recorder(), Some(second), "the recorder survives the restart of the supervisor");
    let status = stdout(&test.palabre(&["record", "status"]));
    let row = status.lines().nth(1).unwrap();
    assert!(row.starts_with("on     main") && row.ends_with(directory.to_str().unwrap()), "{status}");
    let status: Value = serde_json::from_str(&stdout(&test.palabre(&["record", "status", "--json"]))).unwrap();
    assert_eq!((&status["recordings"][0]["room"], &status["recordings"][0]["restarts"]), (&"main".into(), &1.into()));
    assert!(status["storage"]["free_bytes"].as_u64().unwrap() < status["storage"]["total_bytes"].as_u64().unwrap());
    let other = stdout(&test.palabre(&["record", "status", "--room", "other"]));
    assert!(other.contains("room 'other' is not recorded") && other.contains("are free"), "{other}");
    assert!(stderr(&test.palabre(&["record", "start"]), 1).contains("a recording is already running"));
    assert!(stdout(&test.palabre(&["record", "stop"])).contains(directory.to_str().unwrap()));
    assert!(!test.room.recording().exists());
    assert!(test.recorder().is_none());
    let tracks = ["alice.wav", "bob.wav", "_room.wav"].map(|name| samples(&directory.join(name)).unwrap());
    assert!(tracks[0].len() == tracks[1].len() && tracks[1].len() == tracks[2].len());
    assert!(has_tone(&directory.join("_room.wav"), 440.0) && has_tone(&directory.join("_room.wav"), 1000.0));
    for child in [&mut alice, &mut bob] {
        signal(child.id(), "TERM");
        child.wait().unwrap();
    }
}

#[test]
fn recording_goes_on_after_a_crash_and_a_stop_of_the_supervisor() {
    let mut test = TestRoom::new();
    stdout(&test.palabre(&["record", "start"]));
    let directory = test.recording();
    for (signal_name, name, freq_hz) in [("KILL", "alice", 440.0), ("TERM", "bob", 1000.0)] {
        test.start_supervisor_after(signal_name);
        wait_for("a recorder", || test.recorder());
        let mut speaker = test.play_tone(name, freq_hz);
        let track = directory.join(format!("{name}.wav"));
        wait_for("the track", || has_tone(&track, freq_hz).then_some(()));
        signal(speaker.id(), "TERM");
        speaker.wait().unwrap();
    }
    assert_eq!(test.recording(), directory, "the files are continued in the same directory");
    assert!(test.room.recording().exists());
    stdout(&test.palabre(&["record", "stop"]));
    let [bob, all] = ["bob.wav", "_room.wav"].map(|name| samples(&directory.join(name)).unwrap().len());
    assert_eq!(bob, all, "the tracks are aligned");
    test.start_supervisor_after("KILL");
    assert!(
        stdout(&test.palabre(&["record", "status"])).contains("no room is recorded"),
        "a stopped recording stays stopped"
    );
}

#[test]
fn old_recording_is_deleted_if_the_configuration_says_so() {
    let mut test = TestRoom::new();
    let old = test.directory.path().join("recordings/main-20260101T000000Z");
    fs::create_dir_all(&old).unwrap();
    for name in ["alice.wav", "_room.002.wav", "notes.txt"] {
        let file = fs::File::create(old.join(name)).unwrap();
        file.set_modified(SystemTime::now() - Duration::from_secs(3 * 24 * 60 * 60)).unwrap();
    }
    test.start_supervisor_after("TERM");
    stdout(&test.palabre(&["record", "start"]));
    assert!(old.join("alice.wav").exists(), "without a limit all recordings stay");
    stdout(&test.palabre(&["record", "stop"]));
    fs::write(test.directory.path().join("etc/palabre.toml"), "[recordings]\nkeep-days = 2\n").unwrap();
    test.start_supervisor_after("TERM");
    wait_for("the deletion", || (!old.join("alice.wav").exists()).then_some(()));
    wait_for("the deletion", || (!old.join("_room.002.wav").exists()).then_some(()));
    assert!(old.join("notes.txt").exists());
    let recordings = fs::read_dir(test.directory.path().join("recordings")).unwrap().count();
    assert_eq!(recordings, 2, "the new recording stays");
}

#[test]
fn recording_that_is_impossible_is_refused() {
    let test = TestRoom::new();
    assert!(
        stderr(&test.palabre(&["record", "start", "--room", "nowhere"]), 1)
            .contains("there is no such room; 'palabre rooms' lists all rooms")
    );
    assert!(stderr(&test.palabre(&["record", "stop"]), 1).contains("no recording is running"));
    // Put a file at the path of the recordings' directory, so that the recorder fails.
    fs::write(test.directory.path().join("recordings"), "").unwrap();
    let printed = stderr(&test.palabre(&["record", "start"]), 1);
    assert!(printed.contains("unable to record room 'main'"), "{printed}");
    let printed = stderr(&test.palabre(&["record", "status"]), 1);
    assert!(printed.contains("no longer recorded"), "{printed}");
    let status = stdout(&test.palabre(&["status", "--json"]));
    assert!(status.contains("is no longer recorded"), "{status}");
    let stopped = stdout(&test.palabre(&["record", "stop"]));
    assert!(stopped.contains("the recording had already ended by itself: "), "{stopped}");
    // After the file was removed, recording works again.
    fs::remove_file(test.directory.path().join("recordings")).unwrap();
    stdout(&test.palabre(&["record", "start"]));
    stdout(&test.palabre(&["record", "stop"]));
}
