//! `palabre record` with the real supervisor, mixer and recorder.
#![allow(clippy::unwrap_used, missing_docs)]

mod common;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output};

use common::{descendants, palabre, sibling, signal, stderr, stdout, wait_for};
use palabre_room::{Format, RoomDir};
use palabre_sound::measure;
use palabre_sound::wav::{self, Head};

const RATE_HZ: u32 = 24_000;

/// A supervisor without participants, a mixer, and a room.
struct House {
    children: [Child; 2],
    directory: tempfile::TempDir,
    room: RoomDir,
}

impl House {
    fn new() -> Self {
        let directory = tempfile::Builder::new().prefix("palabre-r-").tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        fs::create_dir_all(path("etc/participants.d")).unwrap();
        let room = RoomDir::new(path("run/rooms/main"));
        room.create(Format::default()).unwrap();
        sibling("palabre-recorder");
        let mixer = Command::new(sibling("palabre-mixer")).arg("--rooms").arg(path("run/rooms")).spawn().unwrap();
        let mut supervisor = Command::new(sibling("palabre-supervisor"));
        for (flag, name) in [("--config", "etc"), ("--run", "run"), ("--recordings", "recordings")] {
            supervisor.arg(flag).arg(path(name));
        }
        let house = Self { children: [supervisor.spawn().unwrap(), mixer], directory, room };
        wait_for("the supervisor", || house.palabre(&["record", "status"]).status.success().then_some(()));
        house
    }

    fn palabre(&self, arguments: &[&str]) -> Output {
        palabre().arg("--run").arg(self.directory.path().join("run")).args(arguments).output().unwrap()
    }

    /// Somebody says a tone for a while.
    fn speak(&self, name: &str, freq_hz: f64) -> Child {
        let path = self.directory.path().join(format!("{name}.wav"));
        fs::write(&path, wav::little(RATE_HZ, &measure::tone(RATE_HZ, freq_hz, -20.0, 24_000))).unwrap();
        let run = self.directory.path().join("run");
        palabre().arg("--run").arg(run).args(["play", "--loop", "--name", name]).arg(path).spawn().unwrap()
    }

    /// The directory of the only recording.
    fn recording(&self) -> PathBuf {
        let mut entries = fs::read_dir(self.directory.path().join("recordings")).unwrap();
        let path = entries.next().unwrap().unwrap().path();
        assert!(entries.next().is_none());
        path
    }

    fn recorder(&self) -> Option<u32> {
        descendants(self.children[0].id()).into_iter().find(|&pid| common::is_running(pid))
    }
}

impl Drop for House {
    fn drop(&mut self) {
        for child in &mut self.children {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// What a track's head tells of.
fn told(path: &Path) -> Option<Vec<i16>> {
    let bytes = fs::read(path).ok()?;
    let (_, told) = Head::read_with_size(&mut &bytes[..]).ok()?;
    Some(bytes.get(44..44 + told as usize)?.chunks_exact(2).map(|x| i16::from_le_bytes([x[0], x[1]])).collect())
}

fn holds(path: &Path, freq_hz: f64) -> bool {
    let level = |piece: &[i16]| measure::goertzel_dbfs(piece, RATE_HZ, freq_hz);
    told(path).is_some_and(|samples| samples.chunks_exact(4_800).any(|piece| level(piece) > -35.0))
}

#[test]
fn everybody_has_a_track_and_a_recorder_that_is_killed_goes_on() {
    let house = House::new();
    assert!(stdout(&house.palabre(&["record", "status"])).contains("is not recorded"));
    let said = stdout(&house.palabre(&["record", "start"]));
    let directory = house.recording();
    assert!(said.contains(directory.to_str().unwrap()), "{said}");
    assert!(house.room.recording().exists());
    let mut alice = house.speak("alice", 440.0);
    wait_for("alice's track", || holds(&directory.join("alice.wav"), 440.0).then_some(()));
    let first = house.recorder().unwrap();
    signal(first, "KILL");
    wait_for("another recorder", || house.recorder().filter(|pid| *pid != first));
    let mut bob = house.speak("bob", 1000.0);
    wait_for("bob's track", || holds(&directory.join("bob.wav"), 1000.0).then_some(()));
    let second = house.recorder().unwrap();
    stdout(&house.palabre(&["restart", "supervisor"]));
    assert_eq!(house.recorder(), Some(second), "its recorder outlives the supervisor's program");
    let status = stdout(&house.palabre(&["record", "status"]));
    assert!(status.contains("is recorded for") && status.contains("restarts of its recorder: 1"), "{status}");
    assert!(stderr(&house.palabre(&["record", "start"]), 1).contains("it is being recorded already"));
    assert!(stdout(&house.palabre(&["record", "stop"])).contains(directory.to_str().unwrap()));
    assert!(!house.room.recording().exists());
    assert!(house.recorder().is_none());
    let tracks = ["alice.wav", "bob.wav", "_room.wav"].map(|name| told(&directory.join(name)).unwrap());
    assert!(tracks[0].len() == tracks[1].len() && tracks[1].len() == tracks[2].len());
    assert!(holds(&directory.join("_room.wav"), 440.0) && holds(&directory.join("_room.wav"), 1000.0));
    for child in [&mut alice, &mut bob] {
        signal(child.id(), "TERM");
        child.wait().unwrap();
    }
}

#[test]
fn what_cannot_be_recorded_is_refused() {
    let house = House::new();
    assert!(stderr(&house.palabre(&["record", "start", "--room", "nowhere"]), 1).contains("there is no such room"));
    assert!(stderr(&house.palabre(&["record", "stop"]), 1).contains("it is not being recorded"));
    // A file stands where the directory of recordings should be.
    fs::write(house.directory.path().join("recordings"), "").unwrap();
    let said = stderr(&house.palabre(&["record", "start"]), 1);
    assert!(said.contains("unable to record room 'main'"), "{said}");
    let said = stderr(&house.palabre(&["record", "status"]), 1);
    assert!(said.contains("no longer recorded"), "{said}");
    let status = stdout(&house.palabre(&["status", "--json"]));
    assert!(status.contains("is no longer recorded"), "{status}");
    // That was the alarm; it may be tried again.
    fs::remove_file(house.directory.path().join("recordings")).unwrap();
    stdout(&house.palabre(&["record", "start"]));
    stdout(&house.palabre(&["record", "stop"]));
}
