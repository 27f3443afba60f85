//! A talker whose network stalls, or a reader that stops, doesn't disturb the other participants.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::fs::File;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use palabre_room::Wrote;
use palabre_testing::undisturbed;
use support::*;

/// Number of samples that a talker sends after an interruption: the newest 300 ms, as a listener does.
const KEPT: usize = RATE_HZ as usize * 3 / 10;

/// Returns noise without repetition, so that samples from it can be located.
fn noise(seed: u64, samples: usize) -> Vec<i16> {
    let mut state = seed;
    (0..samples)
        .map(|_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            ((state >> 48) as i16) / 16
        })
        .collect()
}

/// Returns a burst of noise that fades in and out, like a word. The jitter buffer doesn't change its samples.
fn word(seed: u64) -> Vec<i16> {
    let mut word = noise(seed, BURST);
    for i in 0..FRAME {
        for at in [i, BURST - 1 - i] {
            word[at] = (i32::from(word[at]) * i as i32 / FRAME as i32) as i16;
        }
    }
    word
}

fn place_of(what: &[i16], heard: &[i16]) -> Option<usize> {
    heard.windows(what.len()).position(|window| window == what)
}

/// A participant that speaks in real time, over a network that can stall.
struct Talker {
    person: Person,
    voice: Vec<i16>,
    written: usize,
}

impl Talker {
    fn new(person: Person, seed: u64) -> Self {
        Self { person, voice: noise(seed, RATE_HZ as usize * 30), written: 0 }
    }

    /// Sends the frames that the talker has spoken and not sent. `spoken` is the number of samples spoken so far.
    fn send(&mut self, spoken: usize) {
        let due = spoken / FRAME * FRAME;
        for frame in self.voice[self.written..due].chunks(FRAME) {
            // If the pipe is full, the frame is lost, as in a listener.
            let _ = self.person.mic.write(frame) == Wrote::Whole;
        }
        self.written = due;
        self.person.forget();
    }

    /// Drops the samples that were not sent, except the newest [`KEPT`].
    fn lose(&mut self, spoken: usize) {
        self.written = self.written.max((spoken / FRAME * FRAME).saturating_sub(KEPT));
    }
}

/// Returns what Carol heard while Alice and Dave talked without a pause and Alice's network stalled for 5 s.
fn listen_to_a_stall(room: &Room) -> (Talker, Talker, Vec<i16>) {
    let (mut alice, mut dave) = (Talker::new(room.join("alice"), 1), Talker::new(room.join("dave"), 2));
    let (mut carol, began, second) = (room.join("carol"), Instant::now(), RATE_HZ as usize);
    loop {
        let spoken = began.elapsed().as_millis() as usize * second / 1000;
        match spoken / second {
            0..2 => alice.send(spoken),
            2..7 => alice.lose(spoken),
            7..14 => alice.send(spoken),
            _ => return (alice, dave, carol.heard),
        }
        dave.send(spoken);
        palabre_host::wait::is_readable(&carol.ear, Duration::from_millis(5)).unwrap();
        carol.listen();
    }
}

/// Subtracts a voice from the heard samples. Returns `None` if the heard samples around the index `around` don't contain the voice.
fn without(heard: &[i16], voice: &[i16], around: usize) -> Option<Vec<i16>> {
    let place = place_of(heard.get(around..around + 64)?, voice)?.checked_sub(around)?;
    let voice = voice.get(place..place + heard.len())?;
    Some(heard.iter().zip(voice).map(|(heard, voice)| heard.wrapping_sub(*voice)).collect())
}

/// Returns the delay of each heard frame that is part of the voice, relative to its position in the voice.
fn delays<'a>(heard: &'a [i16], voice: &'a [i16], from: usize) -> impl Iterator<Item = usize> + 'a {
    heard.chunks_exact(FRAME).zip(0..).filter_map(move |(frame, n)| {
        let at = from + n * FRAME;
        Some(at + RATE_HZ as usize - place_of(&frame[..32], voice.get(..at + RATE_HZ as usize)?)?)
    })
}

/// Returns the range of the longest sequence of zeros.
fn longest_silence(heard: &[i16]) -> std::ops::Range<usize> {
    let (mut longest, mut start) = (0..0, 0);
    for (at, sample) in heard.iter().enumerate() {
        if *sample != 0 {
            start = at + 1;
        } else if at + 1 - start > longest.len() {
            longest = start..at + 1;
        }
    }
    longest
}

#[test]
fn talker_is_back_within_five_seconds_after_a_stall_and_others_lose_no_sample() {
    let second = RATE_HZ as usize;
    // Alice and Dave speak from this thread in real time, so a delay of this thread would change the mix.
    undisturbed(|| {
        let mixer = Mixer::start();
        let (alice, dave, heard) = listen_to_a_stall(&mixer.room("main"));
        // Omit the first second, in which Alice or Dave may start a frame later than the other, and the last half second.
        let heard = &heard[second..heard.len() - second / 2];
        let heard = without(heard, &dave.voice, 3 * second).expect("Dave is heard during the stall");
        let stall = longest_silence(&heard);
        assert!(stall.len() > 4 * second, "Dave is heard without a gap: {stall:?}");
        let before = delays(&heard[..stall.start], &alice.voice, 0).last().expect("Alice is heard before the stall");
        let back = stall.end + 5 * second;
        let after: Vec<usize> = delays(&heard[back..], &alice.voice, back).collect();
        let longest = after.iter().max().expect("Alice is heard after the stall");
        println!(
            "delay: {before} samples before the stall, up to {longest} in {} frames from 5 s after it",
            after.len()
        );
        assert!(after.len() > 10 && *longest <= before + second / 10, "{before} before, {after:?} after");
    });
}

/// Another process that reads an ear.
struct Cat(Child);

impl Cat {
    fn new(ear: &std::path::Path, into: &std::path::Path) -> Self {
        let cat = Command::new("cat").arg(ear).stdout(File::create(into).unwrap()).stdin(Stdio::null()).spawn();
        Self(cat.unwrap())
    }
}

impl Drop for Cat {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn stopped_reader_loses_only_its_own_frames() {
    let mut mixer = Mixer::start();
    let room = mixer.room("main");
    let (mut alice, mut carol) = (room.join("alice"), room.join("carol"));
    let (ear, file) = (room.participant("bob").ear(), mixer.dir.path().join("heard.raw"));
    let cat = Cat::new(&ear, &file);
    let heard_bytes = || std::fs::metadata(&file).unwrap().len();
    let mut words = 0;
    // Alice says a word. Waits until Carol has heard the whole word.
    let mut say = || {
        let word = word(words);
        words += 1;
        carol.forget();
        alice.say_samples(&word);
        wait_until("a complete word", || {
            palabre_host::wait::is_readable(&carol.ear, Duration::from_millis(20)).unwrap();
            carol.listen();
            alice.listen();
            place_of(&word[1..], &carol.heard)
        });
    };
    wait_until("bob to hear", || {
        say();
        (heard_bytes() > 0).then_some(())
    });
    signal_process(cat.0.id(), "STOP");
    // Twice as much sound as the pipe holds, because on a busy machine `cat` may be late and leave the pipe empty.
    (0..18).for_each(|_| say());
    let lost = mixer.counter("lost_frames");
    assert!(lost > 30, "{lost}");
    let of_bob = mixer.logged.iter().any(|line| line.contains("bob/ear' is too slow"));
    assert!(of_bob, "{:#?}", mixer.logged);
    signal_process(cat.0.id(), "CONT");
    let before = heard_bytes();
    // Wait for more bytes than bob's pipe held while `cat` was stopped, so that a part of them is new sound.
    wait_until("bob to hear again", || {
        say();
        (heard_bytes() > before + 48_000).then_some(())
    });
}
