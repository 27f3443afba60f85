//! Faults of the directory, the disk and the kernel's queues: the mixer recovers, and participants who are not concerned notice
//! nothing.

#![allow(clippy::unwrap_used)]

mod support;

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use palabre_room::{Format, RoomDir, Talk};
use palabre_sound::{measure, wav};
use palabre_testing::{not_shown, undisturbed_by};
use support::*;

fn file_ear(room: &Room, who: &str) -> PathBuf {
    let dir = room.dir.participant(&name(who));
    fs::create_dir(dir.path()).unwrap();
    File::create(dir.ear()).unwrap();
    dir.create().unwrap();
    dir.ear()
}

#[test]
fn levels_that_could_not_be_written_are_written_later() {
    let mut mixer = Mixer::start();
    let room = mixer.room("main");
    let (mut alice, levels) = (room.join("alice"), room.dir.path().join("levels"));
    alice.say(440.0);
    wait_until("alice in levels", || (!room.dir.levels().ok()?.is_empty()).then_some(()));
    // Put a directory in place of the mixer's temporary file, so that all further writes of `levels` fail.
    let temporary = room.dir.path().join(format!(".levels.{}", mixer.child.id()));
    fs::create_dir(&temporary).unwrap();
    wait_until("the end of ticks", || {
        let ticks = mixer.counter("ticks");
        std::thread::sleep(Duration::from_millis(500));
        (mixer.counter("ticks") == ticks).then_some(())
    });
    assert!(length_of(&levels) > Some(0));
    fs::remove_dir(&temporary).unwrap();
    wait_until("levels of silence", || (length_of(&levels) == Some(0)).then_some(()));
}

fn length_of(path: &Path) -> Option<u64> {
    fs::symlink_metadata(path).ok().filter(fs::Metadata::is_file).map(|file| file.len())
}

#[test]
fn known_participants_are_read_again_after_an_overflow_of_inotify() {
    let mut mixer = Mixer::start();
    let room = mixer.room("main");
    let mut bob = room.join("bob");
    drop(room.join("alice"));
    mixer.signal("STOP");
    let queue = fs::read_to_string("/proc/sys/fs/inotify/max_queued_events").unwrap();
    let many: usize = queue.trim().parse().unwrap();
    let (x, y) = (room.dir.path().join("X"), room.dir.path().join("Y"));
    fs::create_dir(&x).unwrap();
    // Each rename causes two inotify events, and each turn of this loop has two renames.
    for _ in 0..many / 4 + 100 {
        fs::rename(&x, &y).unwrap();
        fs::rename(&y, &x).unwrap();
    }
    // The mixer's queue is full, so the events of this file are lost. The file causes no later events, so the mixer must find it by a rescan.
    let file = mixer.dir.path().join("file.wav");
    fs::write(&file, wav::little(RATE_HZ, &measure::tone(RATE_HZ, 440.0, DBFS, BURST))).unwrap();
    fs::rename(&file, room.dir.participant(&name("alice")).mic()).unwrap();
    mixer.signal("CONT");
    mixer.wait_for_log("inotify queue overflowed");
    bob.hear(BURST);
    assert!(bob.hears(440.0));
}

#[test]
fn a_disk_that_does_not_respond_delays_nobody_and_its_queue_is_limited() {
    let library = tempfile::tempdir().unwrap();
    let library = library.path().join("slow_disk.so");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/slow_disk.c");
    // The program cc exists, since Rust needs it for linking.
    let built =
        Command::new("cc").args(["-shared", "-fPIC", "-o"]).arg(&library).arg(source).arg("-ldl").status().unwrap();
    assert!(built.success());
    // If the machine keeps the mixer from running for longer than a burst lasts, samples are lost.
    undisturbed_by(Duration::from_millis(100), || {
        let mut mixer = Mixer::start_by(&["env", &format!("LD_PRELOAD={}", library.display())]);
        let room = mixer.room("main");
        file_ear(&room, "recorder");
        let (mut alice, mut bob) = (room.join("alice"), room.join("bob"));
        // Talk for longer than the queue of the ear file holds, which is 5 s.
        for i in 1..=30 {
            alice.say(440.0);
            bob.hear_or_pause(i * BURST);
        }
        assert!(bob.hears(440.0));
        mixer.wait_for_log("recorder/ear' is too slow");
    });
}

/// Starts a mixer whose directory is the root of a separate, small file system.
fn start_on_small_file_system(mebibytes: u32) -> (Mixer, PathBuf) {
    let script = format!("for dir; do :; done; mount -t tmpfs -o size={mebibytes}m none \"$dir\" && exec \"$@\"");
    let mixer = Mixer::start_by(&["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", &script, "sh"]);
    let root = Path::new("/proc").join(mixer.child.id().to_string()).join("root");
    let rooms = root.join(mixer.dir.path().strip_prefix("/").unwrap());
    wait_until("the mixer in its file system", || rooms.join(palabre_room::MIXER_SOCKET).exists().then_some(()));
    (mixer, rooms)
}

fn has_namespaces() -> bool {
    Command::new("unshare").args(["--user", "--map-root-user", "--mount", "true"]).status().is_ok_and(|it| it.success())
}

/// Creates a file of this size, or a smaller one that takes the rest of the file system.
fn fill(path: &Path, mebibytes: usize) {
    let chunk = vec![1; 1 << 20];
    let mut file = File::create(path).unwrap();
    let _ = (0..mebibytes).try_for_each(|_| std::io::Write::write_all(&mut file, &chunk));
}

#[test]
fn an_ear_leaves_space_for_others_and_levels_are_written_on_a_full_file_system() {
    if !has_namespaces() {
        return not_shown("a full file system", "no user namespaces, in which a small file system can be mounted");
    }
    let (mut mixer, rooms) = start_on_small_file_system(48);
    let room = Room { dir: RoomDir::new(rooms.join("main")) };
    room.dir.create(Format::default()).unwrap();
    let ear = file_ear(&room, "recorder");
    let (mut alice, mut bob) = (room.join("alice"), room.join("bob"));
    let mut talk_for_two_seconds = || {
        bob.forget();
        for i in 1..=10 {
            alice.say(440.0);
            bob.hear_or_pause(i * BURST);
        }
    };
    talk_for_two_seconds();
    assert!(fs::metadata(&ear).unwrap().len() > 10 * BURST as u64);
    fill(&rooms.join("filler"), 25);
    talk_for_two_seconds();
    let given_up = mixer.wait_for_log("unable to write");
    assert!(given_up.contains("recorder/ear': less than 24 MiB are free"), "{given_up}");
    // Fill the rest of the file system, as another program might do.
    fill(&rooms.join("full"), 48);
    assert!(fs::write(rooms.join("another"), "x").is_err(), "the file system is not full");
    alice.say(440.0);
    let levels = wait_until("alice in levels", || room.dir.levels().ok().filter(|levels| !levels.is_empty()));
    assert!(levels[0].name == name("alice") && levels[0].state != Talk::Muted);
    wait_for_silence(&room);
}

#[test]
fn a_mixer_with_too_few_descriptors_gets_ready_and_opens_the_other_pipes_later() {
    let dir = tempfile::tempdir().unwrap();
    let room = RoomDir::new(dir.path().join("main"));
    room.create(Format::default()).unwrap();
    let participants: Vec<_> = (0..70).map(|number| room.participant(&name(&format!("p{number:02}")))).collect();
    participants.iter().for_each(|one| one.create().unwrap());
    let path = dir.path().join(".notify");
    let socket = std::os::unix::net::UnixDatagram::bind(&path).unwrap();
    socket.set_read_timeout(Some(TIMEOUT)).unwrap();
    let variable = format!("NOTIFY_SOCKET={}", path.display());
    let mut mixer = Mixer::start_in_by(dir, &["env", &variable, "prlimit", "--nofile=64:64"]);
    let mut message = [0; 100];
    let count = socket.recv(&mut message).unwrap();
    assert_eq!(String::from_utf8_lossy(&message[..count]).trim_end(), "READY=1");
    mixer.wait_for_log("Too many open files");
    participants[..20].iter().for_each(|one| one.remove().unwrap());
    mixer.wait_for_log("after earlier failures");
}
