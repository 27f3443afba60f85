//! An idle mixer sleeps: it has no wake-ups and uses no CPU time, whatever pipes and files other processes have open.

#![allow(clippy::unwrap_used)]

mod support;

use std::fs::{self, File};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use palabre_room::{Format, PipeReader, RecordingReader, Start};
use support::*;

/// Context switches and CPU time of all threads of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Usage {
    switches: u64,
    clock_ticks: u64,
}

fn usage(pid: u32) -> Usage {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).unwrap().map(|thread| thread.unwrap().path());
    let switches = threads.map(|thread| {
        let status = fs::read_to_string(thread.join("status")).unwrap();
        let counts = status.lines().filter_map(|line| line.split_once("_ctxt_switches:"));
        counts.map(|(_, count)| count.trim().parse::<u64>().unwrap()).sum::<u64>()
    });
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    // utime and stime of proc(5). The fields are counted after the name, which is in parentheses.
    let times = stat.rsplit_once(')').unwrap().1.split_whitespace().skip(11).take(2);
    Usage { switches: switches.sum(), clock_ticks: times.map(|time| time.parse::<u64>().unwrap()).sum() }
}

/// Waits until the mixer is idle, and asserts that it then has no wake-ups and uses no CPU time for three seconds.
fn assert_sleeps(mixer: &Mixer) {
    let pid = mixer.child.id();
    let before = wait_until("the mixer to be idle", || {
        let before = usage(pid);
        std::thread::sleep(Duration::from_secs(1));
        (usage(pid) == before).then_some(before)
    });
    std::thread::sleep(Duration::from_secs(3));
    assert_eq!(usage(pid), before);
}

/// Lets alice say a word, and waits until carol has heard it and the room is silent.
fn say(room: &Room, alice: &mut Person, carol: &mut Person) {
    carol.forget();
    alice.say(440.0);
    carol.hear(BURST);
    wait_for_silence(room);
}

/// Lets alice talk until the recorder has one of her frames.
fn assert_records(room: &Room, alice: &mut Person, carol: &mut Person, recorder: &mut RecordingReader) {
    let mut frames = Vec::new();
    wait_until("a frame of alice in the recording", || {
        say(room, alice, carol);
        recorder.read(&mut frames).unwrap();
        (!frames.is_empty()).then_some(())
    });
}

#[test]
fn an_idle_room_with_a_recorder_costs_nothing() {
    let mixer = Mixer::start();
    let room = mixer.room("main");
    let (mut alice, mut carol) = (room.join("alice"), room.join("carol"));
    let mut recorder = RecordingReader::create(&room.dir.recording(), Format::default()).unwrap();
    assert_records(&room, &mut alice, &mut carol, &mut recorder);
    assert_sleeps(&mixer);
    drop(recorder);
    assert_sleeps(&mixer);
}

#[test]
fn a_refused_second_recorder_costs_nothing() {
    let mixer = Mixer::start();
    let room = mixer.room("main");
    let (mut alice, mut carol) = (room.join("alice"), room.join("carol"));
    let mut recorder = RecordingReader::create(&room.dir.recording(), Format::default()).unwrap();
    assert_records(&room, &mut alice, &mut carol, &mut recorder);
    assert!(RecordingReader::create(&room.dir.recording(), Format::default()).is_err());
    assert_sleeps(&mixer);
    assert_records(&room, &mut alice, &mut carol, &mut recorder);
}

#[test]
fn a_recorder_that_is_killed_and_restarted_costs_nothing() {
    let mixer = Mixer::start();
    let room = mixer.room("main");
    let (mut alice, mut carol, path) = (room.join("alice"), room.join("carol"), room.dir.recording());
    // A recorder that creates the pipe as `palabre-recorder` does, and that can be killed.
    let script = "mkfifo .new && exec <>.new && mv .new recording && exec cat";
    let recorded = mixer.dir.path().join("recorded");
    let mut killed = Command::new("sh");
    killed.args(["-c", script]).current_dir(room.dir.path()).stdout(File::create(&recorded).unwrap());
    let mut killed = killed.spawn().unwrap();
    wait_until("sound in the recording", || {
        say(&room, &mut alice, &mut carol);
        (length(&recorded) > 0).then_some(())
    });
    killed.kill().unwrap();
    killed.wait().unwrap();
    let mut recorder = RecordingReader::create(&path, Format::default()).unwrap();
    assert_records(&room, &mut alice, &mut carol, &mut recorder);
    assert_sleeps(&mixer);
}

#[test]
fn a_recording_that_is_no_pipe_is_reported_and_costs_nothing() {
    let mut mixer = Mixer::start();
    let room = mixer.room("main");
    fs::write(room.dir.recording(), "not a pipe").unwrap();
    mixer.wait_for_log("main/recording' is not a named pipe");
    assert_sleeps(&mixer);
}

#[test]
fn a_foreign_reader_of_an_ear_costs_nothing() {
    let mixer = Mixer::start();
    let room = mixer.room("main");
    let (mut alice, mut carol, bob) = (room.join("alice"), room.join("carol"), room.participant("bob"));
    let output = mixer.dir.path().join("output");
    let mut cat = Command::new("cat").arg(bob.ear()).stdout(File::create(&output).unwrap()).spawn().unwrap();
    wait_until("sound in the output of cat", || {
        say(&room, &mut alice, &mut carol);
        (fs::metadata(&output).unwrap().len() > 0).then_some(())
    });
    assert_sleeps(&mixer);
    cat.kill().unwrap();
    cat.wait().unwrap();
    assert_sleeps(&mixer);
}

#[test]
fn a_microphone_that_another_process_has_locked_is_tried_once_a_second() {
    let dir = tempfile::tempdir().unwrap();
    let room = Room { dir: palabre_room::RoomDir::new(dir.path().join("main")) };
    room.dir.create(Format::default()).unwrap();
    let mic = room.participant("alice").mic();
    let lock = PipeReader::open(&mic, Format::default(), Start::Discard).unwrap();
    let mut mixer = Mixer::start_in(dir);
    mixer.wait_for_log("alice/mic' is being read by another process");
    let before = mixer.counter("wakeups");
    std::thread::sleep(Duration::from_secs(3));
    // Each attempt to open the pipe causes several wake-ups: a timeout, and events because the mixer itself opens and closes the pipe.
    let wakeups = mixer.counter("wakeups") - before;
    assert!(wakeups <= 20, "{wakeups} wake-ups in 3 s");
    drop(lock);
    mixer.wait_for_log("alice/mic' after earlier failures");
    assert_sleeps(&mixer);
}

#[test]
fn an_ear_that_is_a_file_wakes_its_writer_only() {
    let mut mixer = Mixer::start();
    let room = mixer.room("main");
    let ear = file_ear(&room, "recorder");
    wait_until("a second of silence in the ear file", || (length(&ear) > 44).then_some(()));
    let (before, begin) = (mixer.counter("wakeups"), length(&ear));
    wait_until("two more seconds", || (length(&ear) >= begin + 4 * u64::from(RATE_HZ)).then_some(()));
    // Reading the counter twice sends two SIGUSR1. Each may wake the main thread twice.
    let wakeups = mixer.counter("wakeups") - before;
    assert!(wakeups <= 4, "{wakeups}");
}

fn file_ear(room: &Room, who: &str) -> std::path::PathBuf {
    let dir = room.dir.participant(&name(who));
    fs::create_dir(dir.path()).unwrap();
    File::create(dir.ear()).unwrap();
    dir.create().unwrap();
    dir.ear()
}

fn length(path: &Path) -> u64 {
    fs::metadata(path).unwrap().len()
}
