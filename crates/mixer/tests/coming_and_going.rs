//! Rooms, participants and pipes that appear, disappear and are replaced while the mixer runs.

#![allow(clippy::unwrap_used)]

mod support;

use palabre_room::{Format, PipeReader, PipeWriter, Start};
use palabre_testing::undisturbed;
use support::*;

#[test]
fn rooms_that_exist_at_start_are_mixed() {
    let dir = tempfile::tempdir().unwrap();
    let room = Room { dir: palabre_room::RoomDir::new(dir.path().join("main")) };
    room.dir.create(Format::default()).unwrap();
    room.participant("alice");
    room.participant("bob");
    std::fs::write(room.dir.path().join("levels"), "alice\ttalking\t-20.0\n").unwrap();
    let _mixer = Mixer::start_in(dir);
    let (mut alice, mut bob) = (room.join("alice"), room.join("bob"));
    wait_for_silence(&room);
    alice.say(440.0);
    bob.hear(BURST);
    assert!(bob.hears(440.0));
}

#[test]
fn participant_joins_by_mkdir_and_leaves_by_rm() {
    let mut mixer = Mixer::start();
    let room = mixer.room("main");
    let (mut alice, mut bob) = (room.join("alice"), room.join("bob"));
    for round in 0..3 {
        let mut carol = room.join("carol");
        carol.say(1700.0);
        alice.say(440.0);
        bob.hear_until_silence(&room);
        assert!(bob.hears(440.0) && bob.hears(1700.0), "round {round}");
        room.dir.participant(&name("carol")).remove().unwrap();
        mixer.wait_for_log("no longer mixes participant 'carol'");
        bob.forget();
        alice.forget();
    }
    assert_eq!(mixer.counter("participants"), 2);
}

#[test]
fn renamed_participant_is_heard() {
    let mut mixer = Mixer::start();
    let room = mixer.room("main");
    let mut bob = room.join("bob");
    drop(room.join("alice"));
    let (old, new) = (room.dir.participant(&name("alice")), room.dir.participant(&name("zoe")));
    std::fs::rename(old.path(), new.path()).unwrap();
    mixer.wait_for_log("the mixer now mixes participant 'zoe' in room");
    Person::open(&new).say(440.0);
    bob.hear(BURST);
    assert!(bob.hears(440.0));
    assert_eq!(mixer.counter("participants"), 2);
}

#[test]
fn room_opens_by_mkdir_and_closes_by_rm() {
    let mut mixer = Mixer::start();
    for _ in 0..3 {
        let room = mixer.room("short");
        let (mut alice, mut bob) = (room.join("alice"), room.join("bob"));
        alice.say(440.0);
        bob.hear(BURST);
        assert!(bob.hears(440.0));
        // The removal can fail, as with `rm -r`, if the mixer creates a file in the room meanwhile. So it is repeated.
        let removed = || std::fs::remove_dir_all(room.dir.path()).is_ok().then_some(());
        wait_until("the removal of the room", removed);
        mixer.wait_for_log("room 'short' is closed");
    }
    assert_eq!((mixer.counter("rooms"), mixer.counter("participants")), (0, 0));
}

#[test]
fn entries_that_are_no_room_or_participant_are_ignored() {
    let mut mixer = Mixer::start();
    std::fs::write(mixer.dir.path().join("file"), "").unwrap();
    std::fs::create_dir(mixer.dir.path().join("Upper")).unwrap();
    let room = mixer.room("main");
    std::fs::create_dir(room.dir.path().join("not a name")).unwrap();
    std::os::unix::fs::symlink("/proc", room.dir.path().join("link")).unwrap();
    drop(room.join("alice"));
    assert_eq!((mixer.counter("rooms"), mixer.counter("participants")), (1, 1));
}

#[test]
fn pipe_with_a_new_inode_is_reopened() {
    let mixer = Mixer::start();
    let room = mixer.room("main");
    let (mut alice, mut bob) = (room.join("alice"), room.join("bob"));
    alice.say(440.0);
    bob.hear(BURST);
    wait_for_silence(&room);
    for path in [room.participant("alice").mic(), room.participant("bob").ear()] {
        std::fs::remove_file(path).unwrap();
    }
    drop((alice, bob));
    let (mut alice, mut bob) = (room.join("alice"), room.join("bob"));
    alice.say(1000.0);
    bob.hear(BURST);
    assert!(bob.hears(1000.0) && bob.does_not_hear(440.0));
}

#[test]
fn pipe_replaced_by_rename_is_reopened() {
    let mut mixer = Mixer::start();
    let room = mixer.room("main");
    let (alice, mut bob) = (room.join("alice"), room.join("bob"));
    mixer.wait_for_log("alice/mic' for reading");
    let (mic, spare) = (room.participant("alice").mic(), room.participant("spare").mic());
    mixer.wait_for_log("spare/mic' for reading");
    std::fs::rename(spare, &mic).unwrap();
    mixer.wait_for_log("alice/mic' for reading");
    drop(alice);
    Person::open(&room.participant("alice")).say(440.0);
    bob.hear(BURST);
    assert!(bob.hears(440.0));
}

#[test]
fn microphone_read_by_another_process_is_refused_until_it_is_free() {
    let mut mixer = Mixer::start();
    let room = mixer.room("main");
    let mut bob = room.join("bob");
    std::fs::create_dir(mixer.dir.path().join("elsewhere.tmp")).unwrap();
    let elsewhere = palabre_room::RoomDir::new(mixer.dir.path().join("elsewhere.tmp"));
    let alice = elsewhere.participant(&name("alice"));
    alice.create().unwrap();
    let other_reader = PipeReader::open(&alice.mic(), Format::default(), Start::Discard).unwrap();
    std::fs::rename(alice.path(), room.dir.path().join("alice")).unwrap();
    mixer.wait_for_log("is being read by another process");
    drop(other_reader);
    mixer.wait_for_log("after earlier failures");
    // Alice says two bursts, although bob must hear only one: if this thread is kept from running, bob's ear overflows, and he loses a part.
    let mut alice = room.join("alice");
    alice.say(440.0);
    alice.say(440.0);
    bob.hear(BURST);
    assert!(bob.hears(440.0));
}

#[test]
fn second_reader_of_a_microphone_is_refused() {
    let mixer = Mixer::start();
    let room = mixer.room("main");
    drop(room.join("alice"));
    let second = PipeReader::open(&room.participant("alice").mic(), Format::default(), Start::Discard);
    assert!(matches!(second, Err(palabre_room::OpenError::Taken(_))));
}

#[test]
fn microphone_file_that_is_no_wav_is_reported_and_ignored() {
    let mut mixer = Mixer::start();
    let room = mixer.room("main");
    let (mut alice, mut bob) = (room.join("alice"), room.join("bob"));
    let carol = room.dir.participant(&name("carol"));
    std::fs::create_dir(carol.path()).unwrap();
    std::fs::write(carol.mic(), "no pipe").unwrap();
    mixer.wait_for_log("carol/mic': the file or stream is not a WAV");
    alice.say(440.0);
    bob.hear(BURST);
    assert!(bob.hears(440.0));
}

#[test]
fn participant_that_leaves_while_talking_leaves_no_sound_behind() {
    let mixer = Mixer::start();
    let room = mixer.room("main");
    let mut bob = room.join("bob");
    let mut alice = room.join("alice");
    alice.say(440.0);
    bob.hear(FRAME * 3);
    drop(alice);
    room.dir.participant(&name("alice")).remove().unwrap();
    wait_for_silence(&room);
    let mut back = room.join("alice");
    bob.forget();
    back.say(1000.0);
    bob.hear(BURST);
    assert!(bob.hears(1000.0) && bob.does_not_hear(440.0));
}

#[test]
fn participant_without_an_ear_is_heard() {
    let mixer = Mixer::start();
    let room = mixer.room("main");
    let mut bob = room.join("bob");
    let dir = room.participant("radio");
    std::fs::remove_file(dir.ear()).unwrap();
    let mut radio: PipeWriter = open_mic(&dir.mic());
    assert_eq!(radio.write(&palabre_sound::measure::tone(RATE_HZ, 440.0, DBFS, BURST)), palabre_room::Wrote::Whole);
    bob.hear(BURST);
    assert!(bob.hears(440.0));
}

#[test]
fn changes_lost_by_inotify_are_found_by_a_rescan() {
    let mut mixer = Mixer::start();
    let room = mixer.room("main");
    drop((room.join("alice"), room.join("bob")));
    mixer.signal("STOP");
    // Cause more events than inotify's queue holds (fs.inotify.max_queued_events), while the mixer is stopped.
    let queue = std::fs::read_to_string("/proc/sys/fs/inotify/max_queued_events").unwrap();
    let many: usize = queue.trim().parse().unwrap();
    let (x, y) = (room.dir.path().join("X"), room.dir.path().join("Y"));
    std::fs::create_dir(&x).unwrap();
    // Each rename causes two inotify events, and each turn of this loop has two renames.
    for _ in 0..many / 4 + 100 {
        std::fs::rename(&x, &y).unwrap();
        std::fs::rename(&y, &x).unwrap();
    }
    room.dir.participant(&name("bob")).remove().unwrap();
    let carol = room.participant("carol");
    mixer.signal("CONT");
    mixer.wait_for_log("inotify queue overflowed");
    let mut dave = room.join("dave");
    Person::open(&carol).say(440.0);
    dave.hear(BURST);
    assert!(dave.hears(440.0));
    assert_eq!(mixer.counter("participants"), 3);
}

#[test]
fn thousand_participants_skip_no_tick() {
    undisturbed(|| {
        let dir = tempfile::tempdir().unwrap();
        let room = Room { dir: palabre_room::RoomDir::new(dir.path().join("main")) };
        room.dir.create(Format::default()).unwrap();
        (0..1000).for_each(|i| drop(room.participant(&format!("p{i}"))));
        let mut mixer = Mixer::start_in(dir);
        let (mut first, mut last) = (room.join("p0"), room.join("p999"));
        first.say(440.0);
        last.hear(BURST);
        assert!(last.hears(440.0));
        assert_eq!(mixer.counter("participants"), 1000);
        assert_eq!(mixer.counter("skipped_ticks"), 0);
    });
}
