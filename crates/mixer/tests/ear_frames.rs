//! The reader of an ear gets several frames at once if the participant's file `ear-frames` says so.

#![allow(clippy::unwrap_used)]

mod support;

use std::time::{Duration, Instant};

use palabre_host::restart;
use palabre_room::{EarFrames, MIXER_SOCKET, MIXER_USER, ParticipantDir};
use support::*;

/// A participant who counts the reads of the ear.
struct Reader {
    person: Person,
    /// Total number of frames that had been read, after each read that returned samples.
    ends: Vec<usize>,
}

impl Reader {
    fn join(room: &Room, who: &str, chunk_ms: Option<u64>) -> Self {
        let dir = room.participant(who);
        if let Some(chunk_ms) = chunk_ms {
            dir.set_ear_frames(EarFrames::of_chunk(chunk_ms)).unwrap();
        }
        Self { person: Person::open(&dir), ends: Vec::new() }
    }

    fn read(&mut self) {
        let Person { ear, heard, .. } = &mut self.person;
        if ear.read(Instant::now(), heard, 1 << 16).unwrap() > 0 {
            assert_eq!(heard.len() % FRAME, 0, "only whole frames are written");
            self.ends.push(heard.len() / FRAME);
        }
    }
}

/// Reads the ears whenever one of them is readable, until the room is silent.
fn read_until_silence(room: &Room, readers: &mut [&mut Reader]) {
    let is_over = |readers: &[&mut Reader]| {
        readers.iter().all(|reader| reader.person.heard.len() >= BURST) && room.dir.levels().unwrap().is_empty()
    };
    let start = Instant::now();
    loop {
        let is_over = is_over(readers);
        let fds: Vec<_> = readers.iter().map(|reader| std::os::fd::AsFd::as_fd(&reader.person.ear)).collect();
        palabre_host::wait::readable(&fds, Some(Duration::from_millis(20))).unwrap();
        readers.iter_mut().for_each(|reader| reader.read());
        if is_over {
            return;
        }
        assert!(start.elapsed() < TIMEOUT, "the room is never silent");
    }
}

#[test]
fn ear_is_written_once_for_the_frames_that_its_reader_wants() {
    let mixer = Mixer::start();
    let room = mixer.room("main");
    let mut alice = room.join("alice");
    let (mut carol, mut dave) = (Reader::join(&room, "carol", Some(100)), Reader::join(&room, "dave", Some(100)));
    let mut erin = Reader::join(&room, "erin", None);
    let (start, mut rounds) = (Instant::now(), 0);
    // A round counts only if carol and dave have made three reads or more: fewer mean that this test was late, and one read returned the
    // samples of several writes of the mixer.
    while rounds < 3 {
        assert!(start.elapsed() < TIMEOUT, "the test never reads after each write");
        alice.say(440.0);
        read_until_silence(&room, &mut [&mut carol, &mut dave, &mut erin]);
        // All samples arrive, also those of an incomplete write at the end.
        assert!(carol.person.heard == erin.person.heard && dave.person.heard == erin.person.heard);
        let frames = erin.person.heard.len() / FRAME;
        for reader in [&carol, &dave] {
            assert!(reader.ends.len() <= frames / 5 + 2, "{:?}", reader.ends);
            // The first and the last write may have fewer than five frames, so only the reads between them are checked.
            let turns = reader.ends[..reader.ends.len() - 1].windows(2).map(|pair| pair[1] - pair[0]);
            turns.for_each(|frames| assert_eq!(frames % 5, 0, "{:?}", reader.ends));
        }
        if carol.ends.len() >= 3 && dave.ends.len() >= 3 {
            assert_ne!(carol.ends[0] % 5, dave.ends[0] % 5, "the writes are in different ticks");
            rounds += 1;
        }
        for reader in [&mut carol, &mut dave, &mut erin] {
            reader.person.heard.clear();
            reader.ends.clear();
        }
        alice.forget();
    }
}

#[test]
fn pipe_holds_two_writes_of_a_second() {
    let mixer = Mixer::start();
    let room = mixer.room("main");
    let mut alice = room.join("alice");
    let (mut carol, mut erin) = (Reader::join(&room, "carol", Some(1000)), Reader::join(&room, "erin", None));
    for burst in 1..=7 {
        alice.say(440.0);
        erin.person.hear_or_pause(burst * BURST);
    }
    // Carol has not read yet. A pipe of 400 ms would have lost most of the 1400 ms.
    read_until_silence(&room, &mut [&mut carol, &mut erin]);
    assert!(carol.person.heard == erin.person.heard, "{} of {}", carol.person.heard.len(), erin.person.heard.len());
}

#[test]
fn invalid_number_of_frames_is_reported_and_changes_nothing() {
    let mut mixer = Mixer::start();
    let room = mixer.room("main");
    let (mut alice, mut carol) = (room.join("alice"), Reader::join(&room, "carol", Some(200)));
    let dir = room.participant("carol");
    // When alice's sound arrives at carol, the mixer has read the valid number in carol's file `ear-frames`.
    alice.say(440.0);
    read_until_silence(&room, &mut [&mut carol]);
    carol.person.heard.clear();
    carol.ends.clear();
    alice.forget();
    write(&dir, "many\n");
    mixer.wait_for_log("'many' is not a number of frames per write");
    alice.say(440.0);
    read_until_silence(&room, &mut [&mut carol]);
    let frames = carol.person.heard.len() / FRAME;
    assert!(carol.ends.len() <= frames / 10 + 2, "the last valid number remains in use: {:?}", carol.ends);
}

fn write(dir: &ParticipantDir, text: &str) {
    std::fs::write(dir.path().join("ear-frames"), text).unwrap();
}

#[test]
fn restart_of_the_mixer_loses_no_frame_that_waits_for_the_rest_of_a_write() {
    let mixer = Mixer::start();
    let room = mixer.room("main");
    let socket = mixer.dir.path().join(MIXER_SOCKET);
    let (mut alice, mut carol) = (room.join("alice"), Reader::join(&room, "carol", Some(200)));
    let mut erin = Reader::join(&room, "erin", None);
    for _ in 0..3 {
        for reader in [&mut carol, &mut erin] {
            reader.person.heard.clear();
            reader.ends.clear();
        }
        alice.say(440.0);
        wait_until("sound", || {
            erin.read();
            (!erin.ends.is_empty()).then_some(())
        });
        restart::request(&socket, MIXER_USER, TIMEOUT).unwrap();
        wait_for_silence(&room);
        carol.read();
        erin.read();
        assert_eq!(carol.person.heard.len(), erin.person.heard.len());
    }
}
